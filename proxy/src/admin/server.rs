//! The admin listener: a socket, its connections, and who may be on it. What is answered stands in `routes`.
//!
//! A pingora service with a socket of its own instead of pingora's listeners, for two reasons. It is bound before
//! anything starts, so that a taken port is a clear error and port 0 can be asked for. And it goes on accepting while
//! the process drains, so that `/ready` can say so; pingora closes its listeners at that moment. Pingora's HTTP server
//! is not used because its time limits are per read and end with the first request of a connection.
//!
//! Connections are bounded in number; each is a task of its own. The only lock guards the samples of the hit ratio.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use clearcoat_conf::{ListenAddress, SocketFile};
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, error, info, warn};

use super::counters::Counters;
use super::guard::Guard;
use super::http1::{self, Ending, Limits};
use super::kinds::Limit;
use super::routes::{Extra, Routes};
use super::view::Observed;
use super::window;
use crate::listen::unix::{self, Place};

/// Connections that may be open at once. Scrapers and probes need a handful; a refused one is counted as
/// [`Limit::AdminConnections`].
const MOST_CONNECTIONS: usize = 256;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// How long accepting rests after an error such as "too many open files", which would otherwise repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What `Authorization: Bearer` must carry, except for `/live` and `/ready`. Without it everybody who can connect
    /// may read.
    pub(crate) token: Option<String>,
    /// Names by which this listener is addressed, beside loopback and its own address.
    pub(crate) names: Vec<String>,
}

/// A socket that is bound and not used yet; it needs no runtime.
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, Arc<Place>),
}

/// The same inside a runtime.
enum Listener {
    Tcp(TcpListener),
    /// With the file, which goes with it.
    Unix(UnixListener, #[expect(dead_code, reason = "it is held")] Arc<Place>),
}

/// A connection of either kind.
enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The bound listener; `add_service` of pingora's server takes it.
pub(crate) struct AdminService {
    /// Taken when the service starts.
    bound: Option<Bound>,
    address: ListenAddress,
    routes: Arc<Routes>,
}

impl AdminService {
    /// Makes a service of a socket. Connections are accepted once it starts.
    ///
    /// # Errors
    ///
    /// If the metrics cannot be registered.
    pub(crate) fn new(
        AdminSocket(bound, address, ip): AdminSocket,
        settings: &Settings,
        counters: Arc<Counters>,
        observed: Arc<dyn Observed>,
        extra: Option<Arc<dyn Extra>>,
    ) -> anyhow::Result<Self> {
        let guard = Guard::new(settings.token.clone(), &settings.names, ip);
        let routes = Arc::new(Routes::new(counters, observed, guard, extra)?);
        Ok(Self { bound: Some(bound), address, routes })
    }

    /// Where it listens, with the port that was chosen for port 0.
    #[cfg(test)]
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    fn take_connection(&self, connection: Connection, room: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
            self.routes.counters.limit(Limit::AdminConnections);
            return warn!(limit = MOST_CONNECTIONS, "too many connections to the admin listener");
        };
        let routes = Arc::clone(&self.routes);
        tokio::spawn(async move {
            let _permit = permit;
            let ending = match connection {
                Connection::Tcp(mut stream) => {
                    // Answers are written in one piece; waiting for more would only delay them.
                    let _ = stream.set_nodelay(true);
                    http1::serve(&mut stream, &*routes, &Limits::SMALL).await
                }
                Connection::Unix(mut stream) => http1::serve(&mut stream, &*routes, &Limits::SMALL).await,
            };
            match ending {
                Ending::Done | Ending::Idle => {}
                Ending::Refused(_) | Ending::Broken => {
                    debug!(?ending, "a connection to the admin listener ended early");
                }
            }
        });
    }
}

/// A bound socket, its address with the port that was chosen for port 0, and the IP address that a `Host` may name for it.
pub(crate) struct AdminSocket(Bound, ListenAddress, IpAddr);

