//! Sessions that stay at their nodes, whichever edge their visitors come to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use clearcoat_tests::real::Memcached;
use clearcoat_tests::{Address, Node, Page, Proxy, Request, Setup, client, wait};
use tokio::task::JoinSet;

async fn nodes(count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let node = Node::start().await;
        let page = Page::text(format!("web{number}")).no_store();
        node.serve("/", page.clone());
        let begun = page.header("Set-Cookie", &format!("PHPSESSID=begun-at-{number}; Path=/"));
        node.serve("/login", begun);
        nodes.push(node);
    }
    nodes
}

fn pinned(nodes: &[Node], more: &str) -> Setup {
    Setup::new(nodes)
        .pool("passive = { eject = \"300ms\", eject_max = \"300ms\" }\nslow_start = \"0s\"")
        .more(&format!("[sessions]\nmode = \"pin\"\n{more}\n"))
}

/// Memcached has all the time that a busy machine may need to answer; how it is done without has a story of its own.
async fn in_memcached(nodes: &[Node], memcached: &[Memcached]) -> Proxy {
    within("1s", nodes, memcached).await
}

async fn within(time: &str, nodes: &[Node], memcached: &[Memcached]) -> Proxy {
    let servers: Vec<String> = memcached.iter().map(|server| format!("\"{}\"", server.address())).collect();
    pinned(nodes, &format!("memcached = [{}]\npin_timeout = \"{time}\"", servers.join(", "))).start().await
}

/// The node that a session of this name is sent to.
async fn node_of(edge: SocketAddr, session: &str) -> String {
    let request = Request::get("/").header("Cookie", &format!("a=b; PHPSESSID={session}"));
    client::try_ask(edge, &request).await.unwrap().expect_status(200).text()
}

/// Where each of so many sessions goes, with sixteen at a time.
async fn where_all_go(edge: SocketAddr, sessions: usize) -> Vec<String> {
    let mut asking = JoinSet::new();
    for part in 0..16 {
        asking.spawn(async move {
            let mut found = Vec::new();
            let mut connection = client::Connection::open(edge).await;
            for number in (part..sessions).step_by(16) {
                let request = Request::get("/").header("Cookie", &format!("PHPSESSID=session-{number}"));
                found.push((number, connection.ask(&request).await.expect_status(200).text()));
            }
            found
        });
    }
    let mut all: Vec<(usize, String)> = asking.join_all().await.concat();
    all.sort();
    all.into_iter().map(|(_, node)| node).collect()
}

#[track_caller]
fn assert_same(one: &[String], other: &[String]) {
    let different: Vec<_> = one.iter().zip(other).enumerate().filter(|(_, (a, b))| a != b).collect();
    assert!(one.len() == other.len() && different.is_empty(), "{different:?}");
}

fn shares(nodes: &[String]) -> HashMap<&str, usize> {
    let mut shares = HashMap::new();
    nodes.iter().for_each(|node| *shares.entry(node.as_str()).or_default() += 1);
    shares
}

async fn pins(edge: &Proxy, result: &str) -> f64 {
    edge.metrics().await.sum("clearcoat_pins_total", &[("result", result)])
}

#[tokio::test]
async fn two_edges_send_each_session_to_the_same_node() {
    let sessions = std::env::var("SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_000);
    let mut memcached = Memcached::start_many(2).await;
    let mut nodes = nodes(3).await;
    let (one, other) = (in_memcached(&nodes, &memcached).await, in_memcached(&nodes, &memcached).await);
    let before = where_all_go(one.address(), sessions).await;
    assert_same(&before, &where_all_go(other.address(), sessions).await);
    assert!(shares(&before).values().all(|share| *share > sessions / 4), "{:?}", shares(&before));

    // A node dies: its sessions move, each to the same node on both edges; the others stay.
    nodes[1].stop().await;
    tokio::join!(where_all_go(one.address(), sessions), where_all_go(other.address(), sessions));
    // What an edge was told of one session by another edge's decision may be a second old.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (after, elsewhere) =
        tokio::join!(where_all_go(one.address(), sessions), where_all_go(other.address(), sessions));
    assert_same(&after, &elsewhere);
    assert!(!shares(&after).contains_key("web1"));
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "web1", "{before} became {after}");
    }
    let moved = pins(&one, "moved").await + pins(&other, "moved").await;
    // Each by one of the two; of a few the answer may come too late, so that they are not counted or moved to the same node twice.
    let there = shares(&before)["web1"];
    assert!((there * 95 / 100..=there * 105 / 100).contains(&(moved as usize)), "{moved} of {there}");

    // It comes back: pins stay.
    nodes[1].start_again().await;
    for edge in [&one, &other] {
        wait::until("the node to be up", async || {
            (edge.metrics().await.sum("clearcoat_node_up", &[]) == 3.0).then_some(())
        })
        .await;
    }
    assert_same(&after, &where_all_go(other.address(), sessions).await);

    // Without memcached no request fails or waits, and the edges still agree; what they were told within the last second counts.
    memcached.iter_mut().for_each(Memcached::kill);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (alone, elsewhere) =
        tokio::join!(where_all_go(one.address(), sessions), where_all_go(other.address(), sessions));
    assert_same(&alone, &elsewhere);
    assert!(pins(&one, "hashed").await > 0.0);
}

