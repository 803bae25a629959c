//! What of a client's header lines goes to a node, and what is added.
//!
//! Dropped: lines that concern the client's connection only, names with an underscore (PHP cannot tell `X_Name` from
//! `X-Name`; nginx drops them too), and what strangers may not say about themselves: `Forwarded` and `X-Forwarded-*`.

use std::net::IpAddr;

use clearcoat_cache::vary::EncodingClass;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pingora_error::Result;
use pingora_http::RequestHeader;

use crate::fetch::{Caching, is_hop_by_hop, listed_in_connection};
use crate::listen::head::Head;

/// Header lines that `Connection` may not take away, whatever a client lists there: nodes and caches decide by them.
const PROTECTED: [HeaderName; 7] = [
    header::HOST,
    header::COOKIE,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::ACCEPT_ENCODING,
];

/// Conditions and ranges: a fetch for the cache wants the whole answer.
const PARTIAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// Lines by which frameworks let a client choose another URL or method. They are not part of the key, so an answer
/// that was made by them would be served to others: they do not go with a fetch for the cache.
const UNKEYED: [&str; 8] = [
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
];

/// The client's lines that may go on, as a map.
pub(crate) fn end_to_end(head: &Head<'_, '_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
    for line in head.headers {
        // Both were read by a strict parser; what does not convert is not worth an error.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_bytes(line.value))
        else {
            continue;
        };
        headers.append(name, value);
    }
    for name in listed_in_connection(&headers) {
        if !PROTECTED.iter().any(|protected| protected.as_str() == name) {
            headers.remove(name.as_str());
        }
    }
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| is_not_for_nodes(name)).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    headers
}

/// Lines that never reach a node as the client sent them.
pub(crate) fn is_not_for_nodes(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || name == header::HOST
        || name == header::CONTENT_LENGTH
        || name == header::FORWARDED
        || name.as_str().starts_with("x-forwarded-")
        || name.as_str().contains('_')
}

/// Adds what the node is told about the client and the way, and takes out what a fetch for the cache does not want.
///
/// # Errors
///
/// None with a host that was parsed; pingora's type allows for one.
pub(crate) fn complete(
    header: &mut RequestHeader,
    host: &str,
    client: Option<IpAddr>,
    caching: Caching,
) -> Result<()> {
    if caching != Caching::Bypass {
        for name in PARTIAL.iter().map(HeaderName::as_str).chain(UNKEYED) {
            header.remove_header(name);
        }
        // The cache tells clients apart by the classes of codings they take; the node is asked for one of these, lest
        // it choose a coding that others of the class cannot read.
        match EncodingClass::of(&header.headers).as_header_value() {
            Some(codings) => header.insert_header(header::ACCEPT_ENCODING, codings)?,
            None => drop(header.remove_header(&header::ACCEPT_ENCODING)),
        }
    }
    header.insert_header(header::HOST, host)?;
    if let Some(client) = client {
        header.insert_header("X-Forwarded-For", client.to_canonical().to_string())?;
    }
    header.insert_header("X-Forwarded-Proto", "http")?;
    header.insert_header("X-Forwarded-Host", host)?;
    header.append_header(header::VIA, "1.1 clearcoat")?;
    Ok(())
}

/// Whether the method only reads (RFC 9110 section 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether repeating the request does no harm (RFC 9110 section 9.2.2), as far as the method tells.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}
