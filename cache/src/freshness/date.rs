//! Dates in headers: the three forms of RFC 9110 §5.6.7, read as RFC 9111 §4.2 asks of a cache.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Mean seconds of a Gregorian year.
const YEAR_SECONDS: u64 = 31_556_952;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Reads a date. `None` for anything that is not exactly in one of the three forms, and for dates before 1970.
///
/// The names of days, months and the zone may be written in any case, and a day of the week that does not fit the
/// date does not matter. A year of two digits is taken from the century of `received`, or from the one before if that
/// is more than fifty years ahead.
pub(super) fn http_date(text: &[u8], received: SystemTime) -> Option<SystemTime> {
    let text = text.trim_ascii();
    let space = text.iter().position(|&byte| byte == b' ')?;
    let (weekday, rest) = text.split_at(space);
    let (day, month, year, time) = match (weekday, rest) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (
            &[ref name @ .., b','],
            &[b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', ref time @ .., b' ', g, m, t],
        ) if is_weekday(name, 3) && is_gmt([g, m, t]) => {
            (number(&[d1, d2])?, [m1, m2, m3], number(&[y1, y2, y3, y4])?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        (
            &[ref name @ .., b','],
            &[b' ', d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', ref time @ .., b' ', g, m, t],
        ) if is_weekday(name, usize::MAX) && is_gmt([g, m, t]) => {
            (number(&[d1, d2])?, [m1, m2, m3], whole_year(number(&[y1, y2])?, received), time)
        }
        // Sun Nov  6 08:49:37 1994
        (name, &[b' ', m1, m2, m3, b' ', d1, d2, b' ', ref time @ .., b' ', y1, y2, y3, y4])
            if is_weekday(name, 3) =>
        {
            let d1 = if d1 == b' ' { b'0' } else { d1 };
            (number(&[d1, d2])?, [m1, m2, m3], number(&[y1, y2, y3, y4])?, time)
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day)?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = time else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    // Second 60 is for a leap second.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// Whether this is a day's name, cut off after `letters`.
fn is_weekday(name: &[u8], letters: usize) -> bool {
    WEEKDAYS.iter().any(|day| name.eq_ignore_ascii_case(&day.as_bytes()[..letters.min(day.len())]))
}

/// No other zone is allowed; guessing would shift the end of freshness by hours.
fn is_gmt(zone: [u8; 3]) -> bool {
    zone.eq_ignore_ascii_case(b"gmt")
}

/// At most four digits.
fn number(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

/// The year that ends in these two digits.
fn whole_year(digits: u64, received: SystemTime) -> u64 {
    let this_year = 1970 + received.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / YEAR_SECONDS;
    let near = this_year - this_year % 100 + digits;
    if near > this_year + 50 { near - 100 } else { near }
}

/// `None` if there is no such day, or if it is before 1970.
fn days_since_1970(year: u64, month: [u8; 3], day: u64) -> Option<u64> {
    let month = MONTHS.iter().position(|name| month.eq_ignore_ascii_case(name.as_bytes()))?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if year < 1970 || day < 1 || day > lengths[month] {
        return None;
    }
    // Leap days of all years before this one.
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let before_year = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let before_month: u64 = lengths[..month].iter().sum();
    Some(before_year + before_month + day - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `expected` in seconds since 1970.
    #[track_caller]
    fn check(text: &str, received: u64, expected: Option<u64>) {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(http_date(text.as_bytes(), at(received)), expected.map(at), "date: {text:?}");
    }

    const IN_1994: u64 = 784_111_777;
    const IN_2026: u64 = 1_767_225_600;

    #[test]
    fn the_three_forms_are_read_in_every_case() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gMT",
            "sunday, 06-nov-94 08:49:37 gmt",
            " sun nov  6 08:49:37 1994 ",
        ] {
            check(text, IN_2026, Some(IN_1994));
        }
        check("Wednesday, 06-Nov-24 08:49:37 GMT", IN_2026, Some(1_730_882_977));
        check("Fri, 31 Dec 9999 23:59:59 GMT", IN_2026, Some(253_402_300_799));
    }

    #[test]
    fn the_day_of_the_week_need_not_fit() {
        check("Thu, 06 Nov 1994 08:49:37 GMT", IN_2026, Some(IN_1994));
        check("Thursday, 06-Nov-94 08:49:37 GMT", IN_2026, Some(IN_1994));
        check("Thu Aug  8 02:01:18 2050", IN_2026, Some(2_543_536_878));
    }

    #[test]
    fn every_day_of_five_centuries_is_counted() {
        let mut expected = 0;
        for year in 1970..2470 {
            for month in MONTHS {
                for day in 0..33 {
                    let month = [0, 1, 2].map(|at| month.as_bytes()[at]);
                    if let Some(days) = days_since_1970(year, month, day) {
                        assert_eq!(days, expected, "{day} of {month:?} {year}");
                        expected += 1;
                    }
                }
            }
        }
        // 400 years have 146,097 days; the hundred after them have 25 leap years, 2400 among them.
        assert_eq!(expected, 146_097 + 36_525);
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "tomorrow",
            "1767225600",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 29 Feb 2100 08:49:37 GMT",
            "Sun, 06 Nox 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday Nov  6 08:49:37 1994",
            "Sun Nov 6 08:49:37 1994",
            "Sxn, 06 Nov 1994 08:49:37 GMT",
            "Sun,",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "S\u{fc}n, 06 Nov 1994 08:49:37 GMT",
        ] {
            check(text, IN_2026, None);
        }
    }

    #[test]
    fn two_digits_of_a_year_are_at_most_fifty_years_ahead() {
        let in_70 = "Thursday, 01-Jan-70 00:00:00 GMT";
        check(in_70, IN_1994, Some(0));
        check("Wednesday, 01-Jan-70 00:00:00 GMT", IN_2026, Some(3_155_760_000));
        // 2077 would be 51 years ahead.
        check("Saturday, 01-Jan-77 00:00:00 GMT", IN_2026, Some(220_924_800));
        check("Wednesday, 01-Jan-76 00:00:00 GMT", IN_2026 + 86_400, Some(3_345_062_400));
        check("Thursday, 18-Aug-50 02:01:18 GMT", IN_2026, Some(2_544_400_878));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[Sun, 0-9A-Za-z:-]{0,34}|.*") {
            let _ = http_date(text.as_bytes(), UNIX_EPOCH);
        }
    }
}
