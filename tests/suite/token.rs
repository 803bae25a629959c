//! The token of ezplatform-http-cache: whoever shows what the application tells may purge from anywhere, and nobody else by it.

use std::net::IpAddr;

use clearcoat_tests::client::Connection;
use clearcoat_tests::{Answer, Gate, Node, Page, Proxy, Request, Served, Setup};

const PATH: &str = "/_ez_http_invalidatetoken";
const TYPE: &str = "application/vnd.ezplatform.invalidate-token";
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 66));

/// What the application's own controller answers: 400 to whoever asks for something else.
fn told(token: &'static str) -> Page {
    Page::composed(move |request| {
        if request.header("accept") != Some(TYPE) {
            return Page::text("Bad request").status(400).cache_control("no-cache, private");
        }
        Page::text("")
            .header("Content-Type", TYPE)
            .header("X-Invalidate-Token", token)
            .cache_control("public, s-maxage=86400")
            .header("Vary", "Accept")
            .tags("ez-invalidate-token")
    })
}

async fn application(token: &'static str) -> Node {
    let node = Node::with_pages([("/a", "l42"), ("/b", "l43")]).await;
    node.serve(PATH, told(token));
    // All visitors have the same rights.
    let context = Page::text("").header("Content-Type", "application/vnd.fos.user-context-hash");
    node.serve("/_fos_user_context_hash", context.header("X-User-Context-Hash", "all").fresh_for(600));
    node
}

