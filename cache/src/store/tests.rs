#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::*;
use crate::entry::EntryParts;
use crate::freshness::Lifetime;
use crate::key::{Scheme, VariantKey};

const NOW: Moment = Moment::from_millis(10_000);
const KEY: CacheKey = CacheKey::from_number(7 << 100 | 7);

fn store() -> Store {
    store_of(16 << 20)
}

fn store_of(memory_bytes: u64) -> Store {
    Store::new(Settings { memory_bytes, max_variants: 3, max_marks: 256 }, KeySecret::new([1; 16]))
}

fn later(seconds: u64) -> Moment {
    NOW.saturating_add(Duration::from_secs(seconds))
}

/// A key as real ones are; the policy relies on their being random.
fn page(store: &Store, host: &str, number: u64) -> CacheKey {
    store.secret().key(Scheme::Http, host.as_bytes(), number.to_string().as_bytes())
}

fn tags(text: &str) -> Box<[Tag]> {
    text.split_whitespace().map(|tag| Tag::new(tag.as_bytes()).unwrap()).collect()
}

/// Fresh for 60 s, then 30 s grace, then 10 s keep.
fn parts(key: CacheKey, text: &str, body: &str) -> EntryParts {
    EntryParts {
        key,
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: Bytes::copy_from_slice(body.as_bytes()),
        tags: tags(text),
        stored: NOW,
        lifetime: Lifetime {
            ttl: Duration::from_secs(60),
            initial_age: Duration::ZERO,
            grace: Duration::from_secs(30),
            keep: Duration::from_secs(10),
            ..Lifetime::default()
        },
    }
}

fn put(store: &Store, key: CacheKey, text: &str, body: &str) {
    let entry = Entry::new(parts(key, text, body)).with_recoding(Recoding::Encode, false);
    let committed = store.commit(&store.begin_fill(), entry, None, NOW);
    assert!(matches!(committed, Commit::Stored(_)), "{committed:?}");
}

fn language(language: &str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("accept-language"), language.parse().unwrap())])
}

fn vary(names: &'static str) -> VarySpec {
    VarySpec::from_names([HeaderName::from_static(names)]).unwrap()
}

fn put_variant(store: &Store, key: CacheKey, request: &HeaderMap, body: &str) {
    let vary = vary("accept-language");
    let variant = vary.variant(store.secret(), request);
    let entry = Entry::new(EntryParts { variant, ..parts(key, "v", body) });
    assert!(matches!(store.commit(&store.begin_fill(), entry, Some(vary), NOW), Commit::Stored(_)));
}

/// What a look-up returns, in a word.
fn look(store: &Store, key: CacheKey, request: &HeaderMap, now: Moment) -> String {
    let (word, entry) = match store.lookup(key, request, now) {
        Lookup::Fresh(entry) => ("fresh", entry),
        Lookup::Grace(entry) => ("grace", entry),
        Lookup::Stale(entry) => ("stale", entry),
        Lookup::Uncacheable => return "uncacheable".into(),
        Lookup::Missing => return "missing".into(),
    };
    format!("{word} {}", std::str::from_utf8(entry.body()).unwrap())
}

#[track_caller]
fn check(store: &Store, now: Moment, expected: &str) {
    assert_eq!(look(store, KEY, &HeaderMap::new(), now), expected);
}

#[test]
fn an_entry_goes_through_its_life() {
    let store = store();
    check(&store, NOW, "missing");
    put(&store, KEY, "", "a");
    check(&store, later(59), "fresh a");
    check(&store, later(60), "grace a");
    check(&store, later(90), "stale a");
    check(&store, later(100), "missing");
    let stats = store.stats();
    assert_eq!((stats.entries, stats.bytes, stats.expired), (0, 0, 1));
}

#[test]
fn a_peek_leaves_no_trace() {
    let store = store();
    put(&store, KEY, "", "a");
    for _ in 0..2 {
        let peek = store.peek(KEY, &HeaderMap::new(), later(100));
        assert!(matches!(peek.lookup, Lookup::Missing), "{peek:?}");
        assert_eq!((peek.known, peek.dead.is_some()), (Known::Nothing, true));
        assert_eq!(store.stats().entries, 1);
    }
    let dead = store.peek(KEY, &HeaderMap::new(), later(100)).dead.unwrap();
    store.discard(&dead);
    store.discard(&dead);
    let stats = store.stats();
    assert_eq!((stats.entries, stats.expired), (0, 1));
}

