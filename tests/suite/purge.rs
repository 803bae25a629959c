//! Invalidation: exact, at once, also against fetches under way; in the dialects and from the senders it is meant for.

use clearcoat_tests::client::Connection;
use clearcoat_tests::purge::{self, Counts};
use clearcoat_tests::real::{PhpFpm, PhpServer, run_script};
use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, wait};

#[tokio::test]
async fn purging_a_tag_refetches_only_its_pages() {
    let node = Node::with_pages([("/a", "l42"), ("/b", "l43")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a", "/b"]).await;
    assert_eq!(proxy.purge_tags("l42").await, Counts { purged: 1, expired: 0 });
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
    assert_eq!(proxy.get("/b").await.served(), Served::Hit);
    // The new copy stays: a purge speaks of what was there before it.
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
}

#[tokio::test]
async fn exactly_three_of_many() {
    let node = Node::start().await;
    for id in 0..300 {
        let tags = format!("content-{id} {} ez-all", if id % 100 == 7 { "l7" } else { "l70" });
        node.serve(&format!("/{id}"), Page::text(format!("page {id}")).fresh_for(60).tags(&tags));
    }
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    for id in 0..300 {
        visitor.get(&format!("/{id}")).await.expect_status(200);
    }
    assert_eq!(proxy.purge_tags("l7").await, Counts { purged: 3, expired: 0 });
    node.forget();
    for id in 0..300 {
        visitor.get(&format!("/{id}")).await.expect_status(200);
    }
    let mut asked: Vec<String> = node.requests().into_iter().map(|request| request.target).collect();
    asked.sort();
    assert_eq!(asked, ["/107", "/207", "/7"]);
}

#[tokio::test]
async fn a_purged_url_is_gone_in_every_variant() {
    let node = Node::start().await;
    let page = Page::written(|request| {
        format!("{} {}", request.header("accept-language").unwrap_or("-"), request.number)
    });
    node.serve("/a", page.fresh_for(60).header("Vary", "Accept-Language, Accept-Encoding"));
    node.serve("/a/b", Page::numbered("other").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let variants: Vec<Request> = ["fr", "de", "en"]
        .iter()
        .flat_map(|language| {
            ["gzip", "identity"].map(|coding| {
                Request::get("/a?x=1").header("Accept-Language", language).header("Accept-Encoding", coding)
            })
        })
        .collect();
    for served in [Served::Miss, Served::Hit] {
        for variant in &variants {
            assert_eq!(proxy.ask(variant).await.served(), served);
        }
    }
    proxy.warm(["/a", "/a?x=2", "/a/b"]).await;
    proxy.purge_url("/a?x=1").await;
    for variant in &variants {
        assert_eq!(proxy.ask(variant).await.served(), Served::Miss);
    }
    // Neighbours stay.
    for path in ["/a", "/a?x=2", "/a/b"] {
        assert_eq!(proxy.get(path).await.served(), Served::Hit, "{path}");
    }
}

#[tokio::test]
async fn a_purge_is_for_one_host_in_any_case() {
    let node = Node::with_pages([("/a", "")]).await;
    let proxy = Proxy::before(&node).await;
    let on = |host: &str| Request::get("/a").host(host);
    for host in ["a.example.com", "b.example.com"] {
        proxy.ask(&on(host)).await;
    }
    purge::done(proxy.address(), &purge::url("/a").host("A.example.com")).await;
    assert_eq!(proxy.ask(&on("b.example.com")).await.served(), Served::Hit);
    assert_eq!(proxy.ask(&on("a.example.com")).await.served(), Served::Miss);
}

#[tokio::test]
async fn purging_what_is_not_there_succeeds() {
    let node = Node::start().await;
    let proxy = Proxy::before(&node).await;
    proxy.purge_url("/never-seen").await;
    assert_eq!(proxy.purge_tags("never-seen").await, Counts { purged: 0, expired: 0 });
    assert_eq!(proxy.soft_purge_tags("never-seen").await, Counts { purged: 0, expired: 0 });
    assert_eq!(node.total(), 0, "purges are not the nodes' business");
}

#[tokio::test]
async fn soft_purged_pages_are_served_once_more_while_fetched() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::numbered("a").fresh_for(60).tags("l42"));
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.warm(["/a"]).await;
    assert_eq!(proxy.soft_purge_tags("l42").await, Counts { purged: 0, expired: 1 });
    node.serve("/a", Page::numbered("a").fresh_for(60).tags("l42").held_before_head(&gate));
    let stale = proxy.get("/a").await.expect_status(200);
    assert_eq!(stale.text(), "a 1", "{stale}");
    gate.reached(1).await;
    // One refresh is enough, and nobody waits for it.
    for _ in 0..5 {
        assert_eq!(proxy.get("/a").await.text(), "a 1");
    }
    gate.open();
    wait::until("the new page", async || (proxy.get("/a").await.text() == "a 2").then_some(())).await;
    assert_eq!(node.count("/a"), 2);
    // What is stale already is not counted again.
    assert_eq!(proxy.soft_purge_tags("l42").await, Counts { purged: 0, expired: 1 });
    assert_eq!(proxy.soft_purge_tags("l43").await, Counts { purged: 0, expired: 0 });
}

#[tokio::test]
async fn without_grace_a_soft_purge_means_asking_again() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    assert_eq!(proxy.soft_purge_tags("l42").await, Counts { purged: 0, expired: 1 });
    let answer = proxy.get("/a").await;
    assert_eq!((answer.served(), answer.text().as_str()), (Served::Miss, "/a 2"), "{answer}");
}

