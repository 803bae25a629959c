//! What the data plane counts.
//!
//! A hit is answered in a few microseconds, so counting one must not make two cores fight for a cache line. Every
//! counter therefore exists [`STRIPES`] times; a thread always increments in its own stripe, and a reader adds the
//! stripes up. All operations are relaxed: counters order nothing, and a sum read while requests run may miss the
//! ones of that very moment. There is no lock and no allocation after [`Counters::new`].

use std::array;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::warn;

use super::kinds::{FetchResult, Forward, Handshake, Limit, PurgeKind, RequestResult, StatusClass};

/// How often each counter exists. More than the threads of any machine we expect to serve, so that sharing a stripe
/// is the exception; a stripe takes about two KiB.
const STRIPES: usize = 64;

/// Upper bounds of the latency buckets in microseconds, 50 µs to 60 s; slower requests fall into one more bucket.
///
/// The low end tells hits apart (a hit takes tens of microseconds), the high end the usual time limits of PHP.
pub(crate) const BUCKET_MICROS: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How long the log is silent about a kind of limit after a line on it.
const LIMIT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The buckets of [`BUCKET_MICROS`] and the one for everything slower.
const BUCKETS: usize = BUCKET_MICROS.len() + 1;

/// One copy of every counter. The alignment keeps stripes on cache lines of their own; 128 because processors fetch
/// lines in pairs.
#[repr(align(128))]
struct Stripe {
    took: [[AtomicU64; BUCKETS]; RequestResult::ALL.len()],
    took_micros: [AtomicU64; RequestResult::ALL.len()],
    classes: [AtomicU64; StatusClass::ALL.len()],
    sent_bytes: AtomicU64,
    connections_opened: AtomicU64,
    connections_closed: AtomicU64,
    requests_began: AtomicU64,
    requests_ended: AtomicU64,
    waits_began: AtomicU64,
    waits_ended: AtomicU64,
    limits: [AtomicU64; Limit::ALL.len()],
    forwards: [AtomicU64; Forward::ALL.len()],
    fetches: [AtomicU64; FetchResult::ALL.len()],
    purges: [AtomicU64; PurgeKind::ALL.len()],
    handshakes: [AtomicU64; Handshake::ALL.len()],
    purged_entries: AtomicU64,
    softened_entries: AtomicU64,
    log_dropped: AtomicU64,
}

