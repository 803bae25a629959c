//! What the admin room sees of the running parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use clearcoat_cache::coding::Coding;

use super::generation::Base;
use super::reload::Reloading;
use super::settings;
use crate::access::filter::Filter;
use crate::access::tail::{Crowded, Reader};
use crate::admin;
use crate::admin::configurations::{Changed, ConfigurationView};
use crate::admin::purging::{BanView, Order, PurgeView, Report, TagsView, UrlsView};
use crate::admin::sessions::{MemcachedView, PinsView, SessionsView};
use crate::admin::view::CertificateView;
use crate::front::Front;
use crate::front::explain::Explainer;
use crate::listen::tls::Known;
use crate::pool;
use crate::session::endpoint::Connections;
use crate::session::pin::Pins;
use crate::session::replicas::Replicas;
use crate::session::servers::Server;

/// Shows the admin room what runs.
pub(super) struct Observer {
    pub(super) base: Arc<Base>,
    pub(super) reloading: Arc<Reloading>,
    /// Where sessions are kept for web nodes.
    pub(super) sessions: Option<(Arc<Replicas>, Arc<Connections>)>,
}

impl Observer {
    fn front(&self) -> Arc<Front> {
        self.reloading.current.load().front.clone()
    }
}

impl admin::Observed for Observer {
    fn pools(&self) -> Vec<admin::PoolView> {
        self.base.pools.status().into_iter().map(pool_view).collect()
    }

    fn cache(&self) -> admin::CacheView {
        let stats = self.base.store.stats();
        let refills = self.base.fetcher.refills.stats();
        admin::CacheView {
            entries: stats.entries,
            bytes: stats.bytes,
            budget_bytes: self.reloading.current.load().config.cache.memory,
            fill_bytes: stats.fill_bytes,
            fixed_bytes: self.base.store.fixed_bytes(),
            capacity_bytes: self.base.store.memory_bytes(),
            tags: stats.tags,
            marks: stats.marks,
            fetching: self.base.fetcher.fills.len() as u64,
            refreshing: refills.running,
            refreshes_waiting: refills.waiting,
            refreshes_displaced: refills.displaced,
            stored: stats.stored,
            evictions: stats.evictions,
            expirations: stats.expired,
            bans: stats.bans,
            banned: stats.banned,
            encoding: admin::EncodingView {
                entries: stats.encoded_entries,
                bytes: stats.encoded_bytes,
                gzip: self.base.encoder.forms_made(Coding::Gzip),
                br: self.base.encoder.forms_made(Coding::Br),
                zstd: self.base.encoder.forms_made(Coding::Zstd),
                identity: self.base.encoder.forms_made(Coding::Identity),
                saved_bytes: self.base.encoder.saved_bytes(),
                seconds: self.base.encoder.spent().as_secs_f64(),
            },
        }
    }

    fn explain(&self, url: String, asker: admin::why::Asker, request: &[u8]) -> admin::why::Explanation {
        let generation = self.reloading.current.load_full();
        let limits = settings::lane(&generation.config).head;
        Explainer { front: generation.front.clone(), limits }.explain(url, asker, request)
    }

    fn purge(&self, order: &Order) -> Result<Report, String> {
        // It may take a while, and the other requests of this thread go on elsewhere.
        tokio::task::block_in_place(|| self.front().order(order))
    }

    fn purges(&self) -> Vec<PurgeView> {
        self.base.audit.purges()
    }

    fn bans(&self) -> Vec<BanView> {
        self.front().bans()
    }

    fn tags_of(&self, url: &str) -> Result<Vec<TagsView>, String> {
        self.front().tags_of(url)
    }

    fn urls_of(&self, tag: &str, limit: usize) -> Result<UrlsView, String> {
        self.front().urls_of(tag, limit)
    }

    fn listen(&self, filter: Filter) -> Result<Reader, Crowded> {
        self.front().accounts.tail.listen(filter)
    }

    fn log_readers(&self) -> u64 {
        self.front().accounts.tail.readers()
    }

    fn set_node(&self, pool: &str, node: &str, wish: admin::Wish) -> bool {
        let state = match wish {
            admin::Wish::Ready => pool::AdminState::Ready,
            admin::Wish::Drain => pool::AdminState::Drain,
            admin::Wish::Disable => pool::AdminState::Disabled,
        };
        self.base.pools.set_admin_state(pool, node, state)
    }

    fn sessions(&self) -> Option<SessionsView> {
        let (replicas, connections) = self.sessions.as_ref()?;
        Some(sessions_view(replicas, connections))
    }

    fn pins(&self) -> Option<PinsView> {
        self.reloading.current.load().pins.as_ref().map(|pins| pins_view(pins))
    }

