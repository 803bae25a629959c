//! How requests are shared out among healthy nodes.

use std::collections::BTreeMap;

use clearcoat_tests::{Address, Node, Page, Proxy, Request, Setup, wait};

const NO_PROBES: &str = r#"health = { type = "off" }"#;

/// Three nodes that answer everything and nothing to be kept.
async fn three() -> [Node; 3] {
    let nodes = [Node::named("one").await, Node::named("two").await, Node::named("three").await];
    for node in &nodes {
        node.serve_everything(Page::text("a").no_store());
    }
    nodes
}

fn totals(nodes: &[Node; 3]) -> [usize; 3] {
    [nodes[0].total(), nodes[1].total(), nodes[2].total()]
}

/// Asks for different pages in turn, so that nothing is collapsed.
async fn ask(proxy: &Proxy, count: usize) {
    let mut visitor = proxy.connect().await;
    for number in 0..count {
        visitor.get(&format!("/{number}")).await.expect_status(200);
    }
}

#[tokio::test]
async fn round_robin_gives_each_its_turn() {
    let nodes = three().await;
    let proxy = Setup::new(&nodes).pool(NO_PROBES).pool(r#"balance = "round-robin""#).start().await;
    ask(&proxy, 90).await;
    for total in totals(&nodes) {
        assert!((29..=31).contains(&total), "{:?}", totals(&nodes));
    }
}

#[tokio::test]
async fn weights_are_shares() {
    let nodes = three().await;
    let proxy = Setup::before(&nodes[0])
        .node_with(&nodes[1], "weight = 2")
        .node_with(&nodes[2], "weight = 3")
        .pool(NO_PROBES)
        .pool(r#"balance = "round-robin""#)
        .start()
        .await;
    ask(&proxy, 120).await;
    for (total, share) in totals(&nodes).into_iter().zip([20, 40, 60]) {
        assert!(total.abs_diff(share) <= 2, "{:?}", totals(&nodes));
    }
}

#[tokio::test]
async fn every_way_of_balancing_uses_every_node() {
    for balance in ["round-robin", "least-requests", "random-two", "hash"] {
        let nodes = three().await;
        let proxy =
            Setup::new(&nodes).pool(NO_PROBES).pool(&format!("balance = \"{balance}\"")).start().await;
        ask(&proxy, 150).await;
        for total in totals(&nodes) {
            assert!(total >= 15, "{balance}: {:?}", totals(&nodes));
        }
        assert_eq!(totals(&nodes).iter().sum::<usize>(), 150, "{balance}");
    }
}

#[tokio::test]
async fn a_busy_node_gets_less() {
    let nodes = three().await;
    let gate = clearcoat_tests::Gate::closed();
    nodes[0].serve_everything(Page::text("a").no_store().held_before_head(&gate));
    let proxy = Setup::new(&nodes).pool(NO_PROBES).pool(r#"balance = "least-requests""#).start().await;
    let mut stuck = Vec::new();
    // As soon as one request hangs at the slow node, the others go elsewhere while they are free.
    while gate.arrivals() == 0 {
        let mut visitor = proxy.connect().await;
        visitor.send(Request::get(&format!("/stuck/{}", stuck.len())).to_bytes()).await.unwrap();
        let number = stuck.len() + 1;
        wait::until_true("the request at a node", || totals(&nodes).iter().sum::<usize>() == number).await;
        stuck.push(visitor);
        assert!(stuck.len() < 20, "the slow node is never asked");
    }
    ask(&proxy, 60).await;
    assert_eq!(gate.arrivals(), 1, "{:?}", totals(&nodes));
    gate.open();
}

/// Which node answers each of some values.
async fn places(proxy: &Proxy, request: impl Fn(usize) -> Request) -> BTreeMap<usize, String> {
    let mut places = BTreeMap::new();
    let mut visitor = proxy.connect().await;
    for number in 0..60 {
        let answer = visitor.ask(&request(number)).await.expect_status(200);
        places.insert(number, answer.header("x-node").unwrap().to_owned());
    }
    places
}

#[tokio::test]
async fn hashing_sends_the_same_to_the_same_node() {
    for (hash_on, request) in [
        ("path", (|number| Request::get(&format!("/page/{number}"))) as fn(usize) -> Request),
        ("header:X-Shard", |number| Request::get("/").header("X-Shard", &number.to_string())),
        ("cookie:eZSESSID*", |number| {
            Request::get("/").header("Cookie", &format!("a=b; eZSESSID12={number}; c=d"))
        }),
    ] {
        let nodes = three().await;
        let proxy = Setup::new(&nodes)
            .pool(NO_PROBES)
            .pool(&format!("balance = \"hash\"\nhash_on = \"{hash_on}\""))
            .site("[[site.route]]\npath = \"/*\"\ncache = \"pass\"")
            .start()
            .await;
        let first = places(&proxy, request).await;
        assert_eq!(places(&proxy, request).await, first, "{hash_on}");
        assert!(totals(&nodes).iter().all(|total| *total > 10), "{hash_on}: {:?}", totals(&nodes));
        // Another proxy before the same nodes decides in the same way: edges agree without talking.
        let other = Setup::new(&nodes)
            .pool(NO_PROBES)
            .pool(&format!("balance = \"hash\"\nhash_on = \"{hash_on}\""))
            .site("[[site.route]]\npath = \"/*\"\ncache = \"pass\"")
            .start()
            .await;
        assert_eq!(places(&other, request).await, first, "{hash_on}");
    }
}

#[tokio::test]
async fn losing_a_node_moves_only_its_own_share() {
    let mut nodes = three().await;
    let proxy = Setup::new(&nodes)
        .pool(r#"health = { type = "http", path = "/-/health", interval = "100ms", timeout = "500ms", fall = 1, rise = 1 }"#)
        .pool("balance = \"hash\"\nhash_on = \"path\"")
        .start()
        .await;
    wait::until("all nodes to be up", async || {
        (proxy.metrics().await.sum("clearcoat_node_up", &[]) == 3.0).then_some(())
    })
    .await;
    let request = |number| Request::get(&format!("/page/{number}"));
    let before = places(&proxy, request).await;
    let address = nodes[2].address().to_string();
    nodes[2].stop().await;
    wait::until("the node to be out", async || {
        (proxy.metrics().await.sum("clearcoat_node_up", &[("node", &address)]) == 0.0).then_some(())
    })
    .await;
    let after = places(&proxy, request).await;
    for (number, node) in &before {
        if node != "three" {
            assert_eq!(&after[number], node, "page {number} moved without need");
        }
    }
}
