//! What one configuration comes to, and what of the running parts outlives it.
//!
//! A reload makes a new [`Generation`] beside the one in force, and nothing of it can be seen before it is whole. What visitors
//! have built up stays in the [`Base`]: the store, fetches under way, what is known of nodes, counters, purges.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clearcoat_cache::{KeySecret, Store};
use clearcoat_conf as conf;
use clearcoat_purge::Guard;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::http_proxy;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::routes::{header_names, host_rule, route_table};
use super::{gates, sessions, settings, tls};
use crate::access::Accounts;
use crate::clock::Clock;
use crate::encode::Encoder;
use crate::esi::EsiSettings;
use crate::fetch::{FetchSettings, Fetcher};
use crate::front::audit::Audit;
use crate::front::pass::PassRoad;
use crate::front::peers::Peers;
use crate::front::{DecodeTurns, Front, FrontSettings};
use crate::listen::clients::Clients;
use crate::listen::crowd::Crowd;
use crate::listen::lane::Lane;
use crate::listen::tls::Acceptor;
use crate::pool::Pools;
use crate::session::pin::Pins;

/// What outlives every reload.
pub(crate) struct Base {
    pub(crate) store: Arc<Store>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) accounts: Accounts,
    pub(crate) clock: Clock,
    pub(crate) pools: Arc<Pools>,
    pub(crate) audit: Arc<Audit>,
    decode_turns: Arc<DecodeTurns>,
    crowd: Arc<Crowd>,
}

impl Base {
    /// With an empty store. It opens no sockets: who hands it requests does.
    ///
    /// # Errors
    ///
    /// What of the configuration cannot be put into force.
    pub(crate) fn new(config: &conf::Config, pools: &Arc<Pools>, accounts: Accounts) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let counters = accounts.counters.clone();
        // What clients must not guess: else they could find URLs that all go to the same place.
        let mut secret = [0; 16];
        let filled = SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let store = Arc::new(Store::new(settings::store(config), KeySecret::new(secret)));
        let encoder = settings::encode(&config.cache.compress);
        let encoder = Encoder::new(encoder, store.clone(), counters.clone(), clock.clone());
        let fetching = settings::fetch(config)?;
        let ids = accounts.ids.clone();
        let fetcher = Fetcher::new(store.clone(), counters, clock.clone(), encoder.clone(), fetching, ids);
        Ok(Self {
            store,
            fetcher,
            encoder,
            accounts,
            clock,
            pools: pools.clone(),
            audit: Arc::default(),
            decode_turns: Arc::default(),
            crowd: Arc::default(),
        })
    }

    /// What answers requests by this configuration. Its pools have to be there.
    ///
    /// # Errors
    ///
    /// What of the configuration cannot be put into force.
    pub(crate) fn front(
        &self,
        config: &conf::Config,
        pins: Option<&Arc<Pins>>,
        gates: &[gates::Builder],
    ) -> anyhow::Result<Front> {
        let limits = &config.limits;
        Ok(Front {
            routes: Arc::new(route_table(config, &self.pools, pins, gates)?),
            store: self.store.clone(),
            fetcher: self.fetcher.clone(),
            encoder: self.encoder.clone(),
            decode_turns: self.decode_turns.clone(),
            guard: Guard::new(clearcoat_purge::Settings {
                allow: config.purge.allow.clone(),
                token: config.purge.token.as_ref().map(|token| token.expose().as_bytes().to_vec()),
            }),
            audit: self.audit.clone(),
            purges: clearcoat_purge::Reader::new(
                header_names(&config.purge.tag_headers)?,
                header_names(&config.purge.ban_headers)?,
            ),
            counters: self.accounts.counters.clone(),
            accounts: self.accounts.clone(),
            clock: self.clock.clone(),
            settings: FrontSettings {
                collapse_timeout: limits.collapse_timeout,
                debug_clients: config.cache.debug_clients.as_slice().into(),
                esi: EsiSettings {
                    depth: limits.esi.depth.get(),
                    fragments: limits.esi.fragments.get(),
                    bytes: limits.esi.bytes,
                    timeout: limits.esi.timeout,
                },
                unsafe_invalidates: config.cache.unsafe_invalidates,
                identities: tls::identities(config)?,
            },
        })
    }
}

/// The generation in force.
pub(super) type Current = Arc<ArcSwap<Generation>>;

/// What one configuration comes to.
pub(super) struct Generation {
    pub(super) config: Arc<conf::Config>,
    pub(super) front: Arc<Front>,
    /// Of each listener, in the order of the configuration.
    pub(super) lanes: Vec<Lane>,
    /// The same, where they speak TLS.
    acceptors: Vec<Option<Arc<Acceptor>>>,
    pub(super) pins: Option<Arc<Pins>>,
    gates: Vec<gates::Builder>,
    fetching: FetchSettings,
}

