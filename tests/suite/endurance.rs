//! What must hold for hours: floods of URLs and of variants, many sessions, refreshes without an end.
//!
//! Each story takes seconds. With `ENDURANCE_SECONDS=300` its load goes on for so long, and it tells what it measured:
//!
//! ```sh
//! ENDURANCE_SECONDS=300 cargo test -p clearcoat-tests --test suite -- endurance --test-threads 1
//! ```

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use clearcoat_tests::node::HEALTH_PATH;
use clearcoat_tests::{Connection, Load, Node, Page, Proxy, Request, Served, Setup, wait};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MIB: u64 = 1 << 20;

/// How long the load goes on; in everyday runs it is a fixed number of requests.
fn long_form() -> Option<Duration> {
    let text = std::env::var("ENDURANCE_SECONDS").ok()?;
    Some(Duration::from_secs(text.parse().expect("ENDURANCE_SECONDS is a number")))
}

/// Says something even where the test's output is kept back.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// Requests that are sent between two looks at the clock.
const BATCH: u64 = 500;

/// Calls `batch` with the numbers of the next requests, up to `everyday` or for as long as is wanted. Returns how many
/// there were.
async fn in_batches(everyday: u64, mut batch: impl AsyncFnMut(Range<u64>)) -> u64 {
    let end = long_form().map(|long| Instant::now() + long);
    let mut next = 0;
    while end.map_or(next < everyday, |end| Instant::now() < end) {
        batch(next..next + BATCH).await;
        next += BATCH;
    }
    next
}

