//! Stored pages in content codings: made once, chosen by what the client takes, and never in the way of ranges,
//! conditions and purges (RFC 9110 sections 8.4, 12.5.3, 13 and 14).

use clearcoat_tests::client::Answer;
use clearcoat_tests::purge::Counts;
use clearcoat_tests::{Gate, Load, Node, Page, Proxy, Request, Served, Setup, wait};

use crate::coded::{BROWSER, compressing, decoded, forms_made, get, html};

fn page(seed: usize) -> Page {
    Page::text(html(seed)).header("Content-Type", "text/html; charset=utf-8").fresh_for(600)
}

/// Asks until the page has its forms; then asks as told.
async fn ask_coded(proxy: &Proxy, request: &Request) -> Answer {
    let probe = get(request.target(), BROWSER);
    wait::until(&format!("{} to be compressed", request.target()), async || {
        let answer = proxy.ask(&probe).await;
        answer.header("content-encoding").is_some().then_some(())
    })
    .await;
    proxy.ask(request).await
}

#[tokio::test]
async fn each_client_gets_the_coding_it_likes_best() {
    let node = Node::start().await;
    node.serve("/a", page(1).header("ETag", "\"v1\""));
    let proxy = compressing(&node).await;
    let mut sizes = Vec::new();
    for coding in ["gzip", "br", "zstd"] {
        sizes.push((ask_coded(&proxy, &get("/a", coding)).await.body.len(), coding));
    }
    let (_, smallest) = *sizes.iter().min().unwrap();
    for (accepted, expected) in [
        (BROWSER, Some(smallest)),
        ("br, zstd;q=1, gzip;q=1.000", Some(smallest)),
        ("gzip, deflate", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("zstd", Some("zstd")),
        ("br;q=0, gzip, zstd;q=0", Some("gzip")),
        ("gzip;q=1.0, br;q=0.5", Some("gzip")),
        ("gzip;q=0.2, zstd;q=0.9, br;q=0.3", Some("zstd")),
        ("*", Some(smallest)),
        ("br;q=0.0, zstd;q=0, *;q=0.1", Some("gzip")),
        ("identity;q=0, *", Some(smallest)),
        ("", None),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("*;q=0", None),
    ] {
        let answer = ask_coded(&proxy, &get("/a", accepted)).await.expect_status(200);
        assert_eq!(answer.header("content-encoding"), expected, "{accepted}: {answer}");
        assert_eq!(decoded(&answer), html(1), "{accepted}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "{answer}");
        assert_eq!(answer.headers("vary"), ["Accept-Encoding"], "{answer}");
        assert_eq!(answer.served(), Served::Hit, "{answer}");
        assert_eq!(
            answer.header("etag"),
            Some(if expected.is_some() { "W/\"v1\"" } else { "\"v1\"" }),
            "{answer}"
        );
        if expected.is_some() {
            assert!(answer.body.len() < html(1).len() / 3, "{answer}");
        }
    }
    assert_eq!(node.count("/a"), 1, "all of them are one page");
    assert_eq!(proxy.metrics().await.sum("clearcoat_cache_entries", &[]), 1.0);
}

#[tokio::test]
async fn the_first_answer_is_plain_and_says_that_it_varies() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/streamed", page(1).chunked().held_in_body(2_000, &gate));
    node.serve("/whole", page(2));
    let proxy = compressing(&node).await;
    let mut visitor = proxy.connect().await;
    visitor.send(get("/streamed", BROWSER).to_bytes()).await.unwrap();
    let head = visitor.head("GET").await.unwrap();
    assert_eq!((head.header("vary"), head.header("content-encoding")), (Some("Accept-Encoding"), None));
    gate.open();
    assert_eq!(visitor.rest(head).await.unwrap().text(), html(1));
    let whole = proxy.ask(&get("/whole", BROWSER)).await;
    assert_eq!((whole.header("vary"), whole.header("content-encoding")), (Some("Accept-Encoding"), None));
    for (path, text) in [("/streamed", html(1)), ("/whole", html(2))] {
        let answer = ask_coded(&proxy, &get(path, "gzip")).await;
        assert_eq!((answer.header("content-encoding"), decoded(&answer)), (Some("gzip"), text));
    }
}

#[tokio::test]
async fn vary_is_merged_and_variants_stay_the_nodes_own() {
    let node = Node::start().await;
    let text = |request: &clearcoat_tests::node::Recorded| {
        format!("{} {}", request.header("accept-language").unwrap_or("-"), html(3))
    };
    let page = Page::written(text).header("Content-Type", "text/html").fresh_for(600);
    node.serve("/languages", page.clone().header("Vary", "Accept-Language"));
    node.serve("/both", page.clone().header("Vary", "Accept-Language").header("Vary", "ACCEPT-encoding"));
    let proxy = compressing(&node).await;
    for (path, vary, fetches) in
        [("/languages", "Accept-Language, Accept-Encoding", 2), ("/both", "Accept-Language", 4)]
    {
        for language in ["de", "fr"] {
            for accepted in [BROWSER, "gzip"] {
                let request = get(path, accepted).header("Accept-Language", language);
                let answer = wait::until("a coded variant", async || {
                    let answer = proxy.ask(&request).await;
                    answer.header("content-encoding").is_some().then_some(answer)
                })
                .await;
                assert_eq!(decoded(&answer), format!("{language} {}", html(3)), "{path}");
                assert_eq!(answer.headers("vary")[0], vary, "{path}: {answer}");
                if accepted == "gzip" {
                    assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path}: {answer}");
                }
            }
        }
        assert_eq!(node.count(path), fetches, "{path}");
    }
}

