//! Conditional requests that are answered from memory (RFC 9110 section 13).

use std::time::SystemTime;

use clearcoat_cache::SelectingHeaders;
use http::HeaderMap;
use http::header::{self, HeaderName};

/// Whether the client has this very answer already, so that 304 is what it gets. `head` is the answer's serialised
/// head.
///
/// If-None-Match, compared weakly, decides alone where it stands; else If-Modified-Since (section 13.2.2), against
/// Last-Modified or, where there is none, against Date (RFC 9111 section 4.3.2). Only a 200 can be "not modified".
/// Other conditions are for the node and do not come here as such: the whole answer is a right one to them too.
pub(crate) fn is_not_modified(status: u16, head: &[u8], request: &dyn SelectingHeaders) -> bool {
    if status != 200 {
        return false;
    }
    let (mut asked, mut matched) = (false, false);
    let mut own = None;
    request.visit("if-none-match", &mut |list| {
        let own = *own.get_or_insert_with(|| line(head, b"etag"));
        asked = true;
        matched |= list.trim_ascii() == b"*"
            || own.is_some_and(|own| entity_tags(list).any(|tag| tag == opaque(own)));
    });
    if asked {
        return matched;
    }
    let (mut first, mut since) = (true, None);
    request.visit("if-modified-since", &mut |value| {
        if std::mem::take(&mut first) {
            since = date(value);
        }
    });
    let Some(since) = since else { return false };
    let modified = line(head, b"last-modified").or_else(|| line(head, b"date")).and_then(date);
    modified.is_some_and(|modified| modified <= since)
}

/// What a request says of the copy that its client has and of the codings that it takes, kept for the time when the
/// answer is there.
pub(crate) fn conditions(headers: &HeaderMap) -> HeaderMap {
    const NAMES: [HeaderName; 3] =
        [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::ACCEPT_ENCODING];
    let mut kept = HeaderMap::new();
    for name in NAMES {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Whether a line of a serialised head has this name, given in lower case and with its colon.
pub(crate) fn is_named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Whether a header line of an entry belongs on a 304: those that tell of the body do not (section 15.4.5).
pub(crate) fn belongs_on_not_modified(line: &[u8]) -> bool {
    const BODY: [&[u8]; 5] =
        [b"content-length:", b"content-type:", b"content-encoding:", b"content-language:", b"content-range:"];
    !BODY.iter().any(|name| is_named(line, name))
}

/// The value of the first line of this name in a serialised head.
pub(super) fn line<'a>(head: &'a [u8], name: &'a [u8]) -> Option<&'a [u8]> {
    lines(head, name).next()
}

/// The values of all lines of this name in a serialised head.
pub(crate) fn lines<'a>(head: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).filter_map(move |line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then_some(value.trim_ascii())
    })
}

/// The opaque part of an entity tag, quotes included.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The opaque parts of a list of entity tags. A comma may stand inside the quotes.
fn entity_tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = memchr::memchr(b'"', rest)?;
        let end = start + 1 + memchr::memchr(b'"', &rest[start + 1..])?;
        let tag = &rest[start..=end];
        rest = &rest[end + 1..];
        Some(tag)
    })
}

pub(super) fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    #[track_caller]
    fn check(own: &str, condition: &str, expected: bool) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{condition}\r\n\r\n");
        let mut room = lines();
        let limits = HeadLimits { bytes: 1000, count: 10, url_bytes: 100 };
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut room, &limits) else { panic!("{text}") };
        let own = format!("HTTP/1.1 200 OK\r\n{own}\r\nContent-Length: 0\r\n");
        assert_eq!(is_not_modified(200, own.as_bytes(), &head), expected, "{own} / {condition}");
        assert!(!is_not_modified(404, own.as_bytes(), &head), "{own} / {condition}");
    }

    #[test]
    fn conditions_are_read() {
        check("ETag: \"a\"", "If-None-Match: \"a\"", true);
        check("ETag: \"a\"", "If-None-Match: W/\"a\"", true);
        check("Etag: W/\"a\"", "If-None-Match: \"b\", \"a\"", true);
        check("ETag: \"a,b\"", "If-None-Match: \"x\",\"a,b\"", true);
        check("ETag: \"a\"", "If-None-Match: *", true);
        check("ETag: \"a\"", "If-None-Match: \"b\"", false);
        check("ETag: \"a\"", "If-None-Match: a", false);
        check("ETag: \"a\"", "If-None-Match: \"a", false);
        check("X: y", "If-None-Match: \"a\"", false);
        let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
        check(modified, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", true);
        check(modified, "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", false);
        check(modified, "If-Modified-Since: yesterday", false);
        let sent = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
        check(sent, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", true);
        check(sent, "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", false);
        // The entity tag decides alone.
        check(modified, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nIf-None-Match: \"a\"", false);
    }

    #[test]
    fn lines_about_the_body_stay_away() {
        for (line, expected) in [
            ("Content-Length: 5", false),
            ("content-type: text/html", false),
            ("Content-Location: /a", true),
            ("ETag: \"a\"", true),
            ("", true),
        ] {
            assert_eq!(belongs_on_not_modified(line.as_bytes()), expected, "{line}");
        }
    }
}
