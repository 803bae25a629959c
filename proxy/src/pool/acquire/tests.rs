//! Tests of a pool as its callers see it: places, waiting, ejection, changes of the configuration.
#![allow(clippy::unwrap_used)]
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Wake, Waker};

use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::super::lease::Outcome;
use super::super::settings::{Balance, NodeSettings};
use super::super::test::{ip, node, settings};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn want(tried: &[NodeId]) -> Want<'_> {
    Want { hash: None, tried, idempotent: true }
}

/// A pool of nodes that are up, the nodes changed by `change`.
fn pool(nodes: &[u8], change: impl FnOnce(&mut PoolSettings)) -> Arc<Pool> {
    let mut settings = settings(nodes);
    change(&mut settings);
    Arc::new(Pool::new(settings, Instant::now()))
}

fn limit(settings: &mut PoolSettings, places: u32) {
    settings.nodes.iter_mut().for_each(|node| node.max_connections = Some(places));
}

/// The last parts of the addresses of the next `count` nodes.
fn next(pool: &Arc<Pool>, count: usize, want: &Want<'_>) -> Vec<u8> {
    (0..count).filter_map(|_| pool.try_acquire(want).ok().map(|lease| last(&lease))).collect()
}

fn last(lease: &Lease) -> u8 {
    (1..=9).find(|last| lease.node().address() == &ip(*last)).unwrap()
}

/// Lets `count` requests fail at the node whose address ends in `last`.
fn break_node(pool: &Arc<Pool>, last: u8, count: usize) {
    let node = pool.node(&ip(last).to_string()).unwrap();
    (0..count).for_each(|_| pool.fail(&node, "test"));
}

