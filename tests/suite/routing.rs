//! Which node a request goes to, what reaches it, and what does not.

use clearcoat_tests::client::Connection;
use clearcoat_tests::{
    Address, Certificate, Gate, Node, Page, Proxy, Request, Served, Setup, TlsVisitor, wait,
};

/// Two pools and three sites: by name, by wildcard, and by path within one.
async fn two_sites(one: &Node, two: &Node, api: &Node) -> Proxy {
    Setup::before(one)
        .sites(
            r#"
            [[site]]
            hosts = ["one.example.com"]
            pool = "web"
            [[site.route]]
            path = "/api/*"
            pool = "api"
            cache = "pass"
            [[site]]
            hosts = ["*.example.org"]
            pool = "two"
            "#,
        )
        .more(&format!(
            "[pools.two]\nnodes = [\"{}\"]\nhealth = {{ type = \"off\" }}\n[pools.api]\nnodes = [\"{}\"]\nhealth = {{ type = \"off\" }}",
            two.address(),
            api.address()
        ))
        .start()
        .await
}

#[tokio::test]
async fn host_and_path_choose_the_pool() {
    let (one, two, api) = (Node::named("one").await, Node::named("two").await, Node::named("api").await);
    for node in [&one, &two, &api] {
        node.serve_everything(Page::text("here").fresh_for(60));
    }
    let proxy = two_sites(&one, &two, &api).await;
    for (host, path, node) in [
        ("one.example.com", "/", Some("one")),
        ("ONE.Example.Com", "/case", Some("one")),
        ("one.example.com", "/api/x", Some("api")),
        ("one.example.com", "/apix", Some("one")),
        ("a.example.org", "/", Some("two")),
        ("a.b.example.org", "/api/x", Some("two")),
        ("other.example.net", "/", None),
    ] {
        let answer = proxy.ask(&Request::get(path).host(host)).await;
        assert_eq!(answer.header("x-node"), node, "{host}{path}: {answer}");
        assert_eq!(answer.status == 200, node.is_some(), "{host}{path}: {answer}");
    }
}

#[tokio::test]
async fn a_passed_route_is_never_stored() {
    let (one, two, api) = (Node::named("one").await, Node::named("two").await, Node::named("api").await);
    api.serve("/api/x", Page::numbered("x").fresh_for(60));
    let proxy = two_sites(&one, &two, &api).await;
    let request = Request::get("/api/x").host("one.example.com");
    for body in ["x 1", "x 2", "x 3"] {
        let answer = proxy.ask(&request).await;
        assert_eq!((answer.text().as_str(), answer.served()), (body, Served::Bypass), "{answer}");
        assert!(!answer.was_stored(), "{answer}");
    }
}

#[tokio::test]
async fn methods_other_than_get_and_head_reach_the_node_whole() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo().fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let body = "x".repeat(300_000);
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for request in [
            Request::new(method, "/echo").body(body.clone()),
            Request::new(method, "/echo").body("ab").chunked(),
        ] {
            let answer = proxy.ask(&request).await.expect_status(200);
            assert_eq!(answer.body, node.last("/echo").body, "{method}");
            assert!(!answer.was_stored(), "{answer}");
        }
        assert_eq!(node.count_of(method, "/echo"), 2);
    }
    let bodies: Vec<usize> = node.requests().iter().map(|request| request.body.len()).collect();
    assert_eq!(bodies, [300_000, 2, 300_000, 2, 300_000, 2, 300_000, 2]);
}

