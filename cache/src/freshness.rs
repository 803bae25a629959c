//! May this response be stored, and for how long is it fresh? Pure rules of RFC 9111 (HTTP Caching) and RFC 5861
//! (stale content), for a shared cache.
//!
//! [`assess`] goes through four steps, each a function below: may it be stored at all, how long did the origin say
//! it is fresh, how old is it already, how long may it be used after that. What is done with a stored entry at a
//! given moment is [`Entry::freshness`](crate::Entry::freshness).
//!
//! Where these rules are narrower than the RFC: a response with `Set-Cookie` is never stored (as in Varnish's
//! builtin VCL), the forms of `private` and `no-cache` that list fields count as the plain ones, and only GET is
//! stored.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

use crate::directive::{CacheControl, delta_seconds};
use crate::vary;

/// What about the request decides whether its response may be stored.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method that was sent to the origin (a HEAD that is fetched with GET is a GET here).
    pub method: &'a Method,
    /// Whether the request carried `Authorization` (RFC 9111 §3.5).
    pub authorization: bool,
    /// Whether the request said `Cache-Control: no-store` (RFC 9111 §5.2.1.5) and is listened to. Varnish does not
    /// listen to it.
    pub no_store: bool,
}

impl<'a> RequestFacts<'a> {
    /// Reads the facts from a parsed request.
    pub fn read(method: &'a Method, headers: &HeaderMap) -> Self {
        Self {
            method,
            authorization: headers.contains_key(header::AUTHORIZATION),
            no_store: CacheControl::read(headers).no_store,
        }
    }
}

/// What the operator says about responses that do not say it themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FreshnessSettings {
    /// Freshness lifetime of a response without any of its own, for statuses that may be stored without being told
    /// to. Default zero: such responses are not stored. (Varnish: 120 s.)
    pub default_ttl: Duration,
    /// How long after that a stale entry may be served while one request fetches a newer one. Default zero.
    /// `stale-while-revalidate` raises it for a response, never lowers it. (Varnish: 10 s, and the response's word
    /// replaces it.)
    pub grace: Duration,
    /// How long after grace an entry is kept to be revalidated, or used when no node is up. Default zero.
    /// `stale-if-error` raises it for a response.
    pub keep: Duration,
    /// Whether grace is given even to a response with `must-revalidate`, `proxy-revalidate` or `s-maxage`, which
    /// forbid serving it stale (RFC 9111 §4.2.4). Default false. Varnish knows no such rule: its set-ups, those of
    /// eZ Platform among them, expect true.
    pub grace_over_revalidate: bool,
}

/// Whether to store a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Store it for so long.
    Store(Lifetime),
    /// Do not store it.
    Uncacheable(Reason),
}

/// How long a response may be used, counted from the moment it was received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lifetime {
    /// The freshness lifetime (RFC 9111 §4.2.1). The initial age counts against it and is not yet subtracted.
    pub ttl: Duration,
    /// How old the response was when it was received (RFC 9111 §4.2.3).
    pub initial_age: Duration,
    /// Time after the ttl in which it may be served while a newer copy is fetched.
    pub grace: Duration,
    /// Time after grace in which it may be revalidated.
    pub keep: Duration,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// The method is not GET.
    Method,
    /// The status is interim (1xx), partial (206) or an answer to a condition (304).
    Status,
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `no-cache`.
    NoCache,
    /// The response said `private`.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// The response varies on everything, or its `Vary` cannot be read.
    Vary,
    /// The request was authorized and the response does not say that it may be shared.
    Authorization,
    /// Nothing says for how long it is fresh.
    NoLifetime,
    /// It was stale when it arrived.
    Expired,
}

