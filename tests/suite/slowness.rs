//! Clients that are slow on purpose: what they may hold, and for how long.
//!
//! Deadlines are short here, and a test waits for the counter or the close, with the usual patience. That those who are not
//! slow are left alone is tested beside, with waits as long as the deadlines.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clearcoat_tests::http2::{Asked, Session};
use clearcoat_tests::{Certificate, Connection, Gate, Node, Page, Proxy, Request, Setup, TlsVisitor, wait};
use h2::client;

const MIB: usize = 1 << 20;

async fn fired(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

async fn until_fired(proxy: &Proxy, limit: &str, times: f64) {
    wait::until(&format!("{limit} to fire"), async || (fired(proxy, limit).await >= times).then_some(()))
        .await;
    assert_eq!(fired(proxy, limit).await, times, "{limit}");
}

/// A proxy that speaks everything: HTTP/2 without TLS on the one listener, both versions under TLS on the other.
struct Everything {
    proxy: Proxy,
    visitor: TlsVisitor,
}

impl Everything {
    async fn start(node: &Node, limits: &str) -> Self {
        let certificate = Certificate::of(&["www.example.com"]);
        let setup =
            Setup::before(node).listen("http2 = true").cache("memory = \"128MiB\"\nmax_entry = \"32MiB\"");
        let proxy = setup.tls(&[&certificate]).limits(limits).start().await;
        Self { proxy, visitor: TlsVisitor::trusting(&[&certificate]) }
    }

    async fn tls(&self) -> Connection {
        self.visitor.connect(self.proxy.tls_address(), "www.example.com").await.unwrap().0
    }

    async fn http2(&self) -> [Session; 2] {
        let under_tls = self.visitor.clone().offering(&["h2"]);
        let under_tls = under_tls.connect_http2(self.proxy.tls_address(), "www.example.com").await.unwrap().0;
        [Session::open(self.proxy.address()).await, under_tls]
    }
}

/// The head of a request whose body has so many bytes.
fn upload(length: usize) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: {length}\r\n\r\n")
}

/// Sends a body byte by byte until there is an answer. Its status.
async fn drip(visitor: &mut Connection, every: Duration) -> u16 {
    visitor.drip(every).await.unwrap();
    visitor.answer("POST").await.unwrap().status
}

#[tokio::test]
async fn a_body_byte_by_byte_is_cut_on_every_kind_of_connection() {
    let node = Node::start().await;
    node.serve("/upload", Page::text("taken"));
    node.serve("/page", Page::text("page").fresh_for(60));
    // A byte each 100 ms is no silence, and too little.
    let limits = "body_timeout = \"1s\"\nmin_body_rate = \"1KiB\"";
    let every = Duration::from_millis(100);
    let all = Everything::start(&node, limits).await;
    let mut times = 0.0;
    // One that is taken in whole, and one for the pass road; on the first request and on the second.
    for length in [1_000, 10 * MIB] {
        for warm in [false, true] {
            for mut visitor in [all.proxy.connect().await, all.tls().await] {
                if warm {
                    visitor.get("/page").await.expect_status(200);
                }
                visitor.send(upload(length)).await.unwrap();
                let started = Instant::now();
                assert_eq!(drip(&mut visitor, every).await, 408, "{length}, {warm}");
                assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
                visitor.closed().await.unwrap();
                times += 1.0;
                until_fired(&all.proxy, "body_rate", times).await;
            }
        }
    }
    // In chunks.
    let mut visitor = all.proxy.connect().await;
    visitor
        .send("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n")
        .await
        .unwrap();
    assert_eq!(drip(&mut visitor, every).await, 408);
    times += 1.0;
    until_fired(&all.proxy, "body_rate", times).await;
    for mut session in all.http2().await {
        assert_eq!(session.get("/page").await.text(), "page");
        let request = session.request("POST", "/upload").body(()).unwrap();
        let Asked { mut body, .. } = session.try_send(request, false).await.unwrap();
        times += 1.0;
        wait::until("the stream to be reset", async || {
            let sent = body.send_data(Bytes::from_static(b"x"), false);
            tokio::time::sleep(every).await;
            (sent.is_err() && fired(&all.proxy, "body_rate").await == times).then_some(())
        })
        .await;
        assert_eq!(session.get("/page").await.text(), "page", "the others go on");
    }
    assert_eq!(fired(&all.proxy, "body_timeout").await, 0.0);
}

