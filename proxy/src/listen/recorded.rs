//! What the access log is told of an HTTP/1 request.

use http::header::HeaderName;

use super::head::{Head, Method};
use crate::access::{Asked, Version};
use crate::front::request_id::RequestIds;
use crate::front::visitor::Visitor;

/// Bytes of an unreadable head in which the end of its first line is looked for.
const LINE_BYTES: usize = 4096 + 1;

/// Of a request whose head was read.
pub(crate) fn head<'b>(head: &Head<'b, '_>, visitor: Visitor, ids: &RequestIds) -> Asked<'b> {
    let mut asked = Asked {
        client: visitor.address,
        method: match head.method {
            Method::Get => b"GET",
            Method::Head => b"HEAD",
            Method::Other(method) => method.as_bytes(),
        },
        target: head.target,
        version: if head.version_11 { Version::Http11 } else { Version::Http10 },
        host: head.host,
        request_id: ids.of(visitor, values(head, &ids.header)),
        ..Asked::default()
    };
    for line in head.headers {
        asked.header(line.name, line.value);
    }
    asked
}

/// The values of the lines of a name.
fn values<'b>(head: &Head<'b, '_>, name: &HeaderName) -> impl Iterator<Item = &'b [u8]> {
    head.headers
        .iter()
        .filter(|line| {
            line.name.len() == name.as_str().len() && line.name.eq_ignore_ascii_case(name.as_str())
        })
        .map(|line| line.value)
}

/// Of one whose head could not be read, or did not come to its end: what there is of its first line.
pub(super) fn first_line(input: &[u8], visitor: Visitor) -> Asked<'_> {
    let begin = &input[..input.len().min(LINE_BYTES)];
    let line = begin.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Asked { client: visitor.address, target: line.strip_suffix(b"\r").unwrap_or(line), ..Asked::default() }
}

#[cfg(test)]
mod tests {
    use clearcoat_cache::Scheme;

    use super::super::head::{HeadLimits, Parsed, lines, parse};
    use super::*;

    const NOBODY: Visitor = Visitor::unknown(Scheme::Http);

    #[test]
    fn a_head_is_taken_apart() {
        let text =
            b"REPORT http://A.test/x?y HTTP/1.0\r\nHost: a.test\r\nReferer: r\r\nuser-agent: u\r\nX-Request-ID: 1\r\n\r\n";
        let mut lines = lines();
        let limits = HeadLimits { bytes: 1000, count: 10, url_bytes: 100 };
        let Parsed::Complete(parsed) = parse(text, &mut lines, &limits) else { panic!("not a head") };
        let ids = RequestIds { enabled: false, ..RequestIds::default() };
        let asked = head(&parsed, NOBODY, &ids);
        assert_eq!((asked.method, asked.target, asked.host), (&b"REPORT"[..], &b"/x?y"[..], &b"A.test"[..]));
        assert_eq!((asked.referer, asked.user_agent), (&b"r"[..], &b"u"[..]));
        assert_eq!(asked.request_id.with(<[u8]>::to_vec), b"1");
        let trusted = Visitor { vouches: true, ..NOBODY };
        assert_eq!(head(&parsed, trusted, &RequestIds::default()).request_id.with(<[u8]>::to_vec), b"1");
        assert_eq!(asked.version, Version::Http10);
    }

    #[test]
    fn a_first_line_is_found() {
        let long = vec![b'x'; 10_000];
        for (input, expected) in [
            (&b"GET /a\r\nHost"[..], &b"GET /a"[..]),
            (b"GET /a\nHost", b"GET /a"),
            (b"GET /a", b"GET /a"),
            (b"", b""),
            (&long, &long[..LINE_BYTES]),
        ] {
            assert_eq!(first_line(input, NOBODY).target, expected);
        }
    }
}
