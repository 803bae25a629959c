//! The counters and views as Prometheus metrics.
//!
//! A [`Collector`] reads our own atomics when it is scraped, so that nothing is counted twice and the data plane knows
//! nothing of Prometheus. All names begin with `clearcoat_`. The number of time series is bounded by the configuration
//! (pools and nodes) and by enums; nothing that a client sends becomes a label.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::counters::{BUCKET_MICROS, Counters, Totals};
use super::kinds::{
    EsiTrouble, FetchResult, Forward, Handshake, Limit, PurgeKind, RequestResult, StatusClass,
};
use super::sessions::SessionsView;
use super::view::{CacheView, EncodingView, NodeState, NodeView, Observed, PoolView, Readiness};
use super::window::{Window, ratio};
use crate::memory;

/// The content type of what [`Exporter::text`] writes.
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Writes the metrics as text.
pub(super) struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// An exporter of `counters` and `observed`; `window` is fed by somebody else, `started` is when the process did.
    ///
    /// # Errors
    ///
    /// If two metrics of ours contradict each other; never, as a test shows.
    pub(super) fn new(
        counters: Arc<Counters>,
        observed: Arc<dyn Observed>,
        window: Arc<Mutex<Window>>,
        started: Instant,
    ) -> anyhow::Result<Self> {
        let described = FAMILIES.iter().map(|family| family.describe()).collect::<Result<_, _>>()?;
        let registry = Registry::new();
        registry.register(Box::new(Scrape { counters, observed, window, started, described }))?;
        Ok(Self { registry })
    }

    /// The metrics of this moment in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    ///
    /// If the encoder refuses a metric; never, as a test shows.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).context("encoding the metrics")
    }
}

/// A metric's name, type and meaning.
struct Family {
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
}

impl Family {
    fn describe(&self) -> prometheus::Result<Desc> {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(self.name.into(), self.help.into(), labels, HashMap::new())
    }
}

/// Declares a constant per metric, and `FAMILIES` with all of them.
macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(const $constant: Family =
            Family { name: $name, kind: MetricType::$kind, labels: &[$($label),*], help: $help };)+

        /// Every metric there is.
        const FAMILIES: &[Family] = &[$($constant),+];
    };
}

