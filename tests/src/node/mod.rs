//! A web node under the test's control: it records every request whole, and misbehaves on demand.
//!
//! It lives inside the test's own runtime, one task per connection. [`Page`] says what a path answers; a [`Gate`] holds an answer at a
//! chosen byte until the test opens it, so that no test has to guess how long something takes. One lock guards pages and records; it
//! is never held across an `await`.

mod page;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use page::{Gate, Page};

use crate::Address;
use crate::ports::Port;
use crate::wait;
use crate::wire::{self, Copied, Headers};

/// Where the proxy's probes go in this harness; never counted among a visitor's requests.
pub const HEALTH_PATH: &str = "/-/health";

/// A request as a node received it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Request target.
    pub target: String,
    /// Header lines.
    pub headers: Headers,
    /// Body, without its framing.
    pub body: Bytes,
    /// Which of the node's connections brought it, from 1.
    pub connection: u64,
    /// How many requests of this method and target came before it, plus one.
    pub number: usize,
}

impl Recorded {
    /// The first header line of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::first(&self.headers, name)
    }

    /// All header lines of that name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        wire::all(&self.headers, name)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Pages, records and counters of a node; outlives a stop and start.
#[derive(Debug, Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    /// Connections accepted since the first start.
    accepted: AtomicU64,
    /// Connections open now.
    open: AtomicUsize,
    /// Requests being answered now, probes aside.
    busy: AtomicUsize,
    /// Most requests that were ever answered at a time.
    peak: AtomicUsize,
    /// Requests that could not be read.
    garbled: AtomicUsize,
    /// Probes that arrived.
    probes: AtomicUsize,
    /// True while nothing at all is answered.
    frozen: watch::Sender<bool>,
    /// What came on each connection since recording began; `None` before.
    bytes: Mutex<Option<Vec<Copied>>>,
}

#[derive(Debug, Default)]
struct Inner {
    pages: HashMap<String, Page>,
    fallback: Option<Page>,
    records: Vec<Recorded>,
    counts: HashMap<(String, String), usize>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the bytes of a new connection are to be copied to.
    fn copy(&self) -> Option<Copied> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = Copied::default();
        bytes.as_mut()?.push(copy.clone());
        Some(copy)
    }

    /// Notes a request and finds its page.
    fn receive(&self, head: wire::RequestHead, body: Bytes, connection: u64) -> (Recorded, Page) {
        let mut inner = self.lock();
        let wire::RequestHead { method, target, minor: _, headers } = head;
        let mut recorded = Recorded { method, target, headers, body, connection, number: 0 };
        let page = inner.pages.get(&recorded.target).or_else(|| inner.pages.get(recorded.path())).cloned();
        if recorded.path() == HEALTH_PATH {
            recorded.number = self.probes.fetch_add(1, Ordering::SeqCst) + 1;
            return (recorded, page.unwrap_or_else(|| Page::text("alive").no_store()));
        }
        let count = inner.counts.entry((recorded.method.clone(), recorded.target.clone())).or_default();
        *count += 1;
        recorded.number = *count;
        inner.records.push(recorded.clone());
        let page = page.or_else(|| inner.fallback.clone());
        (recorded, page.unwrap_or_else(|| Page::text("no such page").status(404).no_store()))
    }
}

/// A running, or stopped, node. Dropping it closes its connections and its port.
#[derive(Debug)]
pub struct Node {
    name: String,
    port: Port,
    state: Arc<State>,
    listening: Option<AbortHandle>,
}

impl Node {
    /// Starts a node that answers probes well, and everything else with 404.
    pub async fn start() -> Self {
        Self::named("node").await
    }

    /// As [`Node::start`], with a name that its answers carry in `X-Node`.
    pub async fn named(name: &str) -> Self {
        let state = Arc::new(State::default());
        let mut node = Self { name: name.to_owned(), port: Port::claim(), state, listening: None };
        node.start_again().await;
        node
    }

    /// A node with these pages, each fresh for a minute under `max-age` and carrying its tags (`xkey`).
    pub async fn with_pages<'a>(pages: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let node = Self::start().await;
        for (path, tags) in pages {
            node.serve(path, Page::numbered(path).fresh_for(60).tags(tags));
        }
        node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says from now on what a path answers. A path with a query answers for that query only, one without for any.
    pub fn serve(&self, path: &str, page: Page) {
        self.state.lock().pages.insert(path.to_owned(), page);
    }

