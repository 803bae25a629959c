//! The name of a certificate's holder as text (RFC 4514), for nodes: `CN=Anna,OU=Staff,O=Example,C=DE`.
//!
//! Reads as nginx's `$ssl_client_s_dn` and `openssl x509 -nameopt RFC2253`. Nothing but printable ASCII comes of it, so that it can stand in
//! a header: all else is escaped byte by byte, which the RFC allows.

use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::{Any, Oid, ToDer as _};
use x509_parser::x509::X509Name;

/// Names of attributes (RFC 4514 section 3), and the one that mail addresses have everywhere.
const KEYWORDS: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The name, its most exact part first. Empty for a certificate that names its holder elsewhere.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        let mut mark = ',';
        for attribute in part.iter() {
            if !text.is_empty() {
                text.push(mark);
            }
            mark = '+';
            push(&mut text, attribute.attr_type(), attribute.attr_value());
        }
    }
    text
}

fn push(text: &mut String, kind: &Oid<'_>, value: &Any<'_>) {
    let dotted = kind.to_id_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == dotted).map(|(_, keyword)| *keyword);
    text.push_str(keyword.unwrap_or(&dotted));
    text.push('=');
    match (keyword, string(value)) {
        (Some(_), Some(value)) => push_escaped(text, value),
        // Of what has no name here, or is no text, the bytes as they are (section 2.4).
        _ => {
            text.push('#');
            for byte in value.to_der_vec().unwrap_or_default() {
                let _ = write!(text, "{byte:02X}");
            }
        }
    }
}

/// The bytes of a string in ASCII or UTF-8; the other kinds are of the past.
fn string<'a>(value: &'a Any<'_>) -> Option<&'a [u8]> {
    // UTF8String, NumericString, PrintableString and IA5String.
    const KINDS: [u32; 4] = [12, 18, 19, 22];
    KINDS.contains(&value.tag().0).then_some(value.data)
}

fn push_escaped(text: &mut String, value: &[u8]) {
    let last = value.len().wrapping_sub(1);
    for (place, byte) in value.iter().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.push('\\'),
            b'#' if place == 0 => text.push('\\'),
            // Written as a number, since whoever reads a header takes spaces off its ends.
            b' ' if place == 0 || place == last => {
                text.push_str("\\20");
                continue;
            }
            b' '..=b'~' => {}
            byte => {
                let _ = write!(text, "\\{byte:02X}");
                continue;
            }
        }
        text.push(char::from(*byte));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// An attribute of the kind 2.5.4.`kind`.
    fn attribute(kind: u8, tag: u8, value: &[u8]) -> Vec<u8> {
        der(0x30, &[der(6, &[0x55, 4, kind]), der(tag, value)].concat())
    }

    #[track_caller]
    fn check(parts: &[&[Vec<u8>]], expected: &str) {
        let name = der(0x30, &parts.iter().flat_map(|part| der(0x31, &part.concat())).collect::<Vec<u8>>());
        let (_, name) = X509Name::from_der(&name).unwrap();
        assert_eq!(text(&name), expected);
    }

    #[test]
    fn names_are_written_from_the_end() {
        let utf8 = |kind, value: &str| attribute(kind, 12, value.as_bytes());
        check(&[], "");
        check(&[&[utf8(6, "DE")], &[utf8(10, "Example")], &[utf8(3, "Anna")]], "CN=Anna,O=Example,C=DE");
        check(&[&[utf8(10, "E")], &[utf8(3, "Anna"), utf8(11, "Staff")]], "CN=Anna+OU=Staff,O=E");
        check(&[&[utf8(5, "17")]], "2.5.4.5=#0C023137");
        // Another kind of string, whose letters have two bytes.
        check(&[&[attribute(3, 30, b"\0A")]], "CN=#1E020041");
    }

    #[test]
    fn nothing_in_a_name_ends_it() {
        for (value, expected) in [
            ("a,CN=root", "a\\,CN=root"),
            ("a+OU=x", "a\\+OU=x"),
            ("\"<;>\\", "\\\"\\<\\;\\>\\\\"),
            ("#1", "\\#1"),
            ("a#1", "a#1"),
            (" a b ", "\\20a b\\20"),
            (" ", "\\20"),
            ("a\r\nX-Admin: yes\0", "a\\0D\\0AX-Admin: yes\\00"),
            ("Zo\u{eb}", "Zo\\C3\\AB"),
            ("\u{7f}", "\\7F"),
        ] {
            check(&[&[attribute(3, 12, value.as_bytes())]], &format!("CN={expected}"));
        }
    }
}
