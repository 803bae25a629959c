//! One function for each thing that reads what strangers send: it takes any bytes, and panics if a promise is broken.
//!
//! `targets/` hands them to libFuzzer (`tests/fuzz/run`); a test hands them what is kept in `corpus/`, which is what the fuzzer
//! found worth keeping.

mod naive;

use std::collections::HashSet;
use std::net::IpAddr;

use clearcoat::measured;
use clearcoat_cache::structured::{Dictionary, MAX_MEMBERS};
use clearcoat_cache::{CacheKey, Condition as _, Page, Tag, collect_tags, split_tags};
use clearcoat_purge::{Dialect, Dialects, PurgeRequest, Reader};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders.
pub const TARGETS: [(&str, Target); 10] = [
    ("tags", tags),
    ("dialects", dialects),
    ("esi", esi),
    ("structured", structured),
    ("head", head),
    ("memcached", memcached),
    ("proxied", proxied),
    ("forwarded", forwarded),
    ("filter", filter),
    ("chunked", chunked),
];

/// Both sides of memcached's protocols: what web nodes send to the endpoint for sessions, and what servers answer. The first byte says
/// in pieces of what size.
pub fn memcached(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let piece = usize::from(piece) + 1;
    let whole = measured::session_answers(bytes, usize::MAX).unwrap_or_default();
    let in_pieces = measured::session_answers(bytes, piece).unwrap_or_default();
    assert!(
        whole == in_pieces,
        "in pieces of {piece}: {} {}",
        whole.escape_ascii(),
        in_pieces.escape_ascii()
    );
    // Nothing is stored, so nothing that was not said is answered: a line of ours for a line, at most.
    assert!(whole.len() <= 64 * (bytes.len() + 1) + 4096, "{} bytes for {}", whole.len(), bytes.len());
    assert_eq!(measured::memcached_answers(bytes, usize::MAX), measured::memcached_answers(bytes, piece));
}

/// The PROXY header. The first byte says in pieces of what size it comes.
pub fn proxied(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let (read, left) = measured::proxy_header(bytes, usize::from(piece) + 1);
    let whole = measured::proxy_header(bytes, usize::MAX);
    assert_eq!(whole.0, read, "in pieces of {piece}");
    // Behind what is none the connection ends, and nothing is left to anybody.
    if read.is_some() {
        assert_eq!(whole.1, left, "in pieces of {piece}");
        // Nothing behind it was touched, and nothing behind it counts.
        let header = &bytes[..bytes.len() - left];
        assert_eq!(measured::proxy_header(header, 1), (read, 0));
        let cut = header.split_last().map_or(header, |(_, rest)| rest);
        assert_eq!(measured::proxy_header(cut, 1).0, None);
    }
}

/// `X-Forwarded-For` and `Forwarded` from a trusted proxy, as header lines.
pub fn forwarded(data: &[u8]) {
    for forwarded in [false, true] {
        let Some((_, proxies)) = measured::asker(data, forwarded) else { return };
        for proxy in proxies {
            let trusted = matches!(proxy.to_canonical(), IpAddr::V4(address) if address.octets()[0] == 10);
            assert!(trusted, "{proxy} is not one of those who are trusted");
        }
    }
}

/// Filters of the log. Where one cannot be read, its place is one of the text.
pub fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match measured::log_filter(text, data) {
        Ok(wants) => {
            // Said twice, it says the opposite of its opposite, unless that is too long or too deep.
            let opposite = measured::log_filter(&format!("!({text})"), data);
            assert!(text.trim().is_empty() || opposite.is_err() || opposite == Ok(!wants), "{text:?}");
        }
        Err(told) => {
            let mut lines = told.lines().skip(1);
            let (shown, mark) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            let place = mark.chars().take_while(|character| *character == ' ').count();
            assert!(place <= shown.chars().count(), "{told}");
        }
    }
}

/// The most bytes of tags that the first target lets through.
const MAX_TAG_BYTES: usize = 4096;

/// Lists of tags, a line of the header a line.
pub fn tags(data: &[u8]) {
    let xkey = HeaderName::from_static("xkey");
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(1000) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(&xkey, value);
        }
    }
    let bytes: usize = headers.values().map(HeaderValue::len).sum();
    match collect_tags(&headers, std::slice::from_ref(&xkey), MAX_TAG_BYTES) {
        Err(_) => assert!(
            bytes > MAX_TAG_BYTES
                || headers
                    .values()
                    .flat_map(|line| split_tags(line.as_bytes()))
                    .any(|tag| Tag::new(tag).is_err())
        ),
        Ok(tags) => {
            assert!(bytes <= MAX_TAG_BYTES);
            let distinct: HashSet<&[u8]> = tags.iter().map(Tag::as_bytes).collect();
            assert_eq!(distinct.len(), tags.len(), "each once");
            for tag in &tags {
                let again: Vec<&[u8]> = split_tags(tag.as_bytes()).collect();
                assert_eq!(again, [tag.as_bytes()], "a tag is one word");
            }
            // None is lost: what a purge of it would name is there.
            for word in headers.values().flat_map(|line| split_tags(line.as_bytes())) {
                assert!(distinct.contains(word));
            }
        }
    }
}