async fn before(node: &Node) -> Proxy {
    Setup::before(node).site(r#"preset = "ez-platform""#).start().await
}

/// As ezplatform-http-cache 2 sends it.
fn purge(token: &str) -> Request {
    Request::new("PURGEKEYS", "/")
        .header("xkey-softpurge", "l42")
        .header("X-Invalidate-Token", token)
        .header("Connection", "Close")
}

async fn from(address: IpAddr, proxy: &Proxy, request: &Request) -> Answer {
    Connection::open_from(address, proxy.address()).await.ask(request).await
}

/// Whether `/a` is as good as before.
async fn is_there(proxy: &Proxy) -> bool {
    proxy.get("/a").await.served() == Served::Hit
}

#[tokio::test]
async fn whoever_shows_it_may_purge_from_anywhere() {
    let node = application("the-secret").await;
    let proxy = before(&node).await;
    proxy.warm(["/a", "/b"]).await;
    let answer = from(STRANGER, &proxy, &purge("the-secret")).await.expect_status(200);
    assert_eq!(answer.reason, "Purged 0 objects, expired 1 objects", "{answer}");
    assert!(!is_there(&proxy).await);
    assert_eq!(proxy.get("/b").await.served(), Served::Hit);
    // The application was asked once, as its controller wants it, with nothing of the purge.
    for _ in 0..3 {
        from(STRANGER, &proxy, &purge("the-secret")).await.expect_status(200);
    }
    assert_eq!(node.count(PATH), 1);
    let asked = node.last(PATH);
    assert_eq!((asked.method.as_str(), asked.header("accept")), ("GET", Some(TYPE)));
    assert_eq!(asked.header("x-forwarded-for"), Some("127.0.0.66"));
    for name in ["xkey-softpurge", "x-invalidate-token"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_url_is_purged_by_it_as_well() {
    let node = application("the-secret").await;
    let proxy = before(&node).await;
    proxy.warm(["/a", "/b"]).await;
    let request = Request::new("PURGE", "/a").header("X-Invalidate-Token", "the-secret");
    let answer = from(STRANGER, &proxy, &request).await.expect_status(200);
    assert_eq!(answer.reason, "Purged", "{answer}");
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
    assert_eq!(proxy.get("/b").await.served(), Served::Hit);
}

#[tokio::test]
async fn a_wrong_one_is_refused_also_to_those_on_the_list() {
    let node = application("the-secret").await;
    let proxy = before(&node).await;
    proxy.warm(["/a"]).await;
    let local = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    for (address, token) in
        [(STRANGER, "another"), (local, "another"), (local, ""), (local, "the-secre"), (local, "the-secret2")]
    {
        let answer = from(address, &proxy, &purge(token)).await.expect_status(405);
        assert_eq!(answer.reason, "Method not allowed", "{address} {token:?}");
        assert!(is_there(&proxy).await, "{address} {token:?}");
    }
    // Without one, the list decides as ever.
    from(local, &proxy, &Request::new("PURGEKEYS", "/").header("xkey-purge", "l42")).await.expect_status(200);
    from(STRANGER, &proxy, &Request::new("PURGEKEYS", "/").header("xkey-purge", "l42"))
        .await
        .expect_status(405);
}

#[tokio::test]
async fn an_application_that_tells_none_lets_nobody_in() {
    let text = |status| Page::text("no").status(status).cache_control("public, s-maxage=60");
    let shown = |token: &str| text(200).header("Content-Type", TYPE).header("X-Invalidate-Token", token);
    for (page, token, expected) in [
        (text(401), "the-secret", 405),
        (text(404), "the-secret", 405),
        // Neither of these is a token, and a client that took the 200 for a purge would be wrong.
        (text(200).header("X-Invalidate-Token", "the-secret"), "the-secret", 405),
        (shown(""), "", 405),
        (text(200).header("Content-Type", TYPE), "", 405),
        (
            text(500).header("Content-Type", TYPE).header("X-Invalidate-Token", "the-secret"),
            "the-secret",
            503,
        ),
        // Of this one at least the tokens are the same.
        (shown("the-secret"), "the-secret", 200),
    ] {
        let node = application("x").await;
        node.serve(PATH, page);
        let proxy = before(&node).await;
        proxy.warm(["/a"]).await;
        for _ in 0..2 {
            let answer = from(STRANGER, &proxy, &purge(token)).await;
            assert_eq!(answer.status, expected, "{token:?} {answer}");
        }
        assert_eq!(is_there(&proxy).await, expected != 200, "{token:?} {expected}");
    }
}

#[tokio::test]
async fn nobody_outside_learns_it_or_tells_it() {
    let node = application("the-secret").await;
    let proxy = before(&node).await;
    from(STRANGER, &proxy, &purge("the-secret")).await.expect_status(200);
    // It is in memory by now, and nobody's request finds it there.
    for request in [
        Request::get(PATH).header("Accept", TYPE),
        Request::get(PATH).header("Accept", "text/html, Application/vnd.ezplatform.invalidate-token"),
        Request::get("/a").header("X-Backend-Invalidate-Token", "the-secret"),
        Request::get("/a").header("X_Backend_Invalidate_Token", "the-secret"),
        Request::new("POST", "/a").header("Accept", TYPE),
        purge("the-secret").header("X-Backend-Invalidate-Token", "the-secret"),
    ] {
        let answer = from(STRANGER, &proxy, &request).await.expect_status(400);
        assert!(!answer.text().contains("the-secret"), "{answer}");
    }
    let answer = proxy.get(PATH).await.expect_status(400);
    assert_eq!(answer.header("x-invalidate-token"), None, "{answer}");
}

#[tokio::test]
async fn a_new_one_holds_once_the_old_one_is_purged() {
    let node = application("the-old").await;
    let proxy = before(&node).await;
    from(STRANGER, &proxy, &purge("the-old")).await.expect_status(200);
    node.serve(PATH, told("the-new"));
    from(STRANGER, &proxy, &purge("the-new")).await.expect_status(405);
    for (next, request) in [
        ("the-new", Request::new("PURGEKEYS", "/").header("xkey-purge", "ez-invalidate-token")),
        ("the-newest", Request::new("PURGE", PATH)),
    ] {
        node.serve(PATH, told(next));
        proxy.ask(&request).await.expect_status(200);
        from(STRANGER, &proxy, &purge(next)).await.expect_status(200);
        from(STRANGER, &proxy, &purge("the-old")).await.expect_status(405);
    }
}

#[tokio::test]
async fn many_at_once_ask_once() {
    let node = application("x").await;
    let gate = Gate::closed();
    let told = Page::text("").header("Content-Type", TYPE).header("X-Invalidate-Token", "the-secret");
    node.serve(PATH, told.fresh_for(60).held_before_head(&gate));
    let proxy = before(&node).await;
    proxy.warm(["/a"]).await;
    let crowd = proxy.crowd(50, &purge("the-secret"));
    gate.reached(1).await;
    gate.open();
    for answer in crowd.answers().await {
        assert_eq!(answer.status, 200, "{answer}");
    }
    assert_eq!(node.count(PATH), 1);
}

#[tokio::test]
async fn a_list_as_long_as_clients_send_it_is_not_in_the_way() {
    let node = application("the-secret").await;
    let proxy = before(&node).await;
    proxy.warm(["/a"]).await;
    let tags = format!("{} l42", vec!["content-1234567"; 460].join(" "));
    assert!(tags.len() > 7_000);
    let request = Request::new("PURGEKEYS", "/")
        .header("xkey-softpurge", &tags)
        .header("X-Invalidate-Token", "the-secret");
    from(STRANGER, &proxy, &request).await.expect_status(200);
    assert!(!is_there(&proxy).await);
    assert!(
        node.last(PATH).headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 1_000
    );
}

#[tokio::test]
async fn the_configured_secret_asks_nobody() {
    let node = application("the-secret").await;
    let proxy = Setup::before(&node)
        .site(r#"preset = "ez-platform""#)
        .purge(r#"token = "of-the-file""#)
        .start()
        .await;
    for header in ["X-Invalidate-Token", "x-purge-token"] {
        proxy.warm(["/a"]).await;
        let request =
            Request::new("PURGEKEYS", "/").header("xkey-purge", "l42").header(header, "of-the-file");
        from(STRANGER, &proxy, &request).await.expect_status(200);
        assert_eq!(proxy.get("/a").await.served(), Served::Miss, "{header}");
    }
    let old = Request::new("PURGE", "/a").header("x-purge-token", "the-secret");
    from(STRANGER, &proxy, &old).await.expect_status(405);
    assert_eq!(node.count(PATH), 0);
}
