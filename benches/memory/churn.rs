//! Churns a store: millions of pages of all sizes go through a budget that holds a few thousand, as a crawler does to
//! an edge, and the resident memory of the process is held against the budget.
//!
//! Sizes are spread evenly over the magnitudes; every other page is one that comes back (Zipf), so that popular pages
//! stay and become old among those that come and go: what fragments a heap. At the end all is purged, and what the
//! process gives back is shown.
//!
//! The exit code says whether the process stayed below `--allowed` hundredths of the budget, plus what it took before
//! the first page, from the first page to the last.
//!
//! Linux only: it reads `/proc/self/status`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Parser;
use clearcoat_benches::process::{ALLOCATOR, Counted, counted, memory, processor_seconds, set_up};
use clearcoat_benches::site::{NOW, Site, put, store};
use clearcoat_benches::zipf::Zipf;
use clearcoat_cache::{Footprint, Governor, Lookup, Moment, PurgeMode, Store};
use http::HeaderMap;

const MIB: f64 = (1 << 20) as f64;

/// Pages that come back.
const POPULAR: u64 = 1 << 18;

/// Pages that a thread takes at once.
const BATCH: u64 = 64;

/// Holds the memory of the process against the budget of a store while pages pour through it.
#[derive(Parser)]
struct Arguments {
    /// Pages to store, and as many requests for pages that come back
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// The smallest body
    #[arg(long, default_value = "200", value_parser = size)]
    body: u64,
    /// The largest body
    #[arg(long, default_value = "1MB", value_parser = size)]
    body_max: u64,
    /// Tags of an entry
    #[arg(long, default_value_t = 3)]
    tags: usize,
    /// The store's memory
    #[arg(long, default_value = "1GiB", value_parser = size)]
    budget: u64,
    /// Threads that store
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Hundredths of the budget that the process may take
    #[arg(long, default_value_t = 115)]
    allowed: u64,
    /// Lines of the table
    #[arg(long, default_value_t = 20)]
    lines: u64,
}

fn size(text: &str) -> Result<u64, String> {
    clearcoat_conf::units::size(text).map_err(|error| error.to_string())
}

/// What the threads share.
struct Progress {
    next: AtomicU64,
    asked: AtomicU64,
    hits: AtomicU64,
    done: AtomicBool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    set_up()?;
    let sizes = (arguments.body as usize, arguments.body_max as usize);
    let site = Site { body_bytes: sizes, ..Site::new(0, arguments.tags) };
    let mut out = std::io::stdout().lock();
    let store = store(arguments.budget);
    let popular: Vec<Zipf> = (0..arguments.threads).map(|seed| Zipf::new(POPULAR, seed)).collect();
    let base = memory("VmRSS")?;
    let counted_before = counted().unwrap_or_default();
    let limit = arguments.budget * arguments.allowed / 100 + base;
    writeln!(
        out,
        "allocator {ALLOCATOR}, budget {:.0} MiB, base {:.1} MiB",
        arguments.budget as f64 / MIB,
        base as f64 / MIB
    )?;
    writeln!(
        out,
        "{:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>6}",
        "stored", "entries", "account", "live", "active", "resident", "RSS", "acc/live", "RSS/bud", "hits"
    )?;

