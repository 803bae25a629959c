//! One pool: places at its nodes, the queue before them, the retry budget.
//!
//! A [`Pool`] lives as long as the configuration names it; its members are a snapshot behind an `ArcSwap`, taken once
//! for each choice. It spawns nothing. The ejection lock makes "how many are out already" and "out goes another" one
//! step; it is held only while a failure is being counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::choice::Tier;
use super::clock::after;
use super::fired::Fired;
use super::lease::Lease;
use super::members::{Members, Pick, Pinnable};
use super::node::Node;
use super::queue::Queue;
use super::retry::RetryBudget;
use super::settings::{NodeId, PoolSettings, Timeouts};
use super::status::{AdminState, NodeState, NodeStatus, PoolStatus};

/// Requests that may wait for the first probes at start-up, if the queue is shorter.
const STARTUP_WAITERS: usize = 1024;

/// What a request asks of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Want<'a> {
    /// Points to a node, for pools that balance by hash.
    pub(crate) hash: Option<u64>,
    /// Nodes at which this request failed before: avoided while another exists.
    pub(crate) tried: &'a [NodeId],
    /// Whether the request could be sent again. One that cannot prefers nodes whose last request went well.
    pub(crate) idempotent: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// All nodes are at their limits and as many requests as may wait for them.
    #[error("every node is busy and the queue is full")]
    QueueFull,
    /// No place came free in time.
    #[error("every node is busy and none came free in time")]
    QueueTimeout,
    /// No node can be used.
    #[error("no node can be used")]
    NoNode,
}

/// What a look for a place came to.
enum Look {
    Found(Lease),
    Full,
    Unknown,
    Nothing,
}

/// A pool of web nodes.
pub(crate) struct Pool {
    members: ArcSwap<Members>,
    queue: Queue,
    budget: Mutex<RetryBudget>,
    ejecting: Mutex<()>,
    waited: AtomicU64,
    queue_full: Fired,
    queue_timeouts: Fired,
    no_node: Fired,
    retries: AtomicU64,
    retries_refused: Fired,
}

impl Pool {
    /// A pool none of whose nodes was probed yet.
    pub(super) fn new(settings: PoolSettings, now: Instant) -> Self {
        Self {
            members: ArcSwap::from_pointee(Members::new(Arc::new(settings), None, now)),
            queue: Queue::default(),
            budget: Mutex::new(RetryBudget::new(now)),
            ejecting: Mutex::new(()),
            waited: AtomicU64::new(0),
            queue_full: Fired::new(now),
            queue_timeouts: Fired::new(now),
            no_node: Fired::new(now),
            retries: AtomicU64::new(0),
            retries_refused: Fired::new(now),
        }
    }

    /// A place at a node, whichever serves best.
    ///
    /// # Errors
    ///
    /// As [`acquire_at`](Self::acquire_at).
    #[cfg(test)]
    pub(crate) async fn acquire(self: &Arc<Self>, want: &Want<'_>) -> Result<Lease, Unavailable> {
        self.acquire_at(None, want).await
    }

    /// A place at a node. While every node that may serve is at its limit, or none was probed yet, waits its turn for
    /// at most the queue timeout. The node `pinned` is taken if it is up, even if it is drained or its queue is longer; another only if
    /// it is down or was tried.
    ///
    /// Cancel safe: a dropped waiter leaves no trace.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] tells whether waiting longer, a longer queue or only a node would have helped.
    pub(crate) async fn acquire_at(
        self: &Arc<Self>,
        pinned: Option<NodeId>,
        want: &Want<'_>,
    ) -> Result<Lease, Unavailable> {
        // Nobody overtakes those who wait.
        let mut look = match self.queue.len() {
            0 => self.look(want, pinned, false),
            _ => self.outlook(want),
        };
        let at_least = match look {
            Look::Found(lease) => return Ok(lease),
            Look::Nothing => return self.refuse(Unavailable::NoNode),
            Look::Full => 0,
            Look::Unknown => STARTUP_WAITERS,
        };
        let settings = Arc::clone(&self.members.load().settings);
        let deadline = after(Instant::now(), settings.queue_timeout);
        let limit = settings.queue_length.max(at_least);
        let Some(place) = self.queue.join(limit) else { return self.refuse(Unavailable::QueueFull) };
        self.waited.fetch_add(1, Ordering::Relaxed);
        loop {
            if timeout_at(deadline, place.called()).await.is_err() {
                break;
            }
            look = self.look(want, pinned, false);
            match look {
                Look::Found(lease) => {
                    place.served();
                    return Ok(lease);
                }
                Look::Nothing => return self.refuse(Unavailable::NoNode),
                Look::Full | Look::Unknown => place.wait_on(),
            }
        }
        drop(place);
        match look {
            Look::Unknown => match self.look(want, pinned, true) {
                // The probes take longer than we may wait: a node that looks down is better than none.
                Look::Found(lease) => Ok(lease),
                Look::Full | Look::Unknown | Look::Nothing => self.refuse(Unavailable::NoNode),
            },
            Look::Found(_) | Look::Full | Look::Nothing => self.refuse(Unavailable::QueueTimeout),
        }
    }

