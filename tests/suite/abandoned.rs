//! Crowds that are too large, and visitors who leave before they have what they asked for.

use std::time::{Duration, Instant};

use clearcoat_tests::client::Crowd;
use clearcoat_tests::{Connection, Gate, Node, Page, Proxy, Request, Served, Setup, wait};

const MIB: usize = 1 << 20;

/// Waits until so many requests wait for another's fetch.
async fn waiting(proxy: &Proxy, count: usize) {
    wait::until(&format!("{count} requests to wait"), async || {
        let waiting = proxy.metrics().await.sum("clearcoat_requests_waiting", &[]);
        (waiting == count as f64).then_some(())
    })
    .await;
}

/// Waits until that many bytes of bodies are on their way.
async fn on_their_way(proxy: &Proxy, what: &str, fits: impl Fn(f64) -> bool) {
    wait::until(what, async || {
        fits(proxy.metrics().await.sum("clearcoat_cache_fill_bytes", &[])).then_some(())
    })
    .await;
}

async fn limit(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

/// A visitor who has the head of an answer and its first bytes, and reads no further.
async fn begun(proxy: &Proxy, path: &str) -> Connection {
    let mut visitor = Connection::open_narrow(proxy.address()).await;
    visitor.send(Request::get(path).to_bytes()).await.unwrap();
    let mut head = visitor.head("GET").await.unwrap();
    assert!(!visitor.piece(&mut head).await.unwrap().is_empty());
    visitor
}

#[tokio::test]
async fn only_so_many_wait_for_one_fetch() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/hot", Page::text("hot page").fresh_for(60).held_before_head(&gate));
    node.serve("/other", Page::text("another page").fresh_for(60));
    let proxy = Setup::before(&node).limits("collapse_waiters = 20").start().await;
    let first = proxy.crowd(1, &Request::get("/hot"));
    gate.reached(1).await;
    let crowd = proxy.crowd(20, &Request::get("/hot"));
    waiting(&proxy, 20).await;
    for _ in 0..3 {
        let refused = proxy.get("/hot").await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused}");
    }
    assert_eq!(limit(&proxy, "collapse_waiters").await, 3.0);
    assert_eq!(
        proxy.log().matches("collapse_waiters").count(),
        1,
        "a flood of refusals is one line in the log"
    );
    proxy.get("/other").await.expect_status(200);
    gate.open();
    for answer in first.answers().await.into_iter().chain(crowd.answers().await) {
        assert_eq!((answer.status, answer.text().as_str()), (200, "hot page"));
    }
    assert_eq!((proxy.get("/hot").await.served(), node.count("/hot")), (Served::Hit, 1));
}

#[tokio::test]
async fn five_hundred_visitors_of_a_private_page_do_not_queue() {
    let node = Node::start().await;
    node.serve("/mine", Page::numbered("mine").cache_control("private").after(Duration::from_millis(500)));
    let proxy = Setup::before(&node).start().await;
    for round in 0..2 {
        let asked = Instant::now();
        let answers = proxy.crowd(500, &Request::get("/mine")).answers().await;
        let took = asked.elapsed();
        let refused = answers.iter().find(|answer| answer.status != 200);
        assert!(refused.is_none(), "round {round}: {}\n{}", refused.unwrap(), proxy.log());
        // One after the other they would take more than four minutes.
        assert!(took < Duration::from_secs(20), "round {round} took {took:?}");
        let peak = node.peak();
        assert!(peak >= 250, "round {round}: only {peak} at a time at the node");
    }
    assert_eq!(node.count("/mine"), 1_000);
    assert_eq!(limit(&proxy, "collapse_timeout").await, 0.0);
}

#[tokio::test]
async fn waiters_that_leave_are_gone_at_once() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/slow", Page::text("slow page").fresh_for(60).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let first = proxy.crowd(1, &Request::get("/slow"));
    gate.reached(1).await;
    let crowd = proxy.crowd(1_000, &Request::get("/slow"));
    waiting(&proxy, 1_000).await;
    drop(crowd);
    // The page is still held: nobody waits for it any more but the first.
    waiting(&proxy, 0).await;
    assert_eq!(proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]), 1.0);
    gate.open();
    assert_eq!(first.answers().await[0].text(), "slow page");
}