families! {
    REQUESTS: COUNTER "clearcoat_requests_total" ["result"]
        "Requests by how they were answered.";
    RESPONSES: COUNTER "clearcoat_responses_total" ["class"]
        "Answers by the first digit of their status.";
    DURATION: HISTOGRAM "clearcoat_request_duration_seconds" ["result"]
        "Time from the end of a request's head to the last byte of its answer.";
    IN_FLIGHT: GAUGE "clearcoat_requests_in_flight" []
        "Requests that wait for a node or stream from one.";
    WAITING: GAUGE "clearcoat_requests_waiting" []
        "Requests among them that wait for the head of another request's fetch.";
    SENT: COUNTER "clearcoat_sent_bytes_total" []
        "Bytes of response bodies sent to clients.";
    HIT_RATIO: GAUGE "clearcoat_hit_ratio" ["window"]
        "Share of the requests that asked the cache and were answered from it; NaN if none asked.";
    CONNECTIONS: COUNTER "clearcoat_connections_opened_total" []
        "Connections accepted from clients.";
    CONNECTIONS_OPEN: GAUGE "clearcoat_connections_open" []
        "Connections of clients that are open.";
    HANDSHAKES: COUNTER "clearcoat_tls_handshakes_total" ["result"]
        "TLS handshakes with clients by how they ended.";
    LIMITS: COUNTER "clearcoat_limits_total" ["limit"]
        "Limits that fired.";
    FORWARDS: COUNTER "clearcoat_forwards_total" ["reason"]
        "Requests that went to a node, or waited for one that did, by why; the words of fwd in Cache-Status.";
    FETCHES: COUNTER "clearcoat_fetches_total" ["result"]
        "Exchanges with nodes by how they ended.";
    ESI_TROUBLE: COUNTER "clearcoat_esi_trouble_total" ["kind"]
        "Fragments that failed or broke off, and tags that were left out, where pages are put together.";
    PURGES: COUNTER "clearcoat_purges_total" ["kind"]
        "Purges that were applied.";
    PURGED: COUNTER "clearcoat_purged_entries_total" []
        "Entries that purges removed.";
    SOFTENED: COUNTER "clearcoat_softened_entries_total" []
        "Entries that soft purges made stale.";
    LOG_DROPPED: COUNTER "clearcoat_log_dropped_total" []
        "Requests without a line in the access log, because its file took no more.";
    CACHE_ENTRIES: GAUGE "clearcoat_cache_entries" []
        "Stored responses.";
    CACHE_BYTES: GAUGE "clearcoat_cache_bytes" []
        "Memory that stored responses take: bodies, heads, index and tags.";
    CACHE_BUDGET: GAUGE "clearcoat_cache_budget_bytes" []
        "The most memory that stored responses and bodies on their way may take.";
    CACHE_FILL_BYTES: GAUGE "clearcoat_cache_fill_bytes" []
        "Memory that bodies on their way from nodes take; it comes out of the same budget.";
    CACHE_FIXED_BYTES: GAUGE "clearcoat_cache_fixed_bytes" []
        "Memory set aside for tables of a fixed size, such as the URLs remembered as uncacheable.";
    CACHE_CAPACITY: GAUGE "clearcoat_cache_capacity_bytes" []
        "The memory that stored responses may take now: below the budget while the process takes more than is in use.";
    CACHE_TAGS: GAUGE "clearcoat_cache_tags" []
        "Distinct tags that entries carry.";
    CACHE_MARKS: GAUGE "clearcoat_cache_marks" []
        "URLs remembered as uncacheable.";
    CACHE_FETCHING: GAUGE "clearcoat_cache_fetching" []
        "Fetches into the cache that run now.";
    CACHE_REFRESHING: GAUGE "clearcoat_cache_refreshing" []
        "Refreshes of stale pages at the nodes, or next.";
    CACHE_REFRESHES_WAITING: GAUGE "clearcoat_cache_refreshes_waiting" []
        "Stale pages that wait for their refresh.";
    CACHE_REFRESHES_DISPLACED: COUNTER "clearcoat_cache_refreshes_displaced_total" []
        "Refreshes given up for pages that are asked for more.";
    CACHE_STORED: COUNTER "clearcoat_cache_stored_total" []
        "Entries stored.";
    CACHE_EVICTIONS: COUNTER "clearcoat_cache_evictions_total" []
        "Entries removed to make room.";
    CACHE_EXPIRATIONS: COUNTER "clearcoat_cache_expirations_total" []
        "Entries removed because they were too old to be of use.";
    CACHE_BANS: GAUGE "clearcoat_cache_bans" []
        "Bans that not all entries were tested against yet, or that a fetch under way has to be.";
    CACHE_BANNED: COUNTER "clearcoat_cache_banned_total" []
        "Entries removed because of a ban.";
    ENCODED_ENTRIES: GAUGE "clearcoat_cache_encoded_entries" []
        "Stored responses that have forms in other content codings.";
    ENCODED_BYTES: GAUGE "clearcoat_cache_encoded_bytes" []
        "Memory that forms in other content codings take; part of clearcoat_cache_bytes.";
    ENCODED_FORMS: COUNTER "clearcoat_encoded_forms_total" ["coding"]
        "Forms in other content codings that were made and kept; identity is what was decoded.";
    ENCODED_SAVED: COUNTER "clearcoat_encoded_saved_bytes_total" []
        "Bytes by which compressed forms are smaller than the plain text, at their making.";
    ENCODE_SECONDS: COUNTER "clearcoat_encode_seconds_total" []
        "Time spent on compressing and decoding.";
    POOL_QUEUED: GAUGE "clearcoat_pool_queued" ["pool"]
        "Requests that wait for a node with room.";
    NODE_UP: GAUGE "clearcoat_node_up" ["pool", "node"]
        "1 if the node takes new requests.";
    NODE_STATE: GAUGE "clearcoat_node_state" ["pool", "node", "state"]
        "1 for the state that the node is in, 0 for the others.";
    NODE_REASON: GAUGE "clearcoat_node_reason" ["pool", "node", "reason"]
        "1 for the reason why the node is in its state; one series a node, none while there is nothing to say.";
    NODE_WEIGHT: GAUGE "clearcoat_node_weight" ["pool", "node"]
        "The node's share of new requests at this moment.";
    NODE_IN_FLIGHT: GAUGE "clearcoat_node_in_flight" ["pool", "node"]
        "Requests at the node.";
    NODE_QUEUED: GAUGE "clearcoat_node_queued" ["pool", "node"]
        "Requests that wait for room on this very node.";
    NODE_REQUESTS: COUNTER "clearcoat_node_requests_total" ["pool", "node"]
        "Requests sent to the node.";
    NODE_FAILURES: COUNTER "clearcoat_node_failures_total" ["pool", "node", "kind"]
        "Requests that failed at the node.";
    NODE_EJECTIONS: COUNTER "clearcoat_node_ejections_total" ["pool", "node"]
        "How often failing requests took the node out.";
    NODE_PROBES: COUNTER "clearcoat_node_probes_total" ["pool", "node", "result"]
        "Probes of the node.";
    NODE_PROBE_SECONDS: GAUGE "clearcoat_node_probe_seconds" ["pool", "node"]
        "How long the last good probe took.";
    READY: GAUGE "clearcoat_ready" []
        "1 if traffic should be sent here.";
    PINS: COUNTER "clearcoat_pins_total" ["result"]
        "Pins of sessions to nodes: found, made, moved to another node, or replaced by the session's hash for want of memcached.";
    PIN_SERVER_UP: GAUGE "clearcoat_pin_memcached_up" ["server"]
        "1 if the memcached server that pins are kept on answers, else 0.";
    SESSION_CONNECTIONS: GAUGE "clearcoat_session_connections" []
        "Connections of web nodes that keep their sessions here.";
    SESSION_CONNECTIONS_OPENED: COUNTER "clearcoat_session_connections_opened_total" []
        "Connections of web nodes that were let in.";
    SESSION_CONNECTIONS_REFUSED: COUNTER "clearcoat_session_connections_refused_total" []
        "Connections to the session listener that were turned away.";
    SESSION_REPAIRS: COUNTER "clearcoat_session_repairs_total" ["kind"]
        "Copies that a memcached server lacked (missing) or had in an older version (older), and was given.";
    SESSION_DEGRADED: COUNTER "clearcoat_session_degraded_total" []
        "Requests for sessions while one of their memcached servers was away.";
    SESSION_FAILED: COUNTER "clearcoat_session_failed_total" []
        "Requests for sessions for which no memcached server was up.";
    SESSION_LOCKS: COUNTER "clearcoat_session_locks_total" ["result"]
        "Locks of sessions that were taken, refused because another had them, given back because whoever had them was gone.";
    MEMCACHED_UP: GAUGE "clearcoat_memcached_up" ["server"]
        "1 if the memcached server answers, else 0.";
    MEMCACHED_DOUBTED: GAUGE "clearcoat_memcached_doubted" ["server"]
        "1 if the server was away and is only believed together with the others, else 0.";
    MEMCACHED_REQUESTS: COUNTER "clearcoat_memcached_requests_total" ["server"]
        "Requests to the server.";
    MEMCACHED_FAILURES: COUNTER "clearcoat_memcached_failures_total" ["server"]
        "Requests that the server did not answer, or too late.";
    MEMCACHED_OUTAGES: COUNTER "clearcoat_memcached_outages_total" ["server"]
        "How often the server went away.";
    MEMCACHED_ITEMS: GAUGE "clearcoat_memcached_items" ["server"]
        "Items that the server keeps, as it says.";
    MEMCACHED_BYTES: GAUGE "clearcoat_memcached_bytes" ["server"]
        "Memory that the server uses for items, as it says.";
    MEMCACHED_LIMIT: GAUGE "clearcoat_memcached_limit_bytes" ["server"]
        "Memory that the server may use for items.";
    MEMCACHED_EVICTIONS: COUNTER "clearcoat_memcached_evictions_total" ["server"]
        "Items that the server dropped for want of memory; sessions among them are lost.";
    BUILD: GAUGE "clearcoat_build_info" ["version"]
        "Always 1; the label tells the version.";
    UPTIME: GAUGE "clearcoat_uptime_seconds" []
        "Time since the process started.";
    LIVE: GAUGE "clearcoat_process_allocated_bytes" []
        "Memory in allocations that are in use, the cache's among them.";
    RESIDENT: GAUGE "clearcoat_process_resident_bytes" []
        "Memory of the process that is in RAM.";
    OPEN_FILES: GAUGE "clearcoat_process_open_files" []
        "File descriptors in use, connections among them.";
}

