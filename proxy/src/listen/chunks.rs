//! Where a chunked body ends: a strict reader of the framing, not of the content (RFC 9112 section 7.1).
//!
//! The pass road's own reader is lenient: it takes an empty size for the last chunk. What it is given comes through
//! here first, so that a body which two readers could end in different places ends nowhere but in an error, and so
//! that the bytes of a next request behind it are left alone.

/// Bytes of one chunk's extensions.
const MAX_EXTENSION: usize = 256;

/// Bytes of all trailer lines together.
const MAX_TRAILERS: usize = 8 * 1024;

/// The framing of the body cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the chunked body is malformed: {0}")]
pub(crate) struct BadChunk(&'static str);

/// How far the body has been read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ChunkScan {
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
        bytes: usize,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    LineStart {
        bytes: usize,
    },
    Trailer {
        bytes: usize,
        colon: bool,
    },
    TrailerEnd {
        bytes: usize,
    },
    LastLf,
    Done,
}

impl ChunkScan {
    pub(crate) const fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 } }
    }

    /// Whether the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on; tells how many of `bytes` belong to the body. All of them, unless it ends among them.
    ///
    /// # Errors
    ///
    /// The first byte that cannot stand where it stands. Nothing of `bytes` may be used then.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        self.decode(bytes, |_| {})
    }

    /// As [`advance`](Self::advance), and shows the content without its framing.
    ///
    /// # Errors
    ///
    /// The first byte that cannot stand where it stands.
    pub(crate) fn decode(&mut self, bytes: &[u8], content: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        self.decode_all(bytes, content, |_| {})
    }

    /// As [`decode`](Self::decode), and shows the lines of the trailers, each with its end, byte by byte. There are no more of
    /// them than [`MAX_TRAILERS`] and their line ends.
    ///
    /// # Errors
    ///
    /// The first byte that cannot stand where it stands.
    pub(crate) fn decode_all(
        &mut self,
        bytes: &[u8],
        mut content: impl FnMut(&[u8]),
        mut trailers: impl FnMut(u8),
    ) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let step = left.min((bytes.len() - at) as u64);
                content(&bytes[at..at + step as usize]);
                at += step as usize;
                self.state = if step == left { State::DataCr } else { State::Data { left: left - step } };
                continue;
            }
            let before = self.state;
            self.state = next(before, bytes[at])?;
            let in_trailers = matches!(
                self.state,
                State::LineStart { .. } | State::Trailer { .. } | State::TrailerEnd { .. }
            );
            // The line end of the last size leads to the first line, and belongs to none.
            if in_trailers && !matches!(before, State::SizeEnd { .. }) {
                trailers(bytes[at]);
            }
            at += 1;
        }
        Ok(at)
    }
}

fn next(state: State, byte: u8) -> Result<State, BadChunk> {
    Ok(match state {
        State::Size { value, digits } => match (byte, char::from(byte).to_digit(16)) {
            // Sixteen digits are all that 64 bits hold.
            (_, Some(_)) if digits == 15 => return Err(BadChunk("a size is too large")),
            (_, Some(digit)) => State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 },
            (_, None) if digits == 0 => return Err(BadChunk("a size is missing")),
            (b'\r', None) => State::SizeEnd { value },
            (b';', None) => State::Extension { value, bytes: 0 },
            _ => return Err(BadChunk("a size is not a number")),
        },
        State::Extension { value, bytes } => match byte {
            b'\r' => State::SizeEnd { value },
            _ if bytes >= MAX_EXTENSION => return Err(BadChunk("an extension is too long")),
            b'\t' | b' '..=b'~' | 0x80.. => State::Extension { value, bytes: bytes + 1 },
            _ => return Err(BadChunk("an extension has control characters")),
        },
        State::SizeEnd { value } => match (byte, value) {
            (b'\n', 0) => State::LineStart { bytes: 0 },
            (b'\n', left) => State::Data { left },
            _ => return Err(BadChunk("a line does not end in CR LF")),
        },
        State::DataCr => match byte {
            b'\r' => State::DataLf,
            _ => return Err(BadChunk("a chunk is longer than its size")),
        },
        State::DataLf => match byte {
            b'\n' => State::Size { value: 0, digits: 0 },
            _ => return Err(BadChunk("a line does not end in CR LF")),
        },
        State::LineStart { bytes } => match byte {
            b'\r' => State::LastLf,
            _ if is_token(byte) => State::Trailer { bytes: bytes + 1, colon: false },
            _ => return Err(BadChunk("a trailer is not a header line")),
        },
        State::Trailer { bytes, colon } => match byte {
            _ if bytes >= MAX_TRAILERS => return Err(BadChunk("the trailers are too long")),
            b'\r' if colon => State::TrailerEnd { bytes },
            b':' => State::Trailer { bytes: bytes + 1, colon: true },
            b'\t' | b' '..=b'~' | 0x80.. if colon || is_token(byte) => {
                State::Trailer { bytes: bytes + 1, colon }
            }
            _ => return Err(BadChunk("a trailer is not a header line")),
        },
        State::TrailerEnd { bytes } => match byte {
            b'\n' => State::LineStart { bytes },
            _ => return Err(BadChunk("a line does not end in CR LF")),
        },
        State::LastLf => match byte {
            b'\n' => State::Done,
            _ => return Err(BadChunk("a line does not end in CR LF")),
        },
        // `advance` comes here with neither.
        State::Data { .. } | State::Done => state,
    })
}

