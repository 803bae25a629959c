//! One request's place at a node, and what became of the request there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora_core::connectors::TransportConnector;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::time::Instant;

use super::acquire::Pool;
use super::announce::{Announcing, Behalf};
use super::idle::Reuse;
use super::link::{Link, LinkError};
use super::members::Members;
use super::node::Node;
use super::peer::{self, PeerError, Target};

/// One request's place at a node. Dropping it gives the place back and calls the next waiter.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    members: Arc<Members>,
    node: Arc<Node>,
    target: Option<Target>,
}

/// What became of a request at a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// A whole head came. A status of 500 or more counts against the node.
    Answered {
        /// Its status.
        status: u16,
        /// From the request sent to the first byte of the head.
        first_byte: Duration,
    },
    /// No connection, or no TLS over it.
    ConnectFailed,
    /// No whole head in time.
    TimedOut,
    /// Reset, garbage, or closed before a whole head.
    Broken,
}

impl Lease {
    /// A lease of a place that [`Node::enter`] gave.
    pub(super) fn new(pool: Arc<Pool>, members: Arc<Members>, node: Arc<Node>, now: Instant) -> Self {
        let target = node.target(now);
        Self { pool, members, node, target }
    }

    /// The node.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Whether a connection that has carried a request may carry others: not if it began by saying for whom it is.
    pub(crate) fn keeps_links(&self) -> bool {
        self.members.settings.proxy_protocol.is_none()
    }

    /// The header that a connection for this one begins with, where the nodes expect one.
    fn header(&self, behalf: Behalf) -> Option<Vec<u8>> {
        self.members.settings.proxy_protocol.map(|version| version.header(behalf))
    }

    /// The peer for pingora's connectors, the same at every call for the same `behalf`: one of the node's addresses, TLS, deadlines
    /// and PROXY header as the pool has them. The read timeout is that for the first byte; see [`peer::peer`].
    ///
    /// # Errors
    ///
    /// [`PeerError`] if no connection can even be tried; report that as [`Outcome::ConnectFailed`].
    pub(crate) fn peer(&self, behalf: Behalf) -> Result<HttpPeer, PeerError> {
        let target = self.target.as_ref().ok_or(PeerError::NoAddress)?;
        let settings = &self.members.settings;
        let mut peer = peer::peer(target, self.node.address(), settings.tls.as_ref(), &settings.timeouts)?;
        if let Some(header) = self.header(behalf) {
            peer.options.custom_l4 = Some(Arc::new(Announcing { header }));
        }
        Ok(peer)
    }

    /// A connection that was kept for this node, if one is there that will do.
    pub(crate) fn kept_link(&self, reuse: Reuse, now: Instant) -> Option<Link> {
        let target = self.target.as_ref().filter(|_| self.keeps_links())?;
        self.node.idle.take(target, &self.members.settings, reuse, now)
    }

    /// A new connection to the node, made for this one.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; not a byte of a request has gone out.
    pub(crate) async fn new_link(
        &self,
        behalf: Behalf,
        connector: &TransportConnector,
    ) -> Result<Link, LinkError> {
        let target = self.target.as_ref().ok_or(PeerError::NoAddress)?;
        let header = self.header(behalf).unwrap_or_default();
        Link::connect(target, &self.members.settings, &header, || self.peer(behalf), connector).await
    }

    /// Keeps a connection for the next request, for at most `wait` or the pool's idle time, if it may carry one.
    pub(crate) fn keep_link(&self, link: Link, wait: Duration) {
        if !self.keeps_links() {
            return;
        }
        self.node.idle.put(link, wait.min(self.members.settings.timeouts.idle), Instant::now());
    }

    /// Tells what became of the request; once for each lease. A request that was given up by its client, before the node
    /// could answer, is not reported at all.
    pub(crate) fn report(&self, outcome: Outcome) {
        let counters = &self.node.counters;
        let (counter, reason) = match outcome {
            Outcome::Answered { status, first_byte } => {
                let micros = u64::try_from(first_byte.as_micros()).unwrap_or(u64::MAX);
                counters.answers.fetch_add(1, Ordering::Relaxed);
                counters.answer_micros.fetch_add(micros, Ordering::Relaxed);
                if status < 500 {
                    self.node.succeed();
                    return;
                }
                counters.status.fetch_add(1, Ordering::Relaxed);
                self.pool.fail(&self.node, &format!("status {status}"));
                return;
            }
            Outcome::ConnectFailed => (&counters.connect, "no connection"),
            Outcome::TimedOut => (&counters.timeout, "no answer in time"),
            Outcome::Broken => (&counters.broken, "broken answer"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let (Outcome::ConnectFailed, Some(target)) = (outcome, &self.target) {
            self.node.avoid(target, Instant::now());
        }
        self.pool.fail(&self.node, reason);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // In this order: a waiter that is called must find the place free.
        self.node.leave();
        self.pool.give_back();
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("node", &self.node)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