    /// Its nodes, as pins see them.
    pub(crate) fn pinnable(&self) -> smallvec::SmallVec<[Pinnable; 8]> {
        self.members.load().pinnable(Instant::now())
    }

    /// A place at a node if there is one at once; never overtakes those who wait.
    ///
    /// # Errors
    ///
    /// [`Unavailable`], never [`Unavailable::QueueTimeout`].
    #[cfg(test)]
    pub(crate) fn try_acquire(self: &Arc<Self>, want: &Want<'_>) -> Result<Lease, Unavailable> {
        if self.queue.len() > 0 {
            return self.refuse(Unavailable::QueueFull);
        }
        match self.look(want, None, false) {
            Look::Found(lease) => Ok(lease),
            Look::Full => self.refuse(Unavailable::QueueFull),
            Look::Unknown | Look::Nothing => self.refuse(Unavailable::NoNode),
        }
    }

    fn refuse(&self, why: Unavailable) -> Result<Lease, Unavailable> {
        let limit = match why {
            Unavailable::QueueFull => &self.queue_full,
            Unavailable::QueueTimeout => &self.queue_timeouts,
            Unavailable::NoNode => &self.no_node,
        };
        if let Some(requests) = limit.fire(Instant::now()) {
            warn!(pool = self.name(), requests, reason = %why, "requests got no node");
        }
        Err(why)
    }

    /// What a look would come to for one who has to wait in any case.
    fn outlook(&self, want: &Want<'_>) -> Look {
        match self.members.load().tier(want, Instant::now()) {
            Tier::Wait => Look::Unknown,
            Tier::Nothing => Look::Nothing,
            Tier::Primaries { .. } | Tier::Backups { .. } | Tier::Drained { .. } | Tier::Desperate { .. } => {
                Look::Full
            }
        }
    }

    fn look(self: &Arc<Self>, want: &Want<'_>, pinned: Option<NodeId>, impatient: bool) -> Look {
        let now = Instant::now();
        let members = self.members.load_full();
        for member in &members.list {
            member.node.settle(now);
        }
        // Another thread may take the last place between choice and entry; each such loss means one node less to try.
        for _ in 0..=members.list.len() {
            let index = match members.choose(want, pinned, impatient, now) {
                Pick::Member(index) => index,
                Pick::Full => return Look::Full,
                Pick::Unknown => return Look::Unknown,
                Pick::Nothing => return Look::Nothing,
            };
            let member = &members.list[index];
            if member.node.enter(member.max_connections) {
                let node = Arc::clone(&member.node);
                return Look::Found(Lease::new(Arc::clone(self), members, node, now));
            }
        }
        Look::Full
    }

    /// A lease ended.
    pub(super) fn give_back(&self) {
        self.queue.call_one();
    }

    /// Something changed that waiters may profit from.
    pub(super) fn nodes_changed(&self) {
        self.queue.call_all();
    }

    /// A request failed at `node`: ejects it if that was one too many and enough others stay.
    pub(super) fn fail(&self, node: &Node, reason: &str) {
        let now = Instant::now();
        let _one_at_a_time = self.ejecting.lock();
        let may_eject = self.may_eject(node, now);
        if node.fail(reason, may_eject, now) {
            // Waiters for this node alone must look elsewhere.
            self.nodes_changed();
        }
    }

    /// Whether `node` may go: within the pool's share of ejected nodes, and never the last usable one.
    fn may_eject(&self, node: &Node, now: Instant) -> bool {
        let members = self.members.load();
        let out = members.list.iter().filter(|member| member.node.ejected_until(now).is_some()).count();
        let percent = usize::from(members.settings.passive.max_ejected_percent.min(100));
        let most = members.list.len() * percent / 100;
        let another = members.is_usable_besides(&[node.id()], now);
        out < most && another
    }

    /// Whether a request may be tried once more; if so, that is taken off the retry budget.
    pub(crate) fn may_retry(&self) -> bool {
        let retry = self.members.load().settings.retry;
        let now = Instant::now();
        let granted = self.budget.lock().withdraw(&retry, now);
        if granted {
            self.retries.fetch_add(1, Ordering::Relaxed);
        } else if let Some(retries) = self.retries_refused.fire(now) {
            warn!(pool = self.name(), retries, "the retry budget is spent");
        }
        granted
    }