#[tokio::test]
async fn a_head_tells_what_a_get_would_bring() {
    let node = Node::start().await;
    node.serve("/a", page(4).header("ETag", "\"v1\""));
    let proxy = compressing(&node).await;
    for accepted in ["br", "gzip", "zstd", "identity"] {
        let got = ask_coded(&proxy, &get("/a", accepted)).await;
        let head =
            proxy.ask(&Request::head("/a").header("Accept-Encoding", accepted)).await.expect_status(200);
        assert!(head.body.is_empty());
        for name in ["content-encoding", "content-length", "content-type", "etag", "vary", "date"] {
            assert_eq!(head.header(name), got.header(name), "{accepted}: {name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_any_form_has_the_page() {
    let node = Node::start().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    node.serve("/strong", page(5).header("ETag", "\"v1\"").header("Last-Modified", date));
    node.serve("/weak", page(6).header("ETag", "W/\"v1\""));
    let proxy = compressing(&node).await;
    for (path, plain_tag) in [("/strong", "\"v1\""), ("/weak", "W/\"v1\"")] {
        for (accepted, tag) in [("gzip", "W/\"v1\""), ("br", "W/\"v1\""), ("", plain_tag)] {
            for known in ["\"v1\"", "W/\"v1\"", "\"v0\", W/\"v1\"", "*"] {
                let request = get(path, accepted).header("If-None-Match", known);
                let answer = ask_coded(&proxy, &request).await.expect_status(304);
                assert_eq!(answer.header("etag"), Some(tag), "{accepted}, {known}: {answer}");
                assert_eq!(answer.headers("vary"), ["Accept-Encoding"], "{answer}");
                for name in ["content-encoding", "content-length", "content-type"] {
                    assert_eq!(answer.header(name), None, "{answer}");
                }
            }
            let other = ask_coded(&proxy, &get(path, accepted).header("If-None-Match", "\"v2\"")).await;
            assert_eq!((other.status, decoded(&other)), (200, html(if path == "/weak" { 6 } else { 5 })));
        }
    }
    let since = get("/strong", "gzip").header("If-Modified-Since", date);
    ask_coded(&proxy, &since).await.expect_status(304);
}

#[tokio::test]
async fn ranges_are_of_the_plain_text() {
    let node = Node::start().await;
    node.serve("/a", page(7).header("ETag", "\"v1\"").header("Accept-Ranges", "bytes"));
    let proxy = compressing(&node).await;
    let part = ask_coded(&proxy, &get("/a", BROWSER).header("Range", "bytes=10-99")).await.expect_status(206);
    assert_eq!(part.text(), html(7)[10..100]);
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 10-99/{}", html(7).len())), "{part}");
    assert_eq!((part.header("content-encoding"), part.header("etag")), (None, Some("\"v1\"")), "{part}");
    assert_eq!(part.header("vary"), Some("Accept-Encoding"), "{part}");
    let beyond = get("/a", BROWSER).header("Range", "bytes=999999-");
    let beyond = proxy.ask(&beyond).await.expect_status(416);
    assert_eq!(beyond.header("content-range"), Some(&*format!("bytes */{}", html(7).len())));
    for (condition, status) in [("\"v1\"", 206), ("W/\"v1\"", 200), ("\"v2\"", 200)] {
        let request = get("/a", "gzip").header("Range", "bytes=0-9").header("If-Range", condition);
        let answer = proxy.ask(&request).await.expect_status(status);
        let coding = if status == 206 { None } else { Some("gzip") };
        assert_eq!(answer.header("content-encoding"), coding, "If-Range: {condition}: {answer}");
        if status == 200 {
            assert_eq!(decoded(&answer), html(7));
        }
    }
    // A 304 names what would have been sent: here the part of the plain text.
    let known = get("/a", "gzip").header("Range", "bytes=0-9").header("If-None-Match", "\"v1\"");
    assert_eq!(proxy.ask(&known).await.expect_status(304).header("etag"), Some("\"v1\""));
    // A form offers no ranges of itself, and who takes no plain text gets none.
    let coded = proxy.ask(&get("/a", "gzip")).await;
    assert_eq!(coded.header("accept-ranges"), None, "{coded}");
    let strict = get("/a", "gzip, identity;q=0").header("Range", "bytes=0-9");
    let strict = proxy.ask(&strict).await.expect_status(200);
    assert_eq!((strict.header("content-encoding"), decoded(&strict)), (Some("gzip"), html(7)));
}

#[tokio::test]
async fn what_is_not_to_be_compressed_stays_as_it_is() {
    let node = Node::start().await;
    let text = |kind: &str| Page::text(html(8)).header("Content-Type", kind).fresh_for(600);
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(20_000)
    .collect();
    let pages = [
        ("/small", Page::text("x".repeat(1000)).header("Content-Type", "text/plain").fresh_for(600), false),
        ("/large", Page::text("x".repeat(3000)).header("Content-Type", "text/plain").fresh_for(600), true),
        (
            "/too-large",
            Page::text("x".repeat(40_000)).header("Content-Type", "text/plain").fresh_for(600),
            false,
        ),
        ("/image", text("image/png"), false),
        ("/untyped", Page::text(html(8)).fresh_for(600), false),
        ("/multipart", text("multipart/mixed; boundary=x"), false),
        ("/json", text("application/problem+json; charset=utf-8"), true),
        (
            "/no-transform",
            Page::text(html(8))
                .header("Content-Type", "text/html")
                .cache_control("max-age=600, No-Transform"),
            false,
        ),
        ("/not-found", text("text/html").status(404), false),
        (
            "/coded",
            text("text/html").header("Content-Encoding", "br").header("Vary", "Accept-Encoding"),
            false,
        ),
        ("/noise", Page::text(noise.clone()).header("Content-Type", "text/plain").fresh_for(600), false),
    ];
    for (path, page, _) in &pages {
        node.serve(path, page.clone());
    }
    // A type of everything, so that only the rules of this test decide about multipart bodies.
    let keys = "[cache.compress]\nenabled = true\nmax_size = \"32KiB\"\ntypes = [\"text/*\", \"application/*+json\", \"multipart/*\"]";
    let proxy = Setup::before(&node).more(keys).start().await;
    for (path, _, expected) in &pages {
        proxy.ask(&get(path, BROWSER)).await;
        if *expected {
            let answer = ask_coded(&proxy, &get(path, "gzip")).await;
            assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path}: {answer}");
        }
    }
    // Jobs are made in order: this one is the last, so all that were asked for before are done.
    node.serve("/last", page(9));
    ask_coded(&proxy, &get("/last", BROWSER)).await;
    for (path, page, expected) in &pages {
        let answer = proxy.ask(&get(path, BROWSER)).await;
        assert_eq!(answer.served(), Served::Hit, "{path}: {answer}");
        if !expected {
            let own = if *path == "/coded" { Some("br") } else { None };
            assert_eq!(answer.header("content-encoding"), own, "{path}: {answer}");
        }
        if *path == "/noise" {
            assert_eq!(answer.body, noise);
        }
        let varies = *expected || ["/noise", "/coded"].contains(path);
        assert_eq!(answer.header("vary").is_some(), varies, "{path}: {answer}\n{page:?}");
    }
}

#[tokio::test]
async fn routes_and_sites_choose_and_by_default_nothing_is_touched() {
    let node = Node::start().await;
    for path in ["/a", "/plain/a"] {
        node.serve(path, page(1));
    }
    let off = Proxy::before(&node).await;
    for _ in 0..3 {
        let answer = off.ask(&get("/a", BROWSER)).await;
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None), "{answer}");
    }
    let rules = "compress = true\n[[site.route]]\npath = \"/plain/*\"\ncompress = false";
    let on = Setup::before(&node).site(rules).more("[cache.compress]\ncodings = [\"gzip\"]").start().await;
    on.ask(&get("/plain/a", BROWSER)).await;
    let answer = ask_coded(&on, &get("/a", BROWSER)).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"), "the only one that is made: {answer}");
    let plain = on.ask(&get("/plain/a", BROWSER)).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, None), "{plain}");
    assert_eq!(forms_made(&on, "br").await + forms_made(&on, "zstd").await, 0.0);
}

