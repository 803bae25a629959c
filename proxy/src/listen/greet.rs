//! The beginning of a connection: the TLS handshake, where the listener speaks TLS.

use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tracing::debug;

use super::lane::Lane;
use super::tls::{Acceptor, HandshakeFailed};
use crate::admin::{Handshake, Limit};
use crate::front::visitor::Visitor;
use crate::respond::Local;

impl Lane {
    /// Makes a connection ready for its first request. `None`: it has ended.
    pub(super) async fn greet(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Some(acceptor) = &self.tls else { return Some(stream) };
        let mut watch = shutdown.clone();
        tokio::select! {
            stream = self.shake_hands(acceptor, stream, shutdown) => stream,
            // Like a connection on which nothing was asked. An error means that the server is gone.
            _ = watch.wait_for(|draining| *draining) => None,
        }
    }

    async fn shake_hands(
        &self,
        acceptor: &Acceptor,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let counters = &self.front.counters;
        let client = Visitor::of(&stream, self.dialects).address;
        let failed = match acceptor.accept(stream).await {
            Ok(accepted) => {
                counters.handshake(if accepted.resumed { Handshake::Resumed } else { Handshake::Full });
                return Some(accepted.stream);
            }
            Err(failed) => failed,
        };
        counters.handshake(Handshake::Failed);
        debug!(?client, reason = %failed, "a TLS handshake failed");
        match failed {
            HandshakeFailed::Plain(stream) => {
                // As nginx does: a browser that was sent here by an old link shows this page, and would show nothing else.
                let mut connection = self.connection(stream, shutdown);
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