/// A character of a header name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// Where the body ends; `Ok(None)` when more is to come.
    fn scan(bytes: &[u8], step: usize) -> Result<Option<usize>, BadChunk> {
        let mut scan = ChunkScan::new();
        let mut at = 0;
        for piece in bytes.chunks(step) {
            at += scan.advance(piece)?;
            if scan.is_done() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(text: &str, expected: Result<Option<usize>, &'static str>) {
        for step in [1, 2, 3, 1000] {
            assert_eq!(scan(text.as_bytes(), step), expected.map_err(BadChunk), "{text:?} by {step}");
        }
    }

    #[test]
    fn bodies_end_where_they_do() {
        check("0\r\n\r\n", Ok(Some(5)));
        check("3\r\nabc\r\n0\r\n\r\nGET /", Ok(Some(13)));
        check("A\r\n0123456789\r\n0\r\n\r\n", Ok(Some(20)));
        check("00003;x=y\r\nabc\r\n0;last\r\nA: b\r\nC:\r\n\r\nrest", Ok(Some(36)));
        check("3\r\nab", Ok(None));
        check("0\r\n", Ok(None));
    }

    #[test]
    fn trailers_are_shown_as_lines() {
        let body = b"3;x=y\r\nabc\r\n0;last\r\nA: b\r\nC:\r\n\r\nrest";
        for step in [1, 2, 5, 100] {
            let (mut scan, mut content, mut trailers) = (ChunkScan::new(), Vec::new(), Vec::new());
            for piece in body.chunks(step) {
                scan.decode_all(piece, |bytes| content.extend_from_slice(bytes), |byte| trailers.push(byte))
                    .unwrap();
            }
            assert_eq!((&content[..], &trailers[..]), (&b"abc"[..], &b"A: b\r\nC:\r\n"[..]), "by {step}");
        }
    }

    #[test]
    fn doubtful_bodies_end_in_an_error() {
        check("\r\n", Err("a size is missing"));
        check(";x=y\r\n", Err("a size is missing"));
        check(" 3\r\n", Err("a size is missing"));
        check("-3\r\n", Err("a size is missing"));
        check("3 \r\n", Err("a size is not a number"));
        check("0x3\r\n", Err("a size is not a number"));
        check("3\nabc", Err("a size is not a number"));
        check("3\rabc", Err("a line does not end in CR LF"));
        check("3\r\nabcd\r\n", Err("a chunk is longer than its size"));
        check("3\r\nabc\n", Err("a chunk is longer than its size"));
        check("3\r\nabc\rx", Err("a line does not end in CR LF"));
        check("3;\n\r\n", Err("an extension has control characters"));
        check("fffffffffffffffff\r\n", Err("a size is too large"));
        check("0\r\nbad\r\n", Err("a trailer is not a header line"));
        check("0\r\n folded\r\n", Err("a trailer is not a header line"));
        check("0\r\nA: b\n\r\n", Err("a trailer is not a header line"));
        check("0\r\n\rx", Err("a line does not end in CR LF"));
        check(&format!("3;{}\r\n", "x".repeat(300)), Err("an extension is too long"));
        check(&format!("0\r\nA: {}\r\n", "x".repeat(9000)), Err("the trailers are too long"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_or_fail_alike_in_any_pieces(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), any::<u8>()], 0..60),
            step in 1usize..10,
        ) {
            prop_assert_eq!(scan(&bytes, step), scan(&bytes, 1000));
        }
    }
}
