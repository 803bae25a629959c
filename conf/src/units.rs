//! Durations (`250ms`, `1m30s`) and sizes (`64KiB`, `10MB`): from text to std types and back.
//!
//! Both are whole numbers with a unit that says what it means: no bare seconds, no fractions, no `M` that is sometimes
//! 1 000 000 and sometimes 1 048 576. The functions fit `clap`'s `value_parser`.

use std::time::Duration;

use crate::error::Invalid;

/// The longest duration that is read: ten years. Adding it to any clock of this century cannot overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Units of time, the largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes. The spellings of one unit stand together, the one that is written back first.
const SIZE_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

/// The shape of a duration for the schema; the rules beyond it (order, maximum) are [`duration`]'s.
pub(crate) const DURATION_PATTERN: &str = "^(0|([0-9]+(d|h|m|s|ms))+)$";

/// The shape of a size for the schema.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+([kKMGT]B|[KMGT]iB|B)?$";

/// Reads a duration: whole numbers with `d`, `h`, `m`, `s` or `ms`, the largest unit first, each at most once. A bare
/// `0` needs no unit.
///
/// # Errors
///
/// [`Invalid`] if `text` has another form or is longer than [`MAX_DURATION`].
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    const HINT: &str =
        "write whole numbers with d, h, m, s or ms, the largest unit first, such as 250ms, 30s or 1m30s";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || Invalid::new(format!("{text:?} is not a duration"), HINT);
    let too_long = || Invalid::new(format!("{text:?} is too long"), "the longest duration is 3650d");

    let mut rest = text;
    let mut units = TIME_UNITS.iter();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let (digits, after) = split_where(rest, |byte| !byte.is_ascii_digit());
        let (unit, after) = split_where(after, |byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(Invalid::new(
                format!("{text:?} has no unit"),
                format!("write {digits}s or {digits}ms"),
            ));
        }
        // The iterator only moves forward, so a unit that repeats or grows is not found any more.
        let (_, milliseconds) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        let number: u64 = digits.parse().map_err(|_| too_long())?;
        total_ms =
            number.checked_mul(*milliseconds).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(too_long)?;
        rest = after;
    }
    let total = Duration::from_millis(total_ms);
    if total > MAX_DURATION { Err(too_long()) } else { Ok(total) }
}

/// Reads a size in bytes: a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024) or `kB`, `MB`, `GB`,
/// `TB` (powers of 1000); without a unit it counts bytes.
///
/// # Errors
///
/// [`Invalid`] if `text` has another form or does not fit 64 bits.
pub fn size(text: &str) -> Result<u64, Invalid> {
    let (digits, unit) = split_where(text, |byte| !byte.is_ascii_digit());
    if digits.is_empty() {
        return Err(Invalid::new(
            format!("{text:?} is not a size"),
            "write a whole number with a unit, such as 512, 64KiB or 1GiB",
        ));
    }
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None => {
            let hint = match unit.bytes().next().map(|byte| byte.to_ascii_uppercase()) {
                Some(letter @ (b'K' | b'M' | b'G' | b'T')) if unit.len() == 1 => {
                    let letter = char::from(letter);
                    format!("write {digits}{letter}iB (1024) or {digits}{letter}B (1000)")
                }
                _ => "the units are B, KiB, MiB, GiB, TiB, kB, MB, GB and TB".to_owned(),
            };
            return Err(Invalid::new(format!("{text:?} has an unknown unit"), hint));
        }
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| Invalid::new(format!("{text:?} is too large"), "the largest size is 16777215TiB"))
}

/// Writes a duration as [`duration`] reads it, in whole milliseconds: `1m30s`, `0s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, milliseconds) in TIME_UNITS {
        let number = rest / milliseconds;
        rest %= milliseconds;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
    }
    text
}

