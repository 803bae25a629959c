//! A request of HTTP/2 as the head that every request is decided by, under the same strict rules as in HTTP/1.
//!
//! The `h2` crate has checked already what concerns the frames: pseudo-header fields known, once and first, names in lower
//! case, no field of a connection, `te` nothing but `trailers`, and a body as long as `content-length` says (RFC 9113
//! sections 8.1.1, 8.2 and 8.3). Checked here is what could be understood in two ways behind us.

use h2::ext::Protocol;
use http::header::{self, HeaderMap};
use http::request::Parts;
use smallvec::SmallVec;

use crate::access::{Asked, Version};
use crate::front::visitor::Visitor;
use crate::listen::head::{self, Framing, Head, HeadLimits, MAX_HEADERS, Method, Names, Refusal};
use crate::listen::target::{is_host, split_target};

/// Header lines that need no allocation; a browser sends about twenty.
const INLINE_LINES: usize = 32;

/// The header lines of one request.
pub(super) type Lines<'b> = SmallVec<[httparse::Header<'b>; INLINE_LINES]>;

/// Puts a cookie together that came in pieces (RFC 9113 section 8.2.3). Empty if it came in one.
pub(super) fn join_cookies(headers: &HeaderMap, joined: &mut Vec<u8>) {
    joined.clear();
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    joined.extend_from_slice(first.as_bytes());
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
}

/// The header lines as HTTP/1 would have them; `cookies` is what [`join_cookies`] made of the cookies.
///
/// # Errors
///
/// More of them than allowed, or one that a reader behind us could take for another.
pub(super) fn lines<'b>(
    parts: &'b Parts,
    cookies: &'b [u8],
    limits: &HeadLimits,
) -> Result<Lines<'b>, Refusal> {
    let headers = &parts.headers;
    if headers.len() > limits.count.min(MAX_HEADERS) {
        return Err(Refusal::TooManyLines);
    }
    let mut lines = Lines::new();
    // As much as a request line, a Host line and line ends take in HTTP/1.
    let mut bytes = parts.method.as_str().len()
        + parts.uri.path_and_query().map_or(1, |target| target.as_str().len())
        + parts.uri.authority().map_or(0, |authority| authority.as_str().len() + 8)
        + 14;
    let mut cookies_taken = false;
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        let mut value = value.as_bytes();
        if value.first().is_some_and(is_space) || value.last().is_some_and(is_space) {
            return Err(Refusal::Malformed("a header value begins or ends with white space"));
        }
        if !cookies.is_empty() && *name == header::COOKIE {
            if std::mem::replace(&mut cookies_taken, true) {
                continue;
            }
            value = cookies;
        }
        lines.push(httparse::Header { name: name.as_str(), value });
    }
    if bytes > limits.bytes { Err(Refusal::HeadTooLarge) } else { Ok(lines) }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The head of a request; `ended` says that no body follows.
///
/// # Errors
///
/// What could be read in two ways, is too long, or is not served here.
pub(super) fn head<'b, 'h>(
    parts: &'b Parts,
    lines: &'h [httparse::Header<'b>],
    ended: bool,
    limits: &HeadLimits,
) -> Result<Head<'b, 'h>, Refusal> {
    // WebSocket, as HTTP/2 asks for it (RFC 8441), is asked for by GET everywhere else.
    let upgrade = parts.method == http::Method::CONNECT
        && parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    let method = if upgrade { "GET" } else { parts.method.as_str() };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.url_bytes {
        return Err(Refusal::UrlTooLong);
    }
    let (absolute, target) = split_target(method, target)?;
    if absolute.is_some() {
        return Err(Refusal::Malformed("the target is not a path"));
    }
    let (mut host, mut length, mut expects) = (None, None, false);
    for line in lines {
        let twice = match line.name {
            "expect" => {
                if std::mem::replace(&mut expects, true) || !line.value.eq_ignore_ascii_case(b"100-continue")
                {
                    return Err(Refusal::Expectation);
                }
                false
            }
            "host" => host.replace(line.value).is_some(),
            "content-length" => length.replace(head::content_length(line.value)?).is_some(),
            _ => false,
        };
        if twice {
            return Err(Refusal::Malformed("there are two host or two content-length lines"));
        }
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Refusal::Malformed("the authority and the host line name different hosts"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(Refusal::Malformed("there is neither an authority nor a host line")),
    };
    if !is_host(host) {
        return Err(Refusal::Malformed("the host is not one"));
    }
    let framing = match (ended, length) {
        // What follows is the other protocol.
        _ if upgrade => Framing::None,
        (true, _) | (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::Chunked,
    };
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            other => Method::Other(other),
        },
        host,
        target,
        version_11: true,
        close: false,
        upgrade,
        framing,
        headers: lines,
        names: Names::of(lines),
        length: 0,
    })
}

