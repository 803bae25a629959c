//! The head of a request, parsed in place and strictly: what two readers could understand differently is refused.
//!
//! Nothing here is owned; a [`Head`] borrows from the connection's buffer. Refusals close the connection, so that no
//! byte behind a doubtful head is ever taken for a request (RFC 9112 section 11.2).

use std::mem::MaybeUninit;

use clearcoat_cache::SelectingHeaders;

use super::target::{is_host, split_target};

/// The most header lines that a configuration may allow.
pub(crate) const MAX_HEADERS: usize = 256;

/// What a request head may be, at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes of the whole head, from the method to the empty line.
    pub(crate) bytes: usize,
    /// Header lines, at most [`MAX_HEADERS`].
    pub(crate) count: usize,
    /// Bytes of the request target.
    pub(crate) url_bytes: usize,
}

/// Why a request is not listened to. All of them close the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not a request, or one that could be read in two ways.
    #[error("{0}")]
    Malformed(&'static str),
    /// More bytes of head than allowed, or more lines.
    #[error("the request head has too many bytes")]
    HeadTooLarge,
    /// More header lines than allowed.
    #[error("the request head has too many lines")]
    TooManyLines,
    /// A longer request target than allowed.
    #[error("the request target is too long")]
    UrlTooLong,
    /// `CONNECT` or `TRACE`.
    #[error("this method is not served here")]
    MethodNotAllowed,
    /// A version of HTTP that is not spoken here.
    #[error("this version of HTTP is not served here")]
    Version,
    /// `Expect` with something else than `100-continue` (RFC 9110 section 10.1.1).
    #[error("the only expectation met here is 100-continue, once")]
    Expectation,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(crate) enum Parsed<'b, 'h> {
    /// More bytes are needed.
    Partial,
    /// The request is not listened to.
    Refused(Refusal),
    /// A head, whole and sound.
    Complete(Head<'b, 'h>),
}

/// The method, as far as it matters to the course of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method<'b> {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// Any other, as sent.
    Other(&'b str),
}

impl<'b> Method<'b> {
    /// As sent.
    pub(crate) fn as_str(self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Other(method) => method,
        }
    }
}

/// What follows the head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Framing {
    /// Nothing.
    None,
    /// A body of so many bytes, at least one.
    Length(u64),
    /// A chunked body.
    Chunked,
}

/// The head of one request.
#[derive(Debug)]
pub(crate) struct Head<'b, 'h> {
    pub(crate) method: Method<'b>,
    /// The host, from the absolute-form target or the Host line; empty only in HTTP/1.0.
    pub(crate) host: &'b [u8],
    /// Path and query in origin-form, or `*`.
    pub(crate) target: &'b [u8],
    /// HTTP/1.1, not 1.0.
    pub(crate) version_11: bool,
    /// The connection ends after this request.
    pub(crate) close: bool,
    /// The client asks for a WebSocket. Other protocols are not offered, and nobody has to follow such a wish (RFC 9110
    /// section 7.8); nor is it one in HTTP/1.0, with a body, or where `Connection` does not name it.
    pub(crate) upgrade: bool,
    pub(crate) framing: Framing,
    /// All header lines, as sent.
    pub(crate) headers: &'h [httparse::Header<'b>],
    /// Which names may be among them.
    pub(crate) names: Names,
    /// Bytes of the head in the buffer.
    pub(crate) length: usize,
}

/// Which names the lines of a head may have: a bit for each, by its length and its first letter. A request is asked for a
/// dozen names, and nearly always the bit tells that there is no such line without a look at any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names(u64);

impl Names {
    pub(crate) fn of(lines: &[httparse::Header<'_>]) -> Self {
        Self(lines.iter().fold(0, |names, line| names | Self::bit(line.name)))
    }

    /// `false`: no line has this name, however it is written.
    pub(crate) fn may_have(self, name: &str) -> bool {
        self.0 & Self::bit(name) != 0
    }

    fn bit(name: &str) -> u64 {
        let first = name.as_bytes().first().map_or(0, u8::to_ascii_lowercase);
        // Five is prime to 64: names of the same length that begin differently do not meet.
        1 << ((usize::from(first) * 5 + name.len()) % 64)
    }
}

impl SelectingHeaders for Head<'_, '_> {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        if !self.names.may_have(name) {
            return;
        }
        // Nodes do not get these from the client, so an answer cannot have been chosen by them; the host is in the
        // key already.
        if name == "host" || name.starts_with("x-forwarded-") || name.contains('_') {
            return;
        }
        for header in self.headers {
            if header.name.eq_ignore_ascii_case(name) {
                value(header.value);
            }
        }
    }
}

