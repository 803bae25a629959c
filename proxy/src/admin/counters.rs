//! What the data plane counts.
//!
//! A hit is answered in a few microseconds, so counting one must not make two cores fight for a cache line. Every
//! counter therefore exists [`STRIPES`] times; a thread increments in its own stripe, and a reader adds the stripes up. A
//! stripe has one thread as long as that lives, so that an increment is a plain load and store: the locked instruction of
//! an atomic addition takes five times as long. Only threads beyond the number of stripes share the last of them, and add
//! to it atomically. All operations are relaxed: counters order nothing, and a sum read while requests run may miss the
//! ones of that very moment. There is no allocation after [`Counters::new`], and no lock but at the begin and the end of
//! a thread.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use super::kinds::{
    EsiTrouble, FetchResult, Forward, Handshake, Limit, ProxyHeader, PurgeKind, Renewal, RequestResult,
    StatusClass, Towards,
};
use super::totals::Totals;

/// How often each counter exists. More than the threads of any machine we expect to serve, so that sharing a stripe
/// is the exception; a stripe takes about two KiB.
const STRIPES: usize = 64;

/// The stripe of all threads that have none of their own.
const SHARED: usize = STRIPES - 1;

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
pub(super) const BUCKETS: usize = BUCKET_MICROS.len() + 1;

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
    tunnels_opened: AtomicU64,
    tunnels_closed: AtomicU64,
    tunnelled: [AtomicU64; Towards::ALL.len()],
    limits: [AtomicU64; Limit::ALL.len()],
    forwards: [AtomicU64; Forward::ALL.len()],
    fetches: [AtomicU64; FetchResult::ALL.len()],
    esi: [AtomicU64; EsiTrouble::ALL.len()],
    purges: [AtomicU64; PurgeKind::ALL.len()],
    handshakes: [AtomicU64; Handshake::ALL.len()],
    proxy_headers: [AtomicU64; ProxyHeader::ALL.len()],
    renewals: [AtomicU64; Renewal::ALL.len()],
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
            tunnels_opened: AtomicU64::new(0),
            tunnels_closed: AtomicU64::new(0),
            tunnelled: zeros(),
            limits: zeros(),
            forwards: zeros(),
            fetches: zeros(),
            esi: zeros(),
            purges: zeros(),
            handshakes: zeros(),
            proxy_headers: zeros(),
            renewals: zeros(),
            purged_entries: AtomicU64::new(0),
            softened_entries: AtomicU64::new(0),
            log_dropped: AtomicU64::new(0),
        }
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

/// Which stripes have no thread: those in the list, and all from `next` on.
struct Vacant {
    left: Vec<usize>,
    next: usize,
}

static VACANT: Mutex<Vacant> = Mutex::new(Vacant { left: Vec::new(), next: 0 });

/// The stripe of a thread, its own until it ends. The lock of [`VACANT`] sees to it that the next owner goes on from what
/// the last one has stored.
struct Own(usize);

impl Own {
    fn take() -> Self {
        let mut vacant = VACANT.lock();
        Self(vacant.left.pop().unwrap_or_else(|| {
            let next = vacant.next;
            vacant.next = (next + 1).min(SHARED);
            next
        }))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.0 != SHARED {
            VACANT.lock().left.push(self.0);
        }
    }
}

thread_local! {
    /// This thread's stripe in all [`Counters`].
    static OWN: Own = Own::take();
}

/// A stripe, and whether this thread alone writes to it.
#[derive(Clone, Copy)]
struct Mine<'a> {
    stripe: &'a Stripe,
    alone: bool,
}