#[tokio::test]
async fn a_large_page_that_nobody_wants_any_more_is_not_fetched_to_its_end() {
    let body = "x".repeat(8 * MIB);
    for chunked in [false, true] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let page = Page::text(body.clone()).fresh_for(60);
        let page = if chunked { page.chunked() } else { page };
        node.serve("/film", page.clone().held_in_body(2 * MIB, &gate));
        let proxy = Setup::before(&node).cache("max_entry = \"16MiB\"").start().await;
        let (one, other) = (begun(&proxy, "/film").await, begun(&proxy, "/film").await);
        on_their_way(&proxy, "two MiB to come", |bytes| bytes >= (2 * MIB) as f64).await;
        let before = node.open_connections();
        drop(one);
        assert_eq!(proxy.get("/-/other").await.status, 404, "the page of the other visitor goes on");
        assert_eq!(limit(&proxy, "fill_abandoned").await, 0.0);
        drop(other);
        // While the node is silent: the visitors' leaving ends it, not the next piece.
        on_their_way(&proxy, "the memory to come back", |bytes| bytes == 0.0).await;
        assert_eq!(limit(&proxy, "fill_abandoned").await, 1.0, "chunked: {chunked}");
        gate.open();
        wait::until_true("the node to be left alone", || node.open_connections() < before + 1).await;
        let next = proxy.get("/film").await;
        assert_eq!((next.served(), next.body.len()), (Served::Miss, body.len()), "chunked: {chunked}");
        assert_eq!(proxy.get("/film").await.served(), Served::Hit, "chunked: {chunked}");
        assert_eq!(node.count("/film"), 2);
    }
}

#[tokio::test]
async fn what_little_is_missing_is_fetched_for_the_next_visitor() {
    // What came before the visitors left, of how much; chunked or not; what may be finished; whether it is.
    for (came, all, chunked, finish, stored) in [
        (2 * MIB + 1, 3 * MIB, false, "1MiB", true),
        (2 * MIB - 1, 3 * MIB, false, "1MiB", false),
        (MIB / 2, MIB, true, "1MiB", true),
        (MIB / 2, 3 * MIB, true, "1MiB", false),
        (2 * MIB, 2 * MIB + 1, true, "1MiB", false),
        (MIB, 3 * MIB, false, "2MiB", true),
        (3 * MIB - 100_000, 3 * MIB, false, "0B", false),
    ] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let page = Page::text("x".repeat(all)).fresh_for(60);
        let page = if chunked { page.chunked() } else { page };
        node.serve("/page", page.held_in_body(came, &gate));
        let cache = format!("max_entry = \"4MiB\"\nfinish_abandoned = \"{finish}\"");
        let proxy = Setup::before(&node).cache(&cache).start().await;
        let visitor = begun(&proxy, "/page").await;
        on_their_way(&proxy, "so much to come", |bytes| bytes >= came as f64).await;
        drop(visitor);
        let case = format!("{came} bytes of {all} came, chunked: {chunked}, finish: {finish}");
        wait::until(&format!("the visitor to be gone: {case}"), async || {
            let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
            (inside == 0.0).then_some(())
        })
        .await;
        gate.open();
        let abandoned = wait::until(&format!("the end of it: {case}"), async || {
            let metrics = proxy.metrics().await;
            let abandoned = metrics.sum("clearcoat_limits_total", &[("limit", "fill_abandoned")]);
            let ended = metrics.sum("clearcoat_cache_entries", &[]) + abandoned > 0.0;
            ended.then_some(abandoned > 0.0)
        })
        .await;
        assert_eq!(abandoned, !stored, "{case}");
        let expected = if stored { Served::Hit } else { Served::Miss };
        assert_eq!(proxy.get("/page").await.served(), expected, "{case}");
    }
}

#[tokio::test]
async fn a_visitor_of_heads_alone_fills_the_cache_with_small_pages_only() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/small", Page::text("x".repeat(MIB / 2)).fresh_for(60));
    node.serve("/large", Page::text("x".repeat(8 * MIB)).fresh_for(60).held_in_body(100_000, &gate));
    let proxy = Setup::before(&node).cache("max_entry = \"16MiB\"").start().await;
    for path in ["/small", "/large"] {
        let head = proxy.ask(&Request::head(path)).await.expect_status(200);
        assert!(head.header("content-length").is_some(), "{head}");
    }
    wait::until("the large one to be given up", async || {
        (limit(&proxy, "fill_abandoned").await == 1.0).then_some(())
    })
    .await;
    wait::until("the small one to be stored", async || {
        (proxy.metrics().await.sum("clearcoat_cache_entries", &[]) == 1.0).then_some(())
    })
    .await;
    assert_eq!(proxy.get("/small").await.served(), Served::Hit);
    gate.open();
    assert_eq!(proxy.get("/large").await.served(), Served::Miss);
    // Visitors of the body and of the head alone share a fetch.
    assert_eq!(proxy.ask(&Request::head("/large")).await.served(), Served::Hit);
}

