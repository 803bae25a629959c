//! Names of cookies and of query parameters.

use std::fmt;
use std::str::FromStr;

use super::pattern::is_token;
use super::text::shown_as_text;
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

shown_as_text!(CookieName);

/// A name in a list (`PHPSESSID`), or the beginning of one with a `*` after it (`eZSESSID*`). Case counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern {
    name: String,
    prefix: bool,
}

impl NamePattern {
    /// Reads the name of a cookie, or its beginning. Although `*` may stand in such a name (RFC 6265 §4.1.1), here it only
    /// means "anything may follow", and nothing stands for every cookie.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if `text` is neither.
    pub fn cookie(text: &str) -> Result<Self, Invalid> {
        let pattern = Self::split(text);
        if !is_token(&pattern.name) || pattern.name.contains('*') {
            return Err(Invalid::new(
                format!("{text:?} is not a cookie name"),
                "write a name, or its beginning with one * at the end, such as PHPSESSID or eZSESSID*",
            ));
        }
        Ok(pattern)
    }

    /// Reads the name of a query parameter, or its beginning; `*` alone means every one. A name is what stands before the
    /// `=`; whoever matches compares it as it was sent and as it reads decoded, for `%61` is `a` too.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if `text` is neither.
    pub fn parameter(text: &str) -> Result<Self, Invalid> {
        let pattern = Self::split(text);
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"*&=#?".contains(&byte);
        if (pattern.name.is_empty() && !pattern.prefix) || !pattern.name.bytes().all(fits) {
            return Err(Invalid::new(
                format!("{text:?} is not the name of a parameter"),
                "write a name as it is sent, or its beginning with one * at the end, such as gclid or utm_*",
            ));
        }
        Ok(pattern)
    }

    fn split(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(start) => Self { name: start.to_owned(), prefix: true },
            None => Self { name: text.to_owned(), prefix: false },
        }
    }

    /// Whether a name is meant. It comes byte by byte, so that it need not be decoded beforehand.
    #[must_use]
    pub fn matches(&self, name: impl IntoIterator<Item = u8>) -> bool {
        let mut name = name.into_iter();
        self.name.bytes().all(|byte| name.next() == Some(byte)) && (self.prefix || name.next().is_none())
    }
}

impl fmt::Display for NamePattern {
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
        let check = |text| check(text, NamePattern::parameter(text).unwrap());
        check("gclid")(&["gclid"], &["GCLID", "gclid2", "gcli", ""]);
        check("utm_*")(&["utm_", "utm_source"], &["utm", "xutm_", "UTM_source"]);
        check("filter[a]")(&["filter[a]"], &["filter"]);
        check("%C3%BC")(&["%C3%BC"], &["%c3%bc"]);
        check("*")(&["", "a"], &[]);
        for bad in ["", "a*b", "**", "*a", "a b", "a=b", "a&b", "a#", "ü"] {
            assert!(NamePattern::parameter(bad).is_err(), "input: {bad:?}");
        }
    }

    #[test]
    fn cookies_have_names_or_beginnings() {
        let check = |text| check(text, NamePattern::cookie(text).unwrap());
        check("PHPSESSID")(&["PHPSESSID"], &["phpsessid", "PHPSESSID1", ""]);
        check("eZSESSID*")(&["eZSESSID", "eZSESSID98defd"], &["eZSESSI", "xeZSESSID"]);
        for bad in ["", "*", "a*b", "a**", "*a", "a b", "a=b", "a;b", "ü"] {
            assert!(NamePattern::cookie(bad).is_err(), "input: {bad:?}");
        }
    }

    /// Checks the names that a pattern means and those that it does not.
    fn check(text: &str, pattern: NamePattern) -> impl Fn(&[&str], &[&str]) {
        assert_eq!(pattern.to_string(), text);
        move |yes, no| {
            assert!(yes.iter().all(|name| pattern.matches(name.bytes())), "{pattern}");
            assert!(!no.iter().any(|name| pattern.matches(name.bytes())), "{pattern}");
        }
    }

    #[test]
    fn cookies_have_exact_names() {
        assert_eq!("Currency".parse::<CookieName>().unwrap().as_str(), "Currency");
        for bad in ["", "*", "a*", "a b", "a=b", "ü"] {
            assert!(bad.parse::<CookieName>().is_err(), "input: {bad:?}");
        }
    }
}
