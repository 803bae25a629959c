//! Secrets in URLs, which no log shows: tokens, passwords, signatures, hashes.
//!
//! A parameter of the query is known by its name. Its value is replaced, wherever a target or a Referer is written and before a filter
//! sees it, for whoever may ask whether a secret matches can guess it. Names are compared as PHP reads them, decoded and without what
//! follows `[`, and without regard to case; what stands behind the `?` of anything is taken for a query, also in the first line of a
//! head that could not be read.

use std::sync::{Arc, LazyLock};

use arc_swap::{ArcSwap, Guard};
use smallvec::SmallVec;

use crate::front::names::{before_equals, decoded};

/// Written in place of a value.
const MASKED: &[u8] = b"***";

/// Bytes of a name that are looked at; none that is masked is longer.
const MOST_NAME: usize = 64;

/// A text without its secrets, on the stack where it is short.
type Text = SmallVec<[u8; 512]>;

/// Which parameters are secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    names: Vec<Name>,
}

/// What is masked by all of the process, as its logs are of all of it.
static CURRENT: LazyLock<ArcSwap<Mask>> = LazyLock::new(ArcSwap::default);

/// Has this masked from now on.
pub(crate) fn begin(mask: Mask) {
    CURRENT.store(Arc::new(mask));
}

/// What is masked now.
pub(super) fn current() -> Guard<Arc<Mask>> {
    CURRENT.load()
}

/// A URL as a line of the log shows it.
pub(crate) fn shown(url: impl Into<String>) -> String {
    let url = url.into();
    match current().apply(url.as_bytes()) {
        Some(masked) => String::from_utf8_lossy(&masked).into_owned(),
        None => url,
    }
}

/// A name, or what many have in common.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Name {
    Exact(Box<[u8]>),
    Begin(Box<[u8]>),
    End(Box<[u8]>),
    Within(Box<[u8]>),
}

impl Mask {
    /// Of names, with a `*` where anything may stand at the begin or the end.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let name = |name: &str| {
            let name = name.to_ascii_lowercase();
            let inner: Box<[u8]> = name.trim_matches('*').as_bytes().into();
            match (name.starts_with('*'), name.ends_with('*')) {
                (false, false) => Name::Exact(inner),
                (false, true) => Name::Begin(inner),
                (true, false) => Name::End(inner),
                (true, true) => Name::Within(inner),
            }
        };
        Self { names: names.into_iter().map(name).collect() }
    }

    /// A text that is or holds a URL, without the values of secret parameters. `None`: there are none, and it is fine as it is.
    pub(crate) fn apply(&self, text: &[u8]) -> Option<Text> {
        let query = memchr::memchr(b'?', text)? + 1;
        let mut masked: Option<Text> = None;
        let mut begin = query;
        while begin < text.len() {
            let rest = &text[begin..];
            let length = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
            let pair = &rest[..length];
            let name = before_equals(pair);
            let is_secret = name.len() < pair.len() && self.is_secret(name);
            if is_secret {
                let masked = masked.get_or_insert_with(|| Text::from_slice(&text[..begin]));
                masked.extend_from_slice(name);
                masked.push(b'=');
                masked.extend_from_slice(MASKED);
            } else if let Some(masked) = &mut masked {
                masked.extend_from_slice(pair);
            }
            begin += length;
            if let (Some(masked), Some(end)) = (&mut masked, text.get(begin)) {
                masked.push(*end);
            }
            begin += 1;
        }
        masked
    }

    fn is_secret(&self, name: &[u8]) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let mut plain: SmallVec<[u8; MOST_NAME]> = SmallVec::new();
        // A name in a form is in brackets behind that of the form: `login[password]`.
        plain.extend(decoded(name).map(|byte| byte.to_ascii_lowercase()).take(MOST_NAME));
        let last = plain.strip_suffix(b"]").and_then(|name| name.rsplit(|byte| *byte == b'[').next());
        let first = plain.split(|byte| *byte == b'[').next().unwrap_or_default();
        [Some(first), last, Some(&plain[..])].into_iter().flatten().any(|name| {
            self.names.iter().any(|known| match known {
                Name::Exact(known) => name == &**known,
                Name::Begin(known) => name.starts_with(known),
                Name::End(known) => name.ends_with(known),
                Name::Within(known) => memchr::memmem::find(name, known).is_some(),
            })
        })
    }
}

/// Whether a pair ends here: also at the end of a URL within a line, and where another begins that is a parameter of this one.
const fn is_end(byte: u8) -> bool {
    matches!(byte, b'&' | b';' | b'?' | b'#' | b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask() -> Mask {
        Mask::new(["*token", "*secret*", "sig", "eZSESSID*", "password"])
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let masked = mask().apply(text.as_bytes());
        let shown = masked.as_deref().unwrap_or(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(shown), expected, "{text}");
        assert_eq!(masked.is_some(), text != expected, "nothing is copied in vain: {text}");
    }

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        check("/a", "/a");
        check("/a?b=c&d", "/a?b=c&d");
        check("/a?sig=1", "/a?sig=***");
        check("/a?SIG=1&b=2&_Token=x%26y#top", "/a?SIG=***&b=2&_Token=***#top");
        check("/a?b=1;sig=2;c=3", "/a?b=1;sig=***;c=3");
        check("/a?sig", "/a?sig");
        check("/a?sig=", "/a?sig=***");
        check("/a?sign=1&tokens=2", "/a?sign=1&tokens=2");
        check("/a?my_secret_thing=1&ezsessid0815=abc", "/a?my_secret_thing=***&ezsessid0815=***");
        check("/a?%73ig=1&csrf%5Ftoken=2", "/a?%73ig=***&csrf%5Ftoken=***");
        check(
            "/a?login[password]=1&login%5Bpassword%5D=2&sig[]=3",
            "/a?login[password]=***&login%5Bpassword%5D=***&sig[]=***",
        );
        check("https://a.test/x?sig=a=b&c", "https://a.test/x?sig=***&c");
        check("GET /a?sig=1 HTTP/1.7", "GET /a?sig=*** HTTP/1.7");
        check("/a?next=/b?sig=1&c=2", "/a?next=/b?sig=***&c=2");
        check("/sig=1", "/sig=1");
        assert!(Mask::default().apply(b"/a?sig=1").is_none());
    }

    proptest! {
        #[test]
        fn no_value_is_left(
            before in "[a-z/?&=;#% ]{0,20}",
            value in "[A-Z0-9]{4,8}",
            after in "([&;#?].{0,20})?",
        ) {
            let text = format!("/?{before}&sig={value}{after}");
            let masked = mask().apply(text.as_bytes()).expect("there is a secret");
            let masked = String::from_utf8_lossy(&masked).into_owned();
            prop_assert!(masked.contains("&sig=***"), "{}", masked);
            prop_assert!(after.contains(&value) || !masked.contains(&value), "{}", masked);
        }
    }
}
