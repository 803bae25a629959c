//! Groups of visitors that share pages: the user-context hash of FOSHttpCache.
//!
//! Before a page is looked up, the application is asked which group the visitor belongs to; its answer, a hash, goes
//! into a request header that pages name in `Vary`. Here is only how it is asked, not the asking.

use std::fmt;
use std::str::FromStr;

use super::default;
use super::normalise::HeaderText;
use super::pattern::HeaderName;
use super::text::{equal_in_any_case, shown_as_text};
use crate::error::Invalid;

/// How the group of a visitor is asked for, with the defaults of FOSHttpCache.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserContext {
    /// The header of the answer, and then of the request for the page, that carries the hash. Default
    /// `X-User-Context-Hash`.
    pub header: HeaderName,
    /// What `Accept` of the question says and `Content-Type` of the answer has to be. Default
    /// `application/vnd.fos.user-context-hash`.
    pub accept: MediaType,
    /// Path, and perhaps query, of the question. Default `/_fos_user_context_hash`.
    pub path: String,
    /// URLs that need no hash; each once. Default none.
    pub except: Vec<UrlSuffix>,
    /// The hash of visitors who have neither a cookie that goes on nor `Authorization`; no node is asked for it. `None`, the
    /// default: one is asked for them as for everybody.
    pub anonymous: Option<HeaderText>,
    /// Whether requests with `Authorization` have a hash like all others, told by that header and their cookies. Where not,
    /// as in eZ Platform's VCL, they go with all their cookies and without a hash, and the application tells them apart by
    /// `Vary: Authorization`. Default true.
    pub authorized: bool,
    /// Whether `Cache-Control` towards visitors is rewritten where `Vary` named the header, as eZ Platform's VCL does it:
    /// what depends on the hash must not be stored by anybody who does not know it. Default false. The header's name goes
    /// out of `Vary` either way.
    pub rewrite_cache_control: bool,
}

impl Default for UserContext {
    fn default() -> Self {
        Self {
            header: HeaderName::known(default::USER_CONTEXT_HEADER),
            accept: MediaType(default::USER_CONTEXT_ACCEPT.to_owned()),
            path: default::USER_CONTEXT_PATH.to_owned(),
            except: Vec::new(),
            anonymous: None,
            authorized: true,
            rewrite_cache_control: false,
        }
    }
}

/// One media type without parameters (RFC 9110 §8.3.1), as it was written. Case does not count.
#[derive(Clone, Debug)]
pub struct MediaType(String);

impl MediaType {
    /// The type as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

equal_in_any_case!(MediaType);

impl FromStr for MediaType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.contains('*') || text.parse::<super::compress::TypePattern>().is_err() {
            return Err(Invalid::new(
                format!("{text:?} is not a media type"),
                "write type/subtype without parameters, such as application/vnd.fos.user-context-hash",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

shown_as_text!(MediaType);

/// `*.css`: every URL that ends so, its query included; `/a.css?v=1` does not. Case counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UrlSuffix(String);

impl UrlSuffix {
    /// Whether a path with its query is meant.
    #[must_use]
    pub fn matches(&self, url: impl AsRef<[u8]>) -> bool {
        url.as_ref().ends_with(self.0.as_bytes())
    }

    /// What the URL ends with.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UrlSuffix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = |hint| Err(Invalid::new(format!("{text:?} is not the end of a URL"), hint));
        match text.strip_prefix('*') {
            None => invalid("write * and the end, such as *.css"),
            Some("") => invalid("write user_context = false to ask for no hash"),
            Some(end) if end.contains('*') => invalid("one * at the beginning, such as *.css"),
            Some(end) if !end.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => {
                invalid("write spaces and letters beyond ASCII in their %XX form, as they are sent")
            }
            Some(end) => Ok(Self(end.to_owned())),
        }
    }
}

impl fmt::Display for UrlSuffix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "*{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ends_of_urls() {
        for (pattern, url, expected) in [
            ("*.css", "/a.css", true),
            ("*.css", "/a.css?v=1", false),
            ("*.css", "/a?x=.css", true),
            ("*.css", "/a.CSS", false),
            ("*?plain", "/a?plain", true),
            ("*.css", "css", false),
        ] {
            let suffix: UrlSuffix = pattern.parse().unwrap();
            assert_eq!(suffix.matches(url), expected, "{pattern} and {url}");
            assert_eq!(suffix.to_string(), pattern);
        }
        for bad in ["", "*", "**", ".css", "*.c*s", "*.c s", "*#a", "*.ü"] {
            assert!(bad.parse::<UrlSuffix>().is_err(), "input: {bad:?}");
        }
    }

    #[test]
    fn media_types_are_single_ones() {
        let written: MediaType = "Application/Vnd.Fos.user-context-hash".parse().unwrap();
        assert_eq!(written, UserContext::default().accept);
        assert_eq!(written.as_str(), "Application/Vnd.Fos.user-context-hash");
        for bad in ["", "text", "text/*", "*/*", "a/*+json", "text/html; charset=x"] {
            assert!(bad.parse::<MediaType>().is_err(), "input: {bad:?}");
        }
    }
}
