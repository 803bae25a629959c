//! Storing into stores of a hundred thousand and of a million entries, by one thread and by two: new pages where there
//! is room, pages that are there already, and new pages where as many have to go.
//!
//! The entry is made before the clock starts. Moka is told in batches: one commit in some hundred does the work of all,
//! so the mean is above the median.

use std::sync::atomic::{AtomicU64, Ordering};

use clearcoat_benches::scale::scaled;
use clearcoat_benches::site::{NOW, Site, store};
use clearcoat_cache::{Commit, Store};
use divan::{Bencher, black_box};

/// Three tags, as pages have at least.
const SITE: Site = Site::new(64, 3);

const SIZES: [u64; 2] = [100_000, 1_000_000];

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 500, sample_count = 40)]
fn new(bencher: Bencher<'_, '_>, entries: u64) {
    let (store, entries) = (store(8 << 30), scaled(entries));
    SITE.fill(&store, 0..entries);
    bench(bencher, &store, |turn| entries + turn);
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 500, sample_count = 40)]
fn replaced(bencher: Bencher<'_, '_>, entries: u64) {
    let (store, entries) = (store(8 << 30), scaled(entries));
    SITE.fill(&store, 0..entries);
    // Any order but the one in which they lie in memory.
    bench(bencher, &store, |turn| turn.wrapping_mul(7_919) % entries);
}

#[divan::bench(args = SIZES, threads = [1, 2], sample_size = 500, sample_count = 40)]
fn new_when_full(bencher: Bencher<'_, '_>, entries: u64) {
    let entries = scaled(entries);
    let probe = store(8 << 30);
    SITE.fill(&probe, 0..1000);
    let store = store(probe.stats().bytes / 1000 * entries);
    SITE.fill(&store, 0..entries * 3 / 2);
    bench(bencher, &store, |turn| entries * 2 + turn);
    store.settle(NOW);
    assert!(store.stats().evictions > 0, "it was full: {:?}", store.stats());
}

fn bench(bencher: Bencher<'_, '_>, store: &Store, page: impl Fn(u64) -> u64 + Sync) {
    let turn = AtomicU64::new(0);
    bencher
        .with_inputs(|| {
            let page = page(turn.fetch_add(1, Ordering::Relaxed));
            (store.begin_fill(), SITE.entry(store.secret(), page))
        })
        .bench_values(|(stamp, entry)| {
            let committed = store.commit(&stamp, entry, None, NOW);
            assert!(matches!(black_box(committed), Commit::Stored(_)));
        });
}
