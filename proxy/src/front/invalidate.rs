//! What is stored goes when an unsafe request changes it (RFC 9111 section 4.4), whatever road that request took.

use clearcoat_cache::{Moment, PurgeMode, Store};
use http::{Method, StatusCode};

use super::forward;
use super::purge::url_keys;
use super::route::RouteTable;

/// A request that a node has answered.
pub(super) struct Changed<'a> {
    pub(super) method: &'a Method,
    pub(super) host: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    /// Of the answer.
    pub(super) status: StatusCode,
}

/// Removes what the request has changed, if it is an unsafe one and succeeded: what is stored under its own URL and, on the
/// same host, under those that the answer names (`Location`, `Content-Location`).
pub(super) fn invalidate<'a>(
    store: &Store,
    routes: &RouteTable,
    changed: &Changed<'_>,
    named: impl IntoIterator<Item = &'a str>,
    now: Moment,
) {
    let &Changed { method, host, target, status } = changed;
    if forward::is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return;
    }
    let remove = |target: &[u8]| {
        let target = routes.known_target(host.as_bytes(), target);
        for key in url_keys(store.secret(), host.as_bytes(), &target) {
            store.purge_key(key, PurgeMode::Hard, now);
        }
    };
    remove(target.as_bytes());
    for target in named.into_iter().filter_map(|reference| same_host_target(reference, host)) {
        remove(target.as_bytes());
    }
}

/// Path and query of a URL reference, if it is on this host; relative ones only where they begin with a slash.
fn same_host_target<'a>(reference: &'a str, host: &str) -> Option<&'a str> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some((scheme, rest)) = reference.split_once("://") {
        let slash = rest.find('/').unwrap_or(rest.len());
        let same = matches!(scheme, "http" | "https") && rest[..slash].eq_ignore_ascii_case(host);
        return same.then(|| if slash < rest.len() { &rest[slash..] } else { "/" });
    }
    (reference.starts_with('/') && !reference.starts_with("//")).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_the_same_host_are_found() {
        for (reference, expected) in [
            ("/a?b", Some("/a?b")),
            ("/a#top", Some("/a")),
            ("http://A.test/b", Some("/b")),
            ("https://a.test", Some("/")),
            ("http://b.test/b", None),
            ("//a.test/b", None),
            ("b", None),
            ("", None),
        ] {
            assert_eq!(same_host_target(reference, "a.test"), expected, "{reference}");
        }
    }
}
