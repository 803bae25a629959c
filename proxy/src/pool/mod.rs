//! Pools of web nodes: which node a request goes to, which are up, who waits for a full one, what may be tried again.
//!
//! It opens and keeps connections and asks for names; requests themselves are sent by its callers, who take a [`Lease`],
//! ask it for a [`Link`] (or connect to its peer themselves) and report the [`Outcome`]. [`Pools::run`] owns every task: one for each node, ended
//! when the node leaves the configuration.
//!
//! Reading order: [`settings`] what is told · [`acquire`] a place at a node · [`members`], [`choice`], [`balance`] which
//! node · [`queue`] who waits · [`lease`] what became of it · [`link`], [`idle`] connections · [`node`], [`health`], [`passive`] what is known of a node
//! · [`watch`], [`probe`], [`resolve`] finding out · [`retry`] the budget · [`status`] what is shown.

mod acquire;
pub(crate) mod addresses;
mod announce;
pub(crate) mod balance;
pub(crate) mod choice;
pub(crate) mod clock;
pub(crate) mod fired;
pub(crate) mod health;
mod idle;
pub(crate) mod lease;
pub(crate) mod link;
mod members;
pub(crate) mod node;
pub(crate) mod passive;
pub(crate) mod peer;

pub(crate) mod probe;
pub(crate) mod queue;
pub(crate) mod resolve;
pub(crate) mod retry;
pub(crate) mod settings;
pub(crate) mod status;
#[cfg(test)]
mod test;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch as channel;
use tokio::time::Instant;

pub(crate) use acquire::{Pool, Unavailable, Want};
pub(crate) use announce::{Behalf, ProxyVersion};
pub(crate) use idle::Reuse;
pub(crate) use lease::{Lease, Outcome};
pub(crate) use link::{Link, LinkError};
pub(crate) use members::Pinnable;

pub(crate) use settings::{
    Balance, BodyPattern, Check, HealthSettings, HttpCheck, NodeAddress, NodeId, NodeSettings, NodeTls,
    PassiveSettings, PoolSettings, RetrySettings, Timeouts, TrustedCas,
};
pub(crate) use status::{AdminState, NodeState, NodeStatus, PoolStatus};

use resolve::{Lookup, SystemLookup};

/// All pools by name.
pub(crate) struct Pools {
    current: ArcSwap<HashMap<String, Arc<Pool>>>,
    // Configuration changes one after the other; readers do not wait for them.
    replacing: Mutex<()>,
    changes: channel::Sender<()>,
    lookup: Arc<dyn Lookup>,
}

impl Pools {
    /// Pools whose nodes take no traffic until [`run`](Self::run) has probed them, unless probing is off.
    pub(crate) fn new(settings: Vec<PoolSettings>) -> Arc<Self> {
        Self::with_lookup(settings, Arc::new(SystemLookup))
    }

    /// As [`new`](Self::new), with another way to resolve names.
    pub(crate) fn with_lookup(settings: Vec<PoolSettings>, lookup: Arc<dyn Lookup>) -> Arc<Self> {
        let pools = Self {
            current: ArcSwap::default(),
            replacing: Mutex::new(()),
            changes: channel::Sender::new(()),
            lookup,
        };
        pools.replace(settings);
        Arc::new(pools)
    }

    /// The pool called `name`. May be kept: a configuration change reaches it as long as it keeps its name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Pool>> {
        self.current.load().get(name).cloned()
    }

    /// Takes over a changed configuration. Pools are known by name and nodes by address; what is known of those that
    /// stay, their counters and requests in flight go on. Of two pools with one name the last counts.
    pub(crate) fn replace(&self, settings: Vec<PoolSettings>) {
        let _one_at_a_time = self.replacing.lock();
        let now = Instant::now();
        let old = self.current.load();
        let mut new = HashMap::with_capacity(settings.len());
        for settings in settings {
            let name = settings.name.clone();
            let pool = match old.get(&name) {
                Some(pool) => {
                    pool.replace(settings, now);
                    Arc::clone(pool)
                }
                None => Arc::new(Pool::new(settings, now)),
            };
            new.insert(name, pool);
        }
        self.current.store(Arc::new(new));
        self.changes.send_replace(());
    }

    /// Makes those pools that there are not yet, and probes their nodes; all others stay as they are.
    pub(crate) fn add(&self, settings: Vec<PoolSettings>) {
        let _one_at_a_time = self.replacing.lock();
        let now = Instant::now();
        let mut pools = HashMap::clone(&self.current.load());
        for settings in settings {
            pools.entry(settings.name.clone()).or_insert_with(|| Arc::new(Pool::new(settings, now)));
        }
        self.current.store(Arc::new(pools));
        self.changes.send_replace(());
    }

    /// Ends all pools but these.
    pub(crate) fn keep_only(&self, names: &dyn Fn(&str) -> bool) {
        let _one_at_a_time = self.replacing.lock();
        let mut pools = HashMap::clone(&self.current.load());
        pools.retain(|name, _| names(name));
        self.current.store(Arc::new(pools));
        self.changes.send_replace(());
    }

    /// Everything worth showing, by name.
    pub(crate) fn status(&self) -> Vec<PoolStatus> {
        let mut status: Vec<_> = self.current.load().values().map(|pool| pool.status()).collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// Whether every pool was probed once and has a node that is up.
    pub(crate) fn ready(&self) -> bool {
        self.current.load().values().all(|pool| pool.is_ready())
    }

    /// Sets what the operator wants of the node whose address reads `node`. Tells whether there is such a node.
    pub(crate) fn set_admin_state(&self, pool: &str, node: &str, state: AdminState) -> bool {
        self.get(pool).is_some_and(|pool| pool.set_admin_state(node, state))
    }

    /// Probes nodes and resolves names until `shutdown` turns true or its sender is gone.
    pub(crate) async fn run(self: Arc<Self>, shutdown: channel::Receiver<bool>) {
        watch::run(&self, shutdown).await;
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.current.load().values().cloned().collect()
    }
}
