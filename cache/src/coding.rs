//! Content codings, and what a client says of them in `Accept-Encoding` (RFC 9110 §12.5.3).
//!
//! [`EncodingClass`](crate::vary::EncodingClass) is the coarse reading, by which variants of nodes are told apart;
//! [`Accepted`] is the fine one, weights included, by which one of the forms of an entry is chosen. A test holds the
//! two together: they never differ in what is taken at all.

use http::header;

use crate::vary::SelectingHeaders;

/// How a body is coded for the way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// Brotli (RFC 7932).
    Br,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Coding {
    /// Every coding there is.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Gzip, Self::Br, Self::Zstd];

    /// Its name in header lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of that name, in any case; `x-gzip` is gzip (RFC 9110 §8.4.1.3). `None`: one that is not known here.
    pub fn named(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// The weight of a coding with `q=1`. Weights are twice the thousandths that are written, so that there is one below
/// the smallest.
const FULL: u16 = 2000;

/// The weight of the plain text where nobody speaks of it: it may be sent, and anything that is asked for goes before.
const UNSPOKEN: u16 = 1;

/// What a client takes, and what it would rather have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// By the number of the coding; zero: not taken.
    weights: [u16; Coding::ALL.len()],
}

impl Accepted {
    /// Reads the `Accept-Encoding` lines of a request. No line means: the plain text only, as for [`EncodingClass`](
    /// crate::vary::EncodingClass); a weight that cannot be read is none.
    pub fn of(request: &dyn SelectingHeaders) -> Self {
        let mut named: [Option<u16>; Coding::ALL.len()] = [None; _];
        let mut others = None;
        each_member(request, &mut |name, weight| match Coding::named(name) {
            // Of two words about one coding the friendlier counts, about the plain text the stricter.
            Some(Coding::Identity) => {
                let known = &mut named[Coding::Identity as usize];
                *known = Some(known.map_or(weight, |known| known.min(weight)));
            }
            Some(coding) => {
                let known = &mut named[coding as usize];
                *known = Some(known.map_or(weight, |known| known.max(weight)));
            }
            None if name == b"*" => others = Some(weight),
            None => {}
        });
        let weight = |coding: Coding| {
            let unnamed = if coding == Coding::Identity { UNSPOKEN } else { 0 };
            named[coding as usize].or(others).unwrap_or(unnamed)
        };
        Self { weights: Coding::ALL.map(weight) }
    }

    /// Whether a body in this coding may be sent.
    pub fn takes(&self, coding: Coding) -> bool {
        self.weights[coding as usize] > 0
    }

    /// Whether anything but the plain text may be sent.
    pub fn takes_any(&self) -> bool {
        [Coding::Gzip, Coding::Br, Coding::Zstd].into_iter().any(|coding| self.takes(coding))
    }

    /// The best of these forms, each with the bytes of its body: the one with the greatest weight, among equals the
    /// smallest. `None` if none is taken.
    pub fn best(&self, forms: impl IntoIterator<Item = (Coding, usize)>) -> Option<Coding> {
        let taken = forms.into_iter().filter(|(coding, _)| self.takes(*coding));
        let best =
            taken.max_by_key(|&(coding, bytes)| (self.weights[coding as usize], std::cmp::Reverse(bytes)));
        best.map(|(coding, _)| coding)
    }
}

/// Whether this is the name of a content coding at all (the registry of RFC 9110 section 16.6.1). Of any other name
/// nobody can say who reads it.
pub fn is_registered(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 13] = [
        b"aes128gcm",
        b"br",
        b"compress",
        b"dcb",
        b"dcz",
        b"deflate",
        b"exi",
        b"gzip",
        b"identity",
        b"pack200-gzip",
        b"x-compress",
        b"x-gzip",
        b"zstd",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a request takes a coding by this name, whichever it is: for those that are not known here.
pub fn takes_named(request: &dyn SelectingHeaders, coding: &[u8]) -> bool {
    let (mut named, mut others) = (None, None);
    each_member(request, &mut |name, weight| {
        if name.eq_ignore_ascii_case(coding) {
            named = Some(weight);
        } else if name == b"*" {
            others = Some(weight);
        }
    });
    named.or(others).is_some_and(|weight| weight > 0)
}

/// Calls `member` with the name and weight of each member of `Accept-Encoding`.
fn each_member(request: &dyn SelectingHeaders, member: &mut dyn FnMut(&[u8], u16)) {
    request.visit(header::ACCEPT_ENCODING.as_str(), &mut |line| {
        for text in line.split(|&byte| byte == b',') {
            let mut parts = text.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            if !name.is_empty() {
                member(name, parts.find_map(weight).unwrap_or(FULL));
            }
        }
    });
}

/// Reads `q=0.5` as a weight; `None` if the parameter is another or its number none.
fn weight(parameter: &[u8]) -> Option<u16> {
    let equals = memchr::memchr(b'=', parameter)?;
    let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
    if !name.eq_ignore_ascii_case(b"q") {
        return None;
    }
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    if whole.iter().any(|&digit| digit != b'0') {
        return Some(FULL);
    }
    let thousandths = (0..3)
        .fold(0, |sum, place| sum * 10 + u16::from(fraction.get(place).map_or(0, |digit| digit - b'0')));
    // What is smaller than can be said is small, not nothing.
    let anything = fraction.iter().any(|&digit| digit != b'0');
    Some(2 * thousandths.max(u16::from(anything)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;
    use crate::vary::EncodingClass;

    fn request(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::ACCEPT_ENCODING, line.parse().unwrap())).collect()
    }

    /// Forms as they usually come out: br smallest.
    const FORMS: [(Coding, usize); 4] =
        [(Coding::Identity, 1000), (Coding::Gzip, 300), (Coding::Br, 200), (Coding::Zstd, 250)];

    #[track_caller]
    fn check(line: &str, expected: Option<Coding>) {
        assert_eq!(Accepted::of(&request(&[line])).best(FORMS), expected, "accept-encoding: {line}");
    }

    #[test]
    fn names_of_codings_are_told_from_other_words() {
        for (name, expected) in [
            ("gzip", true),
            ("X-GZIP", true),
            ("deflate", true),
            ("zstd", true),
            ("gzipped", false),
            ("", false),
        ] {
            assert_eq!(is_registered(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn the_smallest_that_is_taken_wins_unless_weights_say_otherwise() {
        use Coding::{Br, Gzip, Identity, Zstd};
        check("gzip, deflate, br, zstd", Some(Br));
        check("gzip, deflate", Some(Gzip));
        check("X-GZIP", Some(Gzip));
        check("gzip;q=1.0, br;q=0.9", Some(Gzip));
        check("gzip;q=0.8, br;q=0.8, zstd;q=0.801", Some(Zstd));
        check("br;q=0, gzip", Some(Gzip));
        check("br;q=0.000, *", Some(Zstd));
        check("*;q=0.5, gzip;q=0.2", Some(Br));
        check("*", Some(Br));
        check("", Some(Identity));
        check("deflate, compress", Some(Identity));
        check("gzip;q=0.001", Some(Gzip));
        check("gzip;q=0.0001", Some(Gzip));
        check("identity, gzip", Some(Gzip));
        check("identity;q=1, gzip;q=0.5", Some(Identity));
        check("identity;q=0.5, gzip;q=1", Some(Gzip));
        check("gzip;q=0, identity", Some(Identity));
        check("*;q=0", None);
        check("identity;q=0", None);
        check("identity;q=0, gzip;q=0.1", Some(Gzip));
        check("*;q=0, gzip", Some(Gzip));
        check("gzip;q=x, br;q=0.5", Some(Gzip));
        check("gzip;level=3;q=0.1, br;q=0.2", Some(Br));
        check("gzip;q=7", Some(Gzip));
        check("gzip;q=, br;q=-1", Some(Br));
        check(",,gzip,", Some(Gzip));
        assert_eq!(Accepted::of(&request(&[])).best(FORMS), Some(Identity));
        assert_eq!(Accepted::of(&request(&["gzip;q=0.5", "zstd"])).best(FORMS), Some(Zstd));
    }

    #[test]
    fn a_form_that_is_not_there_is_not_chosen() {
        let accepted = Accepted::of(&request(&["br, gzip;q=0.1"]));
        assert_eq!(accepted.best([(Coding::Identity, 9), (Coding::Gzip, 5)]), Some(Coding::Gzip));
        assert_eq!(accepted.best([(Coding::Identity, 9), (Coding::Zstd, 5)]), Some(Coding::Identity));
        assert_eq!(accepted.best([]), None);
    }

    #[test]
    fn any_coding_can_be_asked_after_by_name() {
        for (line, coding, expected) in [
            ("gzip, deflate", "deflate", true),
            ("gzip, Deflate;q=0.1", "DEFLATE", true),
            ("gzip, deflate;q=0", "deflate", false),
            ("gzip, *", "deflate", true),
            ("gzip, *;q=0", "deflate", false),
            ("deflate;q=0, *", "deflate", false),
            ("gzip", "deflate", false),
            ("", "deflate", false),
        ] {
            assert_eq!(takes_named(&request(&[line]), coding.as_bytes()), expected, "{line}: {coding}");
        }
    }

    #[test]
    fn names_are_read_back() {
        for coding in Coding::ALL {
            assert_eq!(Coding::named(coding.name().to_ascii_uppercase().as_bytes()), Some(coding));
        }
        assert_eq!(Coding::named(b"deflate"), None);
    }

    fn spelling() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["gzip", "x-gzip", "br", "zstd", "identity", "*", "deflate", ""]);
        let weight =
            prop::sample::select(vec!["", ";q=0", ";q=0.0", "; q = 0.5", ";q=1", ";q=0.001", ";Q=x"]);
        prop::collection::vec((name, weight), 0..6)
            .prop_map(|members| {
                members.iter().map(|(name, weight)| format!("{name}{weight}")).collect::<Vec<_>>()
            })
            .prop_map(|members| members.join(", "))
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_the_class_says(line in spelling()) {
            // Two stars that contradict each other have no meaning to agree on.
            prop_assume!(line.matches('*').count() < 2);
            let request = request(&[&line]);
            let accepted = Accepted::of(&request);
            let class = EncodingClass::of(&request).as_header_value().unwrap_or_default();
            for coding in [Coding::Gzip, Coding::Br, Coding::Zstd] {
                let told = class.split(", ").any(|name| name == coding.name());
                prop_assert_eq!(accepted.takes(coding), told, "{:?} of {}", coding, &line);
            }
            prop_assert_eq!(accepted.takes(Coding::Identity), !class.contains("identity;q=0"), "{}", &line);
        }

        #[test]
        fn any_line_is_read(line in "[ -~]{0,60}") {
            let _ = Accepted::of(&request(&[&line]));
        }
    }
}
