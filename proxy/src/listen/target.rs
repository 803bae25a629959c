//! What a request is for: the target of its request line, and the host that it names (RFC 9112 sections 3.2 and 3.3).

use super::head::Refusal;

/// Host (of an absolute-form target) and origin-form target (RFC 9112 section 3.2).
pub(super) fn split_target<'b>(
    method: &str,
    target: &'b str,
) -> Result<(Option<&'b [u8]>, &'b [u8]), Refusal> {
    let bytes = target.as_bytes();
    // A gateway has no use for the one, and the other hands a visitor's cookies to whoever can make a browser send it.
    if method == "CONNECT" || method == "TRACE" {
        return Err(Refusal::MethodNotAllowed);
    }
    // A fragment has no business in a request, and readers disagree on what it means there.
    if bytes.iter().any(|byte| !(0x21..=0x7e).contains(byte) || *byte == b'#') {
        return Err(Refusal::Malformed("the target has bytes that have to be escaped"));
    }
    if bytes.first() == Some(&b'/') || (bytes == b"*" && method == "OPTIONS") {
        return Ok((None, bytes));
    }
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| {
            bytes
                .get(..scheme.len())
                .filter(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
                .map(|_| &bytes[scheme.len()..])
        })
        .ok_or(Refusal::Malformed("the target is neither a path nor a URL"))?;
    match memchr::memchr2(b'/', b'?', rest) {
        Some(at) if rest[at] == b'/' => Ok((Some(&rest[..at]), &rest[at..])),
        Some(_) => Err(Refusal::Malformed("the target has a query but no path")),
        None => Ok((Some(rest), b"/")),
    }
}

/// Letters, digits, `.`, `-` and `_`.
const IN_NAME: u8 = 1;

/// The same and `:`.
const IN_LITERAL: u8 = 2;

/// What each byte may stand in, so that a host is looked at once.
const BYTES_OF_HOSTS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = match character {
            b'.' | b'-' | b'_' => IN_NAME | IN_LITERAL,
            b':' => IN_LITERAL,
            _ if character.is_ascii_alphanumeric() => IN_NAME | IN_LITERAL,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Letters, digits, `.`, `-`, `_`, an IPv6 address in brackets, a port.
pub(super) fn is_host(host: &[u8]) -> bool {
    let end_of =
        |what: u8, text: &[u8]| text.iter().position(|byte| BYTES_OF_HOSTS[usize::from(*byte)] & what == 0);
    let (name_is_good, port) = match host.split_first() {
        Some((b'[', literal)) => match end_of(IN_LITERAL, literal) {
            Some(end) if literal[end] == b']' => ((1..=255).contains(&end), &literal[end + 1..]),
            Some(_) | None => return false,
        },
        Some(_) | None => {
            let end = end_of(IN_NAME, host).unwrap_or(host.len());
            ((1..=255).contains(&end), &host[end..])
        }
    };
    let port_is_good = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    name_is_good && port_is_good
}
