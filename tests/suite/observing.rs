//! What operators see: counters that add up, health answers, a status document.

use clearcoat_tests::client::Connection;
use clearcoat_tests::{Address, Metrics, Node, Page, Proxy, Request, Setup, wait};

const REQUESTS: &str = "clearcoat_requests_total";

/// The counters now, and how much each result grew since `before`.
async fn grown(proxy: &Proxy, before: &Metrics, result: &str) -> f64 {
    proxy.metrics().await.sum(REQUESTS, &[("result", result)]) - before.sum(REQUESTS, &[("result", result)])
}

#[tokio::test]
async fn every_answer_is_counted_once() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    node.serve("/echo", Page::echo());
    let proxy =
        Setup::before(&node).site("[[site.route]]\npath = \"/pass/*\"\ncache = \"pass\"").start().await;
    let before = proxy.metrics().await;
    proxy.warm(["/a"]).await;
    for _ in 0..7 {
        proxy.get("/a").await;
    }
    for path in ["/mine", "/mine", "/pass/x", "/none"] {
        proxy.get(path).await;
    }
    proxy.ask(&Request::post("/echo", "abc")).await;
    proxy.ask(&Request::head("/a")).await;
    proxy.purge_url("/a").await;
    let mut malformed = Connection::open(proxy.address()).await;
    malformed.send("nonsense\r\n\r\n").await.unwrap();
    malformed.answer("GET").await.unwrap().expect_status(400);
    let answers = 2.0 + 7.0 + 4.0 + 1.0 + 1.0 + 1.0 + 1.0;

    wait::until("all answers to be counted", async || {
        let now = proxy.metrics().await;
        (now.sum(REQUESTS, &[]) - before.sum(REQUESTS, &[]) >= answers).then_some(())
    })
    .await;
    let now = proxy.metrics().await;
    for (name, what) in [
        (REQUESTS, "results"),
        ("clearcoat_responses_total", "classes"),
        ("clearcoat_request_duration_seconds_count", "durations"),
    ] {
        let sum = now.sum(name, &[]) - before.sum(name, &[]);
        assert_eq!(sum, answers, "{what} and answers differ");
    }
    assert_eq!(grown(&proxy, &before, "hit").await, 9.0);
    assert_eq!(grown(&proxy, &before, "purge").await, 1.0);
    assert_eq!(now.sum("clearcoat_purges_total", &[]) - before.sum("clearcoat_purges_total", &[]), 1.0);
    assert_eq!(now.sum("clearcoat_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn sums_hold_after_a_load() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let pages = (0..50).map(|number| (Request::get(&format!("/{number}")), None));
    let load = clearcoat_tests::Load::start(proxy.address(), 8, pages);
    load.go_on(3_000).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
    let answers = report.answers() as f64;
    wait::until("all answers to be counted", async || {
        let now = proxy.metrics().await;
        let results = now.sum(REQUESTS, &[]);
        assert!(results <= answers, "{results} counted for {answers} answers");
        (results == answers && now.sum("clearcoat_responses_total", &[("class", "2xx")]) == answers)
            .then_some(())
    })
    .await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_cache_entries", &[]), 50.0);
    assert_eq!(metrics.sum("clearcoat_node_requests_total", &[]), 50.0);
}

#[tokio::test]
async fn the_number_of_series_does_not_grow_with_traffic() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60).tags("c1"));
    let proxy = Proxy::before(&node).await;
    proxy.get("/first").await;
    proxy.purge_tags("c1").await;
    let before = proxy.metrics().await.samples().len();
    let mut visitor = proxy.connect().await;
    for number in 0..300 {
        visitor
            .ask(&Request::get(&format!("/{number}")).host(&format!("host{number}.example.com")))
            .await
            .expect_status(200);
    }
    proxy.purge_tags("c1 c2 c3").await;
    let after = proxy.metrics().await.samples().len();
    // A status class or a kind may show for the first time, a visitor's words never.
    assert!(after <= before + 10, "{before} series became {after}");
}

#[tokio::test]
async fn live_ready_and_status_answer() {
    let node = Node::named("web1").await;
    let proxy = Proxy::before(&node).await;
    proxy.admin("/live").await.expect_status(200);
    proxy.admin("/ready").await.expect_status(200);
    let status = proxy.admin("/api/status").await.expect_status(200);
    assert!(
        status.header("content-type").is_some_and(|kind| kind.starts_with("application/json")),
        "{status}"
    );
    let document: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
    assert!(document.to_string().contains(&node.address().to_string()), "the node is in it: {document}");
    let metrics = proxy.admin("/metrics").await.expect_status(200);
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{metrics}");
    assert_eq!(proxy.admin("/nonsense").await.status, 404);
}

#[tokio::test]
async fn ready_means_that_visitors_are_let_in() {
    let node = Node::start().await;
    for number in 0..8 {
        let proxy = Proxy::before(&node).await;
        assert!(
            proxy.let_in_when_ready(),
            "start {number}: a load balancer in front would have lost its first visitors"
        );
    }
}

#[tokio::test]
async fn visitors_do_not_reach_the_admin_pages() {
    let node = Node::start().await;
    node.serve_everything(Page::text("the site's own page").no_store());
    let proxy = Proxy::before(&node).await;
    for path in ["/metrics", "/live", "/ready", "/api/status"] {
        assert_eq!(proxy.get(path).await.text(), "the site's own page", "{path}");
    }
}

#[tokio::test]
async fn limits_that_fire_are_counted() {
    let node = Node::start().await;
    let proxy = Setup::before(&node).limits("header_bytes = \"4KiB\"\nurl_bytes = \"1KiB\"").start().await;
    let before = proxy.metrics().await.sum("clearcoat_limits_total", &[]);
    let large = proxy.ask(&Request::get("/a").header("X-Large", &"x".repeat(6_000))).await;
    let long = proxy.ask(&Request::get(&format!("/{}", "x".repeat(2_000)))).await;
    assert_eq!((large.status, long.status), (431, 414));
    let fired = proxy.metrics().await.sum("clearcoat_limits_total", &[]) - before;
    assert_eq!(fired, 2.0);
    assert_eq!(node.total(), 0);
}