    /// Whether a node other than those in `tried` is up: asking again would not just wake one that looks down.
    pub(crate) fn is_usable_besides(&self, tried: &[NodeId]) -> bool {
        self.members.load().is_usable_besides(tried, Instant::now())
    }

    /// Counts a request's first try, of which the retry budget is a share.
    pub(crate) fn note_request(&self) {
        self.budget.lock().deposit(Instant::now());
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.members.load().settings.name.clone()
    }

    /// Deadlines of one exchange with a node.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.members.load().settings.timeouts
    }

    /// Whether its nodes are told of clients in `Forwarded` too.
    pub(crate) fn tells_forwarded(&self) -> bool {
        self.members.load().settings.forwarded
    }

    /// Refreshes of stale pages that may be at its nodes at a time.
    pub(crate) fn refill_concurrency(&self) -> u32 {
        self.members.load().settings.refill_concurrency.max(1)
    }

    /// Whether requests wait for a place at a node.
    pub(crate) fn has_queue(&self) -> bool {
        self.queue.len() > 0
    }

    /// Tries of one request, the first included; at least one.
    pub(crate) fn attempts(&self) -> u32 {
        self.members.load().settings.retry.attempts.max(1)
    }

    /// Whether a node is up. If not, stale entries are served first, and requests are spread over nodes that look down.
    pub(crate) fn any_up(&self) -> bool {
        self.members.load().any_up(Instant::now())
    }

    /// The node whose address reads `address`.
    pub(crate) fn node(&self, address: &str) -> Option<Arc<Node>> {
        let members = self.members.load();
        let found = members.list.iter().find(|member| member.node.to_string() == address)?;
        Some(Arc::clone(&found.node))
    }

    /// Whether every node was probed at least once and one is up.
    pub(super) fn is_ready(&self) -> bool {
        let now = Instant::now();
        let members = self.members.load();
        let known = members.list.iter().all(|member| member.node.state(now) != NodeState::Unknown);
        known && members.any_up(now)
    }

    /// Every node.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.members.load().list.iter().map(|member| Arc::clone(&member.node)).collect()
    }

    /// Takes over a changed configuration.
    pub(super) fn replace(&self, settings: PoolSettings, now: Instant) {
        let old = self.members.load();
        if *old.settings == settings {
            return;
        }
        self.members.store(Arc::new(Members::new(Arc::new(settings), Some(&old), now)));
        self.nodes_changed();
    }

    /// Sets what the operator wants of the node at `address`; tells whether there is one.
    pub(super) fn set_admin_state(&self, address: &str, state: AdminState) -> bool {
        let Some(node) = self.node(address) else { return false };
        if node.set_admin_state(state, Instant::now()) {
            self.nodes_changed();
        }
        true
    }

    /// Everything worth showing.
    pub(super) fn status(&self) -> PoolStatus {
        let now = Instant::now();
        let members = self.members.load();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let nodes = members.list.iter().map(|member| {
            let node = &member.node;
            let (reason, since, probe_time) = node.story(now);
            let state = node.state(now);
            let takes_traffic = matches!(state, NodeState::Up | NodeState::SlowStart);
            NodeStatus {
                id: node.id(),
                address: node.to_string(),
                state,
                reason,
                since,
                weight: member.weight,
                effective_weight: if takes_traffic { member.effective_weight(now) } else { 0 },
                backup: member.backup,
                max_connections: member.max_connections,
                in_flight: node.in_flight(),
                requests: read(&node.counters.requests),
                failures: node.counters.failures(),
                answers: read(&node.counters.answers),
                answer_time: Duration::from_micros(read(&node.counters.answer_micros)),
                ejections: read(&node.counters.ejections),
                ejected_for: node.ejected_until(now).map(|until| until - now),
                probes_ok: read(&node.counters.probes_ok),
                probes_failed: read(&node.counters.probes_failed),
                probe_time,
                resolved: node.addresses().resolved().iter().map(ToString::to_string).collect(),
            }
        });
        PoolStatus {
            name: members.settings.name.clone(),
            nodes: nodes.collect(),
            any_up: members.any_up(now),
            queued: self.queue.len(),
            waited: read(&self.waited),
            queue_full: self.queue_full.count(),
            queue_timeouts: self.queue_timeouts.count(),
            no_node: self.no_node.count(),
            retries: read(&self.retries),
            retries_refused: self.retries_refused.count(),
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("nodes", &self.nodes())
            .field("queued", &self.queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