impl Stripe {
    fn new() -> Self {
        Self {
            took: array::from_fn(|_| zeros()),
            took_micros: zeros(),
            classes: zeros(),
            sent_bytes: AtomicU64::new(0),
            connections_opened: AtomicU64::new(0),
            connections_closed: AtomicU64::new(0),
            requests_began: AtomicU64::new(0),
            requests_ended: AtomicU64::new(0),
            waits_began: AtomicU64::new(0),
            waits_ended: AtomicU64::new(0),
            limits: zeros(),
            forwards: zeros(),
            fetches: zeros(),
            purges: zeros(),
            handshakes: zeros(),
            purged_entries: AtomicU64::new(0),
            softened_entries: AtomicU64::new(0),
            log_dropped: AtomicU64::new(0),
        }
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

/// The stripe that the next new thread takes.
static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's stripe; `usize::MAX` until its first increment.
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Everything that is counted. Shared by the whole process; it outlives reloads.
pub(crate) struct Counters {
    stripes: Box<[Stripe; STRIPES]>,
    /// What the next one counts seconds from.
    began: Instant,
    /// When each kind of limit was last logged, in seconds and one more; zero: never.
    logged: [AtomicU64; Limit::ALL.len()],
    /// The same of dropped records.
    logged_drops: AtomicU64,
}

impl Counters {
    /// All at zero.
    pub(crate) fn new() -> Arc<Self> {
        let stripes: Vec<Stripe> = (0..STRIPES).map(|_| Stripe::new()).collect();
        let stripes = stripes.try_into().unwrap_or_else(|_| unreachable!("exactly STRIPES were made"));
        Arc::new(Self { stripes, began: Instant::now(), logged: zeros(), logged_drops: AtomicU64::new(0) })
    }

    /// A request of a client is over. `sent_bytes` is what went out of the body; `took` runs from the end
    /// of the request head to the last byte of the answer.
    pub(crate) fn request(&self, result: RequestResult, status: u16, sent_bytes: u64, took: Duration) {
        let stripe = self.stripe();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKET_MICROS.partition_point(|bound| *bound < micros);
        stripe.took[result as usize][bucket].fetch_add(1, Relaxed);
        stripe.took_micros[result as usize].fetch_add(micros, Relaxed);
        stripe.classes[StatusClass::of(status) as usize].fetch_add(1, Relaxed);
        stripe.sent_bytes.fetch_add(sent_bytes, Relaxed);
    }

    /// A client connected. Every call is followed by one of [`Self::connection_closed`].
    pub(crate) fn connection_opened(&self) {
        self.stripe().connections_opened.fetch_add(1, Relaxed);
    }

    /// A client's connection is gone.
    pub(crate) fn connection_closed(&self) {
        self.stripe().connections_closed.fetch_add(1, Relaxed);
    }

    /// Counts a connection as open until the guard is dropped, also when its task is cancelled or panics.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connection_opened();
        OpenConnection(Arc::clone(self))
    }

    /// Counts a request as in flight until the guard is dropped. For requests that wait for a node; a hit is over
    /// before it could be seen.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlight {
        self.stripe().requests_began.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Counts a request as waiting for another's fetch until the guard is dropped.
    pub(crate) fn waiting(self: &Arc<Self>) -> Waiting {
        self.stripe().waits_began.fetch_add(1, Relaxed);
        Waiting(Arc::clone(self))
    }

    /// A limit fired. Logged too, each kind a line in [`LIMIT_LOG_INTERVAL`] at most: whoever makes it fire can do so
    /// a hundred thousand times a second.
    pub(crate) fn limit(&self, limit: Limit) {
        self.limit_times(limit, 1);
    }

    /// A limit fired several times.
    pub(crate) fn limit_times(&self, limit: Limit, times: u64) {
        if times == 0 {
            return;
        }
        self.stripe().limits[limit as usize].fetch_add(times, Relaxed);
        if self.is_log_due(&self.logged[limit as usize]) {
            let in_all = self.totals().limit(limit);
            warn!(limit = limit.label(), in_all, "a limit fired; clearcoat_limits_total counts on");
        }
    }

    /// Records of the access log were dropped. Logged as a limit is.
    pub(crate) fn log_dropped(&self, records: u64) {
        self.stripe().log_dropped.fetch_add(records, Relaxed);
        if self.is_log_due(&self.logged_drops) {
            let in_all = self.totals().log_dropped;
            warn!(in_all, "records of the access log are dropped; clearcoat_log_dropped_total counts on");
        }
    }

    /// Whether [`LIMIT_LOG_INTERVAL`] has passed since `logged` was last due; then it begins anew.
    fn is_log_due(&self, logged: &AtomicU64) -> bool {
        let now = self.began.elapsed().as_secs() + 1;
        let last = logged.load(Relaxed);
        let due = last == 0 || now - last.min(now) >= LIMIT_LOG_INTERVAL.as_secs();
        // Of several threads that see the time come, one wins.
        due && logged.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// A request goes to a node, or waits for one that did.
    pub(crate) fn forward(&self, forward: Forward) {
        self.stripe().forwards[forward as usize].fetch_add(1, Relaxed);
    }

    /// An exchange with a node is over.
    pub(crate) fn fetch(&self, result: FetchResult) {
        self.stripe().fetches[result as usize].fetch_add(1, Relaxed);
    }

    /// A TLS handshake with a client is over.
    pub(crate) fn handshake(&self, handshake: Handshake) {
        self.stripe().handshakes[handshake as usize].fetch_add(1, Relaxed);
    }

    /// A purge was applied: `purged` entries are gone, `softened` are stale from now on.
    pub(crate) fn purge(&self, kind: PurgeKind, purged: u64, softened: u64) {
        let stripe = self.stripe();
        stripe.purges[kind as usize].fetch_add(1, Relaxed);
        stripe.purged_entries.fetch_add(purged, Relaxed);
        stripe.softened_entries.fetch_add(softened, Relaxed);
    }

    /// The sums of this moment.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        // What ends is read before what begins, so that a difference is never negative.
        let closed = self.sum(|stripe| &stripe.connections_closed);
        let ended = self.sum(|stripe| &stripe.requests_ended);
        let waited = self.sum(|stripe| &stripe.waits_ended);
        totals.connections_opened = self.sum(|stripe| &stripe.connections_opened);
        totals.connections_open = totals.connections_opened.saturating_sub(closed);
        totals.requests_in_flight = self.sum(|stripe| &stripe.requests_began).saturating_sub(ended);
        totals.requests_waiting = self.sum(|stripe| &stripe.waits_began).saturating_sub(waited);
        totals.sent_bytes = self.sum(|stripe| &stripe.sent_bytes);
        totals.purged_entries = self.sum(|stripe| &stripe.purged_entries);
        totals.softened_entries = self.sum(|stripe| &stripe.softened_entries);
        totals.log_dropped = self.sum(|stripe| &stripe.log_dropped);
        for stripe in self.stripes.iter() {
            for (sums, counters) in totals.took.iter_mut().zip(&stripe.took) {
                add(sums, counters);
            }
            add(&mut totals.took_micros, &stripe.took_micros);
            add(&mut totals.classes, &stripe.classes);
            add(&mut totals.limits, &stripe.limits);
            add(&mut totals.forwards, &stripe.forwards);
            add(&mut totals.fetches, &stripe.fetches);
            add(&mut totals.purges, &stripe.purges);
            add(&mut totals.handshakes, &stripe.handshakes);
        }
        totals
    }

    fn stripe(&self) -> &Stripe {
        // A thread that is being torn down has no thread-locals any more; stripe 0 will do.
        let index = STRIPE.try_with(|own| {
            if own.get() == usize::MAX {
                own.set(NEXT_STRIPE.fetch_add(1, Relaxed));
            }
            own.get()
        });
        &self.stripes[index.unwrap_or(0) % STRIPES]
    }

    fn sum(&self, counter: impl Fn(&Stripe) -> &AtomicU64) -> u64 {
        self.stripes.iter().map(|stripe| counter(stripe).load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

fn add(sums: &mut [u64], counters: &[AtomicU64]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum = sum.wrapping_add(counter.load(Relaxed));
    }
}

/// A connection that counts as open; see [`Counters::connection`].
pub(crate) struct OpenConnection(Arc<Counters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

/// A request that counts as in flight; see [`Counters::in_flight`].
pub(crate) struct InFlight(Arc<Counters>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.stripe().requests_ended.fetch_add(1, Relaxed);
    }
}

/// A request that counts as waiting for another's fetch; see [`Counters::waiting`].
pub(crate) struct Waiting(Arc<Counters>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.stripe().waits_ended.fetch_add(1, Relaxed);
    }
}

/// The sums of all stripes at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    took: [[u64; BUCKETS]; RequestResult::ALL.len()],
    took_micros: [u64; RequestResult::ALL.len()],
    classes: [u64; StatusClass::ALL.len()],
    limits: [u64; Limit::ALL.len()],
    forwards: [u64; Forward::ALL.len()],
    fetches: [u64; FetchResult::ALL.len()],
    purges: [u64; PurgeKind::ALL.len()],
    handshakes: [u64; Handshake::ALL.len()],
    /// Bytes sent to clients.
    pub(crate) sent_bytes: u64,
    /// Connections ever accepted.
    pub(crate) connections_opened: u64,
    /// Connections open now.
    pub(crate) connections_open: u64,
    /// Requests that wait for a node or stream from one now.
    pub(crate) requests_in_flight: u64,
    /// Requests among them that wait for another's fetch now.
    pub(crate) requests_waiting: u64,
    /// Entries removed by purges.
    pub(crate) purged_entries: u64,
    /// Entries made stale by soft purges.
    pub(crate) softened_entries: u64,
    /// Records that the access log has no line for.
    pub(crate) log_dropped: u64,
}

impl Totals {
    /// Requests that ended with `result`.
    pub(crate) fn requests(&self, result: RequestResult) -> u64 {
        self.took[result as usize].iter().sum()
    }