impl Reason {
    /// A short word for logs and for the detail of `Cache-Status` (RFC 9211 §2.8).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::NoLifetime => "no-lifetime",
            Self::Expired => "expired",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides about a response. `received` is the wall clock, needed only where the origin gave a date and no span.
pub fn assess(
    request: &RequestFacts<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    settings: &FreshnessSettings,
    received: SystemTime,
) -> Verdict {
    let control = CacheControl::read(headers);
    if let Some(reason) = forbidden(request, status, headers, &control) {
        return Verdict::Uncacheable(reason);
    }
    let ttl = match explicit_lifetime(&control, headers, received) {
        Some(ttl) => ttl,
        None if may_use_default(status) && !settings.default_ttl.is_zero() => settings.default_ttl,
        None => return Verdict::Uncacheable(Reason::NoLifetime),
    };
    let lifetime = Lifetime {
        ttl,
        initial_age: initial_age(headers),
        grace: grace(&control, settings),
        keep: settings.keep.max(control.stale_if_error.unwrap_or_default()),
    };
    // A response that is born stale is worth storing only if it says itself that it may be used like that; the
    // operator's grace is meant for pages that were fresh once.
    let own_grace = lifetime.grace.min(control.stale_while_revalidate.unwrap_or_default());
    if lifetime.initial_age >= ttl.saturating_add(own_grace) {
        return Verdict::Uncacheable(Reason::Expired);
    }
    Verdict::Store(lifetime)
}

/// What forbids storing, in RFC 9111 §3's order as far as it goes.
fn forbidden(
    request: &RequestFacts<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
) -> Option<Reason> {
    if request.method != Method::GET {
        return Some(Reason::Method);
    }
    // Partial and conditional answers are for whoever holds the whole; they are no entries of their own.
    if status.is_informational()
        || status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Some(Reason::Status);
    }
    if request.no_store {
        return Some(Reason::RequestNoStore);
    }
    if control.no_store {
        return Some(Reason::NoStore);
    }
    if control.private {
        return Some(Reason::Private);
    }
    if control.no_cache {
        return Some(Reason::NoCache);
    }
    let may_be_shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    if request.authorization && !may_be_shared {
        return Some(Reason::Authorization);
    }
    // A cookie of one visitor in everybody's copy hands over a session.
    if headers.contains_key(header::SET_COOKIE) {
        return Some(Reason::SetCookie);
    }
    if !vary::is_usable(headers) {
        return Some(Reason::Vary);
    }
    None
}

/// What the origin said: `s-maxage`, else `max-age`, else `Expires` minus `Date` (RFC 9111 §4.2.1).
fn explicit_lifetime(control: &CacheControl, headers: &HeaderMap, received: SystemTime) -> Option<Duration> {
    control.s_maxage.or(control.max_age).or_else(|| {
        let mut lines = headers.get_all(header::EXPIRES).iter();
        let first = lines.next()?;
        // `Expires: 0`, other nonsense, and two different answers all mean: already stale (RFC 9111 §5.3).
        if lines.any(|line| line != first) {
            return Some(Duration::ZERO);
        }
        let Some(expires) = first.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok()) else {
            return Some(Duration::ZERO);
        };
        let date = headers.get(header::DATE).and_then(|line| line.to_str().ok());
        let date = date.and_then(|text| httpdate::parse_http_date(text).ok()).unwrap_or(received);
        Some(expires.duration_since(date).unwrap_or_default())
    })
}

/// How old the response already was: its `Age`.
///
/// The apparent age of RFC 9111 §4.2.3, `received - Date`, is left out, as Varnish does: it is right only if both
/// clocks are, and a web node that is five minutes slow would turn its cache off.
fn initial_age(headers: &HeaderMap) -> Duration {
    let age = headers.get(header::AGE).map(|line| line.as_bytes()).unwrap_or_default();
    // A list is against the rules; its first member counts (RFC 9111 §5.1).
    let first = age.split(|&byte| byte == b',').next().unwrap_or_default();
    Duration::from_secs(u64::from(delta_seconds(first.trim_ascii()).unwrap_or(0)))
}

/// Statuses that are stored for the default time when the origin says nothing about freshness.
///
/// RFC 9110 §15.1 allows 405 and 501 too. They are left out, as in Varnish: they answer to what else was in one
/// request, and would then answer everybody.
fn may_use_default(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410 | 414)
}

