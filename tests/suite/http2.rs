//! HTTP/2 on a plain listener: the same answers as in HTTP/1, and what only HTTP/2 has.

use std::time::Duration;

use bytes::Bytes;
use clearcoat_tests::http2::{Raw, Session, rest};
use clearcoat_tests::process::Signal;
use clearcoat_tests::{Certificate, Gate, Node, Page, Proxy, Request, Setup, TlsVisitor, wait};
use h2::{Reason, client};

const MIB: usize = 1 << 20;

/// `DATA`, RFC 9113 section 6.1.
const DATA: u8 = 0;
/// `GOAWAY`, RFC 9113 section 6.8.
const GOAWAY: u8 = 7;
/// `RST_STREAM`, RFC 9113 section 6.4.
const RESET: u8 = 3;
/// `HEADERS`, RFC 9113 section 6.2.
const HEADERS: u8 = 1;

fn before(node: &Node) -> Setup {
    Setup::before(node).listen("http2 = true")
}

async fn limit(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", limit)])
}

async fn requests(proxy: &Proxy, result: &str) -> f64 {
    proxy.metrics().await.sum("clearcoat_requests_total", &[("result", result)])
}

#[tokio::test]
async fn a_page_is_fetched_once_and_then_a_hit_with_all_that_http1_has() {
    let node = Node::start().await;
    let page = Page::text("a page").fresh_for(60).header("ETag", "\"1\"").header("X-Own", "kept");
    node.serve("/page", page.header("Connection", "X-Private").header("X-Private", "1"));
    let proxy = before(&node).start().await;
    let mut session = Session::open(proxy.address()).await;
    let first = session.get("/page").await;
    assert_eq!((first.status.as_u16(), first.text().as_str(), first.is_hit()), (200, "a page", false));
    for _ in 0..3 {
        let hit = session.get("/page").await;
        assert_eq!((hit.status.as_u16(), hit.text().as_str(), hit.is_hit()), (200, "a page", true));
        assert_eq!((hit.field("content-length"), hit.field("x-own")), (Some("6"), Some("kept")));
        assert!(hit.field("age").is_some() && hit.field("date").is_some(), "{hit:?}");
        for name in ["connection", "x-private", "transfer-encoding", "keep-alive"] {
            assert_eq!(hit.field(name), None, "{name}");
        }
    }
    // The same page for who speaks HTTP/1 on the same listener.
    let hit = proxy.get("/page").await.expect_status(200);
    assert_eq!((hit.text().as_str(), node.count("/page")), ("a page", 1));

    let head = session.send(session.request("HEAD", "/page")).await.answer().await;
    assert_eq!((head.body.len(), head.field("content-length"), head.is_hit()), (0, Some("6"), true));
    let request = session.request("GET", "/page").header("if-none-match", "\"1\"");
    let unmodified = session.send(request).await.answer().await;
    assert_eq!((unmodified.status.as_u16(), unmodified.body.len()), (304, 0));
    let request = session.request("GET", "/page").header("range", "bytes=2-3");
    let part = session.send(request).await.answer().await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "pa"));
    assert_eq!(part.field("content-range"), Some("bytes 2-3/6"));
    let request = session.request("GET", "/page").header("range", "bytes=0-0,5-5");
    let parts = session.send(request).await.answer().await;
    assert_eq!(parts.status.as_u16(), 206);
    assert!(parts.field("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges")));
    let request = session.request("GET", "/page").header("range", "bytes=50-");
    let none = session.send(request).await.answer().await;
    assert_eq!((none.status.as_u16(), none.field("content-range")), (416, Some("bytes */6")));
    assert_eq!(node.count("/page"), 1);
}

#[tokio::test]
async fn many_streams_of_one_cold_page_are_one_request_at_the_node() {
    let node = Node::start().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    let page = Page::text("x".repeat(200_000)).fresh_for(60);
    node.serve("/hot", page.held_before_head(&head).held_in_body(100_000, &body));
    let proxy = before(&node).start().await;
    let mut session = Session::open(proxy.address()).await;
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(session.send(session.request("GET", "/hot")).await);
    }
    head.reached(1).await;
    wait::until("all to wait", async || {
        let waiting = proxy.metrics().await.sum("clearcoat_requests_waiting", &[]);
        (waiting == 99.0).then_some(())
    })
    .await;
    head.open();
    let answers: Vec<_> = asked.into_iter().map(|asked| tokio::spawn(asked.answer())).collect();
    body.open();
    let mut collapsed = 0;
    for answer in answers {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 200_000));
        collapsed += usize::from(answer.is_collapsed());
    }
    assert_eq!((collapsed, node.count("/hot")), (99, 1));
}

