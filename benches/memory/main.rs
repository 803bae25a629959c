//! Fills a store and tells what an entry takes: by the store's own account, and by the resident memory of the
//! process.
//!
//! Without `--budget` the store has room for everything, and the two numbers should be within a few percent of each
//! other. With `--budget` more is stored than there is room for; then the process must end below 1.15 times the
//! budget plus what it took at the beginning, and the exit code says whether it did.
//!
//! Linux only: it reads `/proc/self/status`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Parser;
use clearcoat_benches::process::{memory, set_up};
use clearcoat_benches::site::{NOW, Site, put, store};
use clearcoat_cache::{Entry, EntryParts, KeySecret, Lookup, Store, VariantKey, VarySpec};
use http::{HeaderMap, HeaderName};

const MIB: u64 = 1 << 20;

/// Pages that a thread takes at once.
const BATCH: u64 = 256;

/// For how long the allocator is given to hand freed pages back; it waits up to a second by itself.
const SETTLING: Duration = Duration::from_millis(2500);

/// Compares what a store says it takes with what the process takes.
#[derive(Parser)]
struct Arguments {
    /// Entries to store
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Bytes of a body, with or without a unit
    #[arg(long, default_value = "1024", value_parser = size)]
    body: u64,
    /// The largest body; sizes are spread evenly over the magnitudes between [default: all the same]
    #[arg(long, value_parser = size)]
    body_max: Option<u64>,
    /// Tags of an entry
    #[arg(long, default_value_t = 3)]
    tags: usize,
    /// Entries of one URL, told apart by a header [default: one, which does not vary]
    #[arg(long)]
    variants: Option<u64>,
    /// The store's memory, such as 256MiB [default: room for everything]
    #[arg(long, value_parser = size)]
    budget: Option<u64>,
    /// Threads that store
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Of a thousand entries, those that are looked up again after they were stored
    #[arg(long, default_value_t = 200)]
    reads: u64,
}

fn size(text: &str) -> Result<u64, String> {
    clearcoat_conf::units::size(text).map_err(|error| error.to_string())
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    set_up()?;
    let body = arguments.body as usize;
    let body_max = arguments.body_max.map_or(body, |most| most as usize);
    let site = Site { body_bytes: (body, body_max), ..Site::new(body, arguments.tags) };
    let mut out = std::io::stdout().lock();

    // One entry comes first, so that what a store and its threads need once is no part of the growth.
    let budget = arguments.budget.unwrap_or_else(|| room_for(&site, arguments.entries));
    let store = store(budget);
    put(&store, site.entry(store.secret(), u64::MAX), None);
    std::thread::sleep(SETTLING);
    let (before, accounted_before) = (memory("VmRSS")?, store.stats().bytes);

    let started = Instant::now();
    let highest = fill(&store, &site, &arguments)?;
    let took = started.elapsed();
    for _ in 0..5 {
        store.settle(NOW);
        std::thread::sleep(SETTLING / 5);
    }
    let stats = store.stats();
    let (after, peak) = (memory("VmRSS")?, memory("VmHWM")?);

    let entries = stats.entries.max(1);
    let (accounted, grown) = (stats.bytes - accounted_before, after.saturating_sub(before));
    writeln!(out, "entries stored      {:>12}  in {:.1} s", arguments.entries, took.as_secs_f64())?;
    writeln!(out, "entries kept        {:>12}", stats.entries)?;
    writeln!(out, "tags                {:>12}", stats.tags)?;
    writeln!(out, "accounted           {:>12}  {:>8} an entry", mib(accounted), accounted / entries)?;
    writeln!(
        out,
        "  of it tags        {:>12}  {:>8} an entry",
        mib(stats.tag_bytes),
        stats.tag_bytes / entries
    )?;
    writeln!(out, "resident, grown by  {:>12}  {:>8} an entry", mib(grown), grown / entries)?;
    let shown = shown_bytes(&site, arguments.entries);
    writeln!(
        out,
        "  beside its text   {:>12}  {:>8} an entry, with {shown} bytes of head and body",
        mib((grown / entries).saturating_sub(shown) * entries),
        (grown / entries).saturating_sub(shown)
    )?;
    writeln!(out, "  at the beginning  {:>12}", mib(before))?;
    writeln!(out, "  most, seen so far {:>12}", mib(peak.max(highest)))?;
    writeln!(out, "resident/accounted  {:>12.3}", grown as f64 / accounted.max(1) as f64)?;
    let Some(budget) = arguments.budget else { return Ok(ExitCode::SUCCESS) };
    let limit = budget + budget * 15 / 100 + before;
    writeln!(
        out,
        "budget              {:>12}  {:.3} of it accounted",
        mib(budget),
        stats.bytes as f64 / budget as f64
    )?;
    writeln!(
        out,
        "limit of resident   {:>12}  {}",
        mib(limit),
        if after < limit { "kept" } else { "PASSED" }
    )?;
    Ok(if after < limit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A little more than the entries weigh. Not much more: the policy's sketch of frequencies is made only when the
/// store is half full, and belongs into the sum.
fn room_for(site: &Site, entries: u64) -> u64 {
    let secret = KeySecret::new([0; 16]);
    let sample = entries.clamp(1, 10_000);
    // Not stored: pages that the allocator keeps from a trial would be missing in the growth.
    let weights = (0..sample).map(|page| u64::from(site.entry(&secret, page).weight()));
    let tags = site.tags as u64 * 128;
    (weights.sum::<u64>() / sample + tags) * entries * 5 / 4 + 16 * MIB
}

/// Bytes of head and body of an entry, on average.
fn shown_bytes(site: &Site, entries: u64) -> u64 {
    let secret = KeySecret::new([0; 16]);
    let sample = entries.clamp(1, 10_000);
    let bytes = (0..sample).map(|page| {
        let parts = site.parts(&secret, page);
        (parts.head.len() + parts.body.len()) as u64
    });
    bytes.sum::<u64>() / sample
}

/// Stores the pages, and looks some of them up again. Returns the most resident memory that was seen.
fn fill(store: &Store, site: &Site, arguments: &Arguments) -> anyhow::Result<u64> {
    let (next, highest) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(site.seed);
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= arguments.entries {
                return Ok(());
            }
            for page in from..arguments.entries.min(from + BATCH) {
                let (entry, vary) = made(site, store, page, arguments.variants);
                put(store, entry, vary);
                if random.u64(..1000) < arguments.reads {
                    let key = site.key(store.secret(), random.u64(..=page));
                    if let Lookup::Fresh(entry) = store.lookup(key, &HeaderMap::new(), NOW) {
                        std::hint::black_box(entry.body().len());
                    }
                }
            }
            if from % (64 * BATCH) == 0 {
                highest.fetch_max(memory("VmRSS")?, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(highest.into_inner())
}

/// The entry of a page; with `variants`, so many pages in a row share the first one's URL.
fn made(site: &Site, store: &Store, page: u64, variants: Option<u64>) -> (Entry, Option<VarySpec>) {
    let parts = site.parts(store.secret(), page);
    let Some(variants) = variants.map(|variants| variants.max(1)) else { return (Entry::new(parts), None) };
    let name = HeaderName::from_static("x-user-context-hash");
    let request = HeaderMap::from_iter([(name.clone(), (page % variants).into())]);
    let key = site.key(store.secret(), page - page % variants);
    let vary = VarySpec::from_names([name]);
    let variant = vary.as_ref().map_or(VariantKey::NONE, |vary| vary.variant(store.secret(), &request));
    (Entry::new(EntryParts { key, variant, ..parts }), vary)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}
