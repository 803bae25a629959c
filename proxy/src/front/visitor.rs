//! What a connection tells of the one who sends requests over it.

use std::net::{IpAddr, SocketAddr};

use clearcoat_cache::Scheme;
use clearcoat_purge::Dialects;
use pingora_core::protocols::Stream;

use super::request_id::RequestNumber;
use crate::pool::Behalf;

/// Proxies between a visitor and us that are told to nodes: the nearest ones, where there are more.
const MOST_BETWEEN: usize = 3;

/// Who asks, and how they reached us. Neither is ever taken from what the visitor says; a proxy in front of us that is trusted
/// may say it ([`Peers`](super::peers::Peers)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Visitor {
    /// `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Of the connection's other end; 0 if only the address is known.
    pub(crate) port: u16,
    /// Our end of the connection. `None` on a Unix socket.
    pub(crate) reached: Option<SocketAddr>,
    /// Of the connection; that of an absolute-form target does not count (VSV00018).
    pub(crate) scheme: Scheme,
    /// The ways to ask for purges that the listener understands.
    pub(crate) dialects: Dialects,
    /// Whether the one at the other end of the connection is believed when it says for whom it asks.
    pub(crate) vouches: bool,
    /// Through whom they came, the nearest first.
    pub(crate) between: [Option<IpAddr>; MOST_BETWEEN],
    /// Which request of theirs it is.
    pub(crate) number: RequestNumber,
}

impl Visitor {
    /// The one at the other end of a connection to a listener that understands these ways to ask for purges.
    pub(crate) fn of(stream: &Stream, dialects: Dialects) -> Self {
        let digest = stream.get_socket_digest();
        let digest = digest.as_deref();
        let client = digest.and_then(|digest| digest.peer_addr()?.as_inet().copied());
        let reached = digest.and_then(|digest| digest.local_addr()?.as_inet().copied());
        let nobody = Self::unknown(scheme(stream.get_ssl_digest().is_some()));
        let (address, port) = (client.map(|client| client.ip()), client.map_or(0, |client| client.port()));
        Self { address, port, reached, dialects, number: RequestNumber::of_connection(), ..nobody }
    }

    /// The one that we took for the visitor stands between us and this one.
    pub(crate) fn goes_through(&mut self, address: IpAddr) {
        if let (Some(proxy), Some(place)) =
            (self.address, self.between.iter_mut().find(|place| place.is_none()))
        {
            *place = Some(proxy);
        }
        self.address = Some(address);
        // That of the proxy, which says nothing of the visitor's.
        self.port = 0;
    }

    /// Them, as those for whom a connection to a node is made.
    pub(crate) fn behalf(&self) -> Behalf {
        let client = self.address.map(|address| SocketAddr::new(address, self.port));
        Behalf::Visitor { client, reached: self.reached }
    }

    /// Through whom they came, the nearest last.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = IpAddr> {
        self.between.into_iter().rev().flatten()
    }

    /// Of whom nothing is known but the scheme; purges may be asked for in all ways.
    pub(crate) const fn unknown(scheme: Scheme) -> Self {
        Self {
            address: None,
            port: 0,
            reached: None,
            scheme,
            dialects: Dialects::ALL,
            vouches: false,
            between: [None; MOST_BETWEEN],
            number: RequestNumber::NONE,
        }
    }
}

/// The scheme of a connection, by whether TLS is spoken on it.
pub(crate) const fn scheme(has_tls: bool) -> Scheme {
    if has_tls { Scheme::Https } else { Scheme::Http }
}

/// Writes an address as text, in pieces; one that stands for an IPv4 address as that. For every line of the access log and every
/// fetch, where the machinery of formatting would take longer than all the rest.
pub(crate) fn write_address(address: IpAddr, mut write: impl FnMut(&[u8])) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    write(b".");
                }
                write(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => write(address.to_string().as_bytes()),
    }
}
