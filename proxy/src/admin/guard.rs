//! Who may use the admin listener.
//!
//! It is meant for loopback or an administration network. Beyond that, three things are checked: a bearer token where
//! one is configured; for requests that change something, that `Host` is a name of ours, because a web page can make a
//! name of its own point at 127.0.0.1 (DNS rebinding); and that no other web page sent them (`Origin`, `Sec-Fetch-Site`).

use std::hint::black_box;
use std::net::IpAddr;

use super::http1::{Answer, Request};

/// The rules.
pub(super) struct Guard {
    token: Option<String>,
    /// Host names under which we may be addressed, in lower case, without port.
    names: Vec<String>,
    /// The address we listen on.
    bound: IpAddr,
}

impl Guard {
    /// Rules for a listener on `bound`. Without a token, reading is open to whoever can connect.
    pub(super) fn new(token: Option<String>, names: &[String], bound: IpAddr) -> Self {
        let names = names.iter().map(|name| host_name(name).to_ascii_lowercase()).collect();
        Self { token, names, bound }
    }

    /// The refusal, if there is one.
    pub(super) fn refusal(&self, request: &Request) -> Option<Answer> {
        if let Some(token) = &self.token
            && !bearer(request).is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
        {
            let realm = r#"Bearer realm="clearcoat""#;
            return Some(Answer::text(401, "a bearer token is needed here").with("WWW-Authenticate", realm));
        }
        match request.method.as_str() {
            "GET" | "HEAD" => None,
            _ if !self.is_ours(&request.host) => Some(Answer::text(
                403,
                "the Host of a request that changes something must be an address or name of this listener",
            )),
            _ if from_elsewhere(request) => Some(Answer::text(403, "sent by a web page of another site")),
            _ => None,
        }
    }

    /// Whether nobody else can make `host` lead here. An address in `Host` was typed as an address: rebinding needs a
    /// name.
    fn is_ours(&self, host: &str) -> bool {
        let name = host_name(host).to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || address == self.bound || self.bound.is_unspecified(),
            Err(_) => name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name),
        }
    }
}

/// The token of an `Authorization: Bearer` field (RFC 6750 §2.1).
fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.field("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares in a time that depends on the lengths only.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let difference = given.iter().zip(expected).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    given.len() == expected.len() && black_box(difference) == 0
}

/// Whether a browser says that a page which is not ours sent this.
fn from_elsewhere(request: &Request) -> bool {
    if matches!(request.field("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    request.field("origin").is_some_and(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(&request.host))
    })
}

/// The host of `HOST:PORT`, `[V6]:PORT`, or either without a port; a V6 address without its brackets.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn status(guard: &Guard, method: &str, host: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let request = Request { method: method.into(), host: host.into(), fields, ..Request::default() };
        guard.refusal(&request).map(|answer| answer.status)
    }

    #[test]
    fn the_token_is_compared_whole() {
        let guard = Guard::new(Some("s3cret".into()), &[], "127.0.0.1".parse().unwrap());
        for (field, expected) in [
            ("Bearer s3cret", None),
            ("bearer  s3cret", None),
            ("Bearer s3cre", Some(401)),
            ("Bearer s3cretX", Some(401)),
            ("Bearer ", Some(401)),
            ("Basic s3cret", Some(401)),
            ("s3cret", Some(401)),
        ] {
            assert_eq!(status(&guard, "GET", "localhost", &[("authorization", field)]), expected, "{field}");
        }
        assert_eq!(status(&guard, "GET", "localhost", &[]), Some(401));
    }

    #[test]
    fn only_hosts_of_ours_may_change_something() {
        let names = ["edge-1.lan:6082".to_owned()];
        let guard = Guard::new(None, &names, "10.0.0.5".parse().unwrap());
        for (host, expected) in [
            ("127.0.0.1:8081", None),
            ("localhost", None),
            ("LocalHost:8081", None),
            ("[::1]:8081", None),
            ("10.0.0.5:6082", None),
            ("edge-1.lan", None),
            ("10.0.0.6:6082", Some(403)),
            ("evil.example:8081", Some(403)),
            ("127.0.0.1.evil.example", Some(403)),
            ("", Some(403)),
        ] {
            assert_eq!(status(&guard, "POST", host, &[]), expected, "{host}");
            assert_eq!(status(&guard, "GET", host, &[]), None, "reading from {host}");
        }
        let everywhere = Guard::new(None, &[], "0.0.0.0".parse().unwrap());
        assert_eq!(status(&everywhere, "POST", "192.168.1.4:6082", &[]), None);
        assert_eq!(status(&everywhere, "POST", "evil.example", &[]), Some(403));
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let guard = Guard::new(None, &[], "127.0.0.1".parse().unwrap());
        for (name, value, expected) in [
            ("origin", "http://127.0.0.1:8081", None),
            ("origin", "http://127.0.0.1:9999", Some(403)),
            ("origin", "https://evil.example", Some(403)),
            ("origin", "null", Some(403)),
            ("sec-fetch-site", "same-origin", None),
            ("sec-fetch-site", "none", None),
            ("sec-fetch-site", "cross-site", Some(403)),
        ] {
            assert_eq!(
                status(&guard, "POST", "127.0.0.1:8081", &[(name, value)]),
                expected,
                "{name}: {value}"
            );
        }
    }
}