#[tokio::test]
async fn the_node_is_told_about_the_visitor_by_us_alone() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").no_store());
    let proxy = Proxy::before(&node).await;
    let request = Request::get("/a?b=c%20d&e")
        .host("www.example.com")
        .header("X-Forwarded-For", "10.9.8.7")
        .header("X-Forwarded-For", "10.9.8.6")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example.net")
        .header("X_Forwarded_For", "10.9.8.5")
        .header("X_User_Context_Hash", "forged")
        .header("Accept-Language", "fr");
    let mut visitor = Connection::open_from([127, 0, 0, 7].into(), proxy.address()).await;
    visitor.ask(&request).await.expect_status(200);
    let seen = node.last("/a");
    assert_eq!(seen.target, "/a?b=c%20d&e");
    assert_eq!(seen.headers("host"), ["www.example.com"]);
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.7"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.headers("x-forwarded-host"), ["www.example.com"]);
    assert_eq!(seen.headers("accept-language"), ["fr"]);
    assert_eq!(seen.headers("via").len(), 1, "{seen:?}");
    let forged: Vec<_> = seen.headers.iter().filter(|(name, _)| name.contains('_')).collect();
    assert!(forged.is_empty(), "PHP cannot tell `_` from `-`: {forged:?}");
}

#[tokio::test]
async fn uploads_are_told_about_the_visitor_in_the_same_way() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    let proxy = Proxy::before(&node).await;
    let request = Request::post("/echo", "abc")
        .header("X-Forwarded-For", "10.9.8.7")
        .header("X_Forwarded_For", "10.9.8.5");
    proxy.ask(&request).await.expect_status(200);
    let seen = node.last("/echo");
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.headers("x-forwarded-host"), ["www.example.com"]);
    assert!(seen.headers.iter().all(|(name, _)| !name.contains('_')), "{seen:?}");
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let node = Node::start().await;
    node.serve(
        "/a",
        Page::text("a")
            .no_store()
            .header("Connection", "X-Inner")
            .header("X-Inner", "1")
            .header("X-Outer", "2")
            .header("Keep-Alive", "timeout=9"),
    );
    let proxy = Proxy::before(&node).await;
    let request = Request::get("/a")
        .header("Connection", "keep-alive, X-Drop, X-Forwarded-For, Host")
        .header("Keep-Alive", "timeout=999999")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "trailers")
        .header("X-Drop", "1")
        .header("X-Keep", "1");
    let answer = proxy.ask(&request).await.expect_status(200);
    let seen = node.last("/a");
    for name in ["x-drop", "keep-alive", "proxy-connection"] {
        assert_eq!(seen.header(name), None, "{seen:?}");
    }
    assert_eq!(seen.header("x-keep"), Some("1"));
    // Names that are ours cannot be taken away by listing them.
    assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.headers("host"), ["www.example.com"]);
    assert_eq!(
        (answer.header("x-inner"), answer.header("keep-alive"), answer.header("x-outer")),
        (None, None, Some("2")),
        "{answer}"
    );
}

#[tokio::test]
async fn connections_to_a_node_are_used_again() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").no_store());
    let proxy = Setup::before(&node).pool(r#"health = { type = "off" }"#).start().await;
    for _ in 0..50 {
        proxy.get("/a").await.expect_status(200);
    }
    // pingora loses one now and then to the task that watched it while it was idle.
    assert!(node.connections() <= 25, "{} connections for 50 requests in turn", node.connections());
}

#[tokio::test]
async fn an_error_page_of_a_node_is_the_visitors() {
    let node = Node::start().await;
    for status in [301, 403, 404, 410, 500, 503] {
        let path = format!("/{status}");
        node.serve(&path, Page::text("sorry").status(status).header("X-Why", "because").no_store());
    }
    let proxy = Proxy::before(&node).await;
    for status in [301, 403, 404, 410, 500, 503] {
        let answer = proxy.get(&format!("/{status}")).await.expect_status(status);
        assert_eq!((answer.text().as_str(), answer.header("x-why")), ("sorry", Some("because")));
    }
}

