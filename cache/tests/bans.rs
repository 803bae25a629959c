//! Bans: what they name is gone from the moment they are taken in, and they are over soon.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{
    CacheKey, Commit, Condition, Entry, EntryParts, KeySecret, Lifetime, Lookup, Moment, Page, PurgeMode,
    Settings, Store, TooManyBans, VariantKey,
};
use http::HeaderMap;

const NOW: Moment = Moment::from_millis(10_000);
const LATER: Moment = Moment::from_millis(20_000);
const MINUTE: Duration = Duration::from_secs(60);

/// Pages whose path ends so.
struct Ending {
    ending: String,
    text: String,
}

impl Condition for Ending {
    fn names(&self, page: &Page<'_>) -> bool {
        page.url.ends_with(&self.ending)
    }

    fn text(&self) -> &str {
        &self.text
    }
}

fn ending(ending: &str) -> Arc<dyn Condition> {
    Arc::new(Ending { ending: ending.into(), text: ending.into() })
}

/// One that names nothing and is like no other.
fn other(number: usize) -> Arc<dyn Condition> {
    Arc::new(Ending { ending: "nowhere".into(), text: number.to_string() })
}

fn store() -> Store {
    Store::new(Settings { memory_bytes: 64 << 20, max_variants: 4, max_marks: 256 }, KeySecret::new([3; 16]))
}

fn key(store: &Store, path: &str) -> CacheKey {
    store.secret().key(clearcoat_cache::Scheme::Http, b"a", path.as_bytes())
}

fn entry(store: &Store, path: &str) -> Entry {
    Entry::new(EntryParts {
        key: key(store, path),
        variant: VariantKey::NONE,
        url: format!("http://a{path}").into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: Bytes::from_static(b"x"),
        tags: Box::default(),
        stored: NOW,
        lifetime: Lifetime { ttl: MINUTE, grace: MINUTE, ..Lifetime::default() },
    })
}

fn put(store: &Store, path: &str) {
    let committed = store.commit(&store.begin_fill(), entry(store, path), None, NOW);
    assert!(matches!(committed, Commit::Stored(_)), "{path}: {committed:?}");
}

/// What there is of a page, in a letter: fresh, grace or nothing.
fn look(store: &Store, path: &str) -> char {
    match store.lookup(key(store, path), &HeaderMap::new(), LATER) {
        Lookup::Fresh(_) => 'f',
        Lookup::Grace(_) => 'g',
        Lookup::Missing => '-',
        Lookup::Stale(_) | Lookup::Uncacheable => '?',
    }
}

#[test]
fn what_is_named_is_gone_before_any_sweep() {
    let store = store();
    ["/a", "/b"].iter().for_each(|path| put(&store, path));
    store.ban(ending("/a"), PurgeMode::Hard, NOW).unwrap();
    assert!(store.variants(key(&store, "/a")).is_empty());
    assert_eq!((look(&store, "/a"), look(&store, "/b")), ('-', 'f'));
    assert_eq!((store.stats().banned, store.stats().expired, store.stats().entries), (1, 0, 1));
    // What comes later is not named.
    put(&store, "/a");
    assert_eq!(look(&store, "/a"), 'f');
    assert_eq!(store.sweep_bans(|| {}), 0);
    assert_eq!((look(&store, "/a"), store.ban_count()), ('f', 0));
}

#[test]
fn the_sweep_takes_what_nobody_asked_for() {
    let store = store();
    for number in 0..1000 {
        put(&store, &format!("/{number}"));
    }
    for last in ["7", "8"] {
        store.ban(ending(last), PurgeMode::Hard, NOW).unwrap();
    }
    let reports = store.bans();
    assert_eq!(reports.iter().map(|ban| ban.text.as_str()).collect::<Vec<_>>(), ["7", "8"]);
    assert!(reports.iter().all(|ban| !ban.swept && ban.struck == 0 && ban.at == NOW));
    assert!(store.wants_sweep());
    assert_eq!(store.sweep_bans(|| {}), 200);
    assert_eq!((store.stats().entries, store.stats().banned, store.ban_count()), (800, 200, 0));
    assert!(!store.wants_sweep());
}

#[test]
fn a_soft_ban_makes_stale_from_its_own_moment_on() {
    let store = store();
    put(&store, "/a");
    store.ban(ending("/a"), PurgeMode::Soft, NOW).unwrap();
    assert_eq!(look(&store, "/a"), 'g');
    let entry = store.variants(key(&store, "/a")).pop().unwrap();
    assert_eq!(entry.fresh_until(), NOW);
    store.ban(ending("/a"), PurgeMode::Hard, LATER).unwrap();
    assert_eq!(look(&store, "/a"), '-');
}

#[test]
fn fills_under_way_are_named_also_after_the_sweep() {
    let store = store();
    let stamp = store.begin_fill();
    store.ban(ending("/a"), PurgeMode::Hard, NOW).unwrap();
    store.ban(ending("/soft"), PurgeMode::Soft, NOW).unwrap();
    store.sweep_bans(|| {});
    assert_eq!(store.ban_count(), 2, "they are kept for the fill");
    assert!(store.bans().iter().all(|ban| ban.swept));
    let newer = store.begin_fill();
    let commit = |stamp, path| store.commit(stamp, entry(&store, path), None, NOW);
    assert!(matches!(commit(&stamp, "/a"), Commit::Refused));
    assert!(matches!(commit(&stamp, "/soft"), Commit::StoredSoft(_)));
    assert!(matches!(commit(&stamp, "/b"), Commit::Stored(_)));
    assert!(matches!(commit(&newer, "/a"), Commit::Stored(_)));
    assert_eq!((look(&store, "/a"), look(&store, "/soft"), look(&store, "/b")), ('f', 'g', 'f'));
    let page = Page { url: "http://a/a", head: b"", tags: &[] };
    assert!(store.banned_since(&stamp, &page).is_some() && store.banned_since(&newer, &page).is_none());
    drop(stamp);
    store.sweep_bans(|| {});
    assert_eq!(store.ban_count(), 0);
}

