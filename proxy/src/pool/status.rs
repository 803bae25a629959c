//! What metrics and a status page show of pools and nodes: plain values, taken at one moment.

use std::fmt;
use std::time::Duration;

use super::settings::NodeId;

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PoolStatus {
    /// Its name.
    pub(crate) name: String,
    /// Its nodes in the order of the configuration.
    pub(crate) nodes: Vec<NodeStatus>,
    /// Whether a node is up.
    pub(crate) any_up: bool,
    /// Requests waiting for a place now.
    pub(crate) queued: usize,
    /// Requests that ever waited.
    pub(crate) waited: u64,
    /// Requests turned away because the queue was full.
    pub(crate) queue_full: u64,
    /// Requests that waited in vain.
    pub(crate) queue_timeouts: u64,
    /// Requests for which there was no node at all.
    pub(crate) no_node: u64,
    /// Retries granted.
    pub(crate) retries: u64,
    /// Retries refused by the budget.
    pub(crate) retries_refused: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeStatus {
    /// Who it is.
    pub(crate) id: NodeId,
    /// Its address as configured.
    pub(crate) address: String,
    /// What it is doing.
    pub(crate) state: NodeState,
    /// Why, in words; empty if there is nothing to say.
    pub(crate) reason: String,
    /// How long it has been in that state by probes, ejection or admin.
    pub(crate) since: Duration,
    /// Its weight as configured.
    pub(crate) weight: u32,
    /// Its weight now, in hundredths; smaller during slow start, zero when it takes no traffic.
    pub(crate) effective_weight: u64,
    /// Whether it is a backup.
    pub(crate) backup: bool,
    /// Its limit of requests at a time.
    pub(crate) max_connections: Option<u32>,
    /// Requests it is working on.
    pub(crate) in_flight: u32,
    /// Requests it was given.
    pub(crate) requests: u64,
    /// Requests that went wrong, by kind.
    pub(crate) failures: Failures,
    /// Answers it gave, whatever the status.
    pub(crate) answers: u64,
    /// Time to the first byte of all answers together.
    pub(crate) answer_time: Duration,
    /// Times it was ejected.
    pub(crate) ejections: u64,
    /// Time left of the running ejection.
    pub(crate) ejected_for: Option<Duration>,
    /// Good probes.
    pub(crate) probes_ok: u64,
    /// Failed probes.
    pub(crate) probes_failed: u64,
    /// How long the last good probe took.
    pub(crate) probe_time: Option<Duration>,
    /// The addresses behind its name; empty for a node without one.
    pub(crate) resolved: Vec<String>,
}

/// Requests that went wrong at a node, by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Failures {
    /// No connection.
    pub(crate) connect: u64,
    /// No answer in time.
    pub(crate) timeout: u64,
    /// Reset, garbage, or closed before a whole head.
    pub(crate) broken: u64,
    /// Status 500 or more.
    pub(crate) status: u64,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NodeState {
    /// Not probed yet; no traffic.
    Unknown,
    /// Takes its share.
    Up,
    /// Up, came back lately, takes a growing part of its share.
    SlowStart,
    /// Down by probes, or its name has no address.
    Down,
    /// Out for a while because requests failed at it.
    Ejected,
    /// Up, takes traffic only if nothing else can.
    Draining,
    /// Switched off by the operator.
    Disabled,
}

impl NodeState {
    /// One word, as on the status page and in metric labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::SlowStart => "slow-start",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the operator wants of a node; outlives configuration changes, not the process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum AdminState {
    /// Serve.
    #[default]
    Ready,
    /// No new traffic except pinned sessions, and except when nothing else is up.
    Drain,
    /// No traffic at all (HAProxy `maint`), whatever else is down.
    Disabled,
}