#[tokio::test]
async fn both_kinds_in_one_request() {
    let node = Node::with_pages([("/a", "hard"), ("/b", "soft both"), ("/c", "both")]).await;
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.warm(["/a", "/b", "/c"]).await;
    let request =
        Request::new("PURGEKEYS", "/").header("xkey-purge", "hard").header("xkey-softpurge", "soft");
    assert_eq!(purge::counted(proxy.address(), &request).await, Counts { purged: 1, expired: 1 });
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
    assert_eq!(proxy.get("/b").await.text(), "/b 1");
    assert_eq!(proxy.get("/c").await.served(), Served::Hit);
}

#[tokio::test]
async fn tags_are_whole_words_in_all_header_lines() {
    let node = Node::start().await;
    let pages = [
        ("/spaces", Page::text("x").header("xkey", "c1 c2  c3")),
        ("/commas", Page::text("x").header("xkey", "c1,c2, c3")),
        ("/tabs", Page::text("x").header("xkey", "c1\tc2")),
        ("/lines", Page::text("x").header("xkey", "c1").header("XKEY", "c2")),
        (
            "/names",
            Page::text("x")
                .header("X-Cache-Tags", "c1,c2")
                .header("Surrogate-Key", "c3")
                .header("Cache-Tag", "c4"),
        ),
        ("/twice", Page::text("x").header("xkey", "c1 c1 c1")),
        ("/capitals", Page::text("x").header("xkey", "C1 c10 xc1 c1x")),
        ("/empty", Page::text("x").header("xkey", "")),
        ("/none", Page::text("x")),
    ];
    let rows: [(&str, &[&str]); 6] = [
        ("c1", &["/spaces", "/commas", "/tabs", "/lines", "/names", "/twice"]),
        ("c2", &["/spaces", "/commas", "/tabs", "/lines", "/names"]),
        ("c3", &["/spaces", "/commas", "/names"]),
        ("c4", &["/names"]),
        ("C1", &["/capitals"]),
        ("c", &[]),
    ];
    for (path, page) in &pages {
        node.serve(path, page.clone().fresh_for(60));
    }
    let proxy = Proxy::before(&node).await;
    for (tag, expected) in rows {
        proxy.warm(pages.iter().map(|(path, _)| *path)).await;
        proxy.purge_tags(tag).await;
        for (path, _) in &pages {
            let gone = proxy.get(path).await.served() == Served::Miss;
            assert_eq!(gone, expected.contains(path), "{path} after the purge of {tag}");
        }
    }
}

#[tokio::test]
async fn translations_are_purged_by_themselves() {
    let node = Node::start().await;
    for (path, language) in [("/fr", "fre-FR"), ("/en", "eng-GB")] {
        node.serve(path, Page::text("x").fresh_for(60).tags("c7 l8").header("x-lang", language));
    }
    let proxy = Setup::before(&node).site(r#"tag_suffix_header = "x-lang""#).start().await;
    proxy.warm(["/fr", "/en"]).await;
    assert_eq!(proxy.purge_tags("c7fre-FR").await.purged, 1);
    assert_eq!(proxy.get("/en").await.served(), Served::Hit);
    assert_eq!(proxy.get("/fr").await.served(), Served::Miss);
    assert_eq!(proxy.purge_tags("c7").await.purged, 2);
}

#[tokio::test]
async fn many_tags_in_one_request() {
    let node = Node::start().await;
    for id in 0..50 {
        node.serve(&format!("/{id}"), Page::text("x").fresh_for(60).tags(&format!("content-{id}")));
    }
    let proxy = Proxy::before(&node).await;
    let pages: Vec<String> = (0..50).map(|id| format!("/{id}")).collect();
    proxy.warm(pages.iter().map(String::as_str)).await;
    // As long as the CMS sends them before it splits: 7500 characters.
    let tags: Vec<String> = (0..530).map(|id| format!("content-{id}")).collect();
    for list in [tags.join(" "), tags.join(",")] {
        assert_eq!(proxy.purge_tags(&list).await.purged, 50);
        proxy.warm(pages.iter().map(String::as_str)).await;
    }
}

/// How far the answer is when the purge comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    BeforeHead,
    MidBody,
}

