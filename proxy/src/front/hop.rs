//! What a request on the pass road says of its own connection: obeyed here, and taken out before pingora acts on it.
//!
//! pingora takes away whatever `Connection` lists, and a visitor would decide which cookie or host a node gets to see
//! (CVE-2024-45410, CVE-2022-45059); and it takes any `Upgrade` for one, whatever has been agreed on about the end of
//! the request. So it gets to see neither, but for a WebSocket, which both sides then speak of in the same words.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Version};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::forward::PROTECTED;
use crate::fetch::listed_in_connection;
use crate::listen::head::has_option;

/// What the connection is to be after the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hop {
    /// The client wants it to end.
    pub(super) close: bool,
    /// The client asks for a WebSocket on it, as [`Head::upgrade`](crate::listen::head::Head::upgrade) says.
    pub(super) upgrade: bool,
}

/// Takes out of `request` what concerns its connection only and pingora would act on.
///
/// # Errors
///
/// None with these names and values; pingora's type allows for one.
pub(super) fn settle(request: &mut RequestHeader) -> Result<Hop> {
    let listed = listed_in_connection(&request.headers);
    let lists = |option: &str| listed.iter().any(|one| one == option);
    let websocket = request.headers.get_all(header::UPGRADE).iter();
    let websocket = websocket.map(HeaderValue::as_bytes).any(|list| has_option(list, b"websocket"));
    let bodiless = !request.headers.contains_key(header::TRANSFER_ENCODING)
        && request
            .headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length.as_bytes().iter().all(|digit| *digit == b'0'));
    let is_get = request.method == Method::GET && request.version == Version::HTTP_11;
    let hop = Hop { close: lists("close"), upgrade: lists("upgrade") && websocket && is_get && bodiless };
    let framing = [header::TRANSFER_ENCODING, header::EXPECT];
    for name in listed.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        if !PROTECTED.contains(&name) && !framing.contains(&name) {
            request.remove_header(&name);
        }
    }
    for name in ["connection", "upgrade", "http2-settings"] {
        request.remove_header(name);
    }
    if hop.upgrade {
        request.insert_header(header::CONNECTION, "Upgrade")?;
        request.insert_header(header::UPGRADE, "websocket")?;
    }
    Ok(hop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What is left of these lines, and what they say of the connection.
    fn settled(method: &str, lines: &[(&'static str, &str)]) -> (Vec<String>, Hop) {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        let hop = settle(&mut request).unwrap();
        let mut left: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        (left, hop)
    }

    #[test]
    fn what_connection_lists_goes_but_for_what_decides() {
        let lines = [
            ("connection", "close, Cookie, X-Own, host, \"x"),
            ("cookie", "a"),
            ("x-own", "b"),
            ("host", "c"),
        ];
        let (left, hop) = settled("POST", &lines);
        assert_eq!(left, ["cookie: a", "host: c"]);
        assert_eq!(hop, Hop { close: true, upgrade: false });
        let framed =
            [("connection", "transfer-encoding, content-length, expect"), ("transfer-encoding", "chunked")];
        assert_eq!(settled("POST", &framed).0, ["transfer-encoding: chunked"]);
    }

    #[test]
    fn a_websocket_is_asked_for_in_words_of_ours() {
        let lines =
            [("connection", "keep-alive, Upgrade"), ("upgrade", "h2c, WebSocket"), ("http2-settings", "x")];
        let (left, hop) = settled("GET", &lines);
        assert_eq!(left, ["connection: Upgrade", "upgrade: websocket"]);
        assert!(hop.upgrade && !hop.close);
        for (method, more) in [
            ("POST", ("x", "y")),
            ("GET", ("content-length", "1")),
            ("GET", ("transfer-encoding", "chunked")),
        ] {
            let (left, hop) = settled(method, &[&lines[..], &[more]].concat());
            assert_eq!((left, hop.upgrade), (vec![format!("{}: {}", more.0, more.1)], false), "{method}");
        }
        assert!(!settled("GET", &[("upgrade", "websocket")]).1.upgrade);
        assert!(!settled("GET", &[("connection", "upgrade"), ("upgrade", "h2c")]).1.upgrade);
    }
}
