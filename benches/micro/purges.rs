//! Purging. Each purge has a tag or a URL of its own, whose entries are stored before the clock starts, so that every
//! purge finds what its name says.

use std::cell::RefCell;

use clearcoat_benches::scale::scaled;
use clearcoat_benches::site::{NOW, Site, put, store, tag};
use clearcoat_cache::{CacheKey, Entry, EntryParts, PurgeCount, PurgeMode, Store, Tag};
use clearcoat_purge::{Dialects, Guard, Reader, Settings, apply};
use divan::Bencher;
use http::{HeaderMap, HeaderName, HeaderValue};

const SITE: Site = Site::new(1024, 3);

fn main() {
    divan::main();
}

/// A store of a hundred thousand pages, to which carriers of new tags are added.
struct Stock {
    store: Store,
    next_page: u64,
}

impl Stock {
    fn of_100k() -> Self {
        let (store, next_page) = (store(8 << 30), scaled(100_000));
        SITE.fill(&store, 0..next_page);
        store.settle(NOW);
        Self { store, next_page }
    }

    /// Stores `carriers` pages with their own tags and a new one in common.
    fn add(&mut self, carriers: u64) -> Tag {
        let common = tag(&format!("bench{}", self.next_page));
        for page in self.next_page..self.next_page + carriers {
            let parts = SITE.parts(self.store.secret(), page);
            let tags = parts.tags.iter().cloned().chain([common.clone()]).collect();
            put(&self.store, Entry::new(EntryParts { tags, ..parts }), None);
        }
        self.next_page += carriers;
        // What has no room any more must not be let go by the purge.
        self.store.settle(NOW);
        common
    }
}

#[divan::bench(sample_size = 50)]
fn purge_tag_10_of_100k(bencher: Bencher<'_, '_>) {
    purge_tag(bencher, 10, PurgeMode::Hard);
}

#[divan::bench(sample_size = 1)]
fn purge_tag_1k_of_100k(bencher: Bencher<'_, '_>) {
    purge_tag(bencher, scaled(1000), PurgeMode::Hard);
}

#[divan::bench(sample_size = 1)]
fn soft_purge_tag_1k_of_100k(bencher: Bencher<'_, '_>) {
    purge_tag(bencher, scaled(1000), PurgeMode::Soft);
}

/// Most purges of a busy editor find nothing.
#[divan::bench(sample_size = 1000)]
fn purge_tag_unknown(bencher: Bencher<'_, '_>) {
    let stock = Stock::of_100k();
    let unknown = [tag("unknown")];
    bencher.bench(|| stock.store.purge_tags(&unknown, PurgeMode::Hard, NOW));
}

fn purge_tag(bencher: Bencher<'_, '_>, carriers: u64, mode: PurgeMode) {
    let stock = RefCell::new(Stock::of_100k());
    let expected = match mode {
        PurgeMode::Hard => PurgeCount { purged: carriers, softened: 0 },
        PurgeMode::Soft => PurgeCount { purged: 0, softened: carriers },
    };
    bencher.with_inputs(|| [stock.borrow_mut().add(carriers)]).bench_local_values(|tags| {
        assert_eq!(stock.borrow().store.purge_tags(&tags, mode, NOW), expected);
    });
}

#[divan::bench(sample_size = 200)]
fn purge_url(bencher: Bencher<'_, '_>) {
    let stock = RefCell::new(Stock::of_100k());
    let stored = || {
        let mut stock = stock.borrow_mut();
        let page = stock.next_page;
        stock.add(1);
        SITE.key(stock.store.secret(), page)
    };
    bencher.with_inputs(stored).bench_local_values(|key| {
        assert_eq!(stock.borrow().store.purge_key(key, PurgeMode::Hard, NOW).purged, 1);
    });
}

/// The whole way of a `PURGEKEYS` with ten tags, from the headers to the reason phrase; nobody carries them.
#[divan::bench(sample_size = 1000)]
fn purge_request_10_tags(bencher: Bencher<'_, '_>) {
    let stock = Stock::of_100k();
    let guard = Guard::new(Settings {
        allow: ["127.0.0.1/32", "10.0.0.0/8", "192.168.0.0/16"]
            .iter()
            .filter_map(|net| net.parse().ok())
            .collect(),
        token: None,
    });
    let sender = Some(std::net::IpAddr::from([192, 168, 1, 7]));
    let tags = HeaderValue::from_static("x1042 x1043 x1044 x1045 x1046 x1047 x1048 x1049 x1050 x1051");
    let headers = HeaderMap::from_iter([(HeaderName::from_static("xkey-purge"), tags)]);
    let reader = Reader::new(Vec::new(), Vec::new());
    bencher.bench(|| {
        let request = reader.read(
            Dialects::ALL,
            "PURGEKEYS",
            divan::black_box(&headers),
            vec![CacheKey::from_number(1)],
        );
        guard.admit(request, sender, None).map(|admitted| apply(admitted, &stock.store, NOW, |rest| rest()))
    });
}

/// The check of the sender alone, by token.
#[divan::bench(sample_size = 1000)]
fn admit_by_token(bencher: Bencher<'_, '_>) {
    let guard = Guard::new(Settings { allow: Vec::new(), token: Some(b"a secret of some length".to_vec()) });
    let headers = HeaderMap::new();
    let reader = Reader::new(Vec::new(), Vec::new());
    bencher.bench(|| {
        let asked = reader.read(Dialects::ALL, "PURGE", &headers, vec![CacheKey::from_number(1)]);
        let admitted = guard.admit(asked, None, Some(b"a secret of some length"));
        assert!(admitted.is_ok());
        admitted
    });
}
