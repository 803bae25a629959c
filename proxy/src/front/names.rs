//! Names of parameters and cookies: as they are sent, and as PHP reads them.

/// What stands before the first `=`.
pub(crate) fn before_equals(pair: &[u8]) -> &[u8] {
    &pair[..memchr::memchr(b'=', pair).unwrap_or(pair.len())]
}

/// A text as forms write it, decoded: `%5F` and `+` (a space). An escape that is none stays as it is.
pub(crate) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let escaped = match after {
            [high, low, ..] if first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        let (byte, taken) = match escaped {
            Some((high, low)) => (high << 4 | low, 3),
            None => (if first == b'+' { b' ' } else { first }, 1),
        };
        rest = &rest[taken..];
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

/// The variable that PHP puts a value of this name into: decoded, without leading spaces and what follows `[`, spaces and
/// dots turned to underscores.
pub(crate) fn variable(name: &[u8]) -> impl Iterator<Item = u8> {
    decoded(name).skip_while(|byte| *byte == b' ').take_while(|byte| !matches!(byte, b'[' | 0)).map(|byte| {
        match byte {
            b' ' | b'.' => b'_',
            other => other,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_once() {
        for (text, expected) in [
            ("utm%5fsource", "utm_source"),
            ("utm%5Fsource", "utm_source"),
            ("a+b", "a b"),
            ("%2561", "%61"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("", ""),
        ] {
            assert_eq!(decoded(text.as_bytes()).collect::<Vec<_>>(), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn variables_are_named_as_in_php() {
        for (name, expected) in [
            ("a", "a"),
            ("a.b", "a_b"),
            ("a+b", "a_b"),
            ("%20a", "a"),
            ("a[]", "a"),
            ("a%5Bx%5D", "a"),
            ("a%00b", "a"),
            ("%63urrency", "currency"),
        ] {
            assert_eq!(variable(name.as_bytes()).collect::<Vec<_>>(), expected.as_bytes(), "{name}");
        }
    }
}
