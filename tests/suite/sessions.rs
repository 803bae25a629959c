//! Sessions of real PHP on real memcached servers, while these, web nodes and edges come and go.

use std::net::SocketAddr;
use std::time::Duration;

use clearcoat_tests::ports::Port;
use clearcoat_tests::real::{Memcached, PhpServer};
use clearcoat_tests::{Address, Proxy, Request, Setup, client, wait};
use tokio::task::JoinSet;

const SESSION: &str = "eZSESSID98defd6ee70dfb1dea416cecdf391f58";

/// How often the servers come and go; `ROUNDS` in the environment says otherwise.
fn rounds() -> usize {
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// An edge that keeps sessions on these servers, and where.
struct Keeping {
    proxy: Proxy,
    port: Port,
}

impl Keeping {
    async fn start(nodes: &[PhpServer], port: Port, memcached: &[Memcached]) -> Self {
        let servers: Vec<String> =
            memcached.iter().map(|server| format!("\"{}\"", server.address())).collect();
        let sessions = format!(
            "[sessions]\nmode = \"replicate\"\nlisten = \"{}\"\nmemcached = [{}]\n",
            port.address(),
            servers.join(", ")
        );
        // Nodes whose workers all wait for one session are busy, and not ill.
        let proxy = Setup::new(nodes)
            .pool("health = { type = \"tcp\", interval = \"200ms\", fall = 2, rise = 1 }")
            .pool("passive = { eject = \"300ms\", eject_max = \"300ms\" }")
            .more(&sessions)
            .start()
            .await;
        Self { proxy, port }
    }
}

/// PHP as its packages set it up, but for where sessions are.
fn settings(servers: &str, binary: bool) -> Vec<String> {
    vec![
        "session.save_handler=memcached".to_owned(),
        format!("session.save_path={servers}"),
        format!("memcached.sess_binary_protocol={}", u8::from(binary)),
    ]
}

async fn nodes(count: usize, settings: &[String]) -> Vec<PhpServer> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(PhpServer::start_with(&format!("web{number}"), 20, settings).await);
    }
    nodes
}

/// Lets a session count once. Gives what it has counted so far, or what went wrong.
async fn count(edge: SocketAddr, cookie: &str, name: &str) -> Result<usize, String> {
    let request = Request::get(&format!("/counter.php?count={name}")).header("Cookie", cookie);
    let answer = client::try_ask(edge, &request).await.map_err(|error| format!("{name}: {error:#}"))?;
    let text = answer.text();
    if answer.status != 200 || !text.contains(" editor ") {
        return Err(format!("{name}: {answer}"));
    }
    text.split(' ').next().and_then(|count| count.parse().ok()).ok_or(text)
}

/// Begins a session of the user `editor`.
async fn log_in(edge: SocketAddr) -> String {
    let answer = client::try_ask(edge, &Request::get("/counter.php?user=editor")).await.unwrap();
    assert!(answer.status == 200 && answer.text().contains(" editor "), "{answer}");
    let cookie = answer.header("set-cookie").expect("a session").to_owned();
    cookie.split(';').next().unwrap().to_owned()
}

/// Fifty requests of one session at a time, spread over the edges; those that an edge took with it are sent to another.
async fn fifty(edges: &[SocketAddr], cookie: &str, round: usize) -> Vec<String> {
    let mut counting = JoinSet::new();
    for number in 0..50 {
        let (edges, cookie) = (edges.to_vec(), cookie.to_owned());
        counting.spawn(async move {
            let name = format!("{round}-{number}");
            // Spread over the time in which servers come and go.
            tokio::time::sleep(Duration::from_millis(number * 4)).await;
            let mut last = Ok(0);
            for attempt in 0..edges.len() {
                last = count(edges[(number as usize + attempt) % edges.len()], &cookie, &name).await;
                if last.is_ok() {
                    break;
                }
            }
            last.err()
        });
    }
    counting.join_all().await.into_iter().flatten().collect()
}

async fn up(proxy: &Proxy, count: usize) {
    wait::until(&format!("{count} memcached servers to be up"), async || {
        let up = proxy.metrics().await.sum("clearcoat_memcached_up", &[]);
        (up == count as f64).then_some(())
    })
    .await;
}

