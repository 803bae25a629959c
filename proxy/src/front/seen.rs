//! A request as the cache sees it, and as the node of a fetch for the cache does.
//!
//! Both see the same: [`Seen`] answers for a head that is still in the connection's buffer, [`Seen::headers`] makes the map
//! that goes with a fetch, and either gives the same value for every header that a variant may be chosen by. What the
//! route's rules take away is not in the key, and the node does not get it; what they put in its place is in both.

use std::net::IpAddr;
use std::sync::Arc;

use clearcoat_cache::{SelectingHeaders, language};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::cookies::{CookieRules, Kept};
use super::forward;
use super::normalise::Normaliser;
use super::parts::{KEY_COOKIES, KeyParts};
use super::query::QueryRules;
use crate::fetch::Caching;
use crate::listen::head::Head;

/// Where a node finds the client's address. What else they tell it of the visitor is in the key, or, as the proxies in between, is
/// none of the page's business.
static OF_CLIENT: [HeaderName; 2] = [HeaderName::from_static("x-forwarded-for"), header::FORWARDED];

/// What a route makes of its requests before they are looked up. Default: nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestRules {
    pub(crate) query: QueryRules,
    pub(crate) cookies: CookieRules,
    pub(crate) parts: KeyParts,
    /// Each reads what the client sent, not what another makes of it.
    pub(crate) normalise: Arc<[Normaliser]>,
    /// Who is listened to when he asks for nothing from memory (`Cache-Control: no-cache` and its kin): the stored copy is
    /// asked after, and what comes of it is for all.
    pub(crate) no_cache: NoCache,
}

/// Whose wish for nothing from memory counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum NoCache {
    /// Nobody's, as in Varnish.
    #[default]
    Ignored,
    /// Everybody's.
    Everybody,
    /// That of who may purge (FOSHttpCache's `refresh`). What was asked for before is not what he wants either.
    Purgers,
}

impl RequestRules {
    /// What is changed in the headers of a request that is none of the cache's business; `None` takes a line away. It goes to
    /// the node as it is, less the cookies that do not stay; values that have a header of their own are told there too.
    pub(crate) fn changes_past_cache(&self, headers: &HeaderMap) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let mut changes = Vec::new();
        changes.extend(self.cookies.change(headers).map(|left| (header::COOKIE, left)));
        let kept = Kept { cookies: &self.cookies, headers };
        changes.extend(
            self.normalise.iter().filter_map(|normaliser| {
                Some((normaliser.goes_to.clone()?, normaliser.value(&kept).cloned()))
            }),
        );
        changes
    }

    /// Changes the headers of a request so that what is left is in the key, or does not change answers.
    fn apply_for_cache(&self, headers: &mut HeaderMap, client: Option<IpAddr>) {
        if let Some(left) = self.cookies.change(headers) {
            set(headers, &header::COOKIE, left);
        }
        forward::withhold(headers, &self.parts);
        if let Some(client) =
            client.and_then(|client| HeaderValue::from_bytes(&forward::address(client)).ok())
        {
            for name in &OF_CLIENT {
                headers.insert(name.clone(), client.clone());
            }
        }
        // In the spelling that is in the key. What cannot be a value was none before.
        if let Some(Ok(text)) = language::canonical(headers).map(|text| HeaderValue::from_bytes(&text)) {
            headers.insert(header::ACCEPT_LANGUAGE, text);
        }
        let values: Vec<_> =
            self.normalise.iter().map(|normaliser| normaliser.value(headers).cloned()).collect();
        let cookies = (!self.parts.cookies().is_empty()).then(|| self.parts.cookie_line(headers));
        for normaliser in self.normalise.iter() {
            headers.remove(&normaliser.header);
        }
        for (normaliser, value) in self.normalise.iter().zip(values) {
            set(headers, normaliser.place(), value);
        }
        if let Some(Ok(line)) = cookies.map(|line| HeaderValue::from_bytes(&line)) {
            headers.insert(KEY_COOKIES.clone(), line);
        }
    }
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => drop(headers.insert(name.clone(), value)),
        None => drop(headers.remove(name)),
    }
}

/// A view of a request through the rules of its route. Making one costs nothing.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    head: &'a Head<'a, 'a>,
    rules: &'a RequestRules,
    client: Option<IpAddr>,
    /// The header of the user context and what it says, where that is known.
    hash: Option<(&'a HeaderName, &'a [u8])>,
}

