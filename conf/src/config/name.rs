//! Names of cookies and of query parameters.

use std::fmt;
use std::str::FromStr;

use super::pattern::is_token;
use crate::error::Invalid;

/// The exact name of a cookie. Case counts (RFC 6265 §4.1.1).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CookieName(String);

impl CookieName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // `*` may stand in a cookie name, but whoever writes one here means a pattern.
        if !is_token(text) || text.contains('*') {
            return Err(Invalid::new(
                format!("{text:?} is not the name of a cookie"),
                "write an exact name, such as currency",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The name of a query parameter (`gclid`), or the beginning of one with a `*` after it (`utm_*`); `*` alone means every
/// one.
///
/// A name is compared byte for byte with what stands before the `=`, both as it was sent and as it reads decoded: `%61`
/// is `a` too.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryPattern {
    name: String,
    prefix: bool,
}

impl QueryPattern {
    /// Whether a parameter of this name is meant.
    #[must_use]
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        if self.prefix { name.starts_with(self.name.as_bytes()) } else { name == self.name.as_bytes() }
    }
}

impl FromStr for QueryPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"*&=#?".contains(&byte);
        if (name.is_empty() && !prefix) || !name.bytes().all(fits) {
            return Err(Invalid::new(
                format!("{text:?} is not the name of a parameter"),
                "write a name as it is sent, or its beginning with one * at the end, such as gclid or utm_*",
            ));
        }
        Ok(Self { name: name.to_owned(), prefix })
    }
}

impl fmt::Display for QueryPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.name, if self.prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parameters_have_names_or_beginnings() {
        check("gclid", &["gclid"], &["GCLID", "gclid2", ""]);
        check("utm_*", &["utm_", "utm_source"], &["utm", "xutm_"]);
        check("filter[a]", &["filter[a]"], &["filter"]);
        check("%C3%BC", &["%C3%BC"], &["%c3%bc"]);
        check("*", &["", "a"], &[]);
        for bad in ["", "a*b", "**", "*a", "a b", "a=b", "a&b", "a#", "ü"] {
            assert!(bad.parse::<QueryPattern>().is_err(), "input: {bad:?}");
        }
    }

    #[track_caller]
    fn check(text: &str, yes: &[&str], no: &[&str]) {
        let pattern: QueryPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), text);
        assert!(yes.iter().all(|name| pattern.matches(name)), "{text}");
        assert!(!no.iter().any(|name| pattern.matches(name)), "{text}");
    }

    #[test]
    fn cookies_have_exact_names() {
        assert_eq!("Currency".parse::<CookieName>().unwrap().as_str(), "Currency");
        for bad in ["", "*", "a*", "a b", "a=b", "ü"] {
            assert!(bad.parse::<CookieName>().is_err(), "input: {bad:?}");
        }
    }
}