#[tokio::test]
async fn a_body_that_is_quick_enough_may_rest_and_wait_for_the_node() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/upload", Page::echo());
    node.serve("/later", Page::text("later").no_store().held_before_head(&gate));
    let proxy = Setup::before(&node).limits("body_timeout = \"2s\"\nmin_body_rate = \"100B\"").start().await;
    for length in [1_000, 300_000] {
        let mut visitor = proxy.connect().await;
        visitor.send(upload(length)).await.unwrap();
        // 1.2 s three times: more than the timeout in all, and each less.
        for _ in 0..3 {
            visitor.send(vec![b'x'; length / 4]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
        visitor.send(vec![b'x'; length - length / 4 * 3]).await.unwrap();
        assert_eq!(visitor.answer("POST").await.unwrap().expect_status(200).body.len(), length);
    }
    // All is sent; that the node takes its time is none of the visitor's doing.
    let mut visitor = proxy.connect().await;
    visitor.send(Request::post("/later", vec![b'x'; 200_000]).to_bytes()).await.unwrap();
    gate.reached(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    gate.open();
    visitor.answer("POST").await.unwrap().expect_status(200);
    assert_eq!(fired(&proxy, "body_rate").await + fired(&proxy, "body_timeout").await, 0.0);
}

/// Reads a little now and then until the connection is cut. Bytes that came.
async fn sip(visitor: &mut Connection) -> usize {
    let mut head = visitor.head("GET").await.unwrap();
    let (mut taken, end) = (0, Instant::now() + wait::PATIENCE);
    while Instant::now() < end {
        match visitor.piece(&mut head).await {
            Ok(piece) => taken += piece.len(),
            Err(_) => return taken,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is never cut, after {taken} bytes")
}

#[tokio::test]
async fn an_answer_sip_by_sip_is_cut() {
    let node = Node::start().await;
    let large = "x".repeat(16 * MIB);
    node.serve("/hit", Page::text(large.clone()).fresh_for(60));
    node.serve("/mine", Page::text(large.clone()).no_store());
    node.serve("/page", Page::text("page").fresh_for(60));
    let proxy = Setup::before(&node)
        .cache("memory = \"128MiB\"\nmax_entry = \"32MiB\"")
        .limits("write_timeout = \"1s\"\nmin_response_rate = \"1MiB\"")
        .start()
        .await;
    proxy.warm(["/hit"]).await;
    let mut times = 0.0;
    // From memory, from a node, over the pass road; the last two after another request on the connection.
    for (warm, request) in [
        (false, Request::get("/hit")),
        (true, Request::get("/hit")),
        (true, Request::get("/mine")),
        (true, Request::post("/mine", vec![b'x'; 200_000])),
    ] {
        let mut visitor = Connection::open_narrow(proxy.address()).await;
        if warm {
            visitor.get("/page").await.expect_status(200);
        }
        visitor.send(request.to_bytes()).await.unwrap();
        // What the kernel holds for it goes with the connection: megabytes would take a minute at this pace.
        let taken = sip(&mut visitor).await;
        assert!(taken > 0 && taken < MIB, "{taken}");
        times += 1.0;
        until_fired(&proxy, "response_rate", times).await;
    }
    assert_eq!(fired(&proxy, "write_timeout").await, 0.0);
}

#[tokio::test]
async fn windows_that_are_opened_by_bytes_are_cut() {
    let node = Node::start().await;
    node.serve("/hit", Page::text("x".repeat(MIB)).fresh_for(60));
    node.serve("/mine", Page::text("x".repeat(MIB)).no_store());
    node.serve("/page", Page::text("page").fresh_for(60));
    let limits = "write_timeout = \"1s\"\nmin_response_rate = \"10KiB\"";
    let all = Everything::start(&node, limits).await;
    all.proxy.warm(["/hit"]).await;
    let mut times = 0.0;
    for (method, path) in [("GET", "/hit"), ("GET", "/mine"), ("POST", "/mine")] {
        let mut builder = client::Builder::new();
        builder.initial_window_size(1000).initial_connection_window_size(MIB as u32);
        let mut session = Session::open_with(all.proxy.address(), &builder).await;
        let request = session.request(method, path);
        let (_, mut body) = session.send(request).await.try_head().await.unwrap();
        let reset = loop {
            match wait::soon("more, or a reset", body.data()).await {
                Some(Ok(piece)) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    let _ = body.flow_control().release_capacity(piece.len());
                }
                Some(Err(error)) => break error,
                None => panic!("{method} {path} has come to its end"),
            }
        };
        assert!(reset.is_reset(), "{reset}");
        times += 1.0;
        until_fired(&all.proxy, "response_rate", times).await;
        assert_eq!(session.get("/page").await.text(), "page");
    }
    assert_eq!(fired(&all.proxy, "write_timeout").await, 0.0);
}

#[tokio::test]
async fn slow_nodes_and_conversations_are_not_cut() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let slow = Page::text("x".repeat(1000)).no_store().held_in_body(100, &gate);
    node.serve("/slow", slow.clone());
    let limits = "write_timeout = \"1s\"\nbody_timeout = \"1s\"\nmin_response_rate = \"1MiB\"\nmin_body_rate = \"1MiB\"";
    let all = Everything::start(&node, limits).await;
    let (mut plain, mut posted) = (all.proxy.connect().await, all.tls().await);
    plain.send(Request::get("/slow").to_bytes()).await.unwrap();
    posted.send(Request::post("/slow", vec![b'x'; 200_000]).to_bytes()).await.unwrap();
    let mut asked = Vec::new();
    for mut session in all.http2().await {
        asked.push((session.send(session.request("GET", "/slow")).await, session));
    }
    gate.reached(4).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    gate.open();
    assert_eq!(plain.answer("GET").await.unwrap().body.len(), 1000);
    assert_eq!(posted.answer("POST").await.unwrap().body.len(), 1000);
    for (asked, _session) in asked {
        assert_eq!(asked.answer().await.body.len(), 1000);
    }
}

#[tokio::test]
async fn a_request_has_a_lifetime() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/page", Page::text("page").fresh_for(60));
    node.serve("/never", Page::text("never").no_store().held_before_head(&gate));
    node.serve("/half", Page::text("x".repeat(100_000)).no_store().held_in_body(50_000, &gate));
    let all = Everything::start(&node, "request_lifetime = \"1s\"").await;
    let proxy = &all.proxy;
    let mut times = 0.0;
    for request in [
        Request::get("/never"),
        Request::get("/half"),
        Request::post("/never", "small"),
        Request::post("/half", vec![b'x'; 200_000]),
    ] {
        for mut visitor in [proxy.connect().await, all.tls().await] {
            // Each request has its own.
            for _ in 0..3 {
                visitor.get("/page").await.expect_status(200);
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            let started = Instant::now();
            let error = visitor.try_ask(&request).await.expect_err("no whole answer");
            assert!(started.elapsed() >= Duration::from_millis(900), "{error:#}");
            times += 1.0;
            until_fired(proxy, "request_lifetime", times).await;
        }
    }
    // The body is part of it.
    let mut visitor = proxy.connect().await;
    visitor.send(upload(1000)).await.unwrap();
    visitor.send("begun").await.unwrap();
    assert!(visitor.answer("POST").await.is_err());
    times += 1.0;
    until_fired(proxy, "request_lifetime", times).await;
    for mut session in all.http2().await {
        for (method, path) in [("GET", "/never"), ("GET", "/half"), ("POST", "/never")] {
            let request = session.request(method, path);
            let error = session.send(request).await.try_answer().await.expect_err("no whole answer");
            assert!(error.is_reset(), "{error}");
            times += 1.0;
            until_fired(proxy, "request_lifetime", times).await;
        }
        assert_eq!(session.get("/page").await.text(), "page", "the others go on");
    }
}