/// Writes a size as [`size`] reads it, with the largest power of 1024 that divides it: `64KiB`, `1000B`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    for (unit, factor) in SIZE_UNITS.iter().take_while(|(unit, _)| unit.ends_with("iB")) {
        if bytes > 0 && bytes.is_multiple_of(*factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// Cuts `text` before the first byte that `stop` wants.
fn split_where(text: &str, stop: impl Fn(u8) -> bool) -> (&str, &str) {
    // `stop` tells ASCII digits from the rest, so the cut is always at a character boundary.
    let at = text.bytes().position(stop).unwrap_or(text.len());
    text.split_at_checked(at).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        check_duration("0", Some(0));
        check_duration("0s", Some(0));
        check_duration("250ms", Some(250));
        check_duration("2s", Some(2_000));
        check_duration("10m", Some(600_000));
        check_duration("1h", Some(3_600_000));
        check_duration("1d", Some(86_400_000));
        check_duration("1m30s", Some(90_000));
        check_duration("1d2h3m4s5ms", Some(93_784_005));
        check_duration("3650d", Some(315_360_000_000));
        check_duration("3650d1ms", None);
        check_duration("99999999999999999999s", None);
        check_duration("18446744073709551615d", None);
        check_duration("", None);
        check_duration("5", None);
        check_duration("s", None);
        check_duration("-5s", None);
        check_duration("1.5s", None);
        check_duration("2 s", None);
        check_duration("30s1m", None);
        check_duration("1s1s", None);
        check_duration("1S", None);
        check_duration("1m30", None);
        check_duration("5µs", None);
        check_duration("½h", None);
    }

    #[track_caller]
    fn check_duration(text: &str, milliseconds: Option<u64>) {
        assert_eq!(duration(text).ok(), milliseconds.map(Duration::from_millis), "input: {text:?}");
    }

    #[test]
    fn sizes_are_read() {
        check_size("0", Some(0));
        check_size("512", Some(512));
        check_size("512B", Some(512));
        check_size("64KiB", Some(65_536));
        check_size("1GiB", Some(1 << 30));
        check_size("10MB", Some(10_000_000));
        check_size("3kB", Some(3_000));
        check_size("3KB", Some(3_000));
        check_size("1TiB", Some(1 << 40));
        check_size("16777215TiB", Some(16_777_215 << 40));
        check_size("16777216TiB", None);
        check_size("99999999999999999999", None);
        check_size("", None);
        check_size("MiB", None);
        check_size("64K", None);
        check_size("1.5GiB", None);
        check_size("64 KiB", None);
        check_size("-1", None);
        check_size("64kib", None);
    }

    #[track_caller]
    fn check_size(text: &str, bytes: Option<u64>) {
        assert_eq!(size(text).ok(), bytes, "input: {text:?}");
    }

    #[test]
    fn hints_say_what_to_write() {
        assert_eq!(duration("5").unwrap_err().hint(), "write 5s or 5ms");
        assert_eq!(size("64k").unwrap_err().hint(), "write 64KiB (1024) or 64KB (1000)");
    }

    #[test]
    fn values_are_written_short() {
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_duration(Duration::from_millis(90_250)), "1m30s250ms");
        assert_eq!(show_size(0), "0B");
        assert_eq!(show_size(1000), "1000B");
        assert_eq!(show_size(256 << 20), "256MiB");
    }

    proptest! {
        #[test]
        fn durations_survive_the_round_trip(milliseconds in 0..=315_360_000_000_u64) {
            let value = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&show_duration(value)), Ok(value));
        }

        #[test]
        fn sizes_survive_the_round_trip(bytes in any::<u64>()) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn what_is_read_has_the_shape_of_the_schema(text in "[0-9]{0,3}(ms|[dhmsKMGkTiB]{0,3}){0,2}[0-9]{0,2}[smB]?") {
            if duration(&text).is_ok() {
                prop_assert!(regex::Regex::new(DURATION_PATTERN).unwrap().is_match(&text));
            }
            if size(&text).is_ok() {
                prop_assert!(regex::Regex::new(SIZE_PATTERN).unwrap().is_match(&text));
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(text in any::<String>()) {
            let _ = duration(&text);
            let _ = size(&text);
        }
    }
}