/// What the client sent, as far as nodes get to see it.
struct Sent<'a>(Seen<'a>);

impl SelectingHeaders for Sent<'_> {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        let Seen { head, rules, client, hash: _ } = self.0;
        if name == header::COOKIE.as_str() {
            return rules.cookies.visit(head, value);
        }
        if OF_CLIENT.iter().any(|own| own.as_str() == name) {
            // Ours, and a node may choose by it.
            if let Some(client) = client {
                value(&forward::address(client));
            }
            return;
        }
        let withheld = forward::is_word_of_strangers(name)
            || forward::changes_answers_unseen(name) && !rules.parts.has_header(name);
        if !withheld {
            head.visit(name, value);
        }
    }
}

impl SelectingHeaders for Seen<'_> {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        if let Some((own, hash)) = self.hash
            && own.as_str() == name
        {
            return value(hash);
        }
        for normaliser in self.rules.normalise.iter() {
            if normaliser.place().as_str() == name {
                if let Some(found) = normaliser.value(&Sent(*self)) {
                    value(found.as_bytes());
                }
                return;
            }
            if normaliser.header.as_str() == name {
                return;
            }
        }
        if name == KEY_COOKIES.as_str() && !self.rules.parts.cookies().is_empty() {
            return value(&self.rules.parts.cookie_line(&Sent(*self)));
        }
        Sent(*self).visit(name, value);
    }
}

impl<'a> Seen<'a> {
    pub(crate) fn new(head: &'a Head<'a, 'a>, rules: &'a RequestRules, client: Option<IpAddr>) -> Self {
        Self { head, rules, client, hash: None }
    }

    /// The same with the visitor's context.
    pub(crate) fn with_hash(self, hash: Option<(&'a HeaderName, &'a [u8])>) -> Self {
        Self { hash, ..self }
    }

    /// Whether it carries Authorization.
    pub(crate) fn is_authorized(&self) -> bool {
        self.head.values(header::AUTHORIZATION.as_str()).next().is_some()
    }

    /// Who the visitor is to an application, part by part, each with a number for its kind: the cookies that are kept (1),
    /// then Authorization (2). Nothing for visitors without a session.
    pub(crate) fn identity(&self, part: &mut dyn FnMut(u8, &[u8])) {
        self.rules.cookies.each(self.head, &mut |cookies| part(1, cookies));
        self.head.values(header::AUTHORIZATION.as_str()).for_each(|value| part(2, value));
    }

    /// Whether the visitor has a session.
    pub(crate) fn has_session(&self) -> bool {
        let mut found = false;
        self.identity(&mut |_, _| found = true);
        found
    }

    /// Whether the request's cookies send it past the cache.
    pub(crate) fn passes_by_cookie(&self) -> bool {
        self.rules.cookies.send_past(self.head, self.rules.parts.cookies())
    }

