//! What the operator is told about the next request, held against the request itself.

use clearcoat_tests::client::Connection;
use clearcoat_tests::proxy::run_command;
use clearcoat_tests::why::assert_agree;
use clearcoat_tests::{Address, Gate, Metrics, Node, Page, Proxy, Request, Served, Setup, wait};

/// One moment in the life of a page.
struct Case {
    name: &'static str,
    request: Request,
    outcome: &'static str,
    /// A part of the sentence for people.
    says: &'static str,
}

fn case(name: &'static str, request: Request, outcome: &'static str, says: &'static str) -> Case {
    Case { name, request, outcome, says }
}

/// What is counted when nothing is under way any more: a refresh, or the end of a request that was passed.
async fn at_rest(proxy: &Proxy) -> Metrics {
    wait::until("everything to come to rest", async || {
        let metrics = proxy.metrics().await;
        let under_way = ["clearcoat_requests_in_flight", "clearcoat_cache_fetching"];
        (under_way.iter().map(|name| metrics.sum(name, &[])).sum::<f64>() == 0.0).then_some(())
    })
    .await;
    // What came to its end while that was read is in the next reading.
    proxy.metrics().await
}

/// Asks why twice, sends the request, and requires that all agree.
async fn check(proxy: &Proxy, case: &Case) {
    let Case { name, request, outcome, says } = case;
    let before = at_rest(proxy).await;
    let first = proxy.why(request).await;
    let why = proxy.why(request).await;
    assert_eq!(first["next"]["outcome"], why["next"]["outcome"], "{name}: asking changes nothing");
    let after = proxy.metrics().await;
    for series in ["clearcoat_requests_total", "clearcoat_fetches_total", "clearcoat_purges_total"] {
        assert_eq!(
            before.sum(series, &[]),
            after.sum(series, &[]),
            "{name}: asking is not counted as {series}"
        );
    }
    let answer = proxy.ask(request).await;
    if *outcome == "grace" {
        // Its refresh begins behind the answer: until then everything looks at rest.
        wait::until("the refresh to be counted", async || {
            let fetches = |metrics: &Metrics| metrics.sum("clearcoat_fetches_total", &[]);
            (fetches(&proxy.metrics().await) > fetches(&before)).then_some(())
        })
        .await;
    }
    assert_agree(&why, &answer);
    assert_eq!(why["next"]["outcome"], *outcome, "{name}: {why:#}\n{answer}");
    let sentence = why["answer"].as_str().unwrap();
    assert!(sentence.contains(says), "{name}: {sentence:?} does not say {says:?}");
}

fn visitor(target: &str) -> Request {
    Request::get(target)
}

