//! What of a client's header lines goes to a node, and what is added.
//!
//! Dropped: lines that concern the client's connection only, names with an underscore (PHP cannot tell `X_Name` from
//! `X-Name`; nginx drops them too), and what strangers may not say about themselves: `Forwarded`, `X-Forwarded-*` and their
//! kin. A fetch for the cache also goes without lines that would change the answer and are not part of the key.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use clearcoat_cache::Scheme;
use clearcoat_cache::key::canonical_host;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pingora_error::Result;
use pingora_http::RequestHeader;
use smallvec::SmallVec;

use super::forwarded;
use super::parts::{KEY_COOKIES, KeyParts};
use super::visitor::{Visitor, write_address};
use crate::fetch::{Caching, is_hop_by_hop};
use crate::listen::head::Head;

/// Header lines that `Connection` may not take away, whatever a client lists there: nodes and caches decide by them.
pub(super) const PROTECTED: [HeaderName; 7] = [
    header::HOST,
    header::COOKIE,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::ACCEPT_ENCODING,
];

/// Conditions and ranges: a fetch for the cache wants the whole answer; [`Caching::Part`] keeps the ranges.
///
/// `Expect` goes with them, in [`is_unwanted`]: it is about a body that is not there, and Apache answers it with 417.
const PARTIAL: [HeaderName; 6] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
];

/// What only whoever stands in front of us may say, and nobody does: who the client is, what host it asked for and by
/// which scheme, how an earlier hop is to be treated. Strangers do not say it to nodes, whether or not the answer is
/// stored. `X-Forwarded-*` and names with an underscore are meant too; those of the first that nodes need are said anew.
const OF_STRANGERS: [&str; 13] = [
    "forwarded",
    "client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-original-forwarded-for",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    // CGI makes `HTTP_PROXY` of it, which many HTTP clients take for their own setting (httpoxy, CVE-2016-5385).
    "proxy",
    // Symfony takes it for the depth of its output buffers, set by itself for fragments.
    "x-php-ob-level",
];

/// Lines by which frameworks and servers let a client choose another URL, host, scheme or method, or another form of the
/// answer. They are not part of the key, so an answer that was made by them would be served to others: they do not go with a
/// fetch for the cache, unless the operator puts them into the key. No node names them in Vary. Where the request is none of
/// the cache's business they go on; there they change nobody else's answer.
const UNKEYED: [&str; 40] = [
    // Another URL: IIS, Symfony, Zend and Laminas, Magento, ingress controllers, WAP gateways.
    "base-url",
    "destination",
    "request-uri",
    "uri",
    "x-forward-path",
    "x-http-destinationurl",
    "x-http-path-override",
    "x-original-uri",
    "x-original-url",
    "x-override-url",
    "x-path-info",
    "x-proxy-url",
    "x-request-uri",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-wap-profile",
    // Another host.
    "host-override",
    "http-host",
    "x-backend-host",
    "x-host",
    "x-host-override",
    "x-http-host-override",
    "x-original-host",
    "x-real-host",
    // Another scheme or port.
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "front-end-https",
    "x-https",
    "x-original-port",
    "x-original-proto",
    "x-scheme",
    "x-url-scheme",
    // Another method.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    // Another client: set by networks that may stand in front of us, so they are kept from stored answers only.
    "cf-connecting-ip",
    "fastly-client-ip",
    // Another form: Symfony answers with ESI tags instead of what they stand for.
    "surrogate-capability",
];

/// Whether nodes never hear this from a client. The name is in lower case.
pub(crate) fn is_word_of_strangers(name: &str) -> bool {
    name == header::HOST.as_str()
        || OF_STRANGERS.contains(&name)
        || name.starts_with("x-forwarded-")
        || name.contains('_')
}

/// Whether a header, named in lower case, changes answers in ways that no Vary tells of.
pub(crate) fn changes_answers_unseen(name: &str) -> bool {
    UNKEYED.contains(&name)
}

/// Takes out of a request for the cache what changes answers unseen, but for what is part of the key.
pub(crate) fn withhold(headers: &mut HeaderMap, parts: &KeyParts) {
    // By what is there, which is seldom any of them, instead of a look for each.
    let is_unkeyed =
        |name: &&HeaderName| UNKEYED.contains(&name.as_str()) && !parts.has_header(name.as_str());
    let unkeyed: Vec<HeaderName> = headers.keys().filter(is_unkeyed).cloned().collect();
    for name in unkeyed {
        headers.remove(name);
    }
}

