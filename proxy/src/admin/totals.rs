//! The sums of all counters at one moment: what metrics and status read.

use std::time::Duration;

use super::counters::BUCKETS;
use super::kinds::{
    EsiTrouble, FetchResult, Forward, Handshake, Limit, ProxyHeader, PurgeKind, Renewal, RequestResult,
    StatusClass, Towards,
};

/// How often each limit fired. There are more of them than arrays have a default for.
#[derive(Clone, Debug)]
pub(super) struct Limits(pub(super) [u64; Limit::ALL.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self([0; Limit::ALL.len()])
    }
}

/// The sums of all stripes at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(super) took: [[u64; BUCKETS]; RequestResult::ALL.len()],
    pub(super) took_micros: [u64; RequestResult::ALL.len()],
    pub(super) classes: [u64; StatusClass::ALL.len()],
    pub(super) limits: Limits,
    pub(super) forwards: [u64; Forward::ALL.len()],
    pub(super) fetches: [u64; FetchResult::ALL.len()],
    pub(super) esi: [u64; EsiTrouble::ALL.len()],
    pub(super) purges: [u64; PurgeKind::ALL.len()],
    pub(super) handshakes: [u64; Handshake::ALL.len()],
    pub(super) proxy_headers: [u64; ProxyHeader::ALL.len()],
    pub(super) renewals: [u64; Renewal::ALL.len()],
    pub(super) tunnelled: [u64; Towards::ALL.len()],
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
    /// Connections that changed their protocol.
    pub(crate) tunnels_opened: u64,
    /// Those of them that are open now.
    pub(crate) tunnels_open: u64,
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

    /// Requests with `result` per bucket of [`BUCKET_MICROS`](super::counters::BUCKET_MICROS), the last of them for everything slower. Not
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
        self.limits.0[limit as usize]
    }

    /// Requests that went to a node for this reason.
    pub(crate) fn forwards(&self, forward: Forward) -> u64 {
        self.forwards[forward as usize]
    }

    /// Exchanges with nodes that ended so.
    pub(crate) fn fetches(&self, result: FetchResult) -> u64 {
        self.fetches[result as usize]
    }

    /// Bytes that went through tunnels in one direction.
    pub(crate) fn tunnelled(&self, towards: Towards) -> u64 {
        self.tunnelled[towards as usize]
    }

    /// Renewals of certificates that ended so.
    pub(crate) fn renewals(&self, renewal: Renewal) -> u64 {
        self.renewals[renewal as usize]
    }

    /// Connections that began so.
    pub(crate) fn proxy_headers(&self, header: ProxyHeader) -> u64 {
        self.proxy_headers[header as usize]
    }

    /// TLS handshakes that ended so.
    pub(crate) fn handshakes(&self, handshake: Handshake) -> u64 {
        self.handshakes[handshake as usize]
    }

    /// What went wrong with pages that are put together.
    pub(crate) fn esi_trouble(&self, trouble: EsiTrouble) -> u64 {
        self.esi[trouble as usize]
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
    use super::*;
    use crate::admin::counters::Counters;

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