#[tokio::test]
async fn the_next_request_meets_what_was_foretold() {
    let node = Node::start().await;
    node.serve("/page", Page::text("0123456789").fresh_for(600).header("ETag", "\"a\"").tags("c1"));
    node.serve("/aged", Page::text("x").fresh_for(60).header("Age", "50"));
    node.serve("/mine", Page::text("x").no_store());
    node.serve("/asked", Page::text("x").cache_control("no-cache").header("ETag", "\"a\""));
    node.serve("/varied", Page::text("x").fresh_for(600).header("Vary", "X-Kind"));
    node.serve("/echo", Page::echo());
    node.serve_everything(Page::text("x").fresh_for(600).tags("c2"));
    let proxy = Setup::before(&node)
        .sites(
            "[[site]]\nhosts = [\"*.example.com\"]\npool = \"web\"\n[[site.route]]\npath = \"/api/*\"\ncache = \"pass\"\n",
        )
        .start()
        .await;
    for case in [
        case("never asked", visitor("/page"), "fetch", "nothing of this URL is stored"),
        case("fresh", visitor("/page"), "hit", "is a hit: fresh for 9 min"),
        case("HEAD", Request::head("/page"), "hit", "The next HEAD of http://www.example.com/page is a hit"),
        case("unchanged", visitor("/page").header("If-None-Match", "\"a\""), "hit", "the status is 304"),
        case("changed", visitor("/page").header("If-None-Match", "\"b\""), "hit", "is a hit"),
        case("range", visitor("/page").header("Range", "bytes=2-4"), "hit", "the status is 206"),
        case("no range", visitor("/page").header("Range", "bytes=20-"), "hit", "the status is 416"),
        case(
            "another host",
            visitor("/page").host("a.example.com"),
            "fetch",
            "http://a.example.com/page is fetched",
        ),
        case("aged", visitor("/aged"), "fetch", "nothing of this URL"),
        case("aged and fresh", visitor("/aged"), "hit", "fresh for"),
        case("uncacheable", visitor("/mine"), "fetch", "nothing of this URL"),
        case("marked", visitor("/mine"), "fetch-apart", "for itself alone"),
        case("asked always", visitor("/asked"), "fetch", "nothing of this URL"),
        case("asked again", visitor("/asked"), "revalidate", "the node wants to be asked each time"),
        case("first variant", visitor("/varied").header("X-Kind", "a"), "fetch", "nothing of this URL"),
        case("same variant", visitor("/varied").header("x-kind", "a"), "hit", "is a hit"),
        case(
            "other variant",
            visitor("/varied").header("X-Kind", "b"),
            "fetch",
            "only variants for other requests",
        ),
        case("no variant", visitor("/varied"), "fetch", "only variants for other requests"),
        case("POST", Request::post("/echo", "x"), "pass", "only GET and HEAD are answered from memory"),
        case("DELETE", Request::new("DELETE", "/x"), "pass", "is passed to pool web"),
        case("with a body", visitor("/echo").body("x"), "pass", "it carries a body"),
        case("pass route", visitor("/api/x"), "pass", "its route says"),
        case("no site", visitor("/page").host("example.org"), "refused", "no site here is for this host"),
        case("malformed", visitor("/page").header("Content-Length", "x"), "refused", "is not one number"),
        case("two hosts", visitor("/page").header("Host", "a"), "refused", "there are two Host lines"),
    ] {
        check(&proxy, &case).await;
    }
    for (purge, outcome) in [("hard", "fetch"), ("soft", "revalidate")] {
        match purge {
            "hard" => drop(proxy.purge_tags("c1").await),
            _ => drop(proxy.soft_purge_tags("c1").await),
        }
        let says = if outcome == "fetch" {
            "nothing of this URL"
        } else {
            "a soft purge made the stored copy stale"
        };
        check(&proxy, &case(purge, visitor("/page"), outcome, says)).await;
    }
}

#[tokio::test]
async fn age_and_failing_nodes_are_foretold() {
    let mut node = Node::start().await;
    let page = |text: &str| Page::text(text.to_owned()).fresh_for(1);
    node.serve("/graced", page("x").cache_control("stale-while-revalidate=600"));
    node.serve(
        "/tagged",
        Page::text("x").cache_control("max-age=600, stale-while-revalidate=600").tags("c1"),
    );
    node.serve(
        "/asked",
        page("x").header("ETag", "\"a\"").header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    );
    node.serve("/plain", page("x"));
    node.serve("/kept", page("x"));
    let proxy = Setup::before(&node).cache("keep = \"600s\"").start().await;
    for path in ["/graced", "/tagged", "/asked", "/plain", "/kept"] {
        proxy.get(path).await.expect_status(200);
    }
    proxy.soft_purge_tags("c1").await;
    proxy.a_second_later().await;
    check(&proxy, &case("grace", visitor("/graced"), "grace", "is a hit within grace")).await;
    check(&proxy, &case("soft purge", visitor("/tagged"), "grace", "a soft purge made")).await;
    let asked = proxy.why(&visitor("/asked")).await;
    assert_eq!(
        asked["next"]["conditions"],
        serde_json::json!(["If-None-Match: \"a\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]),
        "{asked:#}"
    );
    check(
        &proxy,
        &case("by validators", visitor("/asked"), "revalidate", "whether the stored copy is still right"),
    )
    .await;
    let recorded = node.last("/asked");
    assert_eq!(recorded.header("if-none-match"), Some("\"a\""));
    check(
        &proxy,
        &case("without", visitor("/plain"), "revalidate", "has no ETag or Last-Modified to ask by"),
    )
    .await;

    node.stop().await;
    wait::until("the node to count as down", async || {
        (proxy.admin("/ready").await.status == 503).then_some(())
    })
    .await;
    check(&proxy, &case("no node", visitor("/kept"), "disconnected", "no node of pool web is up")).await;
    check(&proxy, &case("no node and no copy", visitor("/new"), "fetch", "they are tried all the same"))
        .await;
    let why = proxy.why(&visitor("/new")).await;
    assert_eq!(why["last_fetch"]["stored"], false, "{why:#}");
    assert_eq!(why["last_fetch"]["node"], serde_json::Value::Null, "{why:#}");
}

#[tokio::test]
async fn a_fetch_under_way_is_joined_as_foretold() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/slow", Page::text("x").fresh_for(600).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let mut first = proxy.connect().await;
    first.send(std::str::from_utf8(&visitor("/slow").to_bytes()).unwrap()).await.unwrap();
    gate.reached(1).await;
    let why = proxy.why(&visitor("/slow")).await;
    assert_eq!(why["next"]["outcome"], "join", "{why:#}");
    let (second, ()) = tokio::join!(proxy.get("/slow"), async {
        // The second has joined once it waits as well.
        wait::until("both to wait", async || {
            (proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]) >= 2.0).then_some(())
        })
        .await;
        gate.open();
    });
    assert_agree(&why, &second);
    assert_eq!(second.served(), Served::Collapsed, "{second}");
    assert_eq!(node.count("/slow"), 1);
}