/// Purge requests: the first byte chooses dialects, the first line is the method, `name: value` the others.
pub fn dialects(data: &[u8]) {
    let Some((&chosen, text)) = data.split_first() else { return };
    let all = [
        Dialect::Purge,
        Dialect::PurgeKeys,
        Dialect::Ban,
        Dialect::Key,
        Dialect::LocationId,
        Dialect::SurrogateKey,
    ];
    let dialects: Dialects = all
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| chosen & 1 << bit != 0)
        .map(|(_, dialect)| dialect)
        .collect();
    let mut lines = text.split(|byte| *byte == b'\n');
    let method = lines.next().map(String::from_utf8_lossy).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let reader = Reader::new(
        vec![HeaderName::from_static("x-cache-tags")],
        vec![HeaderName::from_static("x-location-id"), HeaderName::from_static("x-group")],
    );
    let keys = vec![CacheKey::from_number(1)];
    let read = reader.read(dialects, &method, &headers, keys);
    if !dialects.take(&method) {
        assert!(read.is_err(), "what is not for us is not read");
        return;
    }
    match read {
        Ok(PurgeRequest::Ban { condition, .. }) => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Location-Id: 42\r\n";
            let tags = [b"c42".as_slice(), b"l7"].map(|tag| Tag::new(tag).ok());
            let tags: Vec<Tag> = tags.into_iter().flatten().collect();
            let page = Page { url: "http://a.test/some/page?x=1", head, tags: &tags };
            // It is decided the same each time, and told in words.
            assert_eq!(condition.names(&page), condition.names(&page));
            assert!(!condition.text().is_empty());
        }
        Ok(PurgeRequest::Tags { hard, soft, .. }) => {
            for tag in hard.iter().chain(soft.iter()) {
                assert!(!tag.is_empty());
            }
        }
        Ok(PurgeRequest::Url { keys, .. }) => assert_eq!(keys.len(), 1),
        Err(error) => assert!((400..600).contains(&error.status())),
    }
}

/// Pages with ESI tags: what is read of one lies within it, in order, and can be asked of any request.
pub fn esi(data: &[u8]) {
    measured::Page::read(data).require_sound(data);
}

/// Dictionaries of structured fields.
pub fn structured(data: &[u8]) {
    let Ok(read) = Dictionary::parse(data) else { return };
    assert!(data.is_ascii(), "what is no ASCII is no dictionary");
    let names: HashSet<&str> = read.iter().map(|(name, _)| name).collect();
    let count = read.iter().count();
    assert!(names.len() == count && count <= MAX_MEMBERS, "each name once");
    for name in names {
        assert!(read.get(name).is_some());
    }
    // Space around it changes nothing (RFC 9651 section 4.2).
    let spaced = [b"  ", data, b" "].concat();
    assert_eq!(Dictionary::parse(&spaced).map(|again| again.iter().count()), Ok(count));
}

/// Heads of requests.
pub fn head(data: &[u8]) {
    let mut room = measured::Room::new();
    if let Some(request) = measured::Request::read(data, &mut room) {
        let target = request.target();
        assert!(!target.is_empty() && target.iter().all(u8::is_ascii_graphic));
        // Whoever reads on behind it finds the same request.
        naive::require_one_reading(&data[..request.length()]);
    }
}

/// Chunked bodies, held against a reader that shares nothing with ours. The first byte says in pieces of what size they
/// come.
pub fn chunked(data: &[u8]) {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let read = measured::chunked_body(bytes, usize::MAX);
    assert_eq!(measured::chunked_body(bytes, usize::from(piece) + 1), read, "in pieces of {piece}");
    let naive = naive::chunked_body(bytes);
    match (&read, &naive) {
        (Some((Some(end), content)), naive) => {
            assert_eq!(naive, &Ok(Some((*end, content.clone()))), "{}", bytes.escape_ascii());
        }
        // What is not whole, ours may find bad sooner.
        (Some((None, _)), naive) => assert_eq!(naive, &Ok(None), "{}", bytes.escape_ascii()),
        (None, naive) => assert!(!matches!(naive, Ok(Some(_))), "{} is {naive:?}", bytes.escape_ascii()),
    }
}
