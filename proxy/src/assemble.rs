//! From a checked configuration to the running parts, and to their end.
//!
//! The crates and rooms below know nothing of the configuration file: each has settings of its own, and only here one
//! is turned into the other: here the process as a whole, in the rooms below its sites, its pools, what runs beside the
//! requests, and what of it can be looked at.

mod access;
mod background;
mod context;
mod gates;
mod observe;
mod pools;
pub(crate) mod privileges;
mod routes;
mod sessions;
pub(crate) mod tls;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clearcoat_cache::coding::Coding;
use clearcoat_cache::{KeySecret, Store};
use clearcoat_conf as conf;
use clearcoat_purge::Guard;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::background_service;
use pingora_proxy::http_proxy;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tracing::info;

use crate::access::Accounts;
use crate::admin;
use crate::admin::Counters;
use crate::clock::Clock;
use crate::encode::{EncodeSettings, Encoder};
use crate::esi::EsiSettings;
use crate::fetch::{FetchSettings, Fetcher};
use crate::front::audit::Audit;
use crate::front::explain::Explainer;
use crate::front::gate::Maintenances;
use crate::front::pass::PassRoad;
use crate::front::peers::Peers;
use crate::front::{DecodeTurns, Front, FrontSettings};
use crate::listen::clients::Clients;
use crate::listen::connection::Waits;
use crate::listen::head::{HeadLimits, MAX_HEADERS};
use crate::listen::http2::Http2Settings;
use crate::listen::lane::{Lane, LaneSettings};
use crate::listen::pace::Patience;
use crate::listen::service::{BoundSocket, Edge};
use crate::memory;
use crate::pool::Pools;
use crate::process;
use crate::session::pin::Pins;
use crate::workers;
use access::{access_log, open_access_log};
use background::{Draining, Signals, Tidying, Watching};
use observe::Observer;
pub(crate) use pools::pool_settings;
use routes::{header_names, route_table};

