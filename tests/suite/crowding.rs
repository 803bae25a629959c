//! Clients with many connections: what one may have, what all may have, and that each is given back.

use std::net::IpAddr;
use std::time::Duration;

use clearcoat_tests::http2::Session;
use clearcoat_tests::{Certificate, Connection, Node, Page, Proxy, Request, Setup, TlsVisitor, wait};

async fn fired(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

async fn page() -> Node {
    let node = Node::start().await;
    node.serve("/", Page::text("page").fresh_for(600));
    node
}

/// Whether a connection is served; if not, it has to be closed without a word.
async fn is_served(connection: &mut Connection) -> bool {
    if connection.send(Request::get("/").to_bytes()).await.is_err() {
        return false;
    }
    match connection.answer("GET").await {
        Ok(answer) => {
            answer.expect_status(200);
            true
        }
        Err(_) => {
            connection.closed_within(Duration::from_secs(5)).await.expect("closed, not kept");
            false
        }
    }
}

async fn from(address: [u8; 4], proxy: &Proxy) -> Connection {
    Connection::open_from(IpAddr::from(address), proxy.address()).await
}

#[tokio::test]
async fn a_client_has_so_many_connections_at_a_time_and_gets_each_back() {
    let node = page().await;
    let certificate = Certificate::of(&["www.example.com"]);
    let proxy = Setup::before(&node)
        .listen("http2 = true")
        .tls(&[&certificate])
        .limits("connections_per_client = 3")
        .start()
        .await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    // HTTP/1, HTTP/2 and TLS are counted together, from the first byte on.
    let mut plain = wait::until("the harness's own to be gone", async || {
        let mut plain = proxy.connect().await;
        is_served(&mut plain).await.then_some(plain)
    })
    .await;
    let mut http2 =
        wait::until("another place", async || Session::try_open(proxy.address()).await.ok()).await;
    let silent = proxy.connect().await;
    wait::until("it to be counted", async || {
        let open = proxy.metrics().await.sum("clearcoat_connections_open", &[]);
        (open >= 3.0).then_some(())
    })
    .await;
    let before = fired(&proxy, "connections_per_client").await;
    let handshakes = |metrics: clearcoat_tests::Metrics| metrics.sum("clearcoat_tls_handshakes_total", &[]);
    let shaken = handshakes(proxy.metrics().await);
    assert!(!is_served(&mut proxy.connect().await).await);
    assert!(visitor.connect(proxy.tls_address(), "www.example.com").await.is_err());
    assert_eq!(fired(&proxy, "connections_per_client").await, before + 2.0);
    assert_eq!(handshakes(proxy.metrics().await), shaken, "nobody shakes hands for nothing");
    // Another client is not asked to wait, and those who are in go on.
    let mut stranger = from([127, 0, 0, 2], &proxy).await;
    assert!(is_served(&mut stranger).await && is_served(&mut plain).await);
    assert_eq!(http2.get("/").await.text(), "page");
    // Whatever ends a connection gives its place back: the client's close, ours, a reset, a failed handshake.
    drop(silent);
    for round in 0..30 {
        wait::until("a place", async || {
            let mut next = proxy.connect().await;
            if !is_served(&mut next).await {
                return None;
            }
            match round % 3 {
                0 => drop(next.ask(&Request::get("/").header("Connection", "close")).await),
                1 => drop(next.send("nonsense\r\n\r\n").await),
                _ => drop(next.send("GET / HTTP/1.1\r\nHost: half").await),
            }
            Some(())
        })
        .await;
    }
    wait::until("a place under TLS", async || {
        visitor.connect(proxy.tls_address(), "www.example.com").await.ok()
    })
    .await;
}

#[tokio::test]
async fn who_the_proxy_header_names_is_counted_and_not_who_brings_them() {
    let node = page().await;
    let proxy = Setup::before(&node)
        .listen("proxy_protocol = [\"127.0.0.0/8\"]\ntrusted_proxies = [\"192.0.2.9\"]")
        .limits("connections_per_client = 1")
        .start()
        .await;
    let introduced = async |header: &str| {
        let mut connection = proxy.connect().await;
        connection.send(header).await.unwrap();
        let served = is_served(&mut connection).await;
        (connection, served)
    };
    let mut kept = Vec::new();
    for (header, expected) in [
        ("PROXY TCP4 192.0.2.7 198.51.100.2 56324 80\r\n", true),
        ("PROXY TCP4 192.0.2.7 198.51.100.2 56325 80\r\n", false),
        ("PROXY TCP4 192.0.2.8 198.51.100.2 56324 80\r\n", true),
        // A network of 64 bits is one client.
        ("PROXY TCP6 2001:db8::1 ::1 1 80\r\n", true),
        ("PROXY TCP6 2001:db8::2:0:0:1 ::1 1 80\r\n", false),
        ("PROXY TCP6 2001:db8:0:1::1 ::1 1 80\r\n", true),
        // Many come through a trusted proxy, and a balancer that asks for itself is nobody's visitor.
        ("PROXY TCP4 192.0.2.9 198.51.100.2 1 80\r\n", true),
        ("PROXY TCP4 192.0.2.9 198.51.100.2 2 80\r\n", true),
        ("PROXY UNKNOWN\r\n", true),
        ("PROXY UNKNOWN\r\n", true),
    ] {
        let (connection, served) = introduced(header).await;
        assert_eq!(served, expected, "{header}");
        kept.push(connection);
    }
    assert_eq!(fired(&proxy, "connections_per_client").await, 2.0);
    kept.clear();
    wait::until("192.0.2.7 to be let in again", async || {
        introduced("PROXY TCP4 192.0.2.7 198.51.100.2 56326 80\r\n").await.1.then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_together_have_so_many_connections() {
    let node = page().await;
    let proxy = Setup::before(&node).limits("max_connections = 10").start().await;
    wait::until("the harness's own to be gone", async || {
        let open = proxy.metrics().await.sum("clearcoat_connections_open", &[]);
        (open == 0.0).then_some(())
    })
    .await;
    let mut kept = Vec::new();
    for number in 0..10u8 {
        let mut connection = from([127, 0, 1, number + 1], &proxy).await;
        assert!(is_served(&mut connection).await, "{number}");
        kept.push(connection);
    }
    assert!(!is_served(&mut from([127, 0, 2, 1], &proxy).await).await);
    assert_eq!(fired(&proxy, "connections").await, 1.0);
    assert!(is_served(&mut kept[3]).await);
    kept.truncate(9);
    wait::until("a place", async || is_served(&mut from([127, 0, 2, 1], &proxy).await).await.then_some(()))
        .await;
}