/// Reads everything when Prometheus asks.
struct Scrape {
    counters: Arc<Counters>,
    observed: Arc<dyn Observed>,
    window: Arc<Mutex<Window>>,
    started: Instant,
    described: Vec<Desc>,
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let totals = self.counters.totals();
        let mut page = Page::default();
        traffic(&mut page, &totals);
        let (hits, lookups) = (totals.hits(), totals.lookups());
        let last_minute = self.window.lock().ratio(hits, lookups);
        page.gauge(&HIT_RATIO, &["1m"], last_minute.unwrap_or(f64::NAN));
        page.gauge(&HIT_RATIO, &["start"], ratio(hits, lookups).unwrap_or(f64::NAN));
        cache(&mut page, &self.observed.cache());
        for pool in self.observed.pools() {
            nodes(&mut page, &pool);
        }
        if let Some(view) = self.observed.pins() {
            page.counter(&PINS, &["found"], view.found);
            page.counter(&PINS, &["made"], view.made);
            page.counter(&PINS, &["moved"], view.moved);
            page.counter(&PINS, &["hashed"], view.fallbacks);
            for server in &view.servers {
                page.gauge(&PIN_SERVER_UP, &[server.name.as_str()], f64::from(u8::from(server.up)));
            }
        }
        if let Some(view) = self.observed.sessions() {
            sessions(&mut page, &view);
        }
        let ready = match self.observed.ready() {
            Readiness::Ready => 1.0,
            Readiness::NotYet(_) | Readiness::Draining => 0.0,
        };
        page.gauge(&READY, &[], ready);
        page.gauge(&BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
        page.gauge(&UPTIME, &[], self.started.elapsed().as_secs_f64());
        if let Some(bytes) = memory::live_bytes() {
            page.gauge(&LIVE, &[], bytes as f64);
        }
        if let Some(bytes) = memory::resident_bytes() {
            page.gauge(&RESIDENT, &[], bytes as f64);
        }
        if let Some(number) = open_files() {
            page.gauge(&OPEN_FILES, &[], number as f64);
        }
        page.families
    }
}

