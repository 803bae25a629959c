//! One visitor tries to leave something in a page that others get (web cache poisoning).
//!
//! The node is as careless as can be: it writes everything that it is told into a page that may be stored.

use clearcoat_tests::{Node, Page, Proxy, Request, Served, Setup};

/// The word that an attacker wants others to see.
const EVIL: &str = "evil.example";

/// A page that shows all that its node was told.
fn careless() -> Page {
    Page::written(|request| {
        let headers: String =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let body = String::from_utf8_lossy(&request.body);
        format!("{} {}\n{headers}{body}", request.method, request.target)
    })
    .fresh_for(60)
}

/// A site with everything switched on that a careless node needs.
async fn guarded(node: &Node) -> Proxy {
    Setup::before(node)
        .site(
            r#"query = { drop = ["utm_*", "callback_id"] }
            keep_cookies = ["sid"]
            [[site.normalise]]
            header = "User-Agent"
            classes = [{ value = "mobile", pattern = "(?i)mobi" }]
            otherwise = "desktop"
            [[site.normalise]]
            header = "Accept-Language"
            languages = ["en", "de"]
            [[site.route]]
            path = "/no-query/*"
            query = { keep = [] }"#,
        )
        .start()
        .await
}

/// Attacks, and the request of another visitor that they are aimed at.
fn attacks() -> Vec<(&'static str, Request, Request)> {
    let page = || Request::get("/page?id=1");
    let with = |name: &str, value: &str| page().header(name, value);
    let mut attacks: Vec<(&'static str, Request, Request)> = vec![
        (
            "several headers at once",
            with("X-Forwarded-Host", EVIL).header("X-Forwarded-Scheme", "nothttps"),
            page(),
        ),
        (
            "a header that is told apart by another",
            with("X-Host", EVIL).header("User-Agent", "Mobile"),
            page(),
        ),
        ("an unkeyed cookie", with("Cookie", "fehost=evil.example"), page()),
        (
            "a cookie beside one that is kept",
            with("Cookie", "sid=1; fehost=evil.example").header("X", "y"),
            page(),
        ),
        ("the user agent", with("User-Agent", EVIL), page()),
        ("the language", with("Accept-Language", "evil.example"), page()),
        ("the language, well-formed", with("Accept-Language", "evil, example"), page()),
        (
            "the codings",
            with("Accept-Encoding", "gzip, evil.example"),
            page().header("Accept-Encoding", "gzip"),
        ),
        ("the end of the host", page().host("www.example.com."), page()),
        ("the port", page().host("www.example.com:80"), page()),
        ("the case of the host", page().host("WWW.example.com"), page()),
        ("an unkeyed parameter", Request::get("/page?id=1&utm_content=evil.example"), page()),
        ("an unkeyed parameter, escaped", Request::get("/page?id=1&utm%5fcontent=evil.example"), page()),
        ("an unkeyed query", Request::get("/no-query/a?evil.example"), Request::get("/no-query/a")),
        ("parameter cloaking", Request::get("/page?id=1&utm_content=x;id=evil.example"), page()),
        (
            "parameter cloaking by a question mark",
            Request::get("/page?id=1&utm_content=x?id=evil.example"),
            page(),
        ),
        ("parameter cloaking by a name", Request::get("/page?id=1&utm_content[id]=evil.example"), page()),
        ("a body", page().body(format!("id={EVIL}")), page()),
        ("a body in chunks", page().body(format!("id={EVIL}")).chunked(), page()),
        ("a parameter twice", Request::get("/page?id=1&id=evil.example"), page()),
        ("a URL in another spelling", Request::get("/p%61ge?id=1#evil.example"), page()),
        ("a path that is another to some", Request::get("/page;evil.example?id=1"), page()),
        (
            "an absolute URL",
            Request::get("http://www.example.com/page?id=1").header("X-Original-Host", EVIL),
            page(),
        ),
        (
            "a header taken away",
            with("X-Real-IP", EVIL).header("Connection", "cookie, host, x-real-ip"),
            page(),
        ),
        ("a key of our own", with("!key-cookies", EVIL), page()),
    ];
    for name in [
        "Forwarded",
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Forwarded-Port",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded-Scheme",
        "X-Forwarded-For",
        "X_Forwarded_Host",
        "X-Host",
        "X-Original-Host",
        "X-HTTP-Host-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Wap-Profile",
        "Base-Url",
        "Proxy",
        "True-Client-IP",
        "X-Client-IP",
        "X-Real-IP",
        "CF-Connecting-IP",
        "Front-End-Https",
        "X-Url-Scheme",
        "Surrogate-Capability",
        "Expect",
        "If-None-Match",
        "If-Range",
    ] {
        attacks.push((Box::leak(name.to_owned().into_boxed_str()), with(name, EVIL), page()));
    }
    attacks
}

#[tokio::test]
async fn nothing_of_one_visitor_is_in_the_page_of_another() {
    let node = Node::start().await;
    node.serve_everything(careless());
    let proxy = guarded(&node).await;
    for (name, attack, victim) in attacks() {
        proxy.purge_url("/page?id=1").await;
        proxy.purge_url("/no-query/a").await;
        let _ = proxy.try_ask(&attack).await;
        let answer = proxy.ask(&victim).await.expect_status(200);
        let text = answer.text();
        assert!(!text.contains("evil"), "{name}: {answer}\n{text}");
        // The node is told one name of the host by all.
        assert_eq!(text.matches("www.example.com\n").count(), 2, "{name}: {text}");
        // It was no accident: the page is one that is stored.
        assert_eq!(proxy.ask(&victim).await.served(), Served::Hit, "{name}");
    }
}

