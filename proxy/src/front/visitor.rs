//! What a connection tells of the one who sends requests over it.

use std::net::IpAddr;

use clearcoat_cache::Scheme;
use pingora_core::protocols::Stream;

/// Who asks, and how they reached us. Neither is ever taken from what the visitor says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Visitor {
    /// `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Of the connection; that of an absolute-form target does not count (VSV00018).
    pub(crate) scheme: Scheme,
}

impl Visitor {
    /// The one at the other end of a connection.
    pub(crate) fn of(stream: &Stream) -> Self {
        let address = stream.get_socket_digest().and_then(|digest| {
            digest.peer_addr().and_then(|address| address.as_inet().map(|inet| inet.ip()))
        });
        Self { address, scheme: scheme(stream.get_ssl_digest().is_some()) }
    }

    /// Of whom nothing is known but the scheme.
    pub(crate) const fn unknown(scheme: Scheme) -> Self {
        Self { address: None, scheme }
    }
}

/// The scheme of a connection, by whether TLS is spoken on it.
pub(crate) const fn scheme(has_tls: bool) -> Scheme {
    if has_tls { Scheme::Https } else { Scheme::Http }
}
