//! Readers of HTTP/1 as plain as can be, by whole lines: what ours makes of any bytes is held against them.

/// Bytes of one chunk's extensions that ours reads; a line has to end within as many.
const EXTENSION: usize = 256;

/// Bytes of trailer lines that ours reads, without their ends.
const TRAILERS: usize = 8 * 1024;

/// Where a chunked body ends and what is in it; nothing while it is not whole.
///
/// # Errors
///
/// It is malformed (RFC 9112 section 7.1).
pub(crate) fn chunked_body(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, &'static str> {
    let (mut rest, mut content) = (bytes, Vec::new());
    loop {
        let Some((line, behind)) = line(rest)? else { return Ok(None) };
        let (size, extension) = match line.iter().position(|byte| *byte == b';') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &b""[..]),
        };
        let digits = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(size).ok().filter(|_| digits);
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok()).ok_or("no size")?;
        if extension.len() > EXTENSION || extension.iter().any(|byte| is_control(*byte)) {
            return Err("no extension");
        }
        rest = behind;
        if size == 0 {
            break;
        }
        let Some((chunk, behind)) = rest.split_at_checked(size) else { return Ok(None) };
        content.extend_from_slice(chunk);
        rest = match behind {
            [b'\r', b'\n', behind @ ..] => behind,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("no end of a chunk"),
        };
    }
    let mut trailers = 0;
    loop {
        let Some((field, behind)) = line(rest)? else { return Ok(None) };
        rest = behind;
        if field.is_empty() {
            return Ok(Some((bytes.len() - rest.len(), content)));
        }
        trailers += field.len();
        let colon = field.iter().position(|byte| *byte == b':').ok_or("no colon")?;
        let named = colon > 0 && field[..colon].iter().all(|byte| is_token(*byte));
        if !named || field.iter().any(|byte| is_control(*byte)) || trailers >= TRAILERS {
            return Err("no trailer");
        }
    }
}

/// Panics if a head could be two requests to somebody, or one with two ends.
///
/// # Panics
///
/// See above.
pub(crate) fn require_one_reading(head: &[u8]) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(!text.contains('\0') && text.ends_with("\r\n\r\n"), "{text:?}");
    let text = text.trim_start_matches("\r\n");
    let lines: Vec<&str> = text.strip_suffix("\r\n\r\n").unwrap_or(text).split("\r\n").collect();
    assert!(lines.iter().all(|line| !line.is_empty() && !line.contains(['\r', '\n'])), "{text:?}");
    let named = |name: &str| lines.iter().skip(1).filter(|line| line.starts_with(name)).count();
    let (lengths, codings, hosts) = (named("content-length:"), named("transfer-encoding:"), named("host:"));
    assert!(lengths + codings <= 1 && hosts <= 1, "{text:?}");
    let odd = |line: &&str| {
        line.starts_with([' ', '\t', ':'])
            || line.split(':').next().is_some_and(|name| name.contains([' ', '\t']))
    };
    assert!(!lines.iter().skip(1).any(odd), "{text:?}");
    assert!(hosts == 1 || lines[0].ends_with("http/1.0"), "{text:?}");
    assert!(codings == 0 || lines[0].ends_with("http/1.1"), "{text:?}");
}

/// A part and what stands behind it.
type Parted<'b> = (&'b [u8], &'b [u8]);

fn line(bytes: &[u8]) -> Result<Option<Parted<'_>>, &'static str> {
    match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(at) => match &bytes[at..] {
            [b'\r', b'\n', behind @ ..] => Ok(Some((&bytes[..at], behind))),
            [b'\r'] => Ok(None),
            _ => Err("no end of a line"),
        },
        None => Ok(None),
    }
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
