//! What the operator says about freshness: times for responses that name none, and which fields of a response are
//! listened to.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// Directives for a cache in front of the application (Edge Architecture Specification 1.0).
pub(super) static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// The lifetime for this cache alone, as FOSHttpCache sends it.
pub(super) static REVERSE_PROXY_TTL: HeaderName = HeaderName::from_static("x-reverse-proxy-ttl");

/// What the operator says about responses. A clone shares its lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FreshnessSettings {
    /// Lifetimes that go before what a response says of its own, as `beresp.ttl` set in VCL and nginx's
    /// `proxy_ignore_headers` do. They do not lift what forbids storing, an `X-Reverse-Proxy-TTL` of zero included, and
    /// `Age` counts against them. A rule of zero leaves a response its own word. Default: none.
    pub overrides: DefaultTtls,
    /// Freshness lifetime of a response without any of its own. Default: none, such responses are not stored.
    /// (Varnish: 120 s.)
    pub defaults: DefaultTtls,
    /// Freshness of a response without any of its own that has `Last-Modified`, in percent of the time from then to
    /// its `Date`; at most a day (RFC 9111 §4.2.2). It goes before the rule of `defaults` for the usual statuses, and
    /// after one for a status or a class. It applies to the statuses that RFC 9110 §15.1 lists and to responses with
    /// `public`. Default zero: off. The RFC suggests 10.
    pub heuristic_percent: u8,
    /// How long after that a stale entry may be served while one request fetches a newer one. Default zero.
    /// `stale-while-revalidate` raises it for a response, never lowers it. (Varnish: 10 s, and the response's word
    /// replaces it.)
    pub grace: Duration,
    /// How long after grace an entry is kept to be revalidated, or used when no node is up. Default zero.
    pub keep: Duration,
    /// How long after freshness an entry may be served when a node fails. Default zero. `stale-if-error` raises it
    /// for a response, never lowers it.
    pub stale_if_error: Duration,
    /// Whether grace and `stale_if_error` are given even to a response with `must-revalidate` or `proxy-revalidate`,
    /// which forbid serving it stale (RFC 9111 §4.2.4), and one with `s-maxage` is served when no node can be reached
    /// although `grace` is zero. Default false. Varnish knows no such rule.
    pub grace_over_revalidate: bool,
    /// Fields that take the place of `Cache-Control` and `Expires` here (RFC 9213). Default `CDN-Cache-Control`.
    pub targeted: TargetedFields,
    /// Whether `Surrogate-Control` takes the place of `Cache-Control` and `Expires` when it has `max-age` or
    /// `no-store`. A targeted field goes before it. Default true.
    pub surrogate_control: bool,
    /// Whether the seconds in `X-Reverse-Proxy-TTL` take the place of every other lifetime. Zero, and what is no
    /// number, mean: do not store. It does not lift what forbids storing. Default true.
    pub reverse_proxy_ttl: bool,
    /// Whether a response that sets a cookie may be stored, because whoever stores it takes its `Set-Cookie` lines away
    /// first. Default false: it is not stored.
    pub strip_set_cookie: bool,
}

impl Default for FreshnessSettings {
    fn default() -> Self {
        Self {
            overrides: DefaultTtls::default(),
            defaults: DefaultTtls::default(),
            heuristic_percent: 0,
            grace: Duration::ZERO,
            keep: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            grace_over_revalidate: false,
            targeted: TargetedFields::default(),
            surrogate_control: true,
            reverse_proxy_ttl: true,
            strip_set_cookie: false,
        }
    }
}

impl FreshnessSettings {
    /// Whether a response field is meant for this cache alone and must not go on to clients: `Surrogate-Control` and
    /// `X-Reverse-Proxy-TTL` where they are listened to, and the targeted fields if the operator keeps them back.
    pub fn is_for_us(&self, name: &HeaderName) -> bool {
        (self.surrogate_control && *name == SURROGATE_CONTROL)
            || (self.reverse_proxy_ttl && *name == REVERSE_PROXY_TTL)
            || (self.targeted.kept_back && self.targeted.names.contains(name))
    }
}

/// The targeted fields that are obeyed (RFC 9213 §2.2), the most specific first. A clone shares the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetedFields {
    names: Arc<[HeaderName]>,
    kept_back: bool,
}

impl TargetedFields {
    /// Obeys these; the first that a response has, and that can be read, counts. None: off.
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { names: names.into_iter().collect(), kept_back: false }
    }

    /// The same, and the fields do not go on to clients. By default they do: a cache closer to the client may be
    /// meant too.
    pub fn kept_back(self) -> Self {
        Self { kept_back: true, ..self }
    }

    /// The list.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }
}

