//! Operations of `clearcoat_cache`.

use std::time::{Duration, SystemTime};

use clearcoat_cache::{
    FreshnessSettings, KeySecret, Lookup, PurgeCount, PurgeMode, RequestFacts, Scheme, Verdict, assess,
};
use http::{HeaderMap, Method, StatusCode};

use crate::site::{HOST, NOW, Site, store, tag};
use crate::visit;

const UNTAGGED: Site = Site::new(64, 0);
const TAGGED: Site = Site::new(64, 3);

/// More than any store here fills.
const ROOMY: u64 = 4 << 30;

/// Keys that a look-up goes through over and over.
const SEQUENCE: usize = 1 << 14;

/// A fresh page among so many, evenly drawn; returns the bytes of its body.
pub fn lookup_hit(entries: u64) -> impl FnMut() -> usize {
    let store = store(ROOMY);
    UNTAGGED.fill(&store, 0..entries);
    store.settle(NOW);
    let mut random = fastrand::Rng::with_seed(2);
    let keys: Vec<_> = (0..SEQUENCE).map(|_| UNTAGGED.key(store.secret(), random.u64(..entries))).collect();
    let request = HeaderMap::new();
    // The first use of an entry is told to the policy; that happens now and then and is not meant.
    for &key in &keys {
        store.lookup(key, &request, NOW);
    }
    let mut next = 0;
    move || {
        next = (next + 1) % SEQUENCE;
        match store.lookup(keys[next], &request, NOW) {
            Lookup::Fresh(entry) => entry.body().len(),
            Lookup::Grace(_) | Lookup::Stale(_) | Lookup::Uncacheable | Lookup::Missing => {
                panic!("every page is there")
            }
        }
    }
}

/// The key of a URL.
pub fn key_of_url() -> impl FnMut() -> clearcoat_cache::CacheKey {
    let (secret, target) = (KeySecret::new([1; 16]), Site::new(0, 0).target(12_345));
    move || {
        let target = std::hint::black_box(target.as_bytes());
        secret.key(Scheme::Https, std::hint::black_box(HOST.as_bytes()), target)
    }
}

/// Whether a response may be stored, and for how long.
pub fn assess_freshness(headers: HeaderMap) -> impl FnMut() -> Verdict {
    let settings = FreshnessSettings { keep: Duration::from_secs(600), ..FreshnessSettings::default() };
    move || {
        let request = RequestFacts { method: &Method::GET, authorization: false, no_store: false };
        let headers = std::hint::black_box(&headers);
        let verdict = assess(&request, StatusCode::OK, headers, &settings, SystemTime::UNIX_EPOCH);
        assert!(matches!(verdict, Verdict::Store(_)));
        verdict
    }
}

/// As [`assess_freshness`], of what a PHP application sends.
pub fn assess_page() -> impl FnMut() -> Verdict {
    assess_freshness(visit::response())
}

/// What is asked of a stored entry at every hit.
pub fn freshness_of_entry() -> impl FnMut() -> (clearcoat_cache::Freshness, u64, i64) {
    let entry = Site::new(1024, 0).entry(&KeySecret::new([1; 16]), 1);
    move || {
        let entry = std::hint::black_box(&entry);
        (entry.freshness(NOW), entry.age_seconds(NOW), entry.ttl_left(NOW))
    }
}

/// Purges a tag that one page of so many has; good for `purges` calls.
pub fn purge_tag(entries: u64, purges: u64) -> impl FnMut() {
    let store = store(ROOMY);
    TAGGED.fill(&store, 0..entries.max(purges));
    store.settle(NOW);
    // The first tag of a page is its own.
    let own: Vec<_> = (0..purges).map(|page| [tag(&format!("c{page}"))]).collect();
    let mut next = 0;
    move || {
        let purged = store.purge_tags(&own[next], PurgeMode::Hard, NOW);
        assert_eq!(purged, PurgeCount { purged: 1, softened: 0 });
        next += 1;
    }
}
