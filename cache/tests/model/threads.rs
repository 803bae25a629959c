//! Several threads on one store. No order of events is fixed, so the model is what must hold in every order:
//!
//! * A look-up that begins after a purge has answered finds nothing that the purge named and whose fill had begun
//!   before the purge did; after a soft purge, nothing of that kind that is fresh.
//! * A look-up that begins after a commit has answered finds nothing that this commit displaced: no response of the
//!   same variant, or under another `Vary`, whose own commit had answered before.
//! * No entry is counted twice, and when all is over the books agree with what is there.
//!
//! "Before" is told by one counter that everybody draws numbers from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use clearcoat_cache::{Commit, Entry, KeySecret, Lookup, Moment, PurgeCount, PurgeMode, Settings, Store};

use crate::run::{entry, mode, number_in, tag, url_key};
use crate::step::{Life, Response, VARIES, Visitor};

const URLS: u8 = 5;
const TAGS: u8 = 8;
const VISITORS: u8 = 8;
const THREADS: u64 = 4;
const NOW: u64 = 100_000;

/// A small random generator (SplitMix64), so that a seed says everything.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u8) -> u8 {
        (self.next() % u64::from(end)) as u8
    }
}

fn visitor(number: u8) -> Visitor {
    Visitor {
        language: Some(number % 2),
        hash: Some(number / 2 % 2),
        encoding: 4 * usize::from(number / 4 % 2),
    }
}

/// A response is a function of its number, so nobody has to write down what it was.
fn response(number: u64) -> (Response, u8) {
    let mut random = Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let asked = random.below(VISITORS);
    let vary = random.below(VARIES.len() as u8 * 2);
    let mut tags: Vec<_> = (0..random.below(4)).map(|_| random.below(TAGS)).collect();
    tags.sort_unstable();
    tags.dedup();
    let said = Response {
        url: random.below(URLS),
        asked: visitor(asked),
        vary: (vary < VARIES.len() as u8).then_some(vary),
        tags,
        life: Life { ttl: 3600, age: 0, grace: 3600, keep: 0, on_error: 0, may_be_stale: false },
        body_bytes: 8 + usize::from(random.below(250)) * 8,
    };
    (said, asked)
}

/// When purges of one name began, the newest of those that have answered.
#[derive(Default)]
struct Purged {
    hard: AtomicU64,
    soft: AtomicU64,
}

/// When commits to one URL began, the newest of those that have answered: by `Vary` and visitor.
type Commits = Vec<Vec<AtomicU64>>;

struct Books {
    clock: AtomicU64,
    /// When the fill of each response had begun.
    begun: Vec<AtomicU64>,
    /// When the commit of each response had answered; zero until then.
    ended: Vec<AtomicU64>,
    urls: Vec<Purged>,
    tags: Vec<Purged>,
    all: Purged,
    commits: Vec<Commits>,
    /// Entries that purges said they removed.
    purged: AtomicU64,
    served: AtomicU64,
}

fn atomics(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Books {
    fn new(responses: usize) -> Self {
        let purged = |count: u8| (0..count).map(|_| Purged::default()).collect();
        let commits = || (0..=VARIES.len()).map(|_| atomics(usize::from(VISITORS))).collect();
        Self {
            clock: AtomicU64::new(1),
            begun: atomics(responses),
            ended: atomics(responses),
            urls: purged(URLS),
            tags: purged(TAGS),
            all: Purged::default(),
            commits: (0..URLS).map(|_| commits()).collect(),
            purged: AtomicU64::new(0),
            served: AtomicU64::new(0),
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }
}

/// What had answered before a look-up began, as far as it concerns one URL.
struct Before {
    /// Hard and soft, by tag.
    tags: Vec<[u64; 2]>,
    /// Hard and soft, of the URL or of everything.
    url: [u64; 2],
    commits: Vec<Vec<u64>>,
}

impl Before {
    fn read(books: &Books, url: u8) -> Self {
        let both = |purged: &Purged| [purged.hard.load(SeqCst), purged.soft.load(SeqCst)];
        let (named, all) = (both(&books.urls[usize::from(url)]), both(&books.all));
        let load = |commits: &Vec<AtomicU64>| commits.iter().map(|commit| commit.load(SeqCst)).collect();
        Self {
            tags: books.tags.iter().map(both).collect(),
            url: [named[0].max(all[0]), named[1].max(all[1])],
            commits: books.commits[usize::from(url)].iter().map(load).collect(),
        }
    }

    fn check(&self, books: &Books, url: u8, asked: u8, entry: &Entry, fresh: bool) {
        let number = number_in(entry);
        let (said, _) = response(number);
        assert_eq!((said.url, said.body_bytes), (url, entry.body().len()), "response {number}");
        if let Some(vary) = said.vary {
            assert_eq!(said.asked.looks_to(vary), visitor(asked).looks_to(vary), "response {number}");
        }
        let (begun, ended) =
            (books.begun[number as usize].load(SeqCst), books.ended[number as usize].load(SeqCst));
        let names = said.tags.iter().map(|&tag| self.tags[usize::from(tag)]).chain([self.url]);
        for [hard, soft] in names {
            assert!(hard <= begun, "response {number}, begun at {begun}, was purged at {hard}");
            assert!(!fresh || soft <= begun, "response {number}, begun at {begun}, was softened at {soft}");
        }
        if ended == 0 {
            return;
        }
        for (vary, commits) in self.commits.iter().enumerate() {
            let vary = (vary < VARIES.len()).then_some(vary as u8);
            for (other, &began) in commits.iter().enumerate() {
                let displaces = vary != said.vary
                    || vary
                        .is_none_or(|vary| visitor(other as u8).looks_to(vary) == said.asked.looks_to(vary));
                assert!(!displaces || began <= ended, "response {number} of {ended} after that of {began}");
            }
        }
    }
}

/// One store, four threads, `steps` steps each. Returns how many look-ups were answered.
pub(crate) fn round(settings: Settings, seed: u64, steps: u64) -> u64 {
    let store = Store::new(settings, KeySecret::new([4; 16]));
    let books = Books::new((THREADS * steps) as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, books) = (&store, &books);
            scope.spawn(move || work(store, books, Random(seed ^ (thread << 56)), thread * steps, steps));
        }
    });
    end(&store, &books, settings);
    books.served.into_inner()
}