async fn servers_come_and_go(binary: bool) {
    let mut memcached = Memcached::start_many(3).await;
    let port = Port::claim();
    let nodes = nodes(3, &settings(&port.address().to_string(), binary)).await;
    let edge = Keeping::start(&nodes, port, &memcached).await;
    let address = edge.proxy.address();
    let edges = [address];
    let cookie = log_in(address).await;
    let rounds = rounds();
    for round in 0..rounds {
        up(&edge.proxy, 3).await;
        let failed = {
            let running = fifty(&edges, &cookie, round);
            let server = &mut memcached[round % 3];
            let killing = async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                server.kill();
                tokio::time::sleep(Duration::from_millis(60)).await;
                // Empty, and at once in use again; and gone once more.
                server.start_again().await;
                tokio::time::sleep(Duration::from_millis(80)).await;
                server.kill();
            };
            tokio::join!(running, killing).0
        };
        assert!(failed.is_empty(), "round {round}: {failed:#?}\n{}", edge.proxy.log());
        memcached[round % 3].start_again().await;
    }
    let counted = count(address, &cookie, "0-0").await.unwrap();
    assert_eq!(counted, rounds * 50);
    drop(edge.port);
}

#[tokio::test]
async fn memcached_servers_come_and_go_and_no_request_is_lost() {
    servers_come_and_go(true).await;
}

#[tokio::test]
async fn the_same_in_text() {
    servers_come_and_go(false).await;
}

#[tokio::test]
async fn a_visitor_stays_who_they_are_when_web_nodes_die() {
    let memcached = Memcached::start_many(2).await;
    let port = Port::claim();
    let mut nodes = nodes(3, &settings(&port.address().to_string(), true)).await;
    let edge = Keeping::start(&nodes, port, &memcached).await;
    let address = edge.proxy.address();
    let edges = [address];
    let cookie = log_in(address).await;
    assert!(cookie.starts_with(SESSION), "{cookie}");
    let rounds = rounds();
    for round in 0..rounds {
        wait::until("all web nodes to be up", async || {
            let up = edge.proxy.metrics().await.sum("clearcoat_node_up", &[]);
            (up == 3.0).then_some(())
        })
        .await;
        let node = &mut nodes[round % 3];
        let running = fifty(&edges, &cookie, round);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            node.kill();
        };
        let failed = tokio::join!(running, killing).0;
        assert!(failed.is_empty(), "round {round}: {failed:#?}\n{}", edge.proxy.log());
        nodes[round % 3].start_again().await;
    }
    assert_eq!(count(address, &cookie, "0-0").await.unwrap(), rounds * 50);
}

#[tokio::test]
async fn edges_die_and_sessions_go_on_at_the_others() {
    let memcached = Memcached::start_many(2).await;
    // Each web node has a Clearcoat of its own for its sessions, so that it is connected to nobody who dies without it.
    let mut beside = Vec::new();
    let mut nodes = Vec::new();
    for number in 0..3 {
        let port = Port::claim();
        let settings = settings(&port.address().to_string(), true);
        nodes.push(PhpServer::start_with(&format!("web{number}"), 20, &settings).await);
        beside.push(Keeping::start(&nodes[number..], port, &memcached).await);
    }
    let edge = async || {
        Setup::new(&nodes)
            .pool("health = { type = \"tcp\", interval = \"200ms\", fall = 2, rise = 1 }")
            .start()
            .await
    };
    let mut edges = [edge().await, edge().await];
    let cookie = log_in(edges[0].address()).await;
    let rounds = rounds();
    for round in 0..rounds {
        let addresses = [edges[0].address(), edges[1].address()];
        let running = fifty(&addresses, &cookie, round);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            edges[round % 2].process().kill();
        };
        let failed = tokio::join!(running, killing).0;
        assert!(failed.is_empty(), "round {round}: {failed:#?}");
        edges[round % 2] = edge().await;
    }
    assert_eq!(count(edges[0].address(), &cookie, "0-0").await.unwrap(), rounds * 50);
}

