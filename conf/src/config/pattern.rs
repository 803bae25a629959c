//! Names and patterns: headers, hosts, paths, and the regex of a probe's body.
//!
//! Patterns have at most one `*`, at one end, so that matching is one comparison and its cost does not depend on what a
//! client sends.

use std::fmt;
use std::str::FromStr;

use super::address::NodeName;
use super::text::{equal_if_written_alike, shown_as_text};
use crate::error::Invalid;

/// The most memory that a compiled regex may take, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Whether a byte may stand in a header or cookie name (`tchar`, RFC 9110 §5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a text may be a header or cookie name (`token`, RFC 9110 §5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A regex without look-around, of bounded size.
pub(super) fn build_regex(text: &str) -> Result<regex::bytes::Regex, Invalid> {
    regex::bytes::RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
        // The crate draws a picture of several lines; its last one says what is wrong.
        let picture = error.to_string();
        let reason = picture.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
        Invalid::new(
            format!("{text:?} is not a regex: {reason}"),
            "look-around and back-references are not known here; write \\ before special characters",
        )
    })
}

/// The name of a header field in lower case (RFC 9110 §5.1).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HeaderName(String);

impl HeaderName {
    /// What most applications and balancers look for.
    pub(crate) fn request_id() -> Self {
        Self("x-request-id".to_owned())
    }

    /// A name that is known to be one, in lower case.
    pub(super) fn known(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !is_token(text) {
            return Err(Invalid::new(
                format!("{text:?} is not a header name"),
                "write letters, digits and -, without a colon, such as Surrogate-Key",
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

shown_as_text!(HeaderName);

/// Which hosts a site answers for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    /// `*`: every host, also a request without one.
    Any,
    /// `*.example.com`: every name below `example.com`, at any depth, but not that one itself (as in nginx). Holds the
    /// part after `*.`, in lower case.
    Below(String),
    /// Exactly this host, in lower case, without port and closing dot; an IPv6 address in brackets.
    Exact(String),
}

impl HostPattern {
    /// Whether `host` (without its port) is meant; case and a closing dot do not count.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        match self {
            Self::Any => true,
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Below(parent) => match host.len().checked_sub(parent.len()).map(|cut| host.split_at(cut)) {
                Some((label, tail)) => {
                    label.len() > 1 && label.ends_with(b".") && tail.eq_ignore_ascii_case(parent.as_bytes())
                }
                None => false,
            },
        }
    }
}

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const HINT: &str = "write a name, *.example.com for all names below it, or * for every host";
        let invalid = |hint: String| Invalid::new(format!("{text:?} is not a host"), hint);
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', ':']).next().unwrap_or(rest);
            return Err(invalid(format!("leave out the scheme and the path: {host}")));
        }
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: std::net::Ipv6Addr = literal.parse().map_err(|_| invalid(HINT.to_owned()))?;
            return Ok(Self::Exact(format!("[{address}]")));
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return match address {
                std::net::IpAddr::V4(address) => Ok(Self::Exact(address.to_string())),
                std::net::IpAddr::V6(address) => Err(invalid(format!("put it in brackets: [{address}]"))),
            };
        }
        if let Some((host, _)) = text.rsplit_once(':') {
            return Err(invalid(format!("leave out the port: {host}")));
        }
        match text.strip_prefix("*.") {
            Some(parent) => {
                let parent: NodeName = parent.parse().map_err(|_| invalid(HINT.to_owned()))?;
                Ok(Self::Below(parent.as_str().to_owned()))
            }
            None => {
                let name: NodeName = text.parse().map_err(|error: Invalid| {
                    invalid(if text.contains('*') { HINT.to_owned() } else { error.hint().to_owned() })
                })?;
                Ok(Self::Exact(name.as_str().to_owned()))
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("*"),
            Self::Below(parent) => write!(out, "*.{parent}"),
            Self::Exact(name) => out.write_str(name),
        }
    }
}

/// Which paths a route is for. Case counts; the query does not belong to the path.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PathPattern {
    /// `/login`: exactly this path.
    Exact(String),
    /// `/api/*`: every path that begins so. Holds the part before the `*`; `/api/*` does not mean `/api`.
    Prefix(String),
    /// `*.css`: every path that ends so. Holds the part after the `*`.
    Suffix(String),
}

impl PathPattern {
    /// Whether a path (without query) is meant.
    #[must_use]
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(text) => path.starts_with(text.as_bytes()),
            Self::Suffix(text) => path.ends_with(text.as_bytes()),
        }
    }

    /// Whether every path that `other` means is meant here as well, so that `other` is never reached after this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(all), _) if all == "/" => true,
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Prefix(short), Self::Prefix(long)) => long.starts_with(short.as_str()),
            (Self::Suffix(short), Self::Suffix(long)) => long.ends_with(short.as_str()),
            (Self::Exact(_), Self::Prefix(_) | Self::Suffix(_))
            | (Self::Prefix(_), Self::Suffix(_))
            | (Self::Suffix(_), Self::Prefix(_)) => false,
        }
    }
}

