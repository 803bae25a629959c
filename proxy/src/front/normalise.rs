//! Headers with a thousand spellings that mean one of a few things to a site: the languages it has, the kinds of device it
//! makes pages for.
//!
//! The value that comes of it takes the header's place before a variant is chosen and in what the node of a cacheable request
//! is asked. So an answer cannot have been made by more than the key tells.

use clearcoat_cache::{SelectingHeaders, language};
use http::header::{HeaderName, HeaderValue};
use regex::bytes::{Regex, RegexBuilder};

/// Memory that one compiled pattern may take, and again its tables at work.
const PATTERN_BYTES: usize = 1 << 20;

/// Bytes of a header line that patterns look at. The line of a browser has two hundred; the time for a match grows with it.
const LOOK_AT_BYTES: usize = 2048;

/// One header and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Normaliser {
    /// What is read. Lower case, as all names of the `http` crate.
    pub(crate) header: HeaderName,
    pub(crate) by: By,
    /// Where the value goes; the header itself is then withheld from fetches for the cache. `None`: in its own place.
    pub(crate) goes_to: Option<HeaderName>,
}

/// How the value is found.
#[derive(Clone, Debug)]
pub(crate) enum By {
    /// The best of these tags for the request, the first if none fits (RFC 4647 section 3.4). Read as `Accept-Language`,
    /// whatever the header.
    Languages(Box<[HeaderValue]>),
    /// The value of the first pattern that matches a line of the header; a header that is not there is an empty line.
    Classes {
        classes: Box<[(HeaderValue, Regex)]>,
        /// The value when none matches; `None`: there is no value.
        otherwise: Option<HeaderValue>,
    },
}

/// Compiles a pattern for a class. Matching takes time in proportion to the text, whatever the pattern.
///
/// # Errors
///
/// The pattern is none, or too large.
pub(crate) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES).build()
}

/// Reads a header of some name as `Accept-Language`.
struct AsLanguages<'a> {
    request: &'a dyn SelectingHeaders,
    name: &'a HeaderName,
}

impl SelectingHeaders for AsLanguages<'_> {
    fn visit(&self, _name: &str, value: &mut dyn FnMut(&[u8])) {
        self.request.visit(self.name.as_str(), value);
    }
}

impl Normaliser {
    /// Under which name the value is found afterwards.
    pub(crate) fn place(&self) -> &HeaderName {
        self.goes_to.as_ref().unwrap_or(&self.header)
    }

    /// The value for a request; `None` if there is to be none.
    pub(crate) fn value(&self, request: &dyn SelectingHeaders) -> Option<&HeaderValue> {
        match &self.by {
            By::Languages(tags) => language::best(tags, &AsLanguages { request, name: &self.header }),
            By::Classes { classes, otherwise } => {
                // The earliest class counts, not the earliest line.
                let mut found = classes.len();
                let mut look = |line: &[u8]| {
                    let line = &line[..line.len().min(LOOK_AT_BYTES)];
                    let class = classes[..found].iter().position(|(_, pattern)| pattern.is_match(line));
                    found = class.unwrap_or(found);
                };
                let mut lines = 0;
                request.visit(self.header.as_str(), &mut |line| {
                    lines += 1;
                    look(line);
                });
                if lines == 0 {
                    look(b"");
                }
                classes.get(found).map(|(value, _)| value).or(otherwise.as_ref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;
    use http::header::{ACCEPT_LANGUAGE, USER_AGENT};

    use super::*;

    fn value(text: &str) -> HeaderValue {
        text.parse().unwrap()
    }

    fn devices(otherwise: Option<&str>) -> Normaliser {
        let classes = [("tablet", "(?i)ipad|tablet"), ("mobile", "(?i)mobi|android"), ("none", "^$")];
        Normaliser {
            header: USER_AGENT,
            by: By::Classes {
                classes: classes.iter().map(|(name, text)| (value(name), pattern(text).unwrap())).collect(),
                otherwise: otherwise.map(value),
            },
            goes_to: None,
        }
    }

    #[test]
    fn the_first_class_that_matches_counts() {
        for (lines, expected) in [
            (&["Mozilla Mobile"][..], Some("mobile")),
            (&["Mozilla Android Tablet"], Some("tablet")),
            (&["Mozilla"], Some("desktop")),
            (&["Mobile", "iPad"], Some("tablet")),
            (&["iPad", "Mobile"], Some("tablet")),
            (&[""], Some("none")),
            (&[], Some("none")),
        ] {
            let request: HeaderMap = lines.iter().map(|line| (USER_AGENT, value(line))).collect();
            let normaliser = devices(Some("desktop"));
            assert_eq!(normaliser.value(&request), expected.map(value).as_ref(), "{lines:?}");
        }
        let request: HeaderMap = [(USER_AGENT, value("Mozilla"))].into_iter().collect();
        assert_eq!(devices(None).value(&request), None);
    }

    #[test]
    fn a_long_line_is_looked_at_only_so_far() {
        let long = format!("{}mobile", "x".repeat(LOOK_AT_BYTES));
        let request: HeaderMap = [(USER_AGENT, value(&long))].into_iter().collect();
        assert_eq!(devices(None).value(&request), None);
    }

    #[test]
    fn languages_are_read_from_any_header() {
        for header in [ACCEPT_LANGUAGE, HeaderName::from_static("x-language")] {
            let by = By::Languages(["en", "de"].map(value).into());
            let normaliser = Normaliser { header: header.clone(), by, goes_to: None };
            let request: HeaderMap = [(header, value("it, de-CH;q=0.5"))].into_iter().collect();
            assert_eq!(normaliser.value(&request), Some(&value("de")));
            assert_eq!(normaliser.value(&HeaderMap::new()), Some(&value("en")));
        }
    }

    #[test]
    fn a_pattern_of_any_size_is_refused_in_time() {
        assert!(pattern("(?i)mobi|android").is_ok());
        assert!(pattern(r"((\w{100}){100}){100}").is_err());
        assert!(pattern("(").is_err());
    }
}
