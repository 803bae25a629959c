//! What a request on the pass road says of its own connection: obeyed here, and taken out before pingora acts on it.
//!
//! pingora takes away whatever `Connection` lists, and a visitor would decide which cookie or host a node gets to see (CVE-2024-45410,
//! CVE-2022-45059); and it takes any `Upgrade` for one, whatever has been agreed on about the end of the request. So it gets to see
//! neither: a WebSocket does not come here.

use http::header::{self, HeaderName};
use pingora_http::RequestHeader;

use super::forward::PROTECTED;
use crate::fetch::listed_in_connection;

/// Takes out of `request` what concerns its connection only and pingora would act on. Returns whether the client wants it to end.
pub(super) fn settle(request: &mut RequestHeader) -> bool {
    let listed = listed_in_connection(&request.headers);
    let close = listed.iter().any(|option| option == "close");
    let framing = [header::TRANSFER_ENCODING, header::EXPECT];
    for name in listed.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        if !PROTECTED.contains(&name) && !framing.contains(&name) {
            request.remove_header(&name);
        }
    }
    for name in ["connection", "upgrade", "http2-settings"] {
        request.remove_header(name);
    }
    close
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What is left of these lines, and what they say of the connection.
    fn settled(lines: &[(&'static str, &str)]) -> (Vec<String>, bool) {
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        let close = settle(&mut request);
        let mut left: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        left.sort();
        (left, close)
    }

    #[test]
    fn what_connection_lists_goes_but_for_what_decides() {
        let lines = [
            ("connection", "close, Cookie, X-Own, host, \"x"),
            ("cookie", "a"),
            ("x-own", "b"),
            ("host", "c"),
        ];
        let (left, close) = settled(&lines);
        assert_eq!(left, ["cookie: a", "host: c"]);
        assert!(close);
        let framed =
            [("connection", "transfer-encoding, content-length, expect"), ("transfer-encoding", "chunked")];
        assert_eq!(settled(&framed).0, ["transfer-encoding: chunked"]);
    }

    #[test]
    fn no_other_protocol_is_asked_for() {
        for protocol in ["websocket", "h2c"] {
            let lines = [
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", protocol),
                ("http2-settings", "x"),
                ("x", "y"),
            ];
            assert_eq!(settled(&lines), (vec!["x: y".to_owned()], false));
        }
    }
}