#[tokio::test]
async fn a_refresh_in_the_background_goes_on_without_a_reader() {
    let node = Node::start().await;
    let old = Page::text("old").cache_control("max-age=60, stale-while-revalidate=600").header("Age", "59");
    node.serve("/page", old);
    let proxy = Setup::before(&node).cache("max_entry = \"16MiB\"").start().await;
    proxy.get("/page").await;
    proxy.a_second_later().await;
    let body = "x".repeat(8 * MIB);
    let gate = Gate::closed();
    node.serve("/page", Page::text(body.clone()).fresh_for(60).held_in_body(MIB, &gate));
    assert_eq!(proxy.get("/page").await.text(), "old");
    gate.reached(1).await;
    on_their_way(&proxy, "the new page to begin", |bytes| bytes > 900e3).await;
    gate.open();
    wait::until("the new page", async || (proxy.get("/page").await.body.len() == body.len()).then_some(()))
        .await;
    assert_eq!((node.count("/page"), limit(&proxy, "fill_abandoned").await), (2, 0.0));
}

#[tokio::test]
async fn a_visitor_who_leaves_the_queue_for_a_node_keeps_nobody_waiting() {
    for cached in [true, false] {
        let node = Node::start().await;
        let gate = Gate::closed();
        node.serve("/slow", Page::text("slow page").no_store().held_before_head(&gate));
        let hot = Page::text("hot page");
        node.serve("/hot", if cached { hot.fresh_for(60) } else { hot.no_store() });
        let proxy = Setup::new(std::iter::empty::<&Node>())
            .node_with(&node, "max_connections = 1")
            .pool("queue = { length = 10, timeout = \"20s\" }")
            .start()
            .await;
        if !cached {
            // Known as not for sharing: each visitor has a fetch of his own.
            proxy.get("/hot").await.expect_status(200);
        }
        let slow = proxy.crowd(1, &Request::get("/slow"));
        gate.reached(1).await;
        let before = node.count("/hot");
        let queued = async |count: usize| {
            wait::until(&format!("{count} in the queue"), async || {
                let queued = proxy.metrics().await.sum("clearcoat_pool_queued", &[]);
                (queued == count as f64).then_some(())
            })
            .await;
        };
        let first = proxy.crowd(1, &Request::get("/hot"));
        queued(1).await;
        drop(first);
        // What others may still join goes on; what was for him alone is over.
        queued(usize::from(cached)).await;
        let next = proxy.crowd(1, &Request::get("/hot"));
        queued(1).await;
        gate.open();
        assert_eq!(next.answers().await[0].text(), "hot page", "cached: {cached}");
        assert_eq!(slow.answers().await[0].text(), "slow page");
        assert_eq!(node.count("/hot") - before, 1, "cached: {cached}");
    }
}

#[tokio::test]
async fn crowds_that_come_and_go_find_the_page_in_the_end() {
    let node = Node::start().await;
    let body = "x".repeat(4 * MIB);
    node.serve("/film", Page::text(body.clone()).fresh_for(60));
    let proxy = Setup::before(&node).cache("max_entry = \"8MiB\"").start().await;
    // Newcomers meet fills that are being ended for lack of readers, in every state of both.
    let mut leaving: Vec<Crowd> = Vec::new();
    for round in 0..60 {
        let visitor = begun(&proxy, "/film").await;
        leaving.push(proxy.crowd(1, &Request::get("/film")));
        drop(visitor);
        if round % 3 == 0 {
            leaving.clear();
        }
        if proxy.metrics().await.sum("clearcoat_cache_entries", &[]) > 0.0 {
            proxy.purge_url("/film").await;
        }
    }
    for crowd in leaving {
        for answer in crowd.answers().await {
            assert_eq!((answer.status, answer.body.len()), (200, body.len()));
        }
    }
    let answer = proxy.get("/film").await.expect_status(200);
    assert_eq!(answer.body.len(), body.len());
    on_their_way(&proxy, "nothing to be left over", |bytes| bytes == 0.0).await;
}