#[tokio::test]
async fn interim_answers_come_at_once_and_to_the_one_who_asked() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/hints", Page::text("body").fresh_for(60).interim(&[102, 103]).held_before_head(&gate));
    let proxy = Proxy::before(&node).await;
    let mut first = proxy.connect().await;
    first.send(Request::get("/hints").to_bytes()).await.unwrap();
    // The answer itself is not there yet.
    assert_eq!(first.interim().await.unwrap(), 102);
    assert_eq!(first.interim().await.unwrap(), 103);
    let mut second = proxy.connect().await;
    second.send(Request::get("/hints").to_bytes()).await.unwrap();
    wait::until("both to be inside", async || {
        let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
        (inside == 2.0).then_some(())
    })
    .await;
    gate.open();
    let answer = first.answer("GET").await.unwrap().expect_status(200);
    assert_eq!((answer.text().as_str(), answer.interim.as_slice()), ("body", [].as_slice()));
    // Hints may be meant for one visitor alone, and nothing of them is stored.
    let answer = second.answer("GET").await.unwrap().expect_status(200);
    assert_eq!((answer.text().as_str(), answer.interim.as_slice()), ("body", [].as_slice()));
    let answer = first.get("/hints").await.expect_status(200);
    assert_eq!((answer.interim.as_slice(), answer.served()), ([].as_slice(), Served::Hit), "{answer}");
}

#[tokio::test]
async fn http_1_0_gets_no_interim_answers() {
    let node = Node::start().await;
    node.serve("/hints", Page::text("body").fresh_for(60).interim(&[103]));
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    visitor.send("GET /hints HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = visitor.answer("GET").await.unwrap().expect_status(200);
    assert_eq!((answer.text().as_str(), answer.interim.as_slice()), ("body", [].as_slice()));
}

#[tokio::test]
async fn who_comes_without_tls_is_sent_to_https() {
    let node = Node::start().await;
    node.serve_everything(Page::numbered("page").fresh_for(60));
    let certificate = Certificate::of(&["www.example.com"]);
    let proxy = Setup::before(&node)
        .listen("trusted_proxies = [\"127.0.0.7\"]")
        .tls(&[&certificate])
        .site("redirect_to_https = true\n")
        .start()
        .await;
    let host = "www.example.com:8080";
    for (request, status, location) in [
        (Request::get("/a/b?c=d&e"), 301, Some("https://www.example.com/a/b?c=d&e")),
        (Request::head("/"), 301, Some("https://www.example.com/")),
        (Request::post("/form", "body"), 308, Some("https://www.example.com/form")),
        (Request::post("/upload", vec![b'x'; 200_000]), 308, Some("https://www.example.com/upload")),
        (Request::new("DELETE", "/x"), 308, Some("https://www.example.com/x")),
        (
            Request::get("/ws").header("Connection", "Upgrade").header("Upgrade", "websocket"),
            301,
            Some("https://www.example.com/ws"),
        ),
        // Whoever gives certificates asks by http, and purges are not for visitors.
        (Request::get("/.well-known/acme-challenge/token"), 200, None),
        (Request::new("PURGE", "/a/b"), 200, None),
    ] {
        // A connection may be closed behind a body that was not read.
        let answer = proxy.connect().await.ask(&request.clone().host(host)).await;
        assert_eq!((answer.status, answer.header("location")), (status, location), "{answer}");
        assert_eq!(answer.cache_status().contains("redirect"), location.is_some(), "{answer}");
    }
    assert_eq!(node.total(), 1);
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let (mut secure, _) = visitor.connect(proxy.tls_address(), "www.example.com").await.unwrap();
    secure.ask(&Request::get("/a").host(host)).await.expect_status(200);
    // Where TLS ends in front of us, who is trusted says so.
    let mut behind = Connection::open_from([127, 0, 0, 7].into(), proxy.address()).await;
    let request = Request::get("/a").host(host).header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(behind.ask(&request).await.status, 301);
    behind.ask(&request.clone().header("X-Forwarded-Proto", "https")).await.expect_status(200);
    let stranger = proxy.ask(&request.header("X-Forwarded-Proto", "https")).await;
    assert_eq!(stranger.status, 301);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_requests_total", &[("result", "redirect")]), 8.0);
}