fn sessions(page: &mut Page, view: &SessionsView) {
    page.gauge(&SESSION_CONNECTIONS, &[], view.connections as f64);
    page.counter(&SESSION_CONNECTIONS_OPENED, &[], view.connections_opened);
    page.counter(&SESSION_CONNECTIONS_REFUSED, &[], view.connections_refused);
    page.counter(&SESSION_REPAIRS, &["missing"], view.repaired_missing);
    page.counter(&SESSION_REPAIRS, &["older"], view.repaired_older);
    page.counter(&SESSION_DEGRADED, &[], view.degraded);
    page.counter(&SESSION_FAILED, &[], view.failed);
    page.counter(&SESSION_LOCKS, &["taken"], view.locks_taken);
    page.counter(&SESSION_LOCKS, &["refused"], view.locks_refused);
    page.counter(&SESSION_LOCKS, &["given_back"], view.locks_given_back);
    for server in &view.servers {
        let name = &[server.name.as_str()];
        page.gauge(&MEMCACHED_UP, name, f64::from(u8::from(server.up)));
        page.gauge(&MEMCACHED_DOUBTED, name, f64::from(u8::from(server.doubted)));
        page.counter(&MEMCACHED_REQUESTS, name, server.requests);
        page.counter(&MEMCACHED_FAILURES, name, server.failures);
        page.counter(&MEMCACHED_OUTAGES, name, server.outages);
        page.gauge(&MEMCACHED_ITEMS, name, server.items as f64);
        page.gauge(&MEMCACHED_BYTES, name, server.bytes as f64);
        page.gauge(&MEMCACHED_LIMIT, name, server.limit_bytes as f64);
        page.counter(&MEMCACHED_EVICTIONS, name, server.evictions);
    }
}

