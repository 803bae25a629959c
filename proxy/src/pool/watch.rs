//! The tasks that find out about nodes: one for each, which probes it, resolves its name and ends its ejections.
//!
//! [`run`] owns them all: it starts one for each node that appears and aborts those of nodes that are gone. A task reads
//! its node's settings anew at every step, so a configuration change restarts nothing and hurries no probe.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::Pools;
use super::acquire::Pool;
use super::clock::{FAR, after};
use super::health::Health;
use super::node::Node;
use super::probe::Prober;
use super::resolve::{self, Lookup};
use super::settings::NodeAddress;

/// How long the tasks rest after one of them panicked, so that a fault cannot spin.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// One node's running task. Holding the node keeps its address in memory from being taken by another.
struct Running {
    _node: Arc<Node>,
    task: AbortHandle,
}

/// Watches every node of `pools` until `shutdown`.
pub(super) async fn run(pools: &Pools, mut shutdown: watch::Receiver<bool>) {
    let mut changes = pools.changes.subscribe();
    let mut tasks = JoinSet::new();
    let mut running: HashMap<usize, Running> = HashMap::new();
    let prober = Arc::new(Prober::new());
    loop {
        let mut gone = std::mem::take(&mut running);
        for pool in pools.pools() {
            for node in pool.nodes() {
                let key = Arc::as_ptr(&node).addr();
                let task = gone.remove(&key).filter(|running| !running.task.is_finished());
                let task = task.unwrap_or_else(|| Running {
                    _node: Arc::clone(&node),
                    task: tasks.spawn(watch_node(
                        Arc::clone(&pool),
                        node,
                        Arc::clone(&prober),
                        Arc::clone(&pools.lookup),
                    )),
                });
                running.insert(key, task);
            }
        }
        gone.values().for_each(|running| running.task.abort());
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            // Its sender gone is a stop too. The guard it yields must not live on across an await.
            () = async { drop(shutdown.wait_for(|stop| *stop).await) } => return,
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                error!(%error, "the task that watches a node failed, another is started");
                sleep(AFTER_PANIC).await;
            },
        }
    }
}

async fn watch_node(pool: Arc<Pool>, node: Arc<Node>, prober: Arc<Prober>, lookup: Arc<dyn Lookup>) {
    tokio::join!(
        probe_often(&pool, &node, &prober),
        resolve_often(&pool, &node, lookup.as_ref()),
        end_ejections(&pool, &node),
        sweep_often(&node),
    );
}

/// Probes `node` at once and then every interval, give or take a tenth so that edges and nodes fall out of step.
async fn probe_often(pool: &Pool, node: &Node, prober: &Prober) {
    let mut changes = node.changes();
    loop {
        changes.borrow_and_update();
        let settings = node.settings();
        if !node.addresses().any() {
            // Nowhere to go before the name is resolved; that is told to us as a change.
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        if !settings.health.is_on() {
            if node.force_health(Health::Up, String::new(), Instant::now()) {
                pool.nodes_changed();
            }
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(target) = node.target(Instant::now()) else { continue };
        let result = prober.probe(&target, node.address(), &settings).await;
        let now = Instant::now();
        if result.is_err() {
            node.avoid(&target, now);
        }
        if node.record_probe(result, now) {
            pool.nodes_changed();
        }
        let jitter = 0.9 + 0.2 * fastrand::f64();
        loop {
            let interval = node.settings().health.interval;
            if interval.is_zero() {
                break;
            }
            tokio::select! {
                () = sleep_until(after(now, interval.min(FAR).mul_f64(jitter))) => break,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Resolves the name of `node` again and again; does nothing for a node without one.
async fn resolve_often(pool: &Pool, node: &Node, lookup: &dyn Lookup) {
    let NodeAddress::Name { host, .. } = node.address() else { return };
    let mut failures = 0u32;
    loop {
        let answer = lookup.lookup(host).await;
        let settings = node.settings();
        let now = Instant::now();
        let wait = match answer {
            Ok(answer) => {
                let first = !node.addresses().any();
                if node.addresses().set(answer.addresses) {
                    info!(pool = settings.name, %node, addresses = ?node.addresses().resolved(), "name is resolved");
                    if first {
                        // Whatever was thought of it, there was nowhere to go; the next probe decides anew.
                        node.force_health(Health::Unknown, String::new(), now);
                    }
                    node.announce();
                    pool.nodes_changed();
                } else if failures > 0 {
                    info!(pool = settings.name, %node, "name is resolved again");
                }
                failures = 0;
                answer.ttl.clamp(settings.dns_min_ttl, settings.dns_max_ttl.max(settings.dns_min_ttl))
            }
            Err(reason) => {
                if failures == 0 {
                    warn!(pool = settings.name, %node, reason, "name is not resolved, the last good answer is kept");
                }
                failures = failures.saturating_add(1);
                if !node.addresses().any()
                    && node.force_health(Health::Down, format!("name not resolved: {reason}"), now)
                {
                    pool.nodes_changed();
                }
                resolve::backoff(failures, settings.dns_max_ttl)
            }
        };
        sleep(wait).await;
    }
}

/// Ends connections that have been idle too long, or that the node has closed.
async fn sweep_often(node: &Node) {
    loop {
        sleep(SWEEP).await;
        node.idle.sweep(Instant::now());
    }
}

/// Ends each ejection of `node` when its time is over. Choices do so too; this one also wakes those who wait.
async fn end_ejections(pool: &Pool, node: &Node) {
    let mut changes = node.changes();
    loop {
        changes.borrow_and_update();
        if node.settle(Instant::now()) {
            pool.nodes_changed();
        }
        let over = async {
            match node.ejected_until(Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests;
