//! The live log: whoever looks on sees each request that he asks for, and holds up nobody.

use std::process::Output;

use clearcoat_tests::client::Head;
use clearcoat_tests::http2::Session;
use clearcoat_tests::{Connection, Gate, Load, Node, Page, Proxy, Request, Setup, proxy, wait};
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// One who looks on.
struct Reader {
    connection: Connection,
    head: Head,
    text: String,
}

impl Reader {
    /// Listens; all requests from now on are shown.
    async fn new(proxy: &Proxy, filter: &str, accept: &str) -> Self {
        let mut connection = Connection::open(proxy.admin_address()).await;
        let target = format!("/api/log?filter={filter}");
        connection.send(Request::get(&target).header("Accept", accept).to_bytes()).await.unwrap();
        let mut head = connection.head("GET").await.unwrap();
        assert_eq!(head.status(), 200);
        // The first piece means nothing but that it listens.
        let first = connection.piece(&mut head).await.unwrap();
        assert!(first.trim_ascii().is_empty() || first.starts_with(b":"), "{first:?}");
        Self { connection, head, text: String::new() }
    }

    /// Everything so far, once it has so many records.
    async fn records(&mut self, count: usize) -> Vec<Value> {
        while self.text.lines().filter(|line| !line.is_empty()).count() < count || !self.text.ends_with('\n')
        {
            let piece = self.connection.piece(&mut self.head).await.unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        let lines = self.text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn targets(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["target"].as_str().unwrap_or_default()).collect()
}

/// Waits until so many look on.
async fn readers(proxy: &Proxy, count: f64) {
    wait::until(&format!("{count} readers"), async || {
        (proxy.metrics().await.sum("clearcoat_log_readers", &[]) == count).then_some(())
    })
    .await;
}

/// `clearcoat log` at this edge.
fn log(proxy: &Proxy, arguments: &[&str]) -> JoinHandle<Output> {
    let mut command = Command::new(proxy::binary());
    command.arg("log").args(["--admin", &proxy.admin_address().to_string()]).args(arguments);
    command.kill_on_drop(true);
    tokio::spawn(async move { wait::soon("clearcoat log", command.output()).await.unwrap() })
}

#[tokio::test]
async fn every_way_of_asking_is_seen() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/echo", Page::echo());
    node.serve("/gone", Page::text("gone").status(503));
    let proxy = Setup::before(&node).listen("http2 = true").start().await;
    let mut all = Reader::new(&proxy, "", "*/*").await;
    let mut failed = Reader::new(&proxy, "status%3E%3D500", "*/*").await;
    let mut client = Connection::open(proxy.address()).await;
    client.get("/a").await.expect_status(200);
    client.get("/a").await.expect_status(200);
    assert_eq!(targets(&all.records(2).await), ["/a", "/a"]);
    client.ask(&Request::post("/echo", "abc")).await.expect_status(200);
    all.records(3).await;
    client.get("/gone").await.expect_status(503);
    all.records(4).await;
    let mut session = Session::open(proxy.address()).await;
    session.get("/a?h2").await;
    let records = all.records(5).await;
    let words = |key: &str| -> Vec<&str> {
        records.iter().map(|record| record[key].as_str().unwrap_or_default()).collect()
    };
    assert_eq!(words("target"), ["/a", "/a", "/echo", "/gone", "/a?h2"]);
    assert_eq!(words("result")[..3], ["miss", "hit", "pass"]);
    assert_eq!(words("version")[3..], ["HTTP/1.1", "HTTP/2.0"]);
    assert_eq!(targets(&failed.records(1).await), ["/gone"]);
}

#[tokio::test]
async fn a_request_that_came_before_is_not_taken_for_another() {
    let node = Node::start().await;
    let gate = Gate::closed();
    node.serve("/first", Page::text("a").no_store());
    node.serve("/slow", Page::text("slow").no_store().held_before_head(&gate));
    node.serve("/marker", Page::text("x"));
    let proxy = Proxy::before(&node).await;
    let mut visitor = Connection::open(proxy.address()).await;
    // Kept, for somebody listens.
    let mut early = Reader::new(&proxy, "", "*/*").await;
    visitor.get("/first").await.expect_status(200);
    early.records(1).await;
    drop(early);
    // Nobody listens any more, as soon as the edge has noticed; so nothing of this one is kept.
    readers(&proxy, 0.0).await;
    visitor.send(Request::get("/slow").to_bytes()).await.unwrap();
    gate.reached(1).await;
    let mut late = Reader::new(&proxy, "", "*/*").await;
    gate.open();
    visitor.answer("GET").await.unwrap().expect_status(200);
    proxy.get("/marker").await.expect_status(200);
    let records = late.records(1).await;
    assert_eq!(targets(&records), ["/marker"], "neither /first nor nothing at all in place of /slow");
}

#[tokio::test]
async fn events_are_for_browsers() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let mut reader = Reader::new(&proxy, "path==%22/b%22", "text/event-stream").await;
    assert_eq!(reader.head.header("content-type"), Some("text/event-stream"));
    for target in ["/a", "/b", "/c"] {
        proxy.get(target).await.expect_status(200);
    }
    let event = reader.connection.piece(&mut reader.head).await.unwrap();
    let event = std::str::from_utf8(&event).unwrap();
    let record = event.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(record).unwrap()["target"], "/b");
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_told_with_its_place() {
    let node = Node::start().await;
    let proxy = Proxy::before(&node).await;
    let answer = proxy.admin("/api/log?filter=stauts%3E%3D500").await.expect_status(400);
    assert!(answer.text().contains("position 1: there is no field \"stauts\""), "{answer}");
    assert!(answer.text().contains("did you mean status?"), "{answer}");
    let output = log(&proxy, &["status>=50O"]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("at position 9: \"50O\" is not a number"), "{said}");
    assert!(said.contains("    status>=50O\n            ^ write one"), "{said}");
}