#[test]
fn what_is_known_of_a_url_tells_a_miss_of_the_url_from_one_of_the_variant() {
    let store = store();
    let known = |request: &HeaderMap, now| store.peek(KEY, request, now).known;
    assert_eq!(known(&language("a"), NOW), Known::Nothing);
    put_variant(&store, KEY, &language("a"), "a");
    assert_eq!(known(&language("a"), NOW), Known::ThisVariant);
    assert_eq!(known(&language("b"), NOW), Known::OtherVariants);
    assert_eq!(known(&language("a"), later(95)), Known::ThisVariant, "stale");
    store.mark_uncacheable(KEY, later(200));
    assert_eq!(known(&language("a"), later(95)), Known::ThisVariant, "hidden by the mark");
    assert_eq!(store.uncacheable_until(KEY, later(95)), Some(later(200)));
    assert_eq!(store.uncacheable_until(KEY, later(200)), None);
    assert_eq!(known(&language("a"), later(100)), Known::Nothing, "dead is as good as gone");
}

#[test]
fn a_refresh_takes_the_place_of_the_old_entry() {
    let store = store();
    put(&store, KEY, "t u", "a");
    put(&store, KEY, "t w", "b");
    check(&store, NOW, "fresh b");
    let stats = store.stats();
    assert_eq!((stats.entries, stats.tags), (1, 2));
    assert_eq!(store.tagged(&tags("t")[0], 9).len(), 1);
    assert_eq!(store.count_tagged(&tags("u")[0]), 0);
}

#[test]
fn a_hard_purge_removes_and_counts_each_entry_once() {
    let store = store();
    let other = CacheKey::from_number(8);
    put(&store, KEY, "t u", "a");
    put(&store, other, "u w", "b");
    assert_eq!(store.purge_tags(&tags("x"), PurgeMode::Hard, NOW), PurgeCount::default());
    let count = store.purge_tags(&tags("t u t"), PurgeMode::Hard, NOW);
    assert_eq!(count, PurgeCount { purged: 2, softened: 0 });
    check(&store, NOW, "missing");
    assert_eq!(store.stats(), StoreStats { stored: 2, ..StoreStats::default() });
    put(&store, KEY, "t", "c");
    assert_eq!(store.purge_key(KEY, PurgeMode::Hard, NOW).purged, 1);
    put(&store, KEY, "t", "d");
    assert_eq!(store.purge_all(PurgeMode::Hard, NOW).purged, 1);
    check(&store, NOW, "missing");
    assert_eq!(store.stats(), StoreStats { stored: 4, ..StoreStats::default() });
}

#[test]
fn a_soft_purge_leaves_grace_and_counts_what_was_fresh() {
    for by in ["key", "tag", "all"] {
        let store = store();
        put(&store, KEY, "t", "a");
        let purge = |now| match by {
            "key" => store.purge_key(KEY, PurgeMode::Soft, now),
            "tag" => store.purge_tags(&tags("t"), PurgeMode::Soft, now),
            _ => store.purge_all(PurgeMode::Soft, now),
        };
        assert_eq!(purge(later(1)), PurgeCount { purged: 0, softened: 1 }, "{by}");
        assert_eq!(purge(later(2)), PurgeCount::default(), "{by}");
        check(&store, later(30), "grace a");
        check(&store, later(31), "stale a");
        assert_eq!(store.tagged(&tags("t")[0], 9).len(), 1, "{by}");
    }
}

#[test]
fn a_purge_counts_nothing_that_was_dead() {
    let store = store();
    put(&store, KEY, "t", "a");
    assert_eq!(store.purge_tags(&tags("t"), PurgeMode::Hard, later(100)), PurgeCount::default());
    put(&store, KEY, "t", "a");
    assert_eq!(store.purge_key(KEY, PurgeMode::Hard, later(100)), PurgeCount::default());
}

