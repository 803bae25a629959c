//! The text of `Accept-Language` (RFC 9110 §12.5.4): one spelling for all that say the same, and the best of the languages
//! that there are (RFC 4647 §3.4).
//!
//! What says the same: case means nothing in a language range (RFC 4647 §2), nor does white space, nor the place of a
//! member whose weight is higher or lower than its neighbours'. The order of members of *one* weight is left alone. To the
//! RFC it says nothing that could be relied upon; but many sites take the first, and for their visitors `de, en` and
//! `en, de` are two wishes.

use smallvec::SmallVec;

use crate::vary::SelectingHeaders;

/// Members beyond these are not weighed. Browsers send at most ten or so.
const MOST_MEMBERS: usize = 32;

/// Room for a header as browsers send it.
pub(crate) type Text = SmallVec<[u8; 128]>;

/// One member: what is asked for, and how much.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Member<'a> {
    /// `de-AT`, or `*`.
    range: &'a [u8],
    /// In thousandths.
    weight: u16,
}

/// The lines of `Accept-Language` in `request` as one list in its usual spelling: `de-AT,de;q=0.9,en;q=0.8`. `None` if there
/// is no such line. A list that breaks the rules, or has more than 32 members, stays in its order and case.
pub fn canonical(request: &dyn SelectingHeaders) -> Option<SmallVec<[u8; 128]>> {
    let joined = joined(request)?;
    let mut text = Text::new();
    match members(&joined) {
        Some(members) => {
            for Member { range, weight } in members {
                separate(&mut text);
                push_range(&mut text, range);
                push_weight(&mut text, weight);
            }
        }
        None => {
            for part in parts(&joined) {
                separate(&mut text);
                text.extend_from_slice(part);
            }
        }
    }
    Some(text)
}

/// Which of `available`, language tags such as `de-AT`, is best for `request`: its ranges from the most wanted to the least,
/// each shortened from its end until it is one of them (RFC 4647 §3.4). Where none fits, the first that is not refused by
/// `;q=0`, else the first. `None` only if there are none.
///
/// A list that breaks the rules counts as none.
pub fn best<'a, T: AsRef<[u8]>>(available: &'a [T], request: &dyn SelectingHeaders) -> Option<&'a T> {
    let joined = joined(request).unwrap_or_default();
    let members = members(&joined).unwrap_or_default();
    let refused = |tag: &T| {
        members.iter().any(|member| member.weight == 0 && member.range.eq_ignore_ascii_case(tag.as_ref()))
    };
    let wanted = members.iter().filter(|member| member.weight > 0 && member.range != b"*");
    let found = wanted.map(|member| member.range).find_map(|range| {
        shortened(range).find_map(|range| {
            available.iter().find(|tag| range.eq_ignore_ascii_case(tag.as_ref()) && !refused(tag))
        })
    });
    found.or_else(|| available.iter().find(|tag| !refused(tag))).or(available.first())
}

/// The range itself, then without its last subtag, and so on. A single letter or digit does not stand at the end.
fn shortened(range: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(range), |range| {
        let mut shorter = &range[..range.iter().rposition(|byte| *byte == b'-')?];
        if shorter.len() >= 2 && shorter[shorter.len() - 2] == b'-' {
            shorter = &shorter[..shorter.len() - 2];
        }
        Some(shorter)
    })
}

fn joined(request: &dyn SelectingHeaders) -> Option<Text> {
    let mut joined = None;
    request.visit(http::header::ACCEPT_LANGUAGE.as_str(), &mut |line| match &mut joined {
        None => joined = Some(Text::from_slice(line)),
        Some(text) => {
            text.push(b',');
            text.extend_from_slice(line);
        }
    });
    joined
}

fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty())
}

/// The members, the most wanted first; `None` if one of them breaks the rules or there are too many.
fn members(text: &[u8]) -> Option<SmallVec<[Member<'_>; 16]>> {
    let mut members = SmallVec::new();
    for part in parts(text) {
        if members.len() == MOST_MEMBERS {
            return None;
        }
        let mut pieces = part.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let range = pieces.next().filter(|range| is_range(range))?;
        let weight = match (pieces.next(), pieces.next()) {
            (None, _) => 1000,
            (Some(parameter), None) => weight(parameter)?,
            (Some(_), Some(_)) => return None,
        };
        members.push(Member { range, weight });
    }
    // A stable sort: see the module's page.
    members.sort_by_key(|member: &Member<'_>| std::cmp::Reverse(member.weight));
    Some(members)
}

/// `1*8ALPHA *("-" 1*8alphanum) / "*"` (RFC 4647 §2.1).
fn is_range(text: &[u8]) -> bool {
    let is_subtag = |(at, subtag): (usize, &[u8])| {
        let fits =
            |byte: &u8| if at == 0 { byte.is_ascii_alphabetic() } else { byte.is_ascii_alphanumeric() };
        (1..=8).contains(&subtag.len()) && subtag.iter().all(fits)
    };
    text == b"*" || text.split(|byte| *byte == b'-').enumerate().all(is_subtag)
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2): at most three digits behind the point, at most one.
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (&whole, fraction) = value.split_first()?;
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        (0..3).fold(0, |sum, at| sum * 10 + digits.get(at).map_or(0, |digit| u16::from(digit - b'0')));
    match whole {
        b'0' => Some(thousandths),
        b'1' => (thousandths == 0).then_some(1000),
        _ => None,
    }
}

