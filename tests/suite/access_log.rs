//! The access log: every request has its line, and no file that takes nothing holds up a visitor.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use clearcoat_tests::process::Signal;
use clearcoat_tests::{Address, Connection, Gate, Load, Node, Page, Proxy, Request, Setup, proxy, wait};
use serde_json::Value;

const DROPPED: &str = "clearcoat_log_dropped_total";

/// A proxy that logs to this file; a relative one is in its own folder.
fn logging(node: &Node, file: &str, more: &str) -> Setup {
    Setup::before(node).more(&format!("[log.access]\nfile = \"{file}\"\n{more}"))
}

fn log_of(proxy: &Proxy) -> PathBuf {
    proxy.folder().join("access.log")
}

/// The lines once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    wait::until(&format!("{count} lines in {}", path.display()), async || {
        let text = fs::read_to_string(path).unwrap_or_default();
        (text.lines().count() >= count && text.ends_with('\n'))
            .then(|| text.lines().map(str::to_owned).collect())
    })
    .await
}

/// The last of so many lines, as JSON.
async fn record(proxy: &Proxy, count: usize) -> Value {
    let lines = lines(&log_of(proxy), count).await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    serde_json::from_str(&lines[count - 1]).unwrap_or_else(|error| panic!("{error}: {lines:#?}"))
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

async fn dropped(proxy: &Proxy) -> f64 {
    proxy.metrics().await.sum(DROPPED, &[])
}

/// A load that fills the smallest buffer many times over.
async fn flood(proxy: &Proxy) {
    let pages = (0..10).map(|number| (Request::get(&format!("/{number}")), Some("x".into())));
    let load = Load::start(proxy.address(), 8, pages);
    load.go_on(3_000).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
}

#[tokio::test]
async fn each_way_of_answering_has_its_line() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/a", Page::text("abc").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    node.serve("/echo", Page::echo());
    node.serve("/slow", Page::text("slow").held_before_head(&gate));
    let proxy =
        logging(&node, "access.log", "format = \"json\"\n[log.request_id]\nenabled = false").start().await;
    let node_address = Value::from(node.address().to_string());

    let request = Request::get("/a?x=%22")
        .header("Referer", "http://a.test/\"")
        .header("User-Agent", "tester\\")
        .header("X-Request-ID", "7f-1");
    node.serve("/a", Page::text("abc").fresh_for(60));
    proxy.ask(&request).await.expect_status(200);
    let miss = record(&proxy, 1).await;
    for (key, expected) in [
        ("client", Value::from("127.0.0.1")),
        ("method", "GET".into()),
        ("target", "/a?x=%22".into()),
        ("version", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes", 3.into()),
        ("result", "miss".into()),
        ("node", node_address.clone()),
        ("referer", "http://a.test/\"".into()),
        ("user_agent", "tester\\".into()),
        ("request_id", "7f-1".into()),
    ] {
        assert_eq!(miss[key], expected, "{key} in {miss}");
    }
    assert!(miss["duration_us"].as_u64().is_some_and(|micros| micros > 0), "{miss}");
    assert!(miss["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{miss}");
    assert!(miss["host"].is_string(), "{miss}");

    proxy.ask(&request).await.expect_status(200);
    let hit = record(&proxy, 2).await;
    assert_eq!((&hit["result"], &hit["node"], &hit["bytes"]), (&"hit".into(), &Value::Null, &3.into()));

    proxy.ask(&Request::head("/a?x=%22").version_1_0()).await.expect_status(200);
    let head = record(&proxy, 3).await;
    assert_eq!((&head["method"], &head["bytes"]), (&"HEAD".into(), &0.into()));
    assert_eq!((&head["version"], &head["user_agent"]), (&"HTTP/1.0".into(), &Value::Null));

    proxy.get("/mine").await.expect_status(200);
    let uncacheable = record(&proxy, 4).await;
    assert_eq!((&uncacheable["result"], &uncacheable["node"]), (&"uncacheable".into(), &node_address));

    let post = Request::post("/echo", "abc").header("User-Agent", "poster");
    proxy.ask(&post).await.expect_status(200);
    let pass = record(&proxy, 5).await;
    assert_eq!((&pass["result"], &pass["method"]), (&"pass".into(), &"POST".into()));
    assert_eq!((&pass["node"], &pass["user_agent"]), (&node_address, &"poster".into()));
    assert_eq!((&pass["target"], &pass["status"]), (&"/echo".into(), &200.into()));

    proxy.purge_url("/a?x=%22").await;
    assert_eq!(record(&proxy, 6).await["result"], "purge");

    let mut malformed = Connection::open(proxy.address()).await;
    malformed.send("nonsense \"\x1b[31m\r\nHost: x\r\n\r\n").await.unwrap();
    malformed.answer("GET").await.unwrap().expect_status(400);
    let refused = record(&proxy, 7).await;
    assert_eq!((&refused["result"], &refused["status"]), (&"refused".into(), &400.into()));
    assert_eq!((&refused["method"], &refused["target"]), (&Value::Null, &"nonsense \"\u{1b}[31m".into()));

    let mut leaver = Connection::open(proxy.address()).await;
    leaver.send(Request::get("/slow").to_bytes()).await.unwrap();
    gate.reached(1).await;
    drop(leaver);
    let gone = record(&proxy, 8).await;
    assert_eq!((&gone["result"], &gone["status"]), (&"client_gone".into(), &499.into()));
    assert_eq!(gone["target"], "/slow");
    gate.open();
}

#[tokio::test]
async fn the_combined_format_is_that_of_other_servers() {
    let node = Node::start().await;
    node.serve_everything(Page::text("abcd").fresh_for(60));
    // One thread, whose lines are in order.
    let proxy = logging(&node, "access.log", "").top("threads = 1").start().await;
    let request =
        Request::get("/a").header("User-Agent", "x\" 200 1 \"-\" \"").header("Referer", "http://b/");
    proxy.ask(&request).await.expect_status(200);
    proxy.get("/plain").await.expect_status(200);
    // Pipelined: two lines of one write.
    let mut visitor = Connection::open(proxy.address()).await;
    let both = [request.to_bytes(), Request::get("/plain").to_bytes()].concat();
    visitor.send(both).await.unwrap();
    visitor.answer("GET").await.unwrap().expect_status(200);
    visitor.answer("GET").await.unwrap().expect_status(200);
    let lines = lines(&log_of(&proxy), 4).await;
    let forged = r#""GET /a HTTP/1.1" 200 4 "http://b/" "x\x22 200 1 \x22-\x22 \x22""#;
    let plain = r#""GET /plain HTTP/1.1" 200 4 "-" "-""#;
    for (line, expected) in lines.iter().zip([forged, plain, forged, plain]) {
        let rest = line.strip_prefix("127.0.0.1 - - [").expect(line);
        let (date, rest) = rest.split_once("] ").expect(line);
        assert_eq!((date.len(), &date[2..3], &date[20..]), (26, "/", " +0000"), "{line}");
        assert_eq!(rest, expected);
    }
}

#[tokio::test]
async fn a_log_that_is_rotated_under_load_loses_no_line() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let mut proxy = logging(&node, "access.log", "").start().await;
    let path = log_of(&proxy);
    let pages = (0..20).map(|number| (Request::get(&format!("/{number}")), Some("x".into())));
    let load = Load::start(proxy.address(), 4, pages);
    let mut rotated = Vec::new();
    for number in 1..=3 {
        load.go_on(300).await;
        let old = proxy.folder().join(format!("access.log.{number}"));
        fs::rename(&path, &old).unwrap();
        proxy.signal(Signal::Usr1);
        wait::until_true("the new file", || path.exists()).await;
        rotated.push(old);
    }
    load.go_on(300).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
    rotated.push(path);
    let counts: Vec<usize> =
        rotated.iter().map(|path| fs::read_to_string(path).unwrap().lines().count()).collect();
    assert_eq!(counts.iter().sum::<usize>(), report.answers(), "{counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[tokio::test]
async fn every_request_of_many_threads_has_one_whole_line() {
    const PAGES: usize = 1_000;
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let mut proxy = logging(&node, "access.log", "format = \"json\"").top("threads = 4").start().await;
    let page = |number: usize| {
        let agent = "u".repeat(number % 300 + 1);
        (Request::get(&format!("/{number}")).header("User-Agent", &agent), Some("x".into()))
    };
    let report = Load::once(proxy.address(), 16, (0..PAGES).map(page)).finish().await;
    assert_eq!(report.failures(), 0, "{report}");
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
    let text = fs::read_to_string(log_of(&proxy)).unwrap();
    let mut seen = HashSet::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let number: usize = record["target"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(record["user_agent"].as_str().unwrap().len(), number % 300 + 1, "{line}");
        assert!(seen.insert(number), "twice: {line}");
    }
    assert_eq!(seen.len(), PAGES);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = fifo(folder.path());
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let file = pipe.display().to_string();
    let mut proxy = logging(&node, &file, "buffer = \"64KiB\"").start().await;
    flood(&proxy).await;
    let lost = dropped(&proxy).await;
    assert!(lost > 100.0, "{lost}");

    // A reader who opens the pipe and then takes nothing is no better.
    let mut reader = fs::File::open(&pipe).unwrap();
    flood(&proxy).await;
    wait::until("more to be dropped", async || {
        flood(&proxy).await;
        (dropped(&proxy).await > lost).then_some(())
    })
    .await;
    assert_eq!(
        proxy.log().matches("records of the access log are dropped").count(),
        1,
        "a flood of drops is one line"
    );

    // As soon as it reads, what waited comes whole, and so does what follows.
    let text = Arc::new(Mutex::new(Vec::new()));
    let taken = text.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            taken.lock().unwrap().extend_from_slice(&piece[..count]);
        }
    });
    // It is a hit, whose line is made before its answer goes out.
    let after = Request::get("/0").header("User-Agent", "after");
    wait::until("a line of what follows", async || {
        proxy.ask(&after).await;
        String::from_utf8_lossy(&text.lock().unwrap()).contains(r#""after""#).then_some(())
    })
    .await;
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0));
    wait::soon("the end of the pipe", reading).await.unwrap();
    let text = String::from_utf8_lossy(&text.lock().unwrap()).into_owned();
    let is_whole = |line: &str| {
        let end = line.strip_prefix("127.0.0.1 - - [").and_then(|rest| rest.split_once(" HTTP/1.1\" "));
        matches!(end, Some((_, r#"200 1 "-" "-""# | r#"200 1 "-" "after""#)))
    };
    let torn: Vec<&str> = text.lines().filter(|line| !is_whole(line)).collect();
    assert!(torn.is_empty() && text.ends_with('\n'), "{torn:#?}");
}

#[tokio::test]
async fn a_full_disk_holds_up_nobody() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let mut proxy = logging(&node, "/dev/full", "buffer = \"64KiB\"").start().await;
    flood(&proxy).await;
    assert!(dropped(&proxy).await > 100.0);
    wait::until_true("the log to say so", || proxy.log().contains("the access log cannot be written")).await;
    proxy.signal(Signal::Term);
    assert_eq!(proxy.exit_code().await, Some(0), "nor does it hold up the end");
}

#[tokio::test]
async fn standard_output_takes_the_log_too() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x"));
    let proxy = logging(&node, "stdout", "").start().await;
    proxy.get("/to-stdout").await;
    wait::until_true("the line", || proxy.log().contains(r#""GET /to-stdout HTTP/1.1" 200 1 "-" "-""#)).await;
}

#[tokio::test]
async fn without_a_log_the_signal_for_it_ends_nothing() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x"));
    let mut proxy = Proxy::before(&node).await;
    proxy.signal(Signal::Usr1);
    wait::until_true("the log to say so", || proxy.log().contains("SIGUSR1")).await;
    proxy.get("/still-there").await.expect_status(200);
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let log = folder.path().join("no/such/folder/access.log").display().to_string();
    let (listen, admin) = (socket("edge"), socket("admin"));
    let arguments =
        ["run", "--to", "127.0.0.1:9", "--listen", &listen, "--admin", &admin, "--access-log", &log];
    let output = proxy::run_command(&arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&log), "{said}");
}