#[test]
fn a_fill_that_was_purged_under_way_is_not_stored() {
    type Purge = fn(&Store, PurgeMode) -> PurgeCount;
    let purges: [(&str, Purge); 3] = [
        ("key", |store, mode| store.purge_key(KEY, mode, NOW)),
        ("tag", |store, mode| store.purge_tags(&tags("x t"), mode, NOW)),
        ("all", |store, mode| store.purge_all(mode, NOW)),
    ];
    for (name, purge) in purges {
        let store = store();
        let stamp = store.begin_fill();
        assert_eq!(purge(&store, PurgeMode::Hard), PurgeCount::default());
        assert_eq!(store.named_since(&stamp, KEY, &tags("t")), Some(store.generation()), "{name}");
        let refused = store.commit(&stamp, Entry::new(parts(KEY, "s t", "old")), None, NOW);
        assert!(matches!(refused, Commit::Refused), "{name}: {refused:?}");
        check(&store, NOW, "missing");
        assert_eq!(store.stats(), StoreStats { refused_by_purge: 1, ..StoreStats::default() }, "{name}");
        // The next one begins after the purge.
        put(&store, KEY, "s t", "new");
        check(&store, NOW, "fresh new");

        let stamp = store.begin_fill();
        assert_eq!(purge(&store, PurgeMode::Soft).softened, 1, "{name}");
        let soft = store.commit(&stamp, Entry::new(parts(KEY, "s t", "late")), None, NOW);
        assert!(matches!(soft, Commit::StoredSoft(_)), "{name}: {soft:?}");
        check(&store, NOW, "grace late");
    }
}

#[test]
fn a_purge_of_something_else_does_not_hinder_a_fill() {
    let store = store();
    let stamp = store.begin_fill();
    store.purge_key(CacheKey::from_number(1), PurgeMode::Hard, NOW);
    store.purge_tags(&tags("x"), PurgeMode::Hard, NOW);
    assert_eq!(store.named_since(&stamp, KEY, &tags("t")), None);
    let stored = store.commit(&stamp, Entry::new(parts(KEY, "t", "a")), None, NOW);
    assert!(matches!(stored, Commit::Stored(_)));
}

#[test]
fn variants_are_told_apart_and_purged_together() {
    let store = store();
    for text in ["de", "en"] {
        put_variant(&store, KEY, &language(text), text);
    }
    assert_eq!(look(&store, KEY, &language("de"), NOW), "fresh de");
    assert_eq!(look(&store, KEY, &language("en"), NOW), "fresh en");
    assert_eq!(look(&store, KEY, &language("fr"), NOW), "missing");
    assert_eq!(store.variants(KEY).len(), 2);
    assert_eq!(store.purge_key(KEY, PurgeMode::Hard, NOW).purged, 2);
    assert_eq!(look(&store, KEY, &language("de"), NOW), "missing");
    // What it varies on is remembered, so that the next crowd is told apart.
    assert_eq!(*store.vary_of(KEY).unwrap(), vary("accept-language"));
}

#[test]
fn the_oldest_of_too_many_variants_goes() {
    let store = store();
    for text in ["a", "b", "c", "a", "d"] {
        put_variant(&store, KEY, &language(text), text);
    }
    assert_eq!(look(&store, KEY, &language("b"), NOW), "missing");
    for text in ["c", "a", "d"] {
        assert_eq!(look(&store, KEY, &language(text), NOW), format!("fresh {text}"));
    }
    let stats = store.stats();
    assert_eq!((stats.entries, stats.variants_dropped), (3, 1));
    assert_eq!(store.count_tagged(&tags("v")[0]), 3);
}

#[test]
fn the_latest_response_decides_what_a_resource_varies_on() {
    let store = store();
    put(&store, KEY, "", "plain");
    put_variant(&store, KEY, &language("de"), "de");
    assert_eq!(look(&store, KEY, &language("en"), NOW), "missing");
    assert_eq!(look(&store, KEY, &language("de"), NOW), "fresh de");
    put(&store, KEY, "", "plain again");
    assert_eq!(look(&store, KEY, &language("de"), NOW), "fresh plain again");
    assert_eq!(store.stats().entries, 1);
    assert_eq!(store.vary_of(KEY), None);
}