    /// The headers that go with a fetch.
    pub(crate) fn headers(&self, caching: Caching) -> HeaderMap {
        let mut headers = forward::end_to_end(self.head);
        match caching {
            Caching::Bypass => {
                for (name, value) in self.rules.changes_past_cache(&headers) {
                    set(&mut headers, &name, value);
                }
            }
            Caching::Shared | Caching::Apart | Caching::Part => {
                self.rules.apply_for_cache(&mut headers, self.client);
                // It is a value that came in a header.
                if let Some((name, Ok(hash))) =
                    self.hash.map(|(name, hash)| (name, HeaderValue::from_bytes(hash)))
                {
                    headers.insert(name.clone(), hash);
                }
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clearcoat_cache::{KeySecret, VarySpec};
    use clearcoat_conf::NamePattern;

    use super::super::normalise::{By, pattern};
    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    fn value(text: &str) -> HeaderValue {
        text.parse().unwrap()
    }

    /// Every kind of rule at once.
    fn rules() -> RequestRules {
        let devices = By::Classes {
            classes: [(value("mobile"), pattern("(?i)mobi").unwrap())].into(),
            otherwise: Some(value("desktop")),
        };
        let languages = By::Languages(["en", "de"].map(value).into());
        RequestRules {
            cookies: CookieRules {
                keep: Some(["currency", "s*"].map(|name| NamePattern::cookie(name).unwrap()).into()),
                ..CookieRules::default()
            },
            parts: KeyParts::new([HeaderName::from_static("x-host")], ["currency"]),
            normalise: Arc::new([
                Normaliser {
                    header: header::USER_AGENT,
                    by: devices,
                    goes_to: Some(HeaderName::from_static("x-device")),
                },
                Normaliser { header: header::ACCEPT_LANGUAGE, by: languages, goes_to: None },
            ]),
            ..RequestRules::default()
        }
    }

    fn with_head<T>(text: &str, look: impl FnOnce(&Head<'_, '_>) -> T) -> T {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n");
        let mut room = lines();
        let limits = HeadLimits { bytes: 10_000, count: 100, url_bytes: 100 };
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut room, &limits) else { panic!("{text}") };
        look(&head)
    }

    fn visited(request: &dyn SelectingHeaders, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        request.visit(name, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        lines
    }

    /// What both views say of a header.
    #[track_caller]
    fn check(rules: &RequestRules, text: &str, name: &str, expected: &[&str]) {
        let client = Some(IpAddr::from([127, 0, 0, 1]));
        with_head(text, |head| {
            let seen = Seen::new(head, rules, client);
            let map = seen.headers(Caching::Shared);
            assert_eq!(visited(&seen, name), expected, "the view of {text:?}");
            // The map has languages in their usual spelling already; the key makes no difference there.
            let vary = VarySpec::from_names([name.parse().unwrap()]).unwrap();
            let secret = KeySecret::new([7; 16]);
            assert_eq!(vary.variant(&secret, &seen), vary.variant(&secret, &map), "the variant: {text:?}");
        });
    }

    #[test]
    fn without_rules_a_request_is_what_it_is() {
        let plain = RequestRules::default();
        check(&plain, "X-A: 1\r\nX-A: 2\r\n", "x-a", &["1", "2"]);
        check(&plain, "Cookie: a=1\r\nCookie: b\r\n", "cookie", &["a=1", "b"]);
        check(&plain, "Accept-Language: DE , en\r\n", "accept-language", &["DE , en"]);
        check(&plain, "", "x-a", &[]);
        check(&plain, "!key-cookies: x\r\n", "!key-cookies", &["x"]);
    }

    #[test]
    fn rules_hold_in_both_views() {
        let rules = rules();
        let text =
            "Cookie: _ga=1; sid=2; currency=EUR\r\nUser-Agent: Mobi\r\nAccept-Language: it, de;q=0.5\r\n";
        check(&rules, text, "cookie", &["sid=2; currency=EUR"]);
        check(&rules, text, "user-agent", &[]);
        check(&rules, text, "x-device", &["mobile"]);
        check(&rules, text, "accept-language", &["de"]);
        check(&rules, text, "!key-cookies", &["currency=%3dEUR"]);
        check(&rules, "X-Device: forged\r\n", "x-device", &["desktop"]);
        check(&rules, "!key-cookies: forged\r\n", "!key-cookies", &["currency"]);
    }

    #[test]
    fn what_strangers_say_is_in_neither_view() {
        let rules = rules();
        let text = "X-Real-IP: 1.2.3.4\r\nX_A: 1\r\nX-Original-URL: /x\r\nX-Host: b\r\nX-Forwarded-For: 1.2.3.4\r\n\
                    X-Forwarded-Host: b\r\nForwarded: for=1.2.3.4\r\n";
        for (name, expected) in [
            ("x-real-ip", &[][..]),
            ("x_a", &[]),
            ("x-original-url", &[]),
            // It is part of this route's key.
            ("x-host", &["b"]),
            // The node is told the true one, and may vary on it.
            ("x-forwarded-for", &["127.0.0.1"]),
            ("forwarded", &["127.0.0.1"]),
            ("x-forwarded-host", &[]),
        ] {
            check(&rules, text, name, expected);
        }
        check(&RequestRules::default(), text, "x-host", &[]);
    }

    #[test]
    fn past_the_cache_only_cookies_go_and_values_come() {
        let text = "Cookie: _ga=1\r\nUser-Agent: Mobi\r\nAccept-Language: it\r\nX-Original-URL: /x\r\nX-Device: x\r\n\
                    X-Real-IP: 1.2.3.4\r\n";
        let rules = rules();
        let map = with_head(text, |head| Seen::new(head, &rules, None).headers(Caching::Bypass));
        for (name, expected) in [
            ("cookie", None),
            ("user-agent", Some("Mobi")),
            ("accept-language", Some("it")),
            ("x-original-url", Some("/x")),
            ("x-device", Some("mobile")),
            ("x-real-ip", None),
        ] {
            assert_eq!(map.get(name).map(|value| value.to_str().unwrap()), expected, "{name}");
        }
    }
}
