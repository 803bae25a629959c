//! From `[sessions]` to the parts that keep them.

use std::sync::Arc;

use clearcoat_conf as conf;

use crate::listen::service::BoundSocket;
use crate::session::endpoint::{Connections, EndpointSettings, SessionService};
use crate::session::replicas::{ReplicaSettings, Replicas};
use crate::session::servers::{Address, Server, ServerSettings};

/// What serves web nodes, and what it leaves to be looked at.
pub(super) struct Replicating {
    pub(super) service: SessionService,
    pub(super) replicas: Arc<Replicas>,
    pub(super) connections: Arc<Connections>,
}

/// The endpoint for web nodes, listening; `None` if sessions are not replicated.
///
/// # Errors
///
/// The address is taken.
pub(super) fn replicating(sessions: &conf::Sessions, threads: usize) -> anyhow::Result<Option<Replicating>> {
    let (true, Some(listen)) = (sessions.mode.replicates(), &sessions.listen) else { return Ok(None) };
    let bound = match listen {
        conf::ListenAddress::Tcp(address) => BoundSocket::tcp(*address)?,
        conf::ListenAddress::Unix(path) => BoundSocket::unix(path)?,
    };
    let replicas = Arc::new(replicas(sessions, sessions.timeout));
    let connections = Arc::new(Connections::default());
    let settings = EndpointSettings {
        item_bytes: usize::try_from(sessions.item_size).unwrap_or(usize::MAX),
        connections: sessions.max_connections.get() as usize,
        allow: sessions.allow.clone(),
    };
    tracing::info!(address = %listen, servers = sessions.memcached.len(), "keeping sessions for web nodes");
    let service = SessionService::new(bound, threads, replicas.clone(), settings, connections.clone());
    Ok(Some(Replicating { service, replicas, connections }))
}

/// The servers of the configuration as one memory.
fn replicas(sessions: &conf::Sessions, timeout: std::time::Duration) -> Replicas {
    let settings = ServerSettings {
        timeout,
        connections: sessions.server_connections.get() as usize,
        most_bytes: usize::try_from(sessions.item_size).unwrap_or(usize::MAX),
        doubt: sessions.recovery,
    };
    let server = |address: &conf::MemcachedAddress| {
        let address = match address {
            conf::MemcachedAddress::Tcp(address) => Address::Tcp(address.clone()),
            conf::MemcachedAddress::Unix(path) => Address::Unix(path.clone()),
        };
        Arc::new(Server::new(address, settings))
    };
    let count = |count: std::num::NonZeroU32| count.get() as usize;
    Replicas::new(
        sessions.memcached.iter().map(server).collect(),
        ReplicaSettings {
            replicas: count(sessions.replicas),
            prefixes: sessions
                .prefixes
                .iter()
                .map(|(prefix, replicas)| (prefix.clone().into_bytes(), count(*replicas)))
                .collect(),
            acknowledge: sessions.acknowledge.map(count),
            lock_wait: sessions.lock_wait,
            doubt: sessions.recovery,
        },
    )
}
