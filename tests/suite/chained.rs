//! One edge before another: what is stale at the inner one is not fresh at the outer one.

use clearcoat_tests::{Gate, Node, Page, Proxy, Request, Served, Setup, wait};

const KEPT: &str = "s-maxage=600, stale-while-revalidate=600";

fn page(text: &'static str) -> Page {
    Page::text(text).cache_control(KEPT).tags("t")
}

/// The inner and the outer edge, with a page in both.
async fn chain(node: &Node) -> (Proxy, Proxy) {
    node.serve("/a", page("old"));
    let inner = Setup::before(node).purge("keep_tag_headers = true").start().await;
    let outer = Setup::new(std::iter::empty::<&Node>()).node_at(&inner.address().to_string()).start().await;
    outer.warm(["/a"]).await;
    (inner, outer)
}

fn soft() -> Request {
    Request::new("PURGEKEYS", "/").header("xkey-softpurge", "t")
}

#[tokio::test]
async fn a_stale_copy_of_the_inner_edge_is_not_fresh_at_the_outer_one() {
    let node = Node::start().await;
    let gate = Gate::closed();
    let (inner, outer) = chain(&node).await;
    node.serve("/a", page("new").held_before_head(&gate));
    for edge in [&inner, &outer] {
        edge.ask(&soft()).await.expect_status(200);
    }
    // The outer one shows its stale copy and asks the inner one, which shows its own and asks the node.
    for _ in 0..5 {
        let answer = outer.get("/a").await;
        assert_eq!(answer.text(), "old", "{answer}");
        let age: u64 = answer.header("age").unwrap().parse().unwrap();
        assert!(age >= 600, "whoever stands before it must not take it for fresh: {answer}");
    }
    gate.reached(1).await;
    gate.open();
    // Without a further purge, both have the new one soon.
    wait::until("the new page", async || (outer.get("/a").await.text() == "new").then_some(())).await;
    let answer = outer.get("/a").await;
    assert_eq!((answer.served(), answer.text().as_str()), (Served::Hit, "new"), "{answer}");
    assert!(answer.header("age").unwrap().parse::<u64>().unwrap() < 600, "{answer}");
}

#[tokio::test]
async fn a_hard_purge_of_both_is_done_at_once() {
    let node = Node::start().await;
    let (inner, outer) = chain(&node).await;
    node.serve("/a", page("new"));
    for edge in [&inner, &outer] {
        edge.purge_tags("t").await;
    }
    assert_eq!(outer.get("/a").await.text(), "new");
}
