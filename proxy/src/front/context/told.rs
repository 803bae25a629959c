//! What the hash URL answered: a hash, or something that the visitor gets in place of the page.
//!
//! An answer of the right type is stored and published with the hash as the first line of its head, so that a look-up reads
//! it where it stands. In every other answer of the hash URL that line is left out, wherever it stood: what begins with it
//! is a hash. Nobody outside ever gets such an answer.

use bytes::Bytes;
use clearcoat_cache::VarySpec;
use http::header::{self, HeaderMap, HeaderName};

use super::ContextRules;

/// The line with the hash, if an answer with these headers tells one.
pub(crate) fn line(rules: &ContextRules, headers: &HeaderMap) -> Option<Bytes> {
    let content_type = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let expected = rules.accept.as_bytes();
    let is_hash =
        content_type.get(..expected.len()).is_some_and(|start| start.eq_ignore_ascii_case(expected))
            && matches!(content_type.get(expected.len()), None | Some(b';' | b' ' | b'\t'));
    is_hash.then(|| {
        let mut line = rules.header.as_str().as_bytes().to_vec();
        line.extend_from_slice(b": ");
        // Without one the hash is empty, and told to nodes as such.
        line.extend_from_slice(headers.get(&rules.header).map_or(b"".as_slice(), |value| value.as_bytes()));
        line.extend_from_slice(b"\r\n");
        line.into()
    })
}

/// The hash that an answer of the hash URL with this serialised head tells; `None` if it is another answer.
pub(crate) fn hash<'a>(head: &'a [u8], header: &HeaderName) -> Option<&'a [u8]> {
    let lines = &head[memchr::memchr(b'\n', head)? + 1..];
    let value = lines.strip_prefix(header.as_str().as_bytes())?.strip_prefix(b": ")?;
    Some(&value[..memchr::memchr(b'\r', value)?])
}

/// What an answer of the hash URL varies on besides what is in its key already: cookies and Authorization.
pub(crate) fn vary(said: &VarySpec) -> Option<VarySpec> {
    let in_key = |name: &&str| [header::COOKIE.as_str(), header::AUTHORIZATION.as_str()].contains(name);
    let names = said.names().filter(|name| !in_key(name));
    VarySpec::from_names(names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clearcoat_cache::FreshnessSettings;
    use http::HeaderValue;

    use super::*;

    fn rules() -> ContextRules {
        ContextRules {
            header: HeaderName::from_static("x-user-context-hash"),
            accept: HeaderValue::from_static("application/vnd.fos.user-context-hash"),
            path: "/hash".into(),
            except: Default::default(),
            anonymous: None,
            authorized: true,
            freshness: FreshnessSettings::default(),
        }
    }

    #[test]
    fn only_answers_of_the_type_tell_a_hash() {
        let rules = rules();
        for (content_type, value, expected) in [
            (Some("application/vnd.fos.user-context-hash"), Some("abc"), Some("abc")),
            (Some("Application/vnd.FOS.user-context-hash; charset=x"), Some("abc"), Some("abc")),
            (Some("application/vnd.fos.user-context-hash"), None, Some("")),
            (Some("application/vnd.fos.user-context-hash"), Some(""), Some("")),
            (Some("application/vnd.fos.user-context-hashes"), Some("abc"), None),
            (Some("text/html"), Some("abc"), None),
            (None, Some("abc"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(text) = content_type {
                headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            }
            if let Some(text) = value {
                headers.insert(&rules.header, text.parse().unwrap());
            }
            let line = line(&rules, &headers).unwrap_or_default();
            let head = [b"HTTP/1.1 200 OK\r\n", &*line, b"Content-Type: x\r\n"].concat();
            let told = hash(&head, &rules.header).map(|told| std::str::from_utf8(told).unwrap());
            assert_eq!(told, expected, "{content_type:?} {value:?}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_hash() {
        let header = rules().header;
        for head in
            ["", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX-User-Context-Hash: a\r\n"]
        {
            assert_eq!(hash(head.as_bytes(), &header), None, "{head}");
        }
    }
}
