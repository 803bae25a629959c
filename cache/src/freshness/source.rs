//! Whose word counts: the directives for this cache out of the fields that may carry them.
//!
//! A targeted field (RFC 9213) goes before `Surrogate-Control`, and that before `Cache-Control`. The first that speaks
//! is the only one: directives of different fields are never mixed, and `Expires` belongs to `Cache-Control`.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::settings::{FreshnessSettings, SURROGATE_CONTROL};
use crate::directive::{CacheControl, MAX_SECONDS, delta_seconds, directives};
use crate::structured::{Bare, Dictionary, Member};

/// Which of the fields speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    Targeted,
    Surrogate,
    CacheControl,
}

/// What the response says to this cache.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Word {
    pub(super) control: CacheControl,
    /// Where that stands.
    pub(super) field: Field,
    /// Whether `Expires` counts where the directives name no lifetime.
    pub(super) expires: bool,
}

/// Reads the directives that count here.
pub(super) fn read(headers: &HeaderMap, settings: &FreshnessSettings) -> Word {
    let targeted = settings.targeted.names().iter().find_map(|name| read_targeted(headers, name));
    if let Some(control) = targeted {
        return Word { control, field: Field::Targeted, expires: false };
    }
    match settings.surrogate_control.then(|| read_surrogate(headers)).flatten() {
        Some(control) => Word { control, field: Field::Surrogate, expires: false },
        None => Word { control: CacheControl::read(headers), field: Field::CacheControl, expires: true },
    }
}

/// A targeted field; `None` if it is not there, is empty, or is no dictionary (RFC 9213 §2.2).
fn read_targeted(headers: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes());
    let mut text = Cow::Borrowed(lines.next()?);
    for line in lines {
        let joined = text.to_mut();
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line);
    }
    let dictionary = Dictionary::parse(&text).ok().filter(|dictionary| !dictionary.is_empty())?;
    Some(from_dictionary(&dictionary))
}

/// The directives of a targeted field by the types that RFC 9213 §2.1 gives them. A number of the wrong type, or a
/// negative one, is as if it were not there. Parameters mean nothing.
fn from_dictionary(dictionary: &Dictionary<'_>) -> CacheControl {
    let bare = |name| match dictionary.get(name) {
        Some(Member::Item(item)) => Some(&item.bare),
        Some(Member::InnerList(..)) | None => None,
    };
    let seconds = |name| {
        let Some(&Bare::Integer(number)) = bare(name) else { return None };
        let number = u64::try_from(number).ok()?;
        Some(Duration::from_secs(number.min(u64::from(MAX_SECONDS))))
    };
    let allows = |name| bare(name) == Some(&Bare::Boolean(true));
    // What forbids counts in every form but `?0`: `private` and `no-cache` may list fields, and a mistake must not
    // share what should stay apart.
    let forbids = |name| dictionary.get(name).is_some() && bare(name) != Some(&Bare::Boolean(false));
    CacheControl {
        no_store: forbids("no-store"),
        no_cache: forbids("no-cache"),
        private: forbids("private"),
        public: allows("public"),
        must_revalidate: forbids("must-revalidate"),
        proxy_revalidate: forbids("proxy-revalidate"),
        must_understand: allows("must-understand"),
        s_maxage: seconds("s-maxage"),
        max_age: seconds("max-age"),
        stale_while_revalidate: seconds("stale-while-revalidate"),
        stale_if_error: seconds("stale-if-error"),
    }
}

