//! Another configuration for a process that runs: all of it or nothing of it, and nobody who is connected notices.

use std::fs;

use clearcoat_tests::client::{self, Answer};
use clearcoat_tests::http2::Session;
use clearcoat_tests::load::Load;
use clearcoat_tests::ports::Port;
use clearcoat_tests::process::{Process, Signal};
use clearcoat_tests::proxy::{binary, run_command};
use clearcoat_tests::{
    Address, Certificate, Connection, Gate, Node, Page, Proxy, Request, Scripted, Setup, wait,
};
use serde_json::Value;

use crate::tunnels;

/// Writes the configuration anew with one text in place of another.
fn edit(proxy: &Proxy, from: &str, to: &str) {
    let text = fs::read_to_string(proxy.file()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(proxy.file(), text.replacen(from, to, 1)).unwrap();
}

async fn post(proxy: &Proxy, target: &str) -> Answer {
    client::ask(proxy.admin_address(), &Request::post(target, "").host("localhost")).await
}

/// Reloads, which has to succeed; what the answer says.
async fn reload(proxy: &Proxy) -> Value {
    let answer = post(proxy, "/api/reload").await.expect_status(200);
    serde_json::from_str(&answer.text()).unwrap()
}

/// Changes the file and reloads.
async fn change(proxy: &Proxy, from: &str, to: &str) -> Value {
    edit(proxy, from, to);
    reload(proxy).await
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request_and_keep_the_cache() {
    let node = Node::start().await;
    for number in 0..20 {
        node.serve(&format!("/hit/{number}"), Page::text(format!("page {number}")).fresh_for(600));
    }
    node.serve("/pass", Page::text("passed").no_store());
    let proxy = Setup::before(&node).site("grace = \"1s\"").start().await;
    let pages: Vec<String> = (0..20).map(|number| format!("/hit/{number}")).collect();
    proxy.warm(pages.iter().map(String::as_str)).await;
    node.forget();
    let hits = pages.iter().enumerate();
    let hits = hits.map(|(number, page)| (Request::get(page), Some(format!("page {number}").into())));
    let passed = [
        (Request::get("/pass"), Some("passed".into())),
        (Request::post("/pass", vec![b'x'; 200_000]), Some("passed".into())),
    ];
    let load = Load::start(proxy.address(), 8, hits.chain(passed));
    let mut kept = proxy.connect().await;
    for round in 0..100 {
        let (from, to) = if round % 2 == 0 { ("1s", "2s") } else { ("2s", "1s") };
        let said = change(&proxy, &format!("grace = \"{from}\""), &format!("grace = \"{to}\"")).await;
        assert_eq!(said["changed"], true, "{said}");
        assert_eq!(said["number"], round + 2);
        load.go_on(20).await;
        kept.get("/hit/1").await.expect_status(200);
    }
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
    assert_eq!(node.count("/hit/1"), 0, "what is stored stays");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_cache_entries", &[]), 20.0);
}

/// The start of the text has one mistake of each class.
#[tokio::test]
async fn whatever_is_wrong_is_told_and_the_one_before_goes_on() {
    let node = Node::with_pages([("/", "page")]).await;
    let taken = Port::claim();
    let _holder = std::net::TcpListener::bind(taken.address()).unwrap();
    let proxy = Setup::before(&node).start().await;
    let good = fs::read_to_string(proxy.file()).unwrap();
    let listen = format!("[[listen]]\naddress = \"{}\"\n", taken.address());
    let tls = format!(
        "[[listen]]\naddress = \"{}\"\ntls = {{ certificates = [{{ cert = \"no.pem\", key = \"no.key\" }}] }}\n",
        Port::claim().address()
    );
    for (from, to, place, words) in [
        ("[cache]", "[cache\n", true, ""),
        ("[cache]", "[cache]\nmemori = \"1GiB\"", true, "memory"),
        ("[cache]", "[cache]\ngrace = 5", true, "grace"),
        ("[cache]", "[cache]\ngrace = \"5\"", true, "unit"),
        ("pool = \"web\"", "pool = \"wep\"", true, "web"),
        ("[limits]", "[limits]\nmax_connections = 0", true, "max_connections"),
        ("hosts = [\"*\"]", "hosts = []", true, "hosts"),
        ("[purge]", "[purge]\ntoken = { file = \"/nowhere/token\" }", true, "/nowhere/token"),
        ("[purge]", "[purge]\ntoken = { env = \"CLEARCOAT_NO_SUCH\" }", true, "CLEARCOAT_NO_SUCH"),
        ("[admin]", &format!("{listen}[admin]"), false, &taken.address().to_string()),
        ("[admin]", &format!("{tls}[admin]"), false, "no.pem"),
    ] {
        fs::write(proxy.file(), good.replacen(from, to, 1)).unwrap();
        let answer = post(&proxy, "/api/reload").await.expect_status(422);
        let said: Value = serde_json::from_str(&answer.text()).unwrap();
        let mistake = &said["mistakes"][0];
        let text = mistake["text"].as_str().unwrap();
        assert!(text.contains(words), "{to}: {text}");
        if place {
            let expected = 1 + good[..good.find(from).unwrap()].matches('\n').count() as u64;
            let line = mistake["line"].as_u64().unwrap();
            assert!((expected..=expected + 1).contains(&line), "{to}: line {line} of {expected}");
            assert!(mistake["column"].as_u64().unwrap() >= 1);
            assert!(mistake["file"].as_str().unwrap().ends_with("clearcoat.toml"));
            assert!(!mistake["hint"].as_str().unwrap().is_empty(), "{text}");
        }
        proxy.get("/").await.expect_status(200);
        assert!(proxy.log().contains("the configuration was refused"), "it is in the log");
    }
    fs::remove_file(proxy.file()).unwrap();
    let answer = post(&proxy, "/api/reload").await.expect_status(422);
    assert!(answer.text().contains("cannot be read"), "{answer}");
    fs::write(proxy.file(), &good).unwrap();
    let said = reload(&proxy).await;
    assert_eq!((&said["changed"], &said["number"]), (&Value::from(false), &Value::from(14)));
    assert_eq!(said["diff"], "");
}

#[tokio::test]
async fn all_that_is_about_visitors_is_changed_at_once_for_those_who_are_connected_too() {
    let node = Node::start().await;
    node.serve_everything(Page::echo().fresh_for(60));
    let proxy = Setup::before(&node).listen("http2 = true").site("max_body = \"1MiB\"").start().await;
    let mut one = proxy.connect().await;
    let mut two = Session::open(proxy.address()).await;
    let long = format!("/{}", "x".repeat(3_000));
    one.get(&long).await.expect_status(200);
    assert_eq!(two.get(&long).await.status, 200);
    // Limits, routes, rules, headers, purges.
    edit(&proxy, "[limits]", "[limits]\nurl_bytes = \"2KiB\"");
    edit(&proxy, "[purge]", "[[site.route]]\npath = \"/closed/*\"\naccess.deny = [\"127.0.0.0/8\"]\n[purge]");
    edit(&proxy, "max_body = \"1MiB\"", "max_body = \"1KiB\"\nresponse_headers = { X-New = \"yes\" }");
    edit(&proxy, "allow = [\"127.0.0.1\"]", "allow = []");
    reload(&proxy).await;
    let answer = one.get("/short").await.expect_status(200);
    assert_eq!(answer.header("x-new"), Some("yes"), "{answer}");
    one.get("/closed/1").await.expect_status(403);
    assert_eq!(two.get("/closed/1").await.status, 403);
    assert_eq!(two.get(&long).await.status, 414);
    let purge = Request::new("PURGE", "/short");
    one.ask(&purge).await.expect_status(405);
    one.ask(&Request::post("/post", vec![b'x'; 2_000])).await.expect_status(413);
    proxy.ask(&Request::get(&long)).await.expect_status(414);
}

#[tokio::test]
async fn listeners_are_opened_and_closed() {
    let (node, gate) = (Node::with_pages([("/", "page")]).await, Gate::closed());
    node.serve("/slow", Page::text("slow").no_store().held_before_head(&gate));
    let folder = tempfile::tempdir().unwrap();
    // Sockets may only be made where there was one at the start.
    let first = format!("[[listen]]\naddress = \"unix:{}\"\n", folder.path().join("first.sock").display());
    let proxy = Setup::before(&node).more(&first).start().await;
    let second = Port::claim();
    let socket = folder.path().join("second.sock");
    let more = format!(
        "[[listen]]\naddress = \"{}\"\n[[listen]]\naddress = \"unix:{}\"\n[admin]",
        second.address(),
        socket.display()
    );
    change(&proxy, "[admin]", &more).await;
    client::ask(second.address(), &Request::get("/")).await.expect_status(200);
    assert!(socket.exists());
    let mut idle = Connection::open(second.address()).await;
    idle.get("/").await.expect_status(200);
    let mut busy = Connection::open(second.address()).await;
    busy.send(Request::get("/slow").to_bytes()).await.unwrap();
    gate.reached(1).await;
    change(&proxy, &more, "[admin]").await;
    idle.closed().await.expect("who asks for nothing is let go");
    wait::until("the socket to go", async || (!socket.exists()).then_some(())).await;
    wait::until("nobody to be let in", async || {
        Connection::try_open(second.address()).await.is_err().then_some(())
    })
    .await;
    gate.open();
    let answer = busy.answer("GET").await.unwrap().expect_status(200);
    assert_eq!(answer.text(), "slow");
    busy.closed().await.unwrap();
    proxy.get("/").await.expect_status(200);
    // And once more on the same address.
    change(&proxy, "[admin]", &more).await;
    client::ask(second.address(), &Request::get("/")).await.expect_status(200);
}

#[tokio::test]
async fn nodes_come_and_go_and_what_is_known_of_the_others_stays() {
    let [one, two] = [Node::with_pages([("/", "one")]).await, Node::with_pages([("/", "two")]).await];
    for node in [&one, &two] {
        node.serve("/any", Page::text("any").no_store());
    }
    let proxy = Setup::before(&one).start().await;
    let drained = format!("/api/pools/web/nodes/{}/drain", one.address());
    let load = Load::start(proxy.address(), 4, [(Request::get("/any"), Some("any".into()))]);
    load.go_on(50).await;
    // A node that is there and one that nobody listens on.
    let dead = Port::claim();
    let nodes = format!("nodes = [\"{}\"", one.address());
    change(&proxy, &nodes, &format!("{nodes}, \"{}\", \"{}\"", two.address(), dead.address())).await;
    load.go_on(200).await;
    wait::until("the new node to be asked", async || (two.count("/any") > 0).then_some(())).await;
    post(&proxy, &drained).await.expect_status(200);
    load.go_on(20).await;
    let before = one.count("/any");
    load.go_on(100).await;
    // What the operator said of a node holds through a reload.
    change(&proxy, "[limits]", "[limits]\nidle_timeout = \"70s\"").await;
    load.go_on(200).await;
    assert!(one.count("/any") <= before + 4, "{} after {before}", one.count("/any"));
    change(&proxy, &format!("\"{}\", ", one.address()), "").await;
    load.go_on(100).await;
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
    let status = proxy.admin("/api/status").await.text();
    assert!(!status.contains(&one.address().to_string()), "{status}");
}

#[tokio::test]
async fn a_site_moves_to_a_new_pool_without_an_error() {
    let [old, new] = [Node::with_pages([("/", "old")]).await, Node::with_pages([("/", "new")]).await];
    for node in [&old, &new] {
        node.serve("/any", Page::text("any").no_store());
    }
    let proxy = Setup::before(&old).start().await;
    let load = Load::start(proxy.address(), 4, [(Request::get("/any"), Some("any".into()))]);
    load.go_on(50).await;
    let pool = format!("[pools.other]\nnodes = [\"{}\"]\n[[site]]", new.address());
    edit(&proxy, "[[site]]", &pool);
    change(&proxy, "pool = \"web\"", "pool = \"other\"").await;
    load.go_on(100).await;
    let before = old.count("/any");
    load.go_on(100).await;
    assert!(old.count("/any") <= before + 4);
    assert!(new.count("/any") >= 100);
    let report = load.stop().await;
    assert_eq!(report.failures(), 0, "{report}");
}

#[tokio::test]
async fn who_asked_too_often_has_to_wait_after_a_reload_too() {
    let node = Node::with_pages([("/", "page")]).await;
    let rule = "[[site.rate_limit]]\nname = \"all\"\nrate = \"1/h\"\nburst = 2\n";
    let proxy = Setup::before(&node).site(rule).start().await;
    proxy.get("/").await.expect_status(200);
    proxy.get("/").await.expect_status(200);
    proxy.get("/").await.expect_status(429);
    change(&proxy, "[limits]", "[limits]\nidle_timeout = \"70s\"").await;
    proxy.get("/").await.expect_status(429);
    // Another rate begins anew.
    change(&proxy, "1/h", "2/h").await;
    proxy.get("/").await.expect_status(200);
    proxy.get("/").await.expect_status(200);
    proxy.get("/").await.expect_status(429);
    change(&proxy, &rule.replace("1/h", "2/h"), "").await;
    for _ in 0..5 {
        proxy.get("/").await.expect_status(200);
    }
}

#[tokio::test]
async fn a_site_counts_its_requests_on_through_a_reload() {
    let (node, gate) = (Node::start().await, Gate::closed());
    node.serve_everything(Page::text("slow").no_store().held_before_head(&gate));
    let proxy = Setup::before(&node).site("max_concurrent = 1").start().await;
    let mut first = proxy.connect().await;
    first.send(Request::get("/1").to_bytes()).await.unwrap();
    gate.reached(1).await;
    proxy.get("/2").await.expect_status(503);
    reload(&proxy).await;
    proxy.get("/2").await.expect_status(503);
    change(&proxy, "max_concurrent = 1", "max_concurrent = 2").await;
    let mut second = proxy.connect().await;
    second.send(Request::get("/2").to_bytes()).await.unwrap();
    gate.reached(2).await;
    gate.open();
    for connection in [&mut first, &mut second] {
        connection.answer("GET").await.unwrap().expect_status(200);
    }
}

#[tokio::test]
async fn memory_may_become_less() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x".repeat(100_000)).fresh_for(600));
    let proxy = Setup::before(&node).cache("memory = \"64MiB\"").start().await;
    for number in 0..200 {
        proxy.get(&format!("/{number}")).await.expect_status(200);
    }
    let bytes = async || proxy.metrics().await.sum("clearcoat_cache_bytes", &[]);
    assert!(bytes().await > 19e6);
    change(&proxy, "memory = \"64MiB\"", "memory = \"8MiB\"").await;
    wait::until("the store to be smaller", async || (bytes().await < 8e6).then_some(())).await;
    change(&proxy, "memory = \"8MiB\"", "memory = \"64MiB\"").await;
    for number in 0..200 {
        proxy.get(&format!("/{number}")).await.expect_status(200);
    }
    assert!(bytes().await > 19e6, "{}", bytes().await);
}

#[tokio::test]
async fn certificates_of_a_new_file_are_shown() {
    let [old, new] = [Certificate::of(&["www.example.com"]), Certificate::of(&["other.example.com"])];
    let node = Node::with_pages([("/", "page")]).await;
    let proxy = Setup::before(&node).tls(&[&old]).start().await;
    let (cert, key) = new.write(proxy.folder());
    let pair = format!("{{ cert = \"{}\", key = \"{}\" }}, {{ cert", cert.display(), key.display());
    change(&proxy, "{ cert", &pair).await;
    let visitor = clearcoat_tests::tls::TlsVisitor::trusting(&[&old, &new]);
    for name in ["www.example.com", "other.example.com"] {
        let (mut connection, _) = visitor.connect(proxy.tls_address(), name).await.unwrap();
        connection.ask(&Request::get("/").host(name)).await.expect_status(200);
    }
}

#[tokio::test]
async fn a_signal_reads_it_again() {
    let node = Node::with_pages([("/", "page")]).await;
    let mut proxy = Setup::before(&node).start().await;
    edit(&proxy, "[limits]", "[limits]\nurl_bytes = \"1KiB\"");
    proxy.signal(Signal::Hup);
    let long = format!("/{}", "x".repeat(1_500));
    wait::until("the signal to be heard", async || (proxy.get(&long).await.status == 414).then_some(()))
        .await;
    // And one with a mistake is told in the log.
    edit(&proxy, "url_bytes", "url_byte");
    proxy.signal(Signal::Hup);
    wait::until("the mistake to be told", async || {
        let log = proxy.log();
        (log.contains("configuration not changed") && log.contains("url_bytes")).then_some(())
    })
    .await;
    proxy.get(&long).await.expect_status(414);
}

#[tokio::test]
async fn an_earlier_one_comes_back_and_all_are_remembered() {
    let node = Node::with_pages([("/", "page")]).await;
    let proxy = Setup::before(&node).purge("token = \"hush\"").start().await;
    let admin = proxy.admin_address().to_string();
    let clearcoat = async |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
        let output = run_command(&words).await;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    edit(&proxy, "[limits]", "[limits]\nurl_bytes = \"1KiB\"");
    let (code, text) = clearcoat(&["reload"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("configuration 2 is in force\n") && text.contains("+url_bytes = \"1KiB\""),
        "{text}"
    );
    let long = format!("/{}", "x".repeat(1_500));
    proxy.get(&long).await.expect_status(414);
    edit(&proxy, "url_bytes", "url_byte");
    let (code, text) = clearcoat(&["reload"]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("clearcoat.toml:") && text.contains("url_bytes"), "{text}");
    let (code, text) = clearcoat(&["rollback"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("configuration 4 is in force\n") && text.contains("-url_bytes = \"1KiB\""),
        "{text}"
    );
    proxy.get(&long).await.expect_status(404);
    let (_, text) = clearcoat(&["rollback", "--to", "2"]).await;
    assert!(text.contains("configuration 5 is in force"), "{text}");
    proxy.get(&long).await.expect_status(414);
    let (code, text) = clearcoat(&["rollback", "--to", "3"]).await;
    assert_eq!(code, Some(1), "what was refused is not put into force: {text}");
    let (_, text) = clearcoat(&["configurations"]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[1].starts_with("5 ") && lines[1].ends_with("in force"), "{text}");
    assert!(lines[3].starts_with("3 ") && lines[3].contains("refused: "), "{text}");
    let (_, text) = clearcoat(&["configurations", "--show", "1"]).await;
    assert!(text.contains("[limits]") && !text.contains("hush"), "{text}");
    let (_, text) = clearcoat(&["configurations", "--diff", "1"]).await;
    assert!(text.contains("+url_bytes = \"1KiB\""), "{text}");
    // No more of them than ten, and the one in force is among them.
    for _ in 0..15 {
        post(&proxy, "/api/reload").await.expect_status(422);
    }
    let known: Value = serde_json::from_str(&proxy.admin("/api/configurations").await.text()).unwrap();
    let known = known.as_array().unwrap();
    assert_eq!(known.len(), 10);
    assert!(known.iter().any(|one| one["in_force"] == true && one["number"] == 5), "{known:?}");
}

#[tokio::test]
async fn what_has_to_wait_for_the_next_start_is_told() {
    let node = Node::with_pages([("/", "page")]).await;
    let proxy = Setup::before(&node).start().await;
    edit(&proxy, "[[listen]]", "threads = 1\n[[listen]]");
    let said = change(&proxy, "[limits]", "[limits]\nurl_bytes = \"1KiB\"").await;
    assert_eq!(said["restart"], serde_json::json!(["threads"]), "{said}");
    proxy.get(&format!("/{}", "x".repeat(1_500))).await.expect_status(414);
    let said = change(&proxy, "threads = 1\n", "").await;
    assert_eq!(said["restart"], serde_json::json!([]), "{said}");
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_read() {
    let node = Node::with_pages([("/", "page")]).await;
    let (listen, admin) = (Port::claim(), Port::claim());
    let mut command = std::process::Command::new(binary());
    let [listen_at, admin_at, to] =
        [listen.address(), admin.address(), node.address()].map(|at| at.to_string());
    command.args(["run", "--to", &to, "--listen", &listen_at, "--admin", &admin_at]);
    let folder = tempfile::tempdir().unwrap();
    let _process = Process::start("clearcoat", &command, folder.path());
    let answer = wait::until("the admin listener", async || {
        client::try_ask(admin.address(), &Request::post("/api/reload", "").host("localhost")).await.ok()
    })
    .await;
    assert_eq!(answer.status, 409, "{answer}");
    assert!(answer.text().contains("without a file"), "{answer}");
}

#[tokio::test]
async fn a_socket_of_another_protocol_goes_on() {
    let node = Scripted::start(tunnels::echo).await;
    let proxy = Setup::before(&node).pool("health = { type = \"off\" }").start().await;
    let mut socket = proxy.connect().await;
    tunnels::upgrade(&mut socket, &tunnels::socket("/socket")).await;
    for round in 0..5 {
        socket.send("said").await.unwrap();
        assert_eq!(socket.bytes(4).await.unwrap(), "said");
        let said = reload(&proxy).await;
        assert_eq!(said["number"], round + 2);
    }
    socket.send("after").await.unwrap();
    assert_eq!(socket.bytes(5).await.unwrap(), "after");
}