fn traffic(page: &mut Page, totals: &Totals) {
    for result in RequestResult::ALL {
        page.counter(&REQUESTS, &[result.label()], totals.requests(*result));
        page.histogram(&DURATION, &[result.label()], totals, *result);
    }
    for class in StatusClass::ALL {
        page.counter(&RESPONSES, &[class.label()], totals.responses(*class));
    }
    for limit in Limit::ALL {
        page.counter(&LIMITS, &[limit.label()], totals.limit(*limit));
    }
    for reason in Forward::ALL {
        page.counter(&FORWARDS, &[reason.label()], totals.forwards(*reason));
    }
    for result in FetchResult::ALL {
        page.counter(&FETCHES, &[result.label()], totals.fetches(*result));
    }
    for trouble in EsiTrouble::ALL {
        page.counter(&ESI_TROUBLE, &[trouble.label()], totals.esi_trouble(*trouble));
    }
    for kind in PurgeKind::ALL {
        page.counter(&PURGES, &[kind.label()], totals.purges(*kind));
    }
    for handshake in Handshake::ALL {
        page.counter(&HANDSHAKES, &[handshake.label()], totals.handshakes(*handshake));
    }
    page.counter(&PURGED, &[], totals.purged_entries);
    page.counter(&SOFTENED, &[], totals.softened_entries);
    page.counter(&LOG_DROPPED, &[], totals.log_dropped);
    page.counter(&SENT, &[], totals.sent_bytes);
    page.counter(&CONNECTIONS, &[], totals.connections_opened);
    page.gauge(&CONNECTIONS_OPEN, &[], totals.connections_open as f64);
    page.gauge(&IN_FLIGHT, &[], totals.requests_in_flight as f64);
    page.gauge(&WAITING, &[], totals.requests_waiting as f64);
}

fn cache(page: &mut Page, view: &CacheView) {
    page.gauge(&CACHE_ENTRIES, &[], view.entries as f64);
    page.gauge(&CACHE_BYTES, &[], view.bytes as f64);
    page.gauge(&CACHE_BUDGET, &[], view.budget_bytes as f64);
    page.gauge(&CACHE_FILL_BYTES, &[], view.fill_bytes as f64);
    page.gauge(&CACHE_FIXED_BYTES, &[], view.fixed_bytes as f64);
    page.gauge(&CACHE_CAPACITY, &[], view.capacity_bytes as f64);
    page.gauge(&CACHE_TAGS, &[], view.tags as f64);
    page.gauge(&CACHE_MARKS, &[], view.marks as f64);
    page.gauge(&CACHE_FETCHING, &[], view.fetching as f64);
    page.gauge(&CACHE_REFRESHING, &[], view.refreshing as f64);
    page.gauge(&CACHE_REFRESHES_WAITING, &[], view.refreshes_waiting as f64);
    page.counter(&CACHE_REFRESHES_DISPLACED, &[], view.refreshes_displaced);
    page.counter(&CACHE_STORED, &[], view.stored);
    page.counter(&CACHE_EVICTIONS, &[], view.evictions);
    page.counter(&CACHE_EXPIRATIONS, &[], view.expirations);
    page.gauge(&CACHE_BANS, &[], view.bans as f64);
    page.counter(&CACHE_BANNED, &[], view.banned);
    encoding(page, &view.encoding);
}

fn encoding(page: &mut Page, view: &EncodingView) {
    page.gauge(&ENCODED_ENTRIES, &[], view.entries as f64);
    page.gauge(&ENCODED_BYTES, &[], view.bytes as f64);
    for (coding, forms) in
        [("gzip", view.gzip), ("br", view.br), ("zstd", view.zstd), ("identity", view.identity)]
    {
        page.counter(&ENCODED_FORMS, &[coding], forms);
    }
    page.counter(&ENCODED_SAVED, &[], view.saved_bytes);
    page.fraction(&ENCODE_SECONDS, &[], view.seconds);
}

fn nodes(page: &mut Page, pool: &PoolView) {
    page.gauge(&POOL_QUEUED, &[&pool.name], pool.queued as f64);
    for node in &pool.nodes {
        let labels = [pool.name.as_str(), node.name.as_str()];
        page.gauge(&NODE_UP, &labels, f64::from(u8::from(node.state.is_up())));
        for state in NodeState::ALL {
            let current = f64::from(u8::from(state == node.state));
            page.gauge(&NODE_STATE, &[labels[0], labels[1], state.label()], current);
        }
        traffic_of_node(page, labels, node);
    }
}