    /// Says from now on what every other path answers.
    pub fn serve_everything(&self, page: Page) {
        self.state.lock().fallback = Some(page);
    }

    /// Every request so far, probes aside.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().records.clone()
    }

    /// The last request for a path, with any query.
    ///
    /// # Panics
    ///
    /// If there was none.
    pub fn last(&self, path: &str) -> Recorded {
        let inner = self.state.lock();
        let found = inner.records.iter().rev().find(|recorded| recorded.path() == path);
        found.unwrap_or_else(|| panic!("{} was never asked for {path}", self.name)).clone()
    }

    /// Requests so far for a path, of any method and with any query.
    pub fn count(&self, path: &str) -> usize {
        self.state.lock().records.iter().filter(|recorded| recorded.path() == path).count()
    }

    /// Requests so far for a path with that method.
    pub fn count_of(&self, method: &str, path: &str) -> usize {
        let inner = self.state.lock();
        inner.records.iter().filter(|recorded| recorded.path() == path && recorded.method == method).count()
    }

    /// All requests so far, probes aside.
    pub fn total(&self) -> usize {
        self.state.lock().records.len()
    }

    /// Forgets the requests so far, so that the next assertion speaks of what follows.
    pub fn forget(&self) {
        let mut inner = self.state.lock();
        inner.records.clear();
        inner.counts.clear();
        let mut copies = self.state.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copies) = copies.as_mut() {
            copies.retain(|copy| Arc::strong_count(copy) > 1);
            copies.iter().for_each(|copy| copy.lock().unwrap_or_else(PoisonError::into_inner).clear());
        }
    }

    /// From now on the bytes of new connections are kept as they come, for [`Node::bytes`].
    pub fn record_bytes(&self) {
        self.state.bytes.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// What came on each connection, probes included, since recording began or all was forgotten; and whether it is open.
    pub fn bytes(&self) -> Vec<(Vec<u8>, bool)> {
        let copies = self.state.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |copy: &Copied| copy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Whoever reads from the connection holds the other.
        copies.iter().flatten().map(|copy| (read(copy), Arc::strong_count(copy) > 1)).collect()
    }

    /// Requests that could not be read as HTTP/1.1.
    pub fn garbled(&self) -> usize {
        self.state.garbled.load(Ordering::SeqCst)
    }

    /// Probes so far.
    pub fn probes(&self) -> usize {
        self.state.probes.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Requests being answered now.
    pub fn busy(&self) -> usize {
        self.state.busy.load(Ordering::SeqCst)
    }

    /// Most requests that were being answered at one time.
    pub fn peak(&self) -> usize {
        self.state.peak.load(Ordering::SeqCst)
    }

    /// From now on nothing is answered, probes included; connections are accepted and stay open.
    pub fn freeze(&self) {
        self.state.frozen.send_replace(true);
    }

    /// Ends [`Node::freeze`]: what was held is answered now.
    pub fn thaw(&self) {
        self.state.frozen.send_replace(false);
    }

    /// Closes the port and every connection at once, as the death of a process does. Connecting is refused from then on.
    pub async fn stop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let state = &self.state;
            wait::until_true("the node's connections to end", || state.open.load(Ordering::SeqCst) == 0)
                .await;
            let address = self.port.address();
            wait::until("the node's port to close", async || std::net::TcpListener::bind(address).ok()).await;
        }
    }

    /// Listens on the same port again.
    ///
    /// # Panics
    ///
    /// If the port cannot be opened.
    pub async fn start_again(&mut self) {
        assert!(self.listening.is_none(), "{} is running", self.name);
        let address = self.port.address();
        // A process that is being started may hold a copy of the socket that was closed, until it is what it will be.
        let listener = wait::until("the node's port to be free", async || listen(address).ok()).await;
        let state = Arc::clone(&self.state);
        let name = self.name.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, and ends all connections with it.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(serve::connection(stream, Arc::clone(&state), name.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        self.listening = Some(task.abort_handle());
    }
}

/// Listens with room for as many as come at once in any test: a connection that finds no room is tried again after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

impl Address for Node {
    fn address(&self) -> SocketAddr {
        self.port.address()
    }
}
