//! The listening sockets, bound before anything starts, and the service that serves them.
//!
//! Pingora binds in a thread of its own once its services run: an address that is taken ends in a panic there, and the
//! admin listener may report readiness before the edge can be reached. So the TCP sockets are bound here and handed to
//! pingora through its table of inherited sockets. A socket that is in the table already, because an older process
//! handed it over, is left alone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd as _;

use anyhow::Context as _;
use async_trait::async_trait;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service as PingoraService;
use pingora_core::services::listening::Service;
use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;

use super::lane::Lane;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// A socket that listens already: connections wait in its backlog until the service starts.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    address: SocketAddr,
    socket: Socket,
}

impl BoundSocket {
    /// Binds `address`. An IPv6 address is for IPv6 alone, so that `[::]:80` and `0.0.0.0:80` can stand side by side.
    ///
    /// # Errors
    ///
    /// If the address is taken, not of this machine, or privileged.
    pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let bound = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            // As every server on Unix: connections of a predecessor that linger must not keep the port.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = bound().with_context(|| format!("listening on {address}"))?;
        Ok(Self { address, socket })
    }
}

/// Pingora's listening services, one for each kind of listener, given sockets that are bound. They share the threads of one
/// runtime.
pub(crate) struct Edge {
    name: &'static str,
    threads: usize,
    inner: Vec<Service<Lane>>,
    sockets: Vec<BoundSocket>,
}

impl Edge {
    pub(crate) fn new(
        name: &'static str,
        threads: usize,
        inner: Vec<Service<Lane>>,
        sockets: Vec<BoundSocket>,
    ) -> Self {
        Self { name, threads, inner, sockets }
    }
}

#[async_trait]
impl PingoraService for Edge {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(fds) = &fds {
            let mut table = fds.lock();
            for bound in self.sockets.drain(..) {
                let name = bound.address.to_string();
                if table.get(&name).is_none() {
                    // From here on the table owns it.
                    table.add(name, bound.socket.into_raw_fd());
                }
            }
        }
        // Each spawns its own tasks and then only waits for their end.
        let mut services = JoinSet::new();
        for mut service in self.inner.drain(..) {
            let (fds, shutdown) = (fds.clone(), shutdown.clone());
            services.spawn(async move { service.start_service(fds, shutdown, listeners_per_fd).await });
        }
        services.join_all().await;
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}
