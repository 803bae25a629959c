//! The status document, `GET /api/status`: what the metrics say, for people and scripts.
//!
//! Fields may be added; those that are here keep their names and meanings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::kinds::{FetchResult, Forward, Limit, PurgeKind, RequestResult, StatusClass};
use super::sessions::{PinsView, SessionsView};
use super::totals::Totals;
use super::view::{CacheView, CertificateView, Observed, PoolView, Readiness};
use super::window::ratio;

/// The document.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    pid: u32,
    /// Unix time in seconds at which the process started.
    started: u64,
    uptime_seconds: u64,
    resident_bytes: Option<u64>,
    readiness: Readiness,
    hit_ratio: HitRatio,
    requests: BTreeMap<&'static str, u64>,
    responses: BTreeMap<&'static str, u64>,
    requests_in_flight: u64,
    sent_bytes: u64,
    connections: Connections,
    forwards: BTreeMap<&'static str, u64>,
    fetches: BTreeMap<&'static str, u64>,
    /// Only limits that ever fired.
    limits: BTreeMap<&'static str, u64>,
    purges: Purges,
    cache: CacheView,
    pools: Vec<PoolView>,
    /// Only where sessions are kept for web nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<SessionsView>,
    /// Only where sessions are pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<PinsView>,
    /// Only where visitors speak TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<CertificateView>,
}

#[derive(Serialize)]
struct HitRatio {
    last_minute: Option<f64>,
    since_start: Option<f64>,
}

#[derive(Serialize)]
struct Connections {
    open: u64,
    opened: u64,
}

#[derive(Serialize)]
struct Purges {
    url: u64,
    tags: u64,
    ban: u64,
    purged_entries: u64,
    softened_entries: u64,
}

impl Status {
    /// Puts the document together.
    pub(super) fn new(
        totals: &Totals,
        last_minute: Option<f64>,
        readiness: Readiness,
        observed: &dyn Observed,
        started: Instant,
    ) -> Self {
        let uptime = started.elapsed();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            started: since_epoch.saturating_sub(uptime).as_secs(),
            uptime_seconds: uptime.as_secs(),
            resident_bytes: crate::memory::resident_bytes(),
            readiness,
            hit_ratio: HitRatio { last_minute, since_start: ratio(totals.hits(), totals.lookups()) },
            requests: RequestResult::ALL.iter().map(|r| (r.label(), totals.requests(*r))).collect(),
            responses: StatusClass::ALL.iter().map(|c| (c.label(), totals.responses(*c))).collect(),
            requests_in_flight: totals.requests_in_flight,
            sent_bytes: totals.sent_bytes,
            connections: Connections { open: totals.connections_open, opened: totals.connections_opened },
            forwards: Forward::ALL.iter().map(|f| (f.label(), totals.forwards(*f))).collect(),
            fetches: FetchResult::ALL.iter().map(|f| (f.label(), totals.fetches(*f))).collect(),
            limits: Limit::ALL
                .iter()
                .map(|l| (l.label(), totals.limit(*l)))
                .filter(|(_, fired)| *fired > 0)
                .collect(),
            purges: Purges {
                url: totals.purges(PurgeKind::Url),
                tags: totals.purges(PurgeKind::Tags),
                ban: totals.purges(PurgeKind::Ban),
                purged_entries: totals.purged_entries,
                softened_entries: totals.softened_entries,
            },
            cache: observed.cache(),
            pools: observed.pools(),
            sessions: observed.sessions(),
            pins: observed.pins(),
            certificates: observed.certificates(),
        }
    }
}