    fn certificates(&self) -> Vec<CertificateView> {
        let generation = self.reloading.current.load_full();
        let known = generation.speaking_tls().flat_map(|acceptor| acceptor.certificates());
        // Several listeners may show the same; a file is told of once.
        let by_file: BTreeMap<_, _> = known.map(|known| (known.file.clone(), known)).collect();
        let view = |known: Known| CertificateView {
            file: known.file.display().to_string(),
            names: known.names,
            not_after: known.not_after,
        };
        by_file.into_values().map(view).collect()
    }

    fn reload(&self, by: &str) -> Changed {
        tokio::task::block_in_place(|| self.reloading.reload(by))
    }

    fn roll_back(&self, to: Option<u64>, by: &str) -> Changed {
        tokio::task::block_in_place(|| self.reloading.roll_back(to, by))
    }

    fn configurations(&self) -> Vec<ConfigurationView> {
        self.reloading.configurations()
    }

    fn configuration(&self, number: Option<u64>) -> Option<String> {
        self.reloading.configuration(number)
    }

    fn ready(&self) -> admin::Readiness {
        if self.base.pools.ready() {
            return admin::Readiness::Ready;
        }
        let waiting = self.base.pools.status().into_iter().find(|pool| !pool.any_up);
        admin::Readiness::NotYet(match waiting {
            Some(pool) => format!("pool {}: no node is up", pool.name),
            None => "the nodes are being probed".to_owned(),
        })
    }
}

fn sessions_view(replicas: &Replicas, connections: &Connections) -> SessionsView {
    let counts = &replicas.counts;
    SessionsView {
        connections: connections.open.load(Relaxed),
        connections_opened: connections.opened.load(Relaxed),
        connections_refused: connections.refused.load(Relaxed),
        repaired_missing: counts.repaired_missing.load(Relaxed),
        repaired_older: counts.repaired_older.load(Relaxed),
        degraded: counts.degraded.load(Relaxed),
        failed: counts.failed.load(Relaxed),
        locks_taken: counts.locks_taken.load(Relaxed),
        locks_refused: counts.locks_refused.load(Relaxed),
        locks_given_back: counts.locks_given_back.load(Relaxed),
        servers: replicas.servers.iter().map(|server| memcached_view(server)).collect(),
    }
}

fn pins_view(pins: &Pins) -> PinsView {
    let counts = &pins.counts;
    PinsView {
        found: counts.found.load(Relaxed),
        made: counts.made.load(Relaxed),
        moved: counts.moved.load(Relaxed),
        fallbacks: counts.fallbacks.load(Relaxed),
        servers: pins
            .replicas()
            .map(|replicas| replicas.servers.iter().map(|server| memcached_view(server)).collect())
            .unwrap_or_default(),
    }
}

fn memcached_view(server: &Server) -> MemcachedView {
    let told = server.told().unwrap_or_default();
    MemcachedView {
        name: server.name().to_owned(),
        up: server.is_up(),
        doubted: server.is_doubted(),
        requests: server.counts.requests.load(Relaxed),
        failures: server.counts.failures.load(Relaxed),
        outages: server.counts.outages.load(Relaxed),
        version: told.version,
        items: told.items,
        bytes: told.bytes,
        limit_bytes: told.limit_bytes,
        evictions: told.evictions,
    }
}

fn pool_view(pool: pool::PoolStatus) -> admin::PoolView {
    admin::PoolView {
        name: pool.name,
        queued: pool.queued as u64,
        nodes: pool.nodes.into_iter().map(node_view).collect(),
    }
}

fn node_view(node: pool::NodeStatus) -> admin::NodeView {
    let since = std::time::SystemTime::now()
        .checked_sub(node.since)
        .and_then(|since| since.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_secs());
    admin::NodeView {
        address: node.resolved.first().cloned().unwrap_or_else(|| node.address.clone()),
        name: node.address,
        state: match node.state {
            pool::NodeState::Unknown => admin::NodeState::Unknown,
            pool::NodeState::Up => admin::NodeState::Up,
            pool::NodeState::SlowStart => admin::NodeState::SlowStart,
            pool::NodeState::Down => admin::NodeState::Down,
            pool::NodeState::Ejected => admin::NodeState::Ejected,
            pool::NodeState::Draining => admin::NodeState::Draining,
            pool::NodeState::Disabled => admin::NodeState::Disabled,
        },
        reason: node.reason,
        since,
        weight: node.weight,
        // The pool counts in hundredths.
        effective_weight: node.effective_weight as f64 / 100.0,
        backup: node.backup,
        in_flight: u64::from(node.in_flight),
        queued: 0,
        requests: node.requests,
        failures: admin::Failures(vec![
            ("connect", node.failures.connect),
            ("timeout", node.failures.timeout),
            ("broken", node.failures.broken),
            ("status", node.failures.status),
        ]),
        ejections: node.ejections,
        probes_ok: node.probes_ok,
        probes_failed: node.probes_failed,
        probe_ms: node.probe_time.map(|time| time.as_secs_f64() * 1000.0),
    }
}
