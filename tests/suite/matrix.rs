//! GET and HEAD, ranges, content codings, with and without Vary, in every state that a page can be in here: each answer is
//! held against the node's own answer to the same request, byte for byte.
//!
//! Where two answers are right, both are taken: a range may be answered by the whole, and what is coded here may be
//! decoded and then has to be the node's bytes.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use clearcoat_tests::client;
use clearcoat_tests::node::Recorded;
use clearcoat_tests::{Address, Answer, Gate, Node, Page, Proxy, Request, Setup, wait};

/// Where the streaming page stands while requests come in.
const HELD_AT: usize = 9_000;

/// Requests with this header come from the test itself and are never held.
const DIRECT: &str = "X-Direct";

const RANGES: [Option<&str>; 9] = [
    None,
    Some("bytes=0-9"),
    Some("bytes=100-"),
    Some("bytes=8990-9010"),
    Some("bytes=-7"),
    Some("bytes=0-0,500-509"),
    Some("bytes=9999999-"),
    Some("bytes=9-2"),
    Some("lines=1-2"),
];

const CODINGS: [Option<&str>; 7] = [
    None,
    Some("gzip"),
    Some("gzip, deflate, br, zstd"),
    Some("br;q=1.0, gzip;q=0.5"),
    Some("gzip;q=0, *;q=0"),
    Some("identity"),
    Some("GZIP;q=0.5, x-unknown"),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Never asked for.
    Cold,
    /// In memory.
    Warm,
    /// In memory, over its time, and the node says that it is still right.
    Confirmed,
    /// In memory, over its time, and the node has a new one.
    Replaced,
    /// On its way: part of the body is here.
    Streaming,
}

const STATES: [State; 5] = [State::Cold, State::Warm, State::Confirmed, State::Replaced, State::Streaming];

/// One cell of the matrix.
#[derive(Clone, Debug)]
struct Cell {
    path: String,
    state: State,
    method: &'static str,
    range: Option<&'static str>,
    coding: Option<&'static str>,
}

impl Cell {
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for kind in ["plain", "vary"] {
            for state in STATES {
                for method in ["GET", "HEAD"] {
                    for range in RANGES {
                        for coding in CODINGS {
                            let path = format!("/{kind}/{state:?}/{}", cells.len());
                            cells.push(Self { path, state, method, range, coding });
                        }
                    }
                }
            }
        }
        cells
    }

    /// The request of this cell.
    fn request(&self) -> Request {
        let mut request = Request::new(self.method, &self.path);
        if let Some(range) = self.range {
            request = request.header("Range", range);
        }
        self.coded(request)
    }

    /// What brings the page into the state: a visitor with the same taste, but without a range.
    fn warming(&self) -> Request {
        self.coded(Request::get(&self.path))
    }

    /// The same, asked for with GET and as a whole.
    fn for_the_whole(&self) -> Self {
        Self { range: None, method: "GET", ..self.clone() }
    }

    fn coded(&self, request: Request) -> Request {
        match self.coding {
            Some(coding) => request.header("Accept-Encoding", coding),
            None => request,
        }
    }

    /// Whether the page is in memory before the request comes.
    fn is_warmed(&self) -> bool {
        !matches!(self.state, State::Cold | State::Streaming)
    }

    /// Whether the client reads this coding.
    fn takes(&self, coding: &str) -> bool {
        let Some(list) = self.coding else { return false };
        list.split(',').any(|member| {
            let (name, weight) = member.split_once(";q=").unwrap_or((member, "1"));
            name.trim().eq_ignore_ascii_case(coding) && weight.trim() != "0"
        })
    }
}

/// The two editions of the pages, each plain and with gzip.
struct Edition {
    plain: Bytes,
    gzip: Bytes,
}

impl Edition {
    fn new(name: &str) -> Self {
        let plain: String = (0..900).map(|line| format!("{name}, line {line} of the page\n")).collect();
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut coder, plain.as_bytes()).unwrap();
        Self { plain: plain.into(), gzip: coder.finish().unwrap().into() }
    }
}

