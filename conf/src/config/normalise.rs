//! Request headers of which only a few values are told apart, so that `Vary` on them makes few variants.

use std::str::FromStr;

use super::pattern::{HeaderName, build_regex};
use super::text::{equal_if_written_alike, equal_in_any_case, shown_as_text};
use crate::error::Invalid;

/// A request header of which only a few values are told apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Normaliser {
    /// The header that is read. None that belongs to the connection or to the request itself, such as `Host`.
    pub header: HeaderName,
    /// How its value is found.
    pub how: NormaliseHow,
    /// The header that carries the value to the nodes, if it is another one: the original is then withheld from fetches
    /// for the cache. Never the same as `header`; no two of a site are the same. `None`, the default: the value stands in
    /// place of the original.
    pub into: Option<HeaderName>,
}

/// How the value of a [`Normaliser`] is found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NormaliseHow {
    /// The best of these for the request (the lookup of RFC 4647 §3.4, by q-values); the first if none fits. At least
    /// one, each once.
    Languages(Vec<LanguageTag>),
    /// The first pattern that matches.
    Classes {
        /// At least one, in the order of the file.
        classes: Vec<Class>,
        /// The value where none matches. `None`, the default: the header is taken away.
        otherwise: Option<HeaderText>,
    },
}

/// A value and the headers that it stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Class {
    /// What the nodes see.
    pub value: HeaderText,
    /// Where it matches, the value counts.
    pub pattern: HeaderPattern,
}

/// A language tag as `de` or `de-AT` (RFC 5646 §2.1, by its outer form). Case does not count; it is kept as written.
#[derive(Clone, Debug)]
pub struct LanguageTag(String);

impl LanguageTag {
    /// The tag as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

equal_in_any_case!(LanguageTag);

impl FromStr for LanguageTag {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_subtag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let primary = text.split('-').next().unwrap_or_default();
        let is_tag = text.split('-').all(is_subtag) && primary.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_tag || text.len() > MAX_TAG_BYTES {
            return Err(Invalid::new(
                format!("{text:?} is not a language"),
                "write a language tag, such as en, de or pt-BR",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

shown_as_text!(LanguageTag);

/// The longest language tag, in bytes; RFC 5646 §4.4.1 counts on 35 at most.
const MAX_TAG_BYTES: usize = 35;

/// The longest [`HeaderText`], in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// The value of a header: 1 to 256 visible ASCII characters, with spaces only between them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderText(String);

impl HeaderText {
    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The realm of a password where none is written.
    pub(crate) fn restricted() -> Self {
        Self("restricted".to_owned())
    }

    /// A number as a name.
    pub(crate) fn number(number: usize) -> Self {
        Self(number.to_string())
    }
}

impl FromStr for HeaderText {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !fits || text.is_empty() || text.trim() != text || text.len() > MAX_TEXT_BYTES {
            return Err(Invalid::new(
                format!("{text:?} is not the value of a header"),
                "write a short word, such as mobile",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

shown_as_text!(HeaderText);

/// A regex that a header must match somewhere. Equal if written alike. Matching takes time in proportion to the length of
/// the header, whatever a client sends.
#[derive(Clone, Debug)]
pub struct HeaderPattern(regex::bytes::Regex);

impl HeaderPattern {
    /// Whether the value of a header matches.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }

    /// The regex as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

equal_if_written_alike!(HeaderPattern);

impl FromStr for HeaderPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(
                "the pattern is empty and matches every header",
                "write otherwise = \"VALUE\" for the rest",
            ));
        }
        build_regex(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn languages_are_tags() {
        for good in ["en", "pt-BR", "zh-Hant-TW", "de-1996", "x-klingon"] {
            assert_eq!(good.parse::<LanguageTag>().unwrap().as_str(), good);
        }
        for bad in ["", "*", "en-", "-en", "en_GB", "de-*", "1996", "languages9", "ü", "en;q=1", "en, de"] {
            assert!(bad.parse::<LanguageTag>().is_err(), "input: {bad:?}");
        }
        assert_eq!("pt-BR".parse::<LanguageTag>().unwrap(), "PT-br".parse().unwrap());
    }

    #[test]
    fn values_stand_in_a_header() {
        for good in ["mobile", "a b", "x;y=\"z\""] {
            assert_eq!(good.parse::<HeaderText>().unwrap().as_str(), good);
        }
        for bad in ["", " a", "a ", "a\r\nb", "a\tb", "ü", &"a".repeat(257)] {
            assert!(bad.parse::<HeaderText>().is_err(), "input: {bad:?}");
        }
    }

    #[test]
    fn patterns_match_somewhere() {
        let pattern: HeaderPattern = "(?i)mobi|android".parse().unwrap();
        assert!(
            pattern.matches(b"Mozilla/5.0 (Android 14; Mobile)") && !pattern.matches(b"Mozilla/5.0 (X11)")
        );
        for bad in ["", "(", "a{1000}{1000}{1000}", "(?=x)"] {
            assert!(bad.parse::<HeaderPattern>().is_err(), "input: {bad:?}");
        }
    }
}
