//! Purges, fills, look-ups and evictions at the same time, on threads.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{
    CacheKey, Coding, Commit, Condition, Encoded, EncodedForm, Entry, EntryParts, Grown, KeySecret, Lifetime,
    Lookup, Moment, Page, PurgeCount, PurgeMode, Recoding, Settings, Store, Tag, VariantKey,
};
use http::HeaderMap;

const NOW: Moment = Moment::from_millis(1000);
const HOUR: Duration = Duration::from_secs(3600);

fn store(memory_bytes: u64) -> Store {
    Store::new(Settings { memory_bytes, max_variants: 4, max_marks: 256 }, KeySecret::new([9; 16]))
}

fn key(store: &Store, number: u64) -> CacheKey {
    store.secret().key(clearcoat_cache::Scheme::Http, b"a", &number.to_le_bytes())
}

fn tag(number: u64) -> Tag {
    Tag::new(format!("t{number}").as_bytes()).unwrap()
}

fn entry(key: CacheKey, tags: &[Tag], body: Bytes) -> Entry {
    Entry::new(EntryParts {
        key,
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body,
        tags: tags.into(),
        stored: NOW,
        lifetime: Lifetime { ttl: HOUR, grace: HOUR, ..Lifetime::default() },
    })
    .with_recoding(Recoding::Encode, false)
}

/// Some encoded forms of so many bytes.
fn forms(bytes: usize) -> Encoded {
    let form = EncodedForm::new(Coding::Gzip, Bytes::new(), Bytes::from(vec![0; bytes]));
    Encoded::new(vec![form], NOW)
}

fn number_in(entry: &Entry) -> u64 {
    u64::from_le_bytes(entry.body()[..8].try_into().unwrap())
}

/// Pages with a tag.
struct Tagged {
    tag: Tag,
    text: String,
}

impl Condition for Tagged {
    fn names(&self, page: &Page<'_>) -> bool {
        page.tags.contains(&self.tag)
    }

    fn text(&self) -> &str {
        &self.text
    }
}

/// Every second ban says the same as one before it, the others are new to the list.
fn ban(store: &Store, page: u64) {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    let text =
        if round.is_multiple_of(2) { format!("page {page}") } else { format!("page {page} in {round}") };
    let condition = Arc::new(Tagged { tag: tag(page), text });
    while store.ban(condition.clone(), PurgeMode::Hard, NOW).is_err() {
        thread::yield_now();
    }
}

/// The promise itself. An origin has a version for each page. A writer raises it, then purges; whoever looks up after
/// the purge has answered must not see an older version, although fills of older versions are under way all the time.
#[test]
fn nothing_older_than_an_answered_purge_is_served() {
    type PurgeOne = fn(&Store, u64) -> PurgeCount;
    let ways: [PurgeOne; 4] = [
        |store, page| store.purge_tags(&[tag(page), tag(99)], PurgeMode::Hard, NOW),
        |store, page| store.purge_key(key(store, page), PurgeMode::Hard, NOW),
        |store, _| store.purge_all(PurgeMode::Hard, NOW),
        |store, page| {
            ban(store, page);
            PurgeCount::default()
        },
    ];
    for purge in ways {
        // The test has met the race only if both sides of it were seen. On a busy machine that may take another try.
        assert!((0..10).any(|_| sides_seen(purge) == (true, true)));
    }
}

