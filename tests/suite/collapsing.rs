//! Many visitors, one page: how often the nodes are asked, and who waits for whom.

use std::time::{Duration, Instant};

use clearcoat_tests::wait;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup};

/// Visitors of a crowd.
const CROWD: usize = 150;

#[tokio::test]
async fn a_crowd_on_a_cold_page_is_one_request_at_the_node() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/hot", Page::text("hot page").fresh_for(60).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let crowd = proxy.crowd(CROWD, &Request::get("/hot"));
    gate.reached(1).await;
    waiting(&proxy, CROWD).await;
    gate.open();
    let answers = crowd.answers().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "hot page"));
    let count = |served: Served| answers.iter().filter(|answer| answer.served() == served).count();
    assert_eq!((count(Served::Miss), count(Served::Collapsed), node.count("/hot")), (1, CROWD - 1, 1));
}

/// Waits until so many requests are inside the proxy, so that a gate opens on all of them.
async fn waiting(proxy: &Proxy, count: usize) {
    let what = format!("{count} requests to wait");
    wait::until(&what, async || {
        let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
        (inside >= count as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn uncacheable_pages_are_released_together() {
    let node = Node::start().await;
    let (first, rest) = (Gate::closed(), Gate::closed());
    let page = Page::numbered("mine").no_store();
    node.serve("/mine", page.clone().held_before_head(&first));
    let proxy = Proxy::before(&node).await;
    let crowd = proxy.crowd(CROWD, &Request::get("/mine"));
    first.reached(1).await;
    waiting(&proxy, CROWD).await;
    // Once the first answer turns out to be for its visitor alone, all others go to the node at once: they meet at its gate.
    node.serve("/mine", page.clone().held_before_head(&rest));
    first.open();
    rest.reached(CROWD - 1 - first_round_leaks(&first)).await;
    rest.open();
    let answers = crowd.answers().await;
    let mut bodies: Vec<String> = answers.iter().map(|answer| answer.text()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), CROWD, "each visitor has a page of his own");

    // From now on nobody waits for anybody: the whole second crowd stands at the node before any is answered.
    let second = Gate::closed();
    node.serve("/mine", page.held_before_head(&second));
    let crowd = proxy.crowd(CROWD, &Request::get("/mine"));
    second.reached(CROWD).await;
    second.open();
    assert!(crowd.answers().await.iter().all(|answer| answer.status == 200));
}

/// Requests beyond the one fill that had reached the node before the page was known to be uncacheable: none.
fn first_round_leaks(first: &Gate) -> usize {
    let leaks = first.arrivals() - 1;
    assert_eq!(leaks, 0, "requests were not collapsed");
    leaks
}

#[tokio::test]
async fn a_page_that_becomes_cacheable_is_kept_again() {
    let node = Node::start().await;
    node.serve("/a", Page::numbered("a").no_store());
    let proxy = Setup::before(&node).cache(r#"uncacheable_ttl = "1s""#).start().await;
    proxy.get("/a").await;
    node.serve("/a", Page::numbered("a").fresh_for(60));
    wait::until("the page to be kept", async || {
        (proxy.get("/a").await.served() == Served::Hit).then_some(())
    })
    .await;
}

/// The moments in which the visitor who caused a fetch can vanish.
#[derive(Clone, Copy, Debug)]
enum Phase {
    BeforeHead,
    AfterHead,
    MidBody,
}

#[tokio::test]
async fn the_first_visitor_may_vanish_at_any_moment() {
    let body = "0123456789".repeat(20_000);
    for phase in [Phase::BeforeHead, Phase::AfterHead, Phase::MidBody] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let page = Page::text(body.clone()).fresh_for(60);
        let page = match phase {
            Phase::BeforeHead => page.held_before_head(&gate),
            Phase::AfterHead => page.held_in_body(0, &gate),
            Phase::MidBody => page.held_in_body(100_000, &gate),
        };
        node.serve("/hot", page);
        let proxy = Proxy::before(&node).await;
        let mut first = proxy.connect().await;
        first.send(Request::get("/hot").to_bytes()).await.unwrap();
        gate.reached(1).await;
        let crowd = proxy.crowd(20, &Request::get("/hot"));
        waiting(&proxy, 21).await;
        drop(first);
        waiting_at_most(&proxy, 20).await;
        gate.open();
        let answers = crowd.answers().await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == body), "{phase:?}");
        assert_eq!(node.count("/hot"), 1, "{phase:?}: nobody had to ask again");
        let next = proxy.get("/hot").await;
        assert_eq!(next.served(), Served::Hit, "{phase:?}: {next}");
        assert_eq!((next.body == body, node.count("/hot")), (true, 1), "{phase:?}");
    }
}

/// Waits until the proxy has noticed that a visitor left; it may also go on counting him until his answer is due.
async fn waiting_at_most(proxy: &Proxy, count: usize) {
    let limit = Instant::now() + Duration::from_secs(1);
    while Instant::now() < limit {
        if proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]) <= count as f64 {
            return;
        }
    }
}

