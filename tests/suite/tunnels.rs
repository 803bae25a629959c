//! Another protocol on a connection that began as HTTP: WebSocket above all, asked for by HTTP/1 (RFC 9110 section 7.8) and by HTTP/2
//! (RFC 8441).

use std::fs;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clearcoat_tests::http2::{Asked, Session, rest};
use clearcoat_tests::process::Signal;
use clearcoat_tests::scripted::Talk;
use clearcoat_tests::websocket::agreement;
use clearcoat_tests::{
    Certificate, Connection, Node, Page, Proxy, Request, Scripted, Setup, TlsVisitor, wait,
};
use h2::ext::Protocol;
use h2::{Reason, RecvStream};

const NAME: &str = "www.example.com";

/// RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(crate) fn socket(path: &str) -> Request {
    Request::get(path)
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// Agrees, and sends back whatever comes until the client is through.
pub(crate) async fn echo(mut talk: Talk) -> Result<()> {
    let agreement = agreement(&talk)?;
    talk.say(agreement).await?;
    loop {
        let bytes = talk.hear().await?;
        if bytes.is_empty() {
            return talk.finish().await;
        }
        talk.say(bytes).await?;
    }
}

/// Sends the request and reads that the protocol changes.
pub(crate) async fn upgrade(visitor: &mut Connection, request: &Request) {
    visitor.send(request.to_bytes()).await.unwrap();
    let head = visitor.head("GET").await.unwrap();
    assert_eq!((head.status(), head.header("upgrade")), (101, Some("websocket")), "{head:?}");
    assert_eq!(head.header("connection"), Some("Upgrade"));
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

async fn tunnels_open(proxy: &Proxy) -> f64 {
    proxy.metrics().await.sum("clearcoat_tunnels_open", &[])
}

async fn limit(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

/// As many bytes, each by its place.
fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 * 7 + at % 251) as u8).collect()
}

/// Sends much and takes the same back at the same time.
async fn carries(visitor: Connection, bytes: Vec<u8>) {
    let mut visitor = visitor;
    for piece in bytes.chunks(300_000) {
        // Never more on its way than all the buffers between take.
        visitor.send(piece).await.unwrap();
        assert!(visitor.bytes(piece.len() as u64).await.unwrap() == piece, "the bytes differ");
    }
    visitor.finish_sending().await.unwrap();
    visitor.closed().await.unwrap();
}

#[tokio::test]
async fn bytes_go_both_ways_plain_and_under_tls() {
    let node = Scripted::start(echo).await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node)
        .tls(&[&certificate])
        .more("[log.access]\nfile = \"access.log\"\nformat = \"json\"")
        .start()
        .await;
    let bytes = patterned(3_000_000);
    let mut plain = proxy.connect().await;
    upgrade(&mut plain, &socket("/plain")).await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let (mut secure, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
    upgrade(&mut secure, &socket("/secure")).await;
    assert_eq!((tunnels_open(&proxy).await, node.open()), (2.0, 2));
    carries(plain, bytes.clone()).await;
    carries(secure, bytes.clone()).await;
    wait::until("both to be over", async || {
        (tunnels_open(&proxy).await == 0.0 && node.open() == 0).then_some(())
    })
    .await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_tunnels_opened_total", &[]), 2.0);
    for towards in ["client", "node"] {
        let carried = metrics.sum("clearcoat_tunnel_bytes_total", &[("towards", towards)]);
        assert_eq!(carried, 6_000_000.0, "{towards}");
    }
    let log = wait::until("two lines", async || {
        let text = fs::read_to_string(proxy.folder().join("access.log")).unwrap_or_default();
        (text.lines().count() == 2 && text.ends_with('\n')).then_some(text)
    })
    .await;
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (record["status"].as_u64(), record["bytes"].as_u64()),
            (Some(101), Some(3_000_000)),
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_comes_together_with_the_heads_is_not_lost() {
    let node = Scripted::start(async |mut talk: Talk| {
        let agreement = agreement(&talk)? + "hello";
        talk.say(agreement).await?;
        let early = talk.hear_exactly(5).await?;
        talk.say(early).await
    })
    .await;
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    // A client that does not wait has its bytes kept until the node has agreed.
    let bytes = [&socket("/").to_bytes()[..], b"early"].concat();
    visitor.send(bytes).await.unwrap();
    assert_eq!(visitor.head("GET").await.unwrap().status(), 101);
    assert_eq!(visitor.bytes(10).await.unwrap(), "helloearly");
    visitor.closed().await.unwrap();
}

#[tokio::test]
async fn each_side_may_be_through_before_the_other() {
    let node = Scripted::start(async |mut talk: Talk| {
        let agreement = agreement(&talk)?;
        talk.say(agreement).await?;
        assert!(talk.hear().await?.is_empty());
        talk.say("the last word").await
    })
    .await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node).tls(&[&certificate]).start().await;
    let visitor = TlsVisitor::trusting(&[&certificate]);
    let secure = visitor.connect(proxy.tls_address(), NAME).await.unwrap().0;
    for mut visitor in [proxy.connect().await, secure] {
        upgrade(&mut visitor, &socket("/")).await;
        visitor.finish_sending().await.unwrap();
        assert_eq!(visitor.bytes(13).await.unwrap(), "the last word");
        visitor.closed().await.unwrap();
    }
}

