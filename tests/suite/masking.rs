//! What no log shows: secrets in URLs, cookies, passwords, tokens, the hash of a context.

use std::fs;
use std::time::Duration;

use clearcoat_tests::client::Head;
use clearcoat_tests::http2::Session;
use clearcoat_tests::{Connection, Node, Page, Proxy, Request, Setup, wait};

/// Stands in every secret, and in nothing else.
const SECRET: &str = "s3cr3t0815";

async fn access_log(proxy: &Proxy, count: usize) -> String {
    let path = proxy.folder().join("access.log");
    wait::until(&format!("{count} lines"), async || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= count).then_some(text)
    })
    .await
}

/// Asks for `target` in ways that go by every road, with a secret wherever one may stand.
async fn ask_with_secrets(proxy: &Proxy, target: &str) -> usize {
    let with_secrets = |request: Request| {
        request
            .header("Authorization", &format!("Bearer {SECRET}"))
            .header("Cookie", &format!("eZSESSID={SECRET}; other={SECRET}"))
            .header("X-Invalidate-Token", SECRET)
            .header("Referer", &format!("https://a.test/login?_token={SECRET}&x=1"))
    };
    for request in [
        Request::get(target),
        Request::get(target),
        Request::head(target),
        Request::post(target, "small"),
        Request::post(target, vec![b'x'; 200_000]),
        // Passed, and tried again where its node fails.
        Request::new("PUT", target).body("small").chunked(),
        // Forged: refused.
        Request::get(target).header("X-User-Context-Hash", SECRET),
    ] {
        proxy.ask(&with_secrets(request)).await;
    }
    let mut session = Session::open(proxy.address()).await;
    session.get(target).await;
    // A head that cannot be read.
    let mut malformed = Connection::open(proxy.address()).await;
    malformed.send(format!("GET {target} HTTP/7.1\r\nHost: x\r\n\r\n")).await.unwrap();
    malformed.answer("GET").await.unwrap();
    9
}

#[tokio::test]
async fn no_log_shows_a_secret() {
    for format in ["json", "combined"] {
        let node = Node::start().await;
        node.serve_everything(Page::text("x").fresh_for(60));
        let log = format!("[log.access]\nfile = \"access.log\"\nformat = \"{format}\"");
        let proxy =
            Setup::before(&node).listen("http2 = true").log("level = \"debug\"").more(&log).start().await;
        let target = format!("/a?token={SECRET}&page=7&login%5Bpassword%5D={SECRET}&_hash={SECRET}#x");
        let target = target.trim_end_matches("#x");
        let count = ask_with_secrets(&proxy, target).await;
        let text = access_log(&proxy, count).await;
        assert!(!text.contains(SECRET), "{text}");
        let shown = "/a?token=***&page=7&login%5Bpassword%5D=***&_hash=***";
        assert!(text.matches(shown).count() >= count, "what is no secret is shown: {text}");
        assert!(text.contains("https://a.test/login?_token=***&x=1"), "{text}");
        assert!(node.last("/a").target.contains(SECRET), "the node hears all of it");
        assert!(!proxy.log().contains(SECRET), "{}", proxy.log());
    }
}

#[tokio::test]
async fn nor_do_its_traces_when_nodes_fail() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").no_store().close_before_head());
    let proxy = Setup::before(&node).listen("http2 = true").log("level = \"debug\"").start().await;
    let target = format!("/a?access_token={SECRET}&page=7");
    ask_with_secrets(&proxy, &target).await;
    let log = wait::until("both roads to tell", async || {
        let log = proxy.log();
        let told = ["a visitor gets an error", "got no answer from a node", "Fail to proxy"];
        let told = told.iter().all(|words| log.contains(words));
        told.then_some(log)
    })
    .await;
    assert!(log.contains("/a?access_token=***&page=7"), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn the_operator_says_what_is_secret() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let more = "[log.access]\nfile = \"access.log\"";
    let proxy = Setup::before(&node).log("mask = [\"voucher*\"]").more(more).start().await;
    proxy.get("/a?Voucher_Code=4711&token=1").await.expect_status(200);
    let text = access_log(&proxy, 1).await;
    assert!(text.contains("/a?Voucher_Code=***&token=1 "), "{text}");
}

#[tokio::test]
async fn who_looks_on_cannot_guess_either() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").fresh_for(60));
    let proxy = Proxy::before(&node).await;
    let listen = async |filter: &str| {
        let mut connection = Connection::open(proxy.admin_address()).await;
        connection.set_patience(Duration::from_secs(10));
        connection.send(Request::get(&format!("/api/log?filter={filter}")).to_bytes()).await.unwrap();
        let mut head = connection.head("GET").await.unwrap();
        connection.piece(&mut head).await.unwrap();
        (connection, head)
    };
    let next = async |(connection, head): &mut (Connection, Head)| {
        String::from_utf8(connection.piece(head).await.unwrap().to_vec()).unwrap()
    };
    let mut guessing = listen(&format!("target~%22{SECRET}|/end%22")).await;
    let mut all = listen("").await;
    proxy.get(&format!("/a?token={SECRET}")).await.expect_status(200);
    assert!(next(&mut all).await.contains("\"target\":\"/a?token=***\""));
    proxy.get("/end").await.expect_status(200);
    let first = next(&mut guessing).await;
    assert!(first.contains("\"target\":\"/end\"") && first.lines().count() == 1, "{first}");
}
