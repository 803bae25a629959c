//! HTTP/1.1 on the wire: what is doubtful is refused before a node sees it, what is right stays in step.

use std::time::{Duration, Instant};

use clearcoat_tests::{Answer, Connection, Node, Page, Proxy, Request, Served, Setup};

/// Every request that must be refused: name, bytes, accepted status codes.
///
/// Most are ways in which two readers of one stream came to disagree about where a request ends (request smuggling); RFC 9112
/// sections 2.2, 3.2, 5.1, 6.1, 6.3 and 11.2.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    const BAD: &[u16] = &[400];
    const VERSION: &[u16] = &[400, 505];
    const LARGE: &[u16] = &[400, 431];
    const LONG: &[u16] = &[400, 414, 431];
    const METHOD: &[u16] = &[400, 405, 501];
    let post = |headers: &str, body: &str| {
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}").into_bytes()
    };
    let get = |headers: &str| format!("GET /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes();
    let raw = |text: &str| text.as_bytes().to_vec();
    vec![
        ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), BAD),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), BAD),
        ("length and coding on a GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), BAD),
        ("two lengths that differ", post("Content-Length: 5\r\nContent-Length: 6\r\n", "abcdef"), BAD),
        ("two lengths alike", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), BAD),
        ("a list of lengths", post("Content-Length: 3, 3\r\n", "abc"), BAD),
        ("a negative length", post("Content-Length: -1\r\n", ""), BAD),
        ("a length with a plus", post("Content-Length: +3\r\n", "abc"), BAD),
        ("a length in hexadecimal", post("Content-Length: 0x3\r\n", "abc"), BAD),
        ("a length with a space", post("Content-Length: 1 0\r\n", "abc"), BAD),
        ("a length with letters", post("Content-Length: 3a\r\n", "abc"), BAD),
        ("an empty length", post("Content-Length:\r\n", "abc"), BAD),
        ("a length beyond 64 bits", post("Content-Length: 18446744073709551619\r\n", "abc"), BAD),
        ("a length beyond everything", post("Content-Length: 99999999999999999999999999\r\n", "abc"), BAD),
        ("a length on a GET that is no number", get("Content-Length: x\r\n"), BAD),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), &[400, 501]),
        ("identity, chunked", post("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        (
            "two coding lines",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
            &[400, 501],
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            BAD,
        ),
        ("an empty coding", post("Transfer-Encoding:\r\n", "0\r\n\r\n"), &[400, 501]),
        ("a coding in quotes", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), &[400, 501]),
        (
            "a coding behind a vertical tab",
            post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
            &[400, 501],
        ),
        (
            "chunked in HTTP/1.0",
            raw("POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            BAD,
        ),
        ("a space before the colon", post("Content-Length : 3\r\n", "abc"), BAD),
        ("a space before the coding's colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), BAD),
        ("a tab before the colon", get("X-Name\t: y\r\n"), BAD),
        ("a header without a name", get(": value\r\n"), BAD),
        ("a header without a colon", get("X-Name\r\n"), BAD),
        ("a folded header", get("X-Name: a\r\n b\r\n"), BAD),
        ("a folded first header", raw("GET /x HTTP/1.1\r\n Host: a\r\n\r\n"), BAD),
        ("a coding on a folded line", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), BAD),
        ("a NUL in a value", get("X-Name: a\0b\r\n"), BAD),
        ("a NUL in a name", get("X-Na\0me: a\r\n"), BAD),
        ("a carriage return in a value", get("X-Name: a\rb\r\n"), BAD),
        ("a carriage return that hides a header", get("X-Name: a\rTransfer-Encoding: chunked\r\n"), BAD),
        ("a name with a bracket", get("X-Na(me: a\r\n"), BAD),
        ("a name in UTF-8", get("X-Naïve: a\r\n"), BAD),
        ("line feeds alone", raw("GET /x HTTP/1.1\nHost: a\n\n"), BAD),
        ("one line feed alone", raw("GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"), BAD),
        ("a line feed before the empty line", raw("GET /x HTTP/1.1\r\nHost: a\r\n\n"), BAD),
        ("no Host", raw("GET /x HTTP/1.1\r\n\r\n"), BAD),
        ("two Hosts", raw("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), BAD),
        ("two Hosts alike", raw("GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), BAD),
        ("a Host with a space", raw("GET /x HTTP/1.1\r\nHost: a b\r\n\r\n"), BAD),
        ("a Host with a slash", raw("GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n"), BAD),
        ("a Host with a user", raw("GET /x HTTP/1.1\r\nHost: user@a\r\n\r\n"), BAD),
        ("a Host with a list", raw("GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n"), BAD),
        ("a Host with a bad port", raw("GET /x HTTP/1.1\r\nHost: a:b\r\n\r\n"), BAD),
        ("an absolute target with another Host", raw("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        (
            "an absolute https target with another Host",
            raw("GET https://b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            BAD,
        ),
        ("another scheme", raw("GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a target without a slash", raw("GET x HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a star for a GET", raw("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a fragment", raw("GET /x#y HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a target with a space", raw("GET /x y HTTP/1.1\r\nHost: a\r\n\r\n"), VERSION),
        ("a target with a tab", raw("GET /x\ty HTTP/1.1\r\nHost: a\r\n\r\n"), VERSION),
        ("a target with a NUL", raw("GET /x\0y HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("no target", raw("GET  HTTP/1.1\r\nHost: a\r\n\r\n"), VERSION),
        ("two spaces", raw("GET  /x HTTP/1.1\r\nHost: a\r\n\r\n"), VERSION),
        ("no version", raw("GET /x\r\nHost: a\r\n\r\n"), VERSION),
        ("a small version", raw("GET /x http/1.1\r\nHost: a\r\n\r\n"), VERSION),
        ("a version with a space behind", raw("GET /x HTTP/1.1 \r\nHost: a\r\n\r\n"), VERSION),
        ("HTTP/2 in words", raw("GET /x HTTP/2.0\r\nHost: a\r\n\r\n"), VERSION),
        ("HTTP/0.9", raw("GET /x HTTP/0.9\r\nHost: a\r\n\r\n"), VERSION),
        ("the preface of HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), VERSION),
        ("a method with a bracket", raw("G(T /x HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a space before the method", raw(" GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), BAD),
        ("a tunnel", raw("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), METHOD),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), BAD),
        ("too many headers", get(&"X-Name: y\r\n".repeat(200)), LARGE),
        ("a header too large", get(&format!("X-Name: {}\r\n", "y".repeat(100_000))), LARGE),
        (
            "a URL too long",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(30_000)).into_bytes(),
            LONG,
        ),
    ]
}

#[tokio::test]
async fn what_is_doubtful_is_refused_and_closed() {
    let node = Node::start().await;
    node.serve_everything(Page::text("a").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    assert!(refused().len() >= 60);
    for (name, bytes, statuses) in refused() {
        // What follows must not be taken for a request either.
        let mut bytes = bytes;
        bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut visitor = proxy.connect().await;
        // The proxy may have closed before the last byte is out.
        let _ = visitor.send(&bytes).await;
        let answer = match visitor.answer("GET").await {
            Ok(answer) => answer,
            Err(error) => panic!("{name}: {error:#}"),
        };
        assert!(statuses.contains(&answer.status), "{name}: {answer}");
        assert!(answer.closes(), "{name}: {answer}");
        visitor
            .closed_within(Duration::from_secs(3))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!((node.total(), node.garbled()), (0, 0), "{name}: reached the node: {:?}", node.requests());
    }
    // After all that it is in good health.
    proxy.warm(["/still"]).await;
}

#[tokio::test]
async fn doubtful_chunks_never_make_a_request() {
    let bodies = [
        "x\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "5\r\nab\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
        "+2\r\nab\r\n0\r\n\r\n",
        " 2\r\nab\r\n0\r\n\r\n",
        "10000000000000002\r\nab\r\n0\r\n\r\n",
        "\r\nab\r\n0\r\n\r\n",
        ";x=y\r\nab\r\n0\r\n\r\n",
        "2\nab\n0\n\n",
        "2\r\nab0\r\n\r\n",
        "2\r\nab\r0\r\n\r\n",
    ];
    let mut taken = Vec::new();
    for body in bodies {
        let node = Node::start().await;
        node.serve_everything(Page::echo());
        let proxy = Proxy::before(&node).await;
        let mut visitor = proxy.connect().await;
        let bytes = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        visitor.set_patience(Duration::from_secs(5));
        let _ = visitor.send(bytes).await;
        let answer = visitor.answer("POST").await;
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        let closed = visitor.closed().await;
        // All of them are tried, so that one run tells the whole truth.
        if (200..400).contains(&status) || closed.is_err() || node.total() > 0 {
            taken.push(format!("{body:?}: {answer:?}, {closed:?}, the node got {:?}", node.requests()));
        }
    }
    assert!(taken.is_empty(), "{}", taken.join("\n"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let node = Node::start().await;
    let gate = clearcoat_tests::Gate::closed();
    node.serve("/hit", Page::text("hit").fresh_for(60));
    node.serve("/miss", Page::text("miss").fresh_for(60).held_before_head(&gate));
    node.serve("/mine", Page::text("mine").no_store());
    node.serve("/echo", Page::echo());
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/hit"]).await;
    let requests = [
        Request::get("/hit"),
        Request::get("/miss"),
        Request::get("/hit"),
        Request::post("/echo", "one"),
        Request::head("/hit"),
        Request::get("/mine"),
        Request::post("/echo", "two"),
        Request::get("/miss"),
        Request::get("/hit"),
    ];
    let mut visitor = proxy.connect().await;
    let bytes: Vec<u8> = requests.iter().flat_map(Request::to_bytes).collect();
    visitor.send(bytes).await.unwrap();
    assert_eq!(visitor.answer("GET").await.unwrap().text(), "hit");
    gate.reached(1).await;
    gate.open();
    let bodies = ["hit", "miss", "hit", "one", "", "mine", "two", "miss", "hit"];
    for (number, (request, body)) in requests.iter().zip(bodies).enumerate().skip(1) {
        let answer = visitor.answer(request.method()).await;
        let answer = answer.unwrap_or_else(|error| panic!("number {number}, {request:?}: {error:#}"));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, body),
            "number {number}, {request:?}: {answer}"
        );
    }
    assert_eq!((node.count("/hit"), node.count("/miss"), node.count("/echo")), (1, 1, 2));
    // And the connection is still good.
    assert_eq!(visitor.get("/hit").await.served(), Served::Hit);
}

#[tokio::test]
async fn a_hundred_pipelined_hits() {
    let node = Node::start().await;
    node.serve_everything(Page::written(|request| request.target.clone()).fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let paths: Vec<String> = (0..100).map(|number| format!("/{number}")).collect();
    proxy.warm(paths.iter().map(String::as_str)).await;
    let mut visitor = proxy.connect().await;
    let bytes: Vec<u8> = paths.iter().flat_map(|path| Request::get(path).to_bytes()).collect();
    visitor.send(bytes).await.unwrap();
    for path in &paths {
        assert_eq!(&visitor.answer("GET").await.unwrap().text(), path);
    }
}

#[tokio::test]
async fn behind_a_chunked_upload_the_next_request_is_served_or_the_close_was_told() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    node.serve("/a", Page::text("a").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    let mut visitor = proxy.connect().await;
    let mut bytes = Request::post("/echo", "two chunks").chunked().to_bytes();
    bytes.extend(Request::get("/a").to_bytes());
    visitor.send(bytes).await.unwrap();
    let first = visitor.answer("POST").await.unwrap().expect_status(200);
    assert_eq!(first.text(), "two chunks");
    second_is(&mut visitor, &first, "a").await;
}

/// The answer behind `first`, unless that one announced the end of the connection: then the end.
async fn second_is(visitor: &mut Connection, first: &Answer, body: &str) {
    if first.closes() {
        visitor.closed().await.unwrap();
    } else {
        let second = visitor.answer("GET").await.expect("an answer, as no close was announced");
        assert_eq!((second.status, second.text().as_str()), (200, body), "{second}");
    }
}

#[tokio::test]
async fn a_body_in_pieces_with_a_request_behind() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    node.serve("/a", Page::text("a").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a"]).await;
    for (sending, behind) in [
        (Request::post("/echo", "abcdefghij"), Request::get("/a")),
        (Request::post("/echo", "abcdefghij").chunked(), Request::get("/a")),
        (Request::post("/echo", "abcdefghij"), Request::get("/a?cold")),
    ] {
        let mut bytes = sending.to_bytes();
        bytes.extend(behind.to_bytes());
        // Cut in every place once would take long; these cuts fall into head, body, chunk size and the request behind.
        for size in
            [1, 7, 40, sending.head_bytes().len(), sending.to_bytes().len() - 3, sending.to_bytes().len() + 5]
        {
            let mut visitor = proxy.connect().await;
            visitor.send_slowly(&bytes, size, Duration::from_millis(1)).await;
            let first =
                visitor.answer("POST").await.unwrap_or_else(|error| panic!("pieces of {size}: {error:#}"));
            assert_eq!(
                (first.status, first.text().as_str()),
                (200, "abcdefghij"),
                "pieces of {size}, {sending:?}: {first}"
            );
            second_is(&mut visitor, &first, "a").await;
        }
    }
}

#[tokio::test]
async fn the_body_of_a_get_is_not_a_request() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/b", Page::text("b").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    proxy.warm(["/a", "/b"]).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for request in [
        Request::get("/a").body(smuggled),
        Request::get("/a").body(smuggled).chunked(),
        Request::head("/a").body(smuggled),
        Request::get("/cold").body(smuggled),
    ] {
        let mut visitor = proxy.connect().await;
        visitor.send(request.to_bytes()).await.unwrap();
        // The proxy may have closed by now.
        let _ = visitor.send(Request::get("/b").to_bytes()).await;
        let first =
            visitor.answer(request.method()).await.unwrap_or_else(|error| panic!("{request:?}: {error:#}"));
        second_is(&mut visitor, &first, "b").await;
        assert_eq!(node.count("/smuggled"), 0, "{request:?}");
    }
    // What a GET with a body brought is nobody else's page.
    assert_eq!(proxy.get("/a").await.text(), "a");
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_smuggles_nothing() {
    let node = Node::start().await;
    node.serve("/socket", Page::text("no").no_store());
    node.serve("/a", Page::text("a").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    for headers in ["", "Content-Length: 5\r\n"] {
        node.forget();
        let mut visitor = proxy.connect().await;
        let bytes = format!(
            "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        visitor.send(bytes).await.unwrap();
        // Either way is right: the bytes behind are a request of their own to the proxy, or they are dropped; to the node they must
        // never go on the connection of the upgrade before it was granted.
        let first = visitor.answer("GET").await.unwrap();
        assert!(first.status == 200 || first.status >= 400, "{first}");
        let connections: Vec<u64> = node
            .requests()
            .iter()
            .filter(|request| request.target == "/smuggled")
            .map(|request| request.connection)
            .collect();
        let own = node
            .requests()
            .iter()
            .filter(|request| request.target == "/smuggled")
            .all(|request| request.header("via").is_some());
        assert!(own, "sent past the proxy on connections {connections:?}");
        assert_eq!(node.garbled(), 0);
    }
}

#[tokio::test]
async fn websockets_go_through() {
    let node = Node::start().await;
    node.serve(
        "/socket",
        Page::text("").raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        ),
    );
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    let request = Request::get("/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    visitor.send(request.to_bytes()).await.unwrap();
    let head = visitor.head("GET").await.unwrap();
    assert_eq!((head.status(), head.header("upgrade")), (101, Some("websocket")));
    assert_eq!(visitor.bytes(5).await.unwrap(), "hello");
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let node = Node::start().await;
    node.serve("/length", Page::text("abc").fresh_for(60));
    node.serve("/chunked", Page::text("abc").no_store().chunked());
    let proxy = Proxy::before(&node).await;
    for path in ["/length", "/length", "/chunked"] {
        let mut visitor = proxy.connect().await;
        let answer = visitor.ask(&Request::get(path).version_1_0()).await.expect_status(200);
        assert_eq!(answer.text(), "abc", "{path}");
        assert_ne!(
            answer.framing,
            clearcoat_tests::wire::Framing::Chunked,
            "HTTP/1.0 knows no chunks: {answer}"
        );
        visitor.closed().await.unwrap();
    }
}

#[tokio::test]
async fn connection_close_is_obeyed() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    let proxy = Proxy::before(&node).await;
    for path in ["/a", "/a", "/mine"] {
        for value in ["close", "Close", "keep-alive, close"] {
            let mut visitor = proxy.connect().await;
            let answer =
                visitor.ask(&Request::get(path).header("Connection", value)).await.expect_status(200);
            assert!(answer.closes(), "{path}: {answer}");
            visitor.closed().await.unwrap();
        }
    }
}

#[tokio::test]
async fn head_of_everything() {
    let node = Node::start().await;
    for (path, page) in [
        ("/length", Page::text("abc").fresh_for(60)),
        ("/chunked", Page::text("abc").fresh_for(60).chunked()),
        ("/mine", Page::text("abc").no_store()),
        ("/mine-chunked", Page::text("abc").no_store().chunked()),
        ("/error", Page::text("abc").status(500).no_store()),
    ] {
        node.serve(path, page);
    }
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    for path in ["/length", "/length", "/chunked", "/chunked", "/mine", "/mine-chunked", "/error", "/none"] {
        let answer = visitor.ask(&Request::head(path)).await;
        assert_eq!(answer.body.len(), 0, "{path}");
        if answer.closes() {
            visitor = proxy.connect().await;
        }
    }
}

#[tokio::test]
async fn expect_continue_is_served() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    let proxy = Proxy::before(&node).await;
    let mut visitor = proxy.connect().await;
    let request = Request::post("/echo", "abc").header("Expect", "100-continue");
    visitor.send(request.head_bytes()).await.unwrap();
    // A visitor that waits for it is let on; one that does not wait is served too.
    let go_on = visitor.interim().await.unwrap();
    assert_eq!(go_on, 100);
    visitor.send("abc").await.unwrap();
    assert_eq!(visitor.answer("POST").await.unwrap().expect_status(200).text(), "abc");
    assert_eq!(proxy.ask(&request).await.expect_status(200).text(), "abc");
}

/// Sends a head byte by byte, until the proxy has had enough.
async fn drip(visitor: &mut Connection, limit: Duration) {
    let head = format!("GET /a HTTP/1.1\r\nHost: a\r\nX-Slow: {}", "y".repeat(1_000));
    let started = Instant::now();
    visitor.send_slowly(head.as_bytes(), 1, Duration::from_millis(100)).await;
    assert!(started.elapsed() < limit, "let on for {:?}", started.elapsed());
}

#[tokio::test]
async fn slow_heads_are_cut_off_on_the_first_and_on_later_requests() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    let proxy = Setup::before(&node).limits("header_timeout = \"1s\"").start().await;
    let limit = Duration::from_secs(10);
    let mut first = proxy.connect().await;
    let (mut hit, mut passed, mut asking) =
        (proxy.connect().await, proxy.connect().await, proxy.connect().await);
    hit.get("/a").await.expect_status(200);
    passed.get("/mine").await.expect_status(200);
    asking
        .ask(&Request::get("/a").header("Connection", "keep-alive").header("Keep-Alive", "timeout=999999"))
        .await
        .expect_status(200);
    tokio::join!(
        drip(&mut first, limit),
        drip(&mut hit, limit),
        drip(&mut passed, limit),
        drip(&mut asking, limit)
    );
    assert_eq!(node.count("/a"), 1);
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    let proxy = Setup::before(&node).limits("header_timeout = \"1s\"\nidle_timeout = \"1s\"").start().await;
    let (mut silent, mut hit, mut passed) =
        (proxy.connect().await, proxy.connect().await, proxy.connect().await);
    hit.get("/a").await.expect_status(200);
    passed.get("/mine").await.expect_status(200);
    for visitor in [&mut hit, &mut passed] {
        visitor.closed_within(Duration::from_secs(10)).await.expect("an idle connection ends");
    }
    // The first may be told why.
    let _ = visitor_end(&mut silent).await;
}

/// Waits for the end of a connection that may bring a last answer.
async fn visitor_end(visitor: &mut Connection) -> Option<u16> {
    let status = visitor.answer("GET").await.ok().map(|answer| answer.status);
    assert!(status.is_none() || status == Some(408), "{status:?}");
    visitor.closed_within(Duration::from_secs(10)).await.expect("a silent connection ends");
    status
}

#[tokio::test]
async fn a_visitor_who_reads_nothing_is_let_go() {
    let node = Node::start().await;
    node.serve("/large", Page::text("x".repeat(12 << 20)).fresh_for(60));
    let proxy = Setup::before(&node)
        .cache("memory = \"128MiB\"\nmax_entry = \"32MiB\"")
        .limits("write_timeout = \"1s\"")
        .start()
        .await;
    proxy.warm(["/large"]).await;
    let mut lazy = Connection::open_narrow(proxy.address()).await;
    lazy.send(Request::get("/large").to_bytes()).await.unwrap();
    clearcoat_tests::wait::until("the proxy to give up on the reader", async || {
        (proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", "write_timeout")]) > 0.0)
            .then_some(())
    })
    .await;
    assert!(lazy.answer("GET").await.is_err(), "the rest never comes");
}
