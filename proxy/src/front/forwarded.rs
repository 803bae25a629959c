//! `Forwarded` (RFC 7239), as nodes are told it where their pool asks for it: what `X-Forwarded-*` tells, in one line.
//!
//! One element for each hop, the client's first. The client's says by which host and scheme the page was asked for, which is all
//! that a node may take for its own URL; of the proxies behind it their addresses alone are known.

use std::net::IpAddr;

use super::visitor::{Visitor, write_address};

/// The line's value for a request of this one, who asked for this host.
pub(super) fn value(host: &str, visitor: Visitor) -> Vec<u8> {
    let mut line = Vec::with_capacity(96);
    push_node(&mut line, visitor.address);
    // A port's colon has to be quoted (section 4), so all hosts are.
    line.extend_from_slice(b";host=\"");
    for byte in host.bytes() {
        if matches!(byte, b'"' | b'\\') {
            line.push(b'\\');
        }
        line.push(byte);
    }
    line.extend_from_slice(b"\";proto=");
    line.extend_from_slice(visitor.scheme.as_str().as_bytes());
    for proxy in visitor.proxies() {
        line.extend_from_slice(b", ");
        push_node(&mut line, Some(proxy));
    }
    line
}

/// Names the one who made the request of a hop (section 6): IPv6 in brackets and quotes. Who came over a Unix socket has no address.
fn push_node(line: &mut Vec<u8>, address: Option<IpAddr>) {
    line.extend_from_slice(b"for=");
    let (before, after): (&[u8], &[u8]) = match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(_)) => (b"\"[", b"]\""),
        Some(IpAddr::V4(_)) => (b"", b""),
        None => (b"unknown", b""),
    };
    line.extend_from_slice(before);
    if let Some(address) = address {
        write_address(address, |piece| line.extend_from_slice(piece));
    }
    line.extend_from_slice(after);
}

#[cfg(test)]
mod tests {
    use clearcoat_cache::Scheme;

    use super::*;

    #[test]
    fn lines_are_as_the_rfc_has_them() {
        for (chain, scheme, host, expected) in [
            (&["192.0.2.1"][..], Scheme::Http, "a.test", "for=192.0.2.1;host=\"a.test\";proto=http"),
            (&["::ffff:192.0.2.1"], Scheme::Http, "a.test", "for=192.0.2.1;host=\"a.test\";proto=http"),
            (
                &["2001:db8::7"],
                Scheme::Https,
                "a.test:8443",
                "for=\"[2001:db8::7]\";host=\"a.test:8443\";proto=https",
            ),
            (
                &["10.0.0.2", "2001:db8::2", "192.0.2.1"],
                Scheme::Https,
                "a.test",
                "for=192.0.2.1;host=\"a.test\";proto=https, for=\"[2001:db8::2]\", for=10.0.0.2",
            ),
            (&[], Scheme::Http, "a.test", "for=unknown;host=\"a.test\";proto=http"),
            (&[], Scheme::Http, "a\"b\\", "for=unknown;host=\"a\\\"b\\\\\";proto=http"),
        ] {
            // The nearest first, as they are met.
            let mut visitor = Visitor::unknown(scheme);
            for address in chain.iter().filter_map(|address| address.parse().ok()) {
                visitor.goes_through(address);
            }
            assert_eq!(String::from_utf8_lossy(&value(host, visitor)), expected);
        }
    }
}
