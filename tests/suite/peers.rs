//! Behind balancers and proxies: who the visitor is, and who may say so.

use std::net::SocketAddr;
use std::time::Duration;

use clearcoat_tests::http2::Session;
use clearcoat_tests::real::Haproxy;
use clearcoat_tests::{Address, Certificate, Connection, Node, Page, Proxy, Request, Setup, TlsVisitor};

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.2 56324 80\r\n";

/// A header of version 2 from 192.0.2.7 to the port, with more fields behind it.
fn binary(port: u16, fields: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend((12 + fields.len() as u16).to_be_bytes());
    header.extend([192, 0, 2, 7, 198, 51, 100, 2, 0xdc, 4]);
    header.extend(port.to_be_bytes());
    header.extend(fields);
    header
}

async fn introduced(proxy: &Proxy, header: impl AsRef<[u8]>) -> Connection {
    let mut connection = proxy.connect().await;
    connection.send(header).await.unwrap();
    connection
}

fn read(metrics: &clearcoat_tests::Metrics, result: &str) -> f64 {
    metrics.sum("clearcoat_proxy_headers_total", &[("result", result)])
}

#[tokio::test]
async fn a_balancer_introduces_whom_it_brings() {
    let node = Node::start().await;
    node.serve_everything(Page::echo());
    let proxy = Setup::before(&node).listen("proxy_protocol = [\"127.0.0.0/8\"]").start().await;
    for (header, client, scheme) in [
        (LINE.as_bytes().to_vec(), "192.0.2.7", "http"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 80\r\n".to_vec(), "2001:db8::7", "http"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 443\r\n".to_vec(), "192.0.2.7", "https"),
        (binary(80, b""), "192.0.2.7", "http"),
        (binary(443, b""), "192.0.2.7", "https"),
        // It came to the balancer under TLS.
        (binary(8443, &[0x20, 0, 5, 1, 0, 0, 0, 0]), "192.0.2.7", "https"),
        // The balancer itself: its address is known from the connection.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", "http"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec(), "127.0.0.1", "http"),
    ] {
        let mut connection = introduced(&proxy, &header).await;
        for request in [
            // For the cache, from a small body, and on the pass road; each on the same connection.
            Request::get("/page?get"),
            Request::post("/page?small", "body"),
            Request::post("/page?large", vec![b'x'; 200_000]),
            Request::get("/page?again"),
        ] {
            let request = request.header("X-Forwarded-For", "6.6.6.6").header("X-Forwarded-Proto", "gopher");
            connection.ask(&request).await.expect_status(200);
            let seen = node.last("/page");
            let told = ["x-forwarded-for", "x-forwarded-proto"].map(|name| seen.headers(name));
            assert_eq!(told, [[client], [scheme]], "{}: {}", header.escape_ascii(), seen.path());
        }
    }
    assert_eq!(read(&proxy.metrics().await, "read"), 8.0);
}

#[tokio::test]
async fn who_has_to_be_introduced_and_is_not_is_not_served() {
    let node = Node::with_pages([("/", "")]).await;
    let proxy = Setup::before(&node)
        .listen("proxy_protocol = [\"127.0.0.1\"]")
        .limits("header_timeout = \"500ms\"")
        .start()
        .await;
    let bad: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.2 56324\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 80\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.2 56324 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c192.0.2.7...",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        // A request may begin with an empty line, and this is not where the header's signature goes on.
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for header in bad {
        let mut connection = introduced(&proxy, header).await;
        connection.closed_within(Duration::from_secs(5)).await.unwrap();
    }
    // As slow as may be, or silent, it is too late; and whoever comes in time is served.
    let mut silent = proxy.connect().await;
    let mut slow = introduced(&proxy, &LINE[..20]).await;
    silent.closed_within(Duration::from_secs(5)).await.unwrap();
    slow.closed_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(node.count("/"), 0);
    let mut late = proxy.connect().await;
    late.send_slowly(LINE.as_bytes(), 9, Duration::from_millis(20)).await;
    late.get("/").await.expect_status(200);
    let metrics = proxy.metrics().await;
    assert_eq!((read(&metrics, "refused"), read(&metrics, "read")), (bad.len() as f64, 1.0));
    assert_eq!(metrics.sum("clearcoat_limits_total", &[("limit", "header_timeout")]), 2.0);
}