impl Head<'_, '_> {
    /// The values of all lines of this name, in order.
    /// Whether the client waits to be told that its body may come (RFC 9110 section 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.framing != Framing::None
            && self.values("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// Whether the client takes fields behind a body (RFC 9110 section 10.1.4).
    pub(crate) fn takes_trailers(&self) -> bool {
        self.version_11 && self.values("te").any(|value| has_option(value, b"trailers"))
    }

    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = if self.names.may_have(name) { self.headers } else { &[] };
        lines.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }
}

/// Room for the header lines of one head, on the caller's stack.
pub(crate) type Lines<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_HEADERS];

/// Room for [`parse`].
pub(crate) const fn lines<'b>() -> Lines<'b> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// Reads the head at the start of `bytes`.
pub(crate) fn parse<'b, 'h>(
    bytes: &'b [u8],
    lines: &'h mut Lines<'b>,
    limits: &HeadLimits,
) -> Parsed<'b, 'h> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, lines) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return if bytes.len() >= limits.bytes {
                Parsed::Refused(too_large(bytes, limits))
            } else {
                Parsed::Partial
            };
        }
        Err(error) => {
            return Parsed::Refused(match error {
                httparse::Error::TooManyHeaders => Refusal::TooManyLines,
                httparse::Error::Version => Refusal::Version,
                httparse::Error::HeaderName => Refusal::Malformed("a header name is not a token"),
                httparse::Error::HeaderValue => {
                    Refusal::Malformed("a header value has bytes that it may not have")
                }
                httparse::Error::NewLine => Refusal::Malformed("a line does not end in CR LF"),
                httparse::Error::Token | httparse::Error::Status => {
                    Refusal::Malformed("this is not a request line")
                }
            });
        }
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Refused(Refusal::Malformed("this is not a request line"));
    };
    let refused = if length > limits.bytes {
        Some(Refusal::HeadTooLarge)
    } else if request.headers.len() > limits.count {
        Some(Refusal::TooManyLines)
    } else if target.len() > limits.url_bytes {
        Some(Refusal::UrlTooLong)
    } else if has_bare_line_feed(&bytes[..length]) {
        // httparse takes a lone LF for a line end, as RFC 9112 section 2.2 allows; nodes may not.
        Some(Refusal::Malformed("a line does not end in CR LF"))
    } else {
        None
    };
    if let Some(refusal) = refused {
        return Parsed::Refused(refusal);
    }
    match examine(method, target, version == 1, request.headers) {
        Ok(facts) => Parsed::Complete(Head {
            method: match method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                other => Method::Other(other),
            },
            host: facts.host,
            target: facts.target,
            version_11: version == 1,
            close: facts.close,
            upgrade: facts.upgrade,
            framing: facts.framing,
            names: Names::of(request.headers),
            headers: request.headers,
            length,
        }),
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// Which limit a head that has not ended yet ran into.
fn too_large(bytes: &[u8], limits: &HeadLimits) -> Refusal {
    match memchr::memchr(b'\n', bytes) {
        Some(first_line) if first_line <= limits.url_bytes => Refusal::HeadTooLarge,
        _ => Refusal::UrlTooLong,
    }
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

struct Facts<'b> {
    host: &'b [u8],
    target: &'b [u8],
    close: bool,
    upgrade: bool,
    framing: Framing,
}

