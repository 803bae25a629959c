//! From a checked configuration to the running parts, and to their end.
//!
//! The crates and rooms below know nothing of the configuration file: each has settings of its own, and only here one
//! is turned into the other: here the process as a whole, in the rooms below its sites, its pools, what runs beside the
//! requests, and what of it can be looked at.

mod access;
mod background;
mod context;
mod gates;
mod generation;
mod observe;
mod pools;
pub(crate) mod privileges;
mod reload;
mod routes;
mod sessions;
mod settings;
pub(crate) mod tls;

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clearcoat_conf as conf;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::background_service;

use crate::access::Accounts;
use crate::admin;
use crate::admin::Counters;
use crate::listen::doors::{Doors, Edge, Wanted};
use crate::listen::service::BoundSocket;
use crate::memory;
use crate::pool::Pools;
use crate::process;
use crate::workers;
use access::{access_log, open_access_log};
use background::{Draining, Looking, Signals, Tidying, Watching};
use generation::{Current, Generation};
use observe::Observer;
use reload::Reloading;

pub(crate) use gates::Builder as Gates;
pub(crate) use generation::Base;
pub(crate) use pools::pool_settings;
pub(crate) use reload::Source;

/// Starts everything and runs until the process is told to end.
///
/// Does not return after a graceful shutdown: the process ends with code 0 as soon as nothing is in flight.
///
/// # Errors
///
/// What keeps the parts from starting, such as an address that is taken. Nothing has served a request then.
pub(crate) fn run(
    config: conf::Config,
    source: Option<Source>,
    extra: Option<Arc<dyn admin::Extra>>,
) -> anyhow::Result<()> {
    let config = Arc::new(config);
    // What needs privileges comes first, and no thread is started before they are given up.
    process::raise_open_files();
    let acceptors = tls::acceptors(&config)?;
    let mut sockets = Vec::new();
    for listen in &config.listen {
        sockets.push(BoundSocket::bind(&listen.address, &listen.socket)?);
    }
    let for_sessions = sessions::bind(&config.sessions)?;
    let for_admin = match &config.admin {
        Some(admin) => Some(admin::AdminSocket::bind(&admin.address, &admin.socket)?),
        None => None,
    };
    let places = for_sessions.iter().filter_map(BoundSocket::place);
    let places: Arc<[_]> = places.chain(for_admin.iter().filter_map(admin::AdminSocket::place)).collect();
    let pool_settings = pool_settings(&config)?;
    let log_file = open_access_log(&config)?;
    let threads = match config.threads {
        Some(threads) => threads.get(),
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let _settled = process::settle(&privileges::settings(&config))?;
    if let Err(error) = memory::set_up() {
        tracing::warn!(%error, "the allocator cannot be set: freed memory will be kept longer");
    }
    let counters = Counters::new();
    let access = access_log(&config, log_file, threads, &counters)?;
    let workers = workers::start(threads).context("starting the worker threads")?;
    let accounts = Accounts::new(counters.clone(), access.clone(), access::request_ids(&config)?);
    let pools = Pools::new(pool_settings);
    let base = Arc::new(Base::new(&config, &pools, accounts)?);

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    let generation = Generation::new(config.clone(), acceptors, &base, &server.configuration, None)?;
    let lanes = generation.lanes.iter().cloned();
    let first = config.listen.iter().zip(sockets).zip(lanes).map(|((listen, socket), lane)| Wanted {
        address: listen.address.clone(),
        socket: Some(socket),
        lane,
    });
    let doors = Doors::new(workers.handle().clone());
    server.add_service(Edge::new(doors.clone(), first.collect()));
    let current: Current = Arc::new(ArcSwap::from_pointee(generation));
    let reloading =
        Reloading::new(source, base.clone(), server.configuration.clone(), doors.clone(), current.clone());

    let replicating =
        sessions::replicating(&config.sessions, for_sessions, workers.handle()).map(|replicating| {
            server.add_service(replicating.service);
            (replicating.replicas, replicating.connections)
        });

    let observed =
        Arc::new(Observer { base: base.clone(), reloading: reloading.clone(), sessions: replicating });
    if let (Some(settings), Some(socket)) = (&config.admin, for_admin) {
        let settings = admin::Settings {
            token: settings.token.as_ref().map(|token| token.expose().to_owned()),
            names: Vec::new(),
        };
        server.add_service(admin::AdminService::new(socket, &settings, counters.clone(), observed, extra)?);
    }
    server.add_service(background_service("pools", Watching { pools }));
    let renewing = tls::Renewing { current: current.clone(), counters: counters.clone() };
    server.add_service(background_service("tls", renewing));
    server.add_service(background_service("maintenance", Looking(current.clone())));
    server.add_service(background_service("pins", sessions::Pinning(reloading.pinning())));
    let Base { store, clock, .. } = &*base;
    server.add_service(background_service(
        "store",
        Tidying {
            store: store.clone(),
            counters: counters.clone(),
            clock: clock.clone(),
            current: current.clone(),
        },
    ));
    background::sweep_bans(store)?;
    server.add_service(background_service(
        "drain",
        Draining { counters, current, access: access.clone(), doors: doors.clone(), places: places.clone() },
    ));
    server.run(RunArgs { shutdown_signal: Box::new(Signals { reloading, doors, access, places }) });
    workers.shutdown_background();
    Ok(())
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
