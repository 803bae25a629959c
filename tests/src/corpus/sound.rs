//! What a node got, read again by rules that leave no room: each line in CR LF, each end of a body told once.
//!
//! It shares no line of code with what reads requests elsewhere, here or in the proxy, so that a mistake there is not
//! made here too.

/// A request as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and target.
    pub line: String,
    /// Header lines and trailers, names in lower case: `name: value`.
    pub lines: Vec<Vec<u8>>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Seen {
    /// Whether there is a line of this name.
    pub fn has(&self, name: &str) -> bool {
        let start = format!("{}:", name.to_ascii_lowercase());
        self.lines.iter().any(|line| line.starts_with(start.as_bytes()))
    }

    /// In one line.
    pub fn shown(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|line| line.escape_ascii().to_string()).collect();
        format!("{} [{}]", self.line, lines.join("; "))
    }
}

/// The requests in what came on one connection, and what came of one behind them that is not whole.
///
/// # Errors
///
/// What some reader could understand differently.
pub fn requests(bytes: &[u8]) -> Result<(Vec<Seen>, &[u8]), String> {
    let (mut requests, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let Some((request, behind)) = request(rest)? else { break };
        requests.push(request);
        rest = behind;
    }
    Ok((requests, rest))
}

fn request(bytes: &[u8]) -> Result<Option<(Seen, &[u8])>, String> {
    let Some((first, mut rest)) = line(bytes)? else { return Ok(None) };
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = words[..] else { return Err(wrong("a request line", first)) };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(wrong("a method", method));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(wrong("a target", target));
    }
    let (mut lines, mut hosts, mut lengths, mut chunked) = (Vec::new(), 0, Vec::new(), 0);
    loop {
        let Some((field, behind)) = line(rest)? else { return Ok(None) };
        rest = behind;
        if field.is_empty() {
            break;
        }
        let (name, value) = named(field)?;
        match &name[..] {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(number(value).ok_or_else(|| wrong("a length", field))?),
            b"transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => chunked += 1,
            b"transfer-encoding" => return Err(wrong("a coding", field)),
            _ => {}
        }
        lines.push([&name, &b": "[..], value].concat());
    }
    if hosts != 1 || lengths.len() + chunked > 1 {
        return Err(wrong("one Host line and one framing", first));
    }
    let mut body = Vec::new();
    if chunked == 1 {
        loop {
            let Some((size, behind)) = line(rest)? else { return Ok(None) };
            let text = std::str::from_utf8(size)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let size = text
                .and_then(|text| usize::from_str_radix(text, 16).ok())
                .ok_or_else(|| wrong("a size", size))?;
            rest = behind;
            if size > 0 {
                if rest.len().checked_sub(2).is_none_or(|most| most < size) {
                    return Ok(None);
                }
                body.extend_from_slice(&rest[..size]);
                rest = rest[size..].strip_prefix(b"\r\n").ok_or_else(|| wrong("a chunk", rest))?;
                continue;
            }
            loop {
                let Some((trailer, behind)) = line(rest)? else { return Ok(None) };
                rest = behind;
                if trailer.is_empty() {
                    break;
                }
                let (name, value) = named(trailer)?;
                if matches!(&name[..], b"host" | b"content-length" | b"transfer-encoding") {
                    return Err(wrong("a trailer", trailer));
                }
                lines.push([&name, &b": "[..], value].concat());
            }
            break;
        }
    } else if let Some(length) = lengths.first() {
        let Some((content, behind)) = rest.split_at_checked(*length) else { return Ok(None) };
        body.extend_from_slice(content);
        rest = behind;
    }
    let line = words[..2].iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
    Ok(Some((Seen { line, lines, body }, rest)))
}

/// A part and what stands behind it.
type Parted<'b> = (&'b [u8], &'b [u8]);

/// The line at the start, without its CR LF; nothing while it is not whole.
fn line(bytes: &[u8]) -> Result<Option<Parted<'_>>, String> {
    match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        None => Ok(None),
        Some(at) if bytes[at..] == *b"\r" => Ok(None),
        Some(at) if bytes[at..].starts_with(b"\r\n") => Ok(Some((&bytes[..at], &bytes[at + 2..]))),
        Some(_) => Err(wrong("a line", bytes)),
    }
}

/// Name, in lower case, and value of a field.
fn named(field: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let colon = field.iter().position(|byte| *byte == b':').ok_or_else(|| wrong("a field", field))?;
    let (name, value) = (field[..colon].to_ascii_lowercase(), field[colon + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(wrong("a name", field));
    }
    if value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
        return Err(wrong("a value", field));
    }
    Ok((name, value))
}

fn number(digits: &[u8]) -> Option<usize> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    sound.then_some(digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn wrong(what: &str, bytes: &[u8]) -> String {
    format!("the node got what is not {what}: {}", bytes[..bytes.len().min(200)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_requests_are_told_apart() {
        let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHOST:a\r\nContent-Length: 3\r\n\r\nabc\
            POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /d HTTP/1.1\r\nHo";
        let (requests, rest) = requests(bytes).expect("sound requests");
        let seen: Vec<_> = requests.iter().map(|seen| (seen.line.as_str(), seen.body.as_slice())).collect();
        assert_eq!(seen, [("GET /a", &b""[..]), ("POST /b", b"abc"), ("POST /c", b"ab")]);
        assert!(
            rest.starts_with(b"GET /d")
                && requests[1].has("Content-Length")
                && !requests[0].has("content-length")
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_an_error() {
        for lines in [
            "Host: a\nX: y",
            "Host: a\r\nHost: a",
            "X: y",
            "Host: a\r\n folded",
            "Host: a\r\nX : y",
            "Host: a\r\nX: \x01",
            "Host: a\r\nContent-Length: +1",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: xchunked",
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: y",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
            assert!(requests(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }
}
