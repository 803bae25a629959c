//! Visitors under TLS: what they are shown, what is agreed on, what goes wrong, and that the rest is as without it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clearcoat_tests::ports::Port;
use clearcoat_tests::process::Signal;
use clearcoat_tests::proxy::run_command;
use clearcoat_tests::{
    Certificate, Connection, Metrics, Node, Page, Proxy, Request, Served, Setup, TlsVisitor, purge, wait,
};
use tokio::task::JoinSet;

const NAME: &str = "www.example.com";

/// A proxy with one certificate for [`NAME`], and a visitor who trusts it.
async fn secure(setup: Setup) -> (Proxy, TlsVisitor) {
    let certificate = Certificate::of(&[NAME]);
    let visitor = TlsVisitor::trusting(&[&certificate]);
    (setup.tls(&[&certificate]).start().await, visitor)
}

async fn connect(proxy: &Proxy, visitor: &TlsVisitor) -> Connection {
    visitor.connect(proxy.tls_address(), NAME).await.unwrap().0
}

fn handshakes(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("clearcoat_tls_handshakes_total", &[("result", result)])
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let default = Certificate::of(&["default.test", "127.0.0.1"]);
    let shop = Certificate::of(&["shop.example.com", "*.shop.example.com"]);
    let all = Certificate::of(&["*.example.com"]);
    let certificates = [&default, &shop, &all];
    let node = Node::with_pages([("/", "")]).await;
    let proxy = Setup::before(&node).tls(&certificates).start().await;
    let visitor = TlsVisitor::trusting(&certificates);
    for (name, shown) in [
        ("default.test", Some(&default)),
        ("shop.example.com", Some(&shop)),
        ("SHOP.example.com", Some(&shop)),
        ("a.shop.example.com", Some(&shop)),
        ("www.example.com", Some(&all)),
        // An address is not told to the server, and gets the first.
        ("127.0.0.1", Some(&default)),
        // So does an unknown name, which then does not fit: the visitor refuses.
        ("a.b.shop.example.com", None),
        ("example.com", None),
    ] {
        match (visitor.connect(proxy.tls_address(), name).await, shown) {
            (Ok((mut connection, agreed)), Some(shown)) => {
                assert!(agreed.was_shown(shown), "{name}");
                connection.ask(&Request::get("/").host(name)).await.expect_status(200);
            }
            (Err(_), None) => {}
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn versions_and_protocols_are_agreed_on() {
    let node = Node::with_pages([("/", "")]).await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node).tls(&[&certificate]).tls_lines("http2 = false").start().await;
    let (new, old) = (TlsVisitor::trusting(&[&certificate]), TlsVisitor::old(&[&certificate]));
    for (visitor, version_13, offers, agreed_on) in [
        (&new, true, &[][..], None),
        (&old, false, &[], None),
        (&new, true, &["http/1.1"], Some("http/1.1")),
        (&new, true, &["h2", "http/1.1"], Some("http/1.1")),
        (&old, false, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let visitor = visitor.clone().offering(offers);
        let (mut connection, agreed) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
        assert_eq!((agreed.version_13, agreed.protocol.as_deref()), (version_13, agreed_on), "{offers:?}");
        connection.get("/").await.expect_status(200);
        connection.get("/").await.expect_status(200);
    }
    // RFC 7301 section 3.2: nothing in common is the end of it.
    let other = new.offering(&["spdy/3"]).connect(proxy.tls_address(), NAME).await.unwrap_err();
    assert!(format!("{other:#}").contains("NoApplicationProtocol"), "{other:#}");
}

#[tokio::test]
async fn a_second_connection_goes_on_with_the_session_of_the_first() {
    let node = Node::with_pages([("/", "")]).await;
    let certificate = Certificate::of(&[NAME]);
    let proxy = Setup::before(&node).tls(&[&certificate]).start().await;
    for visitor in [TlsVisitor::trusting(&[&certificate]), TlsVisitor::old(&[&certificate])] {
        for round in 0..3 {
            let (mut connection, agreed) = visitor.connect(proxy.tls_address(), NAME).await.unwrap();
            assert_eq!(agreed.resumed, round > 0, "round {round}, {agreed:?}");
            // Tickets come with the answer.
            connection.get("/").await.expect_status(200);
        }
    }
    let metrics = proxy.metrics().await;
    assert_eq!((handshakes(&metrics, "full"), handshakes(&metrics, "resumed")), (2.0, 4.0));
}

#[tokio::test]
async fn slow_handshakes_are_cut_off() {
    let node = Node::with_pages([("/", "")]).await;
    let (proxy, visitor) = secure(Setup::before(&node).limits("header_timeout = \"1s\"")).await;
    let fired = async || {
        let metrics = proxy.metrics().await;
        metrics.sum("clearcoat_limits_total", &[("limit", "header_timeout")])
    };
    // One says nothing, one a little and nothing more, one a little at a time.
    let mut silent = Connection::open(proxy.tls_address()).await;
    let mut stuck = Connection::open(proxy.tls_address()).await;
    stuck.send([22, 3, 1]).await.unwrap();
    let mut slow = Connection::open(proxy.tls_address()).await;
    let record = [&[22, 3, 1, 2, 0, 1, 0, 1, 252][..], &[3; 503]].concat();
    slow.send_slowly(&record[..60], 1, Duration::from_millis(50)).await;
    for connection in [&mut silent, &mut stuck, &mut slow] {
        connection.closed_within(Duration::from_secs(5)).await.unwrap();
    }
    wait::until("three limits to fire", async || (fired().await == 3.0).then_some(())).await;
    assert_eq!(handshakes(&proxy.metrics().await, "failed"), 3.0);
    connect(&proxy, &visitor).await.get("/").await.expect_status(200);
}

#[tokio::test]
async fn nonsense_is_turned_away_and_harms_nobody() {
    let node = Node::with_pages([("/", "")]).await;
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let mut other = connect(&proxy, &visitor).await;
    let address = proxy.tls_address();
    for words in [&b"SSH-2.0-OpenSSH_9\r\n"[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /"] {
        let mut plain = Connection::open(address).await;
        plain.send(words).await.unwrap();
        let answer = plain.answer("GET").await.unwrap();
        assert_eq!((answer.status, answer.closes()), (400, true), "{answer}");
        assert!(answer.text().contains("TLS"), "{answer}");
        plain.closed().await.unwrap();
    }
    for bytes in [&[22, 3, 1, 0, 5, 9, 9, 9, 9, 9][..], &[22, 9, 9, 255, 255], &[0; 2000], &[255; 40_000]] {
        let mut connection = Connection::open(address).await;
        let _ = connection.send(bytes).await;
        let _ = connection.finish_sending().await;
        // An alert may come before the end.
        let mut left = 10;
        while connection.closed().await.is_err() {
            left -= 1;
            assert!(left > 0, "still open after {bytes:?}");
        }
    }
    // Records that are none, in the middle of a connection.
    let mut raw = Connection::open(address).await;
    raw.send([23, 3, 3, 0, 3, 1, 2, 3]).await.unwrap();
    drop(raw);
    other.get("/").await.expect_status(200);
    assert_eq!(handshakes(&proxy.metrics().await, "full"), 1.0);
    assert_eq!(node.garbled(), 0);
}

#[tokio::test]
async fn large_bodies_come_whole_also_to_those_who_read_slowly() {
    let node = Node::start().await;
    let body: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    node.serve("/hit", Page::text(body.clone()).fresh_for(60));
    node.serve("/miss", Page::text(body.clone()).no_store());
    node.serve("/chunked", Page::text(body.clone()).no_store().chunked());
    let (proxy, visitor) = secure(Setup::before(&node).cache("max_entry = \"8MiB\"")).await;
    let mut connection = connect(&proxy, &visitor).await;
    for (path, served) in [
        ("/hit", Served::Miss),
        ("/hit", Served::Hit),
        ("/miss", Served::Miss),
        ("/chunked", Served::Miss),
        ("/hit", Served::Hit),
    ] {
        let answer = connection.get(path).await.expect_status(200);
        assert!(answer.body == body, "{path}: {} bytes", answer.body.len());
        assert_eq!(answer.served(), served, "{answer}");
    }
    // A pause in the middle: the socket is full long before the end, and every byte must still come.
    let mut slow = connect(&proxy, &visitor).await;
    slow.send(Request::get("/hit").to_bytes()).await.unwrap();
    let mut head = slow.head("GET").await.unwrap();
    let first = slow.piece(&mut head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rest = slow.rest(head).await.unwrap();
    assert!([&first[..], &rest.body[..]].concat() == body);
    slow.get("/hit").await.expect_status(200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let node = Node::start().await;
    let paths: Vec<String> = (0..200).map(|number| format!("/{number}")).collect();
    for path in &paths {
        node.serve(path, Page::text(path.repeat(50)).fresh_for(60));
    }
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let mut connection = connect(&proxy, &visitor).await;
    for round in ["misses", "hits"] {
        let all: Vec<u8> = paths.iter().flat_map(|path| Request::get(path).to_bytes()).collect();
        connection.send(&all).await.unwrap();
        for path in &paths {
            let answer = connection.answer("GET").await.unwrap();
            assert_eq!(answer.text(), path.repeat(50), "{round}");
        }
    }
    // Requests cut anywhere into records.
    let request = Request::get("/7").to_bytes();
    for size in [1, 7, request.len() - 1] {
        connection.send_slowly(&request, size, Duration::from_millis(1)).await;
        assert_eq!(connection.answer("GET").await.unwrap().text(), "/7".repeat(50));
    }
}

#[tokio::test]
async fn uploads_pass_and_nodes_hear_of_the_scheme() {
    let node = Node::start().await;
    node.serve("/echo", Page::echo());
    node.serve("/page", Page::text("page").fresh_for(60));
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let mut connection = connect(&proxy, &visitor).await;
    let upload: Vec<u8> = (0..3_000_000u32).map(|number| (number % 241) as u8).collect();
    for request in [
        Request::post("/echo", "small"),
        Request::post("/echo", upload.clone()),
        Request::post("/echo", upload.clone()).chunked(),
    ] {
        let answer = connection.ask(&request).await.expect_status(200);
        assert!(answer.body.len() == 5 || answer.body == upload, "{} bytes", answer.body.len());
        // The connection comes back from the pass road.
        connection.get("/page").await.expect_status(200);
    }
    for path in ["/echo", "/page"] {
        let seen = node.last(path);
        for (name, expected) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", NAME),
            ("x-forwarded-for", "127.0.0.1"),
        ] {
            assert_eq!(seen.headers(name), [expected], "{path}: {name}");
        }
    }
    let other_port = Request::get("/page?1").host("www.example.com:8443");
    connection.ask(&other_port).await.expect_status(200);
    assert_eq!(node.last("/page").headers("x-forwarded-port"), ["8443"]);
    proxy.get("/page?2").await.expect_status(200);
    assert_eq!(node.last("/page").headers("x-forwarded-port"), ["80"]);
    assert_eq!(node.last("/page").headers("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn schemes_are_stored_apart_and_purged_together() {
    let node = Node::start().await;
    let page =
        Page::written(|request| format!("by {}", request.header("x-forwarded-proto").unwrap_or_default()));
    node.serve("/a", page.fresh_for(60).tags("t1"));
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    let both = async |expected| {
        for (scheme, answer) in
            [("http", proxy.get("/a").await), ("https", connect(&proxy, &visitor).await.get("/a").await)]
        {
            assert_eq!((answer.text(), answer.served()), (format!("by {scheme}"), expected), "{answer}");
        }
    };
    both(Served::Miss).await;
    both(Served::Hit).await;
    // Varnish never told schemes apart, and purgers rely on it: whichever way they come.
    proxy.purge_url("/a").await;
    both(Served::Miss).await;
    connect(&proxy, &visitor).await.ask(&purge::url("/a")).await.expect_status(200);
    both(Served::Miss).await;
    for spelled in ["www.example.com:80", "www.example.com:443", "WWW.example.com."] {
        proxy.ask(&purge::url("/a").host(spelled)).await.expect_status(200);
        both(Served::Miss).await;
    }
    assert_eq!(proxy.purge_tags("t1").await.purged, 2);
    both(Served::Miss).await;
    // What changes a page changes it for all.
    node.serve("/a", Page::echo());
    connect(&proxy, &visitor).await.ask(&Request::post("/a", "x")).await.expect_status(200);
    node.serve("/a", Page::text("new").fresh_for(60));
    assert_eq!(proxy.get("/a").await.served(), Served::Miss);
    // Nor does a URL of the other scheme reach what is not for it.
    let crossed = proxy.ask(&Request::get("https://www.example.com/a")).await;
    assert_eq!(crossed.served(), Served::Hit, "the connection's scheme counts: {crossed}");
    assert_eq!(connect(&proxy, &visitor).await.get("/a").await.served(), Served::Miss);
}

#[tokio::test]
async fn why_knows_schemes() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    let (proxy, visitor) = secure(Setup::before(&node)).await;
    connect(&proxy, &visitor).await.get("/a").await.expect_status(200);
    for (url, outcome) in [
        ("https://www.example.com/a", "hit"),
        ("https://www.example.com:443/a", "hit"),
        ("http://www.example.com/a", "fetch"),
        ("/a", "fetch"),
    ] {
        let why = proxy.why(&Request::get(url)).await;
        assert_eq!(why["next"]["outcome"], outcome, "{url}: {why:#}");
        let key = why["key"]["url"].as_str().unwrap();
        let scheme = if url.starts_with("https") { "https" } else { "http" };
        assert_eq!(key, format!("{scheme}://www.example.com/a"));
    }
}

#[tokio::test]
async fn connections_end_in_good_order() {
    let node = Node::with_pages([("/", "")]).await;
    let (mut proxy, visitor) = secure(Setup::before(&node).limits("header_timeout = \"30s\"")).await;
    // The visitor's TLS would report an end without close_notify as an error, and the harness with it.
    let mut asked_to = connect(&proxy, &visitor).await;
    let answer = asked_to.ask(&Request::get("/").header("Connection", "close")).await;
    assert!(answer.closes());
    asked_to.send("x").await.ok();
    let mut idle = connect(&proxy, &visitor).await;
    idle.get("/").await.expect_status(200);
    let mut before_hello = Connection::open(proxy.tls_address()).await;
    proxy.signal(Signal::Term);
    idle.closed().await.unwrap();
    before_hello.closed().await.unwrap();
    assert_eq!(proxy.exit_code().await, Some(0));
}

/// A configuration with one listener under TLS on these files.
fn configuration(listen: SocketAddr, certificate: &str, key: &str) -> String {
    format!(
        "[[listen]]\naddress = \"{listen}\"\n[listen.tls]\ncertificates = [{{ cert = \"{certificate}\", key = \"{key}\" }}]\n\
         [admin]\nenabled = false\n[pools.web]\nnodes = [\"127.0.0.1:9\"]\n[[site]]\nhosts = [\"*\"]\npool = \"web\"\n"
    )
}

#[tokio::test]
async fn files_that_are_no_good_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (good, key) = Certificate::of(&["a.test"]).write(folder.path());
    let (_, other_key) = Certificate::of(&["b.test"]).write(folder.path());
    let [good, key, other_key] = [good, key, other_key].map(|path| path.display().to_string());
    fs::write(path("empty"), "").unwrap();
    fs::write(path("broken"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let port = Port::claim();
    for (certificate, key, words) in [
        (path("none"), key.clone(), vec![path("none"), "cannot be read".into()]),
        (path("empty"), key.clone(), vec![path("empty"), "no certificate".into()]),
        (path("broken"), key.clone(), vec![path("broken"), "malformed".into()]),
        (good.clone(), path("empty"), vec![path("empty"), "no private key".into()]),
        (good.clone(), good.clone(), vec![good.clone(), "no private key".into()]),
        (good.clone(), other_key.clone(), vec![good, other_key, "is not that of the certificate".into()]),
    ] {
        let file = path("clearcoat.toml");
        fs::write(&file, configuration(port.address(), &certificate, &key)).unwrap();
        for command in ["check", "run"] {
            let Output { status, stderr, .. } = run_command(&[command, "--config", &file]).await;
            let errors = String::from_utf8(stderr).unwrap();
            assert!(!status.success(), "{command}: {words:?}");
            let told = words.iter().all(|word| errors.contains(word));
            assert!(told && !errors.contains("panicked"), "{command}: {words:?} are not in\n{errors}");
        }
    }
}

/// Handshakes each certificate has to be shown in before the next change.
const MANY: usize = 200;

/// Visitors who come one after another, as fast as they are let in.
#[derive(Default)]
struct Shaking {
    stop: AtomicBool,
    /// In how many full handshakes each of the two was shown.
    shown: [AtomicUsize; 2],
    /// Handshakes that went on with an earlier session.
    resumed: AtomicUsize,
}

impl Shaking {
    /// Comes until it is time to stop; `again` with the sessions of before, where that can be.
    async fn come(
        &self,
        visitors: [TlsVisitor; 2],
        certificates: [&Certificate; 2],
        to: SocketAddr,
        again: bool,
    ) {
        while !self.stop.load(Ordering::Relaxed) {
            for visitor in &visitors {
                let newcomer = (!again).then(|| visitor.forgetful());
                let visitor = newcomer.as_ref().unwrap_or(visitor);
                let (mut connection, agreed) = visitor.connect(to, NAME).await.unwrap();
                connection.ask(&Request::get("/").host(NAME)).await.expect_status(200);
                if agreed.resumed {
                    self.resumed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let which =
                    certificates.iter().position(|one| agreed.was_shown(one)).expect("one of the two");
                self.shown[which].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn shown(&self, which: usize) -> usize {
        self.shown[which].load(Ordering::Relaxed)
    }

    /// Waits until this certificate has been shown so often more.
    async fn shows(&self, which: usize) {
        let before = self.shown(which);
        wait::until("many more handshakes", async || (self.shown(which) >= before + MANY).then_some(()))
            .await;
    }
}

/// Puts another file in a file's place in one step, as certbot does: nobody finds half of it.
fn swap(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn certificates_are_swapped_under_load_and_no_handshake_fails() {
    let pair = [Certificate::of(&[NAME]), Certificate::of(&[NAME])];
    let node = Node::with_pages([("/", "")]).await;
    let proxy = Setup::before(&node).tls(&[&pair[0]]).start().await;
    let both = [&pair[0], &pair[1]];
    let visitors = [TlsVisitor::trusting(&both), TlsVisitor::old(&both)];
    let [cert, key] = ["pem", "key"].map(|end| proxy.folder().join(format!("{NAME}.{end}")));
    assert!(cert.exists() && key.exists());
    let address = proxy.tls_address();
    // Handshakes all the while, by both versions, and one connection from before that goes on.
    let (mut old, _) = visitors[0].connect(address, NAME).await.unwrap();
    old.ask(&Request::get("/").host(NAME)).await.expect_status(200);
    let shaking = Arc::new(Shaking::default());
    let mut tasks = JoinSet::new();
    for task in 0..5 {
        let (shaking, pair, visitors) = (shaking.clone(), pair.clone(), visitors.clone());
        tasks.spawn(async move {
            shaking.come(visitors, [&pair[0], &pair[1]], address, task == 0).await;
        });
    }
    let renewals =
        async |result: &str| proxy.metrics().await.sum("clearcoat_tls_renewals_total", &[("result", result)]);
    shaking.shows(0).await;
    // To the second, back, and to the second again.
    for (round, which) in [1, 0, 1].into_iter().enumerate() {
        let changes = (round + 1) as f64;
        // The certificate without its key: nobody is shown it, and the operator hears why.
        swap(&cert, &pair[which].certificate);
        wait::until("the certificate to be looked at", async || {
            (renewals("failed").await == changes).then_some(())
        })
        .await;
        let premature = shaking.shown(which);
        shaking.shows(1 - which).await;
        assert_eq!(shaking.shown(which), premature, "round {round}: shown without its key");
        swap(&key, &pair[which].key);
        wait::until("the certificate to be shown", async || {
            (renewals("shown").await == changes).then_some(())
        })
        .await;
        shaking.shows(which).await;
        old.ask(&Request::get("/").host(NAME)).await.expect_status(200);
    }
    wait::until("it to be logged", async || {
        proxy.log().contains("is not that of the certificate").then_some(())
    })
    .await;
    shaking.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let metrics = proxy.metrics().await;
    assert_eq!(handshakes(&metrics, "failed"), 0.0);
    let (full, resumed) = (shaking.shown(0) + shaking.shown(1), shaking.resumed.load(Ordering::Relaxed));
    assert!(resumed >= MANY, "{resumed} went on with a session, of {full} and these");
    // All that were counted here, and that of the old connection.
    assert_eq!(handshakes(&metrics, "full"), (full + 1) as f64);
    assert_eq!(handshakes(&metrics, "resumed"), resumed as f64);
    let expiry = metrics.sum("clearcoat_tls_certificate_expiry_timestamp_seconds", &[]);
    assert!(expiry > 1e9, "{expiry}");
}
