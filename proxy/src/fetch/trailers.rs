//! Fields behind the body of an answer (RFC 9110 section 6.5): which of them go on.
//!
//! They go to those who read the answer while it comes and have said that they take them (`TE: trailers`). None is stored, and none
//! becomes a header.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::is_hop_by_hop;

/// Lines that are read; an answer with more of them goes on without any.
const MOST_LINES: usize = 64;

/// What may not stand behind a body: what frames, routes or authenticates, says how long an answer holds, or changes what the
/// client keeps. Whoever minds it has acted on the head by then (RFC 9110 section 6.5.1).
const FORBIDDEN: [&str; 24] = [
    "age",
    "authorization",
    "cache-control",
    "cdn-cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "expires",
    "host",
    "link",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authentication-info",
    "refresh",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "surrogate-control",
    "vary",
    "warning",
    "www-authenticate",
];

/// Those of the lines behind a body that may go on; nothing if there are none. `hidden` tells those that visitors do not see.
pub(super) fn passable(lines: &[u8], hidden: impl Fn(&HeaderName) -> bool) -> Option<HeaderMap> {
    if lines.is_empty() {
        return None;
    }
    let block = [lines, b"\r\n"].concat();
    let mut room = [httparse::EMPTY_HEADER; MOST_LINES];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(&block, &mut room) else {
        return None;
    };
    let mut passed = HeaderMap::new();
    for line in lines {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(line.value))
        else {
            continue;
        };
        if !is_hop_by_hop(&name) && !FORBIDDEN.contains(&name.as_str()) && !hidden(&name) {
            passed.append(name, value);
        }
    }
    (!passed.is_empty()).then_some(passed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn passed(lines: &str) -> Vec<String> {
        let map = passable(lines.as_bytes(), |name| name == "xkey").unwrap_or_default();
        map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_tells_of_the_body_goes_on() {
        let lines = "Server-Timing: db;dur=53\r\nX-Checksum: abc\r\nx-checksum: def\r\nDigest: sha-256=x\r\n";
        let expected =
            ["server-timing: db;dur=53", "x-checksum: abc", "x-checksum: def", "digest: sha-256=x"];
        assert_eq!(passed(lines), expected);
    }

    #[test]
    fn what_should_have_been_said_before_does_not() {
        for name in FORBIDDEN.iter().chain(&[
            "xkey",
            "Transfer-Encoding",
            "Connection",
            "Trailer",
            "TE",
            "Keep-Alive",
        ]) {
            assert_eq!(passed(&format!("{name}: 1\r\n")), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_dropped_whole() {
        assert_eq!(passed(""), [""; 0]);
        assert_eq!(passed(&"a: b\r\n".repeat(MOST_LINES + 1)), [""; 0]);
        assert_eq!(passed("a: b\r\nbad name: c\r\n"), [""; 0]);
        assert_eq!(passed(&"a: b\r\n".repeat(MOST_LINES)).len(), MOST_LINES);
    }
}
