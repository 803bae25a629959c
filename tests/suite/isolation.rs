//! One site in trouble, and another that must not notice.

use clearcoat_tests::{Address, Gate, Node, Page, Request, Served, Setup, wait};

/// Requests that hang at the one node while the other site is visited.
const STUCK: usize = 500;

#[tokio::test]
async fn a_hanging_node_is_felt_on_its_own_site_alone() {
    let (hanging, healthy) = (Node::named("hanging").await, Node::named("healthy").await);
    let gate = Gate::closed();
    hanging.serve_everything(Page::text("late").no_store().held_before_head(&gate));
    healthy.serve_everything(Page::text("at once").fresh_for(60));
    let proxy = Setup::before(&hanging)
        .sites(
            r#"
            [[site]]
            hosts = ["hanging.example"]
            pool = "web"
            [[site]]
            hosts = ["healthy.example"]
            pool = "healthy"
            "#,
        )
        .more(&format!("[pools.healthy]\nnodes = [\"{}\"]\nhealth = {{ type = \"off\" }}", healthy.address()))
        .start()
        .await;
    let mut stuck = Vec::new();
    for number in 0..STUCK {
        let mut visitor = proxy.connect().await;
        let request = Request::get(&format!("/{number}")).host("hanging.example");
        visitor.send(request.to_bytes()).await.unwrap();
        stuck.push(visitor);
    }
    wait::until("all to hang", async || (gate.arrivals() == STUCK).then_some(())).await;
    let mut visitor = proxy.connect().await;
    for round in [Served::Miss, Served::Hit] {
        for number in 0..100 {
            let request = Request::get(&format!("/{number}")).host("healthy.example");
            let answer = visitor.ask(&request).await.expect_status(200);
            assert_eq!((answer.text().as_str(), answer.served()), ("at once", round), "{answer}");
        }
    }
    assert_eq!(gate.arrivals(), STUCK, "none was let go or asked again meanwhile");
    gate.open();
    for mut visitor in stuck {
        assert_eq!(visitor.answer("GET").await.unwrap().expect_status(200).text(), "late");
    }
}