    /// Requests with `result` per bucket of [`BUCKET_MICROS`], the last of them for everything slower. Not
    /// cumulative.
    pub(crate) fn took(&self, result: RequestResult) -> &[u64] {
        &self.took[result as usize]
    }

    /// The time that requests with `result` took together.
    pub(crate) fn took_in_all(&self, result: RequestResult) -> Duration {
        Duration::from_micros(self.took_micros[result as usize])
    }

    /// Answers of this class.
    pub(crate) fn responses(&self, class: StatusClass) -> u64 {
        self.classes[class as usize]
    }

    /// How often `limit` fired.
    pub(crate) fn limit(&self, limit: Limit) -> u64 {
        self.limits[limit as usize]
    }

    /// Requests that went to a node for this reason.
    pub(crate) fn forwards(&self, forward: Forward) -> u64 {
        self.forwards[forward as usize]
    }

    /// Exchanges with nodes that ended so.
    pub(crate) fn fetches(&self, result: FetchResult) -> u64 {
        self.fetches[result as usize]
    }

    /// TLS handshakes that ended so.
    pub(crate) fn handshakes(&self, handshake: Handshake) -> u64 {
        self.handshakes[handshake as usize]
    }

    /// Purges of this kind.
    pub(crate) fn purges(&self, kind: PurgeKind) -> u64 {
        self.purges[kind as usize]
    }

