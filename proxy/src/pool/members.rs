//! One configuration of a pool: its nodes with their weights and limits, and the choice of one of them.
//!
//! A [`Members`] never changes; a configuration change makes a new one that shares the nodes. The only lock is round
//! robin's memory, held for one pass over the nodes.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;
use tracing::warn;

use super::Want;
use super::balance::{self, Candidate};
use super::choice::{Standing, Tier, View};
use super::node::Node;
use super::settings::{Balance, NodeId, PoolSettings};
use super::status::NodeState;

/// The nodes of a pool as configured.
pub(super) struct Members {
    pub(super) settings: Arc<PoolSettings>,
    pub(super) list: Vec<Member>,
    // Round robin's memory, one number for each member.
    rotation: Mutex<Vec<i64>>,
}

/// A node and its part in the pool.
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) max_connections: Option<u32>,
}

/// What a choice came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pick {
    /// The member at this place in the list.
    Member(usize),
    /// Those that may serve are at their limits.
    Full,
    /// The first probes are under way.
    Unknown,
    /// There is none.
    Nothing,
}

/// A node as pins see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinnable {
    pub(crate) id: NodeId,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
    /// Whether it takes sessions that it does not know.
    pub(crate) takes_new: bool,
    /// Whether it is up, and left alone.
    pub(crate) drained: bool,
}

impl Members {
    /// The nodes, as pins see them.
    pub(super) fn pinnable(&self, now: Instant) -> SmallVec<[Pinnable; 8]> {
        let one = |member: &Member| {
            let standing = member.node.standing(now);
            let left_alone = standing == Standing::Draining || member.weight == 0;
            Pinnable {
                id: member.node.id(),
                weight: u16::try_from(member.weight).unwrap_or(u16::MAX),
                backup: member.backup,
                takes_new: standing == Standing::Ready && !left_alone,
                drained: left_alone && matches!(standing, Standing::Ready | Standing::Draining),
            }
        };
        self.list.iter().map(one).collect()
    }

    /// The members of `settings`; those that `old` had keep their node and what is known of it.
    pub(super) fn new(settings: Arc<PoolSettings>, old: Option<&Self>, now: Instant) -> Self {
        let late = old.is_some_and(|old| old.any_up(now));
        let mut seen = HashSet::new();
        let mut list = Vec::with_capacity(settings.nodes.len());
        for member in &settings.nodes {
            let id = NodeId::of(&member.address);
            if !seen.insert(id) {
                warn!(pool = settings.name, node = %member.address, "node is listed twice, the second is left out");
                continue;
            }
            let known = old.and_then(|old| old.list.iter().find(|member| member.node.id() == id));
            let node = match known {
                Some(known) => {
                    known.node.adopt(Arc::clone(&settings));
                    Arc::clone(&known.node)
                }
                None => Arc::new(Node::new(member.address.clone(), Arc::clone(&settings), late, now)),
            };
            list.push(Member {
                node,
                weight: member.weight,
                backup: member.backup,
                max_connections: member.max_connections,
            });
        }
        let rotation = Mutex::new(vec![0; list.len()]);
        Self { settings, list, rotation }
    }

    /// Whether a node takes new requests that is none of these.
    pub(super) fn is_usable_besides(&self, others: &[NodeId], now: Instant) -> bool {
        self.list.iter().any(|member| {
            !others.contains(&member.node.id())
                && match member.node.state(now) {
                    NodeState::Up | NodeState::SlowStart => true,
                    NodeState::Unknown
                    | NodeState::Down
                    | NodeState::Ejected
                    | NodeState::Draining
                    | NodeState::Disabled => false,
                }
        })
    }

    /// Whether a node is up, drained ones included.
    pub(super) fn any_up(&self, now: Instant) -> bool {
        self.list.iter().any(|member| match member.node.standing(now) {
            Standing::Ready | Standing::Draining => true,
            Standing::Down | Standing::Unknown | Standing::Off => false,
        })
    }

    /// Who would serve `want`, whether there is a place or not.
    pub(super) fn tier(&self, want: &Want<'_>, now: Instant) -> Tier {
        Tier::best(&self.views(want, now), false)
    }

    /// Chooses a member. A pinned node comes first while it is up and was not tried, even a drained one: its sessions
    /// live there.
    pub(super) fn choose(
        &self,
        want: &Want<'_>,
        pinned: Option<NodeId>,
        impatient: bool,
        now: Instant,
    ) -> Pick {
        if let Some(pick) = pinned.and_then(|id| self.pinned(id, want, now)) {
            return pick;
        }
        let views = self.views(want, now);
        let tier = Tier::best(&views, impatient);
        match tier {
            Tier::Wait => return Pick::Unknown,
            Tier::Nothing => return Pick::Nothing,
            Tier::Primaries { .. } | Tier::Backups { .. } | Tier::Drained { .. } | Tier::Desperate { .. } => {
            }
        }
        let mut candidates = self.candidates(|index| tier.includes(&views[index]), now);
        let balance = self.settings.balance;
        if !want.idempotent && !matches!(balance, Balance::Hash { .. }) {
            // What cannot be tried again goes where the last request went well, if there is such a node.
            let sound = |candidate: &Candidate| self.list[candidate.index].node.failures_in_row() == 0;
            if candidates.iter().any(|candidate| sound(candidate) && !candidate.full) {
                candidates.retain(|candidate| sound(candidate));
            }
        }
        let rotate = |candidates: &[Candidate]| balance::round_robin(candidates, &mut self.rotation.lock());
        balance::choose(balance, want.hash, &candidates, rotate, &mut fastrand::Rng::new())
            .map_or(Pick::Full, Pick::Member)
    }

    fn pinned(&self, id: NodeId, want: &Want<'_>, now: Instant) -> Option<Pick> {
        if want.tried.contains(&id) {
            return None;
        }
        let index = self.list.iter().position(|member| member.node.id() == id)?;
        let member = &self.list[index];
        match member.node.standing(now) {
            Standing::Ready | Standing::Draining if member.is_full() => Some(Pick::Full),
            Standing::Ready | Standing::Draining => Some(Pick::Member(index)),
            Standing::Down | Standing::Unknown | Standing::Off => None,
        }
    }

    fn views(&self, want: &Want<'_>, now: Instant) -> SmallVec<[View; 16]> {
        self.list
            .iter()
            .map(|member| View {
                standing: match member.node.standing(now) {
                    Standing::Ready if member.weight == 0 => Standing::Draining,
                    standing => standing,
                },
                backup: member.backup,
                tried: want.tried.contains(&member.node.id()),
            })
            .collect()
    }

    fn candidates(&self, may: impl Fn(usize) -> bool, now: Instant) -> SmallVec<[Candidate; 16]> {
        let members = self.list.iter().enumerate().filter(|(index, _)| may(*index));
        members
            .map(|(index, member)| Candidate {
                index,
                id: member.node.id(),
                weight: member.effective_weight(now).max(1),
                in_flight: member.node.in_flight(),
                full: member.is_full(),
            })
            .collect()
    }
}

impl Member {
    /// Hundredths of the weight's unit that count now.
    pub(super) fn effective_weight(&self, now: Instant) -> u64 {
        u64::from(self.weight) * self.node.ramp_percent(now)
    }

    fn is_full(&self) -> bool {
        self.max_connections.is_some_and(|limit| self.node.in_flight() >= limit)
    }
}
