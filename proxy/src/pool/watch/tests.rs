//! Tests of the tasks: with real nodes in real time, polled for what must come; names and ejections in paused time.
#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::resolve::Answer;
use super::super::settings::{Check, HttpCheck, PoolSettings};
use super::super::status::NodeState;
use super::super::test::{ip, node, settings};
use super::super::{Behalf, Outcome, Unavailable, Want};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ANY: Want<'_> = Want { hash: None, tried: &[], idempotent: true };

/// A web node whose status can be set.
struct WebNode {
    address: SocketAddr,
    status: Arc<AtomicU16>,
}

impl WebNode {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, status) = (listener.local_addr().unwrap(), Arc::new(AtomicU16::new(200)));
        let shown = Arc::clone(&status);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let answer =
                    format!("HTTP/1.1 {} .\r\ncontent-length: 0\r\n\r\n", shown.load(Ordering::SeqCst));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, status }
    }
}

/// An address nobody listens at.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A pool of these nodes, probed by HTTP every 5 ms.
fn probed(nodes: &[SocketAddr]) -> PoolSettings {
    let mut settings = settings(&[]);
    settings.nodes = nodes.iter().map(|address| node(NodeAddress::Ip(*address))).collect();
    settings.health.check = Check::Http(HttpCheck::get("/"));
    settings.health.interval = Duration::from_millis(5);
    settings.health.timeout = 10 * SECOND;
    settings.queue_timeout = 10 * SECOND;
    settings
}

/// Runs the tasks of `pools` until the sender turns true or is dropped.
fn start(pools: &Arc<Pools>) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    (stop, tokio::spawn(Arc::clone(pools).run(stopped)))
}

/// Polls until the states of the pool `web` read so.
async fn until_states(pools: &Pools, expected: &[NodeState]) {
    let states =
        || -> Vec<_> { pools.get("web").unwrap().status().nodes.iter().map(|node| node.state).collect() };
    for _ in 0..20_000 {
        if states() == expected {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("states are {:?}, not {expected:?}", states());
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_probe() {
    let web = WebNode::start().await;
    let pools = Pools::new(vec![probed(&[nobody().await, web.address])]);
    assert!(!pools.ready());
    let pool = pools.get("web").unwrap();
    let waiting = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire(&ANY).await.unwrap().node().to_string() }
    });
    let _running = start(&pools);
    assert_eq!(waiting.await.unwrap(), web.address.to_string());
    until_states(&pools, &[NodeState::Down, NodeState::Up]).await;
    assert!(pools.ready());
    let status = pool.status();
    assert_eq!(status.nodes[0].reason, "connection refused");
    assert!(status.nodes[1].probe_time.is_some());
}