fn traffic_of_node(page: &mut Page, labels: [&str; 2], node: &NodeView) {
    let [pool, name] = labels;
    if !node.reason.is_empty() {
        page.gauge(&NODE_REASON, &[pool, name, &node.reason], 1.0);
    }
    page.gauge(&NODE_WEIGHT, &labels, node.effective_weight);
    page.gauge(&NODE_IN_FLIGHT, &labels, node.in_flight as f64);
    page.gauge(&NODE_QUEUED, &labels, node.queued as f64);
    page.counter(&NODE_REQUESTS, &labels, node.requests);
    for (kind, number) in &node.failures.0 {
        page.counter(&NODE_FAILURES, &[pool, name, kind], *number);
    }
    page.counter(&NODE_EJECTIONS, &labels, node.ejections);
    page.counter(&NODE_PROBES, &[pool, name, "ok"], node.probes_ok);
    page.counter(&NODE_PROBES, &[pool, name, "failed"], node.probes_failed);
    if let Some(milliseconds) = node.probe_ms {
        page.gauge(&NODE_PROBE_SECONDS, &labels, milliseconds / 1000.0);
    }
}

/// The families that one scrape has filled so far.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
    /// Where each family is in `families`.
    places: HashMap<&'static str, usize>,
}

impl Page {
    fn counter(&mut self, family: &Family, labels: &[&str], value: u64) {
        self.fraction(family, labels, value as f64);
    }

    /// A counter of something that does not come in whole numbers.
    fn fraction(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_counter(counter);
        self.push(family, metric);
    }

    fn gauge(&mut self, family: &Family, labels: &[&str], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_gauge(gauge);
        self.push(family, metric);
    }

    fn histogram(&mut self, family: &Family, labels: &[&str], totals: &Totals, result: RequestResult) {
        let mut so_far = 0;
        let buckets = BUCKET_MICROS.iter().zip(totals.took(result)).map(|(bound, number)| {
            so_far += number;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / 1e6);
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(totals.requests(result));
        histogram.set_sample_sum(totals.took_in_all(result).as_secs_f64());
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_histogram(histogram);
        self.push(family, metric);
    }

    fn push(&mut self, family: &Family, metric: Metric) {
        let place = *self.places.entry(family.name).or_insert_with(|| {
            let mut new = MetricFamily::default();
            new.set_name(family.name.into());
            new.set_help(family.help.into());
            new.set_field_type(family.kind);
            self.families.push(new);
            self.families.len() - 1
        });
        self.families[place].mut_metric().push(metric);
    }
}

fn pairs(family: &Family, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(family.labels.len(), values.len(), "{} has other labels", family.name);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}

/// File descriptors of this process, without the one used to count them.
fn open_files() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;
    use std::time::Duration;

    use super::super::view::Failures;
    use super::*;

    struct Two;

    impl Observed for Two {
        fn explain(&self, _: String, _: clearcoat_cache::Scheme, _: &[u8]) -> crate::admin::why::Explanation {
            crate::admin::why::Explanation::default()
        }

        fn purge(&self, _: &crate::admin::purging::Order) -> Result<crate::admin::purging::Report, String> {
            Err(String::new())
        }

        fn purges(&self) -> Vec<crate::admin::purging::PurgeView> {
            Vec::new()
        }

        fn bans(&self) -> Vec<crate::admin::purging::BanView> {
            Vec::new()
        }

        fn tags_of(&self, _: &str) -> Result<Vec<crate::admin::purging::TagsView>, String> {
            Ok(Vec::new())
        }

        fn urls_of(&self, _: &str, _: usize) -> Result<crate::admin::purging::UrlsView, String> {
            Ok(crate::admin::purging::UrlsView::default())
        }

        fn set_node(&self, _: &str, _: &str, _: crate::admin::Wish) -> bool {
            false
        }

        fn pools(&self) -> Vec<PoolView> {
            let up = NodeView {
                name: "10.0.0.11:80".into(),
                state: NodeState::Up,
                effective_weight: 1.0,
                requests: 7,
                failures: Failures(vec![("connect", 2), ("timeout", 1)]),
                probe_ms: Some(1.5),
                ..NodeView::default()
            };
            let down = NodeView { name: "odd\"name\\".into(), state: NodeState::Down, ..NodeView::default() };
            vec![PoolView { name: "web".into(), queued: 3, nodes: vec![up, down] }]
        }