impl FromStr for PathPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |hint| Err(Invalid::new(format!("{text:?} is not a path pattern"), hint));
        if text.contains(['?', '#']) {
            return invalid("leave out the query: only the path is compared");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return invalid("write spaces and letters beyond ASCII in their %XX form, as they are sent");
        }
        let (text, pattern): (_, fn(String) -> Self) = match (text.strip_prefix('*'), text.strip_suffix('*'))
        {
            (None, None) => (text, Self::Exact),
            (None, Some(prefix)) => (prefix, Self::Prefix),
            (Some(suffix), None) if !suffix.is_empty() => (suffix, Self::Suffix),
            (Some(_), _) => return invalid("write /* for every path, or one * at one end"),
        };
        if text.contains('*') {
            return invalid("one * at one end: /x, /api/* or *.css");
        }
        let pattern = pattern(text.to_owned());
        match &pattern {
            Self::Exact(path) | Self::Prefix(path) if !path.starts_with('/') => {
                invalid("begin with /, such as /login or /api/*, or with * for an ending, such as *.css")
            }
            Self::Exact(_) | Self::Prefix(_) | Self::Suffix(_) => Ok(pattern),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => out.write_str(path),
            Self::Prefix(prefix) => write!(out, "{prefix}*"),
            Self::Suffix(suffix) => write!(out, "*{suffix}"),
        }
    }
}

/// A regex that the body of a probe's answer must match somewhere. Equal if written alike.
#[derive(Clone, Debug)]
pub struct BodyPattern(regex::bytes::Regex);

impl BodyPattern {
    /// Whether the body, or what was read of it, matches.
    #[must_use]
    pub fn matches(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }

    /// The regex as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

equal_if_written_alike!(BodyPattern);

impl FromStr for BodyPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("the pattern is empty and matches every body", "leave the key out"));
        }
        build_regex(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn host_patterns() {
        host("*", "*", &["example.com", ""], &[]);
        host(
            "Example.COM",
            "example.com",
            &["example.com", "EXAMPLE.com", "example.com."],
            &["www.example.com"],
        );
        host(
            "*.example.com",
            "*.example.com",
            &["www.example.com", "a.b.Example.com", "www.example.com."],
            &["example.com", ".example.com", "badexample.com", "com"],
        );
        host("10.0.0.1", "10.0.0.1", &["10.0.0.1"], &[]);
        host("[::1]", "[::1]", &["[::1]"], &["::1"]);
        for bad in [
            "",
            "*.",
            "*.*.com",
            "www.*",
            "a*.com",
            "example.com:80",
            "http://example.com/",
            "::1",
            "[x]",
            "a b",
            "bücher.de",
            "*.1.2",
            "example..com",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "input: {bad:?}");
        }
    }

    #[track_caller]
    fn host(text: &str, shown: &str, yes: &[&str], no: &[&str]) {
        let pattern: HostPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), shown);
        for (names, expected) in [(yes, true), (no, false)] {
            for name in names {
                assert_eq!(pattern.matches(name), expected, "{text} and {name:?}");
            }
        }
    }

    #[test]
    fn path_patterns() {
        path("/x", &["/x"], &["/x/", "/"]);
        path("/api/*", &["/api/", "/api/v2"], &["/api", "/apis"]);
        path("/*", &["/", "/x"], &[]);
        path("*.css", &["/a/b.css"], &["/a.css/", "/acss"]);
        for bad in ["", "*", "x", "api/*", "/a/*/b", "*x*", "**", "/a?b", "/a b", "/ü", "/a**"] {
            assert!(bad.parse::<PathPattern>().is_err(), "input: {bad:?}");
        }
    }

    #[track_caller]
    fn path(text: &str, yes: &[&str], no: &[&str]) {
        let pattern: PathPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), text);
        assert!(yes.iter().all(|path| pattern.matches(path)), "{text}");
        assert!(!no.iter().any(|path| pattern.matches(path)), "{text}");
    }

    #[test]
    fn a_pattern_covers_what_it_leaves_no_path_of() {
        for (first, second, expected) in [
            ("/*", "*.css", true),
            ("/*", "/x", true),
            ("/api/*", "/api/v2/*", true),
            ("/api/*", "/api/x", true),
            ("/api/v2/*", "/api/*", false),
            ("/x", "/x", true),
            ("/x", "/x*", false),
            ("*.css", "*.min.css", true),
            ("*.css", "/a.css", true),
            ("*.css", "/a/*", false),
            ("/a/*", "*.css", false),
        ] {
            let (one, two): (PathPattern, PathPattern) = (first.parse().unwrap(), second.parse().unwrap());
            assert_eq!(one.covers(&two), expected, "{first} and {second}");
        }
    }

    #[test]
    fn header_names_are_lower_cased() {
        assert_eq!("Surrogate-Key".parse::<HeaderName>().unwrap().as_str(), "surrogate-key");
        for bad in ["", "X-Tags:", "a b", "ü"] {
            assert!(bad.parse::<HeaderName>().is_err(), "input: {bad:?}");
        }
    }

    #[test]
    fn body_patterns_are_bounded_and_explained() {
        let pattern: BodyPattern = "^OK$".parse().unwrap();
        assert!(pattern.matches(b"OK") && !pattern.matches(b"NOT OK"));
        for bad in ["", "(", "a{1000}{1000}{1000}"] {
            let error = bad.parse::<BodyPattern>().unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
