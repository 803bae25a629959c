//! A request for a WebSocket (RFC 6455) on its connection, and what is left of the fetch when the node agrees: a connection that
//! is nobody's HTTP any more. No other protocol is offered.
//!
//! A client of HTTP/2 asks otherwise (RFC 8441): with no key, because nothing there has to prove that it is no cache. A
//! node of HTTP/1 has to be asked with one, so one is made here, and what the node makes of it is looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName};
use parking_lot::Mutex;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::listen::head::Head;
use crate::pool::{Lease, Link};

static KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
static ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What is put behind a key before it is hashed (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What nodes are asked for.
const PROTOCOL: &[u8] = b"websocket";

/// The wish, and the tunnel once there is one.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// `Sec-WebSocket-Key`, where the client has none of its own.
    key: Option<String>,
    opened: Mutex<Option<Opened>>,
}

/// The connection to a node that agreed.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) link: Link,
    /// The place at the node, taken for as long as the tunnel lasts.
    pub(crate) lease: Lease,
}

impl Upgrade {
    /// What a request asks for that [asks for a WebSocket](Head::upgrade).
    pub(crate) fn of(head: &Head<'_, '_>) -> Self {
        // HTTP/2 has no such line.
        let by_connect = head.values(header::UPGRADE.as_str()).next().is_none();
        // It is no secret: it only must not be the same each time.
        let key = by_connect.then(|| STANDARD.encode(fastrand::u128(..).to_ne_bytes()));
        Self { key, opened: Mutex::new(None) }
    }

    /// The lines that ask the node for it.
    pub(super) fn lines(&self, mut line: impl FnMut(&str, &[u8])) {
        line(header::CONNECTION.as_str(), b"Upgrade");
        line(header::UPGRADE.as_str(), PROTOCOL);
        if let Some(key) = &self.key {
            line(KEY.as_str(), key.as_bytes());
        }
    }

    /// Whether a line is between us and one of the two sides.
    pub(super) fn is_own(&self, name: &HeaderName) -> bool {
        self.key.is_some() && (*name == KEY || *name == ACCEPT)
    }

    /// Whether a node that changes the protocol agrees to what it was asked for.
    pub(super) fn is_agreed(&self, headers: &HeaderMap) -> bool {
        let protocol = headers.get(header::UPGRADE);
        let proven = self.key.as_ref().is_none_or(|key| {
            headers.get(&ACCEPT).is_some_and(|accept| accept.as_bytes() == accept_of(key).as_bytes())
        });
        protocol.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(PROTOCOL)) && proven
    }

    /// The node has agreed.
    pub(super) fn open(&self, opened: Opened) {
        *self.opened.lock() = Some(opened);
    }

    /// The tunnel, for the one who asked.
    pub(crate) fn take(&self) -> Option<Opened> {
        self.opened.lock().take()
    }
}

/// What proves that a key was read as one (RFC 6455 section 4.2.2).
fn accept_of(key: &str) -> String {
    let text = [key.as_bytes(), KEY_SUFFIX].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};
    use http::HeaderValue;

    fn upgrade(lines_of_it: &str) -> Upgrade {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines_of_it}\r\n");
        let mut room = lines();
        let limits = HeadLimits { bytes: 4096, count: 64, url_bytes: 2048 };
        match parse(text.as_bytes(), &mut room, &limits) {
            Parsed::Complete(head) => Upgrade::of(&head),
            other => panic!("no head: {other:?}"),
        }
    }

    fn agrees(upgrade: &Upgrade, protocol: &'static str, accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
        headers.insert(&ACCEPT, HeaderValue::from_str(accept).unwrap());
        upgrade.is_agreed(&headers)
    }

    #[test]
    fn keys_are_proved_as_in_the_rfc() {
        // RFC 6455 section 1.3.
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_node_agrees_to_what_it_was_asked_for() {
        let asked = upgrade("Connection: upgrade\r\nUpgrade: h2c, WebSocket\r\n");
        let mut sent = Vec::new();
        asked.lines(|name, value| sent.push(format!("{name}: {}", String::from_utf8_lossy(value))));
        assert_eq!(sent, ["connection: Upgrade", "upgrade: websocket"]);
        for (said, expected) in [("websocket", true), ("WebSocket", true), ("h2c", false), ("", false)] {
            assert_eq!(agrees(&asked, said, "anything"), expected, "{said}");
        }
        assert!(!asked.is_agreed(&HeaderMap::new()));
    }

    #[test]
    fn a_key_of_ours_is_proven() {
        let asked = upgrade("");
        let key = asked.key.clone().unwrap();
        assert_eq!(key.len(), 24);
        assert_ne!(key, upgrade("").key.unwrap());
        assert!(asked.is_own(&KEY) && asked.is_own(&ACCEPT) && !asked.is_own(&header::UPGRADE));
        assert!(agrees(&asked, "websocket", &accept_of(&key)));
        assert!(!agrees(&asked, "websocket", &accept_of("another")));
    }
}