/// Lets fills, look-ups and purges race. Whether an entry was served, and whether a fill was refused for a purge.
fn sides_seen(purge: fn(&Store, u64) -> PurgeCount) -> (bool, bool) {
    const PAGES: u64 = 4;
    let store = store(16 << 20);
    let origin: Vec<_> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let purged: Vec<_> = (0..PAGES).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let (served, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for filler in 0..3 {
            let (store, origin, done, refused) = (&store, &origin, &done, &refused);
            scope.spawn(move || {
                let mut page = filler;
                while !done.load(Ordering::Relaxed) {
                    page = (page + 1) % PAGES;
                    let stamp = store.begin_fill();
                    let version = origin[page as usize].load(Ordering::SeqCst);
                    // The body is on its way for a while.
                    for _ in 0..filler {
                        thread::yield_now();
                    }
                    let body = Bytes::copy_from_slice(&version.to_le_bytes());
                    match store.commit(&stamp, entry(key(store, page), &[tag(page)], body), None, NOW) {
                        Commit::Refused => _ = refused.fetch_add(1, Ordering::Relaxed),
                        Commit::Stored(_) | Commit::StoredSoft(_) => {}
                        Commit::TooLarge => panic!("it is eight bytes"),
                    }
                }
            });
        }
        for _ in 0..2 {
            let (store, purged, done, served) = (&store, &purged, &done, &served);
            scope.spawn(move || {
                let request = HeaderMap::new();
                while !done.load(Ordering::Relaxed) {
                    for page in 0..PAGES {
                        let at_least = purged[page as usize].load(Ordering::SeqCst);
                        if let Lookup::Fresh(found) = store.lookup(key(store, page), &request, NOW) {
                            let version = number_in(&found);
                            assert!(
                                version >= at_least,
                                "page {page}: {version} after a purge of {at_least}"
                            );
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.sweep_bans(thread::yield_now);
            }
        });
        // Two purgers share a page: the second must not answer while the first is still removing.
        let purgers: Vec<_> = (0..2)
            .map(|_| {
                let (store, origin, purged) = (&store, &origin, &purged);
                scope.spawn(move || {
                    for round in 0..4000 {
                        let page = round % PAGES;
                        let version = origin[page as usize].fetch_add(1, Ordering::SeqCst) + 1;
                        purge(store, page);
                        purged[page as usize].fetch_max(version, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = purgers.into_iter().map(|purger| purger.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    store.sweep_bans(|| {});
    assert_eq!(store.ban_count(), 0);
    (served.into_inner() > 0, refused.into_inner() > 0)
}

/// Everything at once in a store that is too small; afterwards the books must agree with what is there.
#[test]
fn the_books_agree_after_a_storm() {
    const KEYS: u64 = 400;
    let memory_bytes = 1 << 20;
    let store = store(memory_bytes);
    let outcomes: [AtomicU64; 4] = Default::default();
    thread::scope(|scope| {
        for worker in 0..6u64 {
            let (store, outcomes) = (&store, &outcomes);
            scope.spawn(move || {
                let request = HeaderMap::new();
                let mut waiting = None;
                let mut state = worker + 1;
                for _ in 0..6000 {
                    // A small random generator, the same in every run.
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let random = state >> 33;
                    let page = random % KEYS;
                    match random % 31 {
                        0 => _ = store.purge_tags(&[tag(random % 7)], PurgeMode::Hard, NOW),
                        1 => _ = store.purge_tags(&[tag(random % 7)], PurgeMode::Soft, NOW),
                        2 => _ = store.purge_key(key(store, page), PurgeMode::Hard, NOW),
                        3 => store.mark_uncacheable(key(store, page), Moment::FAR),
                        4 if random.is_multiple_of(2) => ban(store, random % 7),
                        4 => {
                            store.settle(NOW);
                            store.sweep_bans(thread::yield_now);
                        }
                        5 if random % 100 == 0 => _ = store.purge_all(PurgeMode::Hard, NOW),
                        // Forms come late for entries that others replace, purge and evict meanwhile.
                        6..9 => {
                            if let Lookup::Fresh(found) = store.lookup(key(store, page), &request, NOW) {
                                // What is made takes its time: it is for an entry that was found a while ago.
                                if let Some(late) = waiting.replace(found) {
                                    let grown = store.grow(&late, forms((random % 3000) as usize));
                                    outcomes[grown as usize].fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                        5 | 9..16 => drop(store.lookup(key(store, page), &request, NOW)),
                        _ => {
                            let body = Bytes::from(vec![0; 8 + (random % 5000) as usize]);
                            let tags = [tag(page % 7), tag(7 + page % 50)];
                            let tags = if page.is_multiple_of(3) { &tags[..0] } else { &tags[..] };
                            store.commit(&store.begin_fill(), entry(key(store, page), tags, body), None, NOW);
                        }
                    }
                }
            });
        }
    });
    store.settle(NOW);
    store.sweep_bans(|| {});
    assert_eq!(store.ban_count(), 0);
    let all: Vec<_> = (0..Store::PARTS).flat_map(|part| store.part(part)).collect();
    let stats = store.stats();
    assert_eq!(stats.entries, all.len() as u64);
    assert_eq!(stats.bytes, all.iter().map(|entry| u64::from(entry.weight())).sum::<u64>());
    assert!(stats.bytes <= memory_bytes && stats.entries > 0, "{stats:?}");
    for number in 0..57 {
        let carriers = all.iter().filter(|entry| entry.tags().contains(&tag(number))).count();
        assert_eq!(store.count_tagged(&tag(number)), carriers, "tag {number}");
    }
    // Forms bring their box along where the entry has none for its tags.
    let plain = entry(key(&store, 0), &[], Bytes::new());
    let box_weight = {
        let before = plain.weight();
        plain.with_encoded(forms(0)).weight() - before - forms(0).weight()
    };
    assert!(box_weight > 0);
    let grown: Vec<_> = all
        .iter()
        .filter_map(|entry| {
            let own = if entry.tags().is_empty() { box_weight } else { 0 };
            Some(u64::from(entry.encoded()?.weight() + own))
        })
        .collect();
    assert_eq!((stats.encoded_entries, stats.encoded_bytes), (grown.len() as u64, grown.iter().sum()));
    let seen = |outcome: Grown| outcomes[outcome as usize].load(Ordering::Relaxed) > 0;
    assert!(seen(Grown::Kept) && seen(Grown::Already) && seen(Grown::Gone), "{outcomes:?}");
    assert_eq!(store.purge_all(PurgeMode::Hard, NOW).purged, stats.entries);
    let stats = store.stats();
    assert_eq!((stats.entries, stats.bytes, stats.tags, stats.tag_bytes), (0, 0, 0, 0));
    assert_eq!((stats.encoded_entries, stats.encoded_bytes), (0, 0));
}
