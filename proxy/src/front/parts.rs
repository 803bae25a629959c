//! What the operator puts into the key besides the URL: headers and cookies.
//!
//! They are no part of the hash that is the URL's key, but a Vary that is always there, joined with the response's own. So
//! one look-up by the URL still finds all that is stored of it, and a purge of the URL takes it all: whoever purges knows
//! the URL and not which devices or currencies there are. It also bounds them, by the number of variants that a URL may have.
//! The price is that all of them stand in one list; Varnish pays it for every Vary.
//!
//! Headers are plain names of that Vary. A cookie is not a header, so the cookies are put together into one line under a
//! name that no node ever sees.

use std::sync::Arc;

use clearcoat_cache::{SelectingHeaders, VarySpec};
use http::header::{self, HeaderName};

use super::cookies;

/// The name of the line that the cookies of the key are put into.
pub(crate) static KEY_COOKIES: HeaderName = HeaderName::from_static("!key-cookies");

/// The parts of one route. Default: none.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyParts {
    headers: Box<[HeaderName]>,
    cookies: Box<[Box<[u8]>]>,
    vary: Option<Arc<VarySpec>>,
}

impl KeyParts {
    /// These headers, and the cookies with exactly these names.
    pub(crate) fn new<'a>(
        headers: impl IntoIterator<Item = HeaderName>,
        cookies: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let headers: Box<[HeaderName]> = headers.into_iter().collect();
        let cookies: Box<[Box<[u8]>]> = cookies.into_iter().map(|name| name.as_bytes().into()).collect();
        let line = (!cookies.is_empty()).then(|| KEY_COOKIES.clone());
        let vary = VarySpec::from_names(headers.iter().cloned().chain(line)).map(Arc::new);
        Self { headers, cookies, vary }
    }

    /// What every answer of the route varies on; `None` if there are no parts.
    pub(crate) fn vary(&self) -> Option<&Arc<VarySpec>> {
        self.vary.as_ref()
    }

    /// Whether this header is part of the key.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|known| known.as_str() == name)
    }

    /// The names of the cookies.
    pub(crate) fn cookies(&self) -> &[Box<[u8]>] {
        &self.cookies
    }

    /// The cookies of a request that are part of the key, in one line: `currency=EUR;site`, the second not being there. Two
    /// requests have the same line exactly if they have the same of all of them, several of one name in their order.
    pub(crate) fn cookie_line(&self, request: &dyn SelectingHeaders) -> Vec<u8> {
        let mut line = Vec::new();
        for name in &self.cookies {
            if !line.is_empty() {
                line.push(b';');
            }
            line.extend_from_slice(name);
            request.visit(header::COOKIE.as_str(), &mut |cookies| {
                for pair in cookies::pairs(cookies).filter(|pair| cookies::is_named(pair, name)) {
                    line.push(b'=');
                    // Other spellings of the name are told apart: the node may see a difference.
                    let own = super::names::before_equals(pair);
                    push_escaped(&mut line, if own == &**name { &pair[own.len()..] } else { pair });
                }
            });
        }
        line
    }
}

/// What would be taken for the line's own marks, or for a list's white space and commas, is escaped.
fn push_escaped(line: &mut Vec<u8>, value: &[u8]) {
    // With its `=`; a cookie without one differs from an empty one.
    for &byte in value {
        if byte.is_ascii_graphic() && !matches!(byte, b'%' | b',' | b';' | b'=') || byte >= 0x80 {
            line.push(byte);
        } else {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            line.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;

    use super::*;

    fn line(names: &[&str], cookies: &[&str]) -> String {
        let request: HeaderMap = cookies.iter().map(|line| (header::COOKIE, line.parse().unwrap())).collect();
        String::from_utf8(KeyParts::new([], names.iter().copied()).cookie_line(&request)).unwrap()
    }

    #[test]
    fn cookies_make_a_line() {
        let names = ["currency", "site"];
        for (cookies, expected) in [
            (&["a=1; currency=EUR; b=2"][..], "currency=%3dEUR;site"),
            (&["site=x", "currency=a b"], "currency=%3da%20b;site=%3dx"),
            (&["currency=EUR; currency=USD"], "currency=%3dEUR=%3dUSD;site"),
            (&["currency"], "currency=;site"),
            (&["currency="], "currency=%3d;site"),
            (&[], "currency;site"),
            // PHP takes it for `currency`.
            (&["%63urrency=USD"], "currency=%2563urrency%3dUSD;site"),
        ] {
            assert_eq!(line(&names, cookies), expected, "{cookies:?}");
        }
    }

    #[test]
    fn different_cookies_never_make_the_same_line() {
        let all = [
            line(&["a", "b"], &["a=1;b=2"]),
            line(&["a", "b"], &["a=1%3bb=2"]),
            line(&["a", "b"], &["a=1=b=2"]),
            line(&["a", "b"], &["a=1,b=2"]),
            line(&["a", "b"], &["a=1; a=2"]),
            line(&["a", "b"], &["a=1; a=2; b"]),
            line(&["a", "b"], &["a=1; a; b=2"]),
            line(&["a", "b"], &["a=2; a=1"]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
    }

    #[test]
    fn what_is_in_the_key_is_a_vary() {
        assert!(KeyParts::default().vary().is_none());
        let parts = KeyParts::new([HeaderName::from_static("x-device")], ["currency"]);
        let names: Vec<_> = parts.vary().unwrap().names().collect();
        assert_eq!(names, ["!key-cookies", "x-device"]);
        assert!(parts.has_header("x-device") && !parts.has_header("x-other"));
    }
}
