//! Regular expressions as the clients of Varnish write them: PCRE2, unanchored, case-sensitive, over bytes.
//!
//! They come from PHP, escaped by `preg_quote`, and may use look-around and back-references. What one may cost is limited:
//! whoever may purge may be careless, and an expression that never ends would hold up every page that it is tested on.

use pcre2::bytes::{Regex, RegexBuilder};

/// Steps that a match may take, PCRE2's match limit. Its own default is ten million, which takes seconds.
const MATCH_LIMIT: u32 = 100_000;

/// Memory that a match may take, in KiB.
const HEAP_LIMIT: u32 = 1024;

/// A longer expression is none.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// The text is no expression.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is no UTF-8; PHP does not send such.
    #[error("it is no UTF-8")]
    Encoding,
    /// It is longer than 64 KiB.
    #[error("it has {0} bytes, more than {max}", max = MAX_BYTES)]
    TooLong(usize),
    /// PCRE2 does not take it.
    #[error("{0}")]
    Syntax(String),
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    /// It matches whatever is there.
    Anything,
    /// With bytes that are in everything that it matches.
    Regex(Box<Regex>, Option<Box<[u8]>>),
}

impl Pattern {
    pub(crate) fn new(text: &[u8]) -> Result<Self, InvalidPattern> {
        if text.len() > MAX_BYTES {
            return Err(InvalidPattern::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|_| InvalidPattern::Encoding)?;
        if matches!(text, "" | ".*" | "^.*" | ".*$" | "^.*$") {
            return Ok(Self::Anything);
        }
        // Limits that stand in the expression itself can only be lower than these.
        let limited = format!("(*LIMIT_MATCH={MATCH_LIMIT})(*LIMIT_HEAP={HEAP_LIMIT}){text}");
        match RegexBuilder::new().jit_if_available(true).build(&limited) {
            Ok(regex) => Ok(Self::Regex(Box::new(regex), needed(text).map(Into::into))),
            // Once more without the limits, for the place in the text that was written.
            Err(error) => Err(InvalidPattern::Syntax(match RegexBuilder::new().build(text) {
                Ok(_) => error.to_string(),
                Err(own) => own.to_string(),
            })),
        }
    }

    /// Whether it matches somewhere in `text`. One that exceeds its limits matches: a page too many is fetched again, and
    /// none that was meant is kept.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Anything => true,
            Self::Regex(regex, _) => regex.is_match(text).unwrap_or(true),
        }
    }

    /// Bytes that are in everything that it matches.
    pub(crate) fn needs(&self) -> Option<&[u8]> {
        match self {
            Self::Anything => None,
            Self::Regex(_, needs) => needs.as_deref(),
        }
    }

    pub(crate) fn is_anything(&self) -> bool {
        matches!(self, Self::Anything)
    }
}

/// Fewer bytes are in so many URLs that they tell nothing.
const LEAST_NEEDED: usize = 4;

/// Bytes that are in everything that an expression matches: its longest run of letters that stand for themselves. `None` for whatever
/// has groups, alternatives, sets or escapes of its own kind: those that name one page or folder have none of these.
fn needed(expression: &str) -> Option<Vec<u8>> {
    if expression.contains(['(', ')', '|', '[', ']', '{', '}']) {
        return None;
    }
    let (mut longest, mut run) = (Vec::new(), Vec::new());
    let mut end = |run: &mut Vec<u8>| {
        if run.len() > longest.len() {
            longest.clone_from(run);
        }
        run.clear();
    };
    let mut bytes = expression.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next()? {
                // Kinds of letters, and places between them.
                b'd' | b'D' | b'w' | b'W' | b's' | b'S' | b'b' | b'B' => end(&mut run),
                escaped if escaped.is_ascii_alphanumeric() || !escaped.is_ascii() => return None,
                escaped => run.push(escaped),
            },
            // What stands before them need not be there. (Of a letter of several bytes the others are not needed either.)
            b'*' | b'?' => {
                while run.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                end(&mut run);
            }
            b'+' | b'.' | b'^' | b'$' => end(&mut run),
            byte => run.push(byte),
        }
    }
    end(&mut run);
    (longest.len() >= LEAST_NEEDED).then_some(longest)
}