#[tokio::test]
async fn a_dead_node_that_joins_gets_no_request() {
    let web = WebNode::start().await;
    let pools = Pools::new(vec![probed(&[web.address])]);
    let _running = start(&pools);
    until_states(&pools, &[NodeState::Up]).await;
    pools.replace(vec![probed(&[nobody().await, web.address])]);
    let pool = pools.get("web").unwrap();
    loop {
        assert_eq!(pool.acquire(&ANY).await.unwrap().node().to_string(), web.address.to_string());
        if pool.status().nodes[0].state == NodeState::Down {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.status().nodes[0].requests, 0);
}

#[tokio::test]
async fn nodes_go_down_and_come_back() {
    let web = WebNode::start().await;
    let mut settings = probed(&[web.address]);
    settings.health.fall = 3;
    settings.health.rise = 2;
    let pools = Pools::new(vec![settings]);
    let (stop, task) = start(&pools);
    until_states(&pools, &[NodeState::Up]).await;
    web.status.store(503, Ordering::SeqCst);
    until_states(&pools, &[NodeState::Down]).await;
    let status = pools.status().remove(0).nodes.remove(0);
    assert!(status.probes_failed >= 3 && status.reason == "status 503", "{status:?}");
    assert!(pools.get("web").unwrap().acquire(&ANY).await.is_ok(), "all down: better than nothing");
    web.status.store(200, Ordering::SeqCst);
    until_states(&pools, &[NodeState::Up]).await;
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn probing_may_be_turned_off_and_on() {
    let dead = nobody().await;
    let pools = Pools::new(vec![probed(&[dead])]);
    let _running = start(&pools);
    until_states(&pools, &[NodeState::Down]).await;
    let mut off = probed(&[dead]);
    off.health.interval = Duration::ZERO;
    pools.replace(vec![off]);
    until_states(&pools, &[NodeState::Up]).await;
    pools.replace(vec![probed(&[dead])]);
    until_states(&pools, &[NodeState::Down]).await;
}

#[tokio::test]
async fn configuration_changes_hurry_no_probe_and_end_the_tasks_of_nodes_that_go() {
    let (stays, goes) = (WebNode::start().await, WebNode::start().await);
    let settings = |nodes: &[SocketAddr], length| {
        let mut settings = probed(nodes);
        settings.health.interval = Duration::from_secs(3600);
        settings.queue_length = length;
        settings
    };
    let pools = Pools::new(vec![settings(&[stays.address, goes.address], 1)]);
    let (_stop, _task) = start(&pools);
    until_states(&pools, &[NodeState::Up, NodeState::Up]).await;
    let pool = pools.get("web").unwrap();
    let gone = Arc::downgrade(&pool.node(&goes.address.to_string()).unwrap());
    for length in 2..100 {
        pools.replace(vec![settings(&[stays.address], length)]);
        tokio::task::yield_now().await;
    }
    // Whoever still holds the node would be its task.
    for _ in 0..20_000 {
        if gone.upgrade().is_none() {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(gone.upgrade().is_none(), "the task of a node that left goes on");
    assert_eq!(pool.status().nodes[0].probes_ok, 1);
    assert!(Arc::ptr_eq(&pool, &pools.get("web").unwrap()));
    pools.replace(Vec::new());
    assert!(pools.get("web").is_none() && pools.ready() && pools.status().is_empty());
}

/// Answers as told.
#[derive(Default)]
struct Book(Mutex<HashMap<String, Result<Answer, String>>>);

impl Book {
    fn says(&self, host: &str, answer: Result<(u8, u32), &str>) {
        let answer = answer
            .map(|(last, ttl)| Answer { addresses: vec![IpAddr::from([10, 0, 0, last])], ttl: ttl * SECOND })
            .map_err(str::to_owned);
        self.0.lock().insert(host.to_owned(), answer);
    }
}

#[async_trait]
impl Lookup for Book {
    async fn lookup(&self, host: &str) -> Result<Answer, String> {
        self.0.lock().get(host).cloned().unwrap_or(Err("no such name".to_owned()))
    }
}

/// A pool of one named node that is not probed; a name is asked for again after 5 to 60 seconds.
fn named(host: &str) -> PoolSettings {
    let mut settings = settings(&[]);
    settings.nodes = vec![node(NodeAddress::Name { host: host.to_owned(), port: 80 })];
    settings.dns_min_ttl = 5 * SECOND;
    settings.dns_max_ttl = 60 * SECOND;
    settings.queue_timeout = SECOND;
    settings
}

fn resolved(pools: &Pools) -> Vec<String> {
    pools.status()[0].nodes[0].resolved.clone()
}

#[tokio::test(start_paused = true)]
async fn names_are_followed_and_the_last_good_answer_is_kept() {
    let book = Arc::new(Book::default());
    book.says("web-1", Ok((1, 30)));
    let pools = Pools::with_lookup(vec![named("web-1")], Arc::clone(&book) as Arc<dyn Lookup>);
    let _running = start(&pools);
    until_states(&pools, &[NodeState::Up]).await;
    assert_eq!(resolved(&pools), ["10.0.0.1:80"]);
    // Kept for the time of its TTL, then followed; a TTL of zero counts as the shortest allowed.
    book.says("web-1", Ok((2, 0)));
    sleep(29 * SECOND).await;
    assert_eq!(resolved(&pools), ["10.0.0.1:80"]);
    sleep(2 * SECOND).await;
    assert_eq!(resolved(&pools), ["10.0.0.2:80"]);
    book.says("web-1", Err("server failure"));
    sleep(100 * SECOND).await;
    assert_eq!(resolved(&pools), ["10.0.0.2:80"]);
    assert_eq!(pools.status()[0].nodes[0].state, NodeState::Up);
    book.says("web-1", Ok((3, 3600)));
    sleep(61 * SECOND).await;
    assert_eq!(resolved(&pools), ["10.0.0.3:80"]);
    // A long TTL counts as the longest allowed.
    book.says("web-1", Ok((4, 3600)));
    sleep(61 * SECOND).await;
    assert_eq!(resolved(&pools), ["10.0.0.4:80"]);
    let lease = pools.get("web").unwrap().acquire(&ANY).await.unwrap();
    assert_eq!(lease.peer(Behalf::Own).unwrap()._address.to_string(), "10.0.0.4:80");
}

#[tokio::test(start_paused = true)]
async fn a_name_never_resolved_is_a_node_that_is_down() {
    let book = Arc::new(Book::default());
    let pools = Pools::with_lookup(vec![named("web-2")], Arc::clone(&book) as Arc<dyn Lookup>);
    let _running = start(&pools);
    let pool = pools.get("web").unwrap();
    assert_eq!(pool.acquire(&ANY).await.unwrap_err(), Unavailable::NoNode);
    let status = pool.status().nodes.remove(0);
    assert_eq!((status.state, status.reason.as_str()), (NodeState::Down, "name not resolved: no such name"));
    book.says("web-2", Ok((1, 30)));
    until_states(&pools, &[NodeState::Up]).await;
    assert!(pool.acquire(&ANY).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_called_when_an_ejection_ends() {
    let mut settings = settings(&[1, 2]);
    settings.nodes.iter_mut().for_each(|node| node.max_connections = Some(1));
    settings.queue_timeout = 60 * SECOND;
    let pools = Pools::new(vec![settings]);
    let _running = start(&pools);
    let pool = pools.get("web").unwrap();
    let bad = pool.node(&ip(1).to_string()).unwrap();
    (0..3).for_each(|_| pool.fail(&bad, "test"));
    let _kept = pool.acquire(&ANY).await.unwrap();
    let begin = Instant::now();
    let second = pool.acquire(&ANY).await.unwrap();
    assert_eq!(second.node().id(), bad.id());
    assert_eq!(begin.elapsed().as_secs(), 10, "paused time: the ejection's own length");
}

#[tokio::test]
async fn one_good_probe_is_enough_once_a_name_is_resolved() {
    let web = WebNode::start().await;
    let book = Arc::new(Book::default());
    let mut settings = probed(&[]);
    settings.nodes = vec![node(NodeAddress::Name { host: "web-3".to_owned(), port: web.address.port() })];
    settings.health.interval = Duration::from_secs(3600);
    settings.health.rise = 2;
    let pools = Pools::with_lookup(vec![settings], Arc::clone(&book) as Arc<dyn Lookup>);
    let _running = start(&pools);
    until_states(&pools, &[NodeState::Down]).await;
    let answer = Answer { addresses: vec![web.address.ip()], ttl: SECOND };
    book.0.lock().insert("web-3".to_owned(), Ok(answer));
    until_states(&pools, &[NodeState::Up]).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_taken_when_one_refuses() {
    let book = Arc::new(Book::default());
    let addresses = (1..=2).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    book.0.lock().insert("web-4".to_owned(), Ok(Answer { addresses, ttl: SECOND }));
    let pools = Pools::with_lookup(vec![named("web-4")], book);
    let _running = start(&pools);
    until_states(&pools, &[NodeState::Up]).await;
    let pool = pools.get("web").unwrap();
    for _ in 0..4 {
        let lease = pool.acquire(&ANY).await.unwrap();
        let address = lease.peer(Behalf::Own).unwrap()._address.to_string();
        assert_eq!(address, lease.peer(Behalf::Own).unwrap()._address.to_string(), "one lease, one address");
        if address == "10.0.0.1:80" {
            lease.report(Outcome::ConnectFailed);
        }
    }
    for _ in 0..4 {
        let lease = pool.acquire(&ANY).await.unwrap();
        assert_eq!(lease.peer(Behalf::Own).unwrap()._address.to_string(), "10.0.0.2:80");
    }
}
