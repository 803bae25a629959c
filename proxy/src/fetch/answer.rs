//! A node's answer, made ready for clients and for the store.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use clearcoat_cache::{Audience, Entry, FillStamp, Moment, Recoding, Tag, VariantKey, VarySpec};
use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode};

use super::{Caching, FetchError};
use crate::admin::Forward;
use crate::esi::Readable;
use crate::pool::node::Node;

/// What a fill makes known to its readers first.
#[derive(Debug)]
pub(crate) enum Published {
    /// There is an answer, and its body follows.
    Answer(Arc<Answer>),
    /// There will be none, or an error page; this stored entry may be served in its place.
    Stale(Arc<Entry>, Failing),
    /// There will be none.
    Failed(FetchError),
}

/// What a stored entry is served in place of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failing {
    /// A node answered with this status.
    Status(StatusCode),
    /// No node answered.
    Error(FetchError),
}

/// The head of a node's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Status line and header lines for HTTP/1, each with its line end; without Age and everything that frames the
    /// body or concerns the connection.
    pub(crate) block: Bytes,
    /// For whom it is, as far as that changes `block`.
    pub(crate) audience: Audience,
    /// Whoever gets it is told whether it was a hit.
    pub(crate) tells: bool,
    /// What the node said of the body's length.
    pub(crate) length: Option<u64>,
    /// How it was asked for.
    pub(crate) caching: Caching,
    /// Why a node was asked.
    pub(crate) forward: Forward,
    /// The Age that the node's answer had already.
    pub(crate) age: Option<u64>,
    /// A node said 304, and this is the stored entry brought up to date.
    pub(crate) revalidated: bool,
    /// The same answer may be given to others who ask for the same variant.
    pub(crate) shared: bool,
    /// Who gave it.
    pub(crate) node: Arc<Node>,
    /// It is stored, or will be at its end.
    pub(crate) stored: bool,
    /// Until when it will be fresh, if it is stored.
    pub(crate) fresh_until: Option<Moment>,
    /// Why it is not shared or stored, in a word.
    pub(crate) detail: Option<&'static str>,
    /// The variant that the answer is, by its own Vary.
    pub(crate) variant: VariantKey,
    pub(crate) vary: Option<Arc<VarySpec>>,
    pub(crate) tags: Box<[Tag]>,
    /// What may be done to the body for clients that take another coding, or has to be done for all.
    pub(crate) recoding: Recoding,
    /// How the body is read where it is a page with holes ([`Recoding::Assemble`]); its coding is not in `block`.
    pub(crate) page: Option<Readable>,
    /// When the request for it went out, in purges; `None` where it is none of the cache's business. Shared, so that purges
    /// since then are remembered for as long as a reader may want to know.
    pub(crate) stamp: Option<Arc<FillStamp>>,
    /// Fields behind the body. Set before its end is told; never while it comes, nor where it is stored.
    pub(crate) trailers: OnceLock<HeaderMap>,
}

impl Answer {
    /// Whether a body follows the head, whatever the method was (RFC 9110 section 6.4.1).
    pub(crate) fn may_have_body(&self) -> bool {
        !(self.status.is_informational()
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED)
    }
}

/// Names of lines that concern one connection only (RFC 9110 section 7.6.1), or that frame the body.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        &header::CONNECTION,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
        &header::TE,
        &header::TRAILER,
        &header::PROXY_AUTHENTICATE,
        &header::PROXY_AUTHORIZATION,
    ]
    .contains(&name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// The names that `Connection` lines list.
pub(crate) fn listed_in_connection(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| std::str::from_utf8(name.trim_ascii()).ok())
        .filter(|name| !name.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Serialises status line and header lines for clients; `unwanted` tells lines that visitors do not see.
///
/// A Date is added when the node sent none (RFC 9110 section 6.6.1).
pub(crate) fn header_block(
    status: StatusCode,
    reason: Option<&str>,
    headers: &HeaderMap,
    unwanted: impl Fn(&HeaderName) -> bool,
    date: &str,
) -> Bytes {
    let mut block = Vec::with_capacity(64 + headers.len() * 48);
    push_head(&mut block, status, reason, headers, unwanted);
    if !headers.contains_key(header::DATE) {
        push_line(&mut block, "date", date.as_bytes());
    }
    block.into()
}

/// Serialises an interim answer (1xx) whole, its empty line included.
pub(super) fn interim_block(
    status: StatusCode,
    headers: &HeaderMap,
    unwanted: impl Fn(&HeaderName) -> bool,
) -> Bytes {
    let mut block = Vec::with_capacity(64 + headers.len() * 48);
    push_head(&mut block, status, None, headers, unwanted);
    block.extend_from_slice(b"\r\n");
    block.into()
}

/// Status line and those header lines that are for everybody on the way.
fn push_head(
    block: &mut Vec<u8>,
    status: StatusCode,
    reason: Option<&str>,
    headers: &HeaderMap,
    unwanted: impl Fn(&HeaderName) -> bool,
) {
    let listed = listed_in_connection(headers);
    block.extend_from_slice(b"HTTP/1.1 ");
    block.extend_from_slice(status.as_str().as_bytes());
    block.push(b' ');
    block.extend_from_slice(reason.or(status.canonical_reason()).unwrap_or_default().as_bytes());
    block.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        let dropped = is_hop_by_hop(name)
            || name == header::CONTENT_LENGTH
            || name == header::AGE
            || unwanted(name)
            || listed.iter().any(|listed| listed == name.as_str());
        if !dropped {
            push_line(block, name.as_str(), value.as_bytes());
        }
    }
}

pub(super) fn push_line(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.reserve(name.len() + value.len() + 4);
    let start = block.len();
    block.extend_from_slice(name.as_bytes());
    // Names go out as browsers' tools show them: Content-Type, not content-type.
    let written = &mut block[start..];
    for part in written.split_mut(|byte| *byte == b'-') {
        if let Some(first) = part.first_mut() {
            first.make_ascii_uppercase();
        }
    }
    block.extend_from_slice(b": ");
    // A value came through a parser that lets no line end in; what still looks like one would split the answer. Asked of
    // all bytes at once, without a branch for each.
    let would_split = value.iter().fold(false, |found, byte| found | matches!(byte, b'\r' | b'\n' | 0));
    if would_split {
        block.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { *byte }));
    } else {
        block.extend_from_slice(value);
    }
    block.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_block_has_what_is_for_the_client_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/html"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("age", "3"),
            ("xkey", "a b"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("keep-alive", "timeout=5"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let block = header_block(StatusCode::OK, Some("Fine"), &headers, |name| name == "xkey", "DATE");
        assert_eq!(
            String::from_utf8(block.to_vec()).unwrap(),
            "HTTP/1.1 200 Fine\r\nContent-Type: text/html\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: DATE\r\n"
        );
    }
}