/// The literals of `(^|,)(a|b\.c)(,|$)`, which is how FOSHttpCache asks for tags: what `preg_quote` escaped is taken back.
/// `None` if it is another expression.
pub(crate) fn listed_tags(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    let list = pattern.strip_prefix(b"(^|,)(")?.strip_suffix(b")(,|$)")?;
    let mut tags = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        let literal = match byte {
            b'|' => {
                tags.push(Vec::new());
                continue;
            }
            // `preg_quote` makes NUL `\000`, and puts a backslash before what means something or may in other places.
            b'\\' => match bytes.next()? {
                b'0' if bytes.next() == Some(b'0') && bytes.next() == Some(b'0') => 0,
                escaped if escaped.is_ascii_alphanumeric() => return None,
                escaped => escaped,
            },
            b'.' | b'^' | b'$' | b'*' | b'+' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' => return None,
            byte => byte,
        };
        if let Some(tag) = tags.last_mut() {
            tag.push(literal);
        }
    }
    tags.iter().all(|tag| !tag.is_empty()).then_some(tags)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            Pattern::new(pattern.as_bytes()).unwrap().matches(text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn what_they_need_is_known_of_simple_ones() {
        for (pattern, expected) in [
            ("^/news/123$", Some("/news/123")),
            (r"^/a\.b\-c/", Some("/a.b-c/")),
            ("/news/.*/archive", Some("/archive")),
            ("/news/x*y", Some("/news/")),
            ("/newsé?", Some("/news")),
            ("/news+", Some("/news")),
            (r"\d\d/news", Some("/news")),
            ("abc", None),
            ("^/(news|events)/", None),
            ("/news|/events", None),
            ("(?i)/news", None),
            ("/news[0-9]", None),
            ("/news{2}", None),
            (r"/\Qnews\E", None),
            (r"/news\x20", None),
            (r"/news\", None),
            (".*", None),
        ] {
            let needs = needed(pattern);
            assert_eq!(needs.as_deref(), expected.map(str::as_bytes), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn what_they_need_is_there_wherever_they_match(
            pattern in "[ab/é]{0,3}([ab/.*+?^$é]|\\\\[.db-]){1,12}", text in "[ab/.\\-0é]{0,40}"
        ) {
            let needs = needed(&pattern);
            if let (Some(needs), Ok(pattern)) = (needs, Pattern::new(pattern.as_bytes())) {
                let is_there = memchr::memmem::find(text.as_bytes(), &needs).is_some();
                prop_assert!(is_there || !pattern.matches(text.as_bytes()), "{needs:?}");
            }
        }
    }

    #[test]
    fn they_mean_what_they_do_in_pcre() {
        check("b", "abc", true);
        check("^b", "abc", false);
        check("B", "abc", false);
        check("(?i)B", "abc", true);
        check("^/(?!admin)", "/page", true);
        check("^/(?!admin)", "/admin/x", false);
        check(r"^(.)\1$", "aa", true);
        check(r"^(.)\1$", "ab", false);
        check(r"a b", "a b", true);
        // In other dialects these are borders of words.
        check(r"^\<\>$", "<>", true);
        check(r"\.\\\+\*\?\[\^\]\$\(\)\{\}\=\!\<\>\|\:\-\#", r".\+*?[^]$(){}=!<>|:-#", true);
        for anything in ["", ".*", "^.*$"] {
            assert!(Pattern::new(anything.as_bytes()).unwrap().is_anything());
            check(anything, "x\ny", true);
            check(anything, "", true);
        }
    }

    #[test]
    fn what_is_none_is_said() {
        for (text, needle) in [("(", "offset 1"), ("ab[a", "offset 4"), ("a{2,1}", "offset 5")] {
            let error = Pattern::new(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
        assert_eq!(Pattern::new(b"\xff").unwrap_err(), InvalidPattern::Encoding);
        let long = "a".repeat(MAX_BYTES + 1);
        assert_eq!(Pattern::new(long.as_bytes()).unwrap_err(), InvalidPattern::TooLong(MAX_BYTES + 1));
    }

    #[test]
    fn one_that_would_take_for_ever_is_stopped_and_matches() {
        let text = "a".repeat(60);
        check("^(a+)+$", &text, true);
        check("^(a+)+[bc]$", &text, true);
        check("(*LIMIT_MATCH=4000000000)^(a|a)+[bc]$", &text, true);
    }

    #[test]
    fn lists_of_tags_are_known() {
        let tags = |pattern: &str| {
            listed_tags(pattern.as_bytes())
                .map(|tags| tags.into_iter().map(|tag| String::from_utf8(tag).unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(tags(r"(^|,)(c1|a\.b\-c)(,|$)").unwrap(), ["c1", "a.b-c"]);
        assert_eq!(tags(r"(^|,)(ez\-all)(,|$)").unwrap(), ["ez-all"]);
        assert_eq!(tags(r"(^|,)(a\000b|\|\\)(,|$)").unwrap(), ["a\0b", r"|\"]);
        for other in [
            r"(^|,)(a.b)(,|$)",
            r"(^|,)(a\d)(,|$)",
            "(^|,)((a))(,|$)",
            "(^|,)()(,|$)",
            "(^|,)(a||b)(,|$)",
            "a",
            r"(^|,)(a\)(,|$)",
            r"(^|,)(a\00)(,|$)",
        ] {
            assert_eq!(tags(other), None, "{other}");
        }
    }
}