#[tokio::test]
async fn a_purge_is_foretold_and_not_carried_out() {
    let node = Node::with_pages([("/a", "c1")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let why = proxy.why(&Request::new("PURGE", "/a")).await;
    assert_eq!(why["next"]["outcome"], "purge", "{why:#}");
    assert_eq!(proxy.get("/a").await.served(), Served::Hit);
}

#[tokio::test]
async fn the_facts_add_up() {
    let node = Node::named("web1").await;
    node.serve(
        "/a",
        Page::text("0123456789")
            .cache_control("s-maxage=600, must-revalidate")
            .header("Age", "50")
            .tags("c1 c2"),
    );
    node.serve("/by-default", Page::text("x"));
    node.serve("/v", Page::text("x").fresh_for(600).header("Vary", "X-Kind, Accept-Encoding"));
    let proxy = Setup::before(&node)
        .cache("default_ttl = \"60s\"\ngrace = \"20s\"\nkeep = \"30s\"")
        .site("[[site.route]]\npath = \"/b*\"\n")
        .start()
        .await;
    proxy.get("/a").await;
    let why = proxy.why(&visitor("/a")).await;
    let entry = &why["entry"];
    let number = |name: &str| entry[name].as_i64().unwrap_or_else(|| panic!("{name} in {why:#}"));
    assert_eq!(
        (entry["lifetime_from"].as_str(), number("lifetime"), number("initial_age")),
        (Some("s-maxage in Cache-Control"), 600, 50),
        "{why:#}"
    );
    assert_eq!(number("age"), number("initial_age") + number("stored_for"), "{why:#}");
    assert!((number("lifetime") - number("age") - number("ttl")).abs() <= 1, "{why:#}");
    assert_eq!((number("grace"), number("keep"), number("body_bytes")), (0, 30, 10), "{why:#}");
    assert_eq!(entry["may_be_stale"], false, "it demands to be asked after: {why:#}");
    assert_eq!(
        (entry["tags"].clone(), entry["state"].clone()),
        (serde_json::json!(["c1", "c2"]), "fresh".into())
    );
    assert_eq!(
        why["route"],
        serde_json::json!({
            "site": 1, "host": "*", "route": null, "path": null, "pool": "web", "cache": "cache"
        })
    );
    let fetch = &why["last_fetch"];
    assert_eq!((fetch["status"].as_u64(), fetch["result"].as_str()), (Some(200), Some("stored")), "{why:#}");
    assert_eq!(fetch["node"], node.address().to_string(), "{why:#}");

    proxy.get("/by-default").await;
    let why = proxy.why(&visitor("/by-default")).await;
    assert_eq!(why["entry"]["lifetime_from"], "default_ttl in the configuration", "{why:#}");
    assert_eq!(
        (why["entry"]["grace"].as_u64(), why["entry"]["keep"].as_u64()),
        (Some(20), Some(30)),
        "{why:#}"
    );
    assert_eq!(
        (why["route"]["route"].as_u64(), why["route"]["path"].as_str()),
        (Some(1), Some("/b*")),
        "{why:#}"
    );

    for kind in ["a", "b"] {
        proxy.ask(&visitor("/v").header("X-Kind", kind)).await;
    }
    let why =
        proxy.why(&visitor("/v").header("X-Kind", "a").header("Accept-Encoding", "br, gzip;q=0.5")).await;
    assert_eq!(
        why["key"]["vary"],
        serde_json::json!([{"name": "accept-encoding", "value": "br, gzip"}, {"name": "x-kind", "value": "a"}])
    );
    assert_eq!(why["key"]["variants"], 2, "{why:#}");
}

#[tokio::test]
async fn the_reason_for_not_storing_is_remembered() {
    let node = Node::start().await;
    node.serve("/mine", Page::text("x").cache_control("private"));
    node.serve("/cookie", Page::text("x").fresh_for(60).header("Set-Cookie", "a=b"));
    node.serve("/cut", Page::text("0123456789").fresh_for(60).cut_after(5));
    node.serve("/large", Page::text("x".repeat(200_000)).fresh_for(60));
    let proxy = Setup::before(&node).cache("max_entry = \"64KiB\"").start().await;
    for (path, result) in
        [("/mine", "private"), ("/cookie", "set-cookie"), ("/cut", "broken-off"), ("/large", "too-large")]
    {
        let _ = proxy.try_ask(&visitor(path)).await;
        let why = wait::until("the fetch to be noted", async || {
            let why = proxy.why(&visitor(path)).await;
            (why["last_fetch"]["result"] == result).then_some(why)
        })
        .await;
        assert_eq!(why["last_fetch"]["stored"], false, "{why:#}");
    }
    let why = proxy.why(&visitor("/mine")).await;
    assert!(why["uncacheable_for"].as_u64().is_some_and(|seconds| seconds > 0), "{why:#}");
}

#[tokio::test]
async fn the_command_says_it_in_words() {
    let node = Node::with_pages([("/a", "c1")]).await;
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let admin = proxy.admin_address().to_string();
    let run = async |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["why", "--admin", &admin].into_iter().chain(arguments.iter().copied()).collect();
        let output = run_command(&arguments).await;
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = run(&["http://www.example.com/a"]).await;
    assert_eq!(code, Some(0));
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("The next GET of http://www.example.com/a is a hit: fresh for "), "{text}");
    for part in ["\ntags          c1\n", "\nlast fetch    ", "\nCache-Status  clearcoat; hit; ttl="] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (code, text) = run(&["/a", "--host", "www.example.com", "--method", "POST"]).await;
    assert!(code == Some(0) && text.contains("only GET and HEAD"), "{text}");
    let (code, text) = run(&["/a", "--host", "www.example.com", "-H", "If-None-Match: *", "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, document["next"]["status"].as_u64()), (Some(0), Some(304)), "{text}");
    assert_eq!(run(&["/a"]).await.0, Some(2), "a path needs a host");
    assert_eq!(node.total(), 1, "nothing is requested");
}

#[tokio::test]
async fn every_answer_has_a_cache_status() {
    let mut node = Node::start().await;
    let inner = Page::text("0123456789").fresh_for(600).header("Cache-Status", "inner; hit; ttl=9");
    node.serve("/a", inner.clone());
    node.serve("/mine", Page::text("x").no_store().header("Cache-Status", "inner; fwd=uri-miss"));
    node.serve("/echo", Page::echo().header("Cache-Status", "inner; fwd=method"));
    let proxy = Setup::before(&node).cache("keep = \"0s\"").start().await;
    let members = async |request: &Request| {
        let answer = proxy.ask(request).await;
        answer.headers("cache-status").join(", ")
    };
    let starts_then = |text: &str, inner: &str, ours: &str| {
        let ends = text.strip_prefix(inner).unwrap_or_else(|| panic!("{text} does not begin with {inner}"));
        assert!(ends.starts_with(ours), "{ends} does not begin with {ours}");
        assert_eq!(text.matches("clearcoat").count(), 1, "{text}");
    };
    let a = visitor("/a");
    starts_then(&members(&a).await, "inner; hit; ttl=9, ", "clearcoat; fwd=uri-miss; ttl=");
    starts_then(&members(&a).await, "inner; hit; ttl=9, ", "clearcoat; hit; ttl=");
    let unchanged = a.clone().header("If-None-Match", "*");
    starts_then(&members(&unchanged).await, "inner; hit; ttl=9, ", "clearcoat; hit; ttl=");
    let range = a.clone().header("Range", "bytes=0-1");
    starts_then(&members(&range).await, "inner; hit; ttl=9, ", "clearcoat; hit; ttl=");
    let beyond = a.clone().header("Range", "bytes=99-");
    starts_then(&members(&beyond).await, "", "clearcoat; hit; ttl=");
    starts_then(
        &members(&visitor("/mine")).await,
        "inner; fwd=uri-miss, ",
        "clearcoat; fwd=uri-miss; detail=",
    );
    starts_then(&members(&Request::post("/echo", "x")).await, "inner; fwd=method, ", "clearcoat; fwd=method");
    starts_then(&members(&Request::new("PURGE", "/a")).await, "", "clearcoat; detail=purge");
    let mut malformed = Connection::open(proxy.address()).await;
    malformed.send("nonsense\r\n\r\n").await.unwrap();
    assert_eq!(malformed.answer("GET").await.unwrap().cache_status(), "detail=refused");
    node.stop().await;
    let failed = proxy.get("/new").await;
    assert_eq!((failed.cache_parameter("fwd").as_deref(), failed.served()), (Some("uri-miss"), Served::Miss));
    assert!(failed.cache_parameter("detail").is_some(), "{failed}");
    let failed = proxy.ask(&Request::post("/new", "x")).await;
    assert_eq!(failed.cache_parameter("fwd").as_deref(), Some("method"), "{failed}");
    let forwards = at_rest(&proxy).await;
    assert!(forwards.sum("clearcoat_forwards_total", &[("reason", "method")]) >= 2.0);
}

#[tokio::test]
async fn what_the_rules_of_a_route_do_is_foretold() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(600).header("ETag", "\"a\""));
    let proxy = Setup::before(&node)
        .site(
            r#"query = { drop = ["utm_*"] }
            keep_cookies = ["sid", "currency"]
            cookies = "pass"
            key_cookies = ["currency"]
            request_no_cache = "revalidate""#,
        )
        .start()
        .await;
    let cookie = |value: &str| visitor("/a").header("Cookie", value);
    let wants = |value: &str| visitor("/a").header("Cache-Control", value);
    for case in [
        case("nothing stored", wants("only-if-cached"), "refused", "it wants what is stored or nothing"),
        case("never asked", visitor("/a?utm_x=1"), "fetch", "nothing of this URL"),
        case("another spelling", visitor("/a?utm_y=2"), "hit", "is a hit"),
        case("a dropped cookie", cookie("_ga=1"), "hit", "is a hit"),
        case("a cookie", cookie("sid=1"), "pass", "it has a cookie"),
        case("a part of the key", cookie("currency=EUR"), "fetch", "only variants for other requests"),
        case("the same part", cookie("_ga=1; currency=EUR"), "hit", "is a hit"),
        case(
            "a reload",
            wants("no-cache"),
            "revalidate",
            "does not want the fresh copy unasked, and asks after it",
        ),
        case("stored", wants("only-if-cached"), "hit", "is a hit"),
        case("both", wants("only-if-cached, max-age=0"), "refused", "and nothing fits"),
    ] {
        check(&proxy, &case).await;
    }
    let why = proxy.why(&Request::get("/a?utm_x=1").host("WWW.Example.com.:80")).await;
    assert_eq!(why["key"]["url"], "http://www.example.com/a", "{why}");
}