impl Mine<'_> {
    fn add(self, counter: impl FnOnce(&Stripe) -> &AtomicU64, count: u64) {
        let counter = counter(self.stripe);
        if self.alone {
            counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
        } else {
            counter.fetch_add(count, Relaxed);
        }
    }
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
        let mine = self.mine();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKET_MICROS.partition_point(|bound| *bound < micros);
        mine.add(|stripe| &stripe.took[result as usize][bucket], 1);
        mine.add(|stripe| &stripe.took_micros[result as usize], micros);
        mine.add(|stripe| &stripe.classes[StatusClass::of(status) as usize], 1);
        mine.add(|stripe| &stripe.sent_bytes, sent_bytes);
    }

    /// A client connected. Every call is followed by one of [`Self::connection_closed`].
    pub(crate) fn connection_opened(&self) {
        self.mine().add(|stripe| &stripe.connections_opened, 1);
    }

    /// A client's connection is gone.
    pub(crate) fn connection_closed(&self) {
        self.mine().add(|stripe| &stripe.connections_closed, 1);
    }

    /// Counts a connection as open until the guard is dropped, also when its task is cancelled or panics.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connection_opened();
        OpenConnection(Arc::clone(self))
    }

    /// Counts a request as in flight until the guard is dropped. For requests that wait for a node; a hit is over
    /// before it could be seen.
    pub(crate) fn in_flight(self: &Arc<Self>) -> InFlight {
        self.mine().add(|stripe| &stripe.requests_began, 1);
        InFlight(Arc::clone(self))
    }

    /// Counts a request as waiting for another's fetch until the guard is dropped.
    pub(crate) fn waiting(self: &Arc<Self>) -> Waiting {
        self.mine().add(|stripe| &stripe.waits_began, 1);
        Waiting(Arc::clone(self))
    }

    /// Counts a tunnel as open until the guard is dropped.
    pub(crate) fn tunnel(self: &Arc<Self>) -> OpenTunnel {
        self.mine().add(|stripe| &stripe.tunnels_opened, 1);
        OpenTunnel(Arc::clone(self))
    }

    /// Bytes went through a tunnel.
    pub(crate) fn tunnelled(&self, towards: Towards, bytes: u64) {
        self.mine().add(|stripe| &stripe.tunnelled[towards as usize], bytes);
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
        self.mine().add(|stripe| &stripe.limits[limit as usize], times);
        if self.is_log_due(&self.logged[limit as usize]) {
            let in_all = self.totals().limit(limit);
            warn!(limit = limit.label(), in_all, "a limit fired; clearcoat_limits_total counts on");
        }
    }

    /// Records of the access log were dropped. Logged as a limit is.
    pub(crate) fn log_dropped(&self, records: u64) {
        self.mine().add(|stripe| &stripe.log_dropped, records);
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
        self.mine().add(|stripe| &stripe.forwards[forward as usize], 1);
    }

    /// An exchange with a node is over.
    pub(crate) fn fetch(&self, result: FetchResult) {
        self.mine().add(|stripe| &stripe.fetches[result as usize], 1);
    }

    /// Certificates were written anew.
    pub(crate) fn renewal(&self, renewal: Renewal) {
        self.mine().add(|stripe| &stripe.renewals[renewal as usize], 1);
    }

    /// A connection that had to begin with a PROXY header has begun.
    pub(crate) fn proxy_header(&self, header: ProxyHeader) {
        self.mine().add(|stripe| &stripe.proxy_headers[header as usize], 1);
    }

    /// A TLS handshake with a client is over.
    pub(crate) fn handshake(&self, handshake: Handshake) {
        self.mine().add(|stripe| &stripe.handshakes[handshake as usize], 1);
    }

    /// Something went wrong with pages that are put together, so many times.
    pub(crate) fn esi(&self, trouble: EsiTrouble, times: u64) {
        self.mine().add(|stripe| &stripe.esi[trouble as usize], times);
    }

    /// A purge was applied: `purged` entries are gone, `softened` are stale from now on.
    pub(crate) fn purge(&self, kind: PurgeKind, purged: u64, softened: u64) {
        let mine = self.mine();
        mine.add(|stripe| &stripe.purges[kind as usize], 1);
        mine.add(|stripe| &stripe.purged_entries, purged);
        mine.add(|stripe| &stripe.softened_entries, softened);
    }

    /// The sums of this moment.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        // What ends is read before what begins, so that a difference is never negative.
        let closed = self.sum(|stripe| &stripe.connections_closed);
        let ended = self.sum(|stripe| &stripe.requests_ended);
        let waited = self.sum(|stripe| &stripe.waits_ended);
        let tunnels_closed = self.sum(|stripe| &stripe.tunnels_closed);
        totals.tunnels_opened = self.sum(|stripe| &stripe.tunnels_opened);
        totals.tunnels_open = totals.tunnels_opened.saturating_sub(tunnels_closed);
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
            add(&mut totals.limits.0, &stripe.limits);
            add(&mut totals.forwards, &stripe.forwards);
            add(&mut totals.fetches, &stripe.fetches);
            add(&mut totals.esi, &stripe.esi);
            add(&mut totals.purges, &stripe.purges);
            add(&mut totals.handshakes, &stripe.handshakes);
            add(&mut totals.proxy_headers, &stripe.proxy_headers);
            add(&mut totals.renewals, &stripe.renewals);
            add(&mut totals.tunnelled, &stripe.tunnelled);
        }
        totals
    }

    fn mine(&self) -> Mine<'_> {
        // A thread that is being torn down has no thread-locals any more.
        let index = OWN.try_with(|own| own.0).unwrap_or(SHARED);
        Mine { stripe: &self.stripes[index], alone: index != SHARED }
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
        self.0.mine().add(|stripe| &stripe.requests_ended, 1);
    }
}

/// A request that counts as waiting for another's fetch; see [`Counters::waiting`].
pub(crate) struct Waiting(Arc<Counters>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.mine().add(|stripe| &stripe.waits_ended, 1);
    }
}

/// A tunnel that counts as open; see [`Counters::tunnel`].
pub(crate) struct OpenTunnel(Arc<Counters>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.mine().add(|stripe| &stripe.tunnels_closed, 1);
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
    fn a_stripe_that_goes_from_thread_to_thread_keeps_its_counts() {
        let counters = Counters::new();
        // More threads than stripes in all, some at a time: each takes up what others have left.
        for _ in 0..STRIPES {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..50).for_each(|_| counters.fetch(FetchResult::Ok)));
                }
            });
        }
        assert_eq!(counters.totals().fetches(FetchResult::Ok), STRIPES as u64 * 4 * 50);
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
}
