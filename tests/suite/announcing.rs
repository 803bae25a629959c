//! Nodes that are told of each visitor by a PROXY header, as real nginx and HAProxy read it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clearcoat_tests::http2::Session;
use clearcoat_tests::real::{Haproxy, Nginx};
use clearcoat_tests::scripted::Talk;
use clearcoat_tests::websocket::agreement;
use clearcoat_tests::{
    Address as _, Answer, Certificate, Connection, Proxy, Request, Scripted, Served, Setup, wait,
};
use h2::ext::Protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const VERSIONS: [&str; 2] = ["v1", "v2"];

/// A pool whose nodes expect a header of this version. Probes only connect: that goes for every kind of node.
fn announcing(version: &str) -> String {
    format!(
        "proxy_protocol = \"{version}\"\nhealth = {{ type = \"tcp\", interval = \"200ms\", timeout = \"1s\" }}"
    )
}

async fn from(last: u8, proxy: &Proxy) -> (String, Connection) {
    let address = Ipv4Addr::new(127, 0, 0, last);
    (address.to_string(), Connection::open_from(IpAddr::V4(address), proxy.address()).await)
}

/// Asks, on a connection of its own if the last answer ended this one: an upgrade that is not granted does.
async fn ask(proxy: &Proxy, address: &str, connection: &mut Connection, request: &Request) -> Answer {
    let answer = connection.ask(request).await.expect_status(200);
    if answer.closes() {
        *connection = Connection::open_from(address.parse().unwrap(), proxy.address()).await;
    }
    answer
}

/// On every road to a node: a fetch, a small body, large ones, what might become an upgrade.
fn requests(target: &str) -> [Request; 6] {
    let large = || vec![b'x'; 300_000];
    [
        Request::get(target),
        Request::post(target, "small"),
        Request::post(target, large()),
        Request::post(target, large()).chunked(),
        Request::get(target).header("Connection", "Upgrade").header("Upgrade", "websocket"),
        Request::new("OPTIONS", target),
    ]
}

#[tokio::test]
async fn nginx_sees_each_visitor_on_every_road() {
    for version in VERSIONS {
        let nginx = Nginx::announced("web1", None).await;
        let proxy = Setup::before(&nginx).pool(&announcing(version)).start().await;
        let mut visitors = [from(2, &proxy).await, from(3, &proxy).await];
        for round in 0..3 {
            for request in requests("/who") {
                for (address, connection) in &mut visitors {
                    let answer = ask(&proxy, address, connection, &request).await;
                    let method = request.method();
                    assert_eq!(answer.text(), *address, "{version}, round {round}: {method}");
                }
            }
        }
    }
}

