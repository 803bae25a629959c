use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::entry::EntryParts;
use crate::freshness::Lifetime;
use crate::key::{CacheKey, VariantKey};

/// An entry that weighs a little more than `bytes`, and is over after so many seconds.
fn entry(number: u64, bytes: usize, seconds: u64) -> Arc<Entry> {
    Arc::new(Entry::new(EntryParts {
        key: CacheKey::from_number(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: Bytes::new(),
        body: vec![0; bytes].into(),
        tags: Box::default(),
        stored: Moment::ZERO,
        lifetime: Lifetime { ttl: Duration::from_secs(seconds), ..Lifetime::default() },
    }))
}

/// Everything that has to go now.
fn evicted(room: &Room) -> Vec<Arc<Entry>> {
    let mut all = Vec::new();
    loop {
        let capacity = room.0.lock().capacity;
        let some = room.evict(capacity);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// Takes in so many entries of a size, from a number on; those that are still there.
fn fill(room: &Room, from: u64, count: u64, bytes: usize) -> Vec<Arc<Entry>> {
    let entries: Vec<_> = (from..from + count).map(|number| entry(number, bytes, 1000)).collect();
    for entry in &entries {
        room.admit(entry, || true);
        evicted(room);
    }
    entries.into_iter().filter(|entry| room.holds(entry)).collect()
}

fn bytes(room: &Room) -> u64 {
    room.0.lock().seats.bytes()
}

#[test]
fn it_fills_up_and_never_passes_its_capacity() {
    let room = Room::new(1 << 20);
    let kept = fill(&room, 0, 2000, 1000);
    assert!(bytes(&room) <= 1 << 20 && bytes(&room) > (1 << 20) - 2000, "{}", bytes(&room));
    assert_eq!(kept.iter().map(|entry| u64::from(entry.weight())).sum::<u64>(), bytes(&room));
}

#[test]
fn a_flood_of_strangers_displaces_nothing_that_is_used() {
    let room = Room::new(1 << 20);
    let known = fill(&room, 0, 500, 1000);
    for _ in 0..3 {
        known.iter().for_each(|entry| room.touch(entry));
    }
    fill(&room, 10_000, 3000, 1000);
    let left = known.iter().filter(|entry| room.holds(entry)).count();
    assert!(left * 100 >= known.len() * 97, "{left} of {}", known.len());
}

#[test]
fn who_is_asked_for_again_gets_in() {
    let room = Room::new(1 << 20);
    fill(&room, 0, 2000, 1000);
    let mut times = 0;
    // Each time it is fetched anew; the full window pushes it out to be judged.
    while !fill(&room, 50_000, 1, 1000).iter().any(|newcomer| {
        fill(&room, 60_000 + times * 20, 20, 1000);
        room.holds(newcomer)
    }) {
        times += 1;
        assert!(times < 5, "it was asked for five times, and the others once");
    }
}

#[test]
fn a_large_one_must_be_worth_all_those_that_go_for_it() {
    let room = Room::new(1 << 20);
    let small = fill(&room, 0, 2000, 1000);
    assert!(fill(&room, 90_000, 1, 300_000).is_empty(), "nobody knows it");
    assert!(small.iter().filter(|entry| room.holds(entry)).count() + 2 >= small.len());
    // In an empty room it would have been welcome.
    small.iter().for_each(|entry| room.forget(entry));
    assert_eq!(bytes(&room), 0);
    assert_eq!(fill(&room, 90_000, 1, 300_000).len(), 1);
}

#[test]
fn with_less_capacity_what_is_used_stays() {
    let room = Room::new(1 << 20);
    let entries = fill(&room, 0, 600, 1000);
    let used: Vec<_> = entries.iter().step_by(4).collect();
    used.iter().for_each(|entry| room.touch(entry));
    room.set_capacity(1 << 19);
    let gone = evicted(&room);
    assert!(!gone.is_empty() && bytes(&room) <= 1 << 19);
    assert!(used.iter().all(|entry| room.holds(entry)));
    room.set_capacity(0);
    evicted(&room);
    assert_eq!(bytes(&room), 0);
}

#[test]
fn what_left_the_index_meanwhile_is_not_taken_in() {
    let room = Room::new(1 << 20);
    let entry = entry(1, 100, 1000);
    room.admit(&entry, || false);
    assert!(!room.holds(&entry));
    room.forget(&entry);
    room.admit(&entry, || true);
    room.admit(&entry, || true);
    assert_eq!(bytes(&room), u64::from(entry.weight()));
    room.forget(&entry);
    room.forget(&entry);
    assert_eq!(bytes(&room), 0);
}

#[test]
fn what_is_over_is_found_in_a_few_rounds() {
    let room = Room::new(1 << 30);
    let entries: Vec<_> = (0..5000).map(|number| entry(number, 10, 100 + number % 2 * 100)).collect();
    entries.iter().for_each(|entry| room.admit(entry, || true));
    let found = |seconds: u64| {
        let rounds = (0..4).map(|_| room.over(Moment::from_millis(seconds * 1000), 4).len());
        rounds.sum::<usize>()
    };
    assert_eq!((found(99), found(100), found(199), found(200)), (0, 2500, 0, 2500));
    assert_eq!(bytes(&room), 0);
}
