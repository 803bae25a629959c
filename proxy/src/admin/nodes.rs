//! What an operator can do to a node: drain it, switch it off, give it back to traffic.
//!
//! `POST /api/pools/POOL/nodes/NODE/STATE`, where NODE is the address as the configuration has it (percent-encoded
//! where it has a slash) and STATE is `ready`, `drain` or `disable`. It holds until it is changed again or the process
//! ends.

use super::http1::{Answer, Request};
use super::view::Observed;

/// What is wanted of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wish {
    /// Traffic, as its health allows.
    Ready,
    /// No new requests, unless no other node is left.
    Drain,
    /// No requests at all.
    Disable,
}

/// The answer, if the path is one of these.
pub(super) fn answer(request: &Request, observed: &dyn Observed) -> Option<Answer> {
    let rest = request.path.strip_prefix("/api/pools/")?;
    let mut parts = rest.split('/');
    let (pool, "nodes", node, wish, None) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let wish = match wish {
        "ready" => Wish::Ready,
        "drain" => Wish::Drain,
        "disable" => Wish::Disable,
        _ => return None,
    };
    if request.method != "POST" {
        return Some(Answer::method_not_allowed("POST"));
    }
    let node = decode(node);
    Some(if observed.set_node(pool, &node, wish) {
        Answer::text(200, "done")
    } else {
        Answer::text(404, format!("there is no node {node} in a pool {pool}; GET /api/status names them"))
    })
}

/// Percent-decoding, as far as an address needs it; what is not an escape stays.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = (*first == b'%').then(|| tail.get(..2)).flatten();
        let number = escape
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match number {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded() {
        for (text, expected) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("unix:%2Frun%2fx.sock", "unix:/run/x.sock"),
            ("a%", "a%"),
            ("a%2", "a%2"),
            ("a%+1", "a%+1"),
        ] {
            assert_eq!(decode(text), expected);
        }
    }
}