#[tokio::test(start_paused = true)]
async fn nodes_take_turns_and_tried_ones_are_avoided() {
    let pool = pool(&[1, 2, 3], |_| {});
    assert_eq!(next(&pool, 6, &want(&[])), [1, 2, 3, 1, 2, 3]);
    let tried = [NodeId::of(&ip(1)), NodeId::of(&ip(3))];
    assert_eq!(next(&pool, 2, &want(&tried)), [2, 2]);
    let all = [tried[0], tried[1], NodeId::of(&ip(2))];
    assert_eq!(next(&pool, 3, &want(&all)).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn backups_serve_only_when_no_primary_can() {
    let pool = pool(&[1, 2], |settings| settings.nodes[1].backup = true);
    assert_eq!(next(&pool, 3, &want(&[])), [1, 1, 1]);
    pool.set_admin_state(&ip(1).to_string(), AdminState::Drain);
    assert_eq!(next(&pool, 2, &want(&[])), [2, 2]);
    pool.set_admin_state(&ip(2).to_string(), AdminState::Disabled);
    assert_eq!(next(&pool, 2, &want(&[])), [1, 1], "drained is better than nothing");
    assert!(pool.any_up());
    pool.set_admin_state(&ip(1).to_string(), AdminState::Disabled);
    assert_eq!(pool.try_acquire(&want(&[])).unwrap_err(), Unavailable::NoNode);
    assert!(!pool.any_up());
}

#[tokio::test(start_paused = true)]
async fn a_pin_holds_while_its_node_is_up() {
    let pool = pool(&[1, 2], |settings| limit(settings, 1));
    let pin = NodeId::of(&ip(1));
    pool.set_admin_state(&ip(1).to_string(), AdminState::Drain);
    let lease = pool.acquire_at(Some(pin), &want(&[])).await.unwrap();
    assert_eq!(last(&lease), 1, "a drained node keeps its sessions");
    assert_eq!(pool.acquire_at(Some(pin), &want(&[])).await.unwrap_err(), Unavailable::QueueTimeout);
    drop(lease);
    assert_eq!(last(&pool.acquire_at(Some(pin), &want(&[pin])).await.unwrap()), 2);
    pool.set_admin_state(&ip(1).to_string(), AdminState::Disabled);
    assert_eq!(last(&pool.acquire_at(Some(pin), &want(&[])).await.unwrap()), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_eject_but_never_too_many() {
    let pool = pool(&[1, 2], |_| {});
    break_node(&pool, 1, 3);
    assert_eq!(next(&pool, 4, &want(&[])), [2, 2, 2, 2]);
    break_node(&pool, 2, 30);
    assert_eq!(next(&pool, 4, &want(&[])), [2, 2, 2, 2], "the last one stays");
    assert_eq!(pool.status().nodes[0].state, NodeState::Ejected);
    advance(10 * SECOND).await;
    assert_eq!(next(&pool, 4, &want(&[])).len(), 4);
    assert_eq!(pool.status().nodes[0].state, NodeState::Up);
    assert_eq!(pool.status().nodes[0].ejections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_back_from_ejection_takes_a_growing_share() {
    let pool = pool(&[1, 2], |settings| settings.slow_start = 10 * SECOND);
    break_node(&pool, 1, 3);
    let mut shares = Vec::new();
    for _ in 0..4 {
        // Ejection ends after 10 s, the ramp 10 s later.
        advance(5 * SECOND).await;
        shares.push(next(&pool, 110, &want(&[])).into_iter().filter(|last| *last == 1).count());
    }
    assert_eq!(shares[0], 0, "{shares:?}");
    assert_eq!(shares[1], 10, "{shares:?}");
    assert!((38..=40).contains(&shares[2]), "{shares:?}");
    assert!((54..=56).contains(&shares[3]), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_are_counted_by_kind() {
    let pool = pool(&[1], |_| {});
    let lease = pool.try_acquire(&want(&[])).unwrap();
    let answered = |status| Outcome::Answered { status, first_byte: SECOND };
    for outcome in [answered(200), answered(404), answered(503), Outcome::ConnectFailed, Outcome::TimedOut] {
        lease.report(outcome);
    }
    lease.report(Outcome::Broken);
    let status = pool.status().nodes.remove(0);
    assert_eq!((status.requests, status.in_flight, status.answers), (1, 1, 3));
    assert_eq!(status.answer_time, 3 * SECOND);
    let failures = status.failures;
    assert_eq!((failures.connect, failures.timeout, failures.broken, failures.status), (1, 1, 1, 1));
    assert_eq!(lease.node().failures_in_row(), 4);
    lease.report(answered(200));
    assert_eq!(lease.node().failures_in_row(), 0);
    drop(lease);
    assert_eq!(pool.status().nodes[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_repeated_goes_to_a_sound_node() {
    let pool = pool(&[1, 2], |_| {});
    break_node(&pool, 1, 1);
    let once = Want { idempotent: false, ..want(&[]) };
    assert_eq!(next(&pool, 3, &once), [2, 2, 2]);
    break_node(&pool, 2, 1);
    assert_eq!(next(&pool, 4, &once).iter().filter(|last| **last == 1).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_length_and_time() {
    let pool = pool(&[1], |settings| {
        limit(settings, 1);
        settings.queue_length = 1;
    });
    let lease = pool.acquire(&want(&[])).await.unwrap();
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire(&want(&[])).await.map(|lease| last(&lease)) }
    });
    tokio::task::yield_now().await;
    assert_eq!(pool.status().queued, 1);
    assert_eq!(pool.acquire(&want(&[])).await.unwrap_err(), Unavailable::QueueFull);
    assert_eq!(pool.try_acquire(&want(&[])).unwrap_err(), Unavailable::QueueFull);
    assert_eq!(waiter.await.unwrap().unwrap_err(), Unavailable::QueueTimeout);
    let status = pool.status();
    assert_eq!((status.queued, status.queue_full, status.queue_timeouts), (0, 2, 1));
    drop(lease);
    assert!(pool.acquire(&want(&[])).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn places_are_given_first_come_first_served() {
    let pool = pool(&[1], |settings| limit(settings, 1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let lease = pool.acquire(&want(&[])).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
        tasks.spawn(async move {
            let _lease = pool.acquire(&want(&[])).await.unwrap();
            order.lock().push(number);
            sleep(Duration::from_millis(1)).await;
        });
        tokio::task::yield_now().await;
    }
    drop(lease);
    tasks.join_all().await;
    assert_eq!(*order.lock(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_for_another_node_does_not_block_the_line() {
    let pool = pool(&[1, 2], |settings| limit(settings, 1));
    let (first, second) = (pool.acquire(&want(&[])).await.unwrap(), pool.acquire(&want(&[])).await.unwrap());
    let picky = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire(&want(&[NodeId::of(&ip(1))])).await.map(|lease| last(&lease)) }
    });
    tokio::task::yield_now().await;
    let easy = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire(&want(&[])).await.map(|lease| last(&lease)) }
    });
    tokio::task::yield_now().await;
    drop(first);
    assert_eq!(easy.await.unwrap(), Ok(1));
    drop(second);
    assert_eq!(picky.await.unwrap(), Ok(2));
}

/// Many tasks on several threads share few places; some give up while waiting. Every place is found free again, the
/// limit never broken, and nobody who keeps waiting is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_among_many_tasks() {
    let pool = pool(&[1, 2], |settings| {
        limit(settings, 2);
        settings.queue_length = 10_000;
        // Long enough that only a lost wake-up reaches it.
        settings.queue_timeout = 60 * SECOND;
        settings.balance = Balance::LeastRequests;
    });
    let (served, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for number in 0..400usize {
        let (pool, served, busy) = (Arc::clone(&pool), Arc::clone(&served), Arc::clone(&busy));
        tasks.spawn(async move {
            let tried = [NodeId::of(&ip(1 + u8::from(number % 2 == 1)))];
            for turn in 0..25 {
                let want = want(if turn % 5 == 0 { &tried } else { &[] });
                if (turn + number) % 7 == 0 {
                    // Gives up at a random point of its wait.
                    let patience = Duration::from_micros(fastrand::u64(0..300));
                    let _ = tokio::time::timeout(patience, pool.acquire(&want)).await;
                    continue;
                }
                let lease = pool.acquire(&want).await.unwrap();
                assert!(busy.fetch_add(1, Ordering::SeqCst) < 4, "more requests than places");
                tokio::task::yield_now().await;
                busy.fetch_sub(1, Ordering::SeqCst);
                drop(lease);
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    tasks.join_all().await;
    assert!(served.load(Ordering::SeqCst) > 8_000);
    let status = pool.status();
    assert_eq!((status.queued, status.queue_timeouts, status.queue_full), (0, 0, 0));
    assert!(status.nodes.iter().all(|node| node.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_change_keeps_what_is_known() {
    let pool = pool(&[1, 2], |_| {});
    break_node(&pool, 1, 3);
    pool.set_admin_state(&ip(2).to_string(), AdminState::Drain);
    let lease = pool.acquire(&want(&[])).await.unwrap();
    let mut changed = settings(&[3, 2, 1]);
    changed.queue_length = 7;
    pool.replace(changed, Instant::now());
    let states: Vec<_> = pool.status().nodes.iter().map(|node| (node.state, node.in_flight)).collect();
    assert_eq!(states, [(NodeState::Up, 0), (NodeState::Draining, 1), (NodeState::Ejected, 0)]);
    drop(lease);
    assert_eq!(pool.status().nodes[1].in_flight, 0);
    assert_eq!(pool.status().nodes[1].requests, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_new_nodes() {
    let pool = pool(&[1], |settings| limit(settings, 1));
    let _lease = pool.acquire(&want(&[])).await.unwrap();
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire(&want(&[])).await.map(|lease| last(&lease)) }
    });
    tokio::task::yield_now().await;
    let mut changed = settings(&[1, 2]);
    limit(&mut changed, 1);
    pool.replace(changed, Instant::now());
    assert_eq!(waiter.await.unwrap(), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn unknown_nodes_are_waited_for_and_down_ones_taken_if_all_are() {
    let probed = |settings: &mut PoolSettings| {
        settings.health.interval = SECOND;
        settings.queue_length = 0;
    };
    let pool = pool(&[1, 2], probed);
    assert_eq!(pool.acquire(&want(&[])).await.unwrap_err(), Unavailable::NoNode);
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.acquire(&want(&[])).await.map(|lease| last(&lease)) })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(pool.status().queued, 3, "the first probes are waited for whatever the queue's length");
    let nodes = pool.nodes();
    nodes[0].record_probe(Err("status 500".to_owned()), Instant::now());
    pool.nodes_changed();
    tokio::task::yield_now().await;
    assert_eq!(pool.status().queued, 3, "the other may yet be up");
    assert!(!pool.is_ready());
    nodes[1].record_probe(Ok(SECOND), Instant::now());
    pool.nodes_changed();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Ok(2));
    }
    assert!(pool.is_ready());
    for _ in 0..3 {
        nodes[1].record_probe(Err("refused".to_owned()), Instant::now());
    }
    assert!(!pool.any_up() && !pool.is_ready());
    assert_eq!(next(&pool, 4, &want(&[])).len(), 4);
    assert_eq!(next(&pool, 2, &want(&[NodeId::of(&ip(1))])), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_hash_keeps_to_its_node_and_edges_agree() {
    let hashed = |settings: &mut PoolSettings| settings.balance = Balance::Hash { balance_factor: 0 };
    let (one, other) = (pool(&[1, 2, 3, 4], hashed), pool(&[4, 3, 2, 1], hashed));
    for hash in 0..200 {
        let want = Want { hash: Some(hash), ..want(&[]) };
        let node = one.try_acquire(&want).unwrap().node().id();
        assert_eq!(other.try_acquire(&want).unwrap().node().id(), node);
        assert_ne!(one.try_acquire(&Want { tried: &[node], ..want }).unwrap().node().id(), node);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_are_budgeted() {
    let pool = pool(&[1], |_| {});
    (0..50).for_each(|_| pool.note_request());
    let granted = (0..50).filter(|_| pool.may_retry()).count();
    assert_eq!(granted, 10);
    let status = pool.status();
    assert_eq!((status.retries, status.retries_refused), (10, 40));
}

#[tokio::test(start_paused = true)]
async fn a_node_listed_twice_counts_once() {
    let pool = pool(&[1], |settings| settings.nodes.push(NodeSettings { weight: 5, ..node(ip(1)) }));
    assert_eq!(pool.status().nodes.len(), 1);
    assert_eq!(pool.status().nodes[0].weight, 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_allowed_share_is_ejected() {
    for (percent, expected) in [(0, 0), (24, 0), (25, 1), (50, 2), (100, 3), (255, 3)] {
        let pool = pool(&[1, 2, 3, 4], |settings| settings.passive.max_ejected_percent = percent);
        (1..=4).for_each(|last| break_node(&pool, last, 9));
        let out = pool.status().nodes.iter().filter(|node| node.state == NodeState::Ejected).count();
        assert_eq!(out, expected, "{percent} % of four");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_a_waiter_that_is_called() {
    let pool = pool(&[1], |settings| limit(settings, 1));
    let lease = pool.acquire(&want(&[])).await.unwrap();
    let (any, later) = (want(&[]), want(&[]));
    let mut first = pin!(pool.acquire(&any));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    drop(lease);
    let mut second = pin!(pool.acquire(&later));
    assert!(second.as_mut().poll(&mut context).is_pending());
    assert_eq!(pool.try_acquire(&any).unwrap_err(), Unavailable::QueueFull);
    let lease = first.await.unwrap();
    assert!(second.as_mut().poll(&mut context).is_pending());
    drop(lease);
    assert!(second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_place_is_free_before_its_waiter_is_called() {
    struct Watcher(Arc<Node>, AtomicUsize);
    impl Wake for Watcher {
        fn wake(self: Arc<Self>) {
            self.1.store(1 + self.0.in_flight() as usize, Ordering::SeqCst);
        }
    }
    let pool = pool(&[1], |settings| limit(settings, 1));
    let lease = pool.acquire(&want(&[])).await.unwrap();
    let watcher = Arc::new(Watcher(Arc::clone(lease.node()), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&watcher));
    let any = want(&[]);
    let mut waiting = pin!(pool.acquire(&any));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(lease);
    assert_eq!(watcher.1.load(Ordering::SeqCst), 1, "one more than were in flight at the call");
}