/// What the access log is told of a request that is refused.
pub(super) fn recorded(parts: &Parts, visitor: Visitor) -> Asked<'_> {
    let mut asked = Asked {
        client: visitor.address,
        method: parts.method.as_str().as_bytes(),
        target: parts.uri.path_and_query().map_or(b"", |target| target.as_str().as_bytes()),
        version: Version::Http2,
        host: parts.uri.authority().map_or(b"", |authority| authority.as_str().as_bytes()),
        ..Asked::default()
    };
    parts.headers.iter().for_each(|(name, value)| asked.header(name.as_str(), value.as_bytes()));
    asked
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 500, count: 5, url_bytes: 100 };

    /// The outcome in one line, or the reason of a refusal.
    fn outcome(method: &str, uri: &str, headers: &[(&str, &str)], ended: bool) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut cookies = Vec::new();
        join_cookies(&parts.headers, &mut cookies);
        let read = lines(&parts, &cookies, &LIMITS);
        let lines = match &read {
            Ok(lines) => lines,
            Err(refusal) => return refusal.to_string(),
        };
        match head(&parts, lines, ended, &LIMITS) {
            Err(refusal) => refusal.to_string(),
            Ok(head) => {
                let mut text = format!(
                    "{} {} {:?}",
                    String::from_utf8_lossy(head.host),
                    String::from_utf8_lossy(head.target),
                    head.framing
                );
                for value in head.values("cookie") {
                    text += &format!(" cookie[{}]", String::from_utf8_lossy(value));
                }
                text
            }
        }
    }

    #[track_caller]
    fn check(method: &str, uri: &str, headers: &[(&str, &str)], expected: &str) {
        assert_eq!(outcome(method, uri, headers, true), expected, "{method} {uri} {headers:?}");
    }

    #[test]
    fn sound_requests_are_read() {
        check("GET", "http://a/x?y", &[], "a /x?y None");
        check("GET", "https://a:80/", &[("host", "A:80")], "a:80 / None");
        check("GET", "/", &[("host", "a")], "a / None");
        check("OPTIONS", "*", &[("host", "a")], "a * None");
        check("GET", "http://a/", &[("cookie", "a=1")], "a / None cookie[a=1]");
        let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
        check("GET", "http://a/", &crumbs, "a / None cookie[a=1; b=2; c=3]");
        assert_eq!(outcome("POST", "http://a/", &[], false), "a / Chunked");
        assert_eq!(outcome("POST", "http://a/", &[("content-length", "5")], false), "a / Length(5)");
        assert_eq!(outcome("GET", "http://a/", &[("content-length", "0")], false), "a / None");
    }

    #[test]
    fn doubtful_requests_are_refused() {
        let different = "the authority and the host line name different hosts";
        check("GET", "http://a/", &[("host", "b")], different);
        check("GET", "http://a/", &[("host", "a:80")], different);
        check("GET", "/", &[], "there is neither an authority nor a host line");
        check("GET", "/", &[("host", "")], "the host is not one");
        check("GET", "http://user@a/", &[], "the host is not one");
        check("GET", "/", &[("host", "a/b")], "the host is not one");
        let twice = "there are two host or two content-length lines";
        check("GET", "/", &[("host", "a"), ("host", "a")], twice);
        check("GET", "http://a/", &[("content-length", "0"), ("content-length", "0")], twice);
        check("GET", "http://a/", &[("content-length", "+1")], "Content-Length is not one number");
        check("CONNECT", "a:443", &[], "this method is not served here");
        check("TRACE", "http://a/", &[], "this method is not served here");
        check("GET", "*", &[("host", "a")], "the target is neither a path nor a URL");
        check("GET", "http://a/\u{e4}", &[], "the target has bytes that have to be escaped");
        let expectation = "the only expectation met here is 100-continue, once";
        check("GET", "http://a/", &[("expect", "x")], expectation);
        let space = "a header value begins or ends with white space";
        check("GET", "http://a/", &[("x", " y")], space);
        check("GET", "http://a/", &[("x", "y\t")], space);
        check("GET", &format!("http://a/{}", "x".repeat(100)), &[], "the request target is too long");
        check("GET", "http://a/", &[("x", &"y".repeat(500)[..])], "the request head has too many bytes");
        check("GET", "http://a/", &[("x", "y"); 6], "the request head has too many lines");
    }
}
