//! The harness proven against itself: every way a node can misbehave is seen by the client as what it is.

use std::time::Duration;

use super::*;
use crate::client::{self, Connection, Request};
use crate::wire::Framing;

async fn ask(node: &Node, request: &Request) -> anyhow::Result<client::Answer> {
    client::try_ask(node.address(), request).await
}

#[tokio::test]
async fn pages_are_served_and_requests_recorded() {
    let node = Node::named("web1").await;
    node.serve("/a", Page::numbered("a").fresh_for(60).tags("c1 l2"));
    node.serve("/echo", Page::echo());
    let mut connection = Connection::open(node.address()).await;
    let one = connection.get("/a?x=1").await;
    let two = connection.get("/a?x=1").await;
    assert_eq!((one.text().as_str(), two.text().as_str()), ("a 1", "a 2"));
    assert_eq!(one.header("xkey"), Some("c1 l2"));
    assert_eq!(connection.ask(&Request::post("/echo", "abc").chunked()).await.text(), "abc");
    assert_eq!(connection.get("/none").await.status, 404);
    assert_eq!((node.count("/a"), node.count_of("POST", "/echo"), node.total()), (2, 1, 4));
    assert_eq!((node.connections(), node.last("/a").connection, node.garbled()), (1, 1, 0));
    node.forget();
    assert_eq!(connection.get("/a?x=1").await.text(), "a 1");
    assert_eq!((node.probes(), node.total()), (0, 1));
    connection.get(HEALTH_PATH).await.expect_status(200);
    assert_eq!((node.probes(), node.total()), (1, 1));
}

#[tokio::test]
async fn bodies_end_in_every_way() {
    let node = Node::start().await;
    node.serve("/length", Page::text("abc"));
    node.serve("/chunked", Page::text("abc").chunked());
    node.serve("/close", Page::text("abc").until_close());
    node.serve("/interim", Page::text("abc").interim(&[103]));
    for (path, framing) in [
        ("/length", Framing::Length(3)),
        ("/chunked", Framing::Chunked),
        ("/close", Framing::Close),
        ("/interim", Framing::Length(3)),
    ] {
        let answer = ask(&node, &Request::get(path)).await.expect("an answer");
        assert_eq!((answer.text().as_str(), answer.framing), ("abc", framing), "{path}");
    }
    assert_eq!(ask(&node, &Request::get("/interim")).await.expect("an answer").interim, [103]);
    assert_eq!(
        ask(&node, &Request::head("/length")).await.expect("an answer").header("content-length"),
        Some("3")
    );
}

#[tokio::test]
async fn faults_are_errors_at_the_client() {
    let node = Node::start().await;
    node.serve("/cut", Page::text("abcdef").cut_after(3));
    node.serve("/cut-chunked", Page::text("abcdef").chunked().cut_after(3));
    node.serve("/reset", Page::text("abc").reset_before_head());
    node.serve("/reset-late", Page::text("abc").reset_after_head());
    node.serve("/close", Page::text("abc").close_before_head());
    node.serve("/raw", Page::text("").raw("SSH-2.0-OpenSSH_9.2\r\n\r\n"));
    for (path, words) in [
        ("/cut", "cut short"),
        ("/cut-chunked", "cut short"),
        ("/reset", "reset"),
        ("/reset-late", "reset"),
        ("/close", "closed before an answer"),
        ("/raw", "malformed head"),
    ] {
        let error = ask(&node, &Request::get(path)).await.expect_err(path);
        assert!(format!("{error:#}").contains(words), "{path}: {error:#}");
    }
    node.serve("/silent", Page::text("").silent());
    let mut connection = Connection::open(node.address()).await;
    connection.set_patience(Duration::from_millis(50));
    let error = connection.try_ask(&Request::get("/silent")).await.expect_err("silence");
    assert!(format!("{error:#}").contains("no answer in time"), "{error:#}");
}

#[tokio::test]
async fn gates_hold_head_and_body() {
    let node = Node::start().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    node.serve("/a", Page::text("abcdef").chunked().held_before_head(&head).held_in_body(3, &body));
    let mut connection = Connection::open(node.address()).await;
    connection.send(Request::get("/a").to_bytes()).await.expect("sending");
    head.reached(1).await;
    assert_eq!((node.busy(), body.arrivals()), (1, 0));
    head.open();
    let mut begun = connection.head("GET").await.expect("a head");
    assert_eq!(connection.piece(&mut begun).await.expect("a piece"), "abc");
    body.reached(1).await;
    body.open();
    assert_eq!(connection.rest(begun).await.expect("the rest").text(), "def");
}

#[tokio::test]
async fn a_node_stops_freezes_and_comes_back() {
    let mut node = Node::start().await;
    node.serve("/a", Page::text("abc"));
    let mut connection = Connection::open(node.address()).await;
    connection.get("/a").await.expect_status(200);
    node.stop().await;
    connection.closed().await.expect("a stopped node's connection ends");
    assert!(Connection::try_open(node.address()).await.is_err());
    node.start_again().await;
    node.freeze();
    let mut connection = Connection::open(node.address()).await;
    connection.send(Request::get("/a").to_bytes()).await.expect("sending");
    wait::until_true("the request to arrive", || node.count("/a") == 2).await;
    node.thaw();
    assert_eq!(connection.answer("GET").await.expect("an answer").text(), "abc");
    assert_eq!(node.peak(), 1);
}

#[tokio::test]
async fn what_is_no_request_is_counted() {
    let node = Node::start().await;
    let mut connection = Connection::open(node.address()).await;
    connection.send("hello\r\n\r\n").await.expect("sending");
    connection.closed().await.expect("no answer to that");
    assert_eq!((node.garbled(), node.total()), (1, 0));
}