/// A node that knows conditions, single ranges and gzip, as a good web server does.
fn respond(request: &Recorded, editions: &[Edition; 2], edition: &AtomicU32, gate: &Gate) -> Page {
    let varies = request.path().starts_with("/vary/");
    let number = edition.load(Ordering::SeqCst) as usize;
    let codings = request.header("accept-encoding").unwrap_or_default().to_ascii_lowercase();
    let gzip = varies && codings.contains("gzip") && !codings.contains("gzip;q=0,");
    let number = if request.path().contains("/Replaced/") { number } else { 0 };
    let body = if gzip { &editions[number].gzip } else { &editions[number].plain };
    let tag = format!("\"{number}-{}\"", if gzip { "gzip" } else { "plain" });
    let short = request.path().contains("/Confirmed/") || request.path().contains("/Replaced/");
    let with_head = |page: Page| {
        let page = page
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("ETag", &tag)
            .header("Accept-Ranges", "bytes")
            .cache_control(if short { "max-age=1" } else { "max-age=600" });
        let page = if varies { page.header("Vary", "Accept-Encoding") } else { page };
        if gzip { page.header("Content-Encoding", "gzip") } else { page }
    };
    if request.header("if-none-match").is_some_and(|list| list.contains(&tag)) {
        return with_head(Page::text("").status(304));
    }
    let range = request.header("range").filter(|_| request.method == "GET");
    if let Some(range) = range.and_then(|range| range.strip_prefix("bytes="))
        && let Some((first, last)) = range.split_once('-')
        && !range.contains(',')
    {
        let length = body.len();
        let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if last < first => (0, 0),
            (Ok(first), Ok(last)) => (first, (last + 1).min(length)),
            (Ok(first), Err(_)) => (first, length),
            (Err(_), Ok(last)) => (length.saturating_sub(last), length),
            (Err(_), Err(_)) => (0, 0),
        };
        if start >= length {
            let page = Page::text("").status(416);
            return page.header("Content-Range", &format!("bytes */{length}")).no_store();
        }
        if start < end {
            let content_range = format!("bytes {start}-{}/{length}", end - 1);
            return with_head(Page::text(body.slice(start..end)).status(206))
                .header("Content-Range", &content_range);
        }
    }
    let page = with_head(Page::text(body.clone()));
    if request.path().contains("/Streaming/") && request.header(DIRECT).is_none() {
        return page.held_in_body(HELD_AT.min(body.len() / 2), gate);
    }
    page
}

/// The bytes as they were before this content coding.
fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        "br" => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut plain).unwrap()),
        "zstd" => drop(zstd::Decoder::new(body).unwrap().read_to_end(&mut plain).unwrap()),
        other => panic!("Content-Encoding: {other}"),
    }
    plain
}

/// A multipart/byteranges body has to be these parts of `whole`.
fn check_parts(answer: &Answer, whole: &Answer) {
    let kind = answer.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{answer}"));
    let (kind, length) = (whole.header("content-type").unwrap(), whole.body.len());
    let mut expected = Vec::new();
    for (start, end) in [(0, 0), (500, 509)] {
        let place = format!("Content-Range: bytes {start}-{end}/{length}");
        let head = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{place}\r\n\r\n");
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&whole.body[start..=end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected, "{answer}");
}

/// Holds our answer against the node's own; `whole` is the node's answer to the same GET without a range.
fn check(cell: &Cell, ours: &Answer, own: &Answer, whole: &Answer) {
    let context = format!("{cell:?}\nours: {ours}\nthe node's: {own}");
    let coding = ours.header("content-encoding");
    assert!(
        coding.is_none_or(|coding| cell.takes(coding)),
        "a coding that the client does not read: {context}"
    );
    // Coded here, or as the node coded it.
    let coded_here = coding.is_some() && coding != whole.header("content-encoding");
    let tag = ours.header("etag");
    let expected_tag = whole.header("etag").map(|tag| match coded_here {
        true => format!("W/{tag}"),
        false => tag.to_owned(),
    });
    if ours.status != 416 {
        assert_eq!(tag, expected_tag.as_deref(), "{context}");
        if let Some(vary) = own.header("vary") {
            let kept = ours.header("vary").unwrap_or_default().to_ascii_lowercase();
            assert!(kept.contains(&vary.to_ascii_lowercase()), "{context}");
        }
    }
    if coded_here {
        assert!(
            ours.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("accept-encoding")),
            "{context}"
        );
        assert!(ours.status == 200 && ours.header("content-range").is_none(), "{context}");
    }
    match (ours.status, own.status) {
        (200, 200) if cell.method == "HEAD" => assert!(ours.body.is_empty(), "{context}"),
        // A range may be answered by the whole (RFC 9110 section 14.2).
        (200, 200 | 206 | 416) => {
            let plain = match coding.filter(|_| coded_here) {
                Some(coding) => decoded(coding, &ours.body).into(),
                None => ours.body.clone(),
            };
            assert!(plain == whole.body, "{context}");
        }
        (206, 206) => {
            assert_eq!(ours.header("content-range"), own.header("content-range"), "{context}");
            assert!(ours.body == own.body, "{context}");
        }
        // The node does not know several ranges.
        (206, 200) if cell.range.is_some_and(|range| range.contains(',')) => check_parts(ours, whole),
        (416, 416) => {
            assert_eq!(ours.header("content-range"), own.header("content-range"), "{context}");
            assert!(ours.body.is_empty(), "{context}");
        }
        _ => panic!("another status: {context}"),
    }
}