#[tokio::test]
async fn strangers_cannot_introduce_themselves() {
    let node = Node::with_pages([("/", "")]).await;
    let proxy = Setup::before(&node).listen("proxy_protocol = [\"127.0.0.2\"]").start().await;
    proxy.get("/").await.expect_status(200);
    for header in [LINE.as_bytes().to_vec(), binary(80, b"")] {
        let mut connection =
            introduced(&proxy, [&header[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await;
        // Its line is read as that of a request, of a version that there is not.
        assert!([400, 505].contains(&connection.answer("GET").await.unwrap().status));
        connection.closed().await.unwrap();
    }
    assert_eq!(node.count("/"), 1);
}

#[tokio::test]
async fn who_may_purge_is_who_was_introduced() {
    let node = Node::with_pages([("/", "")]).await;
    let proxy = Setup::before(&node)
        .listen("proxy_protocol = [\"127.0.0.1\"]\ntrusted_proxies = [\"192.0.2.9\"]")
        .purge("allow = [\"192.0.2.7\"]")
        .start()
        .await;
    let purge = Request::new("PURGE", "/");
    introduced(&proxy, LINE).await.ask(&purge).await.expect_status(200);
    for other in [
        "PROXY TCP4 192.0.2.8 198.51.100.2 56324 80\r\n",
        // The balancer's own address may not: nobody is behind it.
        "PROXY UNKNOWN\r\n",
    ] {
        let answer =
            introduced(&proxy, other).await.ask(&purge.clone().header("X-Forwarded-For", "192.0.2.7")).await;
        assert_eq!(answer.status, 405, "{other}");
    }
    // Behind the balancer another proxy, which is believed.
    let mut behind = introduced(&proxy, "PROXY TCP4 192.0.2.9 198.51.100.2 1 80\r\n").await;
    behind.ask(&purge.clone().header("X-Forwarded-For", "192.0.2.7")).await.expect_status(200);
    behind.ask(&purge.clone().header("X-Forwarded-For", "192.0.2.7, 192.0.2.8")).await.expect_status(405);
}

#[tokio::test]
async fn trusted_proxies_say_for_whom_they_ask() {
    let node = Node::start().await;
    node.serve_everything(Page::composed(|request| {
        let told = ["x-forwarded-for", "x-forwarded-proto"]
            .map(|name| request.header(name).unwrap_or("?").to_owned());
        Page::text(told.join(" ")).fresh_for(60)
    }));
    let proxy = Setup::before(&node)
        .listen("http2 = true\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]")
        .start()
        .await;
    let mut connection = proxy.connect().await;
    for (place, (said, proto, expected)) in [
        ("192.0.2.1", "https", "192.0.2.1, 127.0.0.1 https"),
        ("6.6.6.6, 192.0.2.1", "http", "192.0.2.1, 127.0.0.1 http"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.3", "https", "192.0.2.1, 10.0.0.3, 127.0.0.1 https"),
    ]
    .into_iter()
    .enumerate()
    {
        for (way, request) in [
            ("get", Request::get(&format!("/page?{place}"))),
            ("small", Request::post("/page", "body")),
            ("large", Request::post("/page", vec![b'x'; 200_000])),
        ] {
            let request = request.header("X-Forwarded-For", said).header("X-Forwarded-Proto", proto);
            assert_eq!(connection.ask(&request).await.text(), expected, "{way}");
        }
        let mut session = Session::open(proxy.address()).await;
        for method in ["GET", "POST"] {
            let request = session
                .request(method, "/h2")
                .header("x-forwarded-for", said)
                .header("x-forwarded-proto", proto);
            let request = request.header("cache-control", "no-cache");
            let answer = session.send(request).await.answer().await;
            assert!(method == "GET" || answer.text() == expected, "{answer:?}");
        }
    }
    // A page of one scheme is none of the other's.
    let by = async |proto: &str| {
        proxy
            .ask(
                &Request::get("/scheme")
                    .header("X-Forwarded-For", "192.0.2.1")
                    .header("X-Forwarded-Proto", proto),
            )
            .await
            .text()
    };
    assert_eq!(by("https").await, "192.0.2.1, 127.0.0.1 https");
    assert_eq!(by("http").await, "192.0.2.1, 127.0.0.1 http");
    assert_eq!((by("https").await, node.count("/scheme")), ("192.0.2.1, 127.0.0.1 https".to_owned(), 2));
    // Others are not believed.
    let mut stranger = Connection::open_from([127, 0, 0, 9].into(), proxy.address()).await;
    let request =
        Request::get("/stranger").header("X-Forwarded-For", "192.0.2.1").header("X-Forwarded-Proto", "https");
    assert_eq!(stranger.ask(&request).await.text(), "127.0.0.9 http");
}

#[tokio::test]
async fn or_they_say_it_as_the_rfc_has_it() {
    let node = Node::start().await;
    node.serve_everything(Page::echo());
    let proxy = Setup::before(&node)
        .listen("trusted_proxies = [\"127.0.0.1\"]\nclient_header = \"forwarded\"")
        .start()
        .await;
    let request = Request::get("/")
        .header("Forwarded", "for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https;host=evil.test")
        .header("X-Forwarded-For", "6.6.6.6");
    proxy.ask(&request).await.expect_status(200);
    let seen = node.last("/");
    assert_eq!(seen.headers("x-forwarded-for"), ["2001:db8::7, 127.0.0.1"]);
    assert_eq!(seen.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.header("forwarded"), None);
    assert_ne!(seen.header("x-forwarded-host"), Some("evil.test"));
}

/// Asks over a connection from this address.
async fn from(address: [u8; 4], to: SocketAddr) -> u16 {
    Connection::open_from(address.into(), to).await.get("/").await.status
}

#[tokio::test]
async fn haproxy_brings_its_clients_over_tcp_and_unix_sockets() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("edge.sock");
    let unix = format!("[[listen]]\naddress = \"unix:{}\"\nproxy_protocol = [\"unix\"]\n", socket.display());
    let proxy = Setup::before(&node).listen("proxy_protocol = [\"127.0.0.1\"]").more(&unix).start().await;
    let over_unix = format!("unix@{}", socket.display());
    for (server, words) in [
        (proxy.address().to_string(), "send-proxy"),
        (proxy.address().to_string(), "send-proxy-v2"),
        (proxy.address().to_string(), "send-proxy-v2 proxy-v2-options unique-id,crc32c"),
        (over_unix, "send-proxy-v2"),
    ] {
        let balancer = Haproxy::before(&server, words, None).await;
        assert_eq!(from([127, 0, 0, 77], balancer.address()).await, 200);
        let seen = node.last("/");
        assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.77"], "{server} {words}");
        assert_eq!(seen.headers("x-forwarded-proto"), ["http"], "{server} {words}");
    }
}

#[tokio::test]
async fn haproxy_ends_tls_or_lets_it_through() {
    const NAME: &str = "www.example.com";
    let node = Node::start().await;
    node.serve_everything(Page::echo().no_store());
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node)
        .listen("proxy_protocol = [\"127.0.0.1\"]")
        .tls(&[&certificate])
        .tls_listen("proxy_protocol = [\"127.0.0.1\"]")
        .start()
        .await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let ends = Haproxy::before(&proxy.address().to_string(), "send-proxy-v2-ssl", Some(&certificate)).await;
    let through = Haproxy::before(&proxy.tls_address().to_string(), "send-proxy-v2", None).await;
    for (way, balancer) in [("ends", &ends), ("through", &through)] {
        let (mut connection, _) = visitor.connect(balancer.address(), NAME).await.unwrap();
        connection.ask(&Request::get("/").host(NAME)).await.expect_status(200);
        let seen = node.last("/");
        assert_eq!(seen.headers("x-forwarded-proto"), ["https"], "{way}");
        assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"], "{way}");
    }
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_tls_handshakes_total", &[("result", "full")]), 1.0);
    assert!(read(&metrics, "read") >= 2.0);
}
