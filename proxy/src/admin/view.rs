//! The rest of the edge as this room sees it: plain values, taken for one scrape.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::configurations::{Changed, ConfigurationView};
use super::purging::{BanView, Order, PurgeView, Report, TagsView, UrlsView};
use super::sessions::{PinsView, SessionsView};
use super::why::{Asker, Explanation};
use crate::access::filter::Filter;
use crate::access::tail::{Crowded, Reader};

/// What the running parts show of themselves. Calls come from the admin listener only, a few a second at most; they
/// may copy, but should not hold a lock that serving needs.
pub(crate) trait Observed: Send + Sync {
    /// Every pool with its nodes, in the order of the configuration.
    fn pools(&self) -> Vec<PoolView>;

    /// The cache.
    fn cache(&self) -> CacheView;

    /// Whether traffic should be sent here.
    fn ready(&self) -> Readiness;

    /// What `request`, a head as this client would send it, would meet now; `url` is it for
    /// people. Nothing comes of it.
    fn explain(&self, url: String, asker: Asker, request: &[u8]) -> Explanation;

    /// Carries out a purge, or tells what is wrong with it.
    fn purge(&self, order: &Order) -> Result<Report, String>;

    /// The last purges, newest first.
    fn purges(&self) -> Vec<PurgeView>;

    /// The bans that are not over, oldest first.
    fn bans(&self) -> Vec<BanView>;

    /// The tags of what is stored of a URL, or what is wrong with the URL.
    fn tags_of(&self, url: &str) -> Result<Vec<TagsView>, String>;

    /// At most `limit` URLs that carry a tag, or why it is none.
    fn urls_of(&self, tag: &str, limit: usize) -> Result<UrlsView, String>;

    /// Has the records of requests from now on that the filter wants.
    fn listen(&self, filter: Filter) -> Result<Reader, Crowded>;

    /// How many have them now.
    fn log_readers(&self) -> u64;

    /// Sessions that are kept for web nodes; `None` if none are.
    fn sessions(&self) -> Option<SessionsView> {
        None
    }

    /// Sessions that stay at their nodes; `None` if none do.
    fn pins(&self) -> Option<PinsView> {
        None
    }

    /// The certificates that visitors are shown, each file once.
    fn certificates(&self) -> Vec<CertificateView> {
        Vec::new()
    }

    /// Reads the configuration again and puts it into force; `by` says who wants that.
    fn reload(&self, by: &str) -> Changed;

    /// Puts the configuration of this number into force again, or the one before the present one.
    fn roll_back(&self, to: Option<u64>, by: &str) -> Changed;

    /// The last configurations, newest first.
    fn configurations(&self) -> Vec<ConfigurationView>;

    /// One of them as TOML, without secrets; `None`: the one in force.
    fn configuration(&self, number: Option<u64>) -> Option<String>;

    /// Tells a pool what the operator wants of a node; whether there is such a node.
    fn set_node(&self, pool: &str, node: &str, wish: super::nodes::Wish) -> bool;
}

/// A certificate that visitors are shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CertificateView {
    /// Where it was read.
    pub(crate) file: String,
    /// The names that it is for.
    pub(crate) names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// Whether a balancer in front of us should send traffic here.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub(crate) enum Readiness {
    /// Every pool has a node that takes traffic.
    Ready,
    /// Not now; the reason is one line for people, such as `pool web: no node is up`.
    NotYet(String),
    /// Shutting down: running requests are finished, new ones should go elsewhere.
    Draining,
}

/// One pool.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PoolView {
    /// As in the configuration.
    pub(crate) name: String,
    /// Requests that wait for a node with room.
    pub(crate) queued: u64,
    /// Its nodes, in the order of the configuration.
    pub(crate) nodes: Vec<NodeView>,
}

/// One node of a pool.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct NodeView {
    /// As in the configuration; unique within its pool.
    pub(crate) name: String,
    /// Where it is connected to, `IP:PORT`; empty while its name is not resolved.
    pub(crate) address: String,
    /// Whether it takes traffic.
    pub(crate) state: NodeState,
    /// Why it is in that state, one line for people; may be empty.
    pub(crate) reason: String,
    /// Unix time in seconds at which it came into that state.
    pub(crate) since: u64,
    /// Its share as configured.
    pub(crate) weight: u32,
    /// Its share now: smaller during a slow start, zero when it takes nothing.
    pub(crate) effective_weight: f64,
    /// Whether it takes traffic only when no other node does.
    pub(crate) backup: bool,
    /// Requests at it now.
    pub(crate) in_flight: u64,
    /// Requests that wait for room on this very node, such as those pinned to it.
    pub(crate) queued: u64,
    /// Requests ever sent to it.
    pub(crate) requests: u64,
    /// Requests that failed at it, by kind. Kinds are a fixed set, for each becomes a time series.
    pub(crate) failures: Failures,
    /// How often failing requests took it out.
    pub(crate) ejections: u64,
    /// Probes that succeeded.
    pub(crate) probes_ok: u64,
    /// Probes that failed.
    pub(crate) probes_failed: u64,
    /// How long the last good probe took, in milliseconds; `None` before it.
    pub(crate) probe_ms: Option<f64>,
}