fn work(store: &Store, books: &Books, mut random: Random, first: u64, steps: u64) {
    let now = Moment::from_millis(NOW);
    let mut fills = Vec::new();
    let mut held: Vec<Arc<Entry>> = Vec::new();
    for number in first..first + steps {
        match random.below(100) {
            0..35 => {
                let stamp = store.begin_fill();
                books.begun[number as usize].store(books.tick(), SeqCst);
                fills.push((stamp, number));
                // Some end at once, some after many steps.
                let at = usize::from(random.below(4)) * fills.len() / 4;
                if fills.len() > 6 || random.below(2) == 0 {
                    let (stamp, number) = fills.swap_remove(at.min(fills.len() - 1));
                    let (said, asked) = response(number);
                    let (entry, vary) = entry(store, &said, number, NOW);
                    let began = books.tick();
                    let stored = match store.commit(&stamp, entry, vary, now) {
                        Commit::Stored(_) | Commit::StoredSoft(_) => true,
                        Commit::Refused => false,
                        Commit::TooLarge => panic!("it is not too large"),
                    };
                    if stored {
                        books.ended[number as usize].store(books.tick(), SeqCst);
                        let vary = said.vary.map_or(VARIES.len(), usize::from);
                        books.commits[usize::from(said.url)][vary][usize::from(asked)]
                            .fetch_max(began, SeqCst);
                    }
                }
            }
            35..85 => {
                let (url, asked) = (random.below(URLS), random.below(VISITORS));
                let before = Before::read(books, url);
                let (entry, fresh) = match store.lookup(url_key(store, url), &visitor(asked).headers(), now) {
                    Lookup::Fresh(entry) => (entry, true),
                    Lookup::Grace(entry) => (entry, false),
                    Lookup::Missing | Lookup::Uncacheable => continue,
                    Lookup::Stale(_) => panic!("it has an hour of grace"),
                };
                before.check(books, url, asked, &entry, fresh);
                books.served.fetch_add(1, SeqCst);
                held.push(entry);
                if held.len() > 8 {
                    held.swap_remove(usize::from(random.below(8)));
                }
            }
            85..97 => purge(store, books, &mut random, now),
            97 => store.mark_uncacheable(
                url_key(store, random.below(URLS)),
                Moment::from_millis(NOW + u64::from(random.below(2))),
            ),
            98 => store.settle(now),
            _ => {
                if let Some(entry) = held.pop() {
                    let count = store.purge_entry(&entry, PurgeMode::Hard, now);
                    books.purged.fetch_add(count.purged, SeqCst);
                }
            }
        }
    }
}

fn purge(store: &Store, books: &Books, random: &mut Random, now: Moment) {
    let soft = random.below(3) == 0;
    let began = books.tick();
    let (count, names): (PurgeCount, Vec<&Purged>) = match random.below(16) {
        0 => (store.purge_all(mode(soft), now), vec![&books.all]),
        1..7 => {
            let url = random.below(URLS);
            (store.purge_key(url_key(store, url), mode(soft), now), vec![&books.urls[usize::from(url)]])
        }
        _ => {
            let numbers = [random.below(TAGS), random.below(TAGS)];
            let count = store.purge_tags(&numbers.map(tag), mode(soft), now);
            (count, numbers.iter().map(|&tag| &books.tags[usize::from(tag)]).collect())
        }
    };
    for name in names {
        let last = if soft { &name.soft } else { &name.hard };
        last.fetch_max(began, SeqCst);
    }
    books.purged.fetch_add(count.purged, SeqCst);
}

fn end(store: &Store, books: &Books, settings: Settings) {
    store.settle(Moment::from_millis(NOW));
    let all: Vec<_> = (0..Store::PARTS).flat_map(|part| store.part(part)).collect();
    let stats = store.stats();
    assert_eq!(stats.entries, all.len() as u64);
    assert_eq!(stats.bytes, all.iter().map(|entry| u64::from(entry.weight())).sum::<u64>());
    assert!(stats.bytes <= settings.memory_bytes, "{stats:?}");
    for number in 0..TAGS {
        let carriers = all.iter().filter(|entry| entry.tags().contains(&tag(number))).count();
        assert_eq!(store.count_tagged(&tag(number)), carriers, "tag {number}");
    }
    let gone = books.purged.load(SeqCst) + stats.evictions + stats.expired + stats.variants_dropped;
    assert!(stats.stored >= gone + stats.entries, "{gone} gone: {stats:?}");
    assert_eq!(store.purge_all(PurgeMode::Hard, Moment::from_millis(NOW)).purged, stats.entries);
    let stats = store.stats();
    assert_eq!((stats.entries, stats.bytes, stats.tags, stats.tag_bytes), (0, 0, 0, 0));
}