        fn cache(&self) -> CacheView {
            CacheView { entries: 5, bytes: 4096, budget_bytes: 1 << 30, evictions: 9, ..CacheView::default() }
        }

        fn ready(&self) -> Readiness {
            Readiness::NotYet("pool web: no node is up".into())
        }
    }

    /// The samples of a page: the line up to its value, and the value.
    fn samples(counters: Arc<Counters>) -> HashMap<String, f64> {
        let exporter = Exporter::new(counters, Arc::new(Two), Arc::default(), Instant::now())
            .expect("the metrics agree");
        let text = exporter.text().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(n, v)| (n.to_owned(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn sums_agree_with_what_was_counted() {
        let counters = Counters::new();
        for (number, result) in RequestResult::ALL.iter().enumerate() {
            for step in 0..=number {
                counters.request(
                    *result,
                    200 + 100 * (number as u16 % 4),
                    1000,
                    Duration::from_millis(step as u64),
                );
            }
        }
        counters.request(RequestResult::Hit, 200, 0, Duration::from_secs(120));
        let results = RequestResult::ALL.len();
        let counted = (results * (results + 1) / 2) as f64;
        let page = samples(counters);
        let sum = |prefix: &str| -> f64 {
            page.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, v)| v).sum()
        };
        assert_eq!(sum("clearcoat_requests_total{"), counted + 1.0);
        assert_eq!(sum("clearcoat_responses_total{"), counted + 1.0);
        assert_eq!(sum("clearcoat_request_duration_seconds_count{"), counted + 1.0);
        assert_eq!(page["clearcoat_sent_bytes_total"], counted * 1000.0);
        assert_eq!(page[r#"clearcoat_requests_total{result="miss"}"#], 3.0);

        let miss = |bound: &str| {
            page[&format!(r#"clearcoat_request_duration_seconds_bucket{{result="miss",le="{bound}"}}"#)]
        };
        assert_eq!((miss("0.00005"), miss("0.001"), miss("0.0025"), miss("+Inf")), (1.0, 2.0, 3.0, 3.0));
        assert_eq!(page[r#"clearcoat_request_duration_seconds_sum{result="miss"}"#], 0.003);
        let hit = r#"clearcoat_request_duration_seconds_bucket{result="hit",le="#;
        assert_eq!((page[&format!("{hit}\"60\"}}")], page[&format!("{hit}\"+Inf\"}}")]), (1.0, 2.0));
        assert_eq!(page[r#"clearcoat_hit_ratio{window="start"}"#], 4.0 / (4.0 + 3.0 + 4.0 + 5.0));
    }

    #[test]
    fn nodes_and_cache_are_shown() {
        let page = samples(Counters::new());
        let up = r#"{pool="web",node="10.0.0.11:80"}"#;
        let down = r#"{pool="web",node="odd\"name\\"}"#;
        for (name, value) in [
            (format!("clearcoat_node_up{up}"), 1.0),
            (format!("clearcoat_node_up{down}"), 0.0),
            (format!("clearcoat_node_requests_total{up}"), 7.0),
            (format!("clearcoat_node_probe_seconds{up}"), 0.0015),
            (r#"clearcoat_node_failures_total{pool="web",node="10.0.0.11:80",kind="connect"}"#.into(), 2.0),
            (r#"clearcoat_node_state{pool="web",node="10.0.0.11:80",state="up"}"#.into(), 1.0),
            (r#"clearcoat_node_state{pool="web",node="10.0.0.11:80",state="down"}"#.into(), 0.0),
            (r#"clearcoat_pool_queued{pool="web"}"#.into(), 3.0),
            ("clearcoat_cache_entries".into(), 5.0),
            ("clearcoat_cache_evictions_total".into(), 9.0),
            ("clearcoat_ready".into(), 0.0),
        ] {
            assert_eq!(page.get(&name), Some(&value), "{name}");
        }
        assert!(!page.contains_key(&format!("clearcoat_node_probe_seconds{down}")), "never probed");
        assert!(page[r#"clearcoat_hit_ratio{window="1m"}"#].is_nan(), "nothing was looked up");
        assert!(page["clearcoat_process_resident_bytes"] > 0.0);
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = HashSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("clearcoat_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == MetricType::COUNTER, "{name}");
            assert!(family.help.ends_with('.'), "{name}");
        }
    }
}