/// Failures by kind, such as `("connect", 3)`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(pub(crate) Vec<(&'static str, u64)>);

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (kind, number) in &self.0 {
            map.serialize_entry(kind, number)?;
        }
        map.end()
    }
}

/// Whether a node takes traffic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeState {
    /// It does.
    Up,
    /// It does, with a growing share, because it came back a moment ago.
    SlowStart,
    /// Only requests that are pinned to it.
    Draining,
    /// Failing requests took it out for a while.
    Ejected,
    /// Its probes fail.
    Down,
    /// Switched off by the operator.
    Disabled,
    /// Not probed yet.
    #[default]
    Unknown,
}

impl NodeState {
    /// All states, in the order in which they are shown.
    pub(crate) const ALL: [Self; 7] =
        [Self::Up, Self::SlowStart, Self::Draining, Self::Ejected, Self::Down, Self::Disabled, Self::Unknown];

    /// The word for it in metrics; the same as in the status document.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SlowStart => "slow-start",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
        }
    }

    /// Whether new requests may go to it.
    pub(crate) const fn is_up(self) -> bool {
        match self {
            Self::Up | Self::SlowStart => true,
            Self::Draining | Self::Ejected | Self::Down | Self::Disabled | Self::Unknown => false,
        }
    }
}

/// The cache at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct CacheView {
    /// Stored responses, each variant one.
    pub(crate) entries: u64,
    /// Memory that bodies, heads, index and tags take, in bytes.
    pub(crate) bytes: u64,
    /// The most that they may take, in bytes.
    pub(crate) budget_bytes: u64,
    /// Of these, what bodies on their way from nodes take now.
    pub(crate) fill_bytes: u64,
    /// Of these, what is set aside for tables of a fixed size.
    pub(crate) fixed_bytes: u64,
    /// What they may take now: less than the budget while the process takes more memory than is in use, in bytes.
    pub(crate) capacity_bytes: u64,
    /// Distinct tags that entries carry.
    pub(crate) tags: u64,
    /// URLs known to be uncacheable, so that nobody waits for another's fetch there.
    pub(crate) marks: u64,
    /// Fetches into the cache that run now.
    pub(crate) fetching: u64,
    /// Refreshes of stale pages that run, wait for their turn, and were given up for others.
    pub(crate) refreshing: u64,
    pub(crate) refreshes_waiting: u64,
    pub(crate) refreshes_displaced: u64,
    /// Entries ever stored.
    pub(crate) stored: u64,
    /// Entries removed to make room.
    pub(crate) evictions: u64,
    /// Entries removed because they were too old to be of use.
    pub(crate) expirations: u64,
    /// Bans that are not over.
    pub(crate) bans: u64,
    /// Entries removed because of a ban.
    pub(crate) banned: u64,
    /// Their forms in other content codings.
    pub(crate) encoding: EncodingView,
}

/// Content codings at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct EncodingView {
    /// Entries that have forms in other codings.
    pub(crate) entries: u64,
    /// Memory that these forms take, in bytes; it is part of the cache's.
    pub(crate) bytes: u64,
    /// Forms ever made and kept, by coding; `identity` is what was decoded.
    pub(crate) gzip: u64,
    pub(crate) br: u64,
    pub(crate) zstd: u64,
    pub(crate) identity: u64,
    /// By how many bytes the forms are smaller than the plain text.
    pub(crate) saved_bytes: u64,
    /// Time spent on coding, in seconds.
    pub(crate) seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_and_the_status_document_name_states_alike() {
        for state in NodeState::ALL {
            assert_eq!(serde_json::json!(state), state.label());
        }
    }

    #[test]
    fn readiness_in_the_status_document() {
        let reason = Readiness::NotYet("pool web: no node is up".into());
        let expected = serde_json::json!({"state": "not-yet", "reason": "pool web: no node is up"});
        assert_eq!(serde_json::json!(reason), expected);
        assert_eq!(serde_json::json!(Readiness::Draining), serde_json::json!({"state": "draining"}));
    }
}
