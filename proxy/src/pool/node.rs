//! One web node: what is known of it, what it is doing, and its counters.
//!
//! A [`Node`] outlives configuration changes as long as its pool names its address. What every choice reads is in
//! atomics; the state machines behind them are in `record`, whose lock is held for a few moves by probes and failures,
//! never by a choice or a success. Whoever changes the machines writes the atomics before letting go of the lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::addresses::Addresses;
use super::choice::Standing;
use super::health::{Health, HealthRecord};
use super::idle::IdleLinks;
use super::passive::{PassiveRecord, Verdict};
use super::peer::Target;
use super::settings::{NodeAddress, NodeId, PoolSettings};
use super::status::{AdminState, Failures, NodeState};

/// A web server behind us.
pub(crate) struct Node {
    id: NodeId,
    address: NodeAddress,
    // The address as it reads, for those who note it often.
    name: Arc<str>,
    pool: Arc<str>,
    // Moments are kept as ticks: milliseconds since then, plus one, so that zero can mean "none".
    birth: Instant,
    // Came to a pool that was already serving, so its caches are cold beside the others'.
    late: bool,
    settings: ArcSwap<PoolSettings>,
    addresses: Addresses,

    health: AtomicU8,
    admin: AtomicU8,
    ejected_until: AtomicU64,
    ramp_from: AtomicU64,
    failures_in_row: AtomicU32,
    // Sequentially consistent beside the queue's length; see there.
    in_flight: AtomicU32,

    record: Mutex<Record>,
    pub(super) counters: Counters,
    pub(super) idle: IdleLinks,
    changes: watch::Sender<()>,
}

/// The machines behind the atomics.
#[derive(Debug)]
struct Record {
    health: HealthRecord,
    passive: PassiveRecord,
    reason: String,
    since: Instant,
    probe_time: Option<Duration>,
}

/// What a node was given and what came of it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) answers: AtomicU64,
    pub(super) answer_micros: AtomicU64,
    pub(super) connect: AtomicU64,
    pub(super) timeout: AtomicU64,
    pub(super) broken: AtomicU64,
    pub(super) status: AtomicU64,
    pub(super) ejections: AtomicU64,
    pub(super) probes_ok: AtomicU64,
    pub(super) probes_failed: AtomicU64,
}

impl Counters {
    pub(super) fn failures(&self) -> Failures {
        Failures {
            connect: self.connect.load(Ordering::Relaxed),
            timeout: self.timeout.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            status: self.status.load(Ordering::Relaxed),
        }
    }
}

impl Node {
    /// A node nobody knows anything about; `late` if its pool is serving already.
    pub(super) fn new(address: NodeAddress, settings: Arc<PoolSettings>, late: bool, now: Instant) -> Self {
        let known = !settings.health.is_on() && !matches!(address, NodeAddress::Name { .. });
        let health = if known { Health::Up } else { Health::Unknown };
        Self {
            id: NodeId::of(&address),
            pool: settings.name.as_str().into(),
            birth: now,
            late,
            addresses: Addresses::of(&address),
            name: address.to_string().into(),
            address,
            settings: ArcSwap::new(settings),
            health: AtomicU8::new(health_code(health)),
            admin: AtomicU8::new(0),
            ejected_until: AtomicU64::new(0),
            // The first tick: a late node that is not probed is up from birth.
            ramp_from: AtomicU64::new(u64::from(known && late)),
            failures_in_row: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            record: Mutex::new(Record {
                health: HealthRecord::new(health),
                passive: PassiveRecord::default(),
                reason: String::new(),
                since: now,
                probe_time: None,
            }),
            counters: Counters::default(),
            idle: IdleLinks::default(),
            changes: watch::Sender::new(()),
        }
    }

    /// Who it is: a hash of its address.
    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    /// Its address as configured.
    pub(crate) fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// Its address as configured, in text.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Requests it is working on.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Why it is in its state; empty if there is nothing to say.
    #[cfg(test)]
    pub(crate) fn reason(&self) -> String {
        self.record.lock().reason.clone()
    }

    /// What it is doing.
    pub(crate) fn state(&self, now: Instant) -> NodeState {
        match (self.admin_state(), self.health()) {
            (AdminState::Disabled, _) => NodeState::Disabled,
            (_, Health::Unknown) => NodeState::Unknown,
            (_, Health::Down) => NodeState::Down,
            (_, Health::Up) if self.ejected_until(now).is_some() => NodeState::Ejected,
            (AdminState::Drain, Health::Up) => NodeState::Draining,
            (AdminState::Ready, Health::Up) if self.ramp_percent(now) < 100 => NodeState::SlowStart,
            (AdminState::Ready, Health::Up) => NodeState::Up,
        }
    }

