//! What a client sent, as text that cannot break out of its field or its line.
//!
//! Both ways of writing take any bytes. What is plain goes through as it is and is found to be plain without a branch a
//! byte; only the rest is looked at byte by byte.

/// Says that a value was cut.
const CUT: &[u8] = b"...";

/// Bytes that a value of `length` takes at most once it is written, with `most` as its bound.
pub(super) const fn room(length: usize, most: usize) -> usize {
    // JSON's longest escape for one byte is `\u001f`; an invalid byte becomes `\ufffd`, as long. Then two quotes, or `null`.
    let escaped = length.saturating_mul(6);
    (if escaped < most { escaped } else { most }) + CUT.len() + 2
}

/// Appends a value as nginx writes it by default (`log_format`, `escape=default`): `"`, `\` and all bytes but printable
/// ASCII as `\xXX`. At most `most` bytes are written and `...` behind them for what is cut, never in the middle of an
/// escape. Nothing at all is `-`.
pub(super) fn push_escaped(output: &mut Vec<u8>, value: &[u8], most: usize) {
    if value.is_empty() {
        return output.push(b'-');
    }
    let (plain, is_cut) = clip(value, most);
    if is_all_plain(plain) {
        output.extend_from_slice(plain);
        if is_cut {
            output.extend_from_slice(CUT);
        }
        return;
    }
    let end = output.len() + most;
    for &byte in value {
        let [high, low] = hex(byte, b"0123456789ABCDEF");
        let escape = [b'\\', b'x', high, low];
        let written = if is_plain(byte) { std::slice::from_ref(&byte) } else { &escape };
        if output.len() + written.len() > end {
            return output.extend_from_slice(CUT);
        }
        output.extend_from_slice(written);
    }
}

/// Appends a value as a JSON string (RFC 8259 section 7), quotes included; nothing at all is `null`. What is not UTF-8
/// becomes U+FFFD; control characters are always escaped, those of ISO 6429 (U+0080 to U+009F) too: a log is looked at
/// in terminals. Bounded as [`push_escaped`].
pub(super) fn push_json(output: &mut Vec<u8>, value: &[u8], most: usize) {
    if value.is_empty() {
        return output.extend_from_slice(b"null");
    }
    let (plain, is_cut) = clip(value, most);
    output.push(b'"');
    if is_all_plain(plain) {
        output.extend_from_slice(plain);
        if is_cut {
            output.extend_from_slice(CUT);
        }
    } else if !push_characters(output, plain, is_cut, most) {
        output.extend_from_slice(CUT);
    }
    output.push(b'"');
}

/// Appends the characters of a JSON string and says whether all there were could be; `is_cut` says that `value` was cut
/// already.
fn push_characters(output: &mut Vec<u8>, value: &[u8], is_cut: bool, most: usize) -> bool {
    let end = output.len() + most;
    let mut fits = |written: &[u8]| {
        let fits = output.len() + written.len() <= end;
        if fits {
            output.extend_from_slice(written);
        }
        fits
    };
    let mut chunks = value.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for character in chunk.valid().chars() {
            let fitted = match character {
                '"' | '\\' => fits(&[b'\\', character as u8]),
                '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                    let [high, low] = hex(character as u8, b"0123456789abcdef");
                    fits(&[b'\\', b'u', b'0', b'0', high, low])
                }
                _ => fits(character.encode_utf8(&mut [0; 4]).as_bytes()),
            };
            if !fitted {
                return false;
            }
        }
        // A character that the cut went through is none that the client sent wrongly.
        let halved = is_cut && chunks.peek().is_none();
        if !chunk.invalid().is_empty() && !halved && !fits(b"\\ufffd") {
            return false;
        }
    }
    !is_cut
}

fn clip(value: &[u8], most: usize) -> (&[u8], bool) {
    value.get(..most).map_or((value, false), |clipped| (clipped, value.len() > most))
}

fn is_all_plain(value: &[u8]) -> bool {
    // To the end without a branch, so that many bytes are asked at once.
    value.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// Whether a byte needs no escape in either way of writing.
const fn is_plain(byte: u8) -> bool {
    (byte >= 0x20) & (byte < 0x7f) & (byte != b'"') & (byte != b'\\')
}

const fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [digits[(byte >> 4) as usize], digits[(byte & 15) as usize]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: &[u8], escaped: &str, json: &str) {
        let mut output = Vec::new();
        push_escaped(&mut output, value, 16);
        assert_eq!(String::from_utf8_lossy(&output), escaped, "escaped {value:?}");
        output.clear();
        push_json(&mut output, value, 16);
        assert_eq!(String::from_utf8_lossy(&output), json, "JSON of {value:?}");
    }

    #[test]
    fn values_stay_in_their_fields() {
        check(b"", "-", "null");
        check(b"-", "-", r#""-""#);
        check(b"Mozilla/5.0 (X)", "Mozilla/5.0 (X)", r#""Mozilla/5.0 (X)""#);
        check(b"a\"b\\c", r"a\x22b\x5Cc", r#""a\"b\\c""#);
        check(b"a\r\nb", r"a\x0D\x0Ab", r#""a\u000d\u000ab""#);
        check(b"\t\x00", r"\x09\x00", r#""\u0009\u0000""#);
        check(b"\x1b[31m\x7f", r"\x1B[31m\x7F", r#""\u001b[31m\u007f""#);
        check("größe".as_bytes(), r"gr\xC3\xB6\xC3...", r#""größe""#);
        check(b"gr\xf6\xdf", r"gr\xF6\xDF", r#""gr\ufffd\ufffd""#);
        check("\u{9b}31m".as_bytes(), r"\xC2\x9B31m", r#""\u009b31m""#);
        check(b"exactly 16 bytes", "exactly 16 bytes", r#""exactly 16 bytes""#);
        check(b"this has 17 bytes", "this has 17 byte...", r#""this has 17 byte...""#);
        // The cut goes through a character.
        check("15 bytes and a ö".as_bytes(), "15 bytes and a ...", r#""15 bytes and a ...""#);
        // An escape that does not fit is left out whole.
        check(b"14 bytes, then\x01", "14 bytes, then...", r#""14 bytes, then...""#);
        check(b"12 bytes ...\x01", r"12 bytes ...\x01", r#""12 bytes ......""#);
    }

    proptest! {
        #[test]
        fn anything_is_one_field_of_one_line(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut output = Vec::new();
            push_escaped(&mut output, &value, 32);
            prop_assert!(output.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"'));
            prop_assert!(output.len() <= room(value.len(), 32));

            output.clear();
            push_json(&mut output, &value, 32);
            prop_assert!(output.len() <= room(value.len(), 32));
            prop_assert!(!output.iter().any(u8::is_ascii_control));
            let read: Option<String> = serde_json::from_slice(&output).expect("JSON");
            let whole = String::from_utf8_lossy(&value).into_owned();
            match read {
                None => prop_assert!(value.is_empty()),
                Some(read) if value.len() <= 5 => prop_assert_eq!(read, whole),
                Some(read) => match read.strip_suffix("...") {
                    Some(begin) => prop_assert!(whole.starts_with(begin)),
                    None => prop_assert_eq!(read, whole),
                },
            }
        }
    }
}