/// A proxy before a node that shares its thread with the load, and may be late for a probe without being down.
fn before(node: &Node) -> Setup {
    let probe = format!(r#"{{ type = "http", path = "{HEALTH_PATH}", interval = "2s", timeout = "15s" }}"#);
    Setup::before(node).pool(&format!("health = {probe}"))
}

async fn ask_all(proxy: &Proxy, requests: impl Iterator<Item = (Request, Option<bytes::Bytes>)>) {
    let report = Load::once(proxy.address(), 8, requests).finish().await;
    assert_eq!(report.failures(), 0, "{report}");
}

/// Readers of the pages that everybody reads, on connections of their own.
struct Readers(JoinSet<(u64, u64)>, watch::Sender<bool>);

impl Readers {
    fn start(proxy: &Proxy, pages: u64) -> Self {
        let mut readers = JoinSet::new();
        let done = watch::Sender::new(false);
        for _ in 0..4 {
            let (address, stop) = (proxy.address(), done.subscribe());
            readers.spawn(async move {
                let mut connection = Connection::open(address).await;
                let (mut asked, mut hits) = (0, 0);
                while !*stop.borrow() {
                    let answer = connection.get(&format!("/hot/{}", asked % pages)).await.expect_status(200);
                    asked += 1;
                    hits += u64::from(answer.served() == Served::Hit);
                }
                (asked, hits)
            });
        }
        Self(readers, done)
    }

    /// How many requests there were, and how many were hits.
    async fn stop(self) -> (u64, u64) {
        self.1.send_replace(true);
        let (mut asked, mut hits) = (0, 0);
        for reader in self.0.join_all().await {
            (asked, hits) = (asked + reader.0, hits + reader.1);
        }
        (asked, hits)
    }
}

#[tokio::test]
async fn a_flood_of_unique_urls_does_not_wash_away_what_everybody_reads() {
    let node = Node::start().await;
    node.serve_everything(Page::text("x".repeat(8_000)).fresh_for(3600));
    // The pages that everybody reads take a tenth of it; a round of the flood is three times as much as it holds.
    let proxy = before(&node).cache("memory = \"8MiB\"").start().await;
    const PAGES: u64 = 60;
    let hot: Vec<_> = (0..PAGES).map(|page| format!("/hot/{page}")).collect();
    for _ in 0..3 {
        proxy.warm(hot.iter().map(String::as_str)).await;
    }
    let (at_start, mut most) = (proxy.resident_bytes(), 0);
    let readers = Readers::start(&proxy, PAGES);
    let flood = in_batches(3_000, async |numbers| {
        let unique = numbers.map(|number| (Request::get(&format!("/article?r={number}")), None));
        ask_all(&proxy, unique).await;
        node.forget();
        most = most.max(proxy.resident_bytes());
    })
    .await;
    let (asked, hits) = readers.stop().await;
    let metrics = proxy.metrics().await;
    let evictions = metrics.sum("clearcoat_cache_evictions_total", &[]);
    let growth = most.saturating_sub(at_start) / MIB;
    if long_form().is_some() {
        say(&format!(
            "key flood: {flood} unique URLs, {hits} hits of {asked} requests for hot pages ({:.2} %), {evictions} \
             entries turned away or evicted, resident memory grew by {growth} MiB",
            100.0 * hits as f64 / asked as f64
        ));
    }
    assert!(asked >= 300, "the hot pages were read meanwhile: {asked}");
    assert!(hits * 100 >= asked * 95, "{hits} hits of {asked}");
    assert!(evictions > flood as f64 / 2.0, "{evictions} of {flood}");
    assert!(growth <= 40, "{growth} MiB");
}

#[tokio::test]
async fn a_flood_of_variants_stays_within_its_url() {
    let node = Node::start().await;
    let by_browser = Page::written(|asked| asked.header("user-agent").unwrap_or_default().to_owned());
    node.serve("/a", by_browser.fresh_for(3600).header("Vary", "User-Agent"));
    node.serve("/b", Page::text("b").fresh_for(3600));
    let proxy = before(&node).cache("max_variants = 8").start().await;
    proxy.warm(["/b"]).await;
    let browser =
        |number: u64| (Request::get("/a").header("User-Agent", &format!("browser/{number}")), number);
    let at_start = proxy.resident_bytes();
    let flood = in_batches(1_000, async |numbers| {
        let browsers = numbers.map(browser);
        ask_all(
            &proxy,
            browsers.map(|(request, number)| (request, Some(format!("browser/{number}").into()))),
        )
        .await;
        node.forget();
    })
    .await;
    let growth = proxy.resident_bytes().saturating_sub(at_start) / MIB;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("clearcoat_cache_entries", &[]), 9.0, "eight of /a, and /b");

    // Which of eight at once came last is anybody's guess; one after the other they are in order.
    for number in 0..9 {
        let answer = proxy.ask(&browser(flood + number).0).await;
        assert_eq!(answer.served(), Served::Miss, "{answer}");
    }
    for number in (1..9).rev() {
        let answer = proxy.ask(&browser(flood + number).0).await;
        assert_eq!((answer.served(), answer.text()), (Served::Hit, format!("browser/{}", flood + number)));
    }
    // The first of the nine is gone. Fetched again, it displaces the oldest, hits notwithstanding.
    for number in [0, 1] {
        assert_eq!(proxy.ask(&browser(flood + number).0).await.served(), Served::Miss);
    }
    assert_eq!(proxy.get("/b").await.served(), Served::Hit);
    let dropped = (flood + 11 - 8) as f64;
    wait::until("all dropped variants to be counted", async || {
        let metrics = proxy.metrics().await;
        (metrics.sum("clearcoat_limits_total", &[("limit", "variants")]) == dropped).then_some(())
    })
    .await;
    if long_form().is_some() {
        say(&format!(
            "variant flood: {flood} browsers, {dropped} variants dropped, resident memory grew by {growth} MiB"
        ));
    }
    assert!(growth <= 40, "{growth} MiB");
}

