//! Which variant of a resource answers a request: the header names of `Vary` and a keyed hash of their values
//! (RFC 9111 §4.1).
//!
//! `Accept-Encoding` is special: its thousand spellings mean one of a few sets of codings, so the set is hashed
//! ([`EncodingClass`]) and not the text. That is right only if the origin is asked for nothing beyond the set: who
//! fetches sends [`EncodingClass::as_header_value`] and not what the client wrote.
//!
//! `Accept-Language` is hashed in its usual spelling ([`language::canonical`]), and sent so.

use std::hash::Hasher;

use http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;

use crate::key::{KeySecret, VariantKey};
use crate::language;

/// More names than this are not a usable `Vary`.
pub const MAX_NAMES: usize = 32;

/// A request, as far as variants are chosen by it.
pub trait SelectingHeaders {
    /// Calls `value` with every line of the header `name` (lower case), in order; not at all if there is none.
    ///
    /// It is called while a part of the store is locked for reading: it must not come back to the store.
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8]));
}

impl SelectingHeaders for HeaderMap {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for line in self.get_all(name) {
            value(line.as_bytes());
        }
    }
}

/// The header names a resource varies on: lower case, sorted, each once, at least one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct VarySpec(Box<[HeaderName]>);

/// Whether the response's `Vary` can be obeyed: every member is a header name and there are not too many.
pub(crate) fn is_usable(headers: &HeaderMap) -> bool {
    read_names(headers).is_some()
}

/// `None` if a member is `*` or no name, or if there are more than [`MAX_NAMES`].
fn read_names(headers: &HeaderMap) -> Option<SmallVec<[HeaderName; 4]>> {
    let mut names = SmallVec::new();
    for line in headers.get_all(header::VARY) {
        for member in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if member.is_empty() {
                continue;
            }
            // `*` is a token, so the header crate would take it for a name.
            if member == b"*" || names.len() == MAX_NAMES {
                return None;
            }
            names.push(HeaderName::from_bytes(member).ok()?);
        }
    }
    Some(names)
}

impl VarySpec {
    /// Reads every `Vary` line of a response; `None` if it does not vary.
    ///
    /// `Vary: *` and lists that cannot be read are for [`assess`](crate::assess) to refuse; here they are `None`
    /// too.
    pub fn parse(headers: &HeaderMap) -> Option<Self> {
        Self::from_names(read_names(headers)?)
    }

    /// The spec with these names; `None` if there are none.
    pub fn from_names(names: impl IntoIterator<Item = HeaderName>) -> Option<Self> {
        let mut names: Vec<HeaderName> = names.into_iter().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        (!names.is_empty()).then(|| Self(names.into_boxed_slice()))
    }

    /// Whatever one of the two varies on.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut names: Vec<HeaderName> = self.0.iter().chain(&other.0).cloned().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self(names.into_boxed_slice())
    }

    /// The names, lower case and sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(HeaderName::as_str)
    }

    /// The variant that answers `request`.
    ///
    /// The names go into the hash too, so variants of different specs never meet. A header that is absent differs
    /// from an empty one; lines of one header are joined as a list, white space around its members does not count.
    pub fn variant(&self, secret: &KeySecret, request: &dyn SelectingHeaders) -> VariantKey {
        secret.variant(|hash| {
            for name in self.names() {
                hash.write(name.as_bytes());
                hash.write_u8(b',');
            }
            hash.write_u8(0);
            for name in self.names() {
                if name == header::ACCEPT_ENCODING.as_str() {
                    hash.write_u8(EncodingClass::of(request).0);
                    continue;
                }
                if name == header::ACCEPT_LANGUAGE.as_str() {
                    let text = language::canonical(request);
                    hash.write(text.as_deref().unwrap_or_default());
                    hash.write_u64(text.as_ref().map_or(0, |text| text.len() as u64));
                    hash.write_u8(u8::from(text.is_some()));
                    continue;
                }
                let (mut length, mut lines) = (0, 0u32);
                request.visit(name, &mut |line| {
                    // White space around commas says nothing in a list, and clients differ in it (RFC 9111 §4.1).
                    for part in line.split(|&byte| byte == b',') {
                        let part = part.trim_ascii();
                        if lines > 0 {
                            hash.write(b",");
                            length += 1;
                        }
                        hash.write(part);
                        length += part.len() as u64;
                        lines += 1;
                    }
                });
                // The length stands behind the value, because only now it is known; read from the end of the input,
                // it parts the values in one way only.
                hash.write_u64(length);
                hash.write_u8(u8::from(lines > 0));
            }
        })
    }
}