#[tokio::test]
async fn who_does_not_get_another_protocol_smuggles_nothing() {
    let node = Scripted::start(async |mut talk: Talk| match talk.path() {
        "/refused" => talk.say("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno").await,
        "/ignored" => {
            talk.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n").await
        }
        "/another" => talk.say("HTTP/1.1 101 So\r\nConnection: Upgrade\r\nUpgrade: irc\r\n\r\nno").await,
        "/unsaid" => talk.say("HTTP/1.1 101 So\r\n\r\nno").await,
        _ => Ok(()),
    })
    .await;
    let proxy = Setup::before(&node).pool("passive = { errors = 1000 }").start().await;
    for (path, status) in [("/refused", 403), ("/ignored", 200), ("/another", 502), ("/unsaid", 502)] {
        let before = node.requests();
        let mut visitor = proxy.connect().await;
        let mut bytes = socket(path).to_bytes();
        bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        visitor.send(bytes).await.unwrap();
        let answer = visitor.answer("GET").await.unwrap().expect_status(status);
        assert!(answer.closes(), "{answer}");
        assert!(status >= 500 || answer.text() == "no", "{answer}");
        visitor.closed().await.unwrap();
        assert_eq!(node.requests(), before + 1, "{path}: what came behind was not heard by anybody");
    }
    assert_eq!(proxy.metrics().await.sum("clearcoat_tunnels_opened_total", &[]), 0.0);
}

#[tokio::test]
async fn only_a_plain_get_is_heard_when_it_asks_for_another_protocol() {
    let node = Node::start().await;
    node.serve_everything(Page::text("page").no_store());
    let proxy = Proxy::before(&node).await;
    let asks = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let long = "x".repeat(100_000);
    for (number, text) in [
        format!("POST /0 HTTP/1.1\r\nHost: a\r\n{asks}Content-Length: 4\r\n\r\nbody"),
        format!("POST /1 HTTP/1.1\r\nHost: a\r\n{asks}Content-Length: 100000\r\n\r\n{long}"),
        format!("POST /2 HTTP/1.1\r\nHost: a\r\n{asks}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
        format!("GET /3 HTTP/1.1\r\nHost: a\r\n{asks}Content-Length: 4\r\n\r\nbody"),
        format!("OPTIONS /4 HTTP/1.1\r\nHost: a\r\n{asks}\r\n"),
        "GET /5 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "GET /6 HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n".to_owned(),
        format!("POST /7 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 100000\r\n\r\n{long}"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        let mut visitor = proxy.connect().await;
        // The next request on the connection is one of its own.
        let text = text + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
        visitor.send(&text).await.unwrap();
        assert_eq!(visitor.answer("GET").await.unwrap().expect_status(200).text(), "page", "{path}");
        assert_eq!(visitor.answer("GET").await.unwrap().expect_status(200).text(), "page", "{path}");
        let seen = node.last(&path);
        assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None), "{path}");
    }
    let mut old = proxy.connect().await;
    old.send(format!("GET /old HTTP/1.0\r\nHost: a\r\n{asks}\r\n")).await.unwrap();
    assert_eq!(old.answer("GET").await.unwrap().expect_status(200).text(), "page");
    assert_eq!(node.last("/old").header("upgrade"), None);
}

#[tokio::test]
async fn hints_may_come_before_the_protocol_changes() {
    let node = Scripted::start(async |mut talk: Talk| {
        assert_eq!((talk.header("upgrade"), talk.header("connection")), (Some("websocket"), Some("Upgrade")));
        talk.say("HTTP/1.1 103 Hints\r\n\r\n").await?;
        let agreement = agreement(&talk)?;
        talk.say(agreement).await?;
        talk.say("hi").await
    })
    .await;
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    visitor.send(socket("/").to_bytes()).await.unwrap();
    assert_eq!(visitor.interim().await.unwrap(), 103);
    assert_eq!(visitor.head("GET").await.unwrap().status(), 101);
    assert_eq!(visitor.bytes(2).await.unwrap(), "hi");
}

