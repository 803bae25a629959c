//! Asking a node whether a stored entry is still right, and taking over what it says (RFC 9111 section 4.3).

use clearcoat_cache::Entry;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::wire::NodeHead;
use crate::encode::without_accept_encoding;
use crate::front::context::delivery::Delivery;

/// Header lines of a 304 that say something of a body that it does not have; those of the entry stay (section 3.2).
const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];

/// The lines that make a request conditional on `entry` having changed. Without a validator in the entry there are none, and
/// the node answers in full.
pub(super) fn conditions_of(entry: &Entry) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut stored = headers(entry);
    [(header::IF_NONE_MATCH, header::ETAG), (header::IF_MODIFIED_SINCE, header::LAST_MODIFIED)]
        .into_iter()
        .filter_map(move |(condition, validator)| Some((condition, stored.remove(validator)?)))
}

/// The same as lines, for people.
pub(crate) fn conditions(entry: &Entry) -> Vec<String> {
    let shown = |name: &HeaderName| {
        if *name == header::IF_NONE_MATCH { "If-None-Match" } else { "If-Modified-Since" }
    };
    conditions_of(entry)
        .map(|(name, value)| format!("{}: {}", shown(&name), String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// The head of `entry` brought up to date by a 304 (section 4.3.4): each line of the 304 takes the place of those of
/// the same name.
pub(super) fn freshened(entry: &Entry, not_modified: &HeaderMap, delivery: &Delivery) -> NodeHead {
    let mut merged = headers(entry);
    // It is not in the head, and variants are told apart by it.
    delivery.restore(&mut merged, entry.audience());
    for name in not_modified.keys().filter(|name| !OF_THE_BODY.contains(name)) {
        merged.remove(name);
        for value in not_modified.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    merged.insert(header::CONTENT_LENGTH, entry.body().len().into());
    NodeHead::new(StatusCode::from_u16(entry.status()).unwrap_or(StatusCode::OK), merged)
}

/// The header lines of an entry, parsed again; done only when it is revalidated.
fn headers(entry: &Entry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in entry.head().split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    if entry.vary_added() {
        // It is not the node's, and variants are told apart by what the node says.
        without_accept_encoding(&mut headers);
    }
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use bytes::Bytes;
    use clearcoat_cache::{CacheKey, EntryParts, Lifetime, Moment, VariantKey};

    use super::*;

    fn entry(lines: &str) -> Entry {
        Entry::new(EntryParts {
            key: CacheKey::from_number(1),
            variant: VariantKey::NONE,
            url: "http://a/".into(),
            status: 203,
            head: Bytes::from(format!("HTTP/1.1 203 X\r\n{lines}Content-Length: 4\r\n")),
            body: Bytes::from_static(b"body"),
            tags: Box::default(),
            stored: Moment::ZERO,
            lifetime: Lifetime { ttl: Duration::from_secs(1), ..Lifetime::default() },
        })
    }

    #[test]
    fn validators_become_conditions() {
        let entry = entry("Etag: W/\"1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(
            conditions(&entry),
            ["If-None-Match: W/\"1\"", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]
        );
    }

    #[test]
    fn a_304_replaces_lines_of_its_names_and_leaves_the_body_alone() {
        let entry = entry("Content-Type: text/html\r\nX-A: 1\r\nX-A: 2\r\nX-B: 3\r\n");
        let mut update = HeaderMap::new();
        for (name, value) in [
            ("x-a", "4"),
            ("x-c", "5"),
            ("x-c", "6"),
            ("content-length", "0"),
            ("content-type", "text/plain"),
        ] {
            update.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let head = freshened(&entry, &update, &Delivery::default());
        let values = |name: &str| -> Vec<&str> {
            head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!(head.status, 203);
        assert_eq!(values("x-a"), ["4"]);
        assert_eq!(values("x-b"), ["3"]);
        assert_eq!(values("x-c"), ["5", "6"]);
        assert_eq!(values("content-length"), ["4"]);
        assert_eq!(values("content-type"), ["text/html"]);
    }
}
