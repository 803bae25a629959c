//! Counting up and down, as memcached does it.

use bytes::Bytes;

use crate::session::servers::wire;

/// What became of a value that was counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Counted {
    To(u64, Bytes),
    NotANumber,
}

/// Adds to the number in a value, or takes away from it: up it begins again at zero behind 2^64 - 1, down it ends at zero.
///
/// A number that gets shorter is filled up with spaces: memcached writes it where the longer one stood.
pub(super) fn count(value: &[u8], delta: u64, down: bool) -> Counted {
    // As `strtoull` reads it, which skips space before it and ends with the first behind it.
    let text = value.trim_ascii_start();
    let text = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let Some(number) = wire::number::<u64>(text) else { return Counted::NotANumber };
    let number = if down { number.saturating_sub(delta) } else { number.wrapping_add(delta) };
    let mut text = number.to_string().into_bytes();
    text.resize(text.len().max(value.len()), b' ');
    Counted::To(number, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_as_memcached_does() {
        let check = |value: &str, delta, down, expected: &str| {
            let Counted::To(number, text) = count(value.as_bytes(), delta, down) else {
                panic!("{value} is a number");
            };
            assert_eq!(
                (text, number.to_string().as_str()),
                (Bytes::copy_from_slice(expected.as_bytes()), expected.trim())
            );
        };
        check("10", 5, false, "15");
        check("10", 100, true, "0 ");
        check("99", 1, false, "100");
        check("100", 1, true, "99 ");
        check("99 ", 1, false, "100");
        check("18446744073709551615", 1, false, "0                   ");
        check(" 7", 1, false, "8 ");
        check("000000000000000000001", 1, false, "2                    ");
        for no_number in ["", "x", "1x", "-1", "1.5", "18446744073709551616"] {
            assert_eq!(count(no_number.as_bytes(), 1, false), Counted::NotANumber, "{no_number}");
        }
    }
}
