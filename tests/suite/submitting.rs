//! Forms, edits and removals: what gives the application something goes there once, as it is, and takes what it changed
//! out of the cache.

use clearcoat_tests::{Connection, Node, Page, Request, Served, Setup};

/// What the sizes of bodies and their framing have in common: a small one, one that is streamed, one without a length.
fn bodies(method: &str, target: &str) -> [Request; 3] {
    let request = || Request::new(method, target).header("Content-Type", "text/x-form");
    [request().body("a=b"), request().body("x".repeat(200_000)), request().body("in pieces").chunked()]
}

#[tokio::test]
async fn what_is_submitted_reaches_the_node_as_it_is() {
    let node = Node::start().await;
    node.serve("/form", Page::echo());
    let proxy = Setup::before(&node).start().await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for request in bodies(method, "/form?b=2&a=1") {
            let request = request.header("Cookie", "id=1").header("X-Forwarded-For", "192.0.2.1");
            let answer = proxy.ask(&request).await.expect_status(200);
            assert_eq!(answer.cache_status(), "fwd=method", "{method}");
            let seen = node.last("/form");
            assert_eq!(seen.target, "/form?b=2&a=1");
            assert_eq!((seen.method.as_str(), seen.header("content-type")), (method, Some("text/x-form")));
            assert_eq!(seen.headers("cookie"), ["id=1"]);
            assert_eq!(seen.headers("x-forwarded-for"), ["127.0.0.1"], "{method}");
            assert!(request.to_bytes().ends_with(&answer.body) || answer.text() == "in pieces", "{method}");
        }
    }
    let bare = proxy.ask(&Request::new("DELETE", "/form?b=2&a=1")).await.expect_status(200);
    assert_eq!(bare.text(), "");
}

#[tokio::test]
async fn a_small_body_may_come_in_any_pieces_and_be_followed_by_the_next_request() {
    let node = Node::start().await;
    node.serve("/form", Page::echo());
    node.serve("/next", Page::text("next").no_store());
    let proxy = Setup::before(&node).start().await;
    let mut bytes = Request::post("/form", "one book").to_bytes();
    bytes.extend_from_slice(&Request::get("/next").to_bytes());
    bytes.extend_from_slice(&Request::post("/form", "another").to_bytes());
    for size in [1, 50, bytes.len()] {
        let mut visitor = Connection::open(proxy.address()).await;
        visitor.send_slowly(&bytes, size, std::time::Duration::from_millis(1)).await;
        assert_eq!(visitor.answer("POST").await.unwrap().expect_status(200).text(), "one book");
        assert_eq!(visitor.answer("GET").await.unwrap().expect_status(200).text(), "next");
        assert_eq!(visitor.answer("POST").await.unwrap().expect_status(200).text(), "another");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_forever() {
    let node = Node::start().await;
    let proxy = Setup::before(&node).limits(r#"body_timeout = "200ms""#).start().await;
    let mut visitor = Connection::open(proxy.address()).await;
    visitor.send("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    assert_eq!(visitor.answer("POST").await.unwrap().status, 408);
    visitor.closed().await.unwrap();
    assert_eq!(node.total(), 0, "half a form is none");
}

#[tokio::test]
async fn what_a_submission_changed_is_fetched_anew() {
    let node = Node::start().await;
    for path in ["/page", "/list", "/other"] {
        node.serve(path, Page::numbered(path).fresh_for(600));
    }
    node.serve("/save", Page::text("saved").header("Location", "/list"));
    node.serve("/fail", Page::text("no").status(422).header("Location", "/list"));
    let proxy = Setup::before(&node).start().await;
    for body in ["small".to_owned(), "x".repeat(200_000)] {
        proxy.warm(["/page", "/list", "/other"]).await;
        proxy.ask(&Request::post("/fail", body.clone())).await.expect_status(422);
        assert_eq!(proxy.get("/list").await.served(), Served::Hit);
        proxy.ask(&Request::post("/save", body)).await.expect_status(200);
        assert_ne!(proxy.get("/list").await.served(), Served::Hit);
        assert_eq!(proxy.get("/other").await.served(), Served::Hit);
    }
}

#[tokio::test]
async fn orders_close_together_share_a_connection_and_are_delivered_once() {
    let node = Node::start().await;
    node.serve("/order", Page::echo());
    let proxy = Setup::before(&node).pool(r#"health = { type = "off" }"#).start().await;
    for number in 0..20 {
        let body = format!("order {number}");
        assert_eq!(proxy.ask(&Request::post("/order", body.clone())).await.expect_status(200).text(), body);
    }
    // A machine that is busy may let a second pass between two of them, but not between all.
    assert!(node.connections() < 20, "{} connections for 20 orders", node.connections());
    // A node that breaks off on a kept connection may have heard the order: nobody else is asked.
    for round in 0..5 {
        node.serve("/order", Page::echo());
        proxy.ask(&Request::post("/order", "x")).await.expect_status(200);
        node.serve("/order", Page::text("").close_before_head());
        let before = node.count("/order");
        let lost = proxy.ask(&Request::post("/order", "x")).await;
        assert_eq!((lost.status, node.count("/order")), (502, before + 1), "round {round}");
    }
}