fn examine<'b>(
    method: &'b str,
    target: &'b str,
    version_11: bool,
    headers: &[httparse::Header<'b>],
) -> Result<Facts<'b>, Refusal> {
    let mut host: Option<&'b [u8]> = None;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut close = !version_11;
    let (mut upgrade, mut websocket) = (false, false);
    let (mut expects, mut unmet) = (false, false);
    let (mut two_hosts, mut two_lengths) = (false, false);
    for header in headers {
        let name = header.name;
        // The lengths sort out nearly every line before a name is compared.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                two_hosts |= host.replace(header.value).is_some();
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                let again = std::mem::replace(&mut expects, true);
                unmet |= again || !header.value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case("upgrade") => websocket |= has_option(header.value, b"websocket"),
            10 if name.eq_ignore_ascii_case("connection") => {
                close |= has_option(header.value, b"close");
                upgrade |= has_option(header.value, b"upgrade");
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                two_lengths |= length.replace(content_length(header.value)?).is_some();
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed("the only transfer coding served here is chunked, once"));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if two_hosts {
        return Err(Refusal::Malformed("there are two Host lines"));
    }
    if two_lengths {
        return Err(Refusal::Malformed("there are two Content-Length lines"));
    }
    if chunked && length.is_some() {
        return Err(Refusal::Malformed("Content-Length and Transfer-Encoding exclude each other"));
    }
    if chunked && !version_11 {
        return Err(Refusal::Malformed("HTTP/1.0 knows no Transfer-Encoding"));
    }
    let (named, target) = split_target(method, target)?;
    let host = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => {
            return Err(Refusal::Malformed("the target and the Host line name different hosts"));
        }
        // Whoever reads the Host line alone would take it for another's.
        (Some(_), None) => return Err(Refusal::Malformed("there is no Host line")),
        (Some(named), Some(_)) => named,
        (None, Some(host)) => host,
        (None, None) if version_11 => return Err(Refusal::Malformed("there is no Host line")),
        (None, None) => b"",
    };
    if (version_11 || !host.is_empty()) && !is_host(host) {
        return Err(Refusal::Malformed("the host is not one"));
    }
    let framing = match (chunked, length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) if length > 0 => Framing::Length(length),
        (false, _) => Framing::None,
    };
    // After what is malformed, which is told first.
    if unmet {
        return Err(Refusal::Expectation);
    }
    let upgrade = upgrade && websocket && version_11 && method == "GET" && framing == Framing::None;
    Ok(Facts { host, target, close, upgrade, framing })
}

/// Whether a list, such as that of `Connection`, has this option.
pub(crate) fn has_option(list: &[u8], option: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(option))
}

