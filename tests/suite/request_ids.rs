//! What stands for a request: the same here, at a balancer in front, and at every node that is asked for it.

use std::fs;

use clearcoat_tests::http2::Session;
use clearcoat_tests::{Connection, Node, Page, Proxy, Request, Setup, wait};
use serde_json::Value;

const LOG: &str = "[log.access]\nfile = \"access.log\"\nformat = \"json\"\n";

/// The records once there are so many, by their targets.
async fn logged(proxy: &Proxy, count: usize) -> Vec<(String, Option<String>)> {
    let path = proxy.folder().join("access.log");
    wait::until(&format!("{count} records"), async || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let records: Vec<(String, Option<String>)> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|record| {
                let id = record["request_id"].as_str().map(str::to_owned);
                (record["target"].as_str().unwrap_or_default().to_owned(), id)
            })
            .collect();
        (records.len() >= count).then_some(records)
    })
    .await
}

fn is_own(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The one id that the node heard with the last request of a path.
fn heard(node: &Node, path: &str, header: &str) -> String {
    let seen = node.last(path);
    let ids = seen.headers(header);
    assert_eq!(ids.len(), 1, "{ids:?}");
    ids[0].to_owned()
}

#[tokio::test]
async fn every_road_to_a_node_tells_the_id_that_the_log_has() {
    let node = Node::start().await;
    node.serve("/a", Page::text("a").fresh_for(60));
    node.serve("/mine", Page::text("mine").no_store());
    node.serve("/echo", Page::echo());
    let proxy = Setup::before(&node).listen("http2 = true").more(LOG).start().await;
    let mut visitor = Connection::open(proxy.address()).await;
    let forged = |request: Request| request.header("X-Request-Id", "forged");
    for (number, (request, path)) in [
        (Request::get("/a"), "/a"),
        (Request::get("/mine"), "/mine"),
        (Request::post("/echo?small", "body"), "/echo"),
        (Request::post("/echo?large", vec![b'x'; 200_000]), "/echo"),
    ]
    .into_iter()
    .enumerate()
    {
        visitor.ask(&forged(request)).await.expect_status(200);
        let records = logged(&proxy, number + 1).await;
        let id = heard(&node, path, "x-request-id");
        assert!(is_own(&id), "{path}: {id}");
        assert_eq!(records[number].1.as_ref(), Some(&id), "{path}");
    }
    // A hit has an id too, although no node is asked.
    visitor.ask(&forged(Request::get("/a"))).await.expect_status(200);
    let records = logged(&proxy, 5).await;
    let mut session = Session::open(proxy.address()).await;
    session.get("/mine").await;
    let by_http2 = heard(&node, "/mine", "x-request-id");
    session.get("/a").await;
    let mut ids: Vec<String> = logged(&proxy, 7).await.into_iter().filter_map(|(_, id)| id).collect();
    assert!(ids.contains(&by_http2), "{by_http2} of {ids:?}");
    assert!(records[4].1.as_deref().is_some_and(is_own), "{records:?}");
    assert!(ids.iter().all(|id| is_own(id)), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7, "each has its own: {ids:?}");
}

#[tokio::test]
async fn fragments_are_asked_for_under_the_id_of_their_page() {
    let node = Node::start().await;
    let page = "<esi:include src=\"/one\"/><esi:include src=\"/two\"/>";
    node.serve("/page", Page::text(page).fresh_for(60).header("Surrogate-Control", "content=\"ESI/1.0\""));
    node.serve("/one", Page::text("1").fresh_for(60));
    node.serve("/two", Page::text("2").no_store());
    let proxy = Setup::before(&node).site("esi = true").more(LOG).start().await;
    let answer = proxy.get("/page").await.expect_status(200);
    assert_eq!(answer.text(), "12");
    let records = logged(&proxy, 1).await;
    for path in ["/page", "/one", "/two"] {
        assert_eq!(Some(heard(&node, path, "x-request-id")), records[0].1, "{path}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_gives_ids_and_only_usable_ones() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").no_store());
    let proxy = Setup::before(&node)
        .listen("trusted_proxies = [\"127.0.0.1\"]")
        .more("[log.request_id]\nheader = \"X-Correlation-Id\"")
        .more(LOG)
        .start()
        .await;
    let long = "x".repeat(129);
    let mut count = 0;
    for (said, goes_on) in [
        (&["edge:7f-1"][..], true),
        (&[long.as_str()], false),
        (&["a b"], false),
        (&["a\"b"], false),
        (&["one", "two"], false),
        (&[], false),
    ] {
        for method in ["GET", "POST"] {
            let body = vec![b'x'; 200_000];
            let request = if method == "GET" { Request::get("/page") } else { Request::post("/page", body) };
            let request = said.iter().fold(request, |request, id| request.header("X-Correlation-Id", id));
            proxy.ask(&request).await.expect_status(200);
            count += 1;
            let id = heard(&node, "/page", "x-correlation-id");
            assert!(if goes_on { id == said[0] } else { is_own(&id) }, "{method} {said:?}: {id}");
            assert_eq!(logged(&proxy, count).await[count - 1].1, Some(id));
        }
    }
}

#[tokio::test]
async fn without_ids_the_header_is_one_like_others() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x").no_store());
    let proxy = Setup::before(&node).more("[log.request_id]\nenabled = false").more(LOG).start().await;
    proxy.ask(&Request::get("/a").header("X-Request-Id", "a b")).await.expect_status(200);
    assert_eq!(heard(&node, "/a", "x-request-id"), "a b");
    proxy.get("/b").await.expect_status(200);
    assert!(node.last("/b").headers("x-request-id").is_empty());
    let ids: Vec<Option<String>> = logged(&proxy, 2).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [Some("a b".to_owned()), None]);
}
