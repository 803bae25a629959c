//! Ending in good order: SIGTERM lets what is under way finish, and nothing else in.

use clearcoat_tests::process::Signal;
use clearcoat_tests::{Connection, Gate, Node, Page, Proxy, Request, Setup, wait};

/// Waits until new visitors are turned away: refused, or closed without an answer.
async fn until_refusing(proxy: &Proxy) {
    wait::until("new visitors to be refused", async || {
        let mut visitor = match Connection::try_open(proxy.address()).await {
            Ok(visitor) => visitor,
            Err(_) => return Some(()),
        };
        visitor.set_patience(std::time::Duration::from_secs(1));
        visitor.try_ask(&Request::get("/cached")).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_lets_requests_finish() {
    let node = Node::start().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    node.serve("/cached", Page::text("cached").fresh_for(60));
    node.serve("/slow", Page::text("slow page").fresh_for(60).held_before_head(&head));
    node.serve("/half", Page::text("first half, second half").no_store().held_in_body(10, &body));
    node.serve("/order", Page::echo().held_before_head(&head));
    let mut proxy = Proxy::before(&node).await;
    proxy.warm(["/cached"]).await;

    let mut idle = proxy.connect().await;
    idle.get("/cached").await.expect_status(200);
    let mut slow = proxy.connect().await;
    slow.send(Request::get("/slow").to_bytes()).await.unwrap();
    let mut order = proxy.connect().await;
    order.send(Request::post("/order", "one book").to_bytes()).await.unwrap();
    let mut half = proxy.connect().await;
    half.send(Request::get("/half").to_bytes()).await.unwrap();
    let mut begun = half.head("GET").await.unwrap();
    assert_eq!(half.piece(&mut begun).await.unwrap(), "first half");
    head.reached(2).await;

    proxy.signal(Signal::Term);
    until_refusing(&proxy).await;
    idle.closed().await.expect("a connection without a request is closed");
    head.open();
    body.open();
    let answer = slow.answer("GET").await.unwrap().expect_status(200);
    assert_eq!(answer.text(), "slow page");
    assert_eq!(order.answer("POST").await.unwrap().expect_status(200).text(), "one book");
    assert_eq!(half.rest(begun).await.unwrap().text(), ", second half");
    for connection in [&mut slow, &mut order, &mut half] {
        connection.closed().await.expect("nobody stays");
    }
    assert_eq!(proxy.exit_code().await, Some(0));
}

#[tokio::test]
async fn without_requests_it_ends_at_once() {
    let node = Node::start().await;
    let mut proxy = Setup::before(&node).top("shutdown_timeout = \"60s\"").start().await;
    let mut idle = proxy.connect().await;
    idle.get("/none").await.expect_status(404);
    let begun = std::time::Instant::now();
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
    assert!(begun.elapsed().as_secs() < 15, "it waited for nobody");
    idle.closed().await.unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_it() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/stuck", Page::text("x").no_store().held_before_head(&gate));
    let mut proxy = Setup::before(&node).top("shutdown_timeout = \"1s\"").start().await;
    let mut stuck = proxy.connect().await;
    stuck.send(Request::get("/stuck").to_bytes()).await.unwrap();
    gate.reached(1).await;
    proxy.signal(Signal::Term);
    // `exit_code` waits no longer than the suite's patience.
    proxy.exit_code().await;
}

#[tokio::test]
async fn not_ready_while_it_drains() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/slow", Page::text("slow page").no_store().held_before_head(&gate));
    let mut proxy = Proxy::before(&node).await;
    let crowd = proxy.crowd(1, &Request::get("/slow"));
    gate.reached(1).await;
    proxy.signal(Signal::Term);
    wait::until("a load balancer in front to be told", async || {
        let ready = clearcoat_tests::client::try_ask(proxy.admin_address(), &Request::get("/ready")).await;
        ready.map_or(true, |answer| answer.status == 503).then_some(())
    })
    .await;
    gate.open();
    assert!(crowd.answers().await.iter().all(|answer| answer.status == 200));
    assert_eq!(proxy.exit_code().await, Some(0));
}