/// One decimal number; no sign, no list, no white space inside (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = !value.is_empty() && value.len() <= 19 && value.iter().all(u8::is_ascii_digit);
    digits
        .then(|| value.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0')))
        .filter(|number| *number <= i64::MAX as u64)
        .ok_or(Refusal::Malformed("Content-Length is not one number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1000, count: 10, url_bytes: 100 };

    /// The outcome in one word, or the reason of a refusal.
    fn outcome(text: &str) -> String {
        let mut room = lines();
        match parse(text.as_bytes(), &mut room, &LIMITS) {
            Parsed::Partial => "partial".into(),
            Parsed::Refused(refusal) => refusal.to_string(),
            Parsed::Complete(head) => format!(
                "{} {} {:?}{}",
                String::from_utf8_lossy(head.host),
                String::from_utf8_lossy(head.target),
                head.framing,
                match (head.close, head.upgrade) {
                    (true, _) => " close",
                    (_, true) => " upgrade",
                    _ => "",
                }
            ),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(outcome(text), expected, "{text:?}");
    }

    #[test]
    fn a_name_that_is_there_is_never_missed() {
        let names = ["Host", "COOKIE", "if-none-match", "X-A", "x-b", "Accept-Encoding", "Accept-Language"];
        let lines = names.map(|name| httparse::Header { name, value: b"" });
        let all = Names::of(&lines);
        for name in names {
            assert!(all.may_have(name) && all.may_have(&name.to_ascii_lowercase()), "{name}");
            assert!(!Names::of(&[]).may_have(name));
        }
        for name in ["range", "authorization", "if-modified-since", "cache-control"] {
            assert!(!all.may_have(name), "{name}");
        }
    }

    #[test]
    fn sound_heads_are_read() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a / None");
        check(
            "GET /x?y HTTP/1.1\r\nhost: a:80\r\nConnection: keep-alive, Close\r\n\r\n",
            "a:80 /x?y None close",
        );
        check("GET / HTTP/1.0\r\n\r\n", " / None close");
        check("GET http://a/b HTTP/1.1\r\nHost: A\r\n\r\n", "a /b None");
        check("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "a / None");
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "a * None");
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "a / Length(5)");
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "a / None");
        check("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", "a / Chunked");
        check("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "[::1]:8080 / None");
        check("GET / HTTP/1.1\r\nHost: a\r\n", "partial");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let two = "Content-Length and Transfer-Encoding exclude each other";
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", two);
        let lengths = "there are two Content-Length lines";
        check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", lengths);
        for length in ["", "+5", "-5", "5, 5", "0x5", "5 5", "99999999999999999999", "9999999999999999999"] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            check(&text, "Content-Length is not one number");
        }
        for coding in ["gzip, chunked", "chunked, identity", "xchunked", "identity", "", "chunked,"] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
            check(&text, "the only transfer coding served here is chunked, once");
        }
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 knows no Transfer-Encoding");
        check("GET / HTTP/1.1\nHost: a\n\n", "a line does not end in CR LF");
        check("GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n", "a line does not end in CR LF");
        check("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "a header name is not a token");
        check("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", "a header name is not a token");
        check(
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "a header value has bytes that it may not have",
        );
        check("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "there are two Host lines");
        check("GET / HTTP/1.1\r\n\r\n", "there is no Host line");
        for host in ["", "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "[::1]x", "é", "a,b", "::1"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "the host is not one");
        }
        let differ = "the target and the Host line name different hosts";
        check("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", differ);
        check("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "the target is neither a path nor a URL");
        check("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "the target is neither a path nor a URL");
        check("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "the target is neither a path nor a URL");
        check("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "the target has bytes that have to be escaped");
        check("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", "the target has bytes that have to be escaped");
        check("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "this method is not served here");
        check("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "this method is not served here");
        check("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "this version of HTTP is not served here");
        check("GET http://a/ HTTP/1.1\r\n\r\n", "there is no Host line");
        check("GET http://a/ HTTP/1.0\r\n\r\n", "there is no Host line");
        for lines in [
            "Expect: x",
            "Expect:",
            "Expect: 100-continue, x",
            "Expect: 100-continue\r\nExpect: 100-continue",
        ] {
            let expectation = "the only expectation met here is 100-continue, once";
            check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"), expectation);
        }
    }

    #[test]
    fn a_websocket_is_the_one_upgrade() {
        let outcome_of = |first: &str, lines: &str| outcome(&format!("{first}\r\nHost: a\r\n{lines}\r\n"));
        let get = "GET / HTTP/1.1";
        for lines in [
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
            "Connection: keep-alive, upgrade\r\nUpgrade: h2c, WebSocket\r\n",
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n",
        ] {
            assert_eq!(outcome_of(get, lines), "a / None upgrade", "{lines:?}");
        }
        for lines in [
            "Upgrade: websocket\r\n",
            "Connection: keep-alive\r\nUpgrade: websocket\r\n",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            "Connection: upgrade\r\nUpgrade: websockets\r\n",
            "Connection: upgrade\r\n",
        ] {
            assert_eq!(outcome_of(get, lines), "a / None", "{lines:?}");
        }
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(outcome_of(get, &format!("{upgrade}Content-Length: 1\r\n")), "a / Length(1)");
        assert_eq!(outcome_of(get, &format!("{upgrade}Transfer-Encoding: chunked\r\n")), "a / Chunked");
        assert_eq!(outcome_of("GET / HTTP/1.0", upgrade), "a / None close");
        assert_eq!(outcome_of("POST / HTTP/1.1", upgrade), "a / None");
    }

    #[test]
    fn limits_hold() {
        let many: String = (0..10).map(|line| format!("X{line}: y\r\n")).collect();
        check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "the request head has too many lines");
        check(
            &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100)),
            "the request target is too long",
        );
        check(&format!("GET /{}", "x".repeat(1000)), "the request target is too long");
        check(&format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1000)), "the request head has too many bytes");
        check(
            &format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1000)),
            "the request head has too many bytes",
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut room = lines();
            let _ = parse(&bytes, &mut room, &LIMITS);
        }

        #[test]
        fn a_sound_head_broken_anywhere_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut text = b"POST /path?query HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n".to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let mut room = lines();
            let _ = parse(&text, &mut room, &LIMITS);
        }
    }
}
