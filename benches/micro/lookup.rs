//! Look-ups in stores of a hundred thousand and of a million entries, by one thread and by two, what choosing a
//! variant adds, and the look-ups for which there is a goal: [`hit_zipf_two_threads`].
//!
//! Keys come out of a sequence drawn evenly beforehand: the worst case for the processor's caches; but by popularity where
//! the name says `zipf`. The key's hash is timed apart, in `freshness.rs`. What a look-up returns is dropped inside the
//! timed part, as a request would.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clearcoat_benches::scale::{is_measured, scaled};
use clearcoat_benches::site::{NOW, Site, put, store};
use clearcoat_benches::zipf::Zipf;
use clearcoat_cache::{
    CacheKey, Entry, EntryParts, KeySecret, Lifetime, Lookup, Moment, Settings, Store, VariantKey, VarySpec,
};
use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue, header};

const SITE: Site = Site::new(64, 0);
const SEQUENCE: usize = 1 << 16;

/// When the entries are in grace: they are fresh for a minute.
const LATER: Moment = Moment::from_millis(NOW.as_millis() + 120_000);

const SIZES: [u64; 2] = [100_000, 1_000_000];

fn main() {
    divan::main();
}

/// A full store and the pages to ask it for, one after the other.
struct Warm {
    store: Store,
    there: Vec<CacheKey>,
    absent: Vec<CacheKey>,
    next: AtomicUsize,
}

impl Warm {
    fn new(entries: u64) -> Self {
        let store = store(4 << 30);
        let lifetime = Lifetime {
            ttl: Duration::from_secs(60),
            grace: Duration::from_secs(86_400),
            ..Lifetime::default()
        };
        for page in 0..entries {
            put(&store, Entry::new(EntryParts { lifetime, ..SITE.parts(store.secret(), page) }), None);
        }
        store.settle(NOW);
        let mut random = fastrand::Rng::with_seed(2);
        let pages: Vec<_> = (0..SEQUENCE).map(|_| random.u64(..entries)).collect();
        let key = |page: u64| SITE.key(store.secret(), page);
        let there: Vec<_> = pages.iter().map(|&page| key(page)).collect();
        let absent = pages.iter().map(|&page| key(page + entries)).collect();
        // The first use of an entry is told to the policy; that happens now and then and is not timed.
        for &key in &there {
            store.lookup(key, &HeaderMap::new(), NOW);
        }
        Self { store, there, absent, next: AtomicUsize::new(0) }
    }

    fn of(entries: u64) -> &'static Self {
        static SMALL: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(SIZES[0])));
        static LARGE: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(SIZES[1])));
        if entries == SIZES[0] { &SMALL } else { &LARGE }
    }

    fn bench(&self, bencher: Bencher<'_, '_>, keys: &[CacheKey], now: Moment, expected: &str) {
        let request = HeaderMap::new();
        assert_eq!(word(&self.store.lookup(keys[0], &request, now)), expected);
        bencher
            .with_inputs(|| keys[self.next.fetch_add(1, Ordering::Relaxed) % keys.len()])
            .bench_values(|key| word(&self.store.lookup(key, &request, now)).len());
    }
}

fn word(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Fresh(_) => "fresh",
        Lookup::Grace(_) => "grace",
        Lookup::Stale(_) => "stale",
        Lookup::Uncacheable => "uncacheable",
        Lookup::Missing => "missing",
    }
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 10_000)]
fn hit(bencher: Bencher<'_, '_>, entries: u64) {
    let warm = Warm::of(entries);
    warm.bench(bencher, &warm.there, NOW, "fresh");
}

/// Keys of a sequence by popularity: long, so that rare pages are in it too.
const POPULAR_SEQUENCE: usize = 1 << 20;

/// Two threads at once, each asking for pages by Zipf's law. The time is that of one look-up in one thread: what a request
/// waits. The goal is below 350 ns at a thousand entries and below 1 µs at a million.
///
/// The pages of a sample are drawn before its clock starts, other ones for each thread. The most popular pages do not stand
/// side by side in memory, as they would if they had been stored first.
#[divan::bench(args = [1000, 1_000_000], threads = [2], sample_size = 10_000)]
fn hit_zipf_two_threads(bencher: Bencher<'_, '_>, entries: u64) {
    static FEW: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(1000)));
    let warm = if entries == 1000 { &*FEW } else { Warm::of(entries) };
    let entries = scaled(entries);
    // Prime, and so every page has its place by popularity.
    const STRIDE: u64 = 7919;
    let draws = if is_measured() { POPULAR_SEQUENCE } else { 1000 };
    let keys: Vec<_> = Zipf::new(entries, 3)
        .take(draws)
        .map(|rank| SITE.key(warm.store.secret(), rank * STRIDE % entries))
        .collect();
    for &key in &keys {
        warm.store.lookup(key, &HeaderMap::new(), NOW);
    }
    warm.bench(bencher, &keys, NOW, "fresh");
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 10_000)]
fn grace(bencher: Bencher<'_, '_>, entries: u64) {
    let warm = Warm::of(entries);
    warm.bench(bencher, &warm.there, LATER, "grace");
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 10_000)]
fn miss(bencher: Bencher<'_, '_>, entries: u64) {
    let warm = Warm::of(entries);
    warm.bench(bencher, &warm.absent, NOW, "missing");
}

const LANGUAGE: HeaderName = header::ACCEPT_LANGUAGE;
const HASH: HeaderName = HeaderName::from_static("x-user-context-hash");

/// A hundred URLs of so many variants, and a request for one in the middle.
#[divan::bench(
    args = ["none", "accept-encoding", "three headers", "64 variants", "10000 variants"],
    threads = [1, 2],
    sample_size = 10_000
)]
fn vary(bencher: Bencher<'_, '_>, by: &str) {
    let (names, variants) = match by {
        "none" => (vec![], 1),
        "accept-encoding" => (vec![header::ACCEPT_ENCODING], 1),
        "three headers" => (vec![header::ACCEPT_ENCODING, LANGUAGE, HASH], 4),
        "64 variants" => (vec![HASH], 64),
        _ => (vec![HASH], scaled(10_000)),
    };
    let settings = Settings { memory_bytes: 4 << 30, max_variants: 10_000, max_marks: 0 };
    let store = Store::new(settings, KeySecret::new(*b"not that secret!"));
    let vary = VarySpec::from_names(names);
    let pages = scaled(100);
    for page in 0..pages {
        for user in 0..variants {
            let parts = SITE.parts(store.secret(), page);
            let variant =
                vary.as_ref().map_or(VariantKey::NONE, |vary| vary.variant(store.secret(), &request(user)));
            put(&store, Entry::new(EntryParts { variant, ..parts }), vary.clone());
        }
    }
    let keys: Vec<_> = (0..pages).map(|page| SITE.key(store.secret(), page)).collect();
    let (asked, next) = (request(variants / 2), AtomicUsize::new(0));
    assert_eq!(word(&store.lookup(keys[0], &asked, NOW)), "fresh");
    bencher
        .with_inputs(|| keys[next.fetch_add(1, Ordering::Relaxed) % keys.len()])
        .bench_values(|key| word(&store.lookup(key, &asked, NOW)).len());
}

fn request(user: u64) -> HeaderMap {
    HeaderMap::from_iter([
        (header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd")),
        (LANGUAGE, HeaderValue::from_static("en-GB,en;q=0.9,de;q=0.5")),
        (HASH, HeaderValue::from(user)),
    ])
}