#[test]
fn a_ban_takes_the_place_of_its_like() {
    let store = store();
    put(&store, "/a");
    for _ in 0..100 {
        store.ban(ending("/b"), PurgeMode::Hard, NOW).unwrap();
        store.ban(ending("/a"), PurgeMode::Soft, NOW).unwrap();
    }
    assert_eq!(store.ban_count(), 2);
    assert_eq!(look(&store, "/a"), 'g');
    store.ban(ending("/a"), PurgeMode::Hard, NOW).unwrap();
    assert_eq!(store.ban_count(), 3, "soft and hard are two");
    assert_eq!(look(&store, "/a"), '-');
}

#[test]
fn there_are_never_too_many() {
    let store = store();
    put(&store, "/a");
    let too_many = (0..).find(|number| store.ban(other(*number), PurgeMode::Hard, NOW).is_err()).unwrap();
    assert_eq!(too_many, store.ban_count());
    // Also of those that stand in the list once: the numbers would run too far ahead of the sweep.
    store.sweep_bans(|| {});
    let same = (0..100_000).find(|_| store.ban(ending("/b"), PurgeMode::Hard, NOW).is_err());
    assert!(same.is_some_and(|count| count > 10_000), "{same:?}");
    assert_eq!(store.ban(other(0), PurgeMode::Hard, NOW), Err(TooManyBans));
    assert_eq!(look(&store, "/a"), 'f');
    store.sweep_bans(|| {});
    store.ban(ending("/a"), PurgeMode::Hard, NOW).unwrap();
    assert_eq!(look(&store, "/a"), '-');
}

#[test]
fn a_fill_that_outlives_the_list_is_refused() {
    let store = store();
    let stamp = store.begin_fill();
    let mut number = 0;
    store.ban(ending("/a"), PurgeMode::Hard, NOW).unwrap();
    while store.bans().first().is_some_and(|first| first.text == "/a") {
        number += 1;
        if store.ban(other(number), PurgeMode::Hard, NOW).is_err() {
            store.sweep_bans(|| {});
        }
    }
    // Nobody knows any more whether it was named.
    assert!(matches!(store.commit(&stamp, entry(&store, "/b"), None, NOW), Commit::Refused));
    put(&store, "/b");
    assert_eq!(look(&store, "/b"), 'f');
}

#[test]
fn numbers_that_wrap_change_nothing() {
    let store = store();
    ["/a", "/b"].iter().for_each(|path| put(&store, path));
    for round in 0..30 {
        for number in 0..4000 {
            store.ban(other(number), PurgeMode::Hard, NOW).unwrap();
        }
        // One is asked for now and then, the other only swept.
        assert_eq!(look(&store, "/a"), 'f', "round {round}");
        store.sweep_bans(|| {});
        assert_eq!(store.ban_count(), 0);
    }
    store.ban(ending("/b"), PurgeMode::Hard, NOW).unwrap();
    assert_eq!((look(&store, "/a"), look(&store, "/b")), ('f', '-'));
}

/// Pages whose path has this in it; `tells` says so beforehand.
struct Within {
    part: String,
    tells: bool,
    text: String,
}

impl Condition for Within {
    fn names(&self, page: &Page<'_>) -> bool {
        page.url.contains(&self.part)
    }

    fn needs(&self) -> Option<&[u8]> {
        self.tells.then_some(self.part.as_bytes())
    }

    fn text(&self) -> &str {
        &self.text
    }
}

/// However many are swept at once, and whether they tell what they need or not: what is named is gone, and nothing else.
#[test]
fn many_are_swept_at_once() {
    const PAGES: usize = 3000;
    let random = &mut fastrand::Rng::with_seed(9);
    for bans in [1, 7, 9, 100, 2000] {
        let store = store();
        let paths: Vec<String> = (0..PAGES).map(|page| format!("/{page:05}")).collect();
        for path in &paths {
            put(&store, path);
        }
        let mut hard = Vec::new();
        let mut soft = Vec::new();
        for number in 0..bans {
            let part = format!("/{:05}", random.usize(..PAGES * 2));
            let mode = if random.bool() { PurgeMode::Hard } else { PurgeMode::Soft };
            let ban = Within { part: part.clone(), tells: random.u8(..4) > 0, text: number.to_string() };
            store.ban(Arc::new(ban), mode, NOW).unwrap();
            match mode {
                PurgeMode::Hard => hard.push(part),
                PurgeMode::Soft => soft.push(part),
            }
            // Some pages are looked up between the bans, and are further than others when the sweep comes.
            let path = &paths[random.usize(..PAGES)];
            look(&store, path);
        }
        store.sweep_bans(|| {});
        assert_eq!(store.ban_count(), 0);
        for path in &paths {
            let expected = match (hard.contains(path), soft.contains(path)) {
                (true, _) => '-',
                (false, true) => 'g',
                (false, false) => 'f',
            };
            let found = look(&store, path);
            assert_eq!(found, expected, "{path} after {bans} bans");
        }
    }
}
