//! The text of `Cache-Control` (RFC 9111 §5.2): from header lines to directives. What they lead to is decided in
//! [`freshness`](crate::freshness).

use std::time::Duration;

use http::{HeaderMap, header};

/// Stands for every number of seconds that is larger (RFC 9111 §1.2.2).
pub const MAX_SECONDS: u32 = 1 << 31;

/// One directive as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Directive<'a> {
    /// In the writer's case; compare without regard to it.
    pub name: &'a [u8],
    /// What followed `=`, without the quotes; quoted pairs inside are left as they are.
    pub value: Option<&'a [u8]>,
}

/// Reads the directives of one header line.
///
/// Lenient as the RFC advises: empty members vanish, a number may be quoted, white space may stand around `=`,
/// and a quote that is never closed reaches to the end of the line.
pub fn directives(line: &[u8]) -> impl Iterator<Item = Directive<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (member, after) = split_member(rest);
            rest = after;
            let member = member.trim_ascii();
            let (name, value) = match member.iter().position(|&byte| byte == b'=') {
                Some(equals) => (member[..equals].trim_ascii_end(), Some(unquote(&member[equals + 1..]))),
                None => (member, None),
            };
            if !name.is_empty() {
                return Some(Directive { name, value });
            }
        }
        None
    })
}

/// Splits behind the first comma that is not inside quotes.
fn split_member(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, &[])
}

fn unquote(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    match value.strip_prefix(b"\"") {
        Some(open) => open.strip_suffix(b"\"").unwrap_or(open),
        None => value,
    }
}

/// Reads `delta-seconds` (RFC 9111 §1.2.2): digits only, clamped to [`MAX_SECONDS`]; `None` for anything else.
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |seconds, &byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(seconds.saturating_mul(10).saturating_add(digit).min(MAX_SECONDS))
    })
}

/// The directives of a response (or request) that matter to a shared cache.
///
/// A directive that is given twice counts by its first occurrence: RFC 9111 §4.2.1 leaves the choice between that and
/// calling the response stale. A number that cannot be read, a negative one for example, counts as zero, which makes
/// the response stale as the same section advises.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheControl {
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be reused without asking the origin; also set by the form that lists fields.
    pub no_cache: bool,
    /// Not for shared caches; also set by the form that lists fields.
    pub private: bool,
    /// May be stored even where that needs a word of its own.
    pub public: bool,
    /// Never to be used stale.
    pub must_revalidate: bool,
    /// The same, for shared caches only.
    pub proxy_revalidate: bool,
    /// Only for caches that know what the status code means; `no-store` beside it is for the others.
    pub must_understand: bool,
    /// Freshness lifetime for shared caches.
    pub s_maxage: Option<Duration>,
    /// Freshness lifetime.
    pub max_age: Option<Duration>,
    /// How long a stale copy may be used while a newer one is fetched (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// How long a stale copy may be used when the origin fails (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl CacheControl {
    /// Reads every `Cache-Control` line of `headers`.
    pub fn read(headers: &HeaderMap) -> Self {
        Self::from_lines(headers.get_all(header::CACHE_CONTROL).iter().map(|line| line.as_bytes()))
    }

    /// Reads lines that belong together, in their order.
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        for directive in lines.into_iter().flat_map(directives) {
            found.take(directive);
        }
        found
    }

    fn take(&mut self, directive: Directive<'_>) {
        let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
        let set = |first: &mut Option<Duration>| {
            let seconds = directive.value.and_then(delta_seconds).unwrap_or(0);
            first.get_or_insert(Duration::from_secs(u64::from(seconds)));
        };
        if is("max-age") {
            set(&mut self.max_age);
        } else if is("s-maxage") {
            set(&mut self.s_maxage);
        } else if is("public") {
            self.public = true;
        } else if is("private") {
            self.private = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("stale-while-revalidate") {
            set(&mut self.stale_while_revalidate);
        } else if is("stale-if-error") {
            set(&mut self.stale_if_error);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(number: u64) -> Option<Duration> {
        Some(Duration::from_secs(number))
    }

    #[test]
    fn directives_are_read_in_every_spelling() {
        check(&["max-age=60"], |c| c.max_age = seconds(60));
        check(&["MAX-AGE=60, Public"], |c| (c.max_age, c.public) = (seconds(60), true));
        check(&["max-age=\"60\""], |c| c.max_age = seconds(60));
        check(&[" max-age = 60 ,, ,s-maxage=5"], |c| (c.max_age, c.s_maxage) = (seconds(60), seconds(5)));
        check(&["no-cache=\"set-cookie, private\""], |c| c.no_cache = true);
        check(&["private=\"x\\\", no-store\""], |c| c.private = true);
        check(&["foo=\"unclosed, no-store"], |_| {});
        check(&["no-store=1"], |c| c.no_store = true);
        check(&["x-no-store, nostore, max-age60"], |_| {});
        check(&["must-revalidate, proxy-revalidate"], |c| {
            (c.must_revalidate, c.proxy_revalidate) = (true, true)
        });
        check(&["stale-while-revalidate=3,stale-if-error=4"], |c| {
            (c.stale_while_revalidate, c.stale_if_error) = (seconds(3), seconds(4));
        });
        check(&["must-understand, no-store"], |c| (c.must_understand, c.no_store) = (true, true));
        check(&["=60", ",", ""], |_| {});
    }

    #[test]
    fn several_lines_are_one_list() {
        check(&["public", "max-age=60"], |c| (c.public, c.max_age) = (true, seconds(60)));
    }

    #[test]
    fn the_first_of_two_numbers_counts() {
        check(&["max-age=1, max-age=60"], |c| c.max_age = seconds(1));
        check(&["max-age=60", "max-age=1"], |c| c.max_age = seconds(60));
    }

    #[test]
    fn a_number_that_cannot_be_read_is_zero_and_a_large_one_is_clamped() {
        for text in
            ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=6 0", "max-age=+5", "max-age=x"]
        {
            check(&[text], |c| c.max_age = seconds(0));
        }
        for text in ["max-age=2147483648", "max-age=99999999999999999999999"] {
            check(&[text], |c| c.max_age = seconds(1 << 31));
        }
    }

    #[track_caller]
    fn check(lines: &[&str], expect: impl FnOnce(&mut CacheControl)) {
        let mut expected = CacheControl::default();
        expect(&mut expected);
        let found = CacheControl::from_lines(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(found, expected, "lines: {lines:?}");
    }

    proptest! {
        #[test]
        fn any_line_is_read_to_its_end(line: Vec<u8>) {
            for directive in directives(&line) {
                prop_assert!(!directive.name.is_empty());
                prop_assert!(directive.name.len() <= line.len());
            }
        }

        #[test]
        fn seconds_agree_with_plain_arithmetic(number in 0u64..10_000_000_000) {
            let expected = number.min(u64::from(MAX_SECONDS)) as u32;
            prop_assert_eq!(delta_seconds(number.to_string().as_bytes()), Some(expected));
        }
    }
}
