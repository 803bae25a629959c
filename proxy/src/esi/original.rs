//! A visitor's request, as fragments are asked for in its name.

use std::sync::Arc;

use crate::front::visitor::Visitor;
use crate::listen::head::{self, Framing, Head, HeadLimits, MAX_HEADERS, Method, Names, Parsed};

/// A visitor's request, kept for the time when its head is gone from the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    /// A request head as HTTP/1 writes it, without the lines that fragments are not asked for with.
    head: Arc<[u8]>,
    pub(super) visitor: Visitor,
}

/// The visitor's lines that a fragment is asked for with: as they came, less those that are about the page's own body and what the
/// visitor has of it. Without `Accept-Encoding` too, so that what comes can be put into a page.
pub(super) fn lines<'h, 'b>(
    headers: &'h [httparse::Header<'b>],
) -> impl Iterator<Item = &'h httparse::Header<'b>> {
    const NOT_FOR_FRAGMENTS: [&str; 11] = [
        "accept-encoding",
        "content-length",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "transfer-encoding",
        "upgrade",
    ];
    headers
        .iter()
        .filter(|header| !NOT_FOR_FRAGMENTS.iter().any(|name| header.name.eq_ignore_ascii_case(name)))
}

impl Original {
    /// Keeps what is needed of a request.
    pub(crate) fn new(head: &Head<'_, '_>, visitor: Visitor) -> Self {
        let lines_bytes: usize = head.headers.iter().map(|line| line.name.len() + line.value.len() + 4).sum();
        let mut text = Vec::with_capacity(lines_bytes + head.target.len() + head.host.len() + 32);
        // The host of the request may not be that of its Host line; the others would not be listened to.
        for piece in [&b"GET "[..], head.target, b" HTTP/1.1\r\nHost: ", head.host, b"\r\n"] {
            text.extend_from_slice(piece);
        }
        for line in lines(head.headers).filter(|line| !line.name.eq_ignore_ascii_case("host")) {
            for piece in [line.name.as_bytes(), b": ", line.value, b"\r\n"] {
                text.extend_from_slice(piece);
            }
        }
        text.extend_from_slice(b"\r\n");
        Self { head: text.into(), visitor }
    }

    /// Looks at it as at a head in the buffer. `None` only for what no parser let through.
    pub(crate) fn with_head<T>(&self, look: impl FnOnce(&Head<'_, '_>) -> T) -> Option<T> {
        const LIMITS: HeadLimits =
            HeadLimits { bytes: usize::MAX, count: MAX_HEADERS, url_bytes: usize::MAX };
        let mut room = head::lines();
        match head::parse(&self.head, &mut room, &LIMITS) {
            Parsed::Complete(head) => Some(look(&head)),
            Parsed::Partial | Parsed::Refused(_) => None,
        }
    }
}

/// The request for a fragment: `page` with another host and target, and `headers` instead of its own.
pub(super) fn fragment_head<'b, 'h>(
    page: &Head<'b, '_>,
    headers: &'h [httparse::Header<'b>],
    host: &'b [u8],
    target: &'b [u8],
) -> Head<'b, 'h> {
    Head {
        method: Method::Get,
        host,
        target,
        version_11: page.version_11,
        close: false,
        upgrade: false,
        framing: Framing::None,
        names: Names::of(headers),
        headers,
        length: 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clearcoat_cache::Scheme;

    use super::*;

    #[test]
    fn a_request_is_kept_without_what_is_about_the_page() {
        let text = "HEAD http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\nCookie: a=1\r\nRange: bytes=0-1\r\n\
                    If-None-Match: \"1\"\r\nAccept-Encoding: gzip\r\nCookie: b=2\r\n\r\n";
        let limits = HeadLimits { bytes: 1000, count: 20, url_bytes: 100 };
        let mut room = head::lines();
        let Parsed::Complete(head) = head::parse(text.as_bytes(), &mut room, &limits) else { panic!() };
        let original = Original::new(&head, Visitor::unknown(Scheme::Http));
        let kept = original.with_head(|head| {
            assert_eq!(head.method, Method::Get);
            let lines = head
                .headers
                .iter()
                .map(|line| format!("{}: {}\n", line.name, String::from_utf8_lossy(line.value)));
            (head.host.to_vec(), head.target.to_vec(), lines.collect::<String>())
        });
        let (host, target, lines) = kept.unwrap();
        assert_eq!((&host[..], &target[..]), (&b"a.test"[..], &b"/x?y"[..]));
        assert_eq!(lines, "Host: a.test\nCookie: a=1\nCookie: b=2\n");
    }
}