#[test]
fn a_spec_may_be_learned_before_the_entry() {
    let store = store();
    assert_eq!(store.vary_of(KEY), None);
    store.learn_vary(KEY, vary("cookie"));
    assert_eq!(*store.vary_of(KEY).unwrap(), vary("cookie"));
    check(&store, NOW, "missing");
    store.learn_vary(KEY, vary("accept"));
    assert_eq!(*store.vary_of(KEY).unwrap(), vary("accept"));
}

#[test]
fn an_uncacheable_mark_holds_until_its_time_or_a_commit_or_a_purge() {
    let store = store();
    store.mark_uncacheable(KEY, later(5));
    check(&store, later(4), "uncacheable");
    check(&store, later(5), "missing");
    assert_eq!(store.stats().marks, 1);
    for purge in [PurgeMode::Hard, PurgeMode::Soft] {
        store.mark_uncacheable(KEY, later(5));
        store.purge_key(KEY, purge, NOW);
        check(&store, NOW, "missing");
        store.mark_uncacheable(KEY, later(5));
        store.purge_all(purge, NOW);
        check(&store, NOW, "missing");
    }
    store.mark_uncacheable(KEY, Moment::FAR);
    put(&store, KEY, "", "a");
    check(&store, NOW, "fresh a");
    check(&store, later(60), "grace a");
    // A fresh entry may be another variant than the one that could not be stored; a stale one is overruled.
    store.mark_uncacheable(KEY, Moment::FAR);
    check(&store, later(59), "fresh a");
    check(&store, later(60), "uncacheable");
    check(&store, later(100), "uncacheable");
}

#[test]
fn marks_are_bounded() {
    let store = store();
    for number in 0..5000u128 {
        store.mark_uncacheable(CacheKey::from_number(number << 64 | number), Moment::FAR);
    }
    let stats = store.stats();
    assert_eq!((stats.marks, stats.marks_dropped), (256, 5000 - 256));
}

#[test]
fn what_is_too_large_is_not_stored() {
    let store = store_of(1 << 20);
    let body = "x".repeat(600_000);
    let refused = store.commit(&store.begin_fill(), Entry::new(parts(KEY, "", &body)), None, NOW);
    assert!(matches!(refused, Commit::TooLarge));
    check(&store, NOW, "missing");
    assert_eq!(store.stats(), StoreStats { too_large: 1, ..StoreStats::default() });
}

#[test]
fn the_budget_is_kept_and_the_books_agree() {
    let memory_bytes = 4 << 20;
    let store = store_of(memory_bytes);
    let body = "x".repeat(20_000);
    for number in 0..2000u128 {
        let key = CacheKey::from_number(number << 64 | number);
        let text = format!("all t{} u{}", number % 50, number);
        put(&store, key, &text, &body);
        assert!(store.stats().bytes <= memory_bytes, "after {number}");
    }
    store.settle(NOW);
    let stats = store.stats();
    assert_eq!(stats.entries + stats.evictions, 2000);
    assert!(stats.entries > 100, "most of the room is used: {stats:?}");
    let all: Vec<_> = (0..Store::PARTS).flat_map(|part| store.part(part)).collect();
    assert_eq!(all.len() as u64, stats.entries);
    assert_eq!(all.iter().map(|entry| u64::from(entry.weight())).sum::<u64>(), stats.bytes);
    // The policy knows exactly what the index holds.
    assert!(all.iter().all(|entry| store.room.holds(entry)));
    assert_eq!(store.count_tagged(&tags("all")[0]) as u64, stats.entries);
    assert_eq!(store.purge_tags(&tags("all"), PurgeMode::Hard, NOW).purged, stats.entries);
    let stats = store.stats();
    assert_eq!((stats.entries, stats.bytes, stats.tags, stats.tag_bytes), (0, 0, 0, 0));
    assert_eq!(store.counters.levied.load(Relaxed), 0);
}

