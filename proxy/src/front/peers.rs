//! Proxies in front of us, and what they say of those for whom they ask.
//!
//! A proxy that is trusted names the client as the last one in `X-Forwarded-For` or `Forwarded`. If that is a trusted proxy too,
//! the one before it counts, and so on: the client is the last whom no trusted proxy stands for. What stands before it the
//! client itself may have written, and nobody hears of it.

use std::net::IpAddr;

use clearcoat_cache::Scheme;
use clearcoat_conf::{ClientHeader, Peer};
use smallvec::SmallVec;

use super::visitor::Visitor;
use crate::listen::head::Head;

/// Who may be at the other end of a listener's connections, and what is believed of whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    /// They begin with a PROXY header.
    pub(crate) announced: Vec<Peer>,
    /// They are believed.
    pub(crate) trusted: Vec<Peer>,
    pub(crate) header: ClientHeader,
}

/// One who is named: the client, or a proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Named<'a> {
    /// `None` where it hides, or cannot be read.
    address: Option<IpAddr>,
    /// How it came, as far as that stands beside its name.
    proto: Option<&'a [u8]>,
}

impl Peers {
    /// Whether connections from there begin with a PROXY header.
    pub(crate) fn announces(&self, address: Option<IpAddr>) -> bool {
        is_among(&self.announced, address)
    }

    /// Whether what comes from there is believed.
    pub(crate) fn trusts(&self, address: Option<IpAddr>) -> bool {
        is_among(&self.trusted, address)
    }

    /// Who asks with this head, over a connection of this visitor's.
    pub(crate) fn asker(&self, connection: Visitor, head: &Head<'_, '_>) -> Visitor {
        if !connection.vouches {
            return connection;
        }
        let named = match self.header {
            ClientHeader::XForwardedFor => forwarded_for(head),
            ClientHeader::Forwarded => forwarded(head),
        };
        let mut asker = connection;
        for Named { address, proto } in named.into_iter().rev() {
            // Whoever hides, or is named by nobody knows what, hides those before it as well.
            let Some(address) = address else { break };
            asker.goes_through(address);
            asker.scheme = proto.and_then(scheme).unwrap_or(asker.scheme);
            if !self.trusts(Some(address)) {
                break;
            }
        }
        asker
    }
}

fn is_among(peers: &[Peer], address: Option<IpAddr>) -> bool {
    if peers.is_empty() {
        return false;
    }
    let address = address.map(|address| address.to_canonical());
    peers.iter().any(|peer| match (peer, address) {
        (Peer::Net(net), Some(address)) => net.contains(&address),
        (Peer::Unix, None) => true,
        (Peer::Net(_), None) | (Peer::Unix, Some(_)) => false,
    })
}

fn scheme(word: &[u8]) -> Option<Scheme> {
    match word {
        _ if word.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
        _ if word.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
        _ => None,
    }
}

/// The values of all lines of this name, the first one first.
fn values<'b>(head: &'b Head<'_, '_>, name: &'static str) -> impl Iterator<Item = &'b [u8]> {
    head.headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
}

