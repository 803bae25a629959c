//! How HTTP/2 is told from HTTP/1 on a plain connection: by its first bytes (RFC 9113 section 3.3).

/// What a client that knows of HTTP/2 beforehand sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::listen) enum Spoken {
    /// It can be either yet.
    Unknown,
    Http1,
    Http2,
}

/// What is spoken on a connection that begins with `bytes`.
pub(in crate::listen) fn spoken(bytes: &[u8]) -> Spoken {
    let length = bytes.len().min(PREFACE.len());
    match bytes[..length] == PREFACE[..length] {
        false => Spoken::Http1,
        true if length < PREFACE.len() => Spoken::Unknown,
        true => Spoken::Http2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_as_soon_as_it_can_be() {
        for (bytes, expected) in [
            (&b""[..], Spoken::Unknown),
            (b"P", Spoken::Unknown),
            (b"PO", Spoken::Http1),
            (b"GET / HTTP/1.1\r\n", Spoken::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Spoken::Unknown),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Spoken::Http1),
            (PREFACE, Spoken::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Spoken::Http2),
        ] {
            assert_eq!(spoken(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