/// Starts everything and runs until the process is told to end.
///
/// Does not return after a graceful shutdown: the process ends with code 0 as soon as nothing is in flight.
///
/// # Errors
///
/// What keeps the parts from starting, such as an address that is taken. Nothing has served a request then.
pub(crate) fn run(config: conf::Config, extra: Option<Arc<dyn admin::Extra>>) -> anyhow::Result<()> {
    let config = &config;
    // What needs privileges comes first, and no thread is started before they are given up.
    process::raise_open_files();
    let acceptors = tls::acceptors(config)?;
    let mut sockets = Vec::new();
    for listen in &config.listen {
        sockets.push(BoundSocket::bind(&listen.address, &listen.socket)?);
    }
    let for_sessions = sessions::bind(&config.sessions)?;
    let for_admin = match &config.admin {
        Some(admin) => Some(admin::AdminSocket::bind(&admin.address, &admin.socket)?),
        None => None,
    };
    let bound = sockets.iter().chain(&for_sessions).filter_map(BoundSocket::place);
    let places: Arc<[_]> = bound.chain(for_admin.iter().filter_map(admin::AdminSocket::place)).collect();
    let pool_settings = pool_settings(config)?;
    let log_file = open_access_log(config)?;
    let threads = match config.threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let _settled = process::settle(&privileges::settings(config))?;
    if let Err(error) = memory::set_up() {
        tracing::warn!(%error, "the allocator cannot be set: freed memory will be kept longer");
    }
    let counters = Counters::new();
    let access = access_log(config, log_file, threads, &counters)?;
    let workers = workers::start(threads).context("starting the worker threads")?;
    let accounts = Accounts { counters: counters.clone(), log: access.clone() };
    let pools = Pools::new(pool_settings);
    let pins = sessions::pins(&config.sessions);
    let front = Arc::new(front(config, &pools, pins.as_ref(), accounts)?);
    let Front { routes, store, fetcher, encoder, accounts, clock, .. } = &*front;
    let (store, clock) = (store.clone(), clock.clone());

    let mut server = Server::new_with_opt_and_conf(None, server_conf(config));
    server.bootstrap();

    let pass = http_proxy(
        &server.configuration,
        PassRoad {
            routes: routes.clone(),
            counters: counters.clone(),
            accounts: accounts.clone(),
            clock: clock.clone(),
            unwanted: if config.purge.keep_tag_headers {
                Vec::new()
            } else {
                header_names(&config.purge.tag_headers)?
            },
            fresh_connections: AtomicU64::new(0),
            idle_seconds: config.limits.idle_timeout.as_secs().max(1),
            invalidates: config.cache.unsafe_invalidates.then(|| store.clone()),
            max_body: config.limits.max_body,
            identities: front.settings.identities.clone(),
        },
    );
    let lane = Lane {
        front: front.clone(),
        pass: Arc::new(pass),
        settings: lane_settings(config),
        tls: None,
        http2: false,
        dialects: clearcoat_purge::Dialects::default(),
        peers: Peers::default(),
        hosts: None,
        clients: config.limits.connections_per_client.map(|most| Arc::new(Clients::new(most))),
        connections: Arc::new(Semaphore::new(config.limits.max_connections.get() as usize)),
    };
    let mut listeners = Vec::new();
    let speaking_tls: Vec<_> = acceptors.iter().flatten().cloned().collect();
    for ((listen, tls), socket) in config.listen.iter().zip(acceptors).zip(sockets) {
        let dialects = listen.purge_dialects.iter().map(|dialect| purge_dialect(*dialect)).collect();
        let peers = Peers {
            announced: listen.proxy_protocol.clone(),
            trusted: listen.trusted_proxies.clone(),
            header: listen.client_header,
        };
        let hosts = listen.hosts.as_ref().map(|hosts| hosts.iter().map(routes::host_rule).collect());
        let lane = Lane { tls, http2: listen.http2, dialects, peers, hosts, ..lane.clone() };
        listeners.push((socket, Arc::new(lane)));
        info!(address = %listen.address, "serving");
    }
    server.add_service(Edge::new(workers.handle().clone(), listeners));

    let replicating =
        sessions::replicating(&config.sessions, for_sessions, workers.handle()).map(|replicating| {
            server.add_service(replicating.service);
            (replicating.replicas, replicating.connections)
        });

    let observed = Arc::new(Observer {
        store: store.clone(),
        fetcher: fetcher.clone(),
        encoder: encoder.clone(),
        explainer: Explainer { front: front.clone(), limits: lane_settings(config).head },
        pools: pools.clone(),
        memory: config.cache.memory,
        sessions: replicating,
        pins: pins.clone(),
        acceptors: speaking_tls.clone(),
    });
    if let (Some(settings), Some(socket)) = (&config.admin, for_admin) {
        let settings = admin::Settings {
            token: settings.token.as_ref().map(|token| token.expose().to_owned()),
            names: Vec::new(),
        };
        server.add_service(admin::AdminService::new(socket, &settings, counters.clone(), observed, extra)?);
    }
    server.add_service(background_service("pools", Watching { pools }));
    if !speaking_tls.is_empty() {
        let renewing = tls::Renewing { acceptors: speaking_tls, counters: counters.clone() };
        server.add_service(background_service("tls", renewing));
    }
    let maintenances = front.routes.load().maintenances();
    if !maintenances.is_empty() {
        server.add_service(background_service("maintenance", Maintenances(maintenances)));
    }
    if let Some(pins) = pins {
        server.add_service(background_service("pins", sessions::Pinning(pins)));
    }
    server.add_service(background_service(
        "store",
        Tidying { store, counters: counters.clone(), clock: clock.clone(), memory: config.cache.memory },
    ));
    background::sweep_bans(&front.store)?;
    server.add_service(background_service(
        "drain",
        Draining {
            counters,
            timeout: config.shutdown_timeout,
            access: access.clone(),
            places: places.clone(),
        },
    ));
    server.run(RunArgs { shutdown_signal: Box::new(Signals { access, places }) });
    workers.shutdown_background();
    Ok(())
}