#[tokio::test]
async fn a_session_stays_where_it_was_begun() {
    let memcached = Memcached::start_many(2).await;
    let nodes = nodes(3).await;
    let (one, other) = (in_memcached(&nodes, &memcached).await, in_memcached(&nodes, &memcached).await);
    for _ in 0..30 {
        let login = one.get("/login").await.expect_status(200);
        let number = login.text();
        let session = format!("begun-at-{}", number.trim_start_matches("web"));
        assert_eq!(node_of(one.address(), &session).await, number);
        assert_eq!(node_of(other.address(), &session).await, number);
    }
    // Submissions and what streams through go there too.
    for (number, node) in nodes.iter().enumerate() {
        node.serve("/echo", Page::echo().header("X-Where", &format!("web{number}")));
        let cookie = format!("PHPSESSID=begun-at-{number}");
        for request in [
            Request::post("/echo", "text").header("Cookie", &cookie),
            Request::post("/echo", "text").header("Cookie", &cookie).chunked(),
        ] {
            let answer = other.ask(&request).await.expect_status(200);
            assert_eq!(answer.header("x-where"), Some(format!("web{number}").as_str()));
        }
    }
}

#[tokio::test]
async fn a_slow_memcached_holds_up_nobody() {
    let mut memcached = Memcached::start_many(2).await;
    let nodes = nodes(2).await;
    let edge = within("20ms", &nodes, &memcached).await;
    let before = node_of(edge.address(), "slow").await;
    memcached.iter_mut().for_each(Memcached::freeze);
    let began = std::time::Instant::now();
    for number in 0..20 {
        node_of(edge.address(), &format!("new-{number}")).await;
    }
    // Twenty milliseconds each at most, and those only until the servers are given up.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    memcached.iter_mut().for_each(Memcached::thaw);
    // Whether it is asked again yet or not: the pin is what the hash tells.
    assert_eq!(node_of(edge.address(), "slow").await, before);
}

#[tokio::test]
async fn drained_nodes_keep_their_sessions_and_get_no_new_ones() {
    let memcached = Memcached::start_many(1).await;
    let nodes = nodes(2).await;
    let edge = in_memcached(&nodes, &memcached).await;
    let sessions: Vec<String> = (0..20).map(|number| format!("old-{number}")).collect();
    let mut before = Vec::new();
    for session in &sessions {
        before.push(node_of(edge.address(), session).await);
    }
    let name = nodes[0].address().to_string();
    client::try_ask(
        edge.admin_address(),
        &Request::post(&format!("/api/pools/web/nodes/{name}/drain"), "").host("localhost"),
    )
    .await
    .unwrap()
    .expect_status(200);
    for (session, before) in sessions.iter().zip(&before) {
        assert_eq!(&node_of(edge.address(), session).await, before);
    }
    for number in 0..20 {
        assert_eq!(node_of(edge.address(), &format!("new-{number}")).await, "web1");
    }
    client::try_ask(
        edge.admin_address(),
        &Request::post(&format!("/api/pools/web/nodes/{name}/disable"), "").host("localhost"),
    )
    .await
    .unwrap()
    .expect_status(200);
    for session in &sessions {
        assert_eq!(node_of(edge.address(), session).await, "web1");
    }
}

#[tokio::test]
async fn a_signed_cookie_pins_without_a_server() {
    let nodes = nodes(3).await;
    let settings = "pin = \"cookie\"\npin_secret = \"the-same-on-every-edge\"";
    let (one, other) = (pinned(&nodes, settings).start().await, pinned(&nodes, settings).start().await);
    for _ in 0..20 {
        let login = one.get("/login").await.expect_status(200);
        let lines = login.headers("set-cookie");
        let own = lines.iter().find(|line| line.starts_with("CLEARCOAT_NODE=")).expect("a cookie of ours");
        assert!(own.contains("HttpOnly"), "{own}");
        let cookie = format!("{}; PHPSESSID=x", own.split(';').next().unwrap());
        for edge in [&one, &other] {
            let answer = edge.ask(&Request::get("/").header("Cookie", &cookie)).await.expect_status(200);
            assert_eq!(answer.text(), login.text());
        }
        // Who has the right one is not told again.
        let again = other.ask(&Request::get("/login").header("Cookie", &cookie)).await;
        assert!(
            !again.headers("set-cookie").iter().any(|line| line.starts_with("CLEARCOAT_NODE=")),
            "{again}"
        );
    }
}

#[tokio::test]
async fn by_hash_alone_edges_agree_too() {
    let nodes = nodes(3).await;
    let (one, other) =
        (pinned(&nodes, "pin = \"hash\"").start().await, pinned(&nodes, "pin = \"hash\"").start().await);
    let found = where_all_go(one.address(), 500).await;
    assert_eq!(found, where_all_go(other.address(), 500).await);
    assert_eq!(shares(&found).len(), 3);
}