/// A node that tells whom the balancer before it has seen: in a page, or as the first that a WebSocket hears.
async fn telling(mut talk: Talk) -> anyhow::Result<()> {
    let seen = talk.header("x-seen").unwrap_or_default().to_owned();
    if talk.header("upgrade").is_some() {
        let agreement = agreement(&talk)?;
        talk.say(agreement).await?;
        talk.say(seen).await?;
        let heard = talk.hear().await?;
        return talk.say(heard).await;
    }
    while !talk.piece().await?.is_empty() {}
    talk.say(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{seen}", seen.len()))
        .await
}

#[tokio::test]
async fn haproxy_sees_each_visitor_on_every_road() {
    let node = Scripted::start(telling).await;
    for version in VERSIONS {
        let haproxy = Haproxy::announced(node.address()).await;
        let proxy = Setup::before(&haproxy).pool(&announcing(version)).listen("http2 = true").start().await;
        let mut visitors = [from(2, &proxy).await.1, from(3, &proxy).await.1];
        for round in 0..3 {
            for request in &requests("/")[..4] {
                for visitor in &mut visitors {
                    let answer = visitor.ask(request).await.expect_status(200);
                    let (seen, own) = (answer.text(), visitor.local_address().to_string());
                    assert_eq!(seen, own, "{version}, round {round}: {}", request.method());
                }
            }
        }
        // Both have a WebSocket at once, after requests on the same connections.
        let socket = Request::get("/socket")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        for visitor in &mut visitors {
            visitor.send(socket.to_bytes()).await.unwrap();
            assert_eq!(visitor.head("GET").await.unwrap().status(), 101, "{version}");
        }
        for visitor in &mut visitors {
            let own = visitor.local_address().to_string();
            assert_eq!(visitor.bytes(own.len() as u64).await.unwrap(), own, "{version}");
            visitor.send("still there").await.unwrap();
            assert_eq!(visitor.bytes(11).await.unwrap(), "still there", "{version}");
        }
        // By HTTP/2 requests, and a WebSocket, share the visitor's connection, but none to the node.
        let mut session = Session::open(proxy.address()).await;
        let first = session.get("/").await.text();
        assert!(first.starts_with("127.0.0.1:"), "{version}: {first}");
        let connect = http::Request::builder()
            .method("CONNECT")
            .uri("http://www.example.com/socket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "of the client")
            .extension(Protocol::from_static("websocket"));
        let asked = session.try_send(connect.body(()).unwrap(), false).await.unwrap();
        let (head, _send, mut body) = asked.opened().await.unwrap();
        assert_eq!(head.status, 200, "{version}");
        let seen = wait::soon("what HAProxy saw", body.data()).await.unwrap().unwrap();
        assert_eq!(seen, first, "{version}");
    }
}

#[tokio::test]
async fn nginx_hears_of_the_visitor_before_tls_begins() {
    const NAME: &str = "node.example.com";
    let certificate = Certificate::of(&[NAME]);
    for version in VERSIONS {
        let nginx = Nginx::announced("web1", Some(&certificate)).await;
        let folder = tempfile::tempdir().unwrap();
        let (ca, _) = certificate.write(folder.path());
        // A probe shakes hands too, so the proxy would not be ready without its own header.
        let tls = format!("\ntls = {{ sni = \"{NAME}\", ca = \"{}\" }}", ca.display());
        let proxy = Setup::before(&nginx).pool(&(announcing(version) + &tls)).start().await;
        let mut visitors = [from(2, &proxy).await, from(3, &proxy).await];
        for request in requests("/who") {
            for (address, connection) in &mut visitors {
                let answer = ask(&proxy, address, connection, &request).await;
                assert_eq!(answer.text(), *address, "{version}: {}", request.method());
            }
        }
    }
}

#[tokio::test]
async fn the_visitor_is_the_one_that_a_trusted_proxy_names() {
    for version in VERSIONS {
        let nginx = Nginx::announced("web1", None).await;
        let listen = "http2 = true\ntrusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = [\"127.0.0.9\"]";
        let proxy = Setup::before(&nginx).pool(&announcing(version)).listen(listen).start().await;
        let mut connection = proxy.connect().await;
        for (named, seen) in [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("6.6.6.6, 192.0.2.8, 127.0.0.1", "192.0.2.8"),
        ] {
            for request in requests("/who") {
                let request = request.header("X-Forwarded-For", named);
                let answer = ask(&proxy, "127.0.0.1", &mut connection, &request).await;
                assert_eq!(answer.text(), seen, "{version}: {named}");
            }
            let mut session = Session::open(proxy.address()).await;
            let request = session.request("GET", "/who").header("x-forwarded-for", named);
            let answer = session.send(request).await.answer().await;
            assert_eq!(answer.text(), seen, "{version}: {named} by HTTP/2");
        }
        // A balancer in front says it by the same means.
        let (_, mut balancer) = from(9, &proxy).await;
        balancer.send("PROXY TCP4 192.0.2.77 198.51.100.2 5 80\r\n").await.unwrap();
        assert_eq!(balancer.get("/who").await.expect_status(200).text(), "192.0.2.77", "{version}");
        // And who is no proxy is not believed.
        let (address, mut stranger) = from(2, &proxy).await;
        let forged = Request::get("/who").header("X-Forwarded-For", "192.0.2.7");
        assert_eq!(stranger.ask(&forged).await.expect_status(200).text(), address, "{version}");
    }
}

#[tokio::test]
async fn a_page_that_nobody_waits_for_is_fetched_for_nobody() {
    for version in VERSIONS {
        let nginx = Nginx::announced("web1", None).await;
        let proxy = Setup::before(&nginx).pool(&announcing(version)).start().await;
        let (address, mut visitor) = from(2, &proxy).await;
        let first = visitor.get("/who/cached").await.expect_status(200);
        assert_eq!((first.text(), first.served()), (address, Served::Miss), "{version}");
        // Stale after a second; the one who gets it then has it renewed, and nginx knows nobody but the proxy.
        wait::until("the page to be renewed", async || {
            let answer = visitor.get("/who/cached").await.expect_status(200);
            (answer.text() == "127.0.0.1").then_some(())
        })
        .await;
    }
}

/// The header that a connection begins with, and the request behind it.
async fn heard(node: &TcpListener) -> (Vec<u8>, TcpStream) {
    let (mut stream, _) = node.accept().await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") || !bytes.windows(4).any(|part| part == b"HTTP") {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "{}", bytes.escape_ascii());
    }
    let request = bytes.windows(5).position(|part| part == b"GET /").unwrap();
    bytes.truncate(request);
    (bytes, stream)
}

#[tokio::test]
async fn headers_are_as_they_should_be_and_no_connection_is_used_twice() {
    for version in VERSIONS {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = node.local_addr().unwrap().to_string();
        let pool = format!("proxy_protocol = \"{version}\"\nhealth = {{ type = \"off\" }}");
        let nobody: [&Nginx; 0] = [];
        let proxy = Setup::new(nobody).node_at(&address).pool(&pool).start().await;
        let (_, mut visitor) = from(2, &proxy).await;
        let (port, reached) = (visitor.local_address().port(), proxy.address().port());
        let expected = match version {
            "v1" => format!("PROXY TCP4 127.0.0.2 127.0.0.1 {port} {reached}\r\n").into_bytes(),
            _ => {
                let addresses = [127, 0, 0, 2, 127, 0, 0, 1];
                let ports = [port.to_be_bytes(), reached.to_be_bytes()].concat();
                [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses, &ports].concat()
            }
        };
        for round in 0..3 {
            visitor.send(Request::get("/").to_bytes()).await.unwrap();
            let (header, mut stream) = heard(&node).await;
            assert_eq!(header, expected, "{version}, round {round}");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
            assert_eq!(visitor.answer("GET").await.unwrap().text(), "hi");
            // The node would keep it; the proxy does not.
            let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await;
            assert_eq!(ended.unwrap().unwrap_or(0), 0, "{version}, round {round}");
        }
        // A WebSocket goes on as long as it likes.
        let socket = Request::get("/").header("Connection", "Upgrade").header("Upgrade", "websocket");
        visitor.send(socket.to_bytes()).await.unwrap();
        let (header, mut stream) = heard(&node).await;
        assert_eq!(header, expected, "{version}");
        let switched =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(switched).await.unwrap();
        assert_eq!(visitor.head("GET").await.unwrap().status(), 101);
        assert_eq!(visitor.bytes(5).await.unwrap(), "hello");
        visitor.send("again").await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"again");
    }
}

#[tokio::test]
async fn what_the_proxy_asks_for_itself_names_nobody() {
    for (version, expected) in
        [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", &b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"[..])]
    {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = node.local_addr().unwrap().to_string();
        let pool = format!(
            "proxy_protocol = \"{version}\"\nhealth = {{ type = \"http\", interval = \"200ms\", timeout = \"1s\" }}"
        );
        let nobody: [&Nginx; 0] = [];
        let probed = tokio::spawn(async move {
            let mut headers = Vec::new();
            for _ in 0..3 {
                let (header, mut stream) = heard(&node).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                headers.push(header);
            }
            headers
        });
        let proxy = Setup::new(nobody).node_at(&address).pool(&pool).start().await;
        assert_eq!(probed.await.unwrap(), [expected; 3], "{version}");
        drop(proxy);
    }
}
