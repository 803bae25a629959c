//! Refreshing: whoever may purge asks for a page with `Cache-Control: no-cache`, and what comes is for everybody.

use clearcoat_tests::client::Connection;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup};

async fn refreshing(node: &Node) -> Proxy {
    Setup::before(node).site(r#"request_no_cache = "refresh""#).start().await
}

fn refresh(target: &str) -> Request {
    Request::get(target).header("Cache-Control", "no-cache").header("Connection", "Close")
}

#[tokio::test]
async fn the_next_visitor_gets_the_new_page() {
    let node = Node::with_pages([("/a", "l42"), ("/b", "l42")]).await;
    let proxy = refreshing(&node).await;
    proxy.warm(["/a", "/b"]).await;
    let answer = proxy.ask(&refresh("/a")).await.expect_status(200);
    assert_eq!(answer.text(), "/a 2", "{answer}");
    let next = proxy.get("/a").await;
    assert_eq!((next.text().as_str(), next.served()), ("/a 2", Served::Hit), "{next}");
    assert_eq!(proxy.get("/b").await.text(), "/b 1", "others stay");
    // Its tags count like any other page's.
    proxy.purge_tags("l42").await;
    assert_eq!(proxy.get("/a").await.text(), "/a 3");
}

#[tokio::test]
async fn other_variants_stay() {
    let node = Node::start().await;
    let page = Page::written(|request| {
        format!("{} {}", request.header("accept-language").unwrap_or("-"), request.number)
    });
    node.serve("/a", page.fresh_for(60).header("Vary", "Accept-Language"));
    let proxy = refreshing(&node).await;
    let of = |request: Request, language| request.header("Accept-Language", language);
    for language in ["fr", "de"] {
        proxy.ask(&of(Request::get("/a"), language)).await;
    }
    assert_eq!(proxy.ask(&of(refresh("/a"), "fr")).await.text(), "fr 3");
    assert_eq!(proxy.ask(&of(Request::get("/a"), "fr")).await.text(), "fr 3");
    assert_eq!(proxy.ask(&of(Request::get("/a"), "de")).await.text(), "de 2");
}

#[tokio::test]
async fn strangers_refresh_nothing() {
    let node = Node::with_pages([("/a", "")]).await;
    let proxy = refreshing(&node).await;
    proxy.warm(["/a"]).await;
    let mut stranger = Connection::open_from([127, 0, 0, 66].into(), proxy.address()).await;
    let answer = stranger.ask(&refresh("/a").header("X-Forwarded-For", "127.0.0.1")).await;
    assert_eq!((answer.served(), node.count("/a")), (Served::Hit, 1), "{answer}");
}

#[tokio::test]
async fn what_was_asked_for_before_is_neither_taken_nor_kept() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("the old page").fresh_for(60).held_before_head(&gate));
    let proxy = refreshing(&node).await;
    let early = proxy.crowd(1, &Request::get("/a"));
    gate.reached(1).await;
    node.serve("/a", Page::text("the new page").fresh_for(60));
    let refreshed = proxy.crowd(1, &refresh("/a"));
    // It has joined by then, and finds out when the old answer comes; or it has asked for itself.
    gate.open();
    for answer in refreshed.answers().await {
        assert_eq!(answer.text(), "the new page", "{answer}");
    }
    early.answers().await;
    for _ in 0..3 {
        let answer = proxy.get("/a").await;
        assert_eq!((answer.text().as_str(), answer.served()), ("the new page", Served::Hit), "{answer}");
    }
}