/// The codings a client takes, out of those that origins send: gzip, br, zstd, and the plain text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EncodingClass(u8);

impl EncodingClass {
    const GZIP: u8 = 1;
    const BR: u8 = 2;
    const ZSTD: u8 = 4;
    const NO_IDENTITY: u8 = 8;

    /// Reads the `Accept-Encoding` lines of a request (RFC 9110 §12.5.3): `q=0` excludes, `*` stands for what is
    /// not named, other codings and other weights are ignored. No header means: no coding.
    pub fn of(request: &dyn SelectingHeaders) -> Self {
        let (mut taken, mut named, mut others) = (0, 0, None);
        request.visit(header::ACCEPT_ENCODING.as_str(), &mut |line| {
            for member in line.split(|&byte| byte == b',') {
                let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
                let coding = parts.next().unwrap_or_default();
                let refused = parts.any(is_zero_weight);
                let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
                let bit = if is("gzip") || is("x-gzip") {
                    Self::GZIP
                } else if is("br") {
                    Self::BR
                } else if is("zstd") {
                    Self::ZSTD
                } else if is("identity") {
                    Self::NO_IDENTITY
                } else {
                    if is("*") {
                        others = Some(!refused);
                    }
                    continue;
                };
                named |= bit;
                // Only for the plain text the bit says "no".
                if refused == (bit == Self::NO_IDENTITY) {
                    taken |= bit;
                }
            }
        });
        let rest = match others {
            Some(true) => Self::GZIP | Self::BR | Self::ZSTD,
            Some(false) => Self::NO_IDENTITY,
            None => 0,
        };
        Self(taken | (rest & !named))
    }

    /// What to send to the origin instead of the client's text; `None` if only the plain text is taken.
    pub const fn as_header_value(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => return None,
            1 => "gzip",
            2 => "br",
            3 => "br, gzip",
            4 => "zstd",
            5 => "zstd, gzip",
            6 => "zstd, br",
            7 => "zstd, br, gzip",
            8 => "identity;q=0",
            9 => "gzip, identity;q=0",
            10 => "br, identity;q=0",
            11 => "br, gzip, identity;q=0",
            12 => "zstd, identity;q=0",
            13 => "zstd, gzip, identity;q=0",
            14 => "zstd, br, identity;q=0",
            _ => "zstd, br, gzip, identity;q=0",
        })
    }
}

