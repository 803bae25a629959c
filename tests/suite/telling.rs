//! `X-Cache` for those who ask for it: applications by a header on their answer, operators by their address.

use clearcoat_tests::client::Connection;
use clearcoat_tests::{Answer, Node, Page, Proxy, Request, Setup, wait};

const STRANGER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 66));

/// A page of FOSHttpCache's debug mode: with its tags, and varying on the context.
fn debugged() -> Page {
    Page::numbered("page")
        .cache_control("public, max-age=60, stale-while-revalidate=60")
        .header("Vary", "X-User-Context-Hash")
        .header("X-User-Context-Hash", "all")
        .header("X-Cache-Tags", "a,b")
        .header("X-Cache-Debug", "1")
}

async fn symfony() -> (Node, Proxy) {
    let node = Node::start().await;
    let context = Page::text("").header("Content-Type", "application/vnd.fos.user-context-hash");
    node.serve("/_fos_user_context_hash", context.header("X-User-Context-Hash", "all").fresh_for(600));
    node.serve("/page", debugged());
    let proxy = Setup::before(&node).site("preset = \"symfony\"").start().await;
    (node, proxy)
}

fn x_cache(answer: &Answer) -> Option<&str> {
    answer.header("x-cache")
}

#[tokio::test]
async fn an_application_that_asks_for_it_is_told() {
    let (node, proxy) = symfony().await;
    let miss = proxy.get("/page").await.expect_status(200);
    assert_eq!(x_cache(&miss), Some("MISS"), "{miss}");
    let hit = proxy.get("/page").await.expect_status(200);
    assert_eq!(x_cache(&hit), Some("HIT"), "{hit}");
    for answer in [&miss, &hit] {
        assert_eq!(answer.header("x-cache-tags"), Some("a,b"), "{answer}");
        assert_eq!(answer.header("vary"), Some("X-User-Context-Hash"), "{answer}");
        assert_eq!(answer.header("x-user-context-hash"), Some("all"), "{answer}");
        assert_eq!(answer.header("x-cache-ttl"), None, "{answer}");
    }
    // What is stale counts too, as does what a client has already.
    proxy.ask(&Request::new("PURGEKEYS", "/").header("xkey-softpurge", "a")).await.expect_status(200);
    assert_eq!(x_cache(&proxy.get("/page").await), Some("HIT"));
    wait::until("the new page", async || (proxy.get("/page").await.text() == "page 2").then_some(())).await;
    assert_eq!(x_cache(&proxy.get("/page").await), Some("HIT"));
    // What passes is no hit.
    node.serve("/form", debugged());
    let passed = proxy.ask(&Request::new("DELETE", "/form")).await;
    assert_eq!(x_cache(&passed), Some("MISS"), "{passed}");
}

#[tokio::test]
async fn nobody_else_is() {
    let (node, proxy) = symfony().await;
    node.serve(
        "/quiet",
        Page::text("quiet").fresh_for(60).header("X-Cache-Tags", "a").header("X-User-Context-Hash", "all"),
    );
    for _ in 0..2 {
        let answer = proxy.ask(&Request::get("/quiet").header("X-Cache-Debug", "1")).await.expect_status(200);
        for name in ["x-cache", "x-cache-ttl", "x-cache-tags", "x-user-context-hash", "xkey"] {
            assert_eq!(answer.header(name), None, "{answer}");
        }
    }
    // The header means nothing where no rule says so.
    let node = Node::start().await;
    node.serve("/page", debugged());
    let proxy = Proxy::before(&node).await;
    for _ in 0..2 {
        let answer = proxy.get("/page").await;
        assert_eq!((x_cache(&answer), answer.header("x-cache-tags")), (None, None), "{answer}");
    }
}

#[tokio::test]
async fn operators_are_told_by_their_address() {
    let node = Node::with_pages([("/a", "l42 l43")]).await;
    let proxy = Setup::before(&node).cache("debug_clients = [\"127.0.0.66\"]").start().await;
    let mut operator = Connection::open_from(STRANGER, proxy.address()).await;
    let miss = operator.ask(&Request::get("/a")).await;
    assert_eq!(x_cache(&miss), Some("MISS"), "{miss}");
    let hit = operator.ask(&Request::get("/a")).await;
    assert_eq!((x_cache(&hit), hit.header("xkey")), (Some("HIT"), Some("l42 l43")), "{hit}");
    let ttl: i64 = hit.header("x-cache-ttl").unwrap().parse().unwrap();
    assert!((0..=60).contains(&ttl), "{hit}");
    let other = proxy.ask(&Request::get("/a").header("X-Forwarded-For", "127.0.0.66")).await;
    assert_eq!(
        (x_cache(&other), other.header("xkey"), other.header("x-cache-ttl")),
        (None, None, None),
        "{other}"
    );
}
