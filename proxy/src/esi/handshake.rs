//! How we and a node agree on ESI (Edge Architecture Specification, W3C Note of 2001).

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// What nodes are told on routes with ESI.
pub(crate) static SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");

/// Our name and what we can.
pub(crate) static CAPABILITY: HeaderValue = HeaderValue::from_static("clearcoat=\"ESI/1.0\"");

/// Where a node says what it sends; not for clients then.
pub(crate) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Whether an answer says that it has ESI tags: `content` in `Surrogate-Control` lists `ESI/1.0`. What is meant for a surrogate named
/// behind a semicolon is not for us, unless that is our name.
pub(crate) fn is_marked(headers: &HeaderMap) -> bool {
    headers.get_all(SURROGATE_CONTROL).iter().any(|line| {
        // A comma inside the quotes parts nothing in what anybody sends there; at worst a page stays as it is.
        line.as_bytes().split(|byte| *byte == b',').any(|directive| {
            let mut parts = directive.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let content = parts.next().and_then(|part| {
                let (name, value) = part.split_at_checked(b"content=".len())?;
                name.eq_ignore_ascii_case(b"content=").then_some(value)
            });
            let for_us = parts.next().is_none_or(|target| target.eq_ignore_ascii_case(b"clearcoat"));
            let mut words = content.unwrap_or_default().split(|byte| matches!(byte, b'"' | b' '));
            for_us && words.any(|word| word.eq_ignore_ascii_case(b"ESI/1.0"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &'static str, expected: bool) {
        let headers = HeaderMap::from_iter([(SURROGATE_CONTROL, HeaderValue::from_static(line))]);
        assert_eq!(is_marked(&headers), expected, "{line}");
    }

    #[test]
    fn pages_with_tags_say_so() {
        check("content=\"ESI/1.0\"", true);
        check("max-age=60, Content=\"esi/1.0\"", true);
        check("content=\"ESI/1.0 ESI-INV/1.0\", max-age=5", true);
        check("content=ESI/1.0", true);
        check("content=\"ESI/1.0\";clearcoat", true);
        check("content=\"ESI/1.0\";other", false);
        check("content=\"ESI/1.0-x\"", false);
        check("max-age=60", false);
        check("", false);
        check("xcontent=\"ESI/1.0\"", false);
    }
}
