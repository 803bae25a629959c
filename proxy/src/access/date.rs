//! The date of a record as text, made once a second.
//!
//! Always UTC: an access log that is read by machines, on several machines, had better not change its mind twice a year.

/// Microseconds of a second.
const SECOND: u64 = 1_000_000;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// A second and the two texts that it has in logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date {
    /// Seconds since 1970.
    second: u64,
    /// As Apache's and nginx's logs have it: `22/Nov/2026:16:25:53 +0000`.
    pub(super) common: [u8; 26],
    /// RFC 3339 without the fraction: `2026-11-22T16:25:53`.
    pub(super) iso: [u8; 19],
}

impl Date {
    /// The second of `wall_micros`, microseconds since 1970.
    pub(crate) fn of(wall_micros: u64) -> Self {
        let second = wall_micros / SECOND;
        let of_day = second % 86_400;
        let (year, month, day) = civil(second / 86_400);
        let (hour, minute, of_minute) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let mut common = *b"00/Jan/0000:00:00:00 +0000";
        digits(&mut common[0..2], day);
        common[3..6].copy_from_slice(MONTHS[(month as usize).clamp(1, 12) - 1]);
        digits(&mut common[7..11], year);
        digits(&mut common[12..14], hour);
        digits(&mut common[15..17], minute);
        digits(&mut common[18..20], of_minute);
        let mut iso = *b"0000-00-00T00:00:00";
        digits(&mut iso[0..4], year);
        digits(&mut iso[5..7], month);
        digits(&mut iso[8..10], day);
        digits(&mut iso[11..13], hour);
        digits(&mut iso[14..16], minute);
        digits(&mut iso[17..19], of_minute);
        Self { second, common, iso }
    }

    /// Makes it the date of `wall_micros`; nearly always it is already.
    pub(super) fn advance(&mut self, wall_micros: u64) {
        if wall_micros / SECOND != self.second {
            *self = Self::of(wall_micros);
        }
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Counted in years that begin in March and eras of 400 of them, so that the leap day is the last of its year and eras
/// are all alike.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Writes the last decimal digits of `number` over all of `place`.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates_are_written() {
        for (second, common, iso) in [
            (0, "01/Jan/1970:00:00:00 +0000", "1970-01-01T00:00:00"),
            (951_782_399, "28/Feb/2000:23:59:59 +0000", "2000-02-28T23:59:59"),
            (951_782_400, "29/Feb/2000:00:00:00 +0000", "2000-02-29T00:00:00"),
            (1_795_364_753, "22/Nov/2026:16:25:53 +0000", "2026-11-22T16:25:53"),
            (4_107_542_400, "01/Mar/2100:00:00:00 +0000", "2100-03-01T00:00:00"),
        ] {
            let date = Date::of(second * SECOND + 999_999);
            assert_eq!(String::from_utf8_lossy(&date.common), common);
            assert_eq!(String::from_utf8_lossy(&date.iso), iso);
        }
    }

    #[test]
    fn days_agree_with_those_of_http() {
        // Every 61 h through two leap rules, against another's arithmetic.
        for second in (0..4_200_000_000).step_by(61 * 3600 + 7) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            let date = Date::of(second * SECOND);
            let common = String::from_utf8_lossy(&date.common).into_owned();
            let ours = format!("{} {} {} {}", &common[0..2], &common[3..6], &common[7..11], &common[12..20]);
            assert_eq!(ours, http[5..25], "{second}");
        }
    }

    #[test]
    fn a_date_follows_the_clock_both_ways() {
        let mut date = Date::of(10 * SECOND);
        for second in [10, 11, 75, 3] {
            date.advance(second * SECOND + 5);
            assert_eq!(date.common, Date::of(second * SECOND).common);
        }
    }
}
