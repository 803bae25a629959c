//! Which cookies of a request count, and what their presence means.

use clearcoat_cache::SelectingHeaders;
use clearcoat_conf::NamePattern;
use http::HeaderMap;
use http::header::{self, HeaderValue};

use super::names::{before_equals, variable};

/// What is done with the cookies of a request. Default: all stay, and they mean nothing to the cache unless the response
/// varies on them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct CookieRules {
    /// The cookies that stay; all others are dropped before anything looks: the variant, the node, the pass road, the choice
    /// of a node. `None`: all. An empty list: none.
    pub(crate) keep: Option<Box<[NamePattern]>>,
    /// Whether a request that still has a cookie goes to a node as it is, is not answered from memory, and its answer not
    /// stored (what Varnish does by default). Cookies that are part of the key do not count: who has only those is told from
    /// others by the key already.
    pub(crate) pass: bool,
    /// Whether a request with Authorization keeps all its cookies: what it may see is told by that, and applications that
    /// authorize each request know other cookies than those of their visitors' sessions.
    pub(crate) authorized_as_sent: bool,
}

impl CookieRules {
    /// Calls `value` with the Cookie lines that are left of those of `headers`. Nothing is allocated where all stay.
    pub(crate) fn visit(&self, headers: &dyn SelectingHeaders, value: &mut dyn FnMut(&[u8])) {
        match self.kept(headers) {
            None => headers.visit(header::COOKIE.as_str(), value),
            Some(keep) => {
                let left = left(keep, headers);
                if !left.is_empty() {
                    value(&left);
                }
            }
        }
    }

    /// Calls `each` with what is left of the Cookie lines of `headers`: the lines where all stay, else each cookie. Nothing is
    /// allocated.
    pub(crate) fn each(&self, headers: &dyn SelectingHeaders, each: &mut dyn FnMut(&[u8])) {
        headers.visit(header::COOKIE.as_str(), &mut |line| match self.kept(headers) {
            None => each(line),
            Some(keep) => pairs(line).filter(|pair| stays(keep, pair)).for_each(&mut *each),
        });
    }

    /// The cookies that stay of a request; `None`: all.
    fn kept(&self, headers: &dyn SelectingHeaders) -> Option<&[NamePattern]> {
        let keep = self.keep.as_deref()?;
        let mut as_sent = false;
        if self.authorized_as_sent {
            headers.visit(header::AUTHORIZATION.as_str(), &mut |_| as_sent = true);
        }
        (!as_sent).then_some(keep)
    }

    /// The one Cookie line that is left of those of `headers`, `Some(None)` if nothing is; `None` if they stay as they are.
    pub(crate) fn change(&self, headers: &HeaderMap) -> Option<Option<HeaderValue>> {
        let keep = self.kept(headers).filter(|_| headers.contains_key(header::COOKIE))?;
        let left = left(keep, headers);
        // Parts of a value are a value.
        Some(HeaderValue::from_bytes(&left).ok().filter(|left| !left.is_empty()))
    }

    /// Whether the request is to pass because of its cookies; `in_key` are the names that are part of the key.
    pub(crate) fn send_past(&self, headers: &dyn SelectingHeaders, in_key: &[Box<[u8]>]) -> bool {
        let mut found = false;
        if self.pass {
            self.visit(headers, &mut |line| found |= pairs(line).any(|pair| !is_one_of(pair, in_key)));
        }
        found
    }
}

/// Headers without the cookies that do not stay.
pub(crate) struct Kept<'a> {
    pub(crate) cookies: &'a CookieRules,
    pub(crate) headers: &'a dyn SelectingHeaders,
}

impl SelectingHeaders for Kept<'_> {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        if name == header::COOKIE.as_str() {
            self.cookies.visit(self.headers, value);
        } else {
            self.headers.visit(name, value);
        }
    }
}

/// The cookies of a line, `NAME=VALUE` each (RFC 6265 section 4.2.1), or without `=` as browsers send those that have no
/// name.
pub(crate) fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// Whether PHP takes a cookie for one of these names: some spellings are others to us and the same to it.
pub(crate) fn is_one_of(pair: &[u8], names: &[Box<[u8]>]) -> bool {
    names.iter().any(|name| is_named(pair, name))
}

