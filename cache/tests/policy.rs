//! The store's own policy against moka's, which many trust: on the same requests it must hit about as often.
//!
//! Each request that misses stores the page, as a fetch does. The seeds are fixed, so the ratios are the same in
//! every run.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{
    Entry, EntryParts, KeySecret, Lifetime, Lookup, Moment, Scheme, Settings, Store, VariantKey,
};
use http::HeaderMap;

const REQUESTS: u64 = 24_000;

/// What is asked for: pages by number, in their order.
type Trace = Box<dyn Iterator<Item = u64>>;

/// Zipf's law with exponent 1: page `n` in proportion to `1 / (n + 1)`.
fn zipf(pages: u64, seed: u64) -> impl FnMut() -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=pages)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    move || {
        let at = random.f64() * sum;
        sums.partition_point(|&sum| sum <= at) as u64
    }
}

/// Popular pages and nothing else.
fn popular() -> Trace {
    let mut next = zipf(20_000, 1);
    Box::new((0..REQUESTS).map(move |_| next()))
}

/// A crawler goes through all the site, page by page, while visitors come.
fn crawled() -> Trace {
    let mut next = zipf(5_000, 2);
    Box::new((0..REQUESTS).map(move |at| if at % 3 == 0 { next() } else { 1_000_000 + at }))
}

/// What is popular changes four times.
fn changing() -> Trace {
    let mut next = zipf(10_000, 3);
    Box::new((0..REQUESTS).map(move |at| next() + at / (REQUESTS / 4) * 1_000_000))
}

/// What was asked for lately is asked for again, and then never more: news.
fn recent() -> Trace {
    let mut random = fastrand::Rng::with_seed(4);
    Box::new((0..REQUESTS).map(move |at| at / 20 + u64::from(random.u8(..))))
}

/// A page's body: every one the same, or of very different sizes.
fn body_bytes(page: u64, mixed: bool) -> usize {
    if !mixed {
        return 4_000;
    }
    let mut random = fastrand::Rng::with_seed(page.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (200.0 * (random.f64() * 500f64.ln()).exp()) as usize
}

fn entry(store: &Store, page: u64, mixed: bool) -> Entry {
    Entry::new(EntryParts {
        key: store.secret().key(Scheme::Http, b"a", &page.to_le_bytes()),
        variant: VariantKey::NONE,
        url: "http://a/".into(),
        status: 200,
        head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
        body: vec![0; body_bytes(page, mixed)].into(),
        tags: Box::default(),
        stored: Moment::ZERO,
        lifetime: Lifetime { ttl: Duration::from_secs(u32::MAX.into()), ..Lifetime::default() },
    })
}

/// Percent of requests that hit in the store.
fn ours(trace: Trace, memory_bytes: u64, mixed: bool) -> f64 {
    let store = Store::new(Settings { memory_bytes, max_variants: 4, max_marks: 0 }, KeySecret::new([1; 16]));
    let (mut asked, mut hits) = (0u32, 0u32);
    for page in trace {
        let now = Moment::from_millis(u64::from(asked));
        asked += 1;
        let key = store.secret().key(Scheme::Http, b"a", &page.to_le_bytes());
        match store.lookup(key, &HeaderMap::new(), now) {
            Lookup::Fresh(_) => hits += 1,
            _ => _ = store.commit(&store.begin_fill(), entry(&store, page, mixed), None, now),
        }
        assert!(store.stats().bytes <= memory_bytes);
    }
    f64::from(hits) * 100.0 / f64::from(asked)
}

/// Percent of requests that hit in a moka cache for as many bytes, each entry at the same weight.
fn mokas(trace: Trace, memory_bytes: u64, mixed: bool) -> f64 {
    let store = Store::new(
        Settings { memory_bytes: 1 << 30, max_variants: 4, max_marks: 0 },
        KeySecret::new([1; 16]),
    );
    let moka = moka::sync::Cache::<u64, Arc<Entry>>::builder()
        .max_capacity(memory_bytes)
        .weigher(|_, entry: &Arc<Entry>| entry.weight())
        .build();
    let (mut asked, mut hits) = (0u32, 0u32);
    for page in trace {
        asked += 1;
        if moka.get(&page).is_some() {
            hits += 1;
        } else {
            moka.insert(page, Arc::new(entry(&store, page, mixed)));
        }
        moka.run_pending_tasks();
    }
    f64::from(hits) * 100.0 / f64::from(asked)
}

/// What a trace is called, how it is made, and by how many points the store may hit less often than moka.
type Case = (&'static str, fn() -> Trace, f64);

#[test]
fn it_hits_about_as_often_as_moka() {
    // What is asked for once more and then never again is the weak side of every policy that learns who is popular, and
    // of one that protects what was used in particular.
    // Both choose victims by chance among equals: from run to run the smallest store of mixed sizes differs by a point.
    let cases: [Case; 4] = [
        ("popular", popular, 4.0),
        ("crawled", crawled, 1.0),
        ("changing", changing, 2.5),
        ("recent", recent, 16.0),
    ];
    for (name, trace, less) in cases {
        for mixed in [false, true] {
            for mib in [1, 4] {
                let (own, other) = (ours(trace(), mib << 20, mixed), mokas(trace(), mib << 20, mixed));
                let sizes = if mixed { "mixed" } else { "equal" };
                let found = format!("{name:>8}, sizes {sizes}, {mib} MiB: {own:.1} %, moka {other:.1} %");
                assert!(own >= other - less, "{found}");
            }
        }
    }
}