#[tokio::test]
async fn purges_take_every_form_and_count_one_page() {
    let node = Node::start().await;
    node.serve("/a", page(1).tags("l42"));
    let grace = "[cache.compress]\nenabled = true";
    let proxy = Setup::before(&node).cache("grace = \"10m\"").more(grace).start().await;
    ask_coded(&proxy, &get("/a", "gzip")).await;
    node.serve("/a", page(2).tags("l42"));
    assert_eq!(proxy.purge_tags("l42").await, Counts { purged: 1, expired: 0 });
    let metrics = proxy.metrics().await;
    for gauge in ["clearcoat_cache_entries", "clearcoat_cache_bytes", "clearcoat_cache_encoded_bytes"] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
    for accepted in ["gzip", "br", "zstd", ""] {
        assert_eq!(decoded(&proxy.ask(&get("/a", accepted)).await), html(2), "{accepted}");
    }
    // A soft purge leaves the forms to grace, where they are served as they were.
    ask_coded(&proxy, &get("/a", "gzip")).await;
    let gate = Gate::closed();
    node.serve("/a", page(3).tags("l42").held_before_head(&gate));
    assert_eq!(proxy.soft_purge_tags("l42").await, Counts { purged: 0, expired: 1 });
    let stale = proxy.ask(&get("/a", "br")).await;
    assert_eq!((stale.served(), stale.header("content-encoding")), (Served::Grace, Some("br")), "{stale}");
    assert_eq!(decoded(&stale), html(2));
    gate.open();
    wait::until("the new page in gzip", async || {
        let answer = proxy.ask(&get("/a", "gzip")).await;
        let text = decoded(&answer);
        assert!(text == html(2) || text == html(3));
        (text == html(3) && answer.header("content-encoding") == Some("gzip")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_crowd_is_served_from_one_compression() {
    let node = Node::start().await;
    node.serve("/a", page(1));
    let proxy = compressing(&node).await;
    for round in 0..3 {
        for answer in proxy.crowd(500, &get("/a", BROWSER)).answers().await {
            assert_eq!(decoded(&answer), html(1), "round {round}");
        }
    }
    ask_coded(&proxy, &get("/a", BROWSER)).await;
    let answers = proxy.crowd(100, &get("/a", BROWSER)).answers().await;
    assert!(answers.iter().all(|answer| answer.header("content-encoding").is_some()));
    for coding in ["gzip", "br", "zstd"] {
        assert_eq!(forms_made(&proxy, coding).await, 1.0, "{coding}");
    }
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_limits_total", &[("limit", "encode_queue")]), 0.0);
    assert_eq!(metrics.sum("clearcoat_cache_encoded_entries", &[]), 1.0);
    assert!(metrics.sum("clearcoat_cache_encoded_bytes", &[]) > 1000.0);
    assert!(metrics.sum("clearcoat_encoded_saved_bytes_total", &[]) > 20_000.0);
    assert!(metrics.sum("clearcoat_encode_seconds_total", &[]) > 0.0);
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn what_only_plain_clients_want_is_never_compressed() {
    let node = Node::start().await;
    node.serve("/plain", page(1));
    node.serve("/coded", page(2));
    let proxy = compressing(&node).await;
    for accepted in ["", "identity", "gzip;q=0", "deflate"] {
        proxy.ask(&get("/plain", accepted)).await;
        proxy.ask(&get("/plain", accepted)).await;
    }
    ask_coded(&proxy, &get("/coded", BROWSER)).await;
    assert_eq!(forms_made(&proxy, "gzip").await, 1.0);
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_compressed_again() {
    let node = Node::start().await;
    node.serve(
        "/a",
        Page::composed(|request| {
            let page = if request.header("if-none-match") == Some("\"v1\"") {
                Page::text("").status(304).header("Cache-Control", "max-age=600, public")
            } else {
                page(1).header("ETag", "\"v1\"").header("Vary", "Accept-Language")
            };
            page.header("X-Round", &request.number.to_string()).tags("l1")
        }),
    );
    let proxy = compressing(&node).await;
    for round in 1..4 {
        let answer = ask_coded(&proxy, &get("/a", "gzip")).await;
        assert_eq!(
            (answer.header("content-encoding"), decoded(&answer)),
            (Some("gzip"), html(1)),
            "{answer}"
        );
        assert_eq!(
            answer.header("x-round"),
            Some(&*round.to_string()),
            "the lines are the new ones: {answer}"
        );
        assert_eq!(answer.headers("vary"), ["Accept-Language, Accept-Encoding"], "{answer}");
        assert_eq!(answer.header("etag"), Some("W/\"v1\""), "{answer}");
        // Its freshness over, the next visitor has it asked after.
        assert_eq!(proxy.soft_purge_tags("l1").await, Counts { purged: 0, expired: 1 });
        let asked = proxy.ask(&get("/a", "")).await;
        assert_eq!(asked.cache_parameter("fwd-status").as_deref(), Some("304"), "{asked}");
        assert_eq!(
            (asked.text(), asked.headers("vary")),
            (html(1), vec!["Accept-Language, Accept-Encoding"])
        );
        let next = proxy.ask(&get("/a", "br")).await;
        assert_eq!(
            (next.served(), next.header("content-encoding")),
            (Served::Hit, Some("br")),
            "at once: {next}"
        );
    }
    for coding in ["gzip", "br", "zstd"] {
        assert_eq!(forms_made(&proxy, coding).await, 1.0, "{coding}");
    }
    // What the node varies on is what it said, not what was added for the clients.
    assert_eq!(node.count("/a"), 4);
}

#[tokio::test]
async fn forms_live_within_the_budget() {
    let node = Node::start().await;
    node.serve_everything(page(1).tags("c1"));
    let keys = "[cache.compress]\nenabled = true";
    let proxy = Setup::before(&node).cache("memory = \"4MiB\"").more(keys).start().await;
    let pages: Vec<_> = (0..2000).map(|number| (get(&format!("/{}", number % 700), BROWSER), None)).collect();
    let report = Load::once(proxy.address(), 4, pages).finish().await;
    assert_eq!(report.failures(), 0, "{report}");
    let metrics = proxy.metrics().await;
    let bytes = metrics.sum("clearcoat_cache_bytes", &[]);
    assert!(bytes <= metrics.sum("clearcoat_cache_budget_bytes", &[]), "{bytes}");
    assert!(metrics.sum("clearcoat_cache_evictions_total", &[]) > 0.0);
    // The compressor takes its time, and what it finds may be gone by then; a page that stays gets its forms.
    wait::until("forms to be there", async || {
        proxy.ask(&get("/1", BROWSER)).await.expect_status(200);
        (proxy.metrics().await.sum("clearcoat_cache_encoded_bytes", &[]) > 0.0).then_some(())
    })
    .await;
    // Nothing is left on the books of what is gone.
    proxy.purge_tags("c1").await;
    wait::until("the books to be empty", async || {
        let metrics = proxy.metrics().await;
        let left =
            ["clearcoat_cache_bytes", "clearcoat_cache_encoded_bytes", "clearcoat_cache_encoded_entries"]
                .map(|name| metrics.sum(name, &[]));
        (left == [0.0; 3]).then_some(())
    })
    .await;
}
