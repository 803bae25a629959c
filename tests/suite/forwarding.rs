//! What Symfony makes of what nodes are told of the visitor: `Request::setTrustedProxies` with Clearcoat's address.

use std::net::{IpAddr, Ipv4Addr};

use clearcoat_tests::real::PhpServer;
use clearcoat_tests::{Certificate, Connection, Request, Setup, TlsVisitor};

const NAME: &str = "www.example.com";

/// The same question on each road to a node: a fetch, a small body, a large one.
async fn told(connection: &mut Connection, trusted: &str, request: impl Fn(Request) -> Request) -> String {
    let target = format!("/visitor.php?trusted={trusted}");
    let mut told = Vec::new();
    for asked in
        [Request::get(&target), Request::post(&target, "small"), Request::post(&target, vec![b'x'; 300_000])]
    {
        told.push(connection.ask(&request(asked)).await.expect_status(200).text());
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    told.remove(0)
}

fn forged(request: Request) -> Request {
    request
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Host", "evil.test")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Port", "6666")
        .header("X-Forwarded-Prefix", "/evil")
        .header("Forwarded", "for=6.6.6.6;host=evil.test;proto=https")
}

#[tokio::test]
async fn symfony_knows_scheme_host_port_and_visitor() {
    let node = PhpServer::start("web1").await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node).tls(&[&certificate]).start().await;
    let stranger = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    for (host, expected) in [
        ("www.example.com", "plain http://www.example.com/visitor.php www.example.com 80 127.0.0.2"),
        (
            "www.example.com:8080",
            "plain http://www.example.com:8080/visitor.php www.example.com 8080 127.0.0.2",
        ),
        ("[2001:db8::1]:8080", "plain http://[2001:db8::1]:8080/visitor.php [2001:db8::1] 8080 127.0.0.2"),
    ] {
        let mut connection = Connection::open_from(stranger, proxy.address()).await;
        assert_eq!(told(&mut connection, "127.0.0.1", |request| request.host(host)).await, expected);
        let all = |request: Request| forged(request.host(host));
        assert_eq!(told(&mut connection, "127.0.0.1", all).await, expected, "forged");
    }
    let visitor = TlsVisitor::trusting(&[&certificate]);
    for (host, expected) in [
        ("www.example.com", "secure https://www.example.com/visitor.php www.example.com 443 127.0.0.1"),
        ("www.example.com:443", "secure https://www.example.com/visitor.php www.example.com 443 127.0.0.1"),
        (
            "www.example.com:8443",
            "secure https://www.example.com:8443/visitor.php www.example.com 8443 127.0.0.1",
        ),
    ] {
        let (mut connection, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
        assert_eq!(told(&mut connection, "127.0.0.1", |request| request.host(host)).await, expected);
    }
}

#[tokio::test]
async fn symfony_finds_the_visitor_behind_more_proxies() {
    let node = PhpServer::start("web1").await;
    let proxy = Setup::before(&node).listen("trusted_proxies = [\"127.0.0.1\", \"10.0.0.7\"]").start().await;
    let mut connection = proxy.connect().await;
    for (chain, scheme, expected) in [
        ("192.0.2.1", "https", "secure https://www.example.com/visitor.php www.example.com 443 192.0.2.1"),
        (
            "6.6.6.6, 192.0.2.1, 10.0.0.7",
            "http",
            "plain http://www.example.com/visitor.php www.example.com 80 192.0.2.1",
        ),
        (
            "2001:db8::7",
            "https",
            "secure https://www.example.com/visitor.php www.example.com 443 2001:db8::7",
        ),
    ] {
        let behind = |request: Request| {
            request.host(NAME).header("X-Forwarded-For", chain).header("X-Forwarded-Proto", scheme)
        };
        assert_eq!(told(&mut connection, "127.0.0.1,10.0.0.7", behind).await, expected, "{chain}");
    }
}