/// `Surrogate-Control`, if it says anything about storing: `no-store`, or `max-age` with seconds of freshness and
/// perhaps, behind a plus, seconds in which the stale copy may be used.
///
/// A directive for a surrogate named behind a semicolon is not for this one. `content` is about ESI, and
/// `no-store-remote` is for surrogates far from the application.
fn read_surrogate(headers: &HeaderMap) -> Option<CacheControl> {
    let mut found = CacheControl::default();
    let lines = headers.get_all(&SURROGATE_CONTROL).iter();
    for directive in lines.flat_map(|line| directives(line.as_bytes())) {
        let value = directive.value.unwrap_or_default();
        if directive.name.contains(&b';') || value.contains(&b';') {
            continue;
        }
        if directive.name.eq_ignore_ascii_case(b"no-store") {
            found.no_store = true;
        } else if directive.name.eq_ignore_ascii_case(b"max-age") && found.max_age.is_none() {
            let mut spans = value.splitn(2, |&byte| byte == b'+').map(|text| {
                let seconds = delta_seconds(text.trim_ascii()).unwrap_or(0);
                Duration::from_secs(u64::from(seconds))
            });
            found.max_age = spans.next();
            found.stale_while_revalidate = spans.next();
        }
    }
    (found.no_store || found.max_age.is_some()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::super::settings::TargetedFields;
    use super::super::tests::headers;
    use super::*;

    fn seconds(number: u64) -> Option<Duration> {
        Some(Duration::from_secs(number))
    }

    #[track_caller]
    fn check(text: &str, expect: impl FnOnce(&mut Word)) {
        let names = ["clearcoat-cache-control", "cdn-cache-control"].map(HeaderName::from_static);
        let settings = FreshnessSettings { targeted: TargetedFields::new(names), ..Default::default() };
        check_with(text, &settings, expect);
    }

    #[track_caller]
    fn check_with(text: &str, settings: &FreshnessSettings, expect: impl FnOnce(&mut Word)) {
        let found = read(&headers(text), settings);
        // Which field speaks is tested where it is told.
        let mut expected = Word { control: CacheControl::default(), field: found.field, expires: false };
        expect(&mut expected);
        assert_eq!(found, expected, "headers: {text:?}");
    }

    /// The same as `Cache-Control: max-age=9`.
    fn cache_control(word: &mut Word) {
        (word.control.max_age, word.expires) = (seconds(9), true);
    }

    #[test]
    fn a_targeted_field_replaces_the_others() {
        for (text, expect) in [
            ("cdn-cache-control: max-age=60\ncache-control: max-age=9, private", seconds(60)),
            ("cdn-cache-control: max-age=60\nsurrogate-control: max-age=5", seconds(60)),
            ("cdn-cache-control: max-age=60\nclearcoat-cache-control: max-age=7", seconds(7)),
            ("clearcoat-cache-control: max-age=x y\ncdn-cache-control: max-age=60", seconds(60)),
            ("clearcoat-cache-control: \ncdn-cache-control: max-age=60", seconds(60)),
            ("cdn-cache-control: foo\ncdn-cache-control: max-age=60;bar", seconds(60)),
            ("cdn-cache-control: max-age=1, max-age=60", seconds(60)),
            ("cdn-cache-control: foo\ncache-control: max-age=9", None),
        ] {
            check(text, |word| word.control.max_age = expect);
        }
    }

    #[test]
    fn what_is_no_dictionary_is_not_there() {
        for text in [
            "",
            "max-age=60, &&&",
            "max-age =60",
            "max-age= 60",
            "MaX-aGe=60",
            "max-age=60,",
            "max-age=60 no-store",
            "max-age=",
            "no-store, ,",
        ] {
            check(&format!("cdn-cache-control: {text}\ncache-control: max-age=9"), cache_control);
        }
        check("cdn-cache-control: no-store\ncdn-cache-control: \ncache-control: max-age=9", cache_control);
        check("cache-control: max-age=9", cache_control);
    }

    #[test]
    fn a_number_of_the_wrong_type_is_not_there() {
        for text in ["-1", "1.0", "\"60\"", "x", "?1", "(60)", "@60", ":YQ==:"] {
            check(&format!("cdn-cache-control: max-age={text}\ncache-control: max-age=9"), |_| {});
        }
        check("cdn-cache-control: max-age", |_| {});
        check("cdn-cache-control: max-age=999999999999999", |word| word.control.max_age = seconds(1 << 31));
        check("cdn-cache-control: s-maxage=0060, max-age=5", |word| {
            (word.control.s_maxage, word.control.max_age) = (seconds(60), seconds(5));
        });
        check("cdn-cache-control: stale-while-revalidate=3, stale-if-error=4", |word| {
            word.control.stale_while_revalidate = seconds(3);
            word.control.stale_if_error = seconds(4);
        });
    }

    #[test]
    fn what_forbids_counts_in_every_form_and_what_allows_in_one() {
        for text in ["no-store", "no-store=?1", "no-store;x=1", "no-store=1"] {
            check(&format!("cdn-cache-control: {text}"), |word| word.control.no_store = true);
        }
        for text in ["private", "private=\"set-cookie\"", "private=(a b)", "private=token"] {
            check(&format!("cdn-cache-control: {text}"), |word| word.control.private = true);
        }
        for text in ["public=1", "public=?0", "no-store=?0", "private=?0", "must-understand=1"] {
            check(&format!("cdn-cache-control: {text}"), |_| {});
        }
        check(
            "cdn-cache-control: public, no-cache, must-revalidate, proxy-revalidate, must-understand",
            |word| {
                let control = &mut word.control;
                (control.public, control.no_cache, control.must_understand) = (true, true, true);
                (control.must_revalidate, control.proxy_revalidate) = (true, true);
            },
        );
    }

    #[test]
    fn surrogate_control_replaces_cache_control_if_it_speaks_of_storing() {
        for (text, ttl, grace) in [
            ("max-age=60", 60, None),
            ("max-age=\"60\"", 60, None),
            ("max-age=60+5", 60, seconds(5)),
            ("max-age=\"60 + 5\"", 60, seconds(5)),
            ("max-age=60+", 60, seconds(0)),
            ("max-age=60+x", 60, seconds(0)),
            ("max-age=x", 0, None),
            ("max-age", 0, None),
            ("max-age=-1", 0, None),
            ("Max-Age=60, content=\"ESI/1.0\"", 60, None),
            ("max-age=60, max-age=5+5", 60, None),
            ("max-age=5;other, max-age=60", 60, None),
            ("no-store-remote, max-age=60", 60, None),
            ("max-age=99999999999+99999999999", 1 << 31, seconds(1 << 31)),
        ] {
            check(&format!("surrogate-control: {text}\ncache-control: private, max-age=9"), |word| {
                word.control.max_age = seconds(ttl);
                word.control.stale_while_revalidate = grace;
            });
        }
        check("surrogate-control: no-store\ncache-control: max-age=9", |word| word.control.no_store = true);
        check("surrogate-control: no-store, max-age=60", |word| {
            (word.control.no_store, word.control.max_age) = (true, seconds(60));
        });
        for text in
            ["content=\"ESI/1.0\"", "content=\"max-age=60, no-store\"", "no-store;other", "", "x=max-age"]
        {
            check(&format!("surrogate-control: {text}\ncache-control: max-age=9"), cache_control);
        }
    }

    #[test]
    fn each_can_be_switched_off() {
        let deaf = FreshnessSettings {
            targeted: TargetedFields::new([]),
            surrogate_control: false,
            ..FreshnessSettings::default()
        };
        let text = "cdn-cache-control: max-age=60\nsurrogate-control: no-store\ncache-control: max-age=9";
        check_with(text, &deaf, cache_control);
    }
}