/// Those in `X-Forwarded-For`, the last being the one that our peer says it asks for.
fn forwarded_for<'b>(head: &'b Head<'_, '_>) -> SmallVec<[Named<'b>; 4]> {
    let list = |name| values(head, name).flat_map(|value| value.split(|byte| *byte == b','));
    let protos: SmallVec<[&[u8]; 4]> = list("x-forwarded-proto").map(<[u8]>::trim_ascii).collect();
    let mut named: SmallVec<[Named<'_>; 4]> = list("x-forwarded-for")
        .map(|name| Named { address: address(name.trim_ascii()), proto: None })
        .collect();
    // A proxy that adds to the one list and not to the other leaves it short: then what stands first is about the first.
    let ahead = named.len().saturating_sub(protos.len());
    for (place, name) in named.iter_mut().enumerate() {
        name.proto = protos.get(place.saturating_sub(ahead)).copied();
    }
    named
}

/// Those in `Forwarded` (RFC 7239 section 4), in the same order.
fn forwarded<'b>(head: &'b Head<'_, '_>) -> SmallVec<[Named<'b>; 4]> {
    values(head, "forwarded")
        .flat_map(|value| split(value, b','))
        .map(|element| {
            let mut named = Named { address: None, proto: None };
            for pair in split(element, b';') {
                let mut parts = pair.splitn(2, |byte| *byte == b'=');
                let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
                let value = unquoted(value.trim_ascii());
                match name.trim_ascii() {
                    name if name.eq_ignore_ascii_case(b"for") => named.address = address(value),
                    name if name.eq_ignore_ascii_case(b"proto") => named.proto = Some(value),
                    _ => {}
                }
            }
            named
        })
        .collect()
}

/// Splits at a byte, but not within quotes.
fn split(text: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        *byte == at && !quoted
    })
}

