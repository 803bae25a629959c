//! What nobody outside may say: the hash itself, and what makes an application tell it.
//!
//! Held against every request of a site that has a user context on any of its routes, whatever its method and route, before
//! anything else is done with it. Varnish with FOSHttpCache's configuration answers 400 too; with that of eZ Platform it
//! lets a POST, a request with Authorization or an asset through, which is a gap and not a feature.

use http::header::{HeaderName, HeaderValue};

use crate::listen::head::Head;

/// Names that are refused at every such site: the token that applications tell to those who may purge, and where Varnish
/// leaves the original request while it asks for the hash.
const NAMES: [&str; 3] = ["x-backend-invalidate-token", "x-fos-original-url", "x-fos-original-accept"];

/// Media types that nobody outside may ask for at every such site.
const TYPES: [&str; 1] = ["application/vnd.ezplatform.invalidate-token"];

/// What is refused at one site.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Forgeries {
    /// Lower case.
    names: Box<[Box<[u8]>]>,
    /// Lower case.
    types: Box<[Box<[u8]>]>,
    /// A bit for each length of a name, 63 for all above, so that most lines are passed over by their length.
    lengths: u64,
}

impl Forgeries {
    /// For a site whose routes know contexts by these headers and media types.
    pub(crate) fn new<'a>(contexts: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Self {
        let mut names: Vec<Box<[u8]>> = NAMES.iter().map(|name| name.as_bytes().into()).collect();
        let mut types: Vec<Box<[u8]>> = TYPES.iter().map(|name| name.as_bytes().into()).collect();
        for (header, accept) in contexts {
            names.push(header.as_str().as_bytes().into());
            types.push(accept.as_bytes().to_ascii_lowercase().into());
        }
        for list in [&mut names, &mut types] {
            list.sort_unstable();
            list.dedup();
        }
        let lengths = names.iter().fold(1 << ACCEPT.len(), |bits, name| bits | 1 << name.len().min(63));
        Self { names: names.into(), types: types.into(), lengths }
    }

    /// Whether a request says something that it may not.
    pub(crate) fn are_in(&self, head: &Head<'_, '_>) -> bool {
        head.headers.iter().any(|line| {
            let name = line.name.as_bytes();
            self.lengths & 1 << name.len().min(63) != 0
                && (self.names.iter().any(|known| looks_like(name, known))
                    || name.eq_ignore_ascii_case(ACCEPT)
                        && self.types.iter().any(|known| contains(line.value, known)))
        })
    }
}

const ACCEPT: &[u8] = b"accept";

/// Whether an application may take a header's name for `known`: CGI makes the same variable of `-`, `_` and, in some
/// servers, of every other mark.
pub(crate) fn looks_like(name: &[u8], known: &[u8]) -> bool {
    let same = |(a, b): (&u8, &u8)| {
        a.eq_ignore_ascii_case(b) || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric()
    };
    name.len() == known.len() && name.iter().zip(known).all(same)
}

/// Whether `text` has the media type `known`, in lower case, anywhere in it, in any case.
fn contains(text: &[u8], known: &[u8]) -> bool {
    let Some(slash) = memchr::memchr(b'/', known) else {
        return !known.is_empty()
            && text.windows(known.len()).any(|window| window.eq_ignore_ascii_case(known));
    };
    // Slashes are few in what browsers send, and a subtype with another first letter is passed over at once.
    memchr::memchr_iter(b'/', text).any(|at| {
        let start = at.checked_sub(slash);
        let found = start.and_then(|start| text.get(start..start + known.len()));
        found.is_some_and(|found| {
            found.get(slash + 1).map(u8::to_ascii_lowercase) == known.get(slash + 1).copied()
                && found.eq_ignore_ascii_case(known)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::head::{HeadLimits, Parsed, lines, parse};

    #[test]
    fn forgeries_are_found_in_every_spelling() {
        let header = HeaderName::from_static("x-user-context-hash");
        let accept = HeaderValue::from_static("application/vnd.fos.user-context-hash");
        let forgeries = Forgeries::new([(&header, &accept)]);
        for (line, expected) in [
            ("X-User-Context-Hash: a", true),
            ("x-user-context-hash:", true),
            ("X_User_Context_Hash: a", true),
            ("X-User_Context-Hash: a", true),
            ("X.User.Context.Hash: a", true),
            ("X-User-Context-Hash2: a", false),
            ("X-User-Hash: a", false),
            ("XaUser-Context-Hash: a", false),
            ("X-Backend-Invalidate-Token: a", true),
            ("X_Backend_Invalidate_Token: a", true),
            ("X-Invalidate-Token: a", false),
            ("X-Fos-Original-Url: /", true),
            ("Accept: application/vnd.fos.user-context-hash", true),
            ("Accept: text/html, Application/VND.fos.user-context-hash;q=0.1", true),
            ("accept: application/vnd.ezplatform.invalidate-token", true),
            ("Accept: text/html\r\nAccept: application/vnd.fos.user-context-hash", true),
            ("Accept: text/html,application/xhtml+xml", false),
            ("Accept: ", false),
            ("Accept: /vnd.fos.user-context-hash, application/vnd", false),
            ("Cookie: application/vnd.fos.user-context-hash", false),
            ("Accept-Language: application/vnd.fos.user-context-hash", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
            let mut room = lines();
            let limits = HeadLimits { bytes: 10_000, count: 100, url_bytes: 100 };
            let Parsed::Complete(head) = parse(text.as_bytes(), &mut room, &limits) else { panic!("{text}") };
            assert_eq!(forgeries.are_in(&head), expected, "{line}");
        }
    }
}