#[tokio::test]
async fn a_whole_crowd_may_vanish() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/hot", Page::text("hot page").fresh_for(60).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    for _ in 0..3 {
        let crowd = proxy.crowd(20, &Request::get("/hot"));
        gate.reached(1).await;
        drop(crowd);
    }
    gate.open();
    let answer = proxy.get("/hot").await.expect_status(200);
    assert_eq!(answer.text(), "hot page");
    assert_eq!(node.count("/hot"), 1, "the fetch went on without them");
}

#[tokio::test]
async fn a_slow_first_visitor_does_not_slow_the_others() {
    let node = Node::start().await;
    let body = "x".repeat(12 << 20);
    node.serve("/large", Page::text(body.clone()).fresh_for(60));
    let proxy = Setup::before(&node).cache("memory = \"128MiB\"\nmax_entry = \"32MiB\"").start().await;
    let mut slow = clearcoat_tests::Connection::open_narrow(proxy.address()).await;
    slow.send(Request::get("/large").to_bytes()).await.unwrap();
    let mut head = slow.head("GET").await.unwrap();
    assert!(!slow.piece(&mut head).await.unwrap().is_empty());
    // The first visitor now reads nothing more. The others get everything all the same.
    for answer in proxy.crowd(5, &Request::get("/large")).answers().await {
        assert_eq!(answer.body.len(), body.len());
    }
    assert_eq!(node.count("/large"), 1);
    // And he has lost nothing.
    let rest = slow.rest(head).await.unwrap();
    assert!(rest.body.len() < body.len() && rest.body.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn waiters_with_another_vary_get_their_own_page() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let page = Page::written(|request| format!("in {}", request.header("accept-language").unwrap_or("none")));
    node.serve("/a", page.fresh_for(60).header("Vary", "Accept-Language").held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let french = proxy.crowd(20, &Request::get("/a").header("Accept-Language", "fr"));
    gate.reached(1).await;
    let german = proxy.crowd(20, &Request::get("/a").header("Accept-Language", "de"));
    waiting(&proxy, 40).await;
    gate.open();
    for (crowd, body) in [(french, "in fr"), (german, "in de")] {
        for answer in crowd.answers().await {
            assert_eq!(answer.text(), body, "{answer}");
        }
    }
    assert_eq!(node.count("/a"), 2, "one request for each language");
}

#[tokio::test]
async fn waiters_of_a_failed_fetch_get_an_answer() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/broken", Page::text("").close_before_head().held_before_head(&gate));
    let proxy = Setup::before(&node).pool(r#"passive = { errors = 1000 }"#).start().await;
    let crowd = proxy.crowd(30, &Request::get("/broken"));
    gate.reached(1).await;
    waiting(&proxy, 30).await;
    gate.open();
    for answer in crowd.answers().await {
        assert!((500..=504).contains(&answer.status), "{answer}");
    }
    // Nothing of the failure sticks.
    node.serve("/broken", Page::text("well again").fresh_for(60));
    assert_eq!(proxy.get("/broken").await.expect_status(200).text(), "well again");
}

#[tokio::test]
async fn nobody_waits_for_another_forever() {
    let node = Node::start().await;
    node.serve("/stuck", Page::text("").silent());
    let proxy = Setup::before(&node).limits(r#"collapse_timeout = "1s""#).start().await;
    let mut first = proxy.connect().await;
    first.send(Request::get("/stuck").to_bytes()).await.unwrap();
    wait::until_true("the first fetch", || node.count("/stuck") == 1).await;
    node.serve("/stuck", Page::text("moving").fresh_for(60));
    let answer = proxy.get("/stuck").await;
    assert!(answer.status == 200 || answer.status >= 503, "{answer}");
    assert!(answer.status != 200 || answer.text() == "moving", "{answer}");
}