/// Whether a parameter is a weight of zero: `q=0`, `q=0.000`.
fn is_zero_weight(parameter: &[u8]) -> bool {
    let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else {
        return false;
    };
    let (name, weight) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
    name.eq_ignore_ascii_case(b"q")
        && weight.first() == Some(&b'0')
        && weight[1..].iter().all(|byte| matches!(byte, b'.' | b'0'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        all
    }

    fn spec(names: &str) -> Option<VarySpec> {
        VarySpec::parse(&headers(&[("vary", names)]))
    }

    fn variant(names: &str, request: &[(&str, &str)]) -> VariantKey {
        spec(names).unwrap().variant(&KeySecret::new([7; 16]), &headers(request))
    }

    #[test]
    fn names_are_sorted_lower_case_and_single() {
        let two_lines = headers(&[("vary", "X-B, ,accept-encoding"), ("vary", "x-b,X-A")]);
        let spec = VarySpec::parse(&two_lines).unwrap();
        assert_eq!(spec.names().collect::<Vec<_>>(), ["accept-encoding", "x-a", "x-b"]);
    }

    #[test]
    fn what_is_no_spec() {
        assert_eq!(VarySpec::parse(&headers(&[])), None);
        let many = (0..=MAX_NAMES).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        for (text, usable) in
            [("", true), (" , ", true), ("*", false), ("a, *", false), ("a b", false), (&*many, false)]
        {
            assert_eq!(spec(text), None, "vary: {text}");
            assert_eq!(is_usable(&headers(&[("vary", text)])), usable, "vary: {text}");
        }
    }

    #[test]
    fn values_choose_the_variant() {
        let same = [
            (&[("x-a", "1"), ("x-a", "2")][..], &[("x-a", "1, 2")][..]),
            (&[("x-a", " 1 ")], &[("x-a", "1")]),
            (&[("x-a", "1"), ("x-c", "9")], &[("x-a", "1")]),
        ];
        for (left, right) in same {
            assert_eq!(variant("x-a", left), variant("x-a", right), "{left:?} and {right:?}");
        }
        let different = [
            (&[("x-a", "1")][..], &[("x-a", "2")][..]),
            (&[("x-a", "")], &[]),
            (&[("x-a", "A")], &[("x-a", "a")]),
            (&[("x-a", "1"), ("x-b", "2")], &[("x-a", "12"), ("x-b", "")]),
            (&[("x-a", "1")], &[("x-b", "1")]),
        ];
        for (left, right) in different {
            assert_ne!(variant("x-a, x-b", left), variant("x-a, x-b", right), "{left:?} and {right:?}");
        }
    }

    #[test]
    fn languages_are_compared_by_what_they_say() {
        let name = "accept-language";
        for other in ["EN,  De", " en ,de;q=1.0", ",en,,de"] {
            assert_eq!(variant(name, &[(name, "en, de")]), variant(name, &[(name, other)]), "{other}");
        }
        for other in ["de, en", "en, de;q=0.9", "en", "en, de-AT", ""] {
            assert_ne!(variant(name, &[(name, "en, de")]), variant(name, &[(name, other)]), "{other}");
        }
        assert_ne!(variant(name, &[(name, "")]), variant(name, &[]));
    }

    #[test]
    fn two_specs_make_one() {
        let both = spec("x-b, x-a").unwrap().and(&spec("x-c, x-a").unwrap());
        assert_eq!(both, spec("x-a, x-b, x-c").unwrap());
    }

    #[test]
    fn variants_of_different_specs_never_meet() {
        assert_ne!(variant("x-a", &[]), variant("x-b", &[]));
        assert_ne!(variant("x-a", &[]), variant("x-a, x-b", &[]));
        assert_ne!(variant("x-a", &[]), VariantKey::NONE);
    }

    #[test]
    fn encodings_fall_into_classes() {
        check("gzip, deflate, br, zstd", Some("zstd, br, gzip"));
        check("BR;q=1.0, GZip;q=0.8, *;q=0.1", Some("zstd, br, gzip"));
        check("gzip;q=0, br", Some("br"));
        check("gzip; Q=0.000", None);
        check("gzip;q=0.001", Some("gzip"));
        check("x-gzip", Some("gzip"));
        check("deflate, compress, foo;bar", None);
        check("*", Some("zstd, br, gzip"));
        check("*;q=0", Some("identity;q=0"));
        check("*;q=0, identity", None);
        check("gzip, *;q=0", Some("gzip, identity;q=0"));
        check("identity;q=0, gzip", Some("gzip, identity;q=0"));
        check("identity", None);
        check("", None);
        assert_eq!(EncodingClass::of(&headers(&[])).as_header_value(), None);
        let two_lines = headers(&[("accept-encoding", "br"), ("accept-encoding", "gzip")]);
        assert_eq!(EncodingClass::of(&two_lines).as_header_value(), Some("br, gzip"));
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let class = EncodingClass::of(&headers(&[("accept-encoding", text)]));
        assert_eq!(class.as_header_value(), expected, "accept-encoding: {text}");
        // What the origin is told means the same as what the client said.
        let told = headers(&[("accept-encoding", expected.unwrap_or_default())]);
        assert_eq!(EncodingClass::of(&told), class);
    }

    proptest! {
        #[test]
        fn any_accept_encoding_falls_into_one_of_sixteen_classes(text in "[ -~]{0,60}") {
            let class = EncodingClass::of(&headers(&[("accept-encoding", &text)]));
            prop_assert!(class.0 < 16);
        }
    }
}
