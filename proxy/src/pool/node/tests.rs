//! Tests of one node: its states, its slow start, its places.

use super::super::test::{ip, settings};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn probed(late: bool) -> (Node, Instant) {
    let mut settings = settings(&[1]);
    settings.health.interval = SECOND;
    settings.health.fall = 2;
    settings.health.rise = 2;
    settings.slow_start = 10 * SECOND;
    let now = Instant::now();
    (Node::new(ip(1), Arc::new(settings), late, now), now)
}

#[test]
fn a_probed_node_is_unknown_until_its_first_probe() {
    let (node, now) = probed(false);
    assert_eq!(node.state(now), NodeState::Unknown);
    assert!(node.record_probe(Ok(SECOND), now));
    assert_eq!((node.state(now), node.ramp_percent(now)), (NodeState::Up, 100));
}

#[test]
fn a_node_that_comes_back_starts_slowly() {
    let (node, now) = probed(false);
    node.record_probe(Err("status 500".to_owned()), now);
    assert_eq!((node.state(now), node.reason().as_str()), (NodeState::Down, "status 500"));
    node.record_probe(Ok(SECOND), now);
    assert_eq!(node.state(now), NodeState::Down);
    node.record_probe(Ok(SECOND), now);
    assert_eq!((node.state(now), node.reason().as_str()), (NodeState::SlowStart, ""));
    for (seconds, percent) in [(0, 10), (1, 19), (5, 55), (10, 100), (99, 100)] {
        assert_eq!(node.ramp_percent(now + seconds * SECOND), percent, "after {seconds} s");
    }
    assert_eq!(node.state(now + 10 * SECOND), NodeState::Up);
}

#[test]
fn a_node_that_joins_a_serving_pool_starts_slowly() {
    let (node, now) = probed(true);
    node.record_probe(Ok(SECOND), now);
    assert_eq!(node.state(now), NodeState::SlowStart);
}

#[test]
fn without_probes_a_node_is_up_from_birth_and_a_late_one_starts_slowly() {
    let mut settings = settings(&[1]);
    settings.slow_start = 10 * SECOND;
    let (settings, now) = (Arc::new(settings), Instant::now());
    for (late, at_first) in [(false, NodeState::Up), (true, NodeState::SlowStart)] {
        let node = Node::new(ip(1), Arc::clone(&settings), late, now);
        assert_eq!(node.state(now), at_first);
        assert_eq!(node.state(now + 10 * SECOND), NodeState::Up);
    }
}

#[test]
fn the_reason_is_the_one_seen_last() {
    let (node, now) = probed(false);
    for reason in ["connection refused", "status 503"] {
        node.record_probe(Err(reason.to_owned()), now);
        assert_eq!(node.reason(), reason);
    }
}

#[test]
fn an_ejection_ends_by_time_and_slowly_whatever_probes_say() {
    let (node, start) = probed(false);
    node.record_probe(Ok(SECOND), start);
    let now = start + SECOND;
    let ejected = (0..9).any(|_| node.fail("status 500", true, now));
    assert!(ejected);
    assert_eq!(node.state(now), NodeState::Ejected);
    node.record_probe(Ok(SECOND), now);
    assert_eq!(node.state(now), NodeState::Ejected);
    let until = node.ejected_until(now).unwrap_or(now);
    assert!(!node.settle(until - Duration::from_millis(1)));
    assert!(node.settle(until) && !node.settle(until));
    assert_eq!((node.state(until), node.ramp_percent(until)), (NodeState::SlowStart, 10));
    assert_eq!(node.reason(), "");
}

#[test]
fn an_ejection_is_over_when_probes_have_seen_the_node_go_and_come_back() {
    let (node, start) = probed(false);
    node.record_probe(Ok(SECOND), start);
    let ejected = (0..9).any(|_| node.fail("no connection", true, start));
    assert!(ejected);
    for probe in [false, false, true, true] {
        assert_ne!(node.state(start), NodeState::SlowStart);
        node.record_probe(if probe { Ok(SECOND) } else { Err("connection refused".to_owned()) }, start);
    }
    assert_eq!((node.state(start), node.ejected_until(start)), (NodeState::SlowStart, None));
    // The next one lasts longer all the same.
    let again = (0..9).any(|_| node.fail("no connection", true, start + SECOND));
    assert!(again && node.ejected_until(start + 12 * SECOND).is_some());
}

#[test]
fn places_are_limited() {
    let (node, _) = probed(false);
    assert!(node.enter(Some(2)) && node.enter(Some(2)) && !node.enter(Some(2)));
    node.leave();
    assert!(node.enter(Some(2)) && node.enter(None));
    assert_eq!(node.in_flight(), 3);
}
