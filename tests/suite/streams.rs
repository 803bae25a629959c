//! What takes long: events one by one, uploads and downloads of any size, what is said before an answer and behind it.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use clearcoat_tests::http2::{Session, rest};
use clearcoat_tests::scripted::Talk;
use clearcoat_tests::{Certificate, Connection, Proxy, Request, Scripted, Setup, TlsVisitor, wait};

const NAME: &str = "www.example.com";
const MIB: u64 = 1 << 20;

/// What a proxy may take more of memory for one body of any size, in bytes.
const FLAT: u64 = 32 * MIB;

/// How late an event may be on a machine that has more to do.
const SOON: Duration = Duration::from_millis(500);

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n";

/// A proxy with TLS before this node, and a visitor who trusts it.
async fn secure(setup: Setup) -> (Proxy, TlsVisitor) {
    let certificate = Certificate::of(&[NAME]);
    let visitor = TlsVisitor::trusting(&[&certificate]);
    (setup.tls(&[&certificate]).start().await, visitor)
}

async fn http2(proxy: &Proxy, visitor: &TlsVisitor) -> Session {
    visitor.clone().offering(&["h2"]).connect_http2(proxy.tls_address(), NAME).await.unwrap().0
}

/// How late the events were, of which each says the microsecond in which it was sent.
#[derive(Default)]
struct Delays(Vec<Duration>);

impl Delays {
    fn note(&mut self, piece: &[u8], begun: Instant) {
        let now = begun.elapsed();
        for line in String::from_utf8_lossy(piece).lines() {
            if let Some(sent) = line.strip_prefix("data: ") {
                self.0.push(now - Duration::from_micros(sent.parse().unwrap()));
            }
        }
    }

    fn check(mut self, what: &str, count: usize) {
        self.0.sort();
        assert_eq!(self.0.len(), count, "{what}");
        let (median, most) = (self.0[count / 2], self.0[count - 1]);
        assert!(median < SOON && most < SOON * 4, "{what}: median {median:?}, most {most:?}");
    }
}

#[tokio::test]
async fn each_event_comes_at_once() {
    const COUNT: usize = 30;
    let begun = Instant::now();
    let node = Scripted::start(move |mut talk: Talk| async move {
        // Whatever rules there are for other pages: this is never kept.
        let fresh = if talk.path() == "/fresh" { "Cache-Control: max-age=60\r\n" } else { "" };
        talk.say(format!("{EVENTS}{fresh}\r\n")).await?;
        for _ in 0..COUNT {
            tokio::time::sleep(Duration::from_millis(30)).await;
            talk.say_chunk(format!("data: {}\n\n", begun.elapsed().as_micros()).as_bytes()).await?;
        }
        talk.say_chunk(b"").await
    })
    .await;
    let setup = Setup::before(&node)
        .site("default_ttl = \"1h\"")
        .cache("memory = \"64MiB\"\ncompress.enabled = true");
    let (proxy, visitor) = secure(setup).await;
    for path in ["/events", "/fresh"] {
        let mut delays = Delays::default();
        let mut plain = proxy.connect().await;
        plain.send(Request::get(path).header("Accept-Encoding", "gzip, br").to_bytes()).await.unwrap();
        let mut head = plain.head("GET").await.unwrap();
        assert_eq!(head.header("content-encoding"), None);
        assert!(head.header("cache-status").is_some_and(|status| !status.contains("stored")), "{head:?}");
        loop {
            let piece = plain.piece(&mut head).await.unwrap();
            if piece.is_empty() {
                break;
            }
            delays.note(&piece, begun);
        }
        delays.check(&format!("{path} by HTTP/1.1"), COUNT);
        let mut delays = Delays::default();
        let mut session = http2(&proxy, &visitor).await;
        let request = session.request("GET", path).header("accept-encoding", "gzip, br");
        let (_, mut body) = session.send(request).await.try_head().await.unwrap();
        while let Some(piece) = wait::soon("an event", body.data()).await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            delays.note(&piece, begun);
        }
        delays.check(&format!("{path} by HTTP/2"), COUNT);
    }
    assert_eq!(node.requests(), 4, "none was answered from memory or by another's");
}