impl Default for TargetedFields {
    fn default() -> Self {
        Self::new([HeaderName::from_static("cdn-cache-control")])
    }
}

/// Which statuses a default lifetime is for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Statuses {
    /// 200, 203, 204, 300, 301, 308, 404 and 410.
    ///
    /// RFC 9110 §15.1 allows 405, 414 and 501 too, and Varnish has 414. They are left out: they may answer to what else
    /// was in one request, and would then answer everybody.
    Usual,
    /// All that begin with this digit, but for those that answer to something in one request besides its URL: its method,
    /// its headers, its credentials (400, 401, 405 to 408, 411 to 417, 421, 425, 426, 501, 505). Whoever can
    /// provoke one could make a page unavailable to all ("cache-poisoned denial of service"). What may never be stored is
    /// not stored by this either.
    Class(u8),
    /// This one, whatever it is.
    One(StatusCode),
}

impl Statuses {
    /// Whether `status` is among them.
    pub fn contains(self, status: StatusCode) -> bool {
        match self {
            Self::Usual => matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 410),
            Self::Class(digit) => status.as_u16() / 100 == u16::from(digit) && !is_about_one_request(status),
            Self::One(one) => status == one,
        }
    }
}

/// See [`Statuses::Class`].
fn is_about_one_request(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        400 | 401 | 405..=408 | 411..=417 | 421 | 425 | 426 | 501 | 505
    )
}

/// Lifetimes of responses that name none, by status. The first rule that fits counts. A clone shares the list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DefaultTtls(Arc<[(Statuses, Duration)]>);

impl DefaultTtls {
    /// These rules, in this order. A rule of zero says that the statuses are not stored.
    pub fn new(rules: impl IntoIterator<Item = (Statuses, Duration)>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// One lifetime for the usual statuses. Zero: none.
    pub fn usual(ttl: Duration) -> Self {
        Self::new([(Statuses::Usual, ttl)])
    }

    /// The lifetime for `status`, never zero; `None` if it is not to be stored unasked.
    pub fn of(&self, status: StatusCode) -> Option<Duration> {
        self.rule(status).map(|(_, ttl)| ttl).filter(|ttl| !ttl.is_zero())
    }

    /// The rule for `status`, if there is one.
    pub(super) fn rule(&self, status: StatusCode) -> Option<(Statuses, Duration)> {
        self.0.iter().copied().find(|(statuses, _)| statuses.contains(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let seconds = Duration::from_secs;
        let ttls = DefaultTtls::new([
            (Statuses::One(StatusCode::GONE), Duration::ZERO),
            (Statuses::Class(5), seconds(1)),
            (Statuses::Usual, seconds(120)),
            (Statuses::Class(4), seconds(10)),
            (Statuses::Class(4), seconds(20)),
        ]);
        for (status, expected) in [
            (200, Some(120)),
            (302, None),
            (404, Some(120)),
            (403, Some(10)),
            (410, None),
            (500, Some(1)),
            (599, Some(1)),
            (600, None),
            (400, None),
            (405, None),
            (413, None),
            (501, None),
        ] {
            let code = StatusCode::from_u16(status).expect("a status");
            assert_eq!(ttls.of(code), expected.map(seconds), "{status}");
        }
        let named = DefaultTtls::new([(Statuses::One(StatusCode::BAD_REQUEST), seconds(3))]);
        assert_eq!(named.of(StatusCode::BAD_REQUEST), Some(seconds(3)), "who names it means it");
        assert_eq!(DefaultTtls::default().of(StatusCode::OK), None);
        assert_eq!(DefaultTtls::usual(Duration::ZERO).of(StatusCode::OK), None);
        assert_eq!(DefaultTtls::usual(seconds(5)).of(StatusCode::METHOD_NOT_ALLOWED), None);
    }

    #[test]
    fn what_is_meant_for_this_cache_does_not_go_on() {
        let default = FreshnessSettings::default();
        let cdn = TargetedFields::default().kept_back();
        let kept_back = FreshnessSettings { targeted: cdn, ..FreshnessSettings::default() };
        let deaf = FreshnessSettings {
            surrogate_control: false,
            reverse_proxy_ttl: false,
            targeted: TargetedFields::new([]),
            ..FreshnessSettings::default()
        };
        for (name, expected) in [
            ("surrogate-control", [true, true, false]),
            ("x-reverse-proxy-ttl", [true, true, false]),
            ("cdn-cache-control", [false, true, false]),
            ("cache-control", [false, false, false]),
        ] {
            let name = HeaderName::from_static(name);
            let found = [&default, &kept_back, &deaf].map(|settings| settings.is_for_us(&name));
            assert_eq!(found, expected, "{name}");
        }
    }
}