/// What answers requests, with an empty store. It opens no sockets: who hands it requests does.
///
/// # Errors
///
/// What of the configuration cannot be put into force.
pub(crate) fn front(
    config: &conf::Config,
    pools: &Pools,
    pins: Option<&Arc<Pins>>,
    accounts: Accounts,
) -> anyhow::Result<Front> {
    let clock = Clock::start();
    let counters = accounts.counters.clone();
    // What clients must not guess: else they could find URLs that all go to the same place.
    let mut secret = [0; 16];
    let filled = SystemRandom::new().fill(&mut secret);
    filled.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let store = Arc::new(Store::new(store_settings(config), KeySecret::new(secret)));
    let encoder =
        Encoder::new(encode_settings(&config.cache.compress), store.clone(), counters.clone(), clock.clone());
    let fetcher = Fetcher::new(
        store.clone(),
        counters.clone(),
        clock.clone(),
        encoder.clone(),
        FetchSettings {
            max_entry_bytes: config.cache.max_entry,
            tag_headers: header_names(&config.purge.tag_headers)?,
            max_tag_bytes: usize::try_from(config.cache.max_tag_bytes).unwrap_or(usize::MAX),
            keep_tag_headers: config.purge.keep_tag_headers,
            collapse_waiters: config.limits.collapse_waiters.get(),
            finish_abandoned: config.cache.finish_abandoned,
        },
    );
    Ok(Front {
        routes: Arc::new(ArcSwap::from_pointee(route_table(config, pools, pins)?)),
        store,
        fetcher,
        encoder,
        decode_turns: DecodeTurns::default(),
        guard: Guard::new(clearcoat_purge::Settings {
            allow: config.purge.allow.clone(),
            token: config.purge.token.as_ref().map(|token| token.expose().as_bytes().to_vec()),
        }),
        audit: Audit::default(),
        purges: clearcoat_purge::Reader::new(
            header_names(&config.purge.tag_headers)?,
            header_names(&config.purge.ban_headers)?,
        ),
        counters,
        accounts,
        clock,
        settings: FrontSettings {
            collapse_timeout: config.limits.collapse_timeout,
            debug_clients: config.cache.debug_clients.as_slice().into(),
            esi: EsiSettings {
                depth: config.limits.esi.depth.get(),
                fragments: config.limits.esi.fragments.get(),
                bytes: config.limits.esi.bytes,
                timeout: config.limits.esi.timeout,
            },
            unsafe_invalidates: config.cache.unsafe_invalidates,
            identities: tls::identities(config)?,
        },
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

/// Kept-alive connections of the pass road to nodes, over all pools. pingora's own default of 128 is short of one busy node.
const IDLE_CONNECTIONS: usize = 1024;

fn server_conf(config: &conf::Config) -> ServerConf {
    ServerConf {
        // What serves has workers of its own.
        threads: 1,
        work_stealing: true,
        // `Draining` ends the process as soon as it may; this bounds it should that fail.
        grace_period_seconds: Some(config.shutdown_timeout.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        upstream_keepalive_pool_size: IDLE_CONNECTIONS,
        // Each pool has its own limit; this one must not be in its way.
        max_retries: 16,
        ..ServerConf::default()
    }
}

fn store_settings(config: &conf::Config) -> clearcoat_cache::Settings {
    clearcoat_cache::Settings {
        memory_bytes: config.cache.memory,
        max_variants: config.cache.max_variants.get(),
        max_marks: usize::try_from(config.cache.memory / MEMORY_OF_A_MARK)
            .unwrap_or(MAX_MARKS)
            .min(MAX_MARKS),
    }
}

/// Marks of URLs that were not for sharing; 64 bytes each at most.
const MAX_MARKS: usize = 100_000;

/// For so many bytes of memory there is one mark: they come off it beforehand, and must not take more than a sixteenth.
const MEMORY_OF_A_MARK: u64 = 1024;

/// The largest request body that is taken in whole before a node is asked. No client can make a connection keep more by it
/// than by a long head, so the limit of heads bounds it too.
const SMALL_BODY: u64 = 64 * 1024;

fn lane_settings(config: &conf::Config) -> LaneSettings {
    let limits = &config.limits;
    LaneSettings {
        head: HeadLimits {
            bytes: limits.header_bytes as usize,
            count: (limits.header_count.get() as usize).min(MAX_HEADERS),
            url_bytes: limits.url_bytes as usize,
        },
        waits: Waits {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            write: Patience { silence: limits.write_timeout, rate: limits.min_response_rate },
            tunnel: limits.tunnel_timeout,
        },
        requests_per_connection: limits.requests_per_connection,
        http2: Http2Settings { streams: limits.http2_streams.get() },
        small_body: u64::from(limits.header_bytes).min(SMALL_BODY).min(limits.max_body.unwrap_or(u64::MAX)),
        body: Patience { silence: limits.body_timeout, rate: limits.min_body_rate },
        lifetime: limits.request_lifetime,
    }
}

fn encode_settings(compress: &conf::Compress) -> EncodeSettings {
    let coding = |coding: &conf::Coding| match coding {
        conf::Coding::Brotli => Coding::Br,
        conf::Coding::Zstd => Coding::Zstd,
        conf::Coding::Gzip => Coding::Gzip,
    };
    EncodeSettings {
        codings: compress.codings.iter().map(coding).collect(),
        types: compress.types.clone(),
        min_bytes: compress.min_size,
        max_bytes: compress.max_size,
    }
}