/// A purge during a fetch: the visitors who asked before may get the old page, nobody later may.
async fn purge_during_fetch(moment: Moment, purge: &Request) {
    let node = Node::start().await;
    let gate = Gate::closed();
    let old = Page::text("the old page").fresh_for(60).tags("l42");
    let old = match moment {
        Moment::BeforeHead => old.held_before_head(&gate),
        Moment::MidBody => old.held_in_body(4, &gate),
    };
    node.serve("/a", old);
    let proxy = Proxy::before(&node).await;
    let mut early = proxy.connect().await;
    early.send(Request::get("/a").to_bytes()).await.unwrap();
    gate.reached(1).await;
    if matches!(moment, Moment::MidBody) {
        // The head has been read by the proxy, tags included, when its first bytes come through.
        let head = early.head("GET").await.unwrap();
        assert_eq!(head.status(), 200);
        node.serve("/a", Page::text("the new page").fresh_for(60).tags("l42"));
        proxy.ask(purge).await.expect_status(200);
        assert_eq!(proxy.get("/a").await.text(), "the new page", "{moment:?}: asked after the purge");
        gate.open();
        assert_eq!(early.rest(head).await.unwrap().text(), "the old page");
    } else {
        node.serve("/a", Page::text("the new page").fresh_for(60).tags("l42"));
        proxy.ask(purge).await.expect_status(200);
        gate.open();
        let answer = early.answer("GET").await.unwrap();
        assert!(answer.text().starts_with("the "), "{answer}");
    }
    for _ in 0..3 {
        let answer = proxy.get("/a").await;
        assert_eq!(answer.text(), "the new page", "{moment:?} {}: {answer}", purge.method());
    }
}

#[tokio::test]
async fn a_fetch_under_way_is_purged_by_url() {
    purge_during_fetch(Moment::BeforeHead, &purge::url("/a")).await;
    purge_during_fetch(Moment::MidBody, &purge::url("/a")).await;
}

#[tokio::test]
async fn a_fetch_under_way_is_purged_by_tag() {
    // Before the head the proxy cannot know the tag yet: it must remember the purge until it does.
    purge_during_fetch(Moment::BeforeHead, &purge::tags("l42")).await;
    purge_during_fetch(Moment::MidBody, &purge::tags("l42")).await;
}

#[tokio::test]
async fn a_visitor_after_the_purge_does_not_join_the_older_fetch() {
    for purge in [purge::url("/a"), purge::tags("l42")] {
        let node = Node::start().await;
        let gate = Gate::closed();
        node.serve("/a", Page::text("the old page").fresh_for(60).tags("l42").held_before_head(&gate));
        let proxy = Proxy::before(&node).await;
        let early = proxy.crowd(1, &Request::get("/a"));
        gate.reached(1).await;
        proxy.ask(&purge).await.expect_status(200);
        node.serve("/a", Page::text("the new page").fresh_for(60).tags("l42"));
        let late = proxy.crowd(5, &Request::get("/a"));
        // Whoever does join must be sent to the node again, once the old answer shows its tags.
        gate.open();
        for answer in late.answers().await {
            assert_eq!(answer.text(), "the new page", "after {}: {answer}", purge.method());
        }
        early.answers().await;
        assert_eq!(proxy.get("/a").await.text(), "the new page", "after {}", purge.method());
    }
}

#[tokio::test]
async fn a_background_refresh_under_way_is_purged() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("the first page").fresh_for(60).tags("l42"));
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.warm(["/a"]).await;
    proxy.soft_purge_tags("l42").await;
    node.serve("/a", Page::text("the old page").fresh_for(60).tags("l42").held_before_head(&gate));
    assert_eq!(proxy.get("/a").await.text(), "the first page");
    gate.reached(1).await;
    node.serve("/a", Page::text("the new page").fresh_for(60).tags("l42"));
    proxy.purge_tags("l42").await;
    gate.open();
    for _ in 0..3 {
        assert_eq!(proxy.get("/a").await.text(), "the new page");
    }
}