#[tokio::test]
async fn the_end_of_one_side_is_told_to_the_other_at_once() {
    let node = Scripted::start(echo).await;
    let proxy = Setup::before(&node).start().await;
    let mut visitors = Vec::new();
    for number in 0..2 {
        let mut visitor = proxy.connect().await;
        upgrade(&mut visitor, &socket(&format!("/{number}"))).await;
        visitors.push(visitor);
    }
    drop(visitors.pop());
    wait::until("the node to hear that one has left", async || (node.open() == 1).then_some(())).await;
    let mut left = visitors.pop().unwrap();
    left.send("still here").await.unwrap();
    assert_eq!(left.bytes(10).await.unwrap(), "still here");
    node.die();
    left.closed().await.unwrap();
    drop(left);
    wait::until("nothing to be left", async || (tunnels_open(&proxy).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_tunnel_that_rests_is_closed_by_its_own_limit_alone() {
    let node = Scripted::start(echo).await;
    // All other limits are shorter, and none of them is for tunnels.
    let proxy = Setup::before(&node)
        .limits("tunnel_timeout = \"1500ms\"\nidle_timeout = \"200ms\"\nbody_timeout = \"200ms\"\nheader_timeout = \"500ms\"")
        .pool("timeouts = { first_byte = \"300ms\", between_bytes = \"200ms\" }")
        .start()
        .await;
    let mut visitor = proxy.connect().await;
    upgrade(&mut visitor, &socket("/")).await;
    let begun = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(900)).await;
    visitor.send("ping").await.unwrap();
    assert_eq!(visitor.bytes(4).await.unwrap(), "ping");
    visitor.closed().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(2400), "{:?}", begun.elapsed());
    assert_eq!(limit(&proxy, "tunnel_timeout").await, 1.0);
    wait::until("the node to hear of it", async || (node.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_tunnels_as_for_requests() {
    let node = Scripted::start(echo).await;
    for ends in [true, false] {
        let top = if ends { "shutdown_timeout = \"60s\"" } else { "shutdown_timeout = \"1s\"" };
        let mut proxy = Setup::before(&node).top(top).start().await;
        let mut visitor = proxy.connect().await;
        upgrade(&mut visitor, &socket("/")).await;
        proxy.signal(Signal::Term);
        wait::until("new visitors to be refused", async || {
            Connection::try_open(proxy.address()).await.is_err().then_some(())
        })
        .await;
        visitor.send("ping").await.unwrap();
        assert_eq!(visitor.bytes(4).await.unwrap(), "ping");
        if ends {
            drop(visitor);
            assert_eq!(proxy.exit_code().await, Some(0));
        } else {
            // Waits no longer than the suite's patience.
            proxy.exit_code().await;
            visitor.closed().await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_reads_slowly_slows_the_other_side_and_costs_no_memory() {
    const PIECE: usize = 64 << 10;
    let node = Scripted::start(async |mut talk: Talk| {
        let agreement = agreement(&talk)?;
        talk.say(agreement).await?;
        for _ in 0..(128 << 20) / PIECE {
            talk.say(vec![b'x'; PIECE]).await?;
        }
        Ok(())
    })
    .await;
    let proxy = Setup::before(&node).limits("write_timeout = \"2s\"").start().await;
    let before = proxy.resident_bytes();
    let mut visitors = Vec::new();
    for _ in 0..8 {
        let mut visitor = Connection::open_narrow(proxy.address()).await;
        upgrade(&mut visitor, &socket("/")).await;
        visitors.push(visitor);
    }
    wait::until("the limit on writing to fire for all", async || {
        (limit(&proxy, "write_timeout").await == 8.0).then_some(())
    })
    .await;
    let sent = proxy.metrics().await.sum("clearcoat_tunnel_bytes_total", &[("towards", "client")]);
    assert!(sent < (128 << 20) as f64, "{sent} bytes were taken in for 8 who read nothing");
    let growth = proxy.resident_bytes().saturating_sub(before) >> 20;
    assert!(growth <= 24, "{growth} MiB");
}

#[tokio::test]
async fn tunnels_at_rest_hold_next_to_nothing() {
    let node = Scripted::start(echo).await;
    let proxy = Setup::before(&node).start().await;
    let open = async |count: usize| {
        let mut visitors = Vec::new();
        for _ in 0..count {
            let mut visitor = proxy.connect().await;
            upgrade(&mut visitor, &socket("/")).await;
            visitor.send(vec![b'x'; 20_000]).await.unwrap();
            visitor.bytes(20_000).await.unwrap();
            visitors.push(visitor);
        }
        visitors
    };
    let first = open(50).await;
    let before = proxy.resident_bytes();
    let visitors = open(400).await;
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert_eq!(tunnels_open(&proxy).await, 450.0);
    assert!(growth / 400 <= 40 << 10, "{} bytes a tunnel", growth / 400);
    drop((first, visitors));
    wait::until("all to be over", async || (tunnels_open(&proxy).await == 0.0).then_some(())).await;
}

/// Asks for a WebSocket over a stream.
async fn connect(session: &mut Session, path: &str) -> Asked {
    let request = http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{NAME}{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "of the client")
        .extension(Protocol::from_static("websocket"));
    session.try_send(request.body(()).unwrap(), false).await.unwrap()
}

/// Reads so many bytes of a stream.
async fn read(body: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < count {
        let piece = wait::soon("more of a stream", body.data()).await.expect("more of it").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        read.extend_from_slice(&piece);
    }
    read
}

#[tokio::test]
async fn a_stream_of_http2_becomes_a_websocket() {
    let node = Scripted::start(async |talk: Talk| {
        if talk.path() == "/page" {
            return Ok(());
        }
        assert_eq!(talk.head.method, "GET");
        assert_eq!(talk.header("host"), Some(NAME));
        assert_eq!(talk.header("sec-websocket-key").map(str::len), Some(24));
        echo(talk).await
    })
    .await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node).tls(&[&certificate]).start().await;
    let visitor = TlsVisitor::trusting(&[&certificate]).offering(&["h2"]);
    let (mut session, _) = visitor.connect_http2(proxy.tls_address(), NAME).await.unwrap();
    let asked = connect(&mut session, "/socket").await;
    let (head, mut send, mut body) = asked.opened().await.unwrap();
    assert_eq!(head.status, 200);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(head.headers.get(name), None, "{name}");
    }
    let bytes = patterned(1_000_000);
    for piece in bytes.chunks(50_000) {
        send.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        assert!(read(&mut body, piece.len()).await == piece, "the bytes differ");
    }
    assert_eq!((tunnels_open(&proxy).await, node.open()), (1.0, 1));
    // Other streams of the connection go on beside it.
    let answer = session.send(session.request("GET", "/page")).await.try_answer().await.unwrap();
    assert!(answer.status.is_server_error(), "the node breaks off when it is asked for a page");
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(rest(body).await.unwrap(), "");
    wait::until("it to be over", async || (tunnels_open(&proxy).await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_stream_that_gets_no_websocket_is_told_so() {
    let node = Scripted::start(async |mut talk: Talk| {
        let agreement = agreement(&talk)?;
        let wrong = agreement.replace("Accept: ", "Accept: x");
        talk.say(match talk.path() {
            "/refused" => "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
            "/ignored" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
            "/wrong" => &wrong,
            _ => &agreement,
        })
        .await
    })
    .await;
    let proxy = Setup::before(&node).listen("http2 = true").pool("passive = { errors = 1000 }").start().await;
    let mut session = Session::open(proxy.address()).await;
    for (path, status, text) in [("/refused", 403, "no"), ("/ignored", 502, ""), ("/wrong", 502, "")] {
        let answer = connect(&mut session, path).await.try_answer().await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(text.is_empty() || answer.text() == text, "{path}");
    }
    // No other protocol is spoken over streams, and no tunnel is made to anywhere else.
    let request = http::Request::builder()
        .method("CONNECT")
        .uri(format!("http://{NAME}/"))
        .extension(Protocol::from_static("connect-udp"));
    let asked = session.try_send(request.body(()).unwrap(), false).await.unwrap();
    assert!(asked.try_answer().await.unwrap().status.as_u16() >= 400);
    assert_eq!(node.requests(), 3);
    // Where the node leaves, the stream is over.
    let (head, _send, body) = connect(&mut session, "/leaves").await.opened().await.unwrap();
    assert_eq!(head.status, 200);
    assert!(rest(body).await.is_ok_and(|rest| rest.is_empty()));
}

#[tokio::test]
async fn a_stream_that_is_taken_back_ends_its_websocket() {
    let node = Scripted::start(echo).await;
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    let mut session = Session::open(proxy.address()).await;
    let (_, mut send, mut body) = connect(&mut session, "/").await.opened().await.unwrap();
    send.send_data("ping".into(), false).unwrap();
    assert_eq!(read(&mut body, 4).await, b"ping");
    send.send_reset(Reason::CANCEL);
    wait::until("the node to hear of it", async || (node.open() == 0).then_some(())).await;
    let (_, mut send, mut body) = connect(&mut session, "/").await.opened().await.unwrap();
    send.send_data("pong".into(), false).unwrap();
    assert_eq!(read(&mut body, 4).await, b"pong");
    node.die();
    assert!(rest(body).await.is_ok_and(|rest| rest.is_empty()));
    drop(send);
    wait::until("nothing to be left", async || (tunnels_open(&proxy).await == 0.0).then_some(())).await;
}