#[tokio::test]
async fn hosts_and_schemes_never_meet() {
    let node = Node::start().await;
    node.serve_everything(Page::composed(|request| {
        Page::text(format!("{} for {}", request.number, request.header("host").unwrap_or_default()))
            .fresh_for(60)
    }));
    let proxy = Proxy::before(&node).await;
    let mut known = std::collections::HashMap::new();
    for (host, page) in [
        ("a", "a"),
        ("b", "b"),
        ("A", "a"),
        ("b:80", "b"),
        ("b.", "b"),
        ("B.:080", "b"),
        ("b:443", "b:443"),
        ("b:8080", "b:8080"),
        ("b..", "b."),
        ("a.b", "a.b"),
        ("a", "a"),
    ] {
        let answer = proxy.ask(&Request::get("/").host(host)).await.expect_status(200);
        let fresh = !known.contains_key(page);
        let expected = known.entry(page).or_insert_with(|| answer.text()).clone();
        assert_eq!(answer.text(), expected, "{host}");
        assert_eq!(answer.text().split(' ').next_back(), Some(page), "{host}: {answer}");
        assert_eq!(answer.served(), if fresh { Served::Miss } else { Served::Hit }, "{host}");
    }
    // On a plain connection a URL of the other scheme is told to the node as what it is.
    let secure = Request::get("https://a/").host("a");
    assert!(proxy.ask(&secure).await.text().ends_with(" for a"));
    assert_eq!(node.last("/").header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn answers_to_one_request_do_not_make_a_page_unavailable() {
    let node = Node::start().await;
    node.serve_everything(Page::composed(|request| {
        // As a server does whose limits are narrower than ours, or a firewall.
        match request.header("x-oversized").and_then(|status| status.parse().ok()) {
            Some(status) => Page::text("not for you").status(status),
            None => Page::text("the page"),
        }
    }));
    let proxy = Setup::before(&node)
        .cache(
            r#"default_ttl = "60s"
            status_ttl = { 4xx = "60s", 5xx = "60s", 422 = "60s" }"#,
        )
        .start()
        .await;
    for status in
        [400, 401, 405, 406, 408, 411, 412, 413, 414, 415, 416, 417, 421, 425, 426, 428, 431, 501, 505]
    {
        let path = format!("/{status}");
        let refused = proxy.ask(&Request::get(&path).header("X-Oversized", &status.to_string())).await;
        assert_eq!(refused.status, status, "{refused}");
        assert!(!refused.was_stored(), "{refused}");
        assert_eq!(proxy.get(&path).await.expect_status(200).text(), "the page", "{status}");
    }
    // What is about the page is kept, and so is what the operator names.
    for status in [404, 410, 422, 500] {
        let path = format!("/{status}");
        proxy.ask(&Request::get(&path).header("X-Oversized", &status.to_string())).await;
        let kept = proxy.get(&path).await;
        assert_eq!((kept.status, kept.served()), (status, Served::Hit), "{kept}");
    }
}

#[tokio::test]
async fn a_refusal_that_says_itself_that_it_may_be_shared_is_believed() {
    let node = Node::start().await;
    for status in [400, 405, 413, 414, 501] {
        node.serve(&format!("/{status}"), Page::text("no").status(status).fresh_for(60));
    }
    let proxy = Proxy::before(&node).await;
    for status in [400, 405, 413, 414, 501] {
        let path = format!("/{status}");
        proxy.get(&path).await.expect_status(status);
        assert_eq!(proxy.get(&path).await.served(), Served::Hit, "{status}");
    }
}

#[tokio::test]
async fn what_changes_the_url_reaches_nodes_only_where_nobody_else_gets_the_answer() {
    let node = Node::start().await;
    node.serve_everything(careless());
    let proxy = Setup::before(&node)
        .site(
            r#"[[site.route]]
            path = "/pass/*"
            cache = "pass""#,
        )
        .start()
        .await;
    for (request, sees) in
        [(Request::get("/a"), false), (Request::get("/pass/a"), true), (Request::post("/a", "x"), true)]
    {
        let answer = proxy.ask(&request.header("X-Original-URL", EVIL).header("Proxy", "strange")).await;
        assert_eq!(answer.text().contains(EVIL), sees, "{answer}");
        assert!(!answer.text().contains("strange"), "strangers say this nowhere: {answer}");
    }
}

/// What `Connection` lists a proxy may take away (RFC 9110 section 7.6.1). A node that did not get it has answered without it, and
/// that answer must not be stored as the one with it.
#[tokio::test]
async fn a_header_that_is_taken_away_chooses_no_stored_answer() {
    let node = Node::start().await;
    let page = Page::composed(|request| {
        let said = request.header("accept-language").or(request.header("x-country")).unwrap_or("nothing");
        Page::text(said.to_owned()).fresh_for(60).header("Vary", "Accept-Language, X-Country")
    });
    node.serve_everything(page);
    let proxy = Setup::before(&node)
        .site("[[site.route]]\npath = \"/keyed/*\"\nkey_headers = [\"X-Country\"]")
        .start()
        .await;
    for (path, name) in [("/a", "Accept-Language"), ("/b", "X-Country"), ("/keyed/c", "X-Country")] {
        let honest = Request::get(path).header(name, "de");
        let attack = honest.clone().header("Connection", name);
        proxy.ask(&attack).await.expect_status(200);
        assert_eq!(proxy.ask(&honest).await.text(), "de", "{path} {name}");
    }
}