#[tokio::test]
async fn purges_under_load_are_never_lost() {
    let node = Node::start().await;
    let version = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let shown = std::sync::Arc::clone(&version);
    let page = Page::written(move |_| shown.load(std::sync::atomic::Ordering::SeqCst).to_string());
    node.serve("/a", page.fresh_for(60).tags("l42"));
    let proxy = Proxy::before(&node).await;
    let load = clearcoat_tests::Load::start(proxy.address(), 8, [(Request::get("/a"), None)]);
    for number in 1..=200 {
        version.store(number, std::sync::atomic::Ordering::SeqCst);
        proxy
            .ask(&if number % 2 == 0 { purge::url("/a") } else { purge::tags("l42") })
            .await
            .expect_status(200);
        let answer = proxy.get("/a").await;
        assert_eq!(answer.text(), number.to_string(), "{answer}");
    }
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
}

#[tokio::test]
async fn strangers_may_not_purge() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    for request in [purge::url("/a"), purge::tags("l42"), Request::new("PURGEKEYS", "/")] {
        let mut stranger = Connection::open_from([127, 0, 0, 66].into(), proxy.address()).await;
        stranger.ask(&request.header("X-Forwarded-For", "127.0.0.1")).await.expect_status(405);
    }
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
    assert_eq!(node.total(), 1);
}

#[tokio::test]
async fn a_purge_without_tags_is_refused() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    proxy.ask(&Request::new("PURGEKEYS", "/")).await.expect_status(400);
    // An empty list is a list (as with xkey in Varnish).
    assert_eq!(proxy.purge_tags("").await, Counts { purged: 0, expired: 0 });
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
}

#[tokio::test]
async fn a_token_opens_and_closes() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Setup::before(&node)
        .purge(r#"token = { env = "PURGE_TOKEN" }"#)
        .environment("PURGE_TOKEN", "open-sesame")
        .start()
        .await;
    let stranger = async |token: &str| {
        let mut stranger = Connection::open_from([127, 0, 0, 66].into(), proxy.address()).await;
        stranger.ask(&purge::tags("l42").header("X-Invalidate-Token", token)).await.status
    };
    proxy.warm(["/a"]).await;
    for wrong in ["open", "open-sesame!", "Open-sesame", "x"] {
        assert_eq!(stranger(wrong).await, 405, "{wrong}");
    }
    // A wrong token is refused even from a permitted address: only the token counts once there is one.
    proxy.ask(&purge::tags("l42").header("X-Invalidate-Token", "wrong")).await.expect_status(405);
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
    assert_eq!(stranger("open-sesame").await, 200);
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
}

#[tokio::test]
async fn bursts_of_short_connections_are_taken() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    for answer in proxy.crowd(300, &purge::tags("l42 l43")).answers().await {
        assert_eq!(answer.status, 200, "{answer}");
    }
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
}

#[tokio::test]
async fn php_on_the_command_line_purges() {
    let node = PhpServer::start("web1").await;
    let proxy = Proxy::before(&node).await;
    let edge = format!("http://{}", proxy.address());
    for transport in ["curl", "stream"] {
        for (what, value) in [("tags", "c1"), ("url", "/tagged.php?tags=c1+l2")] {
            proxy.warm(["/tagged.php?tags=c1+l2", "/tagged.php?tags=c3"]).await;
            let output = run_script("hook.php", &[transport, &edge, what, value]).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && said.starts_with("200 Purged"),
                "{transport} {what}: {output:?}"
            );
            assert_eq!(
                proxy.get("/tagged.php?tags=c1+l2").await.served(),
                Served::Miss,
                "{transport} {what}"
            );
            assert_eq!(proxy.get("/tagged.php?tags=c3").await.served(), Served::Hit, "{transport} {what}");
        }
    }
}

#[tokio::test]
async fn publishing_on_a_php_node_refreshes_its_page() {
    let node = PhpFpm::start("web1").await;
    let proxy = Proxy::before(&node).await;
    let page = "/tagged.php?tags=c7+l7";
    for round in 1..=3 {
        for _ in 0..5 {
            proxy.get(page).await.expect_status(200);
        }
        assert_eq!(node.runs("tagged"), round, "one run serves all visitors");
        let edge = format!("http://{}", proxy.address());
        let publish = Request::get(&format!("/publish.php?transport=curl&edge={edge}&what=tags&value=c7"));
        let said = proxy.ask(&publish).await.expect_status(200);
        assert!(said.text().starts_with("200 Purged 1 objects"), "{said}");
    }
    let session = proxy.get("/session.php").await.expect_status(200);
    let other = proxy.get("/session.php").await.expect_status(200);
    assert_ne!(session.header("set-cookie"), other.header("set-cookie"), "two visitors, two sessions");
    assert_eq!(proxy.ask(&Request::post("/echo.php", "text")).await.text(), "POST text\n");
}