impl Generation {
    /// Makes all of it. The pools that it names have to be there; nothing else is touched. `before` is what is in force: what
    /// it knows of visitors goes on where it is asked for again.
    ///
    /// # Errors
    ///
    /// What of the configuration cannot be put into force.
    pub(super) fn new(
        config: Arc<conf::Config>,
        acceptors: Vec<Option<Arc<Acceptor>>>,
        base: &Base,
        server: &Arc<ServerConf>,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let pins = match before {
            Some(before) if before.config.sessions == config.sessions => before.pins.clone(),
            Some(_) | None => sessions::pins(&config.sessions),
        };
        let known = before.map(|before| &before.gates[..]).unwrap_or_default();
        let gates: Vec<_> =
            config.sites.iter().map(|site| gates::Builder::new(site, known)).collect::<Result<_, _>>()?;
        let front = Arc::new(base.front(&config, pins.as_ref(), &gates)?);
        let pass = Arc::new(http_proxy(server, pass_road(&config, &front)?));
        let known = before.and_then(|before| before.lanes.first()?.clients.clone());
        let limit = config.limits.connections_per_client;
        let same = before.is_some_and(|before| before.config.limits.connections_per_client == limit);
        let clients = known.filter(|_| same).or_else(|| limit.map(|most| Arc::new(Clients::new(most))));
        let lanes = config.listen.iter().zip(&acceptors).map(|(listen, tls)| Lane {
            front: front.clone(),
            pass: pass.clone(),
            settings: settings::lane(&config),
            tls: tls.clone(),
            http2: listen.http2,
            dialects: listen.purge_dialects.iter().map(|dialect| purge_dialect(*dialect)).collect(),
            peers: Peers {
                announced: listen.proxy_protocol.clone(),
                trusted: listen.trusted_proxies.clone(),
                header: listen.client_header,
            },
            hosts: listen.hosts.as_ref().map(|hosts| hosts.iter().map(host_rule).collect()),
            clients: clients.clone(),
            crowd: base.crowd.clone(),
        });
        let fetching = settings::fetch(&config)?;
        Ok(Self { lanes: lanes.collect(), config, front, acceptors, pins, gates, fetching })
    }

    /// What the listeners of another configuration speak TLS with. A listener that is as it was keeps what it has: its files are
    /// looked at anew, its sessions go on.
    ///
    /// # Errors
    ///
    /// What is wrong with a certificate, with the listener and the file.
    pub(super) fn acceptors_for(&self, config: &conf::Config) -> anyhow::Result<Vec<Option<Arc<Acceptor>>>> {
        let acceptor = |listen: &conf::Listen| {
            let same = self.config.listen.iter().position(|before| before.address == listen.address);
            let same = same.filter(|at| {
                self.config.listen[*at].tls == listen.tls
                    && self.config.limits.header_timeout == config.limits.header_timeout
            });
            let Some(acceptor) = same.map(|at| self.acceptors[at].clone()) else {
                return tls::acceptor(config, listen);
            };
            if let Some(Err(error)) = acceptor.as_ref().and_then(|acceptor| acceptor.renew(SystemTime::now()))
            {
                return Err(anyhow::Error::from(error)).with_context(|| format!("TLS on {}", listen.address));
            }
            Ok(acceptor)
        };
        config.listen.iter().map(acceptor).collect()
    }

    /// What is spoken TLS with.
    pub(super) fn speaking_tls(&self) -> impl Iterator<Item = &Arc<Acceptor>> {
        self.acceptors.iter().flatten()
    }

    /// It is in force now: what is shared with the one before goes by it. Its lanes are in force when its listeners have them.
    pub(super) fn begin(&self, base: &Base) {
        base.store.reconfigure(settings::store(&self.config));
        base.fetcher.reconfigure(self.fetching.clone());
        base.encoder.reconfigure(settings::encode(&self.config.cache.compress));
        self.gates.iter().for_each(gates::Builder::begin);
    }
}

fn pass_road(config: &conf::Config, front: &Front) -> anyhow::Result<PassRoad> {
    let hides_tags = !config.purge.keep_tag_headers;
    Ok(PassRoad {
        routes: front.routes.clone(),
        counters: front.counters.clone(),
        accounts: front.accounts.clone(),
        clock: front.clock.clone(),
        unwanted: if hides_tags { header_names(&config.purge.tag_headers)? } else { Vec::new() },
        fresh_connections: AtomicU64::new(0),
        idle_seconds: config.limits.idle_timeout.as_secs().max(1),
        invalidates: config.cache.unsafe_invalidates.then(|| front.store.clone()),
        max_body: config.limits.max_body,
        identities: front.settings.identities.clone(),
    })
}

fn purge_dialect(dialect: conf::PurgeDialect) -> clearcoat_purge::Dialect {
    match dialect {
        conf::PurgeDialect::Purge => clearcoat_purge::Dialect::Purge,
        conf::PurgeDialect::PurgeKeys => clearcoat_purge::Dialect::PurgeKeys,
        conf::PurgeDialect::Ban => clearcoat_purge::Dialect::Ban,
        conf::PurgeDialect::Key => clearcoat_purge::Dialect::Key,
        conf::PurgeDialect::LocationId => clearcoat_purge::Dialect::LocationId,
        conf::PurgeDialect::SurrogateKey => clearcoat_purge::Dialect::SurrogateKey,
    }
}
