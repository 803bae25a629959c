//! What is shown of sessions.

use serde::Serialize;

/// Sessions that are kept for web nodes, and the servers that they are kept on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SessionsView {
    /// Connections of web nodes that are open.
    pub(crate) connections: u64,
    /// Ever let in.
    pub(crate) connections_opened: u64,
    /// Ever turned away.
    pub(crate) connections_refused: u64,
    /// Copies that a server lacked, and was given again.
    pub(crate) repaired_missing: u64,
    /// Copies that were older than another, and replaced.
    pub(crate) repaired_older: u64,
    /// Requests for which one of the servers was away.
    pub(crate) degraded: u64,
    /// Requests for which there was no server at all.
    pub(crate) failed: u64,
    /// Locks of sessions that were taken.
    pub(crate) locks_taken: u64,
    /// Locks that another had for longer than it was waited.
    pub(crate) locks_refused: u64,
    /// Locks that were freed because whoever had them was gone.
    pub(crate) locks_given_back: u64,
    /// The servers, in the order of the configuration.
    pub(crate) servers: Vec<MemcachedView>,
}

/// Sessions that stay at their nodes.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PinsView {
    /// Requests whose session had a pin.
    pub(crate) found: u64,
    /// Pins that were made.
    pub(crate) made: u64,
    /// Pins that were moved, because their node was gone.
    pub(crate) moved: u64,
    /// Requests for which memcached could not be asked in time, and the session's hash told the node.
    pub(crate) fallbacks: u64,
    /// The servers that pins are kept on.
    pub(crate) servers: Vec<MemcachedView>,
}

/// One memcached server.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct MemcachedView {
    /// As in the configuration.
    pub(crate) name: String,
    /// Whether it answers.
    pub(crate) up: bool,
    /// Whether it is only believed together with the others: it was away, and may have missed something.
    pub(crate) doubted: bool,
    /// Requests ever sent to it.
    pub(crate) requests: u64,
    /// Those that it did not answer, or too late; probes among them.
    pub(crate) failures: u64,
    /// How often it went away.
    pub(crate) outages: u64,
    /// Its version; empty before the first probe.
    pub(crate) version: String,
    /// What it keeps, as it says itself.
    pub(crate) items: u64,
    /// Memory that takes.
    pub(crate) bytes: u64,
    /// Memory that it may take.
    pub(crate) limit_bytes: u64,
    /// What it dropped for want of memory. Of sessions that should be none.
    pub(crate) evictions: u64,
}
