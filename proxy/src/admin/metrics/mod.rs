//! The counters and views as Prometheus metrics.
//!
//! A [`Collector`] reads our own atomics when it is scraped, so that nothing is counted twice and the data plane knows
//! nothing of Prometheus. All names begin with `clearcoat_`. The number of time series is bounded by the configuration
//! (pools and nodes) and by enums; nothing that a client sends becomes a label.

mod families;
mod page;
mod write;

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use self::families::*;
use self::page::Page;
use super::counters::Counters;
use super::view::{Observed, Readiness};
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
        write::traffic(&mut page, &totals);
        let (hits, lookups) = (totals.hits(), totals.lookups());
        let last_minute = self.window.lock().ratio(hits, lookups);
        page.gauge(&HIT_RATIO, &["1m"], last_minute.unwrap_or(f64::NAN));
        page.gauge(&HIT_RATIO, &["start"], ratio(hits, lookups).unwrap_or(f64::NAN));
        write::cache(&mut page, &self.observed.cache());
        page.gauge(&LOG_READERS, &[], self.observed.log_readers() as f64);
        for pool in self.observed.pools() {
            write::nodes(&mut page, &pool);
        }
        for certificate in self.observed.certificates() {
            page.gauge(&CERTIFICATE_EXPIRY, &[&certificate.file], certificate.not_after as f64);
        }
        if let Some(view) = self.observed.pins() {
            write::pins(&mut page, &view);
        }
        if let Some(view) = self.observed.sessions() {
            write::sessions(&mut page, &view);
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

/// File descriptors of this process, without the one used to count them.
fn open_files() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    use prometheus::proto::MetricType;

    use super::*;
    use crate::access::filter::Filter;
    use crate::access::tail::{Crowded, Reader, Tail};
    use crate::admin::kinds::RequestResult;
    use crate::admin::view::{CacheView, Failures, NodeState, NodeView, PoolView};

    struct Two;

    impl Observed for Two {
        fn explain(
            &self,
            _: String,
            _: crate::admin::why::Asker,
            _: &[u8],
        ) -> crate::admin::why::Explanation {
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

        fn reload(&self, _: &str) -> crate::admin::configurations::Changed {
            crate::admin::configurations::Changed::Impossible("no file".into())
        }

        fn roll_back(&self, _: Option<u64>, _: &str) -> crate::admin::configurations::Changed {
            crate::admin::configurations::Changed::Done(Default::default())
        }

        fn configurations(&self) -> Vec<crate::admin::configurations::ConfigurationView> {
            Vec::new()
        }

        fn configuration(&self, number: Option<u64>) -> Option<String> {
            number.is_none().then(|| "threads = 1\n".to_owned())
        }

        fn listen(&self, filter: Filter) -> Result<Reader, Crowded> {
            Tail::new(Counters::new()).listen(filter)
        }

        fn log_readers(&self) -> u64 {
            2
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
            ("clearcoat_log_readers".to_owned(), 2.0),
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
