//! How much of a load a store answers, beside a plain LRU of the same size: the share of requests, and of their bytes.
//!
//! The load: pages of a catalogue by Zipf's law, and between them URLs that nobody asks for again (tracking
//! parameters, crawlers, old articles). Sizes are log-normal, as bodies are on the web. Every miss is stored. The same
//! sequence of requests goes to both caches; both weigh an entry as the store does. The clock goes on by so many
//! requests a second, because the store tells its policy of a use by the clock. Bodies are slices of one buffer, so a
//! small machine can run it.

mod lru;

use std::io::Write;

use bytes::Bytes;
use clap::Parser;
use clearcoat_benches::zipf::Zipf;
use clearcoat_cache::{
    Entry, EntryParts, KeySecret, Lifetime, Lookup, Moment, Scheme, Settings, Store, VariantKey,
};
use http::HeaderMap;

use lru::Lru;

const MOST_BODY_BYTES: usize = 1 << 20;

/// Compares the hit ratio of the store with that of a plain LRU.
#[derive(Parser)]
struct Arguments {
    /// Pages of the catalogue
    #[arg(long, default_value_t = 100_000)]
    pages: u64,
    /// Zipf's exponent
    #[arg(long, default_value_t = 0.9)]
    exponent: f64,
    /// Of a hundred requests, those for URLs that nobody asks for again
    #[arg(long, default_value_t = 30)]
    once: u64,
    /// Requests that are counted; half as many go before them to warm up
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Median of the bodies' sizes in bytes
    #[arg(long, default_value_t = 4096.0)]
    median: f64,
    /// Standard deviation of the logarithm of the sizes
    #[arg(long, default_value_t = 1.2)]
    deviation: f64,
    /// Sizes of the caches, in percent of what the whole catalogue weighs
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,25")]
    sizes: Vec<f64>,
    /// Requests a second, one table each
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    rates: Vec<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The requests and what they ask for; the same for the same arguments.
struct Trace {
    catalogue: Zipf,
    random: fastrand::Rng,
    pages: u64,
    once: u64,
    asked: u64,
}

impl Trace {
    fn new(arguments: &Arguments) -> Self {
        Self {
            catalogue: Zipf::with_exponent(arguments.pages, arguments.exponent, arguments.seed),
            random: fastrand::Rng::with_seed(!arguments.seed),
            pages: arguments.pages,
            once: arguments.once,
            asked: 0,
        }
    }
}

impl Iterator for Trace {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.asked += 1;
        // Numbers beyond the catalogue come once each.
        if self.random.u64(..100) < self.once { Some(self.pages + self.asked) } else { self.catalogue.next() }
    }
}

/// Makes the entry of a page, always the same.
struct Maker {
    secret: KeySecret,
    bytes: Bytes,
    head: Bytes,
    median: f64,
    deviation: f64,
}

impl Maker {
    fn key(&self, page: u64) -> clearcoat_cache::CacheKey {
        self.secret.key(Scheme::Https, b"www.example.com", &page.to_le_bytes())
    }

    fn body_bytes(&self, page: u64) -> usize {
        let mut random = fastrand::Rng::with_seed(page.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51ed);
        // Box and Muller: two even numbers make a normal one.
        let normal = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
        (self.median * (self.deviation * normal).exp()).clamp(1.0, MOST_BODY_BYTES as f64) as usize
    }

    fn entry(&self, page: u64, now: Moment) -> Entry {
        Entry::new(EntryParts {
            key: self.key(page),
            variant: VariantKey::NONE,
            url: "https://www.example.com/a-page-of-usual-length".into(),
            status: 200,
            head: self.head.clone(),
            body: self.bytes.slice(..self.body_bytes(page)),
            tags: Box::default(),
            stored: now,
            lifetime: Lifetime { ttl: std::time::Duration::from_secs(86_400 * 365), ..Lifetime::default() },
        })
    }
}

/// What one cache answered.
#[derive(Default)]
struct Score {
    requests: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
}

impl Score {
    fn count(&mut self, hit: bool, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
        self.hits += u64::from(hit);
        self.hit_bytes += if hit { bytes } else { 0 };
    }

    /// Percent of requests and of bytes.
    fn percent(&self) -> [f64; 2] {
        let share = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        [share(self.hits, self.requests), share(self.hit_bytes, self.bytes)]
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    let maker = Maker {
        secret: KeySecret::new(*b"not that secret!"),
        bytes: Bytes::from(vec![b'x'; MOST_BODY_BYTES]),
        head: Bytes::from(vec![b'h'; 250]),
        median: arguments.median,
        deviation: arguments.deviation,
    };
    let catalogue: u64 =
        (0..arguments.pages).map(|page| u64::from(maker.entry(page, Moment::ZERO).weight())).sum();
    writeln!(
        out,
        "{} pages, {} MiB; zipf {}, {} % of requests for URLs that come once; {} requests\n",
        arguments.pages,
        catalogue >> 20,
        arguments.exponent,
        arguments.once,
        arguments.requests
    )?;
    writeln!(out, "                          requests                     bytes")?;
    writeln!(out, "requests/s    size      store     lru  points     store     lru  points")?;
    for &rate in &arguments.rates {
        for &size in &arguments.sizes {
            let memory_bytes = (catalogue as f64 * size / 100.0) as u64;
            let [store, lru] = compare(&arguments, &maker, memory_bytes, rate).map(|score| score.percent());
            write!(out, "{rate:>10}  {size:>4} %  ")?;
            for (store, lru) in store.into_iter().zip(lru) {
                write!(out, "  {store:>6.2}  {lru:>6.2}  {:>+6.2}", store - lru)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// The store's score and that of an LRU.
fn compare(arguments: &Arguments, maker: &Maker, memory_bytes: u64, rate: u64) -> [Score; 2] {
    let store = Store::new(Settings { memory_bytes, max_variants: 64, max_marks: 0 }, maker.secret.clone());
    let mut lru = Lru::new(memory_bytes);
    let [mut by_store, mut by_lru] = [Score::default(), Score::default()];
    let warm_up = arguments.requests / 2;
    let request = HeaderMap::new();
    for (number, page) in (0..arguments.requests + warm_up).zip(Trace::new(arguments)) {
        let now = Moment::from_millis(number * 1000 / rate.max(1));
        let hits = [matches!(store.lookup(maker.key(page), &request, now), Lookup::Fresh(_)), lru.get(page)];
        if hits != [true, true] {
            let entry = maker.entry(page, now);
            let weight = u64::from(entry.weight());
            if !hits[0] {
                store.commit(&store.begin_fill(), entry, None, now);
            }
            if !hits[1] {
                lru.put(page, weight);
            }
        }
        // As the server does.
        if number % rate.max(1) == 0 {
            store.settle(now);
        }
        if number >= warm_up {
            let bytes = maker.body_bytes(page) as u64;
            by_store.count(hits[0], bytes);
            by_lru.count(hits[1], bytes);
        }
    }
    [by_store, by_lru]
}