/// Whether PHP takes a cookie for the one of this name.
pub(crate) fn is_named(pair: &[u8], name: &[u8]) -> bool {
    let own = before_equals(pair);
    own == name || variable(own).eq(variable(name))
}

fn stays(keep: &[NamePattern], pair: &[u8]) -> bool {
    let name = before_equals(pair);
    keep.iter().any(|known| known.matches(name.iter().copied()))
}

fn left(keep: &[NamePattern], headers: &dyn SelectingHeaders) -> Vec<u8> {
    let mut left = Vec::new();
    headers.visit(header::COOKIE.as_str(), &mut |line| {
        for pair in pairs(line) {
            if stays(keep, pair) {
                if !left.is_empty() {
                    left.extend_from_slice(b"; ");
                }
                left.extend_from_slice(pair);
            }
        }
    });
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rules(keep: &[&str], pass: bool) -> CookieRules {
        CookieRules {
            keep: Some(keep.iter().map(|name| NamePattern::cookie(name).unwrap()).collect()),
            pass,
            authorized_as_sent: false,
        }
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, line.parse().unwrap())).collect()
    }

    #[track_caller]
    fn check(rules: &CookieRules, lines: &[&str], expected: &[&str]) {
        let mut seen = Vec::new();
        rules.visit(&headers(lines), &mut |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        assert_eq!(seen, expected, "{lines:?}");
        let mut each = Vec::new();
        rules.each(&headers(lines), &mut |part| each.push(String::from_utf8_lossy(part).into_owned()));
        let (each, whole) = (each.join("; "), expected.join("; "));
        assert_eq!(each, whole, "one by one: {lines:?}");
        if let Some(change) = rules.change(&headers(lines)) {
            let left: Vec<_> = change.iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(left, expected, "the map says the same: {lines:?}");
        }
    }

    #[test]
    fn only_the_listed_cookies_stay() {
        check(&CookieRules::default(), &["a=1;b=2", "c=3"], &["a=1;b=2", "c=3"]);
        let some = rules(&["a", "eZSESSID*"], false);
        check(&some, &["_ga=1; a=2;eZSESSID5=x", "b=3; a=4"], &["a=2; eZSESSID5=x; a=4"]);
        check(&some, &["A=1; aa=2; =a; a"], &["a"]);
        check(&some, &["_ga=1"], &[]);
        check(&some, &[";;"], &[]);
        check(&some, &[], &[]);
        check(&rules(&[], false), &["a=1"], &[]);
        check(&rules(&["a*", "b"], false), &["a=1;  b=2"], &["a=1; b=2"]);
    }

    #[test]
    fn authorized_requests_may_keep_them_all() {
        let rules = CookieRules { authorized_as_sent: true, ..rules(&["a"], false) };
        for (authorization, expected) in [(None, Some("a=1")), (Some("Basic eA=="), Some("b=2; a=1"))] {
            let mut headers = headers(&["b=2; a=1"]);
            headers.extend(authorization.map(|text| (header::AUTHORIZATION, text.parse().unwrap())));
            let mut seen = None;
            rules.visit(&headers, &mut |line| seen = Some(String::from_utf8_lossy(line).into_owned()));
            assert_eq!(seen.as_deref(), expected, "{authorization:?}");
            assert_eq!(rules.change(&headers).is_some(), authorization.is_none());
        }
    }

    #[test]
    fn cookies_that_are_left_send_a_request_past_the_cache() {
        let in_key: [Box<[u8]>; 1] = [(*b"currency").into()];
        for (rules, line, expected) in [
            (rules(&["a", "currency"], true), "a=1", true),
            (rules(&["a", "currency"], true), "b=1; currency=EUR", false),
            (rules(&["a", "currency"], true), "a=1; currency=EUR", true),
            (rules(&["a"], false), "a=1", false),
            (CookieRules { pass: true, ..CookieRules::default() }, "x=1", true),
            (CookieRules { pass: true, ..CookieRules::default() }, "%63urrency=USD", false),
            (CookieRules { pass: true, ..CookieRules::default() }, " ; ", false),
        ] {
            assert_eq!(rules.send_past(&headers(&[line]), &in_key), expected, "{rules:?}: {line}");
        }
    }
}
