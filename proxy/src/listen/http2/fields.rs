//! Heads as HTTP/2 sends them, made from the blocks of HTTP/1 that are kept and written everywhere else.
//!
//! The values of the fields share the block's memory; nothing but the names that HTTP does not know by itself is copied.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, Version};

/// The head that a block says: status line and header lines, each with its line end, perhaps an empty line behind them.
/// What concerns a connection has no place in HTTP/2 and is left out (RFC 9113 section 8.2.2).
pub(super) fn response(block: &Bytes) -> Response<()> {
    let mut response = Response::new(());
    *response.version_mut() = Version::HTTP_2;
    // A block is ours and begins with `HTTP/1.1 NNN `.
    let status = block.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    fields.reserve(16);
    let mut start = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
    while let Some(end) = memchr::memchr(b'\n', &block[start..]) {
        push(fields, block, start, start + end);
        start += end + 1;
    }
    response
}

/// Adds the line of `block` from `start` to `end`, where its line feed stands.
fn push(fields: &mut HeaderMap, block: &Bytes, start: usize, end: usize) {
    let line = &block[start..end];
    let Some(colon) = memchr::memchr(b':', line) else { return };
    let Ok(name) = HeaderName::from_bytes(&line[..colon]) else { return };
    if is_of_a_connection(&name) {
        return;
    }
    let value = line[colon + 1..].trim_ascii();
    let from = start + colon + 1 + leading_spaces(&line[colon + 1..]).min(line.len() - colon - 1);
    if let Ok(value) = HeaderValue::from_maybe_shared(block.slice(from..from + value.len())) {
        fields.append(name, value);
    }
}

fn leading_spaces(value: &[u8]) -> usize {
    value.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Whether a field is about one connection of HTTP/1 only.
pub(super) fn is_of_a_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_becomes_a_head() {
        let block = "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nX-Own:  a b \r\nEmpty:\r\n\
                     Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\
                     Transfer-Encoding: chunked\r\nÄ: x\r\nno colon\r\nAge: 0\r\n\r\n";
        let response = response(&Bytes::from_static(block.as_bytes()));
        assert_eq!(response.status(), 206);
        let fields: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        assert_eq!(
            fields,
            ["content-type=text/html", "x-own=a b", "empty=", "set-cookie=a=1", "set-cookie=b=2", "age=0"]
        );
    }

    #[test]
    fn what_is_no_block_is_an_error_page() {
        for block in ["", "\r\n", "HTTP/1.1 abc\r\n", "no line end"] {
            let response = response(&Bytes::from_static(block.as_bytes()));
            assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{block:?}");
            assert!(response.headers().is_empty(), "{block:?}");
        }
    }
}