#[tokio::test]
async fn who_leaves_ends_the_events_and_many_may_listen() {
    const LISTENERS: usize = 500;
    let node = Scripted::start(async |mut talk: Talk| {
        talk.say(format!("{EVENTS}\r\n")).await?;
        talk.say_chunk(b"data: 0\n\n").await?;
        // Says no more; hears when nobody listens any more.
        talk.hear().await.map(drop)
    })
    .await;
    let proxy = Setup::before(&node).pool("timeouts = { between_bytes = \"1h\" }").start().await;
    let before = proxy.resident_bytes();
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        let mut visitor = proxy.connect().await;
        visitor.send(Request::get("/events").to_bytes()).await.unwrap();
        listeners.push(visitor);
    }
    for visitor in &mut listeners {
        let mut head = visitor.head("GET").await.unwrap();
        assert_eq!(visitor.piece(&mut head).await.unwrap(), "data: 0\n\n");
    }
    assert_eq!(node.open(), LISTENERS);
    let each = proxy.resident_bytes().saturating_sub(before) / LISTENERS as u64;
    assert!(each < 64 << 10, "{each} bytes a listener");
    drop(listeners);
    wait::until("the node to hear of it", async || (node.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn events_may_be_as_far_apart_as_the_pool_says() {
    let node = Scripted::start(async |mut talk: Talk| {
        talk.say(format!("{EVENTS}\r\n")).await?;
        for pause in [300, 300, 1500] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            talk.say_chunk(b": still here\n").await?;
        }
        talk.say_chunk(b"").await
    })
    .await;
    // Nothing else ends it: these are about requests.
    let limits = "body_timeout = \"100ms\"\nidle_timeout = \"100ms\"\nwrite_timeout = \"100ms\"";
    let proxy =
        Setup::before(&node).limits(limits).pool("timeouts = { between_bytes = \"1s\" }").start().await;
    let mut visitor = proxy.connect().await;
    let begun = Instant::now();
    visitor.send(Request::get("/events").to_bytes()).await.unwrap();
    let head = visitor.head("GET").await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(280), "that they begin is told before the first of them");
    let broken = visitor.rest(head).await.expect_err("nothing came for longer than the pool allows");
    assert!(!format!("{broken:#}").contains("in time"), "{broken:#}");
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
}

/// Bytes by their place, without any being kept.
fn check_place(piece: &[u8], from: u64) {
    // A place now and then is enough to see that nothing was lost, doubled or changed.
    for at in (0..piece.len()).step_by(4099) {
        assert_eq!(piece[at], by_place(from + at as u64), "at {}", from + at as u64);
    }
}

fn by_place(at: u64) -> u8 {
    (at % 251) as u8
}

/// 251 KiB, so that every such piece is the same.
fn piece() -> Bytes {
    (0..251 << 10).map(by_place).collect()
}

/// What the stories below send.
const LENGTH: u64 = 1024 * (251 << 10);

