//! Looking up and storing.
//!
//! Every look-up bench asks for keys out of a sequence drawn beforehand; the key's hash is timed apart, in
//! `freshness.rs`. The sizes of samples are set by hand: with two threads a sample must be long enough for both to be
//! at it at once, and elsewhere for a cold start not to count. What a look-up returns is dropped inside the timed part, as a request would.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use clearcoat_benches::scale::scaled;
use clearcoat_benches::site::{NOW, Site, put, store};
use clearcoat_benches::zipf::Zipf;
use clearcoat_cache::{
    CacheKey, Commit, Entry, EntryParts, FillStamp, Lookup, SelectingHeaders, Store, VarySpec,
};
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue};

/// More than any bench here fills.
const ROOMY: u64 = 4 << 30;

const SITE: Site = Site::new(1024, 3);
const UNTAGGED: Site = Site::new(1024, 0);

/// Keys in the sequence that a bench goes through over and over.
const SEQUENCE: usize = 1 << 16;

fn main() {
    divan::main();
}

/// A full store and the keys to ask it for, one after the other.
struct Warm {
    store: Store,
    keys: Vec<CacheKey>,
    next: AtomicUsize,
}

impl Warm {
    fn new(entries: u64, pages: impl Iterator<Item = u64>) -> Self {
        let store = store(ROOMY);
        UNTAGGED.fill(&store, 0..entries);
        store.settle(NOW);
        let keys: Vec<_> = pages.take(SEQUENCE).map(|page| UNTAGGED.key(store.secret(), page)).collect();
        // The first use of an entry is told to the policy; that happens now and then and is not timed.
        for key in &keys {
            store.lookup(*key, &HeaderMap::new(), NOW);
        }
        Self { store, keys, next: AtomicUsize::new(0) }
    }

    fn key(&self) -> CacheKey {
        self.keys[self.next.fetch_add(1, Ordering::Relaxed) % self.keys.len()]
    }

    fn bench(&self, bencher: Bencher<'_, '_>, request: &(impl SelectingHeaders + Sync)) {
        bencher.with_inputs(|| self.key()).bench_values(|key| outcome(self.store.lookup(key, request, NOW)));
    }
}

/// Looks at what came and lets it go: bytes of the body, if there is one.
fn outcome(lookup: Lookup) -> Option<usize> {
    match lookup {
        Lookup::Fresh(entry) | Lookup::Grace(entry) | Lookup::Stale(entry) => Some(entry.body().len()),
        Lookup::Uncacheable | Lookup::Missing => None,
    }
}

fn even(pages: u64) -> impl Iterator<Item = u64> {
    let mut random = fastrand::Rng::with_seed(2);
    std::iter::repeat_with(move || random.u64(..pages))
}

static SMALL: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(10_000), even(scaled(10_000))));
static LARGE: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(100_000), Zipf::new(scaled(100_000), 3)));

#[divan::bench(sample_size = 1000)]
fn lookup_hit_10k_entries(bencher: Bencher<'_, '_>) {
    SMALL.bench(bencher, &HeaderMap::new());
}

#[divan::bench(sample_size = 1000)]
fn lookup_hit_100k_entries_zipf(bencher: Bencher<'_, '_>) {
    LARGE.bench(bencher, &HeaderMap::new());
}

#[divan::bench(threads = [2], sample_size = 20000)]
fn lookup_hit_two_threads(bencher: Bencher<'_, '_>) {
    LARGE.bench(bencher, &HeaderMap::new());
}

/// Both threads ask for one page: they share the counter of its `Arc` and the lock of its part.
#[divan::bench(threads = [2], sample_size = 20000)]
fn lookup_hit_two_threads_one_page(bencher: Bencher<'_, '_>) {
    static ONE: LazyLock<Warm> = LazyLock::new(|| Warm::new(scaled(1000), std::iter::repeat(0)));
    ONE.bench(bencher, &HeaderMap::new());
}

#[divan::bench(sample_size = 1000)]
fn lookup_miss(bencher: Bencher<'_, '_>) {
    static ABSENT: LazyLock<Warm> = LazyLock::new(|| {
        let entries = scaled(100_000);
        Warm::new(entries, even(entries).map(move |page| page + entries))
    });
    ABSENT.bench(bencher, &HeaderMap::new());
}

/// A thousand URLs of four variants each, by encoding and user context as with eZ Platform.
#[divan::bench(sample_size = 1000)]
fn lookup_vary(bencher: Bencher<'_, '_>) {
    const USERS: u64 = 4;
    let store = store(ROOMY);
    let vary = VarySpec::from_names(request(0).keys().cloned());
    let resources = scaled(1000);
    for resource in 0..resources {
        for user in 0..USERS {
            let parts = UNTAGGED.parts(store.secret(), resource);
            let variant =
                vary.as_ref().map_or(parts.variant, |vary| vary.variant(store.secret(), &request(user)));
            put(&store, Entry::new(EntryParts { variant, ..parts }), vary.clone());
        }
    }
    let asked = request(2);
    let mut random = fastrand::Rng::with_seed(4);
    bencher
        .with_inputs(|| UNTAGGED.key(store.secret(), random.u64(..resources)))
        .bench_local_values(|key| outcome(store.lookup(key, &asked, NOW)));
}

/// What a request carries of what is varied on.
fn request(user: u64) -> HeaderMap {
    HeaderMap::from_iter([
        (http::header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd")),
        (HeaderName::from_static("x-user-context-hash"), HeaderValue::from(user)),
    ])
}

/// Making an entry: its own copy of the head, its weight.
#[divan::bench(sample_size = 1000)]
fn entry_1k(bencher: Bencher<'_, '_>) {
    let store = store(ROOMY);
    let mut pages = 0..;
    bencher
        .with_inputs(|| SITE.parts(store.secret(), pages.next().unwrap_or_default()))
        .bench_local_values(Entry::new);
}

#[divan::bench(sample_size = 200)]
fn commit_1k_entry(bencher: Bencher<'_, '_>) {
    commit(bencher, &store(ROOMY), &UNTAGGED, 0..);
}

#[divan::bench(sample_size = 200)]
fn commit_tagged_10(bencher: Bencher<'_, '_>) {
    commit(bencher, &store(ROOMY), &Site::new(1024, 10), 0..);
}

/// As in a store that has been running for a while: one comes, another goes.
#[divan::bench(sample_size = 200)]
fn commit_when_full(bencher: Bencher<'_, '_>) {
    let store = store(scaled(64 << 20));
    let entries = scaled(60_000);
    SITE.fill(&store, 0..entries);
    commit(bencher, &store, &SITE, entries..);
}

/// A refresh: the same page again.
#[divan::bench(sample_size = 200)]
fn replace_entry(bencher: Bencher<'_, '_>) {
    let (store, entries) = (store(ROOMY), scaled(10_000));
    SITE.fill(&store, 0..entries);
    store.settle(NOW);
    commit(bencher, &store, &SITE, (0..entries).cycle());
}

fn commit(bencher: Bencher<'_, '_>, store: &Store, site: &Site, mut pages: impl Iterator<Item = u64>) {
    let input = || -> (FillStamp, Entry) {
        (store.begin_fill(), site.entry(store.secret(), pages.next().unwrap_or_default()))
    };
    bencher.with_inputs(input).bench_local_values(|(stamp, entry)| {
        let committed = store.commit(&stamp, entry, None, NOW);
        assert!(matches!(black_box(committed), Commit::Stored(_)));
    });
}
