//! Asking a node whether a stored entry is still right, and taking over what it says (RFC 9111 section 4.3).

use clearcoat_cache::Entry;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::encode::without_accept_encoding;
use crate::front::context::delivery::Delivery;

/// Header lines of a 304 that say something of a body that it does not have; those of the entry stay (section 3.2).
const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];

/// Makes a request conditional on `entry` having changed. Without a validator in the entry it stays as it is, and the
/// node answers in full.
///
/// # Errors
///
/// None with lines that were parsed once; pingora's type allows for one.
pub(super) fn add_conditions(request: &mut RequestHeader, entry: &Entry) -> Result<()> {
    let stored = headers(entry);
    if let Some(tag) = stored.get(header::ETAG) {
        request.insert_header(header::IF_NONE_MATCH, tag.clone())?;
    }
    if let Some(date) = stored.get(header::LAST_MODIFIED) {
        request.insert_header(header::IF_MODIFIED_SINCE, date.clone())?;
    }
    Ok(())
}

/// The same as lines, for people.
pub(crate) fn conditions(entry: &Entry) -> Vec<String> {
    let Ok(mut request) = RequestHeader::build("GET", b"/", None) else { return Vec::new() };
    if add_conditions(&mut request, entry).is_err() {
        return Vec::new();
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    [("If-None-Match", header::IF_NONE_MATCH), ("If-Modified-Since", header::IF_MODIFIED_SINCE)]
        .iter()
        .filter_map(|(shown, name)| Some(format!("{shown}: {}", text(request.headers.get(name)?))))
        .collect()
}

/// The head of `entry` brought up to date by a 304 (section 4.3.4): each line of the 304 takes the place of those of
/// the same name.
///
/// # Errors
///
/// None with an entry that was stored from a parsed answer; pingora's type allows for one.
pub(super) fn freshened(
    entry: &Entry,
    not_modified: &HeaderMap,
    delivery: &Delivery,
) -> Result<ResponseHeader> {
    let mut merged = headers(entry);
    // It is not in the head, and variants are told apart by it.
    delivery.restore(&mut merged, entry.audience());
    merged.remove(header::CONTENT_LENGTH);
    for name in not_modified.keys().filter(|name| !OF_THE_BODY.contains(name)) {
        merged.remove(name);
        for value in not_modified.get_all(name) {
            merged.append(name.clone(), value.clone());
        }
    }
    let status = StatusCode::from_u16(entry.status()).unwrap_or(StatusCode::OK);
    let mut head = ResponseHeader::build(status, Some(merged.len() + 1))?;
    head.set_version(Version::HTTP_11);
    for (name, value) in &merged {
        head.append_header(name.clone(), value.clone())?;
    }
    head.insert_header(header::CONTENT_LENGTH, entry.body().len())?;
    Ok(head)
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
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        let entry = entry("Etag: W/\"1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        add_conditions(&mut request, &entry).unwrap();
        assert_eq!(request.headers["if-none-match"], "W/\"1\"");
        assert_eq!(request.headers["if-modified-since"], "Sun, 06 Nov 1994 08:49:37 GMT");
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
        let head = freshened(&entry, &update, &Delivery::default()).unwrap();
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
