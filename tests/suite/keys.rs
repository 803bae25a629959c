//! What is one page and what are several: the query, cookies, parts of the key, normalised headers, and what a request says
//! itself about copies.

use clearcoat_tests::{Gate, Node, Page, Request, Served, Setup, wait};

/// A page that shows the request line and the headers that its node saw.
fn mirror() -> Page {
    Page::written(|request| {
        let headers: String =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{} {}\n{headers}", request.method, request.target).to_lowercase()
    })
    .fresh_for(60)
}

#[tokio::test]
async fn spellings_of_a_query_are_one_page() {
    let node = Node::start().await;
    node.serve_everything(mirror());
    let proxy =
        Setup::before(&node).site(r#"query = { sort = true, drop = ["utm_*", "gclid"] }"#).start().await;
    let first = proxy.get("/a?b=2&utm_source=x&a=1").await;
    assert!(first.was_stored() && first.text().starts_with("get /a?a=1&b=2\n"), "{first}");
    for target in ["/a?a=1&b=2", "/a?b=2&a=1&gclid=5", "/a?utm%5Fx=1&a=1&&b=2", "/a?b=2&%75tm_x&a=1&"] {
        assert_eq!(proxy.get(target).await.served(), Served::Hit, "{target}");
    }
    for target in ["/a?a=2&b=1", "/a?a=1&b=2&c", "/a?a=1;b=2", "/a?A=1&b=2", "/b?a=1&b=2", "/a?a=1&a=1&b=2"] {
        assert_eq!(proxy.get(target).await.served(), Served::Miss, "{target}");
    }
    assert_eq!(proxy.get("/b?utm_source=x").await.text().lines().next(), Some("get /b"));
    assert_eq!(proxy.get("/b").await.served(), Served::Hit, "nothing is left of an empty query");
    // A purge names the page, in whatever spelling.
    proxy.purge_url("/a?utm_term=1&b=2&a=1").await;
    assert_eq!(proxy.get("/a?a=1&b=2").await.served(), Served::Miss);
    // So does a request that changes it; that one goes to the node as it is.
    let posted = proxy.ask(&Request::post("/a?b=2&a=1&gclid=7", "x")).await;
    assert!(posted.text().starts_with("post /a?b=2&a=1&gclid=7\n"), "{posted}");
    assert_eq!(proxy.get("/a?a=1&b=2").await.served(), Served::Miss);
}

#[tokio::test]
async fn a_route_has_a_query_of_its_own() {
    let node = Node::start().await;
    node.serve_everything(mirror());
    let proxy = Setup::before(&node)
        .site(
            r#"query = { drop = ["x"] }
            [[site.route]]
            path = "/search"
            query = { keep = ["q", "page"] }
            [[site.route]]
            path = "/raw/*"
            query = {}
            [[site.route]]
            path = "/pass/*"
            cache = "pass""#,
        )
        .start()
        .await;
    for (asked, seen) in [
        ("/?x=1&y=2", "/?y=2"),
        ("/search?x=1&page=2&q=a", "/search?page=2&q=a"),
        ("/pass/?x=1", "/pass/?x=1"),
    ] {
        let answer = proxy.get(asked).await;
        assert_eq!(answer.text().lines().next(), Some(format!("get {seen}").as_str()), "{asked}");
    }
}

#[tokio::test]
async fn only_the_cookies_that_are_kept_go_anywhere() {
    let node = Node::start().await;
    node.serve("/page", mirror().header("Vary", "Cookie"));
    node.serve("/form", mirror().no_store());
    node.serve("/pass/a", mirror().no_store());
    let proxy = Setup::before(&node)
        .site(
            r#"keep_cookies = ["sid", "eZ*"]
            [[site.route]]
            path = "/pass/*"
            cache = "pass""#,
        )
        .start()
        .await;
    let with = |request: Request, cookie: &str| request.header("Cookie", cookie);
    let page = proxy.ask(&with(Request::get("/page"), "_ga=1; sid=5;x=y")).await;
    assert!(page.was_stored() && page.text().contains("\ncookie: sid=5\n"), "{page}");
    for cookie in ["sid=5", "_ga=2; sid=5", "sid=5; _fbp=1"] {
        assert_eq!(proxy.ask(&with(Request::get("/page"), cookie)).await.served(), Served::Hit, "{cookie}");
    }
    assert_eq!(proxy.ask(&with(Request::get("/page"), "sid=6")).await.served(), Served::Miss);
    let none = proxy.ask(&with(Request::get("/page"), "_ga=1")).await;
    assert!(none.served() == Served::Miss && !none.text().contains("\ncookie:"), "{none}");
    assert_eq!(proxy.get("/page").await.served(), Served::Hit, "a dropped cookie is none");
    // On the roads past the cache too.
    for request in [Request::post("/form", "x"), Request::get("/pass/a")] {
        let answer = proxy.ask(&with(request.clone(), "_ga=1; eZSESSID=7")).await;
        assert!(answer.text().contains("\ncookie: ezsessid=7\n"), "{answer}");
        let answer = proxy.ask(&with(request, "_ga=1")).await;
        assert!(!answer.text().contains("cookie"), "{answer}");
    }
}

#[tokio::test]
async fn visitors_with_a_cookie_can_be_sent_past_the_cache() {
    let node = Node::start().await;
    node.serve("/a", Page::numbered("a").fresh_for(60));
    let proxy = Setup::before(&node)
        .site(
            r#"cookies = "pass"
            keep_cookies = ["sid", "currency"]
            key_cookies = ["currency"]"#,
        )
        .start()
        .await;
    proxy.warm(["/a"]).await;
    for number in 2..=3 {
        let own = proxy.ask(&Request::get("/a").header("Cookie", "sid=1")).await;
        assert_eq!((own.served(), own.text()), (Served::Bypass, format!("a {number}")), "{own}");
        assert_eq!(own.cache_parameter("fwd").as_deref(), Some("bypass"), "{own}");
    }
    let others = proxy.ask(&Request::get("/a").header("Cookie", "_ga=1")).await;
    assert_eq!((others.served(), others.text().as_str()), (Served::Hit, "a 1"), "{others}");
    // What is in the key tells visitors apart already.
    let with_currency = || Request::get("/a").header("Cookie", "currency=EUR");
    assert_eq!(proxy.ask(&with_currency()).await.served(), Served::Miss);
    assert_eq!(proxy.ask(&with_currency()).await.served(), Served::Hit);
    let both = proxy.ask(&Request::get("/a").header("Cookie", "currency=EUR; sid=1")).await;
    assert_eq!(both.served(), Served::Bypass, "{both}");
}

#[tokio::test]
async fn parts_of_the_key_tell_pages_apart_and_a_purge_takes_them_all() {
    let node = Node::start().await;
    node.serve_everything(mirror());
    let proxy = Setup::before(&node)
        .site(
            r#"key_headers = ["X-Host"]
            key_cookies = ["currency"]"#,
        )
        .start()
        .await;
    let ask = |host: &str, currency: &str| {
        let request = Request::get("/a").header("Cookie", &format!("_ga=1; currency={currency}"));
        if host.is_empty() { request } else { request.header("X-Host", host) }
    };
    let all = [("", "EUR"), ("", "USD"), ("x", "EUR"), ("x", "USD"), ("y", "EUR,USD"), ("y", "EUR")];
    for round in [Served::Miss, Served::Hit, Served::Miss] {
        if round == Served::Miss && node.total() > 0 {
            proxy.purge_url("/a").await;
        }
        for (host, currency) in all {
            let answer = proxy.ask(&ask(host, currency)).await;
            assert_eq!(answer.served(), round, "{host} {currency}: {answer}");
            let text = answer.text();
            assert!(text.contains(&format!("currency={}\n", currency.to_lowercase())), "{text}");
            assert_eq!(text.contains("x-host"), !host.is_empty(), "{text}");
            assert!(!text.contains("key-cookies"), "no node sees how the key is made: {text}");
            assert_eq!(answer.header("vary"), None, "{answer}");
        }
    }
    assert_eq!(node.total(), 2 * all.len());
}

#[tokio::test]
async fn visitors_with_another_key_do_not_wait_for_each_other() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    let page = Page::composed(move |request| {
        let currency = request.header("cookie").unwrap_or_default().to_owned();
        let page = Page::text(currency.clone()).fresh_for(60);
        if currency == "currency=EUR" { page.held_before_head(&held) } else { page }
    });
    node.serve("/a", page);
    let proxy = Setup::before(&node).site(r#"key_cookies = ["currency"]"#).start().await;
    let ask = |currency: &str| Request::get("/a").header("Cookie", &format!("currency={currency}"));
    let waiting = proxy.crowd(10, &ask("EUR"));
    gate.reached(1).await;
    let other = proxy.ask(&ask("USD")).await;
    assert_eq!((other.served(), other.text().as_str()), (Served::Miss, "currency=USD"), "{other}");
    gate.open();
    for answer in waiting.answers().await {
        assert_eq!(answer.text(), "currency=EUR", "{answer}");
    }
    assert_eq!(node.count("/a"), 2);
}

#[tokio::test]
async fn a_reload_refreshes_the_page_for_everybody_where_that_is_allowed() {
    let node = Node::start().await;
    for page in ["/ignored", "/heard"] {
        node.serve(page, Page::numbered("v").fresh_for(60));
    }
    let proxy = Setup::before(&node)
        .site(
            r#"[[site.route]]
            path = "/heard"
            request_no_cache = "revalidate""#,
        )
        .start()
        .await;
    let reloads = [("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0"), ("Pragma", "no-cache")];
    proxy.warm(["/ignored", "/heard"]).await;
    for (name, value) in reloads {
        let answer = proxy.ask(&Request::get("/ignored").header(name, value)).await;
        assert_eq!(
            (answer.served(), answer.text().as_str()),
            (Served::Hit, "v 1"),
            "{name}: {value}: {answer}"
        );
    }
    for (number, (name, value)) in (2..).zip(reloads) {
        let reload = proxy.ask(&Request::get("/heard").header(name, value)).await;
        assert_eq!(reload.text(), format!("v {number}"), "{name}: {value}: {reload}");
        assert_eq!(reload.cache_parameter("fwd").as_deref(), Some("request"), "{reload}");
        assert!(reload.was_stored(), "{reload}");
        let others = proxy.get("/heard").await;
        assert_eq!((others.served(), others.text()), (Served::Hit, format!("v {number}")), "{others}");
    }
    for (name, value) in [("Cache-Control", "max-age=5"), ("Cache-Control", "no-store")] {
        let answer = proxy.ask(&Request::get("/heard").header(name, value)).await;
        assert_eq!(answer.served(), Served::Hit, "{name}: {value}: {answer}");
    }
}

#[tokio::test]
async fn reloads_are_asked_after_once_for_all_of_them_and_others_do_not_wait() {
    let node = Node::start().await;
    let page = |text: &'static str| Page::text(text).header("ETag", &format!("\"{text}\"")).fresh_for(60);
    node.serve("/a", page("old"));
    let proxy = Setup::before(&node).site(r#"request_no_cache = "revalidate""#).start().await;
    proxy.warm(["/a"]).await;
    let gate = Gate::closed();
    node.serve("/a", page("new").held_before_head(&gate));
    let reloads = proxy.crowd(20, &Request::get("/a").header("Cache-Control", "no-cache"));
    gate.reached(1).await;
    // Whoever does not insist has the page that there is.
    let others = proxy.get("/a").await;
    assert_eq!((others.served(), others.text().as_str()), (Served::Hit, "old"), "{others}");
    wait::until("all reloads to wait", async || {
        let metrics = proxy.metrics().await;
        (metrics.sum("clearcoat_requests_in_flight", &[]) >= 20.0).then_some(())
    })
    .await;
    gate.open();
    for answer in reloads.answers().await {
        assert_eq!(answer.text(), "new", "{answer}");
    }
    assert_eq!(node.count("/a"), 2);
    assert_eq!(node.last("/a").header("if-none-match"), Some("\"old\""), "it is asked after");
    assert_eq!(proxy.get("/a").await.text(), "new");
}

#[tokio::test]
async fn a_reload_that_no_node_answers_gets_the_page_that_there_is() {
    let mut node = Node::start().await;
    node.serve("/a", Page::numbered("v").fresh_for(60));
    let proxy = Setup::before(&node).site(r#"request_no_cache = "revalidate""#).start().await;
    proxy.warm(["/a"]).await;
    node.stop().await;
    let reload = proxy.ask(&Request::get("/a").header("Cache-Control", "no-cache")).await;
    assert_eq!((reload.status, reload.text().as_str()), (200, "v 1"), "{reload}");
}

#[tokio::test]
async fn whoever_wants_what_is_stored_or_nothing_gets_that() {
    let node = Node::with_pages([("/a", "")]).await;
    for site in ["", r#"request_no_cache = "revalidate""#] {
        let proxy = Setup::before(&node).site(site).start().await;
        node.forget();
        let ask = |value: &str| Request::get("/a").header("Cache-Control", value);
        let nothing = proxy.ask(&ask("only-if-cached")).await.expect_status(504);
        assert_eq!(nothing.cache_status(), "detail=only-if-cached", "{nothing}");
        assert_eq!(node.total(), 0);
        proxy.warm(["/a"]).await;
        assert_eq!(proxy.ask(&ask("only-if-cached")).await.served(), Served::Hit);
        // Together with a wish for something newer nothing fits, if that wish is heard.
        let both = proxy.ask(&ask("only-if-cached, no-cache")).await;
        assert_eq!(both.status, if site.is_empty() { 200 } else { 504 }, "{both}");
        assert_eq!(node.total(), 1);
    }
}

#[tokio::test]
async fn a_thousand_spellings_of_the_codings_are_a_handful_of_fetches() {
    let node = Node::start().await;
    node.serve("/a", mirror().header("Vary", "Accept-Encoding"));
    let proxy = Setup::before(&node).start().await;
    let mut visitor = proxy.connect().await;
    let names = ["gzip", "br", "zstd", "deflate", "identity", "*", "x-gzip", "GZip", "foo", "", "compress"];
    let weights = ["", ";q=0", ";q=0.000", "; q=0.5", ";Q=1", ";q=x", ";x=y"];
    let (mut asked, mut random) = (std::collections::HashSet::new(), 7usize);
    while asked.len() < 1000 {
        let members: Vec<String> = (0..1 + random % 4)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{}{}", names[(random >> 33) % names.len()], weights[(random >> 43) % weights.len()])
            })
            .collect();
        let text = members.join([", ", ",", " ,, "][random >> 50 & 1]);
        random = random.wrapping_add(asked.len() | 1).rotate_left(5);
        if asked.insert(text.clone()) {
            visitor.ask(&Request::get("/a").header("Accept-Encoding", text.trim())).await.expect_status(200);
        }
    }
    let seen = node.requests();
    let distinct: std::collections::HashSet<_> =
        seen.iter().map(|request| request.header("accept-encoding")).collect();
    assert_eq!(distinct.len(), seen.len(), "one fetch a class: {distinct:?}");
    assert!((3..=16).contains(&seen.len()), "{distinct:?}");
}

#[tokio::test]
async fn languages_are_one_of_those_that_the_site_has() {
    let node = Node::start().await;
    node.serve("/a", mirror().header("Vary", "Accept-Language"));
    let proxy = Setup::before(&node)
        .site(
            r#"[[site.normalise]]
            header = "Accept-Language"
            languages = ["en", "de", "fr"]"#,
        )
        .start()
        .await;
    let mut seen = std::collections::HashSet::new();
    for (line, expected) in [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("de", "de"),
        ("it, fr;q=0.2", "fr"),
        ("fr;q=0.5, de;q=1.0", "de"),
        ("nonsense;;", "en"),
        ("evil", "en"),
        ("FR-ca", "fr"),
    ] {
        let answer = proxy.ask(&Request::get("/a").header("Accept-Language", line)).await;
        assert!(answer.text().contains(&format!("\naccept-language: {expected}\n")), "{line}: {answer}");
        let expected = if seen.insert(expected) { Served::Miss } else { Served::Hit };
        assert_eq!(answer.served(), expected, "{line}: {answer}");
    }
    assert_eq!(proxy.get("/a").await.served(), Served::Hit, "no wish is the first language");
    assert_eq!(node.count("/a"), 3);
    // What is not for the cache goes as it is.
    let posted = proxy.ask(&Request::post("/a", "x").header("Accept-Language", "it")).await;
    assert!(posted.text().contains("\naccept-language: it\n"), "{posted}");
}

#[tokio::test]
async fn devices_are_classes_and_nodes_see_no_more_than_the_class() {
    let node = Node::start().await;
    node.serve("/a", mirror().header("Vary", "X-Device"));
    let proxy = Setup::before(&node)
        .site(
            r#"[[site.normalise]]
            header = "User-Agent"
            classes = [{ value = "tablet", pattern = "(?i)ipad" }, { value = "mobile", pattern = "(?i)mobi|android" }]
            otherwise = "desktop"
            as = "X-Device""#,
        )
        .start()
        .await;
    let mut seen = std::collections::HashSet::new();
    for (agent, expected) in [
        ("Mozilla/5.0 (iPad; Mobile)", "tablet"),
        ("Mozilla/5.0 (Android 14; Mobile)", "mobile"),
        ("Mozilla/5.0 (X11)", "desktop"),
        ("Other Mobile", "mobile"),
        ("curl/8", "desktop"),
    ] {
        let request = Request::get("/a").header("User-Agent", agent).header("X-Device", "forged");
        let answer = proxy.ask(&request).await;
        assert!(answer.text().contains(&format!("\nx-device: {expected}\n")), "{agent}: {answer}");
        assert!(!answer.text().contains("user-agent") && !answer.text().contains("forged"), "{answer}");
        let expected = if seen.insert(expected) { Served::Miss } else { Served::Hit };
        assert_eq!(answer.served(), expected, "{agent}: {answer}");
    }
    let request = Request::post("/a", "x").header("User-Agent", "Mobile").header("X-Device", "forged");
    let posted = proxy.ask(&request).await.text();
    assert!(posted.contains("\nx-device: mobile\n") && posted.contains("\nuser-agent: mobile\n"), "{posted}");
}

#[tokio::test]
async fn without_any_rule_languages_are_told_apart_by_what_they_say() {
    let node = Node::start().await;
    node.serve("/a", mirror().header("Vary", "Accept-Language"));
    let proxy = Setup::before(&node).start().await;
    for (line, told, served) in [
        ("EN ,  de-at;q=0.80", "en,de-at;q=0.8", Served::Miss),
        ("en,de-AT;q=0.8", "", Served::Hit),
        ("de-AT;q=0.8, en", "", Served::Hit),
        ("de, en", "de,en", Served::Miss),
        ("en, de", "en,de", Served::Miss),
    ] {
        let answer = proxy.ask(&Request::get("/a").header("Accept-Language", line)).await;
        assert_eq!(answer.served(), served, "{line}: {answer}");
        assert!(answer.text().contains(&format!("\naccept-language: {told}")), "{line}: {answer}");
    }
}

#[tokio::test]
async fn whoever_varies_on_the_address_tells_visitors_apart() {
    let node = Node::start().await;
    node.serve("/a", mirror().header("Vary", "X-Forwarded-For"));
    let proxy = Setup::before(&node).start().await;
    let forged = Request::get("/a").header("X-Forwarded-For", "127.0.0.9");
    assert_eq!(proxy.ask(&forged).await.served(), Served::Miss);
    let mut other = clearcoat_tests::Connection::open_from([127, 0, 0, 9].into(), proxy.address()).await;
    let answer = other.get("/a").await;
    assert_eq!(answer.served(), Served::Miss, "{answer}");
    assert!(answer.text().contains("\nx-forwarded-for: 127.0.0.9\n"), "{answer}");
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
}