    /// Requests answered from the cache.
    pub(crate) fn hits(&self) -> u64 {
        self.requests(RequestResult::Hit) + self.requests(RequestResult::Grace)
    }

    /// Requests for which the cache was asked: hits, and all that needed a fetch in the end. What is passed by
    /// method or route, purged or refused never asked it and would only dilute the ratio.
    pub(crate) fn lookups(&self) -> u64 {
        let fetched = [RequestResult::Miss, RequestResult::Collapsed, RequestResult::Uncacheable];
        self.hits() + fetched.iter().map(|result| self.requests(*result)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn requests_fall_into_the_bucket_that_bounds_them() {
        check(Duration::ZERO, 0);
        check(Duration::from_micros(50), 0);
        check(Duration::from_micros(51), 1);
        check(Duration::from_millis(1), 4);
        check(Duration::from_secs(60), 18);
        check(Duration::from_secs(61), 19);
        check(Duration::MAX, 19);
    }

    #[track_caller]
    fn check(took: Duration, bucket: usize) {
        let counters = Counters::new();
        counters.request(RequestResult::Hit, 200, 0, took);
        let totals = counters.totals();
        let filled: Vec<usize> = (0..BUCKETS).filter(|b| totals.took(RequestResult::Hit)[*b] == 1).collect();
        assert_eq!(filled, [bucket], "took {took:?}");
    }

    #[test]
    fn threads_add_up() {
        let counters = Counters::new();
        thread::scope(|scope| {
            for _ in 0..STRIPES + 8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        counters.request(RequestResult::Miss, 404, 10, Duration::from_millis(3));
                        counters.limit(Limit::QueueFull);
                        counters.purge(PurgeKind::Tags, 2, 1);
                    }
                });
            }
        });
        let expected = (STRIPES as u64 + 8) * 100;
        let totals = counters.totals();
        assert_eq!(totals.requests(RequestResult::Miss), expected);
        assert_eq!(totals.responses(StatusClass::ClientError), expected);
        assert_eq!(totals.sent_bytes, expected * 10);
        assert_eq!(totals.took_in_all(RequestResult::Miss), Duration::from_millis(3) * expected as u32);
        assert_eq!(totals.limit(Limit::QueueFull), expected);
        assert_eq!(totals.purges(PurgeKind::Tags), expected);
        assert_eq!((totals.purged_entries, totals.softened_entries), (2 * expected, expected));
    }

    #[test]
    fn guards_count_down_when_dropped() {
        let counters = Counters::new();
        let connection = counters.connection();
        let request = (counters.in_flight(), counters.waiting());
        assert_eq!((counters.totals().connections_open, counters.totals().requests_in_flight), (1, 1));
        assert_eq!(counters.totals().requests_waiting, 1);
        // Dropped on another thread, hence in another stripe.
        thread::spawn(move || drop((connection, request))).join().expect("the thread only drops");
        assert_eq!((counters.totals().connections_open, counters.totals().requests_in_flight), (0, 0));
        assert_eq!(counters.totals().requests_waiting, 0);
        assert_eq!(counters.totals().connections_opened, 1);
    }

    #[test]
    fn only_requests_that_asked_the_cache_count_for_the_hit_ratio() {
        let counters = Counters::new();
        for result in RequestResult::ALL {
            counters.request(*result, 200, 0, Duration::ZERO);
        }
        assert_eq!(counters.totals().hits(), 2, "hit and grace");
        assert_eq!(counters.totals().lookups(), 5, "and miss, collapsed, uncacheable");
    }
}
