//! The listening sockets, bound before anything starts, and accepting on them.
//!
//! Bound here and at once, so that an address that is taken is an error at the start, and nothing reports that the edge is
//! ready before it can be reached: connections wait in the backlog until the service runs.
//!
//! pingora's own listening service is not used: its stream has a price at each read and write ([`PlainStream`]), and the task
//! that it makes of a connection keeps room for a handshake of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clearcoat_conf::{ListenAddress, SocketFile};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::doors::Standing;
use super::lane;
use super::plain::PlainStream;
use super::unix::{self, Place};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// How long accepting rests when it fails, for want of descriptors or memory: trying again at once would take all of a core.
const REST: Duration = Duration::from_millis(100);

/// A socket that listens already.
#[derive(Debug)]
pub(crate) enum BoundSocket {
    /// For TCP.
    Tcp(std::net::TcpListener),
    /// In the file system.
    Unix(std::os::unix::net::UnixListener, Arc<Place>),
}

impl BoundSocket {
    /// Binds `address`. An IPv6 address is for IPv6 alone, so that `[::]:80` and `0.0.0.0:80` can stand side by side.
    ///
    /// # Errors
    ///
    /// If the address is taken, not of this machine, or privileged.
    pub(crate) fn tcp(address: std::net::SocketAddr) -> anyhow::Result<Self> {
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
        Ok(Self::Tcp(socket.into()))
    }

    /// Binds a socket in the file system; see [`unix::bind`].
    ///
    /// # Errors
    ///
    /// If another process listens there, or nothing can be made there.
    pub(crate) fn unix(path: &Path, file: &SocketFile) -> anyhow::Result<Self> {
        let (socket, place) = unix::bind(path, file, BACKLOG)?;
        Ok(Self::Unix(socket, place))
    }

    /// Where it is in the file system, if it is there.
    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(_, place) => Some(place.clone()),
        }
    }

    /// Binds whichever it is.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) fn bind(address: &ListenAddress, file: &SocketFile) -> anyhow::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Self::tcp(*address),
            ListenAddress::Unix(path) => Self::unix(path, file),
        }
    }
}

/// A socket in the hands of the runtime.
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With the file, which goes with it.
    Unix(UnixListener, #[expect(dead_code, reason = "it is held")] Arc<Place>),
}

impl Listener {
    pub(crate) fn new(bound: BoundSocket) -> io::Result<Self> {
        Ok(match bound {
            BoundSocket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            BoundSocket::Unix(socket, place) => Self::Unix(UnixListener::from_std(socket)?, place),
        })
    }

    /// The next connection. Cancel safe: none is lost.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (socket, client) = listener.accept().await?;
                Box::new(PlainStream::tcp(socket, client))
            }
            Self::Unix(listener, _) => Box::new(PlainStream::unix(listener.accept().await?.0)),
        })
    }

    /// Accepts until it is told to close; each connection is a task of its own, and told so too.
    pub(super) async fn serve(self, standing: Standing, mut shutdown: ShutdownWatch) {
        let for_connections = shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                // An error means that nobody is there any more to tell it.
                _ = shutdown.wait_for(|draining| *draining) => break,
            };
            match accepted {
                Ok(stream) => {
                    drop(tokio::spawn(lane::serve(standing.clone(), stream, for_connections.clone())))
                }
                // The client left before it was its turn.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    warn!(%error, "no connection could be accepted: is the limit of open files (ulimit -n) high enough?");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}
