//! What is compressed once it is stored, and how.

use std::fmt;
use std::str::FromStr;

use super::default;
use super::text::shown_as_text;
use crate::error::Invalid;

/// What is compressed once it is stored, and how. Which sites compress is theirs to say ([`super::Rules::compress`]).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compress {
    /// Whether sites compress that do not say. Default false.
    pub enabled: bool,
    /// The codings to make; at least one, each once. The order means nothing: a client gets the smallest of those that
    /// it likes best. Default br, zstd, gzip.
    pub codings: Vec<Coding>,
    /// The media types that shrink; at least one. Default: text, JSON, XML, scripts, WebAssembly, fonts and images that
    /// are not compressed themselves.
    pub types: Vec<TypePattern>,
    /// Smaller bodies stay as they are, in bytes. Default 1 KiB; zero compresses the smallest too.
    pub min_size: u64,
    /// Larger bodies stay as they are, in bytes. Default 4 MiB; never zero, never less than `min_size`.
    pub max_size: u64,
}

impl Default for Compress {
    fn default() -> Self {
        Self {
            enabled: false,
            codings: vec![Coding::Brotli, Coding::Zstd, Coding::Gzip],
            types: default::COMPRESS_TYPES.iter().filter_map(|text| text.parse().ok()).collect(),
            min_size: default::COMPRESS_MIN_SIZE,
            max_size: default::COMPRESS_MAX_SIZE,
        }
    }
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// The word in the file and in `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

shown_as_text!(Coding);

/// Media types (RFC 9110 §8.3.1): `text/html`, `text/*`, or all of a structure (RFC 6838 §4.2.8) as
/// `application/*+json` and `*/*+json`. In lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TypePattern {
    /// `None` for `*`.
    main: Option<String>,
    sub: SubPattern,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum SubPattern {
    /// `*`.
    Any,
    /// `*+json`; holds the part after the `*`.
    Suffix(String),
    /// `html`.
    Exact(String),
}

impl TypePattern {
    /// Whether a `Content-Type` is meant; its case and parameters do not count. What is no media type never is.
    #[must_use]
    pub fn matches(&self, content_type: impl AsRef<[u8]>) -> bool {
        let value = content_type.as_ref();
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let mut parts = essence.splitn(2, |byte| *byte == b'/');
        let (Some(main), Some(sub)) = (parts.next(), parts.next()) else { return false };
        if main.is_empty() || sub.is_empty() {
            return false;
        }
        let main_fits = self.main.as_ref().is_none_or(|name| main.eq_ignore_ascii_case(name.as_bytes()));
        main_fits
            && match &self.sub {
                SubPattern::Any => true,
                SubPattern::Exact(name) => sub.eq_ignore_ascii_case(name.as_bytes()),
                SubPattern::Suffix(suffix) => {
                    let end = sub.len().checked_sub(suffix.len()).and_then(|cut| sub.get(cut..));
                    end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
                }
            }
    }
}

impl FromStr for TypePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                format!("{text:?} is not a media type"),
                "write type/subtype without parameters, such as text/html, text/* or application/*+json",
            )
        };
        /// RFC 6838 §4.2, which is narrower than a token.
        fn is_name(text: &str) -> bool {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
                && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        }
        let (main, sub) = text.split_once('/').ok_or_else(invalid)?;
        let main = match main {
            "*" => None,
            name if is_name(name) => Some(name.to_ascii_lowercase()),
            _ => return Err(invalid()),
        };
        let sub = match sub.strip_prefix('*') {
            Some("") => SubPattern::Any,
            Some(suffix) if suffix.strip_prefix('+').is_some_and(is_name) => {
                SubPattern::Suffix(suffix.to_ascii_lowercase())
            }
            None if is_name(sub) => SubPattern::Exact(sub.to_ascii_lowercase()),
            Some(_) | None => return Err(invalid()),
        };
        Ok(Self { main, sub })
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/", self.main.as_deref().unwrap_or("*"))?;
        match &self.sub {
            SubPattern::Any => out.write_str("*"),
            SubPattern::Suffix(suffix) => write!(out, "*{suffix}"),
            SubPattern::Exact(name) => out.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn media_types_match_without_case_and_parameters() {
        check(
            "text/*",
            &["text/html", "Text/HTML; charset=utf-8", " text/css "],
            &["text", "text/", "", "xtext/a"],
        );
        check("application/json", &["application/JSON"], &["application/ld+json", "text/json"]);
        check(
            "application/*+json",
            &["application/ld+json"],
            &["application/json", "text/x+json", "application/x"],
        );
        check("*/*+xml", &["image/svg+xml", "application/atom+xml;type=entry"], &["text/xml", "xml"]);
        check("*/*", &["image/png"], &["png", "/", "a/", "/b"]);
        for bad in [
            "",
            "text",
            "text/",
            "/html",
            "text/*x",
            "te*t/html",
            "text/html;charset=x",
            "a/b/c",
            "t/*+",
            "ü/a",
        ] {
            assert!(bad.parse::<TypePattern>().is_err(), "input: {bad:?}");
        }
    }

    #[track_caller]
    fn check(text: &str, yes: &[&str], no: &[&str]) {
        let pattern: TypePattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), text);
        for (types, expected) in [(yes, true), (no, false)] {
            for name in types {
                assert_eq!(pattern.matches(name), expected, "{text} and {name:?}");
            }
        }
    }

    #[test]
    fn every_default_type_is_one() {
        assert_eq!(Compress::default().types.len(), default::COMPRESS_TYPES.len());
    }
}