#[test]
fn popular_entries_survive_a_flood() {
    let store = store_of(4 << 20);
    let body = "x".repeat(10_000);
    let fetch = |key| {
        let lifetime = Lifetime { ttl: Duration::from_secs(3600), ..Lifetime::default() };
        let entry = Entry::new(EntryParts { lifetime, ..parts(key, "", &body) });
        store.commit(&store.begin_fill(), entry, None, NOW);
    };
    let request = HeaderMap::new();
    let (mut asked, mut hits) = (0, 0);
    for number in 0..20_000 {
        // Every URL of the flood is asked for once. How fast they come must not matter: the clock stands still for a
        // while, and then races.
        let now = Moment::from_millis(if number < 12_000 { 10_000 } else { number * 20 });
        fetch(page(&store, "unknown", number));
        for popular in (number % 10..100).step_by(10) {
            let key = page(&store, "popular", popular);
            let hit = matches!(store.lookup(key, &request, now), Lookup::Fresh(_));
            if !hit {
                fetch(key);
            }
            // The beginning is for learning who is popular.
            if number >= 5_000 {
                asked += 1;
                hits += u64::from(hit);
            }
        }
    }
    assert!(hits * 100 >= asked * 98, "{hits} hits of {asked}");
}

#[test]
fn tags_are_on_the_bill() {
    let store = store();
    let text = (0..500).map(|n| format!("tag-number-{n}")).collect::<Vec<_>>().join(" ");
    for number in 0..20 {
        put(&store, CacheKey::from_number(number << 64), &text, "a");
    }
    let stats = store.stats();
    assert_eq!(stats.tags, 500);
    assert!(stats.tag_bytes > 500 * 20 * 16);
    assert_eq!(store.counters.levied.load(Relaxed), stats.tag_bytes as i64);
    // The entry that paid for the shared texts goes; the next one pays what is open.
    store.purge_key(CacheKey::from_number(0), PurgeMode::Hard, NOW);
    put(&store, CacheKey::from_number(99 << 64), &text, "a");
    assert_eq!(store.counters.levied.load(Relaxed), store.stats().tag_bytes as i64);
}

#[test]
fn entries_give_way_to_bodies_on_their_way() {
    let store = store_of(4 << 20);
    let body = "x".repeat(10_000);
    for number in 0..200 {
        put(&store, page(&store, "a", number), "t", &body);
    }
    // Half of them are used later than the rest.
    let request = HeaderMap::new();
    (0..100).for_each(|number| drop(store.lookup(page(&store, "a", number), &request, later(30))));
    let full = store.stats();
    assert_eq!((full.entries, full.fill_bytes), (200, 0));

    let mut charge = store.fill_budget().charge();
    let capacity = store.capacity_bytes.load(Relaxed);
    for _ in 0..40 {
        assert!(store.make_room_for_fill(60_000));
        charge.add_piece(60_000);
        let stats = store.stats();
        assert!(stats.bytes + stats.fill_bytes <= capacity, "{stats:?}");
    }
    let squeezed = store.stats();
    assert!((20..180).contains(&squeezed.entries), "{squeezed:?}");
    assert_eq!(squeezed.evictions, 200 - squeezed.entries);
    let used = |numbers: std::ops::Range<u64>| {
        let there = |number: &u64| !store.variants(page(&store, "a", *number)).is_empty();
        numbers.filter(there).count()
    };
    assert!(
        used(0..100) > used(100..200),
        "what was not used goes first: {} {}",
        used(0..100),
        used(100..200)
    );

    // What is stored now finds its room beside them, and nobody is pushed over the limit.
    for number in 200..400 {
        put(&store, page(&store, "a", number), "t", &body);
        let stats = store.stats();
        assert!(stats.bytes + stats.fill_bytes <= capacity, "{stats:?}");
    }

    // Everything may go; and then there is no more.
    while store.make_room_for_fill(60_000) {
        charge.add_piece(60_000);
    }
    assert!(store.fill_budget().held() + 100_000 > capacity && store.fill_budget().held() <= capacity);
    assert!(store.stats().entries < 20, "{:?}", store.stats());
    drop(charge);
    assert!(store.make_room_for_fill(60_000));
    for number in 0..100 {
        put(&store, page(&store, "b", number), "t", &body);
    }
    assert!(store.stats().entries >= 100, "the room is there again: {:?}", store.stats());
    store.settle(NOW);
    let all: Vec<_> = (0..Store::PARTS).flat_map(|part| store.part(part)).collect();
    assert_eq!(all.iter().map(|entry| u64::from(entry.weight())).sum::<u64>(), store.stats().bytes);
    assert!(all.iter().all(|entry| store.room.holds(entry)));
}