    /// How it stands for traffic.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.state(now) {
            NodeState::Disabled => Standing::Off,
            // Before the first resolution a name is merely unknown; after a failed one there is nowhere to go.
            NodeState::Unknown => Standing::Unknown,
            NodeState::Down | NodeState::Ejected if !self.addresses.any() => Standing::Off,
            NodeState::Down | NodeState::Ejected => Standing::Down,
            NodeState::Draining => Standing::Draining,
            NodeState::Up | NodeState::SlowStart => Standing::Ready,
        }
    }

    /// What probes say.
    pub(super) fn health(&self) -> Health {
        health_of(self.health.load(Ordering::Acquire))
    }

    /// What the operator wants.
    pub(crate) fn admin_state(&self) -> AdminState {
        match self.admin.load(Ordering::Acquire) {
            0 => AdminState::Ready,
            1 => AdminState::Drain,
            _ => AdminState::Disabled,
        }
    }

    /// Sets what the operator wants; tells whether that is a change.
    pub(super) fn set_admin_state(&self, state: AdminState, now: Instant) -> bool {
        let code = match state {
            AdminState::Ready => 0,
            AdminState::Drain => 1,
            AdminState::Disabled => 2,
        };
        let mut record = self.record.lock();
        if self.admin.swap(code, Ordering::AcqRel) == code {
            return false;
        }
        record.since = now;
        info!(pool = %self.pool, node = %self, state = ?state, "operator set the node's state");
        true
    }

    /// The settings of its pool.
    pub(super) fn settings(&self) -> Arc<PoolSettings> {
        self.settings.load_full()
    }

    /// Takes over changed settings; the node's tasks hear of it.
    pub(super) fn adopt(&self, settings: Arc<PoolSettings>) {
        self.settings.store(settings);
        self.announce();
    }

    /// Tells the node's tasks that something changed.
    pub(super) fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Hears of changed settings, addresses and ejections.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The addresses it is reached at.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where the next connection goes.
    pub(super) fn target(&self, now: Instant) -> Option<Target> {
        self.addresses.pick(self.tick(now))
    }

    /// A connection to `target` failed: the other addresses go first for a while.
    pub(super) fn avoid(&self, target: &Target, now: Instant) {
        self.addresses.avoid(target, self.tick(now));
    }

    /// Failures since the last success.
    pub(super) fn failures_in_row(&self) -> u32 {
        self.failures_in_row.load(Ordering::Relaxed)
    }

    /// Takes one of `limit` places.
    pub(super) fn enter(&self, limit: Option<u32>) -> bool {
        let limit = limit.unwrap_or(u32::MAX);
        let entered = self
            .in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < limit).then_some(count + 1))
            .is_ok();
        if entered {
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// Gives the place back.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Its share in percent: rises evenly from 10 to 100 over the slow start.
    pub(super) fn ramp_percent(&self, now: Instant) -> u64 {
        let from = self.ramp_from.load(Ordering::Acquire);
        if from == 0 {
            return 100;
        }
        let slow_start = self.settings.load().slow_start.as_millis().min(u128::from(u64::MAX)) as u64;
        let passed = self.tick(now).saturating_sub(from);
        if passed >= slow_start {
            // Over: spares later choices the way to the settings. Loses to a slow start that begins just now.
            let _ = self.ramp_from.compare_exchange(from, 0, Ordering::AcqRel, Ordering::Relaxed);
            return 100;
        }
        10 + 90 * passed / slow_start
    }

    /// The end of the running ejection.
    pub(super) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        let until = self.ejected_until.load(Ordering::Acquire);
        (self.tick(now) < until).then(|| self.birth + Duration::from_millis(until - 1))
    }

    /// Ends an ejection whose time is over; tells whether it did.
    pub(super) fn settle(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Ordering::Acquire);
        if until == 0 || self.tick(now) < until {
            return false;
        }
        let mut record = self.record.lock();
        if self.ejected_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.ramp_from.store(until, Ordering::Release);
        if self.health() == Health::Up {
            record.reason.clear();
        }
        record.since = now;
        info!(pool = %self.pool, node = %self, "node is back from ejection");
        true
    }

    /// Takes in one probe: how long it took, or why it failed. Tells whether the node's state changed.
    pub(super) fn record_probe(&self, probe: Result<Duration, String>, now: Instant) -> bool {
        let settings = self.settings.load();
        let (fall, rise) = (settings.health.fall, settings.health.rise);
        let mut record = self.record.lock();
        let change = match probe {
            Ok(time) => {
                self.counters.probes_ok.fetch_add(1, Ordering::Relaxed);
                record.probe_time = Some(time);
                let was = record.health.health();
                let change = record.health.record(true, fall, rise);
                (change, was, String::new())
            }
            Err(reason) => {
                self.counters.probes_failed.fetch_add(1, Ordering::Relaxed);
                let was = record.health.health();
                let change = record.health.record(false, fall, rise);
                if was == Health::Down {
                    // Down all along, but for the reason seen last.
                    record.reason.clone_from(&reason);
                }
                (change, was, reason)
            }
        };
        let (Some(health), was, reason) = change else { return false };
        self.change_health(&mut record, was, health, reason, now);
        true
    }

    /// Sets the state without a probe. Tells whether that is a change.
    pub(super) fn force_health(&self, health: Health, reason: String, now: Instant) -> bool {
        let mut record = self.record.lock();
        let was = record.health.health();
        if record.health.force(health).is_none() {
            if health == Health::Down {
                record.reason = reason;
            }
            return false;
        }
        self.change_health(&mut record, was, health, reason, now);
        true
    }

    fn change_health(&self, record: &mut Record, was: Health, health: Health, reason: String, now: Instant) {
        match health {
            Health::Up => {
                let cold = was == Health::Down || self.late;
                if was == Health::Down && self.ejected_until.swap(0, Ordering::AcqRel) != 0 {
                    // What failed was what the probes have seen end: this is another process, or the same one mended.
                    record.passive.end(now);
                }
                self.ramp_from.store(if cold { self.tick(now) } else { 0 }, Ordering::Release);
                info!(pool = %self.pool, node = %self, "node is up");
            }
            Health::Down => warn!(pool = %self.pool, node = %self, reason, "node is down"),
            Health::Unknown => {}
        }
        self.health.store(health_code(health), Ordering::Release);
        record.reason = reason;
        record.since = now;
    }

    /// A request went well.
    pub(super) fn succeed(&self) {
        // The usual case takes no lock.
        if self.failures_in_row() != 0 {
            let mut record = self.record.lock();
            record.passive.succeed();
            self.failures_in_row.store(0, Ordering::Relaxed);
        }
    }

    /// A request went wrong for `reason`. Tells whether the node is ejected now.
    pub(super) fn fail(&self, reason: &str, may_eject: bool, now: Instant) -> bool {
        let settings = self.settings.load();
        let mut record = self.record.lock();
        let verdict = record.passive.fail(&settings.passive, may_eject, now);
        self.failures_in_row.store(record.passive.failures_in_row(), Ordering::Relaxed);
        match verdict {
            Verdict::Counted | Verdict::Spared => false,
            Verdict::Ejected(until, time) => {
                // A tick late rather than early: who sleeps until the end must find it over.
                self.ejected_until.store(self.tick(until), Ordering::Release);
                self.counters.ejections.fetch_add(1, Ordering::Relaxed);
                record.reason = format!("ejected after {} failures: {reason}", settings.passive.failures);
                record.since = now;
                warn!(
                    pool = %self.pool, node = %self, reason, failures = settings.passive.failures, ?time,
                    "node is ejected"
                );
                drop(record);
                self.announce();
                true
            }
        }
    }

    /// Reason, time in the state, and the last good probe's time.
    pub(super) fn story(&self, now: Instant) -> (String, Duration, Option<Duration>) {
        let record = self.record.lock();
        (record.reason.clone(), now.saturating_duration_since(record.since), record.probe_time)
    }

    fn tick(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.birth).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX - 1).saturating_add(1)
    }
}

fn health_code(health: Health) -> u8 {
    match health {
        Health::Unknown => 0,
        Health::Up => 1,
        Health::Down => 2,
    }
}

fn health_of(code: u8) -> Health {
    match code {
        0 => Health::Unknown,
        1 => Health::Up,
        _ => Health::Down,
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("pool", &self.pool)
            .field("address", &self.address)
            .field("health", &self.health())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