/// The page that tells the user context of a session varies on the cookie: as many variants as there are sessions.
#[tokio::test]
async fn every_session_may_be_a_variant() {
    let sessions = if long_form().is_some() { 100_000 } else { 3_000 };
    let node = Node::start().await;
    let context = Page::composed(|asked| {
        let session = asked.header("x-session").and_then(|session| session.parse::<u64>().ok()).unwrap_or(0);
        Page::text(format!("context {}", session % 5)).fresh_for(3600).header("Vary", "X-Session")
    });
    node.serve_everything(context);
    let settings = "memory = \"512MiB\"\nmax_variants = 65536";
    let proxy = before(&node).cache(settings).start().await;
    let ask = |session: u64| {
        // Two sites, because no URL may have a hundred thousand.
        let request =
            Request::get(&format!("/context/{}", session % 2)).header("X-Session", &session.to_string());
        (request, Some(format!("context {}", session % 5).into()))
    };
    let timed = async |sessions: Range<u64>| {
        let (before, count) = (Instant::now(), sessions.end - sessions.start);
        ask_all(&proxy, sessions.map(ask)).await;
        before.elapsed().as_micros() as u64 / count
    };
    let few = {
        ask_all(&proxy, (0..100).map(ask)).await;
        node.forget();
        let few = timed(0..100).await;
        assert_eq!(node.total(), 0, "the first hundred are hits");
        few
    };
    let (entries, bytes) = ("clearcoat_cache_entries", "clearcoat_cache_bytes");
    let at_hundred = proxy.metrics().await.sum(bytes, &[]);
    for first in (100..sessions).step_by(BATCH as usize) {
        ask_all(&proxy, (first..sessions.min(first + BATCH)).map(ask)).await;
        node.forget();
    }
    let many = timed(sessions - BATCH..sessions).await;
    assert_eq!(node.total(), 0, "all are hits");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum(entries, &[]), sessions as f64);
    let each = (metrics.sum(bytes, &[]) - at_hundred) / (sessions - 100) as f64;
    assert!(each > 500.0, "each variant is on the bill: {each} bytes");
    if long_form().is_some() {
        say(&format!(
            "sessions: {sessions} variants of two URLs, {each:.0} bytes each; a hit took {few} µs over the wire among \
             100 and {many} µs among all"
        ));
    }
}

/// A body that carries the hash of what it says.
fn sealed(url: &str, number: usize) -> String {
    let mut text = format!("{url} {number} ");
    while text.len() < 4_000 {
        let words = seal(&text);
        text.push_str(&format!("{words:016x} "));
    }
    format!("{text}{:016x}", seal(&text))
}

fn seal(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The number of a body that is whole and belongs to its URL.
fn opened(url: &str, body: &str) -> usize {
    let (text, words) =
        body.split_at_checked(body.len().saturating_sub(16)).expect("a body of ASCII letters");
    assert_eq!(words, format!("{:016x}", seal(text)), "a mixed-up body of {url}: {body}");
    let mut words = text.split(' ');
    assert_eq!(words.next(), Some(url), "a body of another page");
    words.next().and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn refreshing_without_end_mixes_nothing_up() {
    let node = Node::start().await;
    let page = Page::composed(|asked| {
        let page = Page::text(sealed(&asked.target, asked.number));
        // All ways to tell the end of a body, and pages that are stale at once, within a second, and in two.
        let page = if asked.number.is_multiple_of(3) { page.chunked() } else { page };
        page.cache_control(&format!("max-age={}, stale-while-revalidate=2", asked.number % 3))
    });
    node.serve_everything(page);
    let proxy = before(&node).cache("memory = \"16MiB\"").start().await;
    let end = Instant::now() + long_form().unwrap_or(Duration::from_secs(4));
    let (address, mut readers) = (proxy.address(), JoinSet::new());
    for reader in 0..8 {
        readers.spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut served = [0u64; 3];
            for turn in reader.. {
                if Instant::now() >= end {
                    break;
                }
                let url = format!("/page/{}", turn % 20);
                let answer = connection.get(&url).await.expect_status(200);
                opened(&url, &answer.text());
                match answer.served() {
                    Served::Hit => served[0] += 1,
                    Served::Grace => served[1] += 1,
                    Served::Miss | Served::Collapsed => served[2] += 1,
                    Served::Bypass | Served::Own => panic!("{answer}"),
                }
            }
            served
        });
    }
    let mut sum = [0; 3];
    while let Some(served) = readers.join_next().await {
        for (sum, served) in sum.iter_mut().zip(served.expect("every body verifies")) {
            *sum += served;
        }
    }
    let [fresh, grace, fetched] = sum;
    assert!(fresh > 0 && grace > 0 && fetched > 0, "fresh {fresh}, in grace {grace}, fetched {fetched}");
    assert!(node.total() > 40, "pages were refreshed: {}", node.total());
    if long_form().is_some() {
        say(&format!(
            "refreshing: {fresh} fresh, {grace} in grace, {fetched} fetched answers, {} requests to the node; every \
             body verified",
            node.total()
        ));
    }
}
