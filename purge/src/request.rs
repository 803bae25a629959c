//! Reading purge requests: the dialect of FOSHttpCache and ezplatform-http-cache for Varnish with xkey.
//!
//! * `PURGE /path?query` — every variant of this URL.
//! * `PURGEKEYS /` with `xkey-purge: t1 t2` or `xkey-softpurge: t3`, or both — every entry that carries one of these
//!   tags. The path means nothing.

use clearcoat_cache::tag::InvalidTag;
use clearcoat_cache::{CacheKey, Tag, split_tags};
use http::HeaderMap;

use crate::PurgeError;

const PURGE: &str = "PURGE";
const PURGE_KEYS: &str = "PURGEKEYS";

const HARD_TAGS: &str = "xkey-purge";
const SOFT_TAGS: &str = "xkey-softpurge";

/// What to purge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PurgeRequest {
    /// Every variant of a URL; gone at once.
    Url {
        /// Its keys: one for each scheme and spelling under which it may be stored.
        keys: Vec<CacheKey>,
    },
    /// Every entry with one of these tags. A list may be empty: that purges nothing and is no mistake.
    Tags {
        /// These are gone at once. They are purged before the soft ones.
        hard: Vec<Tag>,
        /// These are stale at once and keep their grace.
        soft: Vec<Tag>,
    },
}

/// Whether a request with this method is for us and not for a node. Methods are case-sensitive (RFC 9110 §9.1).
pub fn is_purge_method(method: &str) -> bool {
    method == PURGE || method == PURGE_KEYS
}

/// Reads a purge request; `keys` are those of its URL.
///
/// All lines of a header count. (Varnish's xkey looks at the first only; no client sends a second.)
///
/// # Errors
///
/// [`PurgeError::NoKeys`] and [`PurgeError::BadTags`] for `PURGEKEYS`, [`PurgeError::Method`] for other methods. Do
/// not answer with them: [`Guard::admit`](crate::Guard::admit) takes the whole result, because a stranger must not
/// learn even that much.
pub fn read(method: &str, headers: &HeaderMap, keys: Vec<CacheKey>) -> Result<PurgeRequest, PurgeError> {
    match method {
        PURGE => Ok(PurgeRequest::Url { keys }),
        PURGE_KEYS if !headers.contains_key(HARD_TAGS) && !headers.contains_key(SOFT_TAGS) => {
            Err(PurgeError::NoKeys)
        }
        PURGE_KEYS => {
            Ok(PurgeRequest::Tags { hard: tags(headers, HARD_TAGS)?, soft: tags(headers, SOFT_TAGS)? })
        }
        _ => Err(PurgeError::Method),
    }
}

fn tags(headers: &HeaderMap, name: &str) -> Result<Vec<Tag>, InvalidTag> {
    headers.get_all(name).iter().flat_map(|line| split_tags(line.as_bytes())).map(Tag::new).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<CacheKey> {
        [1, 2].map(CacheKey::from_number).into()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        all
    }

    fn by_tags(hard: &[&str], soft: &[&str]) -> Result<PurgeRequest, PurgeError> {
        let tags = |list: &[&str]| list.iter().map(|tag| Tag::new(tag.as_bytes()).unwrap()).collect();
        Ok(PurgeRequest::Tags { hard: tags(hard), soft: tags(soft) })
    }

    #[test]
    fn methods_are_told_apart() {
        for (method, expected) in [
            ("PURGE", true),
            ("PURGEKEYS", true),
            ("purge", false),
            ("PURGEKEY", false),
            ("GET", false),
            ("BAN", false),
        ] {
            assert_eq!(is_purge_method(method), expected, "{method}");
        }
        assert_eq!(read("GET", &headers(&[]), keys()), Err(PurgeError::Method));
    }

    #[test]
    fn purge_names_its_url_whatever_its_headers() {
        let url = Ok(PurgeRequest::Url { keys: keys() });
        assert_eq!(read("PURGE", &headers(&[]), keys()), url);
        assert_eq!(read("PURGE", &headers(&[("xkey-purge", "a"), ("cookie", "b")]), keys()), url);
    }

    #[test]
    fn purgekeys_reads_both_lists() {
        check(&[("XKey-Purge", "l42 c57")], by_tags(&["l42", "c57"], &[]));
        check(&[("xkey-softpurge", " a,b\tc ,, ")], by_tags(&[], &["a", "b", "c"]));
        check(
            &[("xkey-softpurge", "a"), ("xkey-purge", "b"), ("xkey-softpurge", "c")],
            by_tags(&["b"], &["a", "c"]),
        );
        check(&[("xkey-purge", "")], by_tags(&[], &[]));
        check(&[("xkey", "a"), ("key", "b")], Err(PurgeError::NoKeys));
        check(&[], Err(PurgeError::NoKeys));
        let long = "x".repeat(4097);
        check(&[("xkey-purge", &long)], Err(PurgeError::BadTags(InvalidTag::TooLong(4097))));
        let many = vec!["tag"; 20_000].join(" ");
        check(&[("xkey-purge", &many)], by_tags(&["tag"; 20_000], &[]));
    }

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Result<PurgeRequest, PurgeError>) {
        assert_eq!(read("PURGEKEYS", &headers(pairs), keys()), expected);
    }

    proptest! {
        #[test]
        fn any_line_gives_tags_without_separators(line in "[ -~\t]{0,80}") {
            let PurgeRequest::Tags { hard, .. } = read("PURGEKEYS", &headers(&[("xkey-purge", &line)]), keys())? else {
                return Err(TestCaseError::fail("no tags"));
            };
            let joined = hard.iter().flat_map(|tag| tag.as_bytes()).count();
            let expected = line.bytes().filter(|byte| !matches!(byte, b',' | b' ' | b'\t')).count();
            prop_assert_eq!(joined, expected);
        }
    }
}
