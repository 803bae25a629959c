//! The web nodes: real HTTP/1.1 servers on 127.0.0.1 that can be killed and started again.
//!
//! They run on one thread of their own, so that they are there before the edge starts and share nothing with it. A
//! killed node behaves like a process after `kill -9`: its port refuses connections, and open ones are reset. Each node's
//! lock is held across the whole of a kill or a start, so that two orders for one node never mix.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::warn;

use super::pages::Pages;
use crate::admin::http1::{self, Limits};

/// Connections that one node serves at once; more wait to be accepted. The edge keeps far fewer.
const MOST_CONNECTIONS: usize = 1024;

/// The edge decides when an idle connection ends, never the node: a node that closes first makes requests fail that
/// were just on their way.
const LIMITS: Limits = Limits { idle_time: Duration::from_secs(3600), ..Limits::SMALL };

/// All nodes. They end with the process.
pub(super) struct Nodes {
    runtime: Handle,
    nodes: Vec<Node>,
}

/// One node; its port stays the same for good.
struct Node {
    address: SocketAddr,
    pages: Arc<Pages>,
    running: Mutex<Option<Running>>,
}

/// A node that listens.
struct Running {
    kill: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// How a node is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Look {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    pub(super) running: bool,
    /// Requests it answered, health probes not among them.
    pub(super) served: u64,
}

impl Nodes {
    /// Starts so many nodes, each on a free port.
    ///
    /// # Errors
    ///
    /// If a port cannot be had or the thread cannot be started.
    pub(super) fn start(number: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("a runtime for the web nodes")?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("web nodes".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .context("a thread for the web nodes")?;
        let nodes = (1..=number)
            .map(|number| {
                let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let address = listener.local_addr()?;
                let pages = Arc::new(Pages::new(number));
                let running = Mutex::new(Some(run(&handle, listener, Arc::clone(&pages))));
                Ok(Node { address, pages, running })
            })
            .collect::<io::Result<_>>()
            .context("a port for a web node")?;
        Ok(Self { runtime: handle, nodes })
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// How each is doing.
    pub(super) async fn look(&self) -> Vec<Look> {
        let mut looks = Vec::with_capacity(self.nodes.len());
        for (node, number) in self.nodes.iter().zip(1..) {
            let running = node.running.lock().await.is_some();
            looks.push(Look { number, address: node.address, running, served: node.pages.served() });
        }
        looks
    }

    /// Kills node `number`, counted from 1; when this returns, its port is closed. `None` if there is no such node,
    /// else whether it was running.
    pub(super) async fn kill(&self, number: usize) -> Option<bool> {
        let node = self.node(number)?;
        let mut running = node.running.lock().await;
        let Some(Running { kill, serving }) = running.take() else { return Some(false) };
        kill.send_replace(true);
        if let Err(error) = serving.await {
            warn!(%error, number, "a web node of the demonstration ended oddly");
        }
        Some(true)
    }

    /// Starts node `number` again on its old port. `None` if there is no such node, else whether it was stopped.
    ///
    /// # Errors
    ///
    /// If another program has taken its port in between.
    pub(super) async fn revive(&self, number: usize) -> Option<io::Result<bool>> {
        let node = self.node(number)?;
        let mut running = node.running.lock().await;
        if running.is_some() {
            return Some(Ok(false));
        }
        Some(bind(node.address).map(|listener| {
            *running = Some(run(&self.runtime, listener, Arc::clone(&node.pages)));
            true
        }))
    }

    fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number.checked_sub(1)?)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run(runtime: &Handle, listener: TcpListener, pages: Arc<Pages>) -> Running {
    let (kill, killed) = watch::channel(false);
    Running { kill, serving: runtime.spawn(serve(listener, pages, killed)) }
}

/// Serves until killed; comes back when the listener and all connections are closed.
async fn serve(listener: TcpListener, pages: Arc<Pages>, mut killed: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "a web node of the demonstration cannot listen"),
    };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Only ever changed to `true`; an error means that the nodes are gone, which is no different.
            _ = killed.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&pages), killed.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
    // Connections that nobody has accepted yet are reset with the listener.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: TcpStream, pages: Arc<Pages>, mut killed: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    tokio::select! {
        _ = http1::serve(&mut stream, &*pages, &LIMITS) => {}
        _ = killed.changed() => {
            // Closing then sends a reset instead of an orderly end.
            let _ = stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{ErrorKind, Read as _, Write as _};

    use super::*;

    fn get(address: SocketAddr, target: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn nodes_die_and_come_back_on_their_port() {
        let nodes = Nodes::start(2).unwrap();
        let [first, second] = nodes.addresses()[..] else { panic!("two nodes were asked for") };
        assert!(get(first, "/").contains("X-Node: 1\r\n"));
        assert!(get(second, "/").contains("X-Node: 2\r\n"));

        let mut open = std::net::TcpStream::connect(first).unwrap();
        open.write_all(b"GET /now HTTP/1.1\r\nHost: demo\r\n\r\n").unwrap();
        open.read_exact(&mut [0; 8]).unwrap();
        let mut slow = std::net::TcpStream::connect(first).unwrap();
        slow.write_all(b"GET /slow HTTP/1.1\r\nHost: demo\r\n\r\n").unwrap();

        assert_eq!(nodes.kill(1).await, Some(true));
        let refused = std::net::TcpStream::connect(first).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        for mut stream in [open, slow] {
            let end = stream.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        }
        assert!(get(second, "/").contains("X-Node: 2\r\n"), "the other node lives");
        assert_eq!(nodes.look().await.iter().map(|look| look.running).collect::<Vec<_>>(), [false, true]);
        assert_eq!(nodes.kill(1).await, Some(false));

        assert!(nodes.revive(1).await.unwrap().unwrap());
        assert!(get(first, "/").contains("X-Node: 1\r\n"));
        assert!(!nodes.revive(1).await.unwrap().unwrap(), "it is running already");
    }

    #[tokio::test]
    async fn numbers_are_checked() {
        let nodes = Nodes::start(1).unwrap();
        for number in [0, 2, usize::MAX] {
            assert_eq!(nodes.kill(number).await, None);
            assert!(nodes.revive(number).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_port_that_was_taken_in_between_is_an_error() {
        let nodes = Nodes::start(1).unwrap();
        nodes.kill(1).await;
        let _thief = TcpListener::bind(nodes.addresses()[0]).unwrap();
        nodes.revive(1).await.unwrap().unwrap_err();
        assert!(!nodes.look().await[0].running);
    }
}