/// Whether a HEAD says the length that GET has.
async fn check_head(proxy: &Proxy, cell: &Cell, head: &Answer) {
    let get = proxy.ask(&cell.warming()).await;
    for name in ["content-length", "content-encoding", "etag", "vary", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{name} of {cell:?}\nHEAD: {head}\nGET: {get}");
    }
}

/// `settings` turn compression on, or are empty.
async fn every_answer_is_the_nodes(settings: &str) {
    let editions = Arc::new([Edition::new("first"), Edition::new("second")]);
    let (edition, gate) = (Arc::new(AtomicU32::new(0)), Gate::closed());
    let node = Node::start().await;
    let (pages, current, door) = (editions.clone(), edition.clone(), gate.clone());
    node.serve_everything(Page::composed(move |request| respond(request, &pages, &current, &door)));
    let proxy = Setup::before(&node).cache("memory = \"256MiB\"").cache(settings).start().await;
    let cells = Cell::all();

    let mut visitor = proxy.connect().await;
    for cell in cells.iter().filter(|cell| cell.is_warmed()) {
        visitor.ask(&cell.warming()).await.expect_status(200);
    }
    if !settings.is_empty() {
        // Those that the node sends plain to clients who read something else too.
        let coded = |cell: &&Cell| cell.is_warmed() && cell.path.starts_with("/plain/") && cell.takes("gzip");
        let expected = cells.iter().filter(coded).count() as f64;
        wait::until("the pages to be compressed", async || {
            (proxy.metrics().await.sum("clearcoat_cache_encoded_entries", &[]) >= expected).then_some(())
        })
        .await;
    }
    let mut streaming = Vec::new();
    for cell in cells.iter().filter(|cell| cell.state == State::Streaming) {
        let mut leader = proxy.connect().await;
        leader.send(cell.warming().to_bytes()).await.unwrap();
        streaming.push((cell, leader));
    }
    let mut followers = Vec::new();
    for (cell, mut leader) in streaming {
        // The head is here and the body is held: from now on it is on its way.
        let head = leader.head("GET").await.unwrap_or_else(|error| panic!("{cell:?}: {error:#}"));
        let mut follower = proxy.connect().await;
        follower.send(cell.request().to_bytes()).await.unwrap();
        followers.push((cell, leader, head, follower));
    }
    edition.store(1, Ordering::SeqCst);
    proxy.a_second_later().await;

    let mut met = Vec::new();
    for (cell, leader, head, mut follower) in followers {
        // One who wants the whole gets its beginning at once; one who wants a part may have to wait for it.
        let started = match cell.range {
            None => {
                Some(follower.head(cell.method).await.unwrap_or_else(|error| panic!("{cell:?}: {error:#}")))
            }
            Some(_) => None,
        };
        met.push((cell, leader, head, follower, started));
    }
    gate.open();

    let direct =
        |request: Request| async { client::ask(node.address(), &request.header(DIRECT, "yes")).await };
    for (cell, mut leader, head, mut follower, started) in met {
        let (own, whole) = (direct(cell.request()).await, direct(cell.warming()).await);
        let lead = leader.rest(head).await.unwrap_or_else(|error| panic!("{cell:?}: {error:#}"));
        check(&cell.for_the_whole(), &lead, &whole, &whole);
        let ours = match started {
            Some(head) => follower.rest(head).await,
            None => follower.answer(cell.method).await,
        };
        check(cell, &ours.unwrap_or_else(|error| panic!("{cell:?}: {error:#}")), &own, &whole);
    }
    for cell in cells.iter().filter(|cell| cell.state != State::Streaming) {
        let (own, whole) = (direct(cell.request()).await, direct(cell.warming()).await);
        let ours = visitor.ask(&cell.request()).await;
        if ours.closes() {
            visitor = proxy.connect().await;
        }
        check(cell, &ours, &own, &whole);
        if cell.method == "HEAD" && cell.state == State::Warm {
            check_head(&proxy, cell, &ours).await;
        }
        // Whatever was asked first, the next visitor gets the page.
        let next = visitor.ask(&cell.warming()).await;
        check(&cell.for_the_whole(), &next, &whole, &whole);
    }
}

#[tokio::test]
async fn every_answer_is_the_nodes_byte_for_byte() {
    every_answer_is_the_nodes("").await;
}

#[tokio::test]
async fn what_is_compressed_here_is_still_the_nodes() {
    every_answer_is_the_nodes("[cache.compress]\nenabled = true\nmin_size = \"256B\"").await;
}
