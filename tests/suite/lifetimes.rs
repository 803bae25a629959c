//! How long answers are kept by what the operator says: by status, in place of the answer's own word, by route, and in place
//! of a node that fails.

use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, wait};

/// Asks twice and tells the seconds that the second answer has left in memory; `None` if it came from a node.
async fn kept_for(proxy: &Proxy, path: &str) -> Option<i64> {
    let first = proxy.get(path).await;
    assert_eq!(first.served(), Served::Miss, "{path}: {first}");
    let second = proxy.get(path).await;
    let kept = second.served() == Served::Hit;
    assert_eq!(first.was_stored(), kept, "{path}: what was said and what was done differ: {first}\n{second}");
    kept.then(|| second.cache_parameter("ttl").expect("a hit tells its time").parse().unwrap())
}

/// Requires that pages are kept for about so many seconds; zero stands for not at all.
#[track_caller]
fn about(path: &str, kept: Option<i64>, expected: i64) {
    match kept {
        None => assert_eq!(expected, 0, "{path} is not kept"),
        // Other tests take the processor now and then.
        Some(left) => {
            assert!((expected - 5..=expected).contains(&left) && left > 0, "{path}: {left} s, not {expected}")
        }
    }
}

#[tokio::test]
async fn errors_are_kept_by_their_status() {
    let node = Node::start().await;
    let pages = [
        ("/gone-wrong", Page::text("x").status(500), 60),
        ("/busy", Page::text("x").status(503), 30),
        ("/missing", Page::text("x").status(404), 120),
        ("/forbidden", Page::text("x").status(403), 0),
        ("/found", Page::text("x").status(302).header("Location", "/"), 40),
        ("/silent", Page::text("x"), 600),
        ("/gone", Page::text("x").status(410), 0),
        // An answer's own word goes before all of these.
        ("/missing-for-long", Page::text("x").status(404).fresh_for(900), 900),
        ("/private", Page::text("x").status(404).cache_control("private"), 0),
        ("/never", Page::text("x").status(429), 0),
    ];
    for (path, page, _) in &pages {
        node.serve(path, page.clone());
    }
    let proxy = Setup::before(&node)
        .cache(r#"default_ttl = "10m""#)
        .cache(r#"status_ttl = { 404 = "2m", 410 = "0s", 302 = "40s", 503 = "30s", 5xx = "1m" }"#)
        .start()
        .await;
    for (path, _, expected) in pages {
        about(path, kept_for(&proxy, path).await, expected);
    }
}

#[tokio::test]
async fn a_missing_page_appears_and_an_error_is_over_when_their_time_is() {
    let node = Node::start().await;
    for (path, status) in [("/missing", 404), ("/broken", 500)] {
        node.serve(path, Page::numbered("x").status(status));
    }
    let proxy = Setup::before(&node).cache(r#"status_ttl = { 404 = "1s", 5xx = "1s" }"#).start().await;
    for (path, status) in [("/missing", 404), ("/broken", 500)] {
        let first = proxy.get(path).await.expect_status(status);
        assert!(first.was_stored(), "{first}");
        node.serve(path, Page::text("here it is").fresh_for(60));
    }
    proxy.a_second_later().await;
    for path in ["/missing", "/broken"] {
        let later = proxy.get(path).await.expect_status(200);
        assert_eq!((later.served(), later.text().as_str()), (Served::Miss, "here it is"), "{later}");
    }
}

#[tokio::test]
async fn grace_is_for_pages_and_not_for_errors() {
    let node = Node::start().await;
    node.serve("/page", Page::numbered("page").fresh_for(1));
    node.serve("/broken", Page::numbered("broken").status(500).fresh_for(1));
    let proxy = Setup::before(&node).cache("grace = \"60s\"\nstale_if_error = \"60s\"").start().await;
    proxy.get("/page").await.expect_status(200);
    proxy.get("/broken").await.expect_status(500);
    node.serve("/broken", Page::text("mended").fresh_for(60));
    proxy.a_second_later().await;
    let page = proxy.get("/page").await;
    assert_eq!((page.served(), page.text().as_str()), (Served::Grace, "page 1"), "{page}");
    let mended = proxy.get("/broken").await.expect_status(200);
    assert_eq!((mended.served(), mended.text().as_str()), (Served::Miss, "mended"), "{mended}");
}

#[tokio::test]
async fn the_operators_ttl_goes_before_the_answers_own() {
    let node = Node::start().await;
    let pages = [
        ("/o/silent", Page::text("x"), 3600),
        ("/o/short", Page::text("x").cache_control("max-age=5"), 3600),
        ("/o/none", Page::text("x").cache_control("max-age=0"), 3600),
        ("/o/expired", Page::text("x").header("Expires", "0"), 3600),
        ("/o/surrogate", Page::text("x").header("Surrogate-Control", "max-age=5"), 3600),
        ("/o/targeted", Page::text("x").header("CDN-Cache-Control", "max-age=5"), 3600),
        ("/o/own", Page::text("x").header("X-Reverse-Proxy-TTL", "5"), 3600),
        ("/o/aged", Page::text("x").header("Age", "600"), 3000),
        ("/o/missing", Page::text("x").status(404).fresh_for(900), 60),
        // A status that neither of the two is for.
        ("/o/found", Page::text("x").status(302).header("Location", "/").fresh_for(900), 900),
        // How long is overridden, whether is not.
        ("/o/no-store", Page::text("x").cache_control("no-store, max-age=5"), 0),
        ("/o/private", Page::text("x").cache_control("private, max-age=5"), 0),
        ("/o/cookie", Page::text("x").fresh_for(5).header("Set-Cookie", "a=b"), 0),
        ("/o/not-here", Page::text("x").header("X-Reverse-Proxy-TTL", "0"), 0),
        ("/elsewhere", Page::text("x").fresh_for(900), 900),
    ];
    for (path, page, _) in &pages {
        node.serve(path, page.clone());
    }
    let route = r#"route = [{ path = "/o/*", ttl = "1h", status_ttl = { 404 = "1m" } }]"#;
    let proxy = Setup::before(&node).site(route).start().await;
    for (path, _, expected) in pages {
        about(path, kept_for(&proxy, path).await, expected);
    }
}

#[tokio::test]
async fn a_route_goes_before_its_site_and_that_before_the_cache() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x"));
    let sites = r#"
        [[site]]
        hosts = ["plain.example.com"]
        pool = "web"
        [[site.route]]
        path = "/route"
        default_ttl = "300s"
        [[site.route]]
        path = "/none"
        default_ttl = "0s"
        [[site]]
        hosts = ["*"]
        pool = "web"
        default_ttl = "200s"
        status_ttl = { 200 = "250s" }
        [[site.route]]
        path = "/route"
        default_ttl = "350s"
        status_ttl = {}
        [[site.route]]
        path = "/one-of-both"
        default_ttl = "350s"
    "#;
    let proxy = Setup::before(&node).cache(r#"default_ttl = "100s""#).sites(sites).start().await;
    for (host, path, expected) in [
        ("plain.example.com", "/", 100),
        ("plain.example.com", "/route", 300),
        ("plain.example.com", "/none", 0),
        ("other.example.com", "/", 250),
        ("other.example.com", "/route", 350),
        ("other.example.com", "/one-of-both", 250),
    ] {
        let request = Request::get(path).host(host);
        proxy.ask(&request).await.expect_status(200);
        let answer = proxy.ask(&request).await;
        let left =
            (answer.served() == Served::Hit).then(|| answer.cache_parameter("ttl").unwrap().parse().unwrap());
        about(&format!("{host}{path}"), left, expected);
    }
}

#[tokio::test]
async fn grace_and_keep_are_those_of_the_route() {
    let node = Node::start().await;
    for path in ["/plain", "/route/a", "/route/strict"] {
        let page = Page::numbered(path).tags("t").header("ETag", "\"1\"");
        let control = if path.ends_with("strict") { "max-age=60, must-revalidate" } else { "max-age=60" };
        node.serve(path, page.cache_control(control));
    }
    let route = r#"route = [{ path = "/route/*", grace = "60s", keep = "0s" }]"#;
    let proxy = Setup::before(&node).site(route).start().await;
    proxy.warm(["/plain", "/route/a", "/route/strict"]).await;
    proxy.soft_purge_tags("t").await;
    assert_eq!(proxy.get("/plain").await.served(), Served::Miss);
    assert_eq!(node.last("/plain").header("if-none-match"), Some("\"1\""), "it was kept to be asked after");
    assert_eq!(proxy.get("/route/a").await.served(), Served::Grace);
    // must-revalidate forbids grace, and nothing keeps it beyond.
    assert_eq!(proxy.get("/route/strict").await.served(), Served::Miss);
    assert_eq!(node.last("/route/strict").header("if-none-match"), None);
}

#[tokio::test]
async fn grace_over_revalidate_is_for_those_who_ask() {
    let node = Node::start().await;
    for (path, control) in
        [("/strict", "max-age=60, must-revalidate"), ("/proxy", "s-maxage=60, proxy-revalidate")]
    {
        node.serve(path, Page::numbered(path).tags("t").cache_control(control));
    }
    for (line, expected) in [("", Served::Miss), ("grace_over_revalidate = true", Served::Grace)] {
        let proxy = Setup::before(&node).cache(r#"grace = "60s""#).cache(line).start().await;
        proxy.warm(["/strict", "/proxy"]).await;
        proxy.soft_purge_tags("t").await;
        for path in ["/strict", "/proxy"] {
            let answer = proxy.get(path).await;
            assert_eq!(answer.served(), expected, "{line:?} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn an_old_page_stands_in_for_a_node_that_fails() {
    let node = Node::start().await;
    let paths = ["/a", "/strict", "/never/a", "/never/own"];
    for path in paths {
        let control = match path {
            "/strict" => "max-age=60, must-revalidate",
            "/never/own" => "max-age=60, stale-if-error=60",
            _ => "max-age=60",
        };
        node.serve(path, Page::text("old").tags("t").cache_control(control));
    }
    let proxy = Setup::before(&node)
        .cache(r#"stale_if_error = "10m""#)
        .site(r#"route = [{ path = "/never/*", stale_if_error = "0s" }]"#)
        .start()
        .await;
    proxy.warm(paths).await;
    proxy.soft_purge_tags("t").await;
    for path in paths {
        node.serve(path, Page::text("down").status(503));
    }
    for (path, expected) in [("/a", 200), ("/strict", 503), ("/never/a", 503), ("/never/own", 200)] {
        let answer = proxy.get(path).await.expect_status(expected);
        assert_eq!(answer.text(), if expected == 200 { "old" } else { "down" }, "{path}: {answer}");
    }
    // The first good answer ends it.
    node.serve("/a", Page::text("new").fresh_for(60));
    wait::until("the new page", async || (proxy.get("/a").await.text() == "new").then_some(())).await;
}

#[tokio::test]
async fn targeted_fields_are_those_of_the_operator() {
    let node = Node::start().await;
    let page = Page::text("x")
        .header("Cache-Control", "max-age=60")
        .header("CDN-Cache-Control", "max-age=600")
        .header("Edge-Control", "max-age=6000");
    node.serve("/a", page);
    for (lines, expected, seen) in [
        ("", 600, ["cdn-cache-control", "edge-control"].as_slice()),
        ("targeted_fields = []", 60, &["cdn-cache-control", "edge-control"]),
        (
            r#"targeted_fields = ["Edge-Control", "CDN-Cache-Control"]"#,
            6000,
            &["cdn-cache-control", "edge-control"],
        ),
        ("targeted_fields = [\"Edge-Control\"]\nkeep_targeted_fields = false", 6000, &["cdn-cache-control"]),
    ] {
        let proxy = Setup::before(&node).cache(lines).start().await;
        about(lines, kept_for(&proxy, "/a").await, expected);
        let answer = proxy.get("/a").await;
        for name in ["cdn-cache-control", "edge-control"] {
            assert_eq!(answer.header(name).is_some(), seen.contains(&name), "{lines}: {answer}");
        }
    }
}

#[tokio::test]
async fn fields_for_this_cache_can_be_left_to_the_next_one() {
    let node = Node::start().await;
    let fresh = |page: Page| page.fresh_for(60);
    node.serve("/surrogate", fresh(Page::text("x")).header("Surrogate-Control", "max-age=600"));
    node.serve("/own", fresh(Page::text("x")).header("X-Reverse-Proxy-TTL", "600"));
    for (lines, expected, is_seen) in
        [("", 600, false), ("surrogate_control = false\nreverse_proxy_ttl = false", 60, true)]
    {
        let proxy = Setup::before(&node).cache(lines).start().await;
        for (path, name) in [("/surrogate", "surrogate-control"), ("/own", "x-reverse-proxy-ttl")] {
            about(path, kept_for(&proxy, path).await, expected);
            let answer = proxy.get(path).await;
            assert_eq!(answer.header(name).is_some(), is_seen, "{lines}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_lifetime_is_guessed_where_the_operator_allows_it() {
    let node = Node::start().await;
    let modified =
        |page: Page, date| page.header("Last-Modified", date).header("Date", "Fri, 02 Jan 2026 00:00:00 GMT");
    let pages = [
        // A thousand seconds, and years.
        ("/recent", modified(Page::text("x"), "Thu, 01 Jan 2026 23:43:20 GMT"), 100),
        ("/old", modified(Page::text("x"), "Sun, 06 Nov 1994 08:49:37 GMT"), 86_400),
        ("/said", modified(Page::text("x"), "Sun, 06 Nov 1994 08:49:37 GMT").cache_control("max-age=60"), 60),
        ("/by-status", modified(Page::text("x").status(404), "Sun, 06 Nov 1994 08:49:37 GMT"), 30),
        ("/silent", Page::text("x"), 0),
    ];
    for (path, page, _) in &pages {
        node.serve(path, page.clone());
    }
    let guessing = r#"status_ttl = { 404 = "30s" }"#;
    let proxy = Setup::before(&node).cache("heuristic_percent = 10").cache(guessing).start().await;
    for (path, _, expected) in &pages {
        about(path, kept_for(&proxy, path).await, *expected);
    }
    let proxy = Proxy::before(&node).await;
    about("/old", kept_for(&proxy, "/old").await, 0);
}

#[tokio::test]
async fn stripped_cookies_reach_nobody() {
    let node = Node::start().await;
    let page = |number: usize| {
        Page::text(format!("page {number}"))
            .header("Set-Cookie", &format!("session={number}"))
            .header("Set-Cookie", "b=2")
    };
    let gate = Gate::closed();
    let held = gate.clone();
    node.serve(
        "/s/page",
        Page::composed(move |request| page(request.number).fresh_for(60).held_before_head(&held)),
    );
    node.serve("/s/login", Page::composed(move |request| page(request.number).cache_control("private")));
    node.serve("/page", Page::composed(move |request| page(request.number).fresh_for(60)));
    let proxy =
        Setup::before(&node).site(r#"route = [{ path = "/s/*", set_cookie = "strip" }]"#).start().await;

    // Those who wait for the same fetch, the one who started it, and those who come later.
    let crowd = proxy.crowd(10, &Request::get("/s/page"));
    gate.reached(1).await;
    gate.open();
    let mut answers = crowd.answers().await;
    answers.push(proxy.get("/s/page").await);
    for answer in &answers {
        assert_eq!((answer.status, answer.text().as_str()), (200, "page 1"), "{answer}");
        assert_eq!(answer.headers("set-cookie"), [""; 0], "{answer}");
    }
    assert!(answers.iter().any(|answer| answer.was_stored()));
    assert_eq!(answers.last().map(|answer| answer.served()), Some(Served::Hit));
    assert_eq!(node.count("/s/page"), 1);

    // What is not stored is for its visitor alone, with all that it sets.
    for number in 1..=3 {
        let answer = proxy.get("/s/login").await;
        assert_eq!(answer.headers("set-cookie"), [format!("session={number}"), "b=2".to_owned()], "{answer}");
    }
    // Elsewhere a page that sets cookies is not stored.
    for number in 1..=3 {
        let answer = proxy.get("/page").await;
        assert_eq!(answer.headers("set-cookie"), [format!("session={number}"), "b=2".to_owned()], "{answer}");
    }
}

#[tokio::test]
async fn a_cookie_of_a_304_is_stripped_or_ends_the_storing() {
    let node = Node::start().await;
    for path in ["/s/page", "/page"] {
        let page = Page::composed(move |request| {
            let page = Page::text("page").fresh_for(60).tags("t").header("ETag", "\"1\"");
            match request.header("if-none-match") {
                Some(_) => page.status(304).header("Set-Cookie", &format!("session={}", request.number)),
                None => page,
            }
        });
        node.serve(path, page);
    }
    let proxy =
        Setup::before(&node).site(r#"route = [{ path = "/s/*", set_cookie = "strip" }]"#).start().await;
    proxy.warm(["/s/page", "/page"]).await;
    proxy.soft_purge_tags("t").await;
    let stripped = proxy.get("/s/page").await.expect_status(200);
    assert_eq!((stripped.text().as_str(), stripped.headers("set-cookie").len()), ("page", 0), "{stripped}");
    let hit = proxy.get("/s/page").await;
    assert_eq!((hit.served(), hit.headers("set-cookie").len()), (Served::Hit, 0), "{hit}");

    let own = proxy.get("/page").await.expect_status(200);
    assert_eq!((own.text().as_str(), own.headers("set-cookie")), ("page", vec!["session=2"]), "{own}");
    let next = proxy.get("/page").await;
    assert!(!next.headers("set-cookie").contains(&"session=2"), "{next}");
}

#[tokio::test]
async fn a_page_kept_to_be_asked_after_keeps_no_cookie() {
    let node = Node::start().await;
    let page = Page::composed(|request| {
        let page = Page::text("page").cache_control("no-cache").header("ETag", "\"1\"");
        match request.header("if-none-match") {
            Some(_) => page.status(304),
            None => page.header("Set-Cookie", &format!("session={}", request.number)),
        }
    });
    node.serve("/s/page", page);
    let proxy =
        Setup::before(&node).site(r#"route = [{ path = "/s/*", set_cookie = "strip" }]"#).start().await;
    for number in 1..=3 {
        let answer = proxy.get("/s/page").await.expect_status(200);
        assert_eq!((answer.text().as_str(), answer.headers("set-cookie").len()), ("page", 0), "{answer}");
        assert_eq!(node.count("/s/page"), number, "each visitor asks: {answer}");
    }
    assert_eq!(node.last("/s/page").header("if-none-match"), Some("\"1\""));
}

#[tokio::test]
async fn uncacheable_urls_are_remembered_by_the_route() {
    let node = Node::start().await;
    node.serve("/quick/page", Page::text("mine").cache_control("private"));
    let proxy = Setup::before(&node)
        .cache(r#"uncacheable_ttl = "0s""#)
        .site(r#"route = [{ path = "/quick/*", uncacheable_ttl = "10m" }]"#)
        .start()
        .await;
    proxy.get("/quick/page").await.expect_status(200);
    let gate = Gate::closed();
    node.serve("/quick/page", Page::text("mine").cache_control("private").held_before_head(&gate));
    // All are at the node at once, although none of them has been answered.
    let crowd = proxy.crowd(5, &Request::get("/quick/page"));
    gate.reached(5).await;
    gate.open();
    for answer in crowd.answers().await {
        assert_eq!((answer.status, answer.served()), (200, Served::Miss), "{answer}");
    }
}