/// Sends [`LENGTH`] bytes.
async fn pour(talk: &mut Talk) -> Result<()> {
    let piece = piece();
    let chunked = talk.path() == "/chunked";
    let framing =
        if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {LENGTH}") };
    talk.say(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n")).await?;
    for _ in 0..LENGTH / piece.len() as u64 {
        if chunked { talk.say_chunk(&piece).await? } else { talk.say(&piece).await? }
    }
    if chunked { talk.say_chunk(b"").await } else { Ok(()) }
}

/// Takes the whole body in, and says how much it was.
async fn drain(talk: &mut Talk) -> Result<()> {
    let mut taken = 0;
    loop {
        let piece = talk.piece().await?;
        if piece.is_empty() {
            let text = taken.to_string();
            return talk
                .say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
                .await;
        }
        check_place(&piece, taken);
        taken += piece.len() as u64;
    }
}

#[tokio::test]
async fn downloads_of_any_size_cost_no_memory() {
    let node = Scripted::start(async |mut talk: Talk| pour(&mut talk).await).await;
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let before = proxy.resident_bytes();
    let mut most = before;
    for path in ["/length", "/chunked"] {
        let (mut tls, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
        tls.send(Request::get(path).to_bytes()).await.unwrap();
        let mut head = tls.head("GET").await.unwrap();
        let mut taken = 0;
        loop {
            let piece = tls.piece(&mut head).await.unwrap();
            if piece.is_empty() {
                break;
            }
            check_place(&piece, taken);
            taken += piece.len() as u64;
            most = most.max(proxy.resident_bytes());
        }
        assert_eq!(taken, LENGTH, "{path} by HTTP/1.1");
        let mut session = http2(&proxy, &visitor).await;
        let (_, mut body) = session.send(session.request("GET", path)).await.try_head().await.unwrap();
        let mut taken = 0;
        while let Some(piece) = wait::soon("more", body.data()).await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            check_place(&piece, taken);
            taken += piece.len() as u64;
            if taken % 64 == 0 {
                most = most.max(proxy.resident_bytes());
            }
        }
        assert_eq!(taken, LENGTH, "{path} by HTTP/2");
    }
    let growth = most - before;
    // The cache itself may have 64 MiB, and begins to keep what has no length until it is too large.
    assert!(growth < FLAT + 16 * MIB, "{} MiB", growth / MIB);
}

#[tokio::test]
async fn uploads_of_any_size_cost_no_memory() {
    let node = Scripted::start(async |mut talk: Talk| drain(&mut talk).await).await;
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let before = proxy.resident_bytes();
    let mut most = before;
    let piece = piece();
    for chunked in [false, true] {
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {LENGTH}")
        };
        let (mut tls, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
        tls.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
        for _ in 0..LENGTH / piece.len() as u64 {
            if chunked {
                tls.send(format!("{:x}\r\n", piece.len())).await.unwrap();
            }
            tls.send(&piece).await.unwrap();
            if chunked {
                tls.send("\r\n").await.unwrap();
            }
            most = most.max(proxy.resident_bytes());
        }
        if chunked {
            tls.send("0\r\n\r\n").await.unwrap();
        }
        let answer = tls.answer("POST").await.unwrap().expect_status(200);
        assert_eq!(answer.text(), LENGTH.to_string());
        // The connection goes on.
        tls.send("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(tls.answer("POST").await.unwrap().text(), "0");
        let mut session = http2(&proxy, &visitor).await;
        let mut request = session.request("POST", "/upload");
        if !chunked {
            request = request.header("content-length", LENGTH);
        }
        let mut asked = session.try_send(request.body(()).unwrap(), false).await.unwrap();
        for number in 1..=LENGTH / piece.len() as u64 {
            send(&mut asked.body, piece.clone(), number == LENGTH / piece.len() as u64).await.unwrap();
            most = most.max(proxy.resident_bytes());
        }
        assert_eq!(asked.answer().await.text(), LENGTH.to_string());
    }
    let growth = most - before;
    assert!(growth < FLAT, "{} MiB", growth / MIB);
}

/// Sends a piece as far as the windows let it.
async fn send(body: &mut h2::SendStream<Bytes>, mut piece: Bytes, last: bool) -> Result<(), h2::Error> {
    loop {
        body.reserve_capacity(piece.len());
        let room = std::future::poll_fn(|context| body.poll_capacity(context));
        let Some(room) = wait::soon("room for more", room).await else { return Ok(()) };
        let part = piece.split_to(room?.min(piece.len()));
        body.send_data(part, last && piece.is_empty())?;
        if piece.is_empty() {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn who_takes_or_gives_slowly_holds_the_other_side_back() {
    let node = Scripted::start(async |mut talk: Talk| match talk.head.method.as_str() {
        "GET" => pour(&mut talk).await,
        // Takes nothing of what it is sent.
        _ => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drain(&mut talk).await
        }
    })
    .await;
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let before = proxy.resident_bytes();
    let mut readers = Vec::new();
    for path in ["/length", "/chunked"] {
        let mut reader = Connection::open_narrow(proxy.address()).await;
        reader.send(Request::get(path).to_bytes()).await.unwrap();
        readers.push(reader);
    }
    let mut session = http2(&proxy, &visitor).await;
    // Its windows stay as they are: nothing is ever let go.
    let stream = session.send(session.request("GET", "/length")).await.try_head().await.unwrap();
    let mut uploads =
        session.try_send(session.request("POST", "/upload").body(()).unwrap(), false).await.unwrap();
    let mut offered = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        uploads.body.reserve_capacity(1 << 20);
        let room = tokio::time::timeout(
            Duration::from_millis(100),
            std::future::poll_fn(|context| uploads.body.poll_capacity(context)),
        );
        if let Ok(Some(Ok(room))) = room.await {
            offered += room;
            uploads.body.send_data(vec![0; room].into(), false).unwrap();
        }
    }
    let growth = proxy.resident_bytes().saturating_sub(before);
    assert!(growth < FLAT + 16 * MIB, "{} MiB", growth / MIB);
    assert!((offered as u64) < FLAT, "{offered} bytes");
    drop((readers, stream));
}

/// Sends a body without end until it is not taken any more, and reads what comes meanwhile.
async fn answered_early(visitor: Connection, framing: &str) -> clearcoat_tests::Answer {
    let mut visitor = visitor;
    visitor.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")).await.unwrap();
    let sending = if framing.starts_with('T') {
        "10000\r\n".to_owned() + &"x".repeat(0x10000) + "\r\n"
    } else {
        "x".repeat(0x10000)
    };
    for _ in 0..64 {
        // As browsers and curl do: what cannot be sent any more is no reason not to read the answer.
        if visitor.send(&sending).await.is_err() {
            break;
        }
    }
    visitor.answer("POST").await.unwrap()
}

#[tokio::test]
async fn an_answer_may_come_while_the_upload_runs() {
    const TOO_MUCH: &str = "HTTP/1.1 413 Too Much\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
    let node = Scripted::start(async |mut talk: Talk| {
        talk.piece().await?;
        talk.say(TOO_MUCH).await?;
        talk.finish().await?;
        // As servers do: the rest is taken in for a moment, so that the answer is not lost with it.
        let lingers = async { while !talk.piece().await.unwrap_or_default().is_empty() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), lingers).await;
        Ok(())
    })
    .await;
    let framings = [format!("Content-Length: {LENGTH}"), "Transfer-Encoding: chunked".to_owned()];
    for limits in ["", "max_body = \"1MiB\""] {
        let (proxy, visitor) = secure(Setup::before(&node).limits(limits)).await;
        for framing in &framings {
            let (tls, _) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
            for upload in [tls, proxy.connect().await] {
                let answer = answered_early(upload, framing).await.expect_status(413);
                assert!(answer.closes(), "{answer}");
            }
        }
        let mut session = http2(&proxy, &visitor).await;
        let mut asked =
            session.try_send(session.request("POST", "/upload").body(()).unwrap(), false).await.unwrap();
        asked.body.send_data(vec![b'x'; 60_000].into(), false).unwrap();
        if !limits.is_empty() {
            send(&mut asked.body, vec![b'x'; 2 << 20].into(), false).await.ok();
        }
        let (head, mut send, body) = asked.opened().await.unwrap();
        assert_eq!(head.status, 413);
        assert!(!rest(body).await.unwrap().is_empty());
        // The rest is not wanted, which is no error (RFC 9113 section 8.1).
        let reset = std::future::poll_fn(|context| send.poll_reset(context));
        assert_eq!(wait::soon("the rest to be refused", reset).await.unwrap(), h2::Reason::NO_ERROR);
        assert_eq!(proxy.ask(&Request::post("/", "x")).await.status, 413, "the service goes on");
    }
}

#[tokio::test]
async fn a_part_of_a_large_body_is_all_that_is_fetched() {
    let node = Scripted::start(async |mut talk: Talk| {
        let range = talk.header("range").unwrap_or("none").to_owned();
        assert_eq!(range, "bytes=1000000000-1000000009");
        talk.say(
            "HTTP/1.1 206 Part\r\nContent-Range: bytes 1000000000-1000000009/1073741824\r\n\
             Content-Length: 10\r\nCache-Control: no-store\r\n\r\n0123456789",
        )
        .await
    })
    .await;
    let (proxy, visitor) = secure(Setup::before(&node).site("cache = \"pass\"")).await;
    let mut session = http2(&proxy, &visitor).await;
    let request = session.request("GET", "/film").header("range", "bytes=1000000000-1000000009");
    let part = session.send(request).await.answer().await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "0123456789"));
    assert_eq!(part.field("content-range"), Some("bytes 1000000000-1000000009/1073741824"));
}

