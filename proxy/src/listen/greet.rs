//! The beginning of a connection: the PROXY header of a balancer, the count of its client's connections, and the TLS handshake,
//! where the listener speaks TLS.

use std::net::IpAddr;
use std::sync::Arc;

use clearcoat_cache::Scheme;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;
use tracing::debug;

use super::clients::Admitted;
use super::lane::Lane;
use super::proxied::{self, NotProxied};
use super::tls::{Accepted, Acceptor, HandshakeFailed};
use crate::admin::{Handshake, Limit, ProxyHeader};
use crate::front::identity::Identity;
use crate::front::visitor::Visitor;
use crate::respond::Local;

/// Whoever connects there speaks TLS, also if the balancer that ends it does not say so. As in the VCL of those who have one.
const HTTPS_PORT: u16 = 443;

/// A connection that is ready for its first request.
pub(super) struct Greeted {
    pub(super) stream: Stream,
    pub(super) visitor: Visitor,
    /// There where its client's connections are counted.
    pub(super) admitted: Option<Admitted>,
    /// Whose certificate was shown, where nodes are told of it.
    pub(super) identity: Option<Arc<Identity>>,
}

impl Lane {
    /// Makes a connection ready for its first request. `None`: it has ended.
    pub(super) async fn greet(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<Greeted> {
        let mut visitor = Visitor::of(&stream, self.dialects);
        if self.tls.is_none() && !self.peers.announces(visitor.address) {
            visitor.vouches = self.peers.trusts(visitor.address);
            let admitted = self.admit(visitor, visitor.address)?;
            return Some(Greeted { stream, visitor, identity: None, admitted });
        }
        let mut watch = shutdown.clone();
        tokio::select! {
            greeted = self.begin(stream, visitor, shutdown) => greeted,
            // Like a connection on which nothing was asked. An error means that the server is gone.
            _ = watch.wait_for(|draining| *draining) => None,
        }
    }

    async fn begin(
        &self,
        mut stream: Stream,
        mut visitor: Visitor,
        shutdown: &ShutdownWatch,
    ) -> Option<Greeted> {
        let mut client = visitor.address;
        if self.peers.announces(visitor.address) {
            (visitor, client) = self.introduced(&mut stream, visitor).await?;
        }
        visitor.vouches = self.peers.trusts(visitor.address);
        // Before the handshake, which is what costs most.
        let admitted = self.admit(visitor, client)?;
        let Some(acceptor) = &self.tls else {
            return Some(Greeted { stream, visitor, identity: None, admitted });
        };
        let Accepted { stream, identity, .. } = self.shake_hands(acceptor, stream, visitor, shutdown).await?;
        visitor.scheme = Scheme::Https;
        Some(Greeted { stream, visitor, identity, admitted })
    }

    /// Counts a connection of this client's: `None` if it has enough already. Nobody is told: whoever opens so many
    /// does not read.
    ///
    /// Trusted proxies are not counted, for many visitors come through them, nor balancers that speak for themselves and
    /// Unix sockets: the client is not known then.
    #[expect(
        clippy::option_option,
        reason = "the one says whether it goes on, the other whether it is counted"
    )]
    fn admit(&self, visitor: Visitor, client: Option<IpAddr>) -> Option<Option<Admitted>> {
        let (Some(clients), Some(client), false) = (&self.clients, client, visitor.vouches) else {
            return Some(None);
        };
        let admitted = clients.admit(client);
        if admitted.is_none() {
            self.front.counters.limit(Limit::ConnectionsPerClient);
            debug!(%client, "a connection was closed, because its client has enough");
        }
        admitted.map(Some)
    }

    /// Reads who the visitor is from the PROXY header of the one who brings them; the address is there if it names one.
    async fn introduced(&self, stream: &mut Stream, balancer: Visitor) -> Option<(Visitor, Option<IpAddr>)> {
        let counters = &self.front.counters;
        let read = match timeout(self.settings.waits.header, proxied::read(stream)).await {
            Ok(read) => read,
            Err(_) => {
                counters.limit(Limit::HeaderTimeout);
                return None;
            }
        };
        match read {
            Ok(proxied) => {
                counters.proxy_header(ProxyHeader::Read);
                let mut visitor = balancer;
                if let Some(client) = proxied.client {
                    visitor.address = Some(client.ip());
                    visitor.port = client.port();
                }
                if proxied.tls || proxied.port == Some(HTTPS_PORT) {
                    visitor.scheme = Scheme::Https;
                }
                Some((visitor, proxied.client.map(|client| client.ip())))
            }
            // As those do who only look whether the port is open.
            Err(NotProxied::Gone(_)) => None,
            Err(reason @ NotProxied::Bad(_)) => {
                // Nobody is there to be told: a page would be answered to a protocol that has not begun.
                counters.proxy_header(ProxyHeader::Refused);
                debug!(peer = ?balancer.address, %reason, "a connection without a good PROXY header was closed");
                None
            }
        }
    }

    async fn shake_hands(
        &self,
        acceptor: &Acceptor,
        stream: Stream,
        visitor: Visitor,
        shutdown: &ShutdownWatch,
    ) -> Option<Accepted> {
        let counters = &self.front.counters;
        let client = visitor.address;
        let failed = match acceptor.accept(stream).await {
            Ok(accepted) => {
                counters.handshake(if accepted.resumed { Handshake::Resumed } else { Handshake::Full });
                return Some(accepted);
            }
            Err(failed) => failed,
        };
        counters.handshake(Handshake::Failed);
        debug!(?client, reason = %failed, "a TLS handshake failed");
        match failed {
            HandshakeFailed::Plain(stream) => {
                // As nginx does: a browser that was sent here by an old link shows this page, and would show nothing else.
                let mut connection = self.connection(stream, visitor, shutdown);
                let page = "this port speaks TLS: ask by https".to_owned();
                self.refuse(&mut connection, &Local::plain(400, None, page).refused());
                connection.close().await;
            }
            HandshakeFailed::Late => counters.limit(Limit::HeaderTimeout),
            HandshakeFailed::Gone | HandshakeFailed::Refused(_) => {}
        }
        None
    }
}
