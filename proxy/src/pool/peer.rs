//! A node's address and settings as the peer that pingora connects to.

use std::net::SocketAddr;
use std::path::PathBuf;

use pingora_core::upstreams::peer::{ALPN, HttpPeer};

use super::settings::{NodeAddress, NodeTls, Timeouts};

/// Where one connection goes: an address that needs no further look-up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why no connection can even be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The node's name was never resolved.
    #[error("the node's name has no address")]
    NoAddress,
    /// A socket path that is not UTF-8 or longer than the system allows.
    #[error("the socket path cannot be used")]
    SocketPath,
    /// The certificate of a node at a Unix socket has no name to be checked against.
    #[error("a node at a unix socket needs a server name to be verified by")]
    NoServerName,
}

/// The peer for `target`, one address of the node at `address`. HTTP/1.1 only: pingora keeps one stream per HTTP/2
/// connection anyway, and PHP's servers speak HTTP/1.
///
/// The peer's read timeout is `first_byte`, its write timeout `between_bytes`. Pingora applies these in its own proxy;
/// who drives a client session by hand sets them there.
///
/// # Errors
///
/// [`PeerError`] if the settings cannot be honoured.
pub(crate) fn peer(
    target: &Target,
    address: &NodeAddress,
    tls: Option<&NodeTls>,
    timeouts: &Timeouts,
) -> Result<HttpPeer, PeerError> {
    let server_name = match tls {
        None => String::new(),
        Some(NodeTls { sni: Some(name), .. }) => name.clone(),
        Some(tls) => match address {
            // An address is a name too: it is looked for in the certificate, and not sent (RFC 6066 section 3).
            NodeAddress::Ip(address) => address.ip().to_string(),
            NodeAddress::Name { host, .. } => host.clone(),
            // Pingora verifies nothing when the name is empty, so an empty one must not slip through.
            NodeAddress::Unix(_) if tls.verify => return Err(PeerError::NoServerName),
            NodeAddress::Unix(_) => String::new(),
        },
    };
    let mut peer = match target {
        Target::Tcp(address) => HttpPeer::new(*address, tls.is_some(), server_name),
        Target::Unix(path) => {
            let path = path.to_str().ok_or(PeerError::SocketPath)?;
            HttpPeer::new_uds(path, tls.is_some(), server_name).map_err(|_| PeerError::SocketPath)?
        }
    };
    let options = &mut peer.options;
    options.alpn = ALPN::H1;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.read_timeout = Some(timeouts.first_byte);
    options.write_timeout = Some(timeouts.between_bytes);
    options.idle_timeout = Some(timeouts.idle);
    if let Some(tls) = tls {
        options.verify_cert = tls.verify;
        options.verify_hostname = tls.verify;
        if let Some(ca) = &tls.ca {
            options.ca = Some(ca.certificates());
            // Pingora's key for reuse leaves the authorities out: a connection that one pool trusts must not serve
            // another that would not.
            peer.group_key = ca.fingerprint();
        }
    }
    Ok(peer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use pingora_core::upstreams::peer::Peer;

    use super::super::settings::TrustedCas;
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(1),
        first_byte: Duration::from_secs(2),
        between_bytes: Duration::from_secs(3),
        idle: Duration::from_secs(4),
    };

    fn ip() -> (Target, NodeAddress) {
        let address = SocketAddr::from(([10, 0, 0, 1], 443));
        (Target::Tcp(address), NodeAddress::Ip(address))
    }

    fn unix() -> (Target, NodeAddress) {
        (Target::Unix("/run/web.sock".into()), NodeAddress::Unix("/run/web.sock".into()))
    }

    fn named() -> (Target, NodeAddress) {
        (ip().0, NodeAddress::Name { host: "web-1".into(), port: 443 })
    }

    #[test]
    fn every_deadline_is_set() {
        let peer = peer(&ip().0, &ip().1, None, &TIMEOUTS).unwrap();
        assert_eq!(peer.connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.total_connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.options.read_timeout, Some(TIMEOUTS.first_byte));
        assert_eq!(peer.options.write_timeout, Some(TIMEOUTS.between_bytes));
        assert_eq!(peer.idle_timeout(), Some(TIMEOUTS.idle));
        assert!(!peer.tls());
    }

    #[test]
    fn the_name_to_verify_is_never_empty() {
        for ((target, address), verify, sni, expected) in [
            (ip(), true, None, Some("10.0.0.1")),
            (named(), true, None, Some("web-1")),
            (named(), true, Some("shop"), Some("shop")),
            (unix(), true, Some("shop"), Some("shop")),
            (unix(), true, None, None),
            (unix(), false, None, Some("")),
        ] {
            let tls = NodeTls { verify, sni: sni.map(str::to_owned), ca: None };
            let got = peer(&target, &address, Some(&tls), &TIMEOUTS).ok();
            assert_eq!(got.as_ref().map(|peer| peer.sni()), expected, "{address} {sni:?}");
            assert!(got.is_none_or(|peer| peer.tls() && peer.verify_cert() == verify), "{address}");
        }
    }

    #[test]
    fn connections_are_shared_only_with_who_trusts_the_same() {
        let key = |pem: Option<&[u8]>| {
            let ca = pem.map(|pem| TrustedCas::from_pem(pem).unwrap());
            let tls = NodeTls { verify: true, sni: None, ca };
            peer(&ip().0, &ip().1, Some(&tls), &TIMEOUTS).unwrap().reuse_hash()
        };
        let (one, two) = (include_bytes!("test/ca.pem"), include_bytes!("test/node.pem"));
        assert_eq!(key(Some(one)), key(Some(one)));
        assert_ne!(key(Some(one)), key(Some(two)));
        assert_ne!(key(Some(one)), key(None));
    }

    #[test]
    fn bad_socket_paths_are_errors() {
        let long = "x".repeat(200);
        for path in [long.as_str(), "nul\0"] {
            let address = NodeAddress::Unix(path.into());
            assert!(matches!(
                peer(&Target::Unix(path.into()), &address, None, &TIMEOUTS),
                Err(PeerError::SocketPath)
            ));
        }
    }
}