#[tokio::test]
async fn trailers_never_become_headers() {
    let node = Scripted::start(async |mut talk: Talk| {
        let mut taken = 0;
        loop {
            match talk.piece().await?.len() {
                0 => break,
                length => taken += length,
            }
        }
        let seen = ["x-late", "te", "trailer"].iter().any(|name| talk.header(name).is_some());
        let caching = if talk.path() == "/kept" { "max-age=60" } else { "no-store" };
        talk.say(format!("HTTP/1.1 200 OK\r\nCache-Control: {caching}\r\nTrailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n"))
            .await?;
        talk.say_chunk(format!("{taken} {seen}").as_bytes()).await?;
        talk.say("0\r\nX-Late: 1\r\nSet-Cookie: late=1\r\n\r\n").await
    })
    .await;
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    let late = "TE: trailers\r\nConnection: te\r\nTrailer: X-Late\r\n";
    let in_chunks = format!(
        "POST /form HTTP/1.1\r\nHost: a\r\n{late}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n"
    );
    for (bytes, taken) in [
        (format!("GET /passed HTTP/1.1\r\nHost: a\r\n{late}\r\n"), 0),
        (format!("GET /kept HTTP/1.1\r\nHost: a\r\n{late}\r\n"), 0),
        (format!("GET /kept HTTP/1.1\r\nHost: a\r\n{late}\r\n"), 0),
        (in_chunks, 5),
    ] {
        let mut visitor = proxy.connect().await;
        // The next answer follows at once: nothing of the trailers is in between.
        visitor.send(bytes + "GET /kept HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        for expected in [format!("{taken} false"), "0 false".to_owned()] {
            let answer = visitor.answer("GET").await.unwrap().expect_status(200);
            assert_eq!(answer.text(), expected);
            assert_eq!((answer.header("x-late"), answer.header("set-cookie")), (None, None), "{answer}");
        }
    }
    let mut session = Session::open(proxy.address()).await;
    for method in ["GET", "POST"] {
        let request = session.request(method, "/passed").header("te", "trailers").body(()).unwrap();
        let mut asked = session.try_send(request, false).await.unwrap();
        asked.body.send_data("hello".into(), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-late", "1".parse().unwrap());
        asked.body.send_trailers(trailers).unwrap();
        let (head, mut body) = asked.try_head().await.unwrap();
        assert_eq!((head.status.as_u16(), head.headers.get("x-late")), (200, None));
        let mut text = Vec::new();
        while let Some(piece) = wait::soon("the body", body.data()).await {
            text.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(text, b"5 false", "{method}");
        // What a node answers to an upload is carried by a road that does not know them.
        assert_eq!(body.trailers().await.unwrap(), None);
    }
}

/// All that comes of a request on a connection that ends with it.
async fn raw(proxy: &Proxy, request: &str) -> String {
    let mut visitor = proxy.connect().await;
    visitor.send(request).await.unwrap();
    let mut text = String::new();
    while let Ok(byte) = visitor.bytes(1).await {
        text.push(char::from(byte[0]));
    }
    text
}

#[tokio::test]
async fn trailers_go_on_to_those_who_take_them() {
    let node = Scripted::start(async |mut talk: Talk| {
        let told = talk.header("te") == Some("trailers");
        let body = talk.path() == "/form" && talk.piece().await?.len() == 5;
        let caching = if talk.path() == "/kept" { "max-age=60" } else { "no-store" };
        talk.say(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {caching}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ))
        .await?;
        talk.say_chunk(format!("{told} {body}").as_bytes()).await?;
        if talk.path() == "/late" {
            tokio::time::sleep(Duration::from_millis(300)).await;
            talk.say_chunk(b"!").await?;
        }
        talk.say("0\r\nServer-Timing: db;dur=53\r\nCache-Control: no-store\r\nxkey: a\r\n\r\n").await
    })
    .await;
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    let late = "0\r\nserver-timing: db;dur=53\r\n\r\n";
    let takes = "Host: a\r\nTE: deflate, trailers\r\nConnection: te, close\r\n\r\n";
    // Whole when it begins to go out, and still coming then.
    for (path, end) in [("/whole", "b\r\nfalse false\r\n"), ("/late", "1\r\n!\r\n")] {
        let answer = raw(&proxy, &format!("GET {path} HTTP/1.1\r\n{takes}")).await;
        assert!(answer.ends_with(&format!("{end}{late}")), "{answer}");
        let answer =
            raw(&proxy, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(!answer.contains("dur=53") && !answer.contains("xkey"), "{answer}");
        let answer = raw(&proxy, &format!("GET {path} HTTP/1.0\r\n{takes}")).await;
        assert!(!answer.contains("dur=53") && answer.contains("200 OK"), "{answer}");
    }
    let mut session = Session::open(proxy.address()).await;
    for (takes, path) in [("trailers", "/whole"), ("trailers", "/late"), ("", "/whole")] {
        let request = session.request("GET", path);
        // `te` may say nothing else in HTTP/2.
        let request = if takes.is_empty() { request } else { request.header("te", takes) };
        let asked = session.send(request).await;
        let (_, mut body) = asked.try_head().await.unwrap();
        while let Some(piece) = wait::soon("the body", body.data()).await {
            piece.unwrap();
        }
        let late = body.trailers().await.unwrap().unwrap_or_default();
        let late: Vec<_> =
            late.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(
            late.join(" "),
            if takes == "trailers" { "server-timing: db;dur=53" } else { "" },
            "{path}"
        );
    }
    // A node is told that they are taken where the answer is for one client.
    let form = format!("POST /form HTTP/1.1\r\nContent-Length: 5\r\n{takes}hello");
    let answer = raw(&proxy, &form).await;
    assert!(answer.ends_with(&format!("9\r\ntrue true\r\n{late}")), "{answer}");
    // What is stored has none, for those who had it stored neither.
    for _ in 0..2 {
        let answer = raw(&proxy, &format!("GET /kept HTTP/1.1\r\n{takes}")).await;
        assert!(answer.contains("false false") && !answer.contains("dur=53"), "{answer}");
    }
}