/// The client's lines that may go on, as a map.
pub(crate) fn end_to_end(head: &Head<'_, '_>) -> HeaderMap {
    let listed: SmallVec<[&[u8]; 4]> = head
        .values(header::CONNECTION.as_str())
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_listed =
        |name: &HeaderName| listed.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str().as_bytes()));
    // One copy for all, of which the values are views.
    let mut copy = Vec::with_capacity(head.headers.iter().map(|line| line.value.len()).sum());
    head.headers.iter().for_each(|line| copy.extend_from_slice(line.value));
    let mut values = Bytes::from(copy);
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
    for line in head.headers {
        let value = values.split_to(line.value.len());
        // Both were read by a strict parser; what does not convert is not worth an error.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.name.as_bytes()), HeaderValue::from_maybe_shared(value))
        else {
            continue;
        };
        if !is_not_for_nodes(&name) && (!is_listed(&name) || PROTECTED.contains(&name)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Lines that never reach a node as the client sent them.
pub(crate) fn is_not_for_nodes(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || name == header::CONTENT_LENGTH || is_word_of_strangers(name.as_str())
}

/// What stands in `Via` for us.
pub(crate) const VIA: &str = "1.1 clearcoat";

/// A visitor's address in text.
pub(crate) fn address(client: IpAddr) -> SmallVec<[u8; 48]> {
    let mut text = SmallVec::new();
    write_address(client, |piece| text.extend_from_slice(piece));
    text
}

/// What a node is told about the client and the way there, whatever the client said of it itself: name, in lower case, and
/// value of each line. With `as_rfc7239` they hear it in `Forwarded` too.
pub(crate) fn told(
    host: &str,
    visitor: Visitor,
    as_rfc7239: bool,
    mut tell: impl FnMut(&'static str, &[u8]),
) {
    tell("host", host.as_bytes());
    if let Some(client) = visitor.address {
        let mut text = address(client);
        for proxy in visitor.proxies() {
            text.extend_from_slice(b", ");
            write_address(proxy, |piece| text.extend_from_slice(piece));
        }
        tell("x-forwarded-for", &text);
    }
    tell("x-forwarded-proto", visitor.scheme.as_str().as_bytes());
    tell("x-forwarded-host", host.as_bytes());
    tell("x-forwarded-port", port(visitor.scheme, host).as_bytes());
    if as_rfc7239 {
        tell("forwarded", &forwarded::value(host, visitor));
    }
}

/// Whether [`told`] says this in the client's place.
pub(crate) fn is_told(name: &HeaderName) -> bool {
    *name == header::HOST
        || matches!(
            name.as_str(),
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port"
        )
}

/// Whether a request for the cache goes without this line: it would get a part of the answer, or none.
pub(crate) fn is_unwanted(name: &HeaderName, caching: Caching) -> bool {
    let range = *name == header::RANGE || *name == header::IF_RANGE;
    PARTIAL.contains(name) && !(caching == Caching::Part && range)
        || *name == header::EXPECT
        || *name == KEY_COOKIES
}

/// Adds to a request that pingora sends what the node is told about the client and the way.
///
/// # Errors
///
/// None with a host that was parsed; pingora's type allows for one.
pub(crate) fn complete(
    header: &mut RequestHeader,
    host: &str,
    visitor: Visitor,
    as_rfc7239: bool,
) -> Result<()> {
    let mut done = Ok(());
    told(host, visitor, as_rfc7239, |name, value| {
        if done.is_ok() {
            done = header.insert_header(name, value);
        }
    });
    done?;
    header.append_header(header::VIA, VIA)?;
    Ok(())
}

/// The port that the visitor's URL names, or leaves out because it is the scheme's own.
fn port(scheme: Scheme, host: &str) -> Cow<'static, str> {
    match (canonical_host(scheme, host.as_bytes()).1, scheme) {
        (b"", Scheme::Http) => Cow::Borrowed("80"),
        (b"", Scheme::Https) => Cow::Borrowed("443"),
        (port, _) => Cow::Owned(String::from_utf8_lossy(port).into_owned()),
    }
}

/// Whether the method only reads (RFC 9110 section 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether repeating the request does no harm (RFC 9110 section 9.2.2), as far as the method tells.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_usual() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("255.10.200.99", "255.10.200.99"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:6666"),
        ] {
            let parsed: Option<IpAddr> = text.parse().ok();
            assert_eq!(parsed.map(|client| address(client).to_vec()), Some(expected.as_bytes().to_vec()));
        }
    }

    #[test]
    fn ports_are_those_of_the_visitors_url() {
        for (scheme, host, expected) in [
            (Scheme::Http, "a.test", "80"),
            (Scheme::Https, "a.test", "443"),
            (Scheme::Https, "a.test:443", "443"),
            (Scheme::Http, "a.test:443", "443"),
            (Scheme::Https, "a.test:8443", "8443"),
            (Scheme::Https, "[::1]", "443"),
            (Scheme::Http, "[::1]:8080", "8080"),
            (Scheme::Http, "", "80"),
        ] {
            assert_eq!(port(scheme, host), expected, "{scheme:?} {host}");
        }
    }
}
