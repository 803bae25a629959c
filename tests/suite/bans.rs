//! Bans: by host, URL, type and tags, in expressions; exact like every purge, and gone from the list soon.

use clearcoat_tests::client::Connection;
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, purge, wait};

/// Headers and what they ask for.
type Expressions<'a> = &'a [(&'a str, &'a str)];

/// A `BAN` as FOSHttpCache sends it, with these expressions in the place of its own.
fn ban(expressions: Expressions<'_>) -> Request {
    let defaults = [("X-Host", ".*"), ("X-Url", ".*"), ("X-Content-Type", ".*")];
    let mut request = Request::new("BAN", "/");
    for (name, default) in defaults {
        let said = expressions.iter().find(|(said, _)| *said == name);
        request = request.header(name, said.map_or(default, |(_, expression)| expression));
    }
    for (name, expression) in
        expressions.iter().filter(|(said, _)| defaults.iter().all(|(name, _)| name != said))
    {
        request = request.header(name, expression);
    }
    request.header("Connection", "Close")
}

fn html(body: &str) -> Page {
    Page::text(body.to_owned()).fresh_for(60).header("Content-Type", "text/html; charset=utf-8")
}

async fn banned(proxy: &Proxy, request: &Request) {
    let answer = proxy.ask(request).await.expect_status(200);
    assert_eq!(answer.reason, "Banned", "{answer}");
}

async fn served(proxy: &Proxy, path: &str) -> Served {
    proxy.get(path).await.expect_status(200).served()
}