    let progress = Progress {
        next: AtomicU64::new(0),
        asked: AtomicU64::new(0),
        hits: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let started = Instant::now();
    let (mut highest, mut printed) = (0, 0);
    let lowest = AtomicU64::new(arguments.budget);
    let used_before = processor_seconds()?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (store, site, progress, arguments) = (&store, &site, &progress, &arguments);
        let (footprint, lowest) = (footprint_of(counted_before)?, &lowest);
        // As in the server: every second it settles, and what the process takes for nothing is measured.
        scope.spawn(move || {
            let mut governor = Governor::new(arguments.budget, footprint);
            while !progress.done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1000));
                store.settle(NOW);
                let now = counted().and_then(|counted| footprint_of(counted).ok());
                if let Some(capacity) = now.and_then(|now| governor.measure(now)) {
                    lowest.fetch_min(capacity, Ordering::Relaxed);
                    store.set_memory(capacity);
                }
            }
        });
        let threads: Vec<_> = popular
            .into_iter()
            .map(|popular| {
                scope.spawn(move || churn(store, site, arguments.entries, progress, popular, started))
            })
            .collect();
        loop {
            let stored = progress.next.load(Ordering::Relaxed).min(arguments.entries);
            highest = highest.max(memory("VmRSS")?);
            if stored >= printed + arguments.entries / arguments.lines || stored == arguments.entries {
                printed = stored;
                line(&mut out, store, arguments.budget, base, counted_before, progress, stored)?;
            }
            if stored == arguments.entries {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked")));
        progress.done.store(true, Ordering::Relaxed);
        ended
    })?;
    let used = processor_seconds()?;
    let (own, system) = (used.0 - used_before.0, used.1 - used_before.1);
    let operations = (arguments.entries * 2) as f64;
    writeln!(
        out,
        "took {:.1} s; processor time {own:.1} s + {system:.1} s in the system, {:.2} us an operation",
        started.elapsed().as_secs_f64(),
        (own + system) / operations * 1e6
    )?;
    store.settle(NOW);
    std::thread::sleep(Duration::from_millis(2500));
    line(&mut out, &store, arguments.budget, base, counted_before, &progress, arguments.entries)?;
    store.purge_all(PurgeMode::Hard, NOW);
    for seconds in [0, 1, 2, 5, 5] {
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            store.settle(NOW);
        }
        writeln!(out, "after the purge, {seconds} s later: RSS {:.1} MiB", memory("VmRSS")? as f64 / MIB)?;
    }
    writeln!(out, "the store was allowed {:.1} MiB at the least", lowest.into_inner() as f64 / MIB)?;
    let peak = memory("VmHWM")?;
    let highest = highest.max(peak);
    writeln!(
        out,
        "peak {:.1} MiB, less the base {:.3} of the budget; allowed {:.1} MiB: {}",
        highest as f64 / MIB,
        (highest - base) as f64 / arguments.budget as f64,
        limit as f64 / MIB,
        if highest <= limit { "kept" } else { "PASSED" }
    )?;
    Ok(if highest <= limit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn footprint_of(counted: Counted) -> anyhow::Result<Footprint> {
    Ok(Footprint { resident_bytes: memory("VmRSS")?, live_bytes: counted.live })
}

/// Takes batches of pages until none is left: each new page is stored, and a popular one is looked up, and stored if
/// it is not there.
fn churn(store: &Store, site: &Site, entries: u64, progress: &Progress, mut popular: Zipf, started: Instant) {
    let request = HeaderMap::new();
    loop {
        let from = progress.next.fetch_add(BATCH, Ordering::Relaxed);
        if from >= entries {
            return;
        }
        // The clock of a cache that is asked a hundred times less often.
        let now = Moment::from_millis(NOW.as_millis() + started.elapsed().as_millis() as u64 * 10);
        let (mut asked, mut hits) = (0, 0);
        for page in from..entries.min(from + BATCH) {
            put(store, site.entry(store.secret(), POPULAR + page), None);
            let Some(page) = popular.next() else { return };
            asked += 1;
            match store.lookup(site.key(store.secret(), page), &request, now) {
                Lookup::Fresh(entry) => {
                    std::hint::black_box(entry.body().len());
                    hits += 1;
                }
                Lookup::Grace(_) | Lookup::Stale(_) | Lookup::Uncacheable | Lookup::Missing => {
                    put(store, site.entry(store.secret(), page), None);
                }
            }
        }
        progress.asked.fetch_add(asked, Ordering::Relaxed);
        progress.hits.fetch_add(hits, Ordering::Relaxed);
    }
}

fn line(
    out: &mut impl Write,
    store: &Store,
    budget: u64,
    base: u64,
    before: Counted,
    progress: &Progress,
    stored: u64,
) -> anyhow::Result<()> {
    let stats = store.stats();
    let now = counted().unwrap_or_default();
    let rss = memory("VmRSS")?;
    let asked = progress.asked.swap(0, Ordering::Relaxed);
    let hits = progress.hits.swap(0, Ordering::Relaxed);
    let live = now.live.saturating_sub(before.live);
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB);
    writeln!(
        out,
        "{stored:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8.3} {:>8.3} {:>6.3}",
        stats.entries,
        mib(stats.bytes),
        mib(live),
        mib(now.active),
        mib(now.resident),
        mib(rss),
        stats.bytes as f64 / live.max(1) as f64,
        (rss - base) as f64 / budget as f64,
        hits as f64 / asked.max(1) as f64,
    )?;
    out.flush()?;
    Ok(())
}
