//! The service that lets web nodes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{Client, EndpointSettings};
use crate::front::visitor::Visitor;
use crate::listen::service::{BoundSocket, Listener};
use crate::session::replicas::Replicas;
use crate::session::servers::watch;

/// How long accepting rests when it fails.
const REST: Duration = Duration::from_millis(100);

/// What was seen of those who connect.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: AtomicU64,
    pub(crate) opened: AtomicU64,
    /// Turned away: too many, or from where nobody may.
    pub(crate) refused: AtomicU64,
}

/// Where web nodes come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) settings: EndpointSettings,
    pub(crate) connections: Arc<Connections>,
}

impl Door {
    async fn accept(self, bound: BoundSocket, mut shutdown: ShutdownWatch) {
        let listener = match Listener::new(bound) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the session listener cannot be used"),
        };
        let room = Arc::new(Semaphore::new(self.settings.connections));
        let mut serving = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = serving.join_next() => continue,
                // An error means that the server is gone.
                _ = shutdown.wait_for(|draining| *draining) => break,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(%error, "no web node could be let in");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let address = Visitor::of(&stream, clearcoat_purge::Dialects::default()).address;
            let may = address.is_none_or(|address| {
                let address = address.to_canonical();
                self.settings.allow.iter().any(|net| net.contains(&address))
            });
            let permit = if may { room.clone().try_acquire_owned().ok() } else { None };
            let Some(permit) = permit else {
                if self.connections.refused.fetch_add(1, Relaxed) == 0 {
                    let why = if may { "sessions.max_connections" } else { "sessions.allow" };
                    warn!(
                        address = address.map(|address| address.to_string()),
                        why, "a connection to the session listener was refused"
                    );
                }
                continue;
            };
            let client = Client::new(Box::new(stream), self.replicas.clone(), self.settings.clone());
            let connections = self.connections.clone();
            connections.opened.fetch_add(1, Relaxed);
            connections.open.fetch_add(1, Relaxed);
            serving.spawn(async move {
                // How it ended is the client's affair.
                let _ = client.serve().await;
                connections.open.fetch_sub(1, Relaxed);
                drop(permit);
            });
        }
        // Requests of visitors that are still running need their sessions until the end of the process.
        info!("no more web nodes are let in for sessions");
        while serving.join_next().await.is_some() {}
    }
}

/// Has web nodes let in by the workers, and looks after the servers on which their sessions are kept.
pub(crate) struct SessionService {
    bound: Option<BoundSocket>,
    workers: Handle,
    door: Door,
}

impl SessionService {
    pub(crate) fn new(bound: BoundSocket, workers: Handle, door: Door) -> Self {
        Self { bound: Some(bound), workers, door }
    }
}

#[async_trait]
impl Service for SessionService {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, _: usize) {
        let Some(bound) = self.bound.take() else { return };
        let letting_in = self.workers.spawn(self.door.clone().accept(bound, shutdown.clone()));
        let replicas = self.door.replicas.clone();
        let heal = move |server| {
            let replicas = replicas.clone();
            tokio::spawn(async move { replicas.heal(&server).await });
        };
        watch::run(&self.door.replicas.servers, shutdown, heal).await;
        // An error means that the workers have ended.
        let _ = letting_in.await;
    }

    fn name(&self) -> &str {
        "sessions"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        // None of pingora's.
        Some(Vec::new())
    }
}
