//! What is kept, for how long, and for whom (RFC 9111, RFC 9211).

use clearcoat_tests::{Node, Page, Proxy, Request, Served, Setup};

/// What becomes of an answer's second request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kept {
    Yes,
    No,
}
use Kept::{No, Yes};

/// Asks twice and tells whether the second answer came from memory.
async fn is_kept(proxy: &Proxy, node: &Node, path: &str) -> Kept {
    let first = proxy.get(path).await;
    assert_eq!(first.served(), Served::Miss, "{path}: {first}");
    let second = proxy.get(path).await;
    let kept = second.served() == Served::Hit;
    assert_eq!(first.was_stored(), kept, "{path}: what was said and what was done differ: {first}\n{second}");
    assert_eq!(node.count(path), if kept { 1 } else { 2 }, "{path}");
    assert_eq!(
        (second.status, &second.body),
        (first.status, if kept { &first.body } else { &second.body }),
        "{path}"
    );
    if kept { Yes } else { No }
}

#[tokio::test]
async fn a_miss_then_hits() {
    let node = Node::with_pages([("/a", "l42")]).await;
    let proxy = Proxy::before(&node).await;
    let miss = proxy.get("/a").await.expect_status(200);
    assert_eq!(
        (miss.served(), miss.was_stored(), miss.text().as_str()),
        (Served::Miss, true, "/a 1"),
        "{miss}"
    );
    let hit = proxy.get("/a").await.expect_status(200);
    assert_eq!((hit.served(), hit.text().as_str()), (Served::Hit, "/a 1"), "{hit}");
    let ttl: i64 = hit.cache_parameter("ttl").expect("a hit tells its time").parse().unwrap();
    assert!((55..=60).contains(&ttl), "{hit}");
    assert!(hit.age().is_some_and(|age| age <= 5), "{hit}");
    assert!(hit.header("date").is_some(), "{hit}");
    assert_eq!(hit.header("content-length"), Some("4"), "{hit}");
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn tag_headers_never_reach_visitors() {
    let node = Node::start().await;
    let tagged = Page::text("a")
        .fresh_for(60)
        .header("xkey", "c1")
        .header("X-Cache-Tags", "c2")
        .header("Surrogate-Key", "c3")
        .header("Cache-Tag", "c4")
        .header("X-Other", "stays");
    node.serve("/kept", tagged.clone());
    node.serve("/not-kept", tagged.header("Set-Cookie", "a=b"));
    let proxy = Proxy::before(&node).await;
    for path in ["/kept", "/kept", "/not-kept", "/not-kept"] {
        let answer = proxy.get(path).await;
        for name in ["xkey", "x-cache-tags", "surrogate-key", "cache-tag"] {
            assert_eq!(answer.header(name), None, "{path}: {answer}");
        }
        assert_eq!(answer.header("x-other"), Some("stays"), "{answer}");
    }
}

#[tokio::test]
async fn cache_control_decides() {
    let node = Node::start().await;
    let pages = [
        ("max-age", Page::text("x").cache_control("max-age=60"), Yes),
        ("public", Page::text("x").cache_control("public, max-age=60"), Yes),
        ("s-maxage", Page::text("x").cache_control("s-maxage=60"), Yes),
        ("s-maxage-over-max-age", Page::text("x").cache_control("max-age=0, s-maxage=60"), Yes),
        ("max-age-under-s-maxage", Page::text("x").cache_control("max-age=60, s-maxage=0"), No),
        (
            "over-expires",
            Page::text("x").cache_control("max-age=60").header("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
            Yes,
        ),
        ("expires", Page::text("x").header("Expires", "Fri, 01 Jan 2100 00:00:00 GMT"), Yes),
        ("expired", Page::text("x").header("Expires", "Thu, 01 Jan 1970 00:00:00 GMT"), No),
        ("expires-malformed", Page::text("x").header("Expires", "0"), No),
        ("nothing-said", Page::text("x"), No),
        ("two-lines", Page::text("x").cache_control("public").cache_control("max-age=60"), Yes),
        ("huge", Page::text("x").cache_control("max-age=99999999999999999999"), Yes),
        ("zero", Page::text("x").cache_control("max-age=0"), No),
        ("malformed", Page::text("x").cache_control("max-age=a minute"), No),
        ("no-store", Page::text("x").cache_control("max-age=60, no-store"), No),
        ("no-cache", Page::text("x").cache_control("max-age=60, no-cache"), No),
        ("private", Page::text("x").cache_control("private, max-age=60"), No),
        ("capitals", Page::text("x").cache_control("No-Store, Max-Age=60"), No),
        ("set-cookie", Page::text("x").cache_control("public, s-maxage=600").header("Set-Cookie", "s=1"), No),
        ("vary-star", Page::text("x").fresh_for(60).header("Vary", "*"), No),
        ("not-found", Page::text("x").status(404).fresh_for(60), Yes),
        ("moved", Page::text("x").status(301).header("Location", "/").fresh_for(60), Yes),
        ("found", Page::text("x").status(302).header("Location", "/").fresh_for(60), Yes),
        ("broken", Page::text("x").status(500).no_store(), No),
        ("empty", Page::text("").fresh_for(60), Yes),
        ("chunked", Page::text("x").fresh_for(60).chunked(), Yes),
        ("aged-out", Page::text("x").fresh_for(60).header("Age", "60"), No),
        ("aged", Page::text("x").fresh_for(60).header("Age", "30"), Yes),
    ];
    for (name, page, _) in &pages {
        node.serve(&format!("/{name}"), page.clone());
    }
    let proxy = Proxy::before(&node).await;
    for (name, _, expected) in pages {
        assert_eq!(is_kept(&proxy, &node, &format!("/{name}")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_default_ttl_helps_pages_that_say_nothing() {
    let node = Node::start().await;
    node.serve("/silent", Page::text("x"));
    node.serve("/private", Page::text("x").cache_control("private"));
    let proxy = Setup::before(&node).cache(r#"default_ttl = "60s""#).start().await;
    assert_eq!(is_kept(&proxy, &node, "/silent").await, Yes);
    assert_eq!(is_kept(&proxy, &node, "/private").await, No);
}

#[tokio::test]
async fn a_session_is_never_handed_to_another_visitor() {
    let node = Node::start().await;
    let page = Page::composed(|request| {
        Page::text(format!("visitor {}", request.number))
            .cache_control("public, s-maxage=600")
            .header("Set-Cookie", &format!("eZSESSID={}; path=/", request.number))
    });
    node.serve("/login", page);
    let proxy = Proxy::before(&node).await;
    for number in 1..=5 {
        let answer = proxy.get("/login").await.expect_status(200);
        assert_eq!(answer.text(), format!("visitor {number}"), "{answer}");
        assert_eq!(answer.headers("set-cookie"), [format!("eZSESSID={number}; path=/")], "{answer}");
    }
}

#[tokio::test]
async fn a_page_ages_and_expires() {
    let node = Node::start().await;
    // The node says that its page is 58 s old, so one or two seconds are left of its minute.
    node.serve("/old", Page::numbered("old").fresh_for(60).header("Age", "58"));
    let proxy = Proxy::before(&node).await;
    let first = proxy.get("/old").await;
    assert!(first.was_stored(), "{first}");
    let hit = proxy.get("/old").await;
    assert_eq!((hit.served(), hit.text().as_str()), (Served::Hit, "old 1"), "{hit}");
    assert!(hit.age().is_some_and(|age| age >= 58), "upstream's age counts: {hit}");
    let later = clearcoat_tests::wait::until("the page to expire", async || {
        let answer = proxy.get("/old").await;
        (answer.text() != "old 1").then_some(answer)
    })
    .await;
    assert_eq!((later.served(), later.text().as_str()), (Served::Miss, "old 2"), "{later}");
}

#[tokio::test]
async fn grace_serves_the_old_page_while_one_request_fetches() {
    let node = Node::start().await;
    node.serve("/a", Page::numbered("a").fresh_for(1));
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.get("/a").await;
    proxy.a_second_later().await;
    let stale = proxy.get("/a").await;
    assert_eq!((stale.served(), stale.text().as_str()), (Served::Grace, "a 1"), "{stale}");
    clearcoat_tests::wait::until_true("one refresh in the background", || node.count("/a") == 2).await;
    clearcoat_tests::wait::until("the new page", async || {
        (proxy.get("/a").await.text() == "a 2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn stale_while_revalidate_sets_the_grace() {
    let node = Node::start().await;
    node.serve("/with", Page::numbered("with").cache_control("max-age=1, stale-while-revalidate=60"));
    node.serve("/without", Page::numbered("without").cache_control("max-age=1"));
    let proxy = Proxy::before(&node).await;
    proxy.get("/with").await;
    proxy.get("/without").await;
    proxy.a_second_later().await;
    let with = proxy.get("/with").await;
    assert_eq!((with.served(), with.text().as_str()), (Served::Grace, "with 1"), "{with}");
    let without = proxy.get("/without").await;
    assert_eq!((without.served(), without.text().as_str()), (Served::Miss, "without 2"), "{without}");
}

#[tokio::test]
async fn the_old_page_is_served_when_no_node_answers() {
    let mut node = Node::start().await;
    node.serve("/a", Page::numbered("a").fresh_for(1));
    let proxy = Setup::before(&node).cache(r#"grace = "60s""#).start().await;
    proxy.get("/a").await;
    node.stop().await;
    proxy.a_second_later().await;
    for _ in 0..20 {
        let stale = proxy.get("/a").await.expect_status(200);
        assert_eq!((stale.served(), stale.text().as_str()), (Served::Grace, "a 1"), "{stale}");
    }
}

#[tokio::test]
async fn vary_keeps_variants_apart() {
    let node = Node::start().await;
    let page = Page::written(|request| format!("in {}", request.header("accept-language").unwrap_or("none")));
    node.serve("/a", page.fresh_for(60).header("Vary", "Accept-Language"));
    let proxy = Proxy::before(&node).await;
    let french = Request::get("/a").header("Accept-Language", "fr");
    let german = Request::get("/a").header("Accept-Language", "de");
    let none = Request::get("/a");
    for (request, body) in [(&french, "in fr"), (&german, "in de"), (&none, "in none")] {
        let miss = proxy.ask(request).await;
        assert_eq!((miss.served(), miss.text().as_str()), (Served::Miss, body), "{miss}");
    }
    for (request, body) in [(&none, "in none"), (&french, "in fr"), (&german, "in de")] {
        let hit = proxy.ask(request).await;
        assert_eq!((hit.served(), hit.text().as_str()), (Served::Hit, body), "{hit}");
    }
    assert_eq!(node.count("/a"), 3);
}

#[tokio::test]
async fn vary_on_a_cookie_keeps_users_apart() {
    let node = Node::start().await;
    let page = Page::written(|request| format!("for {}", request.header("cookie").unwrap_or("nobody")));
    node.serve("/a", page.fresh_for(60).header("Vary", "Cookie"));
    let proxy = Proxy::before(&node).await;
    for user in ["u=1", "u=2", "u=1", "u=2", "u=3"] {
        let answer = proxy.ask(&Request::get("/a").header("Cookie", user)).await;
        assert_eq!(answer.text(), format!("for {user}"), "{answer}");
    }
    assert_eq!(node.count("/a"), 3);
}

#[tokio::test]
async fn variants_of_one_url_are_capped() {
    let node = Node::start().await;
    node.serve("/a", Page::text("x").fresh_for(60).header("Vary", "User-Agent"));
    let proxy = Setup::before(&node).cache("max_variants = 8").start().await;
    for number in 0..100 {
        proxy
            .ask(&Request::get("/a").header("User-Agent", &format!("agent {number}")))
            .await
            .expect_status(200);
    }
    let entries = proxy.metrics().await.sum("clearcoat_cache_entries", &[]);
    assert!(entries <= 9.0, "{entries} variants are kept where 8 are allowed");
}

#[tokio::test]
async fn the_key_is_host_and_url() {
    let node = Node::start().await;
    let page =
        Page::written(|request| format!("{} {}", request.header("host").unwrap_or("-"), request.target));
    node.serve_everything(page.fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let ask = async |host: &str, target: &str| proxy.ask(&Request::get(target).host(host)).await;
    for (host, target) in [
        ("a.example.com", "/x"),
        ("b.example.com", "/x"),
        ("a.example.com:8080", "/x"),
        ("a.example.com", "/X"),
        ("a.example.com", "/x?"),
        ("a.example.com", "/x?y=1"),
        ("a.example.com", "/x?y=2"),
        ("a.example.com", "/x/"),
    ] {
        let answer = ask(host, target).await;
        assert_eq!((answer.served(), answer.text()), (Served::Miss, format!("{host} {target}")), "{answer}");
    }
    // The same thing written otherwise (RFC 9110 section 4.2.3: host in any case, the scheme's own port).
    for host in ["A.Example.COM", "a.example.com:80"] {
        let answer = ask(host, "/x").await;
        assert_eq!(
            (answer.served(), answer.text().as_str()),
            (Served::Hit, "a.example.com /x"),
            "{host}: {answer}"
        );
    }
}

#[tokio::test]
async fn an_absolute_target_is_the_same_page() {
    let node = Node::start().await;
    node.serve_everything(Page::written(|request| request.target.clone()).fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let absolute =
        proxy.ask(&Request::get("http://a.example.com/x?y").host("a.example.com")).await.expect_status(200);
    assert_eq!(absolute.text(), "/x?y", "the node sees a path: {absolute}");
    let plain = proxy.ask(&Request::get("/x?y").host("a.example.com")).await;
    assert_eq!(plain.served(), Served::Hit, "{plain}");
}

#[tokio::test]
async fn head_is_answered_from_the_page_of_a_get() {
    let node = Node::start().await;
    node.serve("/a", Page::text("twelve bytes").fresh_for(60).header("X-Here", "1"));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let mut visitor = proxy.connect().await;
    let head = visitor.ask(&Request::head("/a")).await.expect_status(200);
    assert_eq!((head.served(), head.body.len()), (Served::Hit, 0), "{head}");
    assert_eq!((head.header("content-length"), head.header("x-here")), (Some("12"), Some("1")), "{head}");
    // Nothing of a body is left on the connection.
    assert_eq!(visitor.get("/a").await.text(), "twelve bytes");
    assert_eq!(node.total(), 1);
}

#[tokio::test]
async fn a_cold_head_does_not_spoil_the_page() {
    let node = Node::start().await;
    node.serve("/a", Page::text("twelve bytes").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let head = proxy.ask(&Request::head("/a")).await.expect_status(200);
    assert_eq!((head.body.len(), head.header("content-length")), (0, Some("12")), "{head}");
    for _ in 0..2 {
        assert_eq!(proxy.get("/a").await.expect_status(200).text(), "twelve bytes");
    }
}

#[tokio::test]
async fn ranges_give_the_right_bytes_cold_and_warm() {
    let node = Node::start().await;
    node.serve("/a", Page::text("0123456789").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let whole = "0123456789";
    for round in ["cold", "warm"] {
        for (range, expected) in [
            ("bytes=0-3", "0123"),
            ("bytes=4-", "456789"),
            ("bytes=-2", "89"),
            ("bytes=2-2", "2"),
            ("bytes=0-99", whole),
        ] {
            let answer = proxy.ask(&Request::get("/a").header("Range", range)).await;
            // A server may ignore a range (RFC 9110 section 14.2), but never mix the two answers up.
            match answer.status {
                206 => {
                    let start = whole.find(expected).unwrap();
                    let content_range = format!("bytes {start}-{}/10", start + expected.len() - 1);
                    assert_eq!(
                        (answer.text().as_str(), answer.header("content-range")),
                        (expected, Some(content_range.as_str()))
                    );
                }
                200 => assert_eq!(
                    (answer.text().as_str(), answer.header("content-range")),
                    (whole, None),
                    "{round} {range}"
                ),
                status => panic!("{round} {range}: {status}: {answer}"),
            }
        }
        let answer = proxy.get("/a").await.expect_status(200);
        assert_eq!(answer.text(), whole, "{round}: {answer}");
    }
}

#[tokio::test]
async fn a_partial_answer_is_never_taken_for_the_page() {
    let node = Node::start().await;
    let page = Page::composed(|request| match request.header("range") {
        Some(_) => Page::text("0123").status(206).header("Content-Range", "bytes 0-3/10").fresh_for(60),
        None => Page::text("0123456789").fresh_for(60),
    });
    node.serve("/a", page);
    let proxy = Proxy::before(&node).await;
    for _ in 0..2 {
        let part = proxy.ask(&Request::get("/a").header("Range", "bytes=0-3")).await;
        assert!(matches!((part.status, part.text().as_str()), (206, "0123") | (200, "0123456789")), "{part}");
        assert_eq!(proxy.get("/a").await.expect_status(200).text(), "0123456789");
    }
}

#[tokio::test]
async fn ranges_are_cut_from_what_is_stored() {
    let node = Node::start().await;
    let page =
        Page::text("0123456789").header("Content-Type", "text/x").header("ETag", "\"v1\"").fresh_for(60);
    node.serve("/a", page);
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let mut visitor = proxy.connect().await;
    for (range, condition, status, content_range, body) in [
        ("bytes=2-4", None, 206, Some("bytes 2-4/10"), "234"),
        ("bytes=-3", Some("\"v1\""), 206, Some("bytes 7-9/10"), "789"),
        ("bytes=2-4", Some("\"v0\""), 200, None, "0123456789"),
        ("bytes=20-", None, 416, Some("bytes */10"), ""),
        ("lines=1-2", None, 200, None, "0123456789"),
    ] {
        let mut request = Request::get("/a").header("Range", range);
        if let Some(condition) = condition {
            request = request.header("If-Range", condition);
        }
        let answer = visitor.ask(&request).await;
        let seen = (answer.status, answer.header("content-range"), answer.text());
        assert_eq!(seen, (status, content_range, body.to_owned()), "{range}: {answer}");
        assert_eq!(answer.served(), Served::Hit, "{answer}");
    }
    let several = visitor.ask(&Request::get("/a").header("Range", "bytes=0-1,8-9")).await.expect_status(206);
    let boundary = several.header("content-type").and_then(|kind| kind.split_once("boundary=")).unwrap().1;
    let part = |range: &str, text: &str| {
        format!("\r\n--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {range}/10\r\n\r\n{text}")
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89"));
    assert_eq!(several.text(), expected);
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn what_a_post_changes_is_fetched_anew() {
    let node = Node::start().await;
    for path in ["/a", "/b", "/c"] {
        node.serve(path, Page::text("x").fresh_for(60));
    }
    node.serve("/move", Page::text("").status(303).header("Location", "/b").no_store());
    node.serve("/refuse", Page::text("").status(403).no_store());
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a", "/b", "/c"]).await;
    for path in ["/a", "/move", "/refuse"] {
        proxy.ask(&Request::post(path, "x")).await;
    }
    for (path, served) in [("/a", Served::Miss), ("/b", Served::Miss), ("/c", Served::Hit)] {
        assert_eq!(proxy.get(path).await.served(), served, "{path}");
    }
}

#[tokio::test]
async fn a_client_cannot_have_another_page_stored_under_a_url() {
    let node = Node::start().await;
    node.serve("/a", Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let names = [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-Host",
        "X-Host",
        "X-Forwarded-Scheme",
    ];
    let request = names.iter().fold(Request::get("/a"), |request, name| request.header(name, "/evil"));
    proxy.ask(&request).await.expect_status(200);
    let seen = node.last("/a");
    for name in names {
        assert!(!seen.headers(name).contains(&"/evil"), "{name}");
    }
}

#[tokio::test]
async fn a_failing_node_is_covered_by_what_may_be_served_on_error() {
    let node = Node::start().await;
    let page = |text: &'static str, control: &'static str| Page::text(text).tags("t1").cache_control(control);
    node.serve("/kept", page("old", "max-age=60, stale-if-error=600"));
    node.serve("/plain", page("old", "max-age=60"));
    node.serve("/strict", page("old", "max-age=60, must-revalidate"));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/kept", "/plain", "/strict"]).await;
    // An error page hides nothing unless it may; no answer at all is covered unless that is forbidden.
    let error = Page::text("").status(500);
    let silence = Page::text("").close_before_head();
    for (failure, covered) in [(error, ["/kept"].as_slice()), (silence, ["/kept", "/plain"].as_slice())] {
        for path in ["/kept", "/plain", "/strict"] {
            node.serve(path, failure.clone());
        }
        proxy.soft_purge_tags("t1").await;
        for path in ["/kept", "/plain", "/strict"] {
            let answer = proxy.get(path).await;
            assert_eq!(answer.status == 200, covered.contains(&path), "{path}: {answer}");
        }
    }
    node.serve("/kept", page("new", "max-age=60"));
    assert_eq!(proxy.get("/kept").await.text(), "new");
}

#[tokio::test]
async fn what_is_said_to_caches_alone_is_heard_and_kept_from_visitors() {
    let node = Node::start().await;
    let private = || Page::text("x").cache_control("max-age=0");
    node.serve("/surrogate", private().header("Surrogate-Control", "max-age=60"));
    node.serve("/targeted", private().header("CDN-Cache-Control", "max-age=60"));
    node.serve("/ttl", private().header("X-Reverse-Proxy-TTL", "60"));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/surrogate", "/targeted", "/ttl"]).await;
    assert_eq!(proxy.get("/surrogate").await.header("surrogate-control"), None);
    assert_eq!(proxy.get("/ttl").await.header("x-reverse-proxy-ttl"), None);
    assert_eq!(proxy.get("/targeted").await.header("cdn-cache-control"), Some("max-age=60"));
    assert_eq!(proxy.get("/ttl").await.header("cache-control"), Some("max-age=0"));
}

#[tokio::test]
async fn the_longest_tag_lists_fit() {
    let node = Node::start().await;
    let line =
        |from: usize, to: usize| (from..to).map(|id| format!("content-{id}")).collect::<Vec<_>>().join(" ");
    node.serve("/one-line", Page::text("x").fresh_for(60).header("xkey", &line(0, 1_500)));
    let many = (0..20).fold(Page::text("x").fresh_for(60), |page, number| {
        page.header("xkey", &line(number * 100, number * 100 + 100))
    });
    node.serve("/many-lines", many);
    let proxy = Proxy::before(&node).await;
    for path in ["/one-line", "/many-lines"] {
        assert_eq!(is_kept(&proxy, &node, path).await, Yes, "{path}");
        let counts = proxy.purge_tags("content-1499").await;
        assert_eq!(counts.purged, 1, "{path}");
    }
}

#[tokio::test]
async fn an_entry_larger_than_allowed_is_served_and_not_stored() {
    let node = Node::start().await;
    node.serve("/large", Page::text("x".repeat(300_000)).fresh_for(60));
    let proxy = Setup::before(&node).cache("max_entry = \"100KiB\"").start().await;
    for _ in 0..2 {
        let answer = proxy.get("/large").await.expect_status(200);
        assert_eq!(answer.body.len(), 300_000);
        assert_ne!(answer.served(), Served::Hit, "{answer}");
    }
    assert_eq!(node.count("/large"), 2);
}
