//! Header lines of a body in another coding (RFC 9110 sections 8.4, 8.8.3 and 12.5.5).

use bytes::Bytes;
use clearcoat_cache::coding::Coding;
use http::header::{self, HeaderMap, HeaderValue};

use crate::front::conditional::is_named;

/// Lines that speak of the bytes of the other form. Ranges are given of the stored form only, so a form does not offer
/// them (nginx does the same); digests are over the coded bytes (RFC 9530).
const OF_THE_BYTES: [&[u8]; 7] = [
    b"content-length:",
    b"content-encoding:",
    b"accept-ranges:",
    b"content-md5:",
    b"digest:",
    b"content-digest:",
    b"repr-digest:",
];

/// The head of a form of `length` bytes, made from the serialised head of its entry.
///
/// A strong entity tag becomes a weak one: the bytes differ from those it was given for. The page is the same, so a
/// client that asks with either of the two is told that it has it already.
pub(crate) fn form_head(own: &[u8], coding: Coding, length: usize) -> Bytes {
    let mut head = Vec::with_capacity(own.len() + 48);
    for line in own.split_inclusive(|byte| *byte == b'\n') {
        if OF_THE_BYTES.iter().any(|name| is_named(line, name)) {
            continue;
        }
        match line.split_at_checked(b"etag:".len()) {
            Some((name, value)) if is_named(name, b"etag:") && value.trim_ascii().starts_with(b"\"") => {
                head.extend_from_slice(name);
                head.extend_from_slice(b" W/");
                head.extend_from_slice(value.trim_ascii_start());
            }
            Some(_) | None => head.extend_from_slice(line),
        }
    }
    if coding != Coding::Identity {
        head.extend_from_slice(b"Content-Encoding: ");
        head.extend_from_slice(coding.name().as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"Content-Length: ");
    head.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    head.extend_from_slice(b"\r\n");
    head.into()
}

/// The lines with `Accept-Encoding` in `Vary`, all of it in one line.
pub(super) fn with_accept_encoding(headers: &HeaderMap) -> HeaderMap {
    let mut members = vary_members(headers);
    members.push(b"Accept-Encoding");
    let joined = HeaderValue::from_bytes(&members.join(&b", "[..]));
    let mut headers = headers.clone();
    if let Ok(vary) = joined {
        headers.insert(header::VARY, vary);
    }
    headers
}

/// Takes `Accept-Encoding` out of `Vary`.
pub(crate) fn without_accept_encoding(headers: &mut HeaderMap) {
    let mut members = vary_members(headers);
    members.retain(|name| !name.eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str().as_bytes()));
    let joined = (!members.is_empty()).then(|| HeaderValue::from_bytes(&members.join(&b", "[..])));
    match joined {
        Some(Ok(vary)) => drop(headers.insert(header::VARY, vary)),
        Some(Err(_)) => {}
        None => drop(headers.remove(header::VARY)),
    }
}

fn vary_members(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all(header::VARY).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    members.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[track_caller]
    fn check(coding: Coding, own: &str, expected: &str) {
        let own = format!("HTTP/1.1 200 OK\r\n{own}");
        let head = form_head(own.as_bytes(), coding, 5);
        assert_eq!(String::from_utf8(head.to_vec()).unwrap(), format!("HTTP/1.1 200 OK\r\n{expected}"));
    }

    #[test]
    fn a_form_has_lines_of_its_own() {
        let gzip = "Content-Encoding: gzip\r\nContent-Length: 5\r\n";
        check(Coding::Gzip, "Content-Length: 9\r\n", gzip);
        check(Coding::Gzip, "ETag: \"a\"\r\nContent-Length: 9\r\n", &format!("ETag: W/\"a\"\r\n{gzip}"));
        check(Coding::Gzip, "Etag:\"a\"\r\n", &format!("Etag: W/\"a\"\r\n{gzip}"));
        check(Coding::Gzip, "Etag: W/\"a\"\r\n", &format!("Etag: W/\"a\"\r\n{gzip}"));
        check(Coding::Gzip, "X-Etag: \"a\"\r\nA: b\r\n", &format!("X-Etag: \"a\"\r\nA: b\r\n{gzip}"));
        check(
            Coding::Br,
            "Accept-Ranges: bytes\r\nContent-MD5: x\r\nDigest: x\r\nRepr-Digest: x\r\nContent-Digest: x\r\nE: f\r\n",
            "E: f\r\nContent-Encoding: br\r\nContent-Length: 5\r\n",
        );
        // The plain text of what a node compressed.
        check(
            Coding::Identity,
            "Content-Encoding: gzip\r\nETag: \"a\"\r\nContent-Length: 9\r\n",
            "ETag: W/\"a\"\r\nContent-Length: 5\r\n",
        );
    }

    #[test]
    fn vary_is_merged_and_taken_apart() {
        for (own, merged) in [
            (&[][..], "Accept-Encoding"),
            (&["Cookie"], "Cookie, Accept-Encoding"),
            (&["Cookie, X-A", "X-B"], "Cookie, X-A, X-B, Accept-Encoding"),
            (&[" , "], "Accept-Encoding"),
        ] {
            let mut headers: HeaderMap =
                own.iter().map(|line| (header::VARY, line.parse().unwrap())).collect();
            let with = with_accept_encoding(&headers);
            assert_eq!(with.get_all(header::VARY).iter().collect::<Vec<_>>(), [merged]);
            let mut without = with.clone();
            without_accept_encoding(&mut without);
            without_accept_encoding(&mut headers);
            assert_eq!(without.get(header::VARY), headers.get(header::VARY), "{own:?}");
        }
    }
}