/// How long it may be served stale.
fn grace(control: &CacheControl, settings: &FreshnessSettings) -> Duration {
    let must_ask = control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some();
    if must_ask && !settings.grace_over_revalidate {
        return Duration::ZERO;
    }
    settings.grace.max(control.stale_while_revalidate.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const SETTINGS: FreshnessSettings = FreshnessSettings {
        default_ttl: Duration::from_secs(120),
        grace: Duration::from_secs(10),
        keep: Duration::from_secs(5),
        grace_over_revalidate: false,
    };

    /// ttl, initial age, grace, keep in seconds.
    fn store(ttl: u64, age: u64, grace: u64, keep: u64) -> Verdict {
        let [ttl, initial_age, grace, keep] = [ttl, age, grace, keep].map(Duration::from_secs);
        Verdict::Store(Lifetime { ttl, initial_age, grace, keep })
    }

    fn no(reason: Reason) -> Verdict {
        Verdict::Uncacheable(reason)
    }

    #[test]
    fn the_lifetime_is_taken_in_order() {
        check("200", "cache-control: s-maxage=1, max-age=2\nexpires: 0", store(1, 0, 0, 5));
        check("200", "cache-control: max-age=2\nexpires: 0", store(2, 0, 10, 5));
        check(
            "200",
            "date: Thu, 01 Jan 2026 00:00:00 GMT\nexpires: Thu, 01 Jan 2026 00:01:00 GMT",
            store(60, 0, 10, 5),
        );
        // Without `Date` the time of arrival stands for it.
        check("200", "expires: Thu, 01 Jan 1970 00:33:20 GMT", store(1000, 0, 10, 5));
        check("200", "", store(120, 0, 10, 5));
    }

    #[test]
    fn expires_that_says_nothing_means_stale() {
        for text in [
            "expires: 0",
            "expires: -1",
            "expires: tomorrow",
            "expires: Thu, 01 Jan 1970 00:00:00 GMT",
            "expires: Thu, 01 Jan 2026 00:01:00 GMT\nexpires: 0",
        ] {
            check("200", text, no(Reason::Expired));
        }
    }

    #[test]
    fn the_age_of_the_response_counts() {
        check("200", "cache-control: max-age=60\nage: 59", store(60, 59, 10, 5));
        check("200", "cache-control: max-age=60\nage: 60", no(Reason::Expired));
        check("200", "cache-control: max-age=60\nage: 7, 60", store(60, 7, 10, 5));
        check("200", "cache-control: max-age=60\nage: soon", store(60, 0, 10, 5));
        check("200", "age: 200", no(Reason::Expired));
    }

    #[test]
    fn some_statuses_need_explicit_freshness_and_some_are_never_stored() {
        for status in ["200", "203", "204", "300", "301", "308", "404", "410", "414"] {
            check(status, "", store(120, 0, 10, 5));
        }
        for status in ["302", "303", "307", "400", "405", "413", "431", "500", "501", "503", "299", "599"] {
            check(status, "", no(Reason::NoLifetime));
            check(status, "cache-control: max-age=5", store(5, 0, 10, 5));
        }
        for status in ["100", "103", "206", "304"] {
            check(status, "cache-control: max-age=5", no(Reason::Status));
        }
    }

    #[test]
    fn a_default_of_zero_stores_nothing_by_itself() {
        let settings = FreshnessSettings { default_ttl: Duration::ZERO, ..SETTINGS };
        check_with(&GET, "200", "", &settings, no(Reason::NoLifetime));
        check_with(&GET, "200", "cache-control: max-age=1", &settings, store(1, 0, 10, 5));
    }

    #[test]
    fn what_forbids_storing() {
        check("200", "cache-control: no-store, max-age=5", no(Reason::NoStore));
        check("200", "cache-control: private, max-age=5", no(Reason::Private));
        check("200", "cache-control: private=\"x-a\", max-age=5", no(Reason::Private));
        check("200", "cache-control: no-cache, max-age=5", no(Reason::NoCache));
        check("200", "cache-control: no-cache=\"set-cookie\", max-age=5", no(Reason::NoCache));
        check("200", "cache-control: public, s-maxage=600\nset-cookie: a=b", no(Reason::SetCookie));
        check("200", "cache-control: max-age=5\nvary: accept, *", no(Reason::Vary));
        check("200", "cache-control: max-age=0", no(Reason::Expired));
        check("200", "cache-control: s-maxage=0, max-age=60", no(Reason::Expired));
    }

    #[test]
    fn the_request_has_a_word() {
        let fresh = "cache-control: max-age=5";
        check_with(
            &RequestFacts { method: &Method::POST, ..GET },
            "200",
            fresh,
            &SETTINGS,
            no(Reason::Method),
        );
        check_with(
            &RequestFacts { method: &Method::HEAD, ..GET },
            "200",
            fresh,
            &SETTINGS,
            no(Reason::Method),
        );
        check_with(
            &RequestFacts { no_store: true, ..GET },
            "200",
            fresh,
            &SETTINGS,
            no(Reason::RequestNoStore),
        );
        let authorized = RequestFacts { authorization: true, ..GET };
        check_with(&authorized, "200", fresh, &SETTINGS, no(Reason::Authorization));
        check_with(&authorized, "200", "", &SETTINGS, no(Reason::Authorization));
        let public = "cache-control: public, max-age=5";
        check_with(&authorized, "200", public, &SETTINGS, store(5, 0, 10, 5));
        check_with(&authorized, "200", "cache-control: s-maxage=5", &SETTINGS, store(5, 0, 0, 5));
        let revalidate = "cache-control: must-revalidate, max-age=5";
        check_with(&authorized, "200", revalidate, &SETTINGS, store(5, 0, 0, 5));
    }

    #[test]
    fn grace_follows_the_response_and_the_operator() {
        check("200", "cache-control: max-age=5, stale-while-revalidate=30", store(5, 0, 30, 5));
        check("200", "cache-control: max-age=5, stale-while-revalidate=3", store(5, 0, 10, 5));
        check("200", "cache-control: max-age=5, stale-if-error=30", store(5, 0, 10, 30));
        for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=5"] {
            let text = format!("cache-control: max-age=5, stale-while-revalidate=30, {directive}");
            check("200", &text, store(5, 0, 0, 5));
            let as_varnish = FreshnessSettings { grace_over_revalidate: true, ..SETTINGS };
            check_with(&GET, "200", &text, &as_varnish, store(5, 0, 30, 5));
        }
    }

    #[test]
    fn a_response_born_stale_is_kept_only_if_it_asked_for_it() {
        check("200", "cache-control: max-age=0, stale-while-revalidate=30", store(0, 0, 30, 5));
        check("200", "cache-control: max-age=5, stale-while-revalidate=30\nage: 35", no(Reason::Expired));
        check("200", "cache-control: max-age=5, stale-while-revalidate=30\nage: 34", store(5, 34, 30, 5));
    }

    #[test]
    fn facts_are_read_from_a_request() {
        let request = headers("authorization: Basic x\ncache-control: no-store");
        let facts = RequestFacts::read(&Method::GET, &request);
        assert!(facts.authorization && facts.no_store);
        let plain = headers("accept: */*");
        let facts = RequestFacts::read(&Method::GET, &plain);
        assert!(!facts.authorization && !facts.no_store);
    }

    const GET: RequestFacts<'static> =
        RequestFacts { method: &Method::GET, authorization: false, no_store: false };

    #[track_caller]
    fn check(status: &str, text: &str, expected: Verdict) {
        check_with(&GET, status, text, &SETTINGS, expected);
    }

    #[track_caller]
    fn check_with(
        request: &RequestFacts<'_>,
        status: &str,
        text: &str,
        settings: &FreshnessSettings,
        expected: Verdict,
    ) {
        let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let status = status.parse().expect("a status");
        let found = assess(request, status, &headers(text), settings, received);
        assert_eq!(found, expected, "{status}, headers: {text:?}");
    }

    fn headers(text: &str) -> HeaderMap {
        let pairs = text.lines().map(|line| line.split_once(": ").expect("name: value"));
        pairs
            .map(|(name, value)| {
                (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
            })
            .fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            })
    }
}
