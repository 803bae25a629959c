//! From `[sessions]` to the parts that keep them.

use std::sync::Arc;

use async_trait::async_trait;
use clearcoat_conf as conf;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::runtime::Handle;
use tokio::sync::watch::Receiver;

use crate::listen::service::BoundSocket;
use crate::session::endpoint::{Connections, Door, EndpointSettings, SessionService};
use crate::session::pin::{Kept, PinSettings, Pins, Signer};
use crate::session::replicas::{ReplicaSettings, Replicas};
use crate::session::servers::{Address, Server, ServerSettings, watch};

/// What serves web nodes, and what it leaves to be looked at.
pub(super) struct Replicating {
    pub(super) service: SessionService,
    pub(super) replicas: Arc<Replicas>,
    pub(super) connections: Arc<Connections>,
}

/// Where web nodes find their memcached; `None` if sessions are not replicated.
///
/// # Errors
///
/// The address is taken.
pub(super) fn bind(sessions: &conf::Sessions) -> anyhow::Result<Option<BoundSocket>> {
    let listen = sessions.listen.as_ref().filter(|_| sessions.mode.replicates());
    listen.map(|listen| BoundSocket::bind(listen, &sessions.socket)).transpose()
}

/// The endpoint for web nodes behind that socket.
pub(super) fn replicating(
    sessions: &conf::Sessions,
    bound: Option<BoundSocket>,
    workers: &Handle,
) -> Option<Replicating> {
    let (bound, listen) = (bound?, sessions.listen.as_ref()?);
    let replicas = Arc::new(replicas(sessions, sessions.timeout));
    let connections = Arc::new(Connections::default());
    let settings = EndpointSettings {
        item_bytes: usize::try_from(sessions.item_size).unwrap_or(usize::MAX),
        connections: sessions.max_connections.get() as usize,
        allow: sessions.allow.clone(),
    };
    tracing::info!(address = %listen, servers = sessions.memcached.len(), "keeping sessions for web nodes");
    let door = Door { replicas: replicas.clone(), settings, connections: connections.clone() };
    let service = SessionService::new(bound, workers.clone(), door);
    Some(Replicating { service, replicas, connections })
}

/// Which sessions stay at which node; `None` if none do.
pub(super) fn pins(sessions: &conf::Sessions) -> Option<Arc<Pins>> {
    if !sessions.mode.pins() {
        return None;
    }
    let kept = match &sessions.pin {
        conf::Pin::Memcached => Kept::Memcached(replicas(sessions, sessions.pin_timeout)),
        conf::Pin::Cookie { name, secret } => {
            Kept::Cookie(Signer::new(name.as_str(), secret.expose().as_bytes()))
        }
        conf::Pin::Hash => Kept::Nowhere,
    };
    Some(Arc::new(Pins::new(
        kept,
        PinSettings {
            cookies: sessions.cookies.clone(),
            ttl: sessions.pin_ttl,
            timeout: sessions.pin_timeout,
            // Where sessions are kept on servers of their own, any node has them.
            drained_keep: !sessions.mode.replicates(),
        },
    )))
}

/// Looks after the servers that pins are kept on, whichever these are at the time.
pub(super) struct Pinning(pub(super) Receiver<Option<Arc<Pins>>>);

#[async_trait]
impl BackgroundService for Pinning {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut changes = self.0.clone();
        loop {
            let pins = changes.borrow_and_update().clone();
            let for_watching = shutdown.clone();
            let watching = async {
                match pins.as_ref().and_then(|pins| pins.replicas()) {
                    // What a server lacks of pins is made anew as they are asked for.
                    Some(replicas) => watch::run(&replicas.servers, for_watching, |_| {}).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = watching => return,
                changed = changes.changed() => if changed.is_err() { return },
                // An error means that the server is gone.
                _ = shutdown.wait_for(|draining| *draining) => return,
            }
        }
    }
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