/// What Symfony's classes did, as the page tells it, with the session's cookie as it is afterwards.
async fn symfony(edge: SocketAddr, cookie: &str, what: &str) -> (String, String) {
    let request = Request::get(&format!("/symfony.php?{what}")).header("Cookie", cookie);
    let answer = client::try_ask(edge, &request).await.unwrap();
    assert_eq!(answer.status, 200, "{what}: {answer}");
    let set = answer.headers("set-cookie").pop().and_then(|set| set.split(';').next());
    (answer.text().trim().to_owned(), set.unwrap_or(cookie).to_owned())
}

#[tokio::test]
async fn symfonys_session_handler_works_while_servers_come_and_go() {
    let mut memcached = Memcached::start_many(3).await;
    let port = Port::claim();
    let nodes = nodes(2, &settings(&port.address().to_string(), true)).await;
    let edge = Keeping::start(&nodes, port, &memcached).await;
    let address = edge.proxy.address();
    let (text, guest) = symfony(address, "", "session=count").await;
    assert_eq!(text, "nobody 1");
    // Logging in gives a session of another name, and the one of before is gone for good.
    let (text, cookie) = symfony(address, &guest, "session=login").await;
    assert_eq!(text, "editor 1");
    assert_ne!(cookie, guest);
    for counted in 2..=10 {
        up(&edge.proxy, 3).await;
        let server = &mut memcached[counted % 3];
        server.kill();
        let (text, same) = symfony(address, &cookie, "session=count").await;
        assert_eq!((text, same), (format!("editor {counted}"), cookie.clone()));
        server.start_again().await;
    }
    // No server that comes back brings back what was logged out.
    up(&edge.proxy, 3).await;
    memcached[0].kill();
    assert_eq!(symfony(address, &cookie, "session=logout").await.0, "nobody 0");
    memcached[0].start_again().await;
    up(&edge.proxy, 3).await;
    for old in [&guest, &cookie] {
        let (text, other) = symfony(address, old, "session=count").await;
        assert_eq!(text, "nobody 1");
        assert_ne!(&other, old, "a session that is gone is not taken up by its name");
    }
}

#[tokio::test]
async fn symfonys_cache_pools_are_kept_once_and_lose_only_what_a_server_had() {
    let mut memcached = Memcached::start_many(3).await;
    let port = Port::claim();
    let nodes = nodes(2, &settings(&port.address().to_string(), true)).await;
    let edge = Keeping::start(&nodes, port, &memcached).await;
    let address = edge.proxy.address();
    let pool = async |what: &str| symfony(address, "", &format!("pool={what}")).await.0;
    assert_eq!(pool("read").await, "0 of 100");
    assert_eq!(pool("fill").await, "100 of 100");
    let mut kept = Vec::new();
    for server in &memcached {
        kept.push(items(server).await);
    }
    // A hundred items and their lists of tags, three tags, and what names the version of the pool; none on two servers.
    let all: usize = kept.iter().sum();
    assert!((200..=210).contains(&all) && kept.iter().all(|count| *count > 10), "{kept:?}");
    assert_eq!(pool("drop").await, "50 of 100");
    assert_eq!(pool("delete").await, "48 of 100");
    assert_eq!(pool("fill").await, "100 of 100");
    assert_eq!(pool("clear").await, "0 of 100");
    assert_eq!(pool("fill").await, "100 of 100");
    // A pool that lost a third, tags or its version with it, is filled again without an error.
    for server in &mut memcached {
        server.kill();
        let left = pool("read").await;
        assert_ne!(left, "100 of 100");
        assert_eq!(pool("fill").await, "100 of 100");
        server.start_again().await;
        up(&edge.proxy, 3).await;
    }
    assert_eq!(pool("fill").await, "100 of 100");
}

/// How many items a server has.
async fn items(server: &Memcached) -> usize {
    let stats = String::from_utf8(server.ask("stats\r\n").await).unwrap();
    let count = stats.lines().find_map(|line| line.strip_prefix("STAT curr_items "));
    count.and_then(|count| count.trim().parse().ok()).expect("a count of items")
}
