//! Lifetimes by status, for responses that name none.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Invalid;

/// How long responses without any word about freshness are fresh, by status: what Varnish users write as `beresp.ttl`
/// under `beresp.status`, and nginx's `proxy_cache_valid`. A code goes before its class. Zero: such responses are not
/// stored. Empty, the default: no status is named.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StatusTtls(BTreeMap<StatusKey, Duration>);

impl StatusTtls {
    /// Each status once.
    #[must_use]
    pub fn new(lifetimes: impl IntoIterator<Item = (StatusKey, Duration)>) -> Self {
        Self(lifetimes.into_iter().collect())
    }

    /// What is said of a status; `None` if nothing is.
    #[must_use]
    pub fn of(&self, status: u16) -> Option<Duration> {
        let class = u8::try_from(status / 100).ok().map(StatusKey::Class);
        let of_code = self.0.get(&StatusKey::Code(status));
        of_code.or_else(|| class.and_then(|class| self.0.get(&class))).copied()
    }

    /// All that is said, codes before classes: the first that fits a status counts.
    pub fn iter(&self) -> impl Iterator<Item = (StatusKey, Duration)> + '_ {
        self.0.iter().map(|(key, ttl)| (*key, *ttl))
    }
}

/// A status or a class of them.
// The order is a rule: codes before classes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StatusKey {
    /// `404`: 200 to 599, but none that is never stored.
    Code(u16),
    /// `5xx`: 2 to 5. What is never stored is not stored by this either.
    ///
    /// Those that answer to something else in one request than its URL are not among them (400, 405, 413, 431, 501 and
    /// their like): whoever provokes one would give it to all. They can be named one by one.
    Class(u8),
}

impl FromStr for StatusKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                format!("{text:?} is not a status code or a class of them"),
                "write a code from 200 to 599 or a class, such as 404 or 5xx",
            )
        };
        if let Some(class) = text.strip_suffix("xx") {
            return match class {
                "2" => Ok(Self::Class(2)),
                "3" => Ok(Self::Class(3)),
                "4" => Ok(Self::Class(4)),
                "5" => Ok(Self::Class(5)),
                _ => Err(invalid()),
            };
        }
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let code: u16 = text.parse().map_err(|_| invalid())?;
        match code {
            // Parts, answers to a condition (RFC 9111 §3), and what RFC 6585 forbids to store.
            206 | 304 | 428 | 429 | 431 | 511 => {
                Err(Invalid::new(format!("responses with {code} are never stored"), "take it out"))
            }
            200..=599 => Ok(Self::Code(code)),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for StatusKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "{code}"),
            Self::Class(class) => write!(out, "{class}xx"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_code_goes_before_its_class() {
        let ttl = |text: &str, seconds| (text.parse().unwrap(), Duration::from_secs(seconds));
        let ttls = StatusTtls::new([ttl("4xx", 1), ttl("404", 10), ttl("5xx", 0)]);
        for (status, expected) in
            [(200, None), (403, Some(1)), (404, Some(10)), (503, Some(0)), (60_000, None)]
        {
            assert_eq!(ttls.of(status), expected.map(Duration::from_secs), "{status}");
        }
        let shown: Vec<_> = ttls.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(shown, ["404", "4xx", "5xx"]);
    }

    #[test]
    fn what_is_never_stored_has_no_lifetime() {
        for bad in
            ["", "1xx", "6xx", "xx", "40", "4040", "199", "600", "206", "304", "429", "+40", "2XX", "200-299"]
        {
            assert!(bad.parse::<StatusKey>().is_err(), "input: {bad:?}");
        }
        for good in ["200", "204", "301", "404", "599", "2xx", "5xx"] {
            assert_eq!(good.parse::<StatusKey>().unwrap().to_string(), good);
        }
    }
}