#[tokio::test]
async fn the_command_shows_records_and_ends_after_enough() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let json = log(&proxy, &["--json", "--limit", "2", "path~'^/wanted'"]);
    let columns = log(&proxy, &["--limit", "1", "path==/wanted/1 && result==hit"]);
    wait::until("both to have seen enough", async || {
        proxy.get("/other").await.expect_status(200);
        proxy.get("/wanted/1").await.expect_status(200);
        (json.is_finished() && columns.is_finished()).then_some(())
    })
    .await;
    let json = json.await.unwrap();
    assert_eq!(json.status.code(), Some(0));
    let text = String::from_utf8(json.stdout).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(targets(&records), ["/wanted/1", "/wanted/1"]);
    let columns = columns.await.unwrap();
    assert_eq!(columns.status.code(), Some(0));
    let text = String::from_utf8(columns.stdout).unwrap();
    assert!(text.contains("  200  hit  ") && text.contains("/wanted/1\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text:?}");
}

#[tokio::test]
async fn the_command_says_when_the_edge_has_gone() {
    let node = Node::start().await;
    let mut proxy = Proxy::before(&node).await;
    let log = log(&proxy, &[]);
    readers(&proxy, 1.0).await;
    proxy.process().kill();
    let output = log.await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_reader_who_does_not_read_holds_up_nobody() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let mut slow = Connection::open_narrow(proxy.admin_address()).await;
    slow.send(Request::get("/api/log").to_bytes()).await.unwrap();
    let mut head = slow.head("GET").await.unwrap();
    slow.piece(&mut head).await.unwrap();
    let mut quick = Reader::new(&proxy, "path==%22/quick%22", "*/*").await;
    let dropped = async || proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", "tail_records")]);
    let agent = "u".repeat(1_000);
    let page = |number| Request::get(&format!("/{number}")).header("User-Agent", &agent);
    wait::until("records to be dropped", async || {
        let load = Load::start(proxy.address(), 4, (0..4).map(|number| (page(number), Some("x".into()))));
        load.go_on(2_000).await;
        let report = load.stop().await;
        assert_eq!(report.failures(), 0, "{report}");
        (dropped().await > 0.0).then_some(())
    })
    .await;
    proxy.get("/quick").await.expect_status(200);
    assert_eq!(targets(&quick.records(1).await), ["/quick"], "who reads loses nothing by it");
    // As soon as it reads, it learns how many it did not see.
    loop {
        let piece = slow.piece(&mut head).await.unwrap();
        let last = piece.rsplit(|byte| *byte == b'\n').nth(1).unwrap_or_default();
        if last.starts_with(b"{\"dropped\":") {
            break;
        }
    }
}

#[tokio::test]
async fn readers_are_few_and_make_room_when_they_leave() {
    let node = Node::start().await;
    let proxy = Proxy::before(&node).await;
    let mut list = Vec::new();
    for _ in 0..16 {
        list.push(Reader::new(&proxy, "", "*/*").await);
    }
    proxy.admin("/api/log").await.expect_status(503);
    assert_eq!(proxy.metrics().await.sum("clearcoat_limits_total", &[("limit", "tail_readers")]), 1.0);
    list.clear();
    readers(&proxy, 0.0).await;
    Reader::new(&proxy, "", "*/*").await;
}