#[tokio::test]
async fn a_large_hit_waits_for_the_clients_windows_and_holds_up_nobody() {
    let node = Node::start().await;
    let large = "x".repeat(3 * MIB);
    node.serve("/large", Page::text(large.clone()).fresh_for(60));
    node.serve("/small", Page::text("small").fresh_for(60));
    let proxy = before(&node).start().await;
    proxy.warm(["/large", "/small"]).await;
    // The connection's window is wide, the stream's is not.
    let mut builder = client::Builder::new();
    builder.initial_window_size(10_000).initial_connection_window_size(4 * MIB as u32);
    let mut session = Session::open_with(proxy.address(), &builder).await;
    let (head, mut body) = session.send(session.request("GET", "/large")).await.try_head().await.unwrap();
    assert_eq!(head.status.as_u16(), 200);
    let first = body.data().await.unwrap().unwrap();
    assert!(first.len() <= 10_000);
    for _ in 0..5 {
        assert_eq!(session.get("/small").await.text(), "small", "beside the one that waits");
    }
    body.flow_control().release_capacity(first.len()).unwrap();
    let left = rest(body).await.unwrap();
    assert_eq!(first.len() + left.len(), large.len());
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_stream_only() {
    let node = Node::start().await;
    node.serve("/large", Page::text("x".repeat(MIB)).fresh_for(60));
    node.serve("/small", Page::text("small").fresh_for(60));
    let proxy = before(&node).limits("write_timeout = \"1s\"").start().await;
    proxy.warm(["/large", "/small"]).await;
    let mut builder = client::Builder::new();
    builder.initial_window_size(10_000).initial_connection_window_size(MIB as u32);
    let mut session = Session::open_with(proxy.address(), &builder).await;
    let (_, mut body) = session.send(session.request("GET", "/large")).await.try_head().await.unwrap();
    wait::until("the limit to fire", async || (limit(&proxy, "write_timeout").await == 1.0).then_some(()))
        .await;
    let reset = loop {
        // The window stays shut: nothing is released.
        match wait::soon("the reset", body.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the body has come to its end"),
        }
    };
    assert_eq!(reset.reason(), Some(Reason::CANCEL), "{reset}");
    assert_eq!(session.get("/small").await.text(), "small");
}

#[tokio::test]
async fn uploads_and_their_answers_are_streamed_both_ways() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    let proxy = before(&node).start().await;
    let mut session = Session::open(proxy.address()).await;
    for (length, told) in [(0, true), (5, true), (5, false), (3 * MIB, true), (3 * MIB, false)] {
        let mut request = session.request("POST", "/echo").header("cookie", "a=1").header("cookie", "b=2");
        if told {
            request = request.header("content-length", length);
        }
        let mut asked = session.try_send(request.body(()).unwrap(), false).await.unwrap();
        let mut left = Bytes::from(vec![b'y'; length]);
        let sending = async {
            while !left.is_empty() {
                asked.body.reserve_capacity(left.len());
                let room = std::future::poll_fn(|context| asked.body.poll_capacity(context)).await;
                let room = room.expect("an open stream").expect("an open connection");
                asked.body.send_data(left.split_to(room.min(left.len())), false).unwrap();
            }
            asked.body.send_data(Bytes::new(), true).unwrap();
        };
        wait::soon("the upload", sending).await;
        let answer = asked.answer().await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, length), "{length}, told: {told}");
        assert!(answer.field("cache-status").is_some_and(|status| status.contains("fwd=method")));
        assert_eq!(answer.field("connection"), None);
        let recorded = node.last("/echo");
        assert_eq!(recorded.header("cookie"), Some("a=1; b=2"), "crumbs are put together");
        assert_eq!(recorded.headers("host").len(), 1);
    }
    // They are counted when they are over, a moment after the client has them.
    wait::until("all to be counted", async || (requests(&proxy, "pass").await == 5.0).then_some(())).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset() {
    let node = Node::start().await;
    // Beyond what is held back to ask another node instead.
    let page = Page::text("x".repeat(400_000)).no_store().cut_after(200_000);
    node.serve("/get", page.clone());
    node.serve("/post", page);
    let proxy = before(&node).start().await;
    let mut session = Session::open(proxy.address()).await;
    for (method, path) in [("GET", "/get"), ("POST", "/post")] {
        let request = session.request(method, path);
        let error = session.send(request).await.try_answer().await.expect_err("half a page");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{method}: {error}");
    }
    assert_eq!(session.get("/none").await.status.as_u16(), 404);
}

