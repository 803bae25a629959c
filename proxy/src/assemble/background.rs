//! What runs beside the requests: probes, tidying up, the end of the process, signals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clearcoat_cache::{Footprint, Governor, Store};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora_core::services::background::BackgroundService;
use tracing::info;

use super::access::LAST_LINES;
use super::generation::Current;
use super::reload::Reloading;
use crate::access::AccessLog;
use crate::admin::{Counters, Limit};
use crate::clock::Clock;
use crate::listen::doors::Doors;
use crate::listen::unix::Place;
use crate::memory;
use crate::pool::Pools;

/// How often the store drops what has outlived every use while nobody asked for it.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the pools' probes and resolution on a runtime of their own, so that busy request threads do not delay them.
pub(super) struct Watching {
    pub(super) pools: Arc<Pools>,
}

#[async_trait]
impl BackgroundService for Watching {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.pools.clone().run(shutdown).await;
    }
}

/// Lets the store do what is due although nobody asks it anything.
pub(super) struct Tidying {
    pub(super) store: Arc<Store>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
    pub(super) current: Current,
}

#[async_trait]
impl BackgroundService for Tidying {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(TIDY_INTERVAL);
        let mut variants_dropped = 0;
        let mut memory = self.current.load().config.cache.memory;
        let mut governor = memory::footprint().map(|idle| Governor::new(memory, idle));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.store.settle(self.clock.now());
                    if let (Some(governor), Some(now)) = (&mut governor, memory::footprint()) {
                        let wanted = self.current.load().config.cache.memory;
                        if std::mem::replace(&mut memory, wanted) != wanted {
                            governor.set_budget(wanted);
                        }
                        self.govern(governor, memory, now);
                    }
                    let dropped = self.store.stats().variants_dropped;
                    self.counters.limit_times(Limit::Variants, dropped - variants_dropped);
                    variants_dropped = dropped;
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

impl Tidying {
    /// Keeps the process within the budget: what it takes for nothing comes off what the store may hold.
    fn govern(&self, governor: &mut Governor, memory: u64, now: Footprint) {
        let before = governor.capacity_bytes();
        let Some(capacity) = governor.measure(now) else { return };
        self.store.set_memory(capacity);
        let waste_mib = governor.waste_bytes(now) >> 20;
        // Once when it begins and once when it is over; what is between shows in the gauge.
        if before == memory {
            self.counters.limit(Limit::Memory);
            tracing::warn!(
                capacity_mib = capacity >> 20,
                waste_mib,
                "the process takes more memory than is in use: the cache is made smaller for it"
            );
        } else if capacity == memory {
            info!(waste_mib, "the cache has all of its memory again");
        }
    }
}

/// How often the files that begin maintenance are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks whether sites are being worked on.
pub(super) struct Looking(pub(super) Current);

#[async_trait]
impl BackgroundService for Looking {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let front = self.0.load().front.clone();
                    front.routes.maintenances().iter().for_each(|maintenance| maintenance.look());
                }
                _ = shutdown.changed() => return,
            }
        }
    }
}

/// How often it is looked whether there are bans to sweep.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the thread that sweeps bans. It takes at most half of a core: between the parts of the store it rests for as long
/// as the last part took. It ends with the store.
pub(super) fn sweep_bans(store: &Arc<Store>) -> std::io::Result<()> {
    let store = Arc::downgrade(store);
    std::thread::Builder::new().name("bans".into()).spawn(move || {
        while let Some(store) = store.upgrade() {
            if store.ban_count() > 0 {
                let (began, bans) = (Instant::now(), store.ban_count());
                let mut part_began = began;
                let struck = store.sweep_bans(|| {
                    std::thread::sleep(part_began.elapsed());
                    part_began = Instant::now();
                });
                if struck > 0 {
                    info!(bans, struck, millis = began.elapsed().as_millis() as u64, "bans were swept");
                }
            }
            drop(store);
            std::thread::sleep(SWEEP_INTERVAL);
        }
    })?;
    Ok(())
}

/// Ends the process once a shutdown has begun and no connection is left, at the latest when the time is over.
pub(super) struct Draining {
    pub(super) counters: Arc<Counters>,
    pub(super) current: Current,
    pub(super) access: Option<Arc<AccessLog>>,
    pub(super) doors: Arc<Doors>,
    /// Sockets whose files go, if they have not gone with their listeners.
    pub(super) places: Arc<[Arc<Place>]>,
}

#[async_trait]
impl BackgroundService for Draining {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let told = shutdown.wait_for(|down| *down).await.is_ok();
        if !told {
            return;
        }
        let deadline = tokio::time::Instant::now() + self.current.load().config.shutdown_timeout;
        info!(connections = self.counters.totals().connections_open, "shutting down");
        loop {
            let open = self.counters.totals().connections_open;
            if open == 0 {
                info!("stopped, nothing was cut off");
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(
                    connections = open,
                    "stopped with connections still open: shutdown_timeout is over"
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if let Some(access) = &self.access {
            access.close(LAST_LINES);
        }
        self.doors.leave();
        self.places.iter().for_each(|place| place.leave());
        // pingora would wait for the whole of its grace period.
        std::process::exit(0);
    }
}

/// SIGTERM and SIGQUIT drain; SIGINT ends at once; SIGUSR1 opens the access log anew; SIGHUP reads the configuration again.
pub(super) struct Signals {
    pub(super) reloading: Arc<Reloading>,
    pub(super) doors: Arc<Doors>,
    pub(super) access: Option<Arc<AccessLog>>,
    /// As with [`Draining`].
    pub(super) places: Arc<[Arc<Place>]>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut quit), Ok(mut interrupt), Ok(mut hangup), Ok(mut reopen)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined1()),
        ) else {
            tracing::error!("signals cannot be received: only SIGKILL will end this process");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => return ShutdownSignal::GracefulTerminate,
                _ = quit.recv() => return ShutdownSignal::GracefulTerminate,
                _ = interrupt.recv() => {
                    if let Some(access) = &self.access {
                        access.close(LAST_LINES);
                    }
                    self.doors.leave();
                    self.places.iter().for_each(|place| place.leave());
                    return ShutdownSignal::FastShutdown;
                }
                // Without a log too it must not end the process, as it would by default.
                _ = reopen.recv() => match &self.access {
                    Some(access) => access.reopen(),
                    None => tracing::warn!("SIGUSR1: there is no access log to be opened anew"),
                },
                // What comes of it is in the log. It runs beside, so that the other signals are heard meanwhile.
                _ = hangup.recv() => {
                    let reloading = self.reloading.clone();
                    drop(tokio::task::spawn_blocking(move || reloading.reload("SIGHUP")));
                }
            }
        }
    }
}
