//! Conditional requests on both sides: visitors who have the page already, and nodes that are asked after it.

use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, wait};

#[tokio::test]
async fn conditional_requests_are_answered_from_memory() {
    let node = Node::start().await;
    node.serve("/a", Page::text("abc").fresh_for(60).header("ETag", "\"v1\""));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let mut visitor = proxy.connect().await;
    let same = visitor.ask(&Request::get("/a").header("If-None-Match", "\"v0\", W/\"v1\"")).await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some("\"v1\"")), "{same}");
    let other = visitor.ask(&Request::get("/a").header("If-None-Match", "\"v2\"")).await;
    assert_eq!((other.status, other.text().as_str()), (200, "abc"), "{other}");
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn a_stale_page_is_asked_after_and_not_fetched_again() {
    let node = Node::start().await;
    let page = Page::composed(|request| match request.header("if-none-match") {
        Some("\"v1\"") => {
            Page::text("").status(304).header("ETag", "\"v1\"").header("X-Round", "2").fresh_for(60)
        }
        _ => Page::text("abc")
            .header("ETag", "\"v1\"")
            .header("X-Round", "1")
            .tags("t1")
            .fresh_for(60)
            .header("Age", "60"),
    });
    // Softly purged is stale too, and needs no waiting.
    node.serve(
        "/a",
        Page::text("abc").header("ETag", "\"v1\"").header("X-Round", "1").tags("t1").fresh_for(60),
    );
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    node.serve("/a", page);
    proxy.soft_purge_tags("t1").await;
    let updated = proxy.get("/a").await.expect_status(200);
    assert_eq!((updated.text().as_str(), updated.header("x-round")), ("abc", Some("2")), "{updated}");
    assert_eq!(updated.cache_parameter("fwd-status").as_deref(), Some("304"), "{updated}");
    let kept = proxy.get("/a").await.expect_status(200);
    assert_eq!((kept.served(), kept.text().as_str()), (Served::Hit, "abc"), "{kept}");
    assert_eq!(proxy.purge_tags("t1").await.purged, 1, "it keeps its tags");
    assert_eq!(node.count("/a"), 2);
    // What was purged for good is not asked after but fetched.
    assert_eq!(proxy.get("/a").await.text(), "abc");
    assert_eq!(node.last("/a").header("if-none-match"), None);
}

#[tokio::test]
async fn an_unsolicited_304_is_not_stored_as_the_page() {
    let node = Node::start().await;
    let page = Page::composed(|request| match request.header("if-none-match") {
        Some(_) => Page::text("").status(304).header("ETag", "\"v1\"").fresh_for(60),
        None => Page::text("abc").header("ETag", "\"v1\"").fresh_for(60),
    });
    node.serve("/a", page);
    let proxy = Proxy::before(&node).await;
    let first = proxy.ask(&Request::get("/a").header("If-None-Match", "\"v1\"")).await;
    assert!(first.status == 304 || first.text() == "abc", "{first}");
    for _ in 0..2 {
        assert_eq!(proxy.get("/a").await.expect_status(200).text(), "abc");
    }
}

/// Asks for `/a` with the entity tag that the page has.
async fn has_it(proxy: &Proxy, tag: &str) -> (u16, usize) {
    let answer = proxy.ask(&Request::get("/a").header("If-None-Match", tag)).await;
    (answer.status, answer.body.len())
}

#[tokio::test]
async fn a_visitor_who_has_the_page_gets_304_however_it_came() {
    let node = Node::start().await;
    node.serve("/a", Page::text("abc").cache_control("max-age=1").header("ETag", "\"v1\""));
    let proxy = Proxy::before(&node).await;
    // Cold: the node is asked for the whole page, which is stored.
    assert_eq!(has_it(&proxy, "\"v1\"").await, (304, 0));
    assert_eq!(node.last("/a").header("if-none-match"), None);
    assert_eq!(proxy.get("/a").await.expect_status(200).served(), Served::Hit);
    // Stale: our copy is asked after, the visitor's is compared with what came of it.
    proxy.a_second_later().await;
    assert_eq!(has_it(&proxy, "\"v1\"").await, (304, 0));
    assert_eq!(node.last("/a").header("if-none-match"), Some("\"v1\""));
    proxy.a_second_later().await;
    assert_eq!(has_it(&proxy, "\"v0\"").await, (200, 3));
    // Not for the cache, but the visitor still has it.
    node.serve("/a", Page::text("abc").no_store().header("ETag", "\"v2\""));
    proxy.a_second_later().await;
    assert_eq!(has_it(&proxy, "\"v2\"").await, (304, 0));
    assert_eq!(has_it(&proxy, "\"v1\"").await, (200, 3));
    // The connection goes on after a 304 for an answer whose body was on its way.
    let mut visitor = proxy.connect().await;
    for _ in 0..3 {
        let request = Request::get("/a").header("If-None-Match", "\"v2\"");
        let answer = visitor.ask(&request).await.expect_status(304);
        assert!(!answer.closes(), "{answer}");
    }
}

#[tokio::test]
async fn a_page_with_no_cache_is_asked_after_every_time() {
    let node = Node::start().await;
    node.serve(
        "/a",
        Page::composed(|request| match request.header("if-none-match") {
            Some("\"v1\"") => Page::text("").status(304).header("ETag", "\"v1\"").cache_control("no-cache"),
            _ => Page::text("abc").header("ETag", "\"v1\"").cache_control("no-cache, max-age=60"),
        }),
    );
    let proxy = Proxy::before(&node).await;
    for round in 1..4 {
        let answer = proxy.get("/a").await.expect_status(200);
        assert_eq!((answer.text().as_str(), node.count("/a")), ("abc", round), "{answer}");
        let asked = node.last("/a");
        assert_eq!(asked.header("if-none-match"), (round > 1).then_some("\"v1\""));
    }
    // A purge takes it like everything else.
    proxy.purge_url("/a").await;
    proxy.get("/a").await.expect_status(200);
    assert_eq!(node.last("/a").header("if-none-match"), None);
    // Nobody gets it unasked, not even when no node answers.
    drop(node);
    let answer = proxy.get("/a").await;
    assert!(answer.status >= 502, "{answer}");
}

#[tokio::test]
async fn visitors_of_a_page_with_no_cache_do_not_wait_for_each_other() {
    const CROWD: usize = 20;
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("abc").header("ETag", "\"v1\"").cache_control("no-cache"));
    let proxy = Proxy::before(&node).await;
    proxy.get("/a").await.expect_status(200);
    let held = Page::text("abc").header("ETag", "\"v1\"").cache_control("no-cache").held_before_head(&gate);
    node.serve("/a", held);
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut visitor = proxy.connect().await;
        visitor.send(Request::get("/a").to_bytes()).await.unwrap();
        crowd.push(visitor);
    }
    wait::until("all to be at the node", async || (node.count("/a") == CROWD + 1).then_some(())).await;
    gate.open();
    for mut visitor in crowd {
        assert_eq!(visitor.answer("GET").await.unwrap().expect_status(200).text(), "abc");
    }
}