#[tokio::test]
async fn hints_come_before_the_answer() {
    let node = Node::start().await;
    node.serve("/page", Page::text("page").fresh_for(60).interim(&[103]));
    let proxy = before(&node).start().await;
    let mut raw = Raw::open(proxy.address()).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/page"), (":authority", "a.test")];
    raw.head(1, &fields).await;
    let interim = raw.next(&[HEADERS]).await.unwrap();
    assert_eq!(interim.1 & 1, 0, "the stream goes on");
    let answer = raw.next(&[HEADERS]).await.unwrap();
    assert_eq!((interim.2, answer.2), (1, 1));
}

#[tokio::test]
async fn who_takes_a_request_back_waits_no_more() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/slow", Page::text("slow").fresh_for(60).held_before_head(&gate));
    node.serve("/order", Page::text("done").held_before_head(&gate));
    let proxy = before(&node).start().await;
    let mut session = Session::open(proxy.address()).await;
    let kept = session.send(session.request("GET", "/slow")).await;
    gate.reached(1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(session.send(session.request("GET", "/slow")).await);
    }
    others.push(session.send(session.request("POST", "/order")).await);
    let inside = async |count: f64| {
        wait::until(&format!("{count} to be inside"), async || {
            let inside = proxy.metrics().await.sum("clearcoat_requests_in_flight", &[]);
            (inside == count).then_some(())
        })
        .await;
    };
    inside(22.0).await;
    others.into_iter().for_each(clearcoat_tests::http2::Asked::take_back);
    // The page is still held.
    inside(1.0).await;
    assert_eq!(requests(&proxy, "client_gone").await, 20.0);
    gate.open();
    assert_eq!(kept.answer().await.text(), "slow");
    // A connection that vanishes takes all of its requests with it.
    let second = Gate::closed();
    node.serve("/other", Page::text("other").fresh_for(60).held_before_head(&second));
    let mut vanishing = Session::open(proxy.address()).await;
    let asked = vanishing.send(vanishing.request("GET", "/other")).await;
    inside(1.0).await;
    drop((asked, vanishing));
    inside(0.0).await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve_everything(Page::text("slow").no_store().held_before_head(&gate));
    let proxy = before(&node).start().await;
    let mut raw = Raw::open(proxy.address()).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/slow"), (":authority", "a.test")];
    for request in 0..2_000 {
        let stream = request * 2 + 1;
        raw.head(stream, &fields).await;
        raw.frame(RESET, 0, stream, &8u32.to_be_bytes()).await;
        if request % 10 == 9 {
            // So that they are taken in one by one and not all found reset at once, for which the crate has a bound.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (_, _, _, goaway) = raw.next(&[GOAWAY]).await.expect("a word before the end");
    assert_eq!(goaway[4..8], 11u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
    assert_eq!(limit(&proxy, "http2_flood").await, 1.0);
    gate.open();
    // All others are served as ever.
    assert_eq!(Session::open(proxy.address()).await.get("/x").await.status.as_u16(), 200);
}

#[tokio::test]
async fn who_resets_what_was_not_looked_at_yet_is_ended_too() {
    let node = Node::start().await;
    let proxy = before(&node).start().await;
    let mut raw = Raw::open(proxy.address()).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")];
    for request in 0..5_000 {
        raw.head(request * 2 + 1, &fields).await;
        raw.frame(RESET, 0, request * 2 + 1, &8u32.to_be_bytes()).await;
    }
    let (_, _, _, goaway) = raw.next(&[GOAWAY]).await.expect("a word before the end");
    assert_eq!(goaway[4..8], 11u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
    wait::until("the limit to be counted", async || {
        (limit(&proxy, "http2_flood").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_sends_frames_for_nothing_is_ended() {
    let node = Node::start().await;
    node.serve("/page", Page::text("page").fresh_for(60));
    let proxy = before(&node).start().await;
    // SETTINGS, PING, its acknowledgement, PRIORITY, WINDOW_UPDATE, and a kind that there is not.
    let floods: [(u8, u8, u32, &[u8]); 6] = [
        (4, 0, 0, &[]),
        (6, 0, 0, &[0; 8]),
        (6, 1, 0, &[0; 8]),
        (2, 0, 3, &[0; 5]),
        (8, 0, 0, &[0, 0, 0, 1]),
        (0xee, 0, 0, &[]),
    ];
    for (number, (kind, flags, stream, payload)) in floods.into_iter().enumerate() {
        let mut raw = Raw::open(proxy.address()).await;
        for _ in 0..15_000 {
            raw.frame(kind, flags, stream, payload).await;
        }
        // ENHANCE_YOUR_CALM; what is not read of the flood makes the end a reset, which may overtake it.
        if let Some((_, _, _, goaway)) = raw.next(&[GOAWAY]).await {
            assert_eq!(goaway[4..8], 11u32.to_be_bytes(), "kind {kind}");
            assert_eq!(raw.next(&[GOAWAY]).await, None, "kind {kind}");
        }
        assert_eq!(limit(&proxy, "http2_flood").await, number as f64 + 1.0, "kind {kind}");
    }
    assert!(proxy.log().lines().count() < 100, "nobody fills the log: {}", proxy.log());
    // One who asks in between may send as many.
    let mut raw = Raw::open(proxy.address()).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/page"), (":authority", "a.test")];
    for request in 0..4000 {
        raw.head(request * 2 + 1, &fields).await;
        for _ in 0..5 {
            raw.frame(8, 0, 0, &[0, 0, 0, 1]).await;
        }
        let answered = raw.next(&[HEADERS, GOAWAY]).await.unwrap();
        assert_eq!((answered.0, answered.2), (HEADERS, request * 2 + 1));
    }
}

#[tokio::test]
async fn malformed_requests_reach_no_node() {
    let node = Node::start().await;
    let proxy = before(&node).start().await;
    let good = [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "a.test")];
    let with = |name: &'static str, value: &'static str| {
        let mut fields = good.to_vec();
        match fields.iter_mut().find(|field| field.0 == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
        fields
    };
    let without = |name: &str| good.into_iter().filter(|field| field.0 != name).collect::<Vec<_>>();
    let mut twice = good.to_vec();
    twice.push((":path", "/y"));
    let mut late = good.to_vec();
    late.insert(2, ("x", "y"));
    let mut raw = Raw::open(proxy.address()).await;
    let mut stream = 1;
    for fields in [
        with("host", "b.test"),
        with(":authority", "user@a.test"),
        with(":authority", "a.test/x"),
        with(":path", "x"),
        with(":path", "http://b.test/"),
        with(":path", "/a b"),
        with(":path", "/a\r\nX: y"),
        with(":path", ""),
        with(":path", "*"),
        with(":method", "CONNECT"),
        with(":method", "TRACE"),
        with(":protocol", "websocket"),
        with(":status", "200"),
        with(":odd", "1"),
        with("connection", "close"),
        with("connection", "x-user-context-hash"),
        with("keep-alive", "1"),
        with("proxy-connection", "close"),
        with("transfer-encoding", "chunked"),
        with("upgrade", "websocket"),
        with("te", "gzip"),
        with("Upper", "case"),
        with("x y", "z"),
        with("x", "a\r\nY: z"),
        with("x", "a\0"),
        with("x", " leading"),
        with("content-length", "5"),
        with("content-length", "+0"),
        without(":authority"),
        without(":method"),
        without(":path"),
        without(":scheme"),
        twice,
        late,
    ] {
        raw.head(stream, &fields).await;
        match raw.next(&[HEADERS, RESET, GOAWAY]).await {
            Some((HEADERS, _, on, block)) => {
                // 200 and 404 stand in the static table (RFC 7541 appendix A).
                let refused = !matches!(block.first(), Some(0x88 | 0x8d));
                assert!(on == stream && refused, "{fields:?}: {block:x?}");
            }
            Some((RESET, _, on, _)) => assert_eq!(on, stream, "{fields:?}"),
            Some((GOAWAY, ..)) | None => raw = Raw::open(proxy.address()).await,
            Some(other) => panic!("{fields:?}: {other:?}"),
        }
        stream += 2;
    }
    assert_eq!(node.total(), 0, "no node has seen any of it");
    raw.head(stream, &good).await;
    assert!(raw.next(&[HEADERS]).await.is_some());
    assert_eq!(node.total(), 1);
}

#[tokio::test]
async fn empty_frames_of_an_upload_do_not_end_it() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    let proxy = before(&node).start().await;
    let mut raw = Raw::open(proxy.address()).await;
    let fields: [(&[u8], &[u8]); 4] =
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/echo"), (b":authority", b"a.test")];
    raw.fields(1, &fields, false).await;
    for piece in ["", "one", "", "", " two", ""] {
        raw.frame(DATA, 0, 1, piece.as_bytes()).await;
    }
    raw.frame(DATA, 1, 1, b"").await;
    assert!(raw.next(&[HEADERS]).await.is_some());
    assert_eq!((node.last("/echo").body, node.total(), node.garbled()), ("one two".into(), 1, 0));
}

#[tokio::test]
async fn heads_have_the_limits_of_http1() {
    let node = Node::start().await;
    let limits = "header_bytes = 4096\nheader_count = 20\nurl_bytes = 1024";
    let proxy = before(&node).limits(limits).start().await;
    let mut session = Session::open(proxy.address()).await;
    let long = "x".repeat(1100);
    let target = format!("/{long}");
    assert_eq!(session.get(&target).await.status.as_u16(), 414);
    let many =
        (0..21).fold(session.request("GET", "/"), |request, at| request.header(format!("x-{at}"), "y"));
    assert_eq!(session.send(many).await.answer().await.status.as_u16(), 431);
    let large =
        (0..4).fold(session.request("GET", "/"), |request, at| request.header(format!("x-{at}"), &long));
    assert_eq!(session.send(large).await.answer().await.status.as_u16(), 431);
    for name in ["url_bytes", "header_count", "header_bytes"] {
        assert_eq!(limit(&proxy, name).await, 1.0, "{name}");
    }
    // Far beyond it the head is not even kept.
    let huge =
        (0..40).fold(session.request("GET", "/"), |request, at| request.header(format!("x-{at}"), &long));
    let answer = session.send(huge).await.try_answer().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status.as_u16() == 431));
    assert_eq!(node.total(), 0);
}

#[tokio::test]
async fn sigterm_lets_streams_finish() {
    let node = Node::start().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    node.serve("/slow", Page::text("slow").fresh_for(60).held_before_head(&head));
    node.serve("/half", Page::text("first half, second half").no_store().held_in_body(10, &body));
    node.serve("/order", Page::echo().held_before_head(&head));
    let mut proxy = before(&node).start().await;
    let mut idle = Session::open(proxy.address()).await;
    assert_eq!(idle.get("/none").await.status.as_u16(), 404);
    let mut session = Session::open(proxy.address()).await;
    let slow = session.send(session.request("GET", "/slow")).await;
    let mut order =
        session.try_send(session.request("POST", "/order").body(()).unwrap(), false).await.unwrap();
    order.body.send_data(Bytes::from_static(b"one book"), true).unwrap();
    let (_, mut half) = session.send(session.request("GET", "/half")).await.try_head().await.unwrap();
    assert_eq!(half.data().await.unwrap().unwrap(), "first half");
    head.reached(2).await;

    proxy.signal(Signal::Term);
    idle.ended().await.expect("a goodbye in good order");
    head.open();
    body.open();
    assert_eq!(slow.answer().await.text(), "slow");
    assert_eq!(order.answer().await.text(), "one book");
    assert_eq!(rest(half).await.unwrap(), ", second half");
    session.ended().await.expect("a goodbye in good order");
    assert_eq!(proxy.exit_code().await, Some(0));
}

#[tokio::test]
async fn idle_connections_and_long_ones_are_ended_in_good_order() {
    let node = Node::start().await;
    node.serve("/page", Page::text("page").fresh_for(60));
    let limits = "idle_timeout = \"1s\"\nrequests_per_connection = 5";
    let proxy = before(&node).limits(limits).start().await;
    let mut session = Session::open(proxy.address()).await;
    assert_eq!(session.get("/page").await.text(), "page");
    session.ended().await.expect("a goodbye in good order");
    assert_eq!(limit(&proxy, "idle").await, 1.0);
    // One that asks for hits now and then is not idle.
    let mut session = Session::open(proxy.address()).await;
    for _ in 0..4 {
        assert_eq!(session.get("/page").await.text(), "page");
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(limit(&proxy, "idle").await, 1.0);
    drop(session);
    let mut session = Session::open(proxy.address()).await;
    for _ in 0..5 {
        assert_eq!(session.get("/page").await.text(), "page");
    }
    session.ended().await.expect("a goodbye in good order");
    assert_eq!(limit(&proxy, "idle").await, 1.0);
}

#[tokio::test]
async fn no_more_streams_than_told_are_open() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/slow", Page::text("slow").no_store().held_before_head(&gate));
    let proxy = before(&node).limits("http2_streams = 3").start().await;
    let mut raw = Raw::open(proxy.address()).await;
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/slow"), (":authority", "a.test")];
    for request in 0..5 {
        raw.head(request * 2 + 1, &fields).await;
    }
    // 7: REFUSED_STREAM, which a client may send again (RFC 9113 section 8.7).
    let (_, _, _, reason) = raw.next(&[RESET]).await.unwrap();
    assert_eq!(reason, 7u32.to_be_bytes());
    gate.reached(1).await;
    assert!(gate.arrivals() <= 3);
    gate.open();
}

#[tokio::test]
async fn http2_is_spoken_only_where_it_is_wanted() {
    let node = Node::start().await;
    node.serve("/page", Page::text("page").fresh_for(60));
    let plain = Proxy::before(&node).await;
    let mut connection = plain.connect().await;
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).await.unwrap();
    let answer = connection.answer("PRI").await.unwrap();
    assert_eq!(answer.status, 505);

    // In pieces the preface is one too, and its beginning alone is too slow a request.
    let proxy = before(&node).limits("header_timeout = \"1s\"").start().await;
    let mut connection = proxy.connect().await;
    connection.send(b"PRI * HTT".to_vec()).await.unwrap();
    assert_eq!(connection.answer("PRI").await.unwrap().status, 408);
    proxy.ask(&Request::get("/page")).await.expect_status(200);
    let mut posted = proxy.connect().await;
    posted.ask(&Request::post("/page", "body")).await.expect_status(200);
}

#[tokio::test]
async fn under_tls_it_is_what_is_agreed_on_first() {
    let node = Node::start().await;
    node.serve("/page", Page::text("x".repeat(100_000)).fresh_for(60));
    node.serve("/echo", Page::echo());
    let certificate = Certificate::of(&["www.example.com"]);
    let proxy = Setup::before(&node).tls(&[&certificate]).start().await;
    let visitor = TlsVisitor::trusting(&[&certificate]).offering(&["http/1.1", "h2"]);
    let address = proxy.tls_address();
    let (mut session, agreed) = visitor.connect_http2(address, "www.example.com").await.unwrap();
    assert_eq!(agreed.protocol.as_deref(), Some("h2"));
    let miss = session.get("/page").await;
    assert_eq!((miss.body.len(), miss.is_hit()), (100_000, false));
    assert_eq!(node.last("/page").header("x-forwarded-proto"), Some("https"));
    let mut hits = Vec::new();
    for _ in 0..50 {
        // Read side by side: they share the window of the connection.
        hits.push(tokio::spawn(session.send(session.request("GET", "/page")).await.answer()));
    }
    for hit in hits {
        let hit = hit.await.unwrap();
        assert_eq!((hit.body.len(), hit.is_hit()), (100_000, true));
    }
    let mut posted =
        session.try_send(session.request("POST", "/echo").body(()).unwrap(), false).await.unwrap();
    posted.body.send_data(Bytes::from_static(b"said"), true).unwrap();
    assert_eq!(posted.answer().await.text(), "said");
    assert_eq!(node.last("/echo").header("x-forwarded-proto"), Some("https"));
}