fn forms(bytes: usize) -> Encoded {
    let body = Bytes::from(vec![0; bytes]);
    Encoded::new(vec![crate::EncodedForm::new(crate::Coding::Gzip, Bytes::new(), body)], NOW)
}

fn fresh(store: &Store, key: CacheKey) -> Arc<Entry> {
    match store.lookup(key, &HeaderMap::new(), NOW) {
        Lookup::Fresh(entry) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_grows_once_and_stays_what_it_is() {
    let store = store();
    put(&store, KEY, "a", "one");
    let before = store.stats();
    let entry = fresh(&store, KEY);
    assert_eq!(store.grow(&entry, forms(5000)), Grown::Kept);
    assert_eq!(store.grow(&entry, forms(1)), Grown::Already);
    store.settle(NOW);
    assert!(Arc::ptr_eq(&fresh(&store, KEY), &entry) && store.room.holds(&entry));
    let stats = store.stats();
    assert_eq!(stats.entries, 1);
    assert_eq!(
        (stats.bytes, stats.encoded_bytes),
        (before.bytes + stats.encoded_bytes, forms(5000).weight().into())
    );
    assert_eq!(store.purge_tags(&tags("a"), PurgeMode::Soft, NOW), PurgeCount { purged: 0, softened: 1 });
    assert!(entry.encoded().is_some(), "stale as it is");
    assert_eq!(store.purge_tags(&tags("a"), PurgeMode::Hard, NOW), PurgeCount { purged: 1, softened: 0 });
    let stats = store.stats();
    assert_eq!((stats.bytes, stats.encoded_bytes, stats.encoded_entries), (0, 0, 0));
}

#[test]
fn what_has_left_grows_off_the_books() {
    let store = store();
    put(&store, KEY, "", "one");
    let entry = fresh(&store, KEY);
    put(&store, KEY, "", "two");
    let before = store.stats();
    assert_eq!(store.grow(&entry, forms(5000)), Grown::Gone);
    assert!(entry.encoded().is_some(), "for those who still send it");
    assert_eq!(store.stats(), before);
    assert!(!store.room.holds(&entry));
}

#[test]
fn forms_that_do_not_fit_or_are_none_are_refused_for_good() {
    let store = store_of(1 << 20);
    put(&store, KEY, "", "one");
    let entry = fresh(&store, KEY);
    assert_eq!(store.grow(&entry, Encoded::new(Vec::new(), NOW)), Grown::Refused);
    assert_eq!(store.grow(&entry, forms(600_000)), Grown::Refused);
    assert!(entry.encoded().is_none() && !entry.claim_encoding(later(1_000_000)));
}

#[test]
fn an_entry_that_comes_with_forms_is_weighed_with_them() {
    let store = store();
    let entry = Entry::new(parts(KEY, "", "one")).with_encoded(forms(5000));
    let (weight, plain) = (entry.weight(), Entry::new(parts(KEY, "", "one")).weight());
    assert!(matches!(store.commit(&store.begin_fill(), entry, None, NOW), Commit::Stored(_)));
    let stats = store.stats();
    assert_eq!(
        (stats.bytes, stats.encoded_bytes, stats.encoded_entries),
        (weight.into(), (weight - plain).into(), 1)
    );
    put(&store, KEY, "", "two");
    assert_eq!(store.stats().encoded_bytes, 0);
}

#[test]
fn growing_entries_make_others_go() {
    let store = store_of(1 << 20);
    for number in 0..100 {
        put(&store, page(&store, "a", number), "", &"x".repeat(2000));
    }
    let before = store.stats();
    for entry in (0..Store::PARTS).flat_map(|part| store.part(part)) {
        store.grow(&entry, forms(20_000));
    }
    let stats = store.stats();
    assert!(stats.entries < before.entries && stats.evictions > 0, "{stats:?}");
    assert!(stats.bytes <= 1 << 20 && stats.encoded_bytes > 300_000, "{stats:?}");
    let kept: u64 =
        (0..Store::PARTS).flat_map(|part| store.part(part)).map(|entry| u64::from(entry.weight())).sum();
    assert_eq!(stats.bytes, kept);
}