/// An address has nothing that would be escaped in quotes.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// An address with or without a port, IPv6 in brackets or, without a port, bare.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return if fits { address.parse().ok().map(IpAddr::V6) } else { None };
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address),
        Err(_) => text.parse::<std::net::SocketAddrV4>().ok().map(|address| IpAddr::V4(*address.ip())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    fn peers(header: ClientHeader) -> Peers {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec();
        Peers { announced: Vec::new(), trusted, header }
    }

    /// Who asks: scheme, address, and those between, the nearest last.
    fn asker(header: ClientHeader, from: &str, said: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{said}\r\n");
        let limits = HeadLimits { bytes: 1 << 16, count: 64, url_bytes: 1000 };
        let mut lines = lines();
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut lines, &limits) else {
            panic!("{said}");
        };
        let peers = peers(header);
        let address = Some(from.parse().unwrap());
        let vouches = peers.trusts(address);
        let asker = peers.asker(Visitor { address, vouches, ..Visitor::unknown(Scheme::Http) }, &head);
        let between: Vec<_> = asker.proxies().map(|address| address.to_string()).collect();
        format!("{} {} {}", asker.scheme.as_str(), asker.address.unwrap(), between.join(" "))
            .trim_end()
            .to_owned()
    }

    #[test]
    fn the_last_one_that_nobody_vouches_for_is_the_client() {
        for (from, said, expected) in [
            // Strangers are who they are.
            ("192.0.2.9", "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n", "http 192.0.2.9"),
            ("10.0.0.1", "", "http 10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "http 192.0.2.1 10.0.0.1"),
            (
                "10.0.0.1",
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: HTTPS\r\n",
                "https 192.0.2.1 10.0.0.1",
            ),
            // What stands before the client the client has written.
            ("10.0.0.1", "X-Forwarded-For: 127.0.0.1, 192.0.2.1\r\n", "http 192.0.2.1 10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 192.0.2.1\r\n", "http 192.0.2.1 10.0.0.1"),
            // Proxies behind each other, in one line and in two.
            (
                "10.0.0.1",
                "X-Forwarded-For: 127.0.0.1,192.0.2.1 , 10.0.0.2\r\n",
                "http 192.0.2.1 10.0.0.2 10.0.0.1",
            ),
            (
                "10.0.0.1",
                "x-forwarded-for: 192.0.2.1\r\nX-FORWARDED-FOR: 10.0.0.2\r\n",
                "http 192.0.2.1 10.0.0.2 10.0.0.1",
            ),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "http 10.0.0.3 10.0.0.2 10.0.0.1"),
            // Ports and brackets.
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1:4711\r\n", "http 192.0.2.1 10.0.0.1"),
            ("2001:db8::1", "X-Forwarded-For: [2001:db9::1]:80\r\n", "http 2001:db9::1 2001:db8::1"),
            ("10.0.0.1", "X-Forwarded-For: 2001:db9::1\r\n", "http 2001:db9::1 10.0.0.1"),
            ("::ffff:10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "http 192.0.2.1 ::ffff:10.0.0.1"),
            // Nobody knows who: then it is the one who does not say.
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1, unknown\r\n", "http 10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1, 10.0.0.2, _x\r\n", "http 10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1, bad, 10.0.0.2\r\n", "http 10.0.0.2 10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: \r\n", "http 10.0.0.1"),
            // How each came; a list that is short is about the first.
            (
                "10.0.0.1",
                "X-Forwarded-For: 192.0.2.1, 10.0.0.2\r\nX-Forwarded-Proto: https, http\r\n",
                "https 192.0.2.1 10.0.0.2 10.0.0.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 192.0.2.1, 10.0.0.2\r\nX-Forwarded-Proto: https\r\n",
                "https 192.0.2.1 10.0.0.2 10.0.0.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 127.0.0.1, 192.0.2.1\r\nX-Forwarded-Proto: https, http\r\n",
                "http 192.0.2.1 10.0.0.1",
            ),
            (
                "10.0.0.1",
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: gopher\r\n",
                "http 192.0.2.1 10.0.0.1",
            ),
            // The other header says nothing.
            ("10.0.0.1", "Forwarded: for=192.0.2.1;proto=https\r\n", "http 10.0.0.1"),
        ] {
            assert_eq!(asker(ClientHeader::XForwardedFor, from, said), expected, "{from}: {said}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        for (said, expected) in [
            ("Forwarded: for=192.0.2.1;proto=https;by=203.0.113.43\r\n", "https 192.0.2.1 10.0.0.1"),
            ("Forwarded: For=\"[2001:db9:cafe::17]:4711\"\r\n", "http 2001:db9:cafe::17 10.0.0.1"),
            (
                "Forwarded: for=127.0.0.1, for=192.0.2.43, for=10.0.0.2\r\n",
                "http 192.0.2.43 10.0.0.2 10.0.0.1",
            ),
            (
                "Forwarded: for=192.0.2.43;proto=https\r\nForwarded: for=10.0.0.2;proto=http\r\n",
                "https 192.0.2.43 10.0.0.2 10.0.0.1",
            ),
            (
                "Forwarded: for=\"x, for=192.0.2.2\";host=\"a;b\", for=192.0.2.1\r\n",
                "http 192.0.2.1 10.0.0.1",
            ),
            ("Forwarded: for=_hidden\r\n", "http 10.0.0.1"),
            ("Forwarded: proto=https\r\n", "http 10.0.0.1"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "http 10.0.0.1"),
        ] {
            assert_eq!(asker(ClientHeader::Forwarded, "10.0.0.1", said), expected, "{said}");
        }
    }

    #[test]
    fn unix_sockets_are_peers_of_their_own() {
        let unix = [Peer::Unix];
        let all = ["0.0.0.0/0", "::/0"].map(|net| net.parse::<Peer>().unwrap());
        assert!(is_among(&unix, None) && !is_among(&all, None));
        assert!(
            is_among(&all, Some(IpAddr::from([1, 2, 3, 4])))
                && !is_among(&unix, Some(IpAddr::from([1, 2, 3, 4])))
        );
    }

    proptest! {
        #[test]
        fn whatever_is_said_nobody_trusted_is_skipped(said in "[ -~]{0,60}", header in any::<bool>()) {
            let header = if header { ClientHeader::Forwarded } else { ClientHeader::XForwardedFor };
            let line = format!("{}: {said}\r\n", header.as_str());
            let said = asker(header, "10.0.0.1", &line);
            // Everybody between is one of those who are trusted.
            let between = said.split(' ').skip(2).map(|text| text.parse().unwrap());
            for address in between {
                prop_assert!(peers(header).trusts(Some(address)), "{}", said);
            }
        }
    }
}
