//! The PROXY header that a connection to a node begins with, where the pool's nodes expect one: for whom it is made.
//!
//! The other side of [`proxied`](crate::listen::proxied), after the same text (HAProxy's `proxy-protocol.txt`, versions 1 and 2). The
//! header goes before TLS and in one write, since receivers may refuse one that comes in pieces. It speaks for all that follows on
//! the connection, so such a connection carries one request and is never kept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use pingora_core::connectors::l4::Connect;
use pingora_core::protocols::l4::socket::SocketAddr as L4Address;
use pingora_core::protocols::l4::stream::Stream;
use pingora_error::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A version of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ProxyVersion {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// For whom a connection to a node is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Behalf {
    /// For nobody who waits: a probe, or a page that is renewed behind the visitors' backs.
    Own,
    /// For somebody.
    Visitor {
        /// `None`: they came over a Unix socket. Port 0 where another than the connection told of them.
        client: Option<SocketAddr>,
        /// Where they were let in; `None` if that is no TCP address.
        reached: Option<SocketAddr>,
    },
}

impl ProxyVersion {
    /// The header for a connection that is made for this one.
    ///
    /// The client's address decides the family. Where the place that was reached has none of this family, which happens behind a
    /// Unix socket, or where a proxy tells of an IPv6 client by IPv4, the unspecified address stands in for it: nodes ask for the client.
    pub(super) fn header(self, behalf: Behalf) -> Vec<u8> {
        let (client, reached) = match behalf {
            Behalf::Own | Behalf::Visitor { client: None, .. } => (None, None),
            Behalf::Visitor { client, reached } => (client.map(plain), reached.map(plain)),
        };
        let port = reached.map_or(0, |reached| reached.port());
        // Client and server, of one family.
        let ends = client.map(|client| {
            let (unspecified, is_same): (IpAddr, fn(&SocketAddr) -> bool) = match client {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), SocketAddr::is_ipv4),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), SocketAddr::is_ipv6),
            };
            (client, reached.filter(is_same).unwrap_or(SocketAddr::new(unspecified, port)))
        });
        match self {
            Self::V1 => line(ends),
            Self::V2 => binary(behalf == Behalf::Own, ends),
        }
    }
}

/// IPv4 as such, also where a socket for both families shows it in IPv6's clothes.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn line(ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((client, server)) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let ports = (client.port(), server.port());
    format!("PROXY {family} {} {} {} {}\r\n", client.ip(), server.ip(), ports.0, ports.1).into_bytes()
}

fn binary(own: bool, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = Vec::with_capacity(52);
    header.extend_from_slice(SIGNATURE);
    // Version 2, with the command LOCAL or PROXY; then TCP over the family, or nothing that is specified; then the length of the rest.
    header.push(if own { 0x20 } else { 0x21 });
    match ends {
        None => header.extend_from_slice(&[0x00, 0, 0]),
        Some((client, _)) if client.is_ipv4() => header.extend_from_slice(&[0x11, 0, 12]),
        Some(_) => header.extend_from_slice(&[0x21, 0, 36]),
    }
    if let Some((client, server)) = ends {
        for end in [client, server] {
            match end.ip() {
                IpAddr::V4(address) => header.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => header.extend_from_slice(&address.octets()),
            }
        }
        for end in [client, server] {
            header.extend_from_slice(&end.port().to_be_bytes());
        }
    }
    header
}

/// Connects in pingora's place, which has no room for bytes before TLS. The peer's limit for the whole of connecting holds here too.
#[derive(Debug)]
pub(super) struct Announcing {
    pub(super) header: Vec<u8>,
}

#[async_trait]
impl Connect for Announcing {
    async fn connect(&self, address: &L4Address) -> Result<Stream> {
        let failed = |error: io::Error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, format!("connecting to {address}"), error).into_up()
        };
        match address {
            L4Address::Inet(address) => {
                let mut stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                stream.write_all(&self.header).await.map_err(failed)?;
                Ok(stream.into())
            }
            L4Address::Unix(address) => {
                let path =
                    address.as_pathname().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
                let mut stream = UnixStream::connect(path).await.map_err(failed)?;
                stream.write_all(&self.header).await.map_err(failed)?;
                Ok(stream.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::listen::proxied::{Proxied, parse_binary, parse_line};

    fn visitor(client: &str, reached: &str) -> Behalf {
        Behalf::Visitor { client: client.parse().ok(), reached: reached.parse().ok() }
    }

    #[test]
    fn lines_are_written_as_they_are_read() {
        for (behalf, expected) in [
            (visitor("192.0.2.1:56324", "198.51.100.2:443"), "TCP4 192.0.2.1 198.51.100.2 56324 443"),
            (visitor("[2001:db8::1]:5", "[::1]:80"), "TCP6 2001:db8::1 ::1 5 80"),
            // A socket for both families.
            (visitor("[::ffff:192.0.2.1]:5", "[::ffff:192.0.2.9]:80"), "TCP4 192.0.2.1 192.0.2.9 5 80"),
            // A proxy told of the one, and came itself by the other family.
            (visitor("192.0.2.1:0", "[2001:db8::9]:80"), "TCP4 192.0.2.1 0.0.0.0 0 80"),
            (visitor("[2001:db8::1]:0", "192.0.2.9:80"), "TCP6 2001:db8::1 :: 0 80"),
            (visitor("192.0.2.1:0", "a unix socket"), "TCP4 192.0.2.1 0.0.0.0 0 0"),
            (visitor("nobody", "192.0.2.9:80"), "UNKNOWN"),
            (visitor("nobody", "nowhere"), "UNKNOWN"),
            (Behalf::Own, "UNKNOWN"),
        ] {
            let line = ProxyVersion::V1.header(behalf);
            assert_eq!(String::from_utf8_lossy(&line), format!("PROXY {expected}\r\n"), "{behalf:?}");
            parse_line(&line).unwrap();
        }
    }

    #[test]
    fn bytes_say_the_same() {
        for behalf in [
            visitor("192.0.2.1:56324", "198.51.100.2:443"),
            visitor("[2001:db8::1]:5", "[::1]:80"),
            visitor("[::ffff:192.0.2.1]:5", "[2001:db8::9]:80"),
            visitor("192.0.2.1:0", "a unix socket"),
            visitor("nobody", "192.0.2.9:80"),
            Behalf::Own,
        ] {
            let text: Proxied = parse_line(&ProxyVersion::V1.header(behalf)).unwrap();
            let bytes = ProxyVersion::V2.header(behalf);
            assert_eq!(parse_binary(&bytes).unwrap(), text, "{behalf:?}");
            assert_eq!(bytes[12], if behalf == Behalf::Own { 0x20 } else { 0x21 }, "{behalf:?}");
        }
    }
}