fn separate(text: &mut Text) {
    if !text.is_empty() {
        text.push(b',');
    }
}

/// The range in the case that RFC 5646 §2.1.1 recommends and browsers send: `zh-Hant-TW`.
fn push_range(text: &mut Text, range: &[u8]) {
    let mut after_single = false;
    for (at, subtag) in range.split(|byte| *byte == b'-').enumerate() {
        if at > 0 {
            text.push(b'-');
        }
        let start = text.len();
        text.extend_from_slice(subtag);
        let written = &mut text[start..];
        written.make_ascii_lowercase();
        match written.len() {
            2 if at > 0 && !after_single => written.make_ascii_uppercase(),
            4 if at > 0 && !after_single => written[..1].make_ascii_uppercase(),
            _ => {}
        }
        // Behind a single letter come extensions, which are all in lower case.
        after_single |= subtag.len() == 1;
    }
}

fn push_weight(text: &mut Text, weight: u16) {
    if weight >= 1000 {
        return;
    }
    text.extend_from_slice(b";q=0");
    let digits = [weight / 100, weight / 10 % 10, weight % 10];
    let length = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
    if length > 0 {
        text.push(b'.');
        text.extend(digits[..length].iter().map(|digit| b'0' + *digit as u8));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderMap;
    use http::header::ACCEPT_LANGUAGE;
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (ACCEPT_LANGUAGE, line.parse().unwrap())).collect()
    }

    #[track_caller]
    fn check(lines: &[&str], expected: &str) {
        let found = canonical(&request(lines)).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), expected, "{lines:?}");
    }

    #[test]
    fn what_browsers_send_stays_as_it_is() {
        for line in [
            "de-AT,de;q=0.9,en;q=0.8",
            "en-US,en;q=0.5",
            "zh-Hant-TW,zh;q=0.9",
            "de,en-US;q=0.7,en;q=0.3",
            "*",
            "fr;q=0",
            "sr-Latn-RS,x-klingon",
            "en-a-bb-x-cccc",
        ] {
            check(&[line], line);
        }
        assert_eq!(canonical(&HeaderMap::new()), None);
    }

    #[test]
    fn spellings_of_one_wish_are_one() {
        check(&["EN , dE-at ; q=0.50"], "en,de-AT;q=0.5");
        check(&["en;q=1.000, de;Q=0.000"], "en,de;q=0");
        check(&["fr;q=0.5, de;q=1.0"], "de,fr;q=0.5");
        check(&["en;q=0.8", "de"], "de,en;q=0.8");
        check(&[",en,,de,"], "en,de");
        check(&["ZH-HANT-tw"], "zh-Hant-TW");
        check(&[""], "");
    }

    #[test]
    fn the_order_of_equal_weights_stays() {
        check(&["de, en"], "de,en");
        check(&["en, de"], "en,de");
        check(&["a;q=0.1, b, c;q=0.1, d"], "b,d,a;q=0.1,c;q=0.1");
    }

    #[test]
    fn what_breaks_the_rules_stays_in_order_and_case() {
        for line in [
            "DE;q=2,en",
            "DE;q=0.1234",
            "DE;x=1",
            "DE;q=1;q=1",
            "D E",
            "D_E",
            "DE-",
            "abcdefghi",
            "1x",
            "DE;q",
        ] {
            check(&[line], line);
        }
        check(&[" DE;q=x ,  en "], "DE;q=x,en");
        let many = vec!["EN"; 33].join(",");
        check(&[&many], &many);
    }

    #[test]
    fn the_best_language_is_found() {
        let available = ["en", "de", "fr", "pt-BR"];
        for (line, expected) in [
            ("de", "de"),
            ("DE-at", "de"),
            ("fr;q=0.5, de;q=0.8", "de"),
            ("it, fr;q=0.1", "fr"),
            ("pt-BR-x-y", "pt-BR"),
            ("pt", "en"),
            ("it", "en"),
            ("", "en"),
            ("*", "en"),
            ("it, *;q=0.5", "en"),
            ("en;q=0, it", "de"),
            ("en;q=0, de;q=0, fr;q=0, pt-br;q=0", "en"),
            ("de;q=x", "en"),
            ("fr, de", "fr"),
        ] {
            assert_eq!(best(&available, &request(&[line])), Some(&expected), "{line}");
        }
        assert_eq!(best(&available, &HeaderMap::new()), Some(&"en"));
        assert_eq!(best::<&str>(&[], &request(&["de"])), None);
    }

    #[test]
    fn a_single_letter_is_no_end() {
        let found: Vec<_> = shortened(b"zh-Hant-CN-x-private1").map(String::from_utf8_lossy).collect();
        assert_eq!(found, ["zh-Hant-CN-x-private1", "zh-Hant-CN", "zh-Hant", "zh"]);
    }

    proptest! {
        #[test]
        fn a_second_time_changes_nothing(line in "[a-cA-C12*;q=., -]{0,30}") {
            let once = canonical(&request(&[&line])).unwrap();
            let twice = canonical(&request(&[std::str::from_utf8(&once).unwrap()])).unwrap();
            prop_assert_eq!(once, twice);
        }

        #[test]
        fn any_text_has_a_best_language(line in "[ -~]{0,60}") {
            prop_assert!(best(&["en", "de"], &request(&[&line])).is_some());
        }
    }
}