#[tokio::test]
async fn everything_has_to_match() {
    let node = Node::start().await;
    let page = |kind: &str| Page::text("x").fresh_for(60).header("Content-Type", kind);
    let pages = [
        ("/news/1", "text/html; charset=utf-8"),
        ("/news/1.png", "image/png"),
        ("/about", "text/html; charset=utf-8"),
        ("/search?q=news", "text/html"),
    ];
    for (path, kind) in pages {
        node.serve(path, page(kind));
    }
    let proxy = Proxy::before(&node).await;
    let rows: [(Expressions<'_>, &[&str]); 8] = [
        (&[], &["/news/1", "/news/1.png", "/about", "/search?q=news"]),
        (&[("X-Url", "^/news")], &["/news/1", "/news/1.png"]),
        (&[("X-Url", "news")], &["/news/1", "/news/1.png", "/search?q=news"]),
        (&[("X-Url", "NEWS")], &[]),
        (&[("X-Url", "(?i)NEWS"), ("X-Content-Type", "text")], &["/news/1", "/search?q=news"]),
        (&[("X-Url", r"^/(?!news|search)")], &["/about"]),
        (&[("X-Content-Type", "^image/")], &["/news/1.png"]),
        (&[("X-Host", "^(other|elsewhere)$")], &[]),
    ];
    for (expressions, expected) in rows {
        proxy.warm(pages.map(|(path, _)| path)).await;
        banned(&proxy, &ban(expressions)).await;
        for (path, _) in pages {
            let gone = served(&proxy, path).await == Served::Miss;
            assert_eq!(gone, expected.contains(&path), "{path} after {expressions:?}");
        }
    }
    assert_eq!(node.requests().iter().filter(|request| request.method != "GET").count(), 0);
}

#[tokio::test]
async fn hosts_are_told_apart_as_they_are_stored() {
    let node = Node::start().await;
    node.serve("/a", html("a"));
    let proxy = Proxy::before(&node).await;
    let on = |host: &str| Request::get("/a").host(host);
    let hosts = ["a.example.com", "b.example.com", "b.example.com:8080"];
    for host in hosts {
        proxy.ask(&on(host)).await;
    }
    banned(&proxy, &ban(&[("X-Host", "^(a.example.com|b.example.com:8080)$")])).await;
    let mut found = Vec::new();
    for host in hosts {
        found.push(proxy.ask(&on(host)).await.served());
    }
    assert_eq!(found, [Served::Miss, Served::Hit, Served::Miss]);
}

#[tokio::test]
async fn tags_by_their_list_and_by_any_expression() {
    let node = Node::start().await;
    let tagged = |tags: &str| html("x").header("X-Cache-Tags", tags);
    let pages = [("/a", "c1,l2"), ("/b", "c11,l3"), ("/c", "a.b,c3"), ("/d", "axb")];
    for (path, tags) in pages {
        node.serve(path, tagged(tags));
    }
    // As many lines as the application likes.
    node.serve("/e", tagged("x1").header("X-Cache-Tags", "x2"));
    node.serve("/untagged", html("x"));
    let all = ["/a", "/b", "/c", "/d", "/e", "/untagged"];
    let proxy = Proxy::before(&node).await;
    let rows: [(&str, &[&str]); 7] = [
        (r"(^|,)(c1)(,|$)", &["/a"]),
        (r"(^|,)(c1|l3)(,|$)", &["/a", "/b"]),
        (r"(^|,)(a\.b)(,|$)", &["/c"]),
        (r"(^|,)(a.b)(,|$)", &["/c", "/d"]),
        (r"(^|,)(x2)(,|$)", &["/e"]),
        ("c1", &["/a", "/b"]),
        (".*", &["/a", "/b", "/c", "/d", "/e"]),
    ];
    for (expression, expected) in rows {
        proxy.warm(all).await;
        banned(&proxy, &ban(&[("X-Cache-Tags", expression)])).await;
        for path in all {
            let gone = served(&proxy, path).await == Served::Miss;
            assert_eq!(gone, expected.contains(&path), "{path} after {expression}");
        }
    }
}

#[tokio::test]
async fn a_page_without_the_line_outlives_its_expression() {
    let node = Node::start().await;
    node.serve("/typeless", Page::text("x").fresh_for(60));
    node.serve("/placed", html("x").header("X-Zone", "north"));
    let proxy = Setup::before(&node).purge(r#"ban_headers = ["X-Zone"]"#).start().await;
    proxy.warm(["/typeless", "/placed"]).await;
    banned(&proxy, &ban(&[("X-Zone", ".*"), ("X-Url", "^/typeless")])).await;
    banned(&proxy, &ban(&[("X-Zone", "south")])).await;
    assert_eq!(
        (served(&proxy, "/typeless").await, served(&proxy, "/placed").await),
        (Served::Hit, Served::Hit)
    );
    banned(&proxy, &ban(&[("X-Zone", "^north$")])).await;
    assert_eq!(
        (served(&proxy, "/typeless").await, served(&proxy, "/placed").await),
        (Served::Hit, Served::Miss)
    );
    banned(&proxy, &ban(&[])).await;
    assert_eq!(
        (served(&proxy, "/typeless").await, served(&proxy, "/placed").await),
        (Served::Hit, Served::Miss)
    );
}

#[tokio::test]
async fn a_fetch_under_way_is_banned() {
    for early in [true, false] {
        let node = Node::start().await;
        let gate = Gate::closed();
        let old = html("the old page");
        node.serve("/a", if early { old.held_before_head(&gate) } else { old.held_in_body(4, &gate) });
        let proxy = Proxy::before(&node).await;
        let visitor = proxy.crowd(1, &Request::get("/a"));
        gate.reached(1).await;
        banned(&proxy, &ban(&[("X-Url", "^/a$")])).await;
        node.serve("/a", html("the new page"));
        let late = proxy.crowd(3, &Request::get("/a"));
        if early {
            gate.open();
        }
        for answer in late.answers().await {
            assert_eq!(answer.text(), "the new page", "{answer}");
        }
        gate.open();
        visitor.answers().await;
        // The sweep does not forget what a fetch had yet to hear.
        for _ in 0..3 {
            assert_eq!(proxy.get("/a").await.text(), "the new page");
        }
    }
}

#[tokio::test]
async fn what_came_after_a_ban_stays() {
    let node = Node::start().await;
    node.serve("/a", html("a"));
    let proxy = Proxy::before(&node).await;
    for round in 0..20 {
        banned(&proxy, &ban(&[("X-Url", "^/a")])).await;
        assert_eq!(served(&proxy, "/a").await, Served::Miss, "round {round}");
        assert_eq!(served(&proxy, "/a").await, Served::Hit, "round {round}");
    }
}

#[tokio::test]
async fn the_list_is_empty_again_soon_and_its_pages_gone() {
    let node = Node::start().await;
    for id in 0..50 {
        node.serve(&format!("/{id}"), html("x"));
    }
    let proxy = Proxy::before(&node).await;
    let pages: Vec<String> = (0..50).map(|id| format!("/{id}")).collect();
    proxy.warm(pages.iter().map(String::as_str)).await;
    for id in 0..40 {
        banned(&proxy, &ban(&[("X-Url", &format!("^/{id}$"))])).await;
    }
    wait::until("an empty list", async || {
        let metrics = proxy.metrics().await;
        let value = |name: &str| metrics.sum(name, &[]);
        (value("clearcoat_cache_bans") == 0.0 && value("clearcoat_cache_entries") == 10.0).then_some(())
    })
    .await;
    assert_eq!(proxy.metrics().await.sum("clearcoat_cache_banned_total", &[]), 40.0);
    assert_eq!(served(&proxy, "/39").await, Served::Miss);
    assert_eq!(served(&proxy, "/40").await, Served::Hit);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_reason() {
    let node = Node::start().await;
    node.serve("/a", html("a"));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    for (request, reason) in [
        (Request::new("BAN", "/"), "none of X-Host"),
        (ban(&[("X-Url", "(")]), "x-url"),
        (ban(&[("X-Url", "^/a")]).header("X-Url", "^/b"), "twice"),
    ] {
        let answer = proxy.ask(&request).await.expect_status(400);
        assert!(answer.text().contains(reason), "{answer}");
    }
    let mut stranger = Connection::open_from([127, 0, 0, 66].into(), proxy.address()).await;
    let refused = stranger.ask(&ban(&[("X-Url", "(")])).await.expect_status(405);
    assert!(!refused.text().contains("x-url"), "{refused}");
    assert_eq!(served(&proxy, "/a").await, Served::Hit);
}

#[tokio::test]
async fn an_expression_that_never_ends_is_stopped() {
    let node = Node::start().await;
    let long = format!("/{}", "a".repeat(2000));
    node.serve(&long, html("x"));
    let proxy = Proxy::before(&node).await;
    proxy.warm([long.as_str()]).await;
    banned(&proxy, &ban(&[("X-Url", "^/(a+)+[bc]$")])).await;
    // It counts as one that matches: a page too many is fetched again.
    assert_eq!(served(&proxy, &long).await, Served::Miss);
}

#[tokio::test]
async fn pages_go_by_their_location() {
    let node = Node::start().await;
    let located = |id: &str| Page::text("x").fresh_for(60).header("X-Location-Id", id);
    for (path, id) in [("/1", "1"), ("/10", "10"), ("/both", "1,20")] {
        node.serve(path, located(id));
    }
    node.serve("/nowhere", Page::text("x").fresh_for(60));
    let all = ["/1", "/10", "/both", "/nowhere"];
    let proxy = Proxy::before(&node).await;
    let by = |method: &str, name: &str, value: &str| {
        Request::new(method, "/").header("X-Host", ".*").header(name, value)
    };
    let rows: [(Request, &[&str]); 6] = [
        // eZ Platform 1.
        (by("BAN", "X-Location-Id", "^(1|2|3)$"), &["/1", "/both"]),
        (by("BAN", "X-Location-Id", ".*"), &["/1", "/10", "/both"]),
        // eZ Publish 5.4 does not anchor.
        (by("BAN", "X-Location-Id", "(1|2|3)"), &["/1", "/10", "/both"]),
        // eZ Publish 5.0 to 5.3.
        (by("PURGE", "X-Location-Id", "10"), &["/10"]),
        (by("PURGE", "X-Group-Location-Id", "20; 10; 3"), &["/10", "/both"]),
        (by("PURGE", "X-Location-Id", "*"), &["/1", "/10", "/both"]),
    ];
    for (request, expected) in rows {
        proxy.warm(all).await;
        banned(&proxy, &request).await;
        for path in all {
            let gone = served(&proxy, path).await == Served::Miss;
            assert_eq!(gone, expected.contains(&path), "{path} after {request:?}");
        }
    }
    proxy.ask(&by("PURGE", "X-Location-Id", "1x")).await.expect_status(400);
}

#[tokio::test]
async fn older_and_other_clients_purge_by_tags() {
    let node = Node::with_pages([("/a", "l42"), ("/b", "l43")]).await;
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.warm(["/a", "/b"]).await;
    // ezplatform-http-cache 0.8 to 1.0: `PURGE` with `key` is soft.
    let answer = proxy.ask(&Request::new("PURGE", "/").header("key", "l42 l7")).await.expect_status(200);
    assert_eq!(answer.reason, "Invalidated 1 objects");
    assert_eq!(proxy.get("/a").await.text(), "/a 1", "stale, and a newer one is fetched");
    wait::until("the new page", async || (proxy.get("/a").await.text() == "/a 2").then_some(())).await;
    // Fastly's.
    let fastly = Request::new("PURGE", "/").header("Surrogate-Key", "l43");
    proxy.ask(&fastly.clone().header("Fastly-Soft-Purge", "1")).await.expect_status(200);
    assert_eq!(proxy.get("/b").await.text(), "/b 1", "stale");
    wait::until("the new page", async || (proxy.get("/b").await.text() == "/b 2").then_some(())).await;
    proxy.ask(&fastly).await.expect_status(200);
    assert_eq!(served(&proxy, "/b").await, Served::Miss);
    proxy.ask(&purge::url("/b").header("Fastly-Soft-Purge", "1")).await.expect_status(200);
    assert_eq!(proxy.get("/b").await.text(), "/b 3", "stale");
}

#[tokio::test]
async fn what_is_not_understood_goes_to_the_nodes() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Setup::before(&node).purge(r#"dialects = ["purgekeys"]"#).start().await;
    proxy.warm(["/a"]).await;
    node.forget();
    for method in ["BAN", "PURGE"] {
        proxy.ask(&Request::new(method, "/a").header("X-Url", ".*")).await;
    }
    let asked: Vec<String> = node.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(asked, ["BAN", "PURGE"]);
}

#[tokio::test]
async fn a_listener_understands_what_it_is_told_to() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Setup::before(&node).listen(r#"purge_dialects = ["purge"]"#).start().await;
    proxy.warm(["/a"]).await;
    proxy.ask(&purge::tags("l42")).await;
    assert_eq!(node.requests().last().unwrap().method, "PURGEKEYS");
    assert_eq!(served(&proxy, "/a").await, Served::Hit);
    proxy.purge_url("/a").await;
    assert_eq!(served(&proxy, "/a").await, Served::Miss);
}

#[tokio::test]
async fn each_preset_understands_its_own_clients() {
    // What a client of eZ Platform 2 sends is a soft purge by tags there, and that of a URL elsewhere.
    let key = Request::new("PURGE", "/").header("key", "l42").header("Connection", "close");
    let ban =
        Request::new("BAN", "/").header("X-Host", ".*").header("X-Url", ".*").header("X-Content-Type", ".*");
    for (preset, of_key, of_ban) in [
        ("http", "Invalidated 1 objects", 200),
        ("symfony", "Purged", 200),
        ("ez-platform", "Purged", 404),
        // Bans by `X-Location-Id` are understood, and no others.
        ("ez-platform-2", "Invalidated 1 objects", 405),
        ("ez-platform-1", "Invalidated 1 objects", 200),
    ] {
        let node = Node::with_pages([("/a.css", "l42")]).await;
        let hash = Page::text("").header("Content-Type", "application/vnd.fos.user-context-hash");
        node.serve("/_fos_user_context_hash", hash.header("X-User-Context-Hash", "all").fresh_for(600));
        let proxy = Setup::before(&node).site(&format!("preset = \"{preset}\"")).start().await;
        proxy.warm(["/a.css"]).await;
        let answer = proxy.ask(&key).await.expect_status(200);
        assert_eq!(answer.reason, of_key, "{preset}: {answer}");
        let answer = proxy.ask(&ban).await;
        assert_eq!(answer.status, of_ban, "{preset}: {answer}");
    }
}