impl AdminSocket {
    /// Where it is in the file system, if it is there.
    pub(crate) fn place(&self) -> Option<Arc<Place>> {
        match &self.0 {
            Bound::Tcp(_) => None,
            Bound::Unix(_, place) => Some(place.clone()),
        }
    }

    /// Binds an address; `file` is who may use a Unix socket.
    ///
    /// # Errors
    ///
    /// If it cannot be bound.
    pub(crate) fn bind(address: &ListenAddress, file: &SocketFile) -> anyhow::Result<Self> {
        let bound = || match address {
            ListenAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok(Self(Bound::Tcp(listener), ListenAddress::Tcp(address), address.ip()))
            }
            ListenAddress::Unix(path) => {
                let (listener, place) = unix::bind(path, file, BACKLOG)?;
                let bound = Bound::Unix(listener, place);
                anyhow::Ok(Self(bound, address.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        };
        bound().with_context(|| format!("listening on {address} for the admin interface"))
    }
}

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            Bound::Unix(listener, place) => Ok(Self::Unix(UnixListener::from_std(listener)?, place)),
        }
    }

    /// The next connection. Cancel safe: none is lost.
    async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::Tcp(stream)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        }
    }
}

#[async_trait]
impl Service for AdminService {
    async fn start_service(&mut self, _: Option<ListenFds>, mut shutdown: ShutdownWatch, _: usize) {
        let Some(bound) = self.bound.take() else { return };
        let listener = match Listener::new(bound) {
            Ok(listener) => listener,
            Err(error) => return error!(%error, "the admin listener cannot be used"),
        };
        info!(address = %self.address, "the admin interface listens");
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut tick = tokio::time::interval(window::STEP);
        let mut watching = true;
        // Without an end: the runtime drops this task when the process has drained.
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(connection) => self.take_connection(connection, &room),
                    Err(error) => {
                        warn!(%error, "the admin listener could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tick.tick() => self.routes.sample(),
                changed = shutdown.changed(), if watching => {
                    watching = changed.is_ok();
                    if *shutdown.borrow() {
                        self.routes.drain();
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        // None of pingora's: this socket is not handed over in an upgrade.
        Some(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::sync::watch;

    use super::super::routes::tests::Edge;
    use super::super::view::Readiness;
    use super::*;

    fn service(address: &str) -> anyhow::Result<AdminService> {
        let socket = AdminSocket::bind(&address.parse().unwrap(), &SocketFile::FOR_OWNER)?;
        let settings = Settings { token: None, names: Vec::new() };
        AdminService::new(socket, &settings, Counters::new(), Arc::new(Edge(Readiness::Ready)), None)
    }

    fn get(mut stream: impl Read + Write, path: &str) -> String {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_answers_over_the_wire_also_while_draining() {
        let mut admin = service("127.0.0.1:0").unwrap();
        let address = admin.address().to_string();
        let error = service(&address).err().unwrap();
        assert!(format!("{error:#}").contains(&address), "{error:#}");

        let (stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(async move { admin.start_service(None, shutdown, 1).await });
        let ready = || {
            let address = address.clone();
            tokio::task::spawn_blocking(move || get(std::net::TcpStream::connect(address).unwrap(), "/ready"))
        };
        assert!(ready().await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        stop.send(true).unwrap();
        // The service hears of it a moment later.
        let answer = loop {
            let answer = ready().await.unwrap();
            if !answer.starts_with("HTTP/1.1 200") {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining\n"), "{answer}");
        running.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_unix_socket_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // Left behind by a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut admin = service(&format!("unix:{}", path.display())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(service(&format!("unix:{}", path.display())).is_err(), "it is in use");

        let (_stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(async move { admin.start_service(None, shutdown, 1).await });
        let asked = tokio::task::spawn_blocking(move || {
            get(std::os::unix::net::UnixStream::connect(path).unwrap(), "/live")
        });
        assert!(asked.await.unwrap().ends_with("\r\n\r\nlive\n"));
        running.abort();
    }
}
