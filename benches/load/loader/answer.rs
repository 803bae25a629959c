//! Finds where an answer ends, and what its status and length are.

use anyhow::{Context as _, ensure};

/// What the bytes so far make of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// There is more to come.
    Partial,
    /// The answer is here in whole.
    Whole {
        /// Its status code.
        status: u16,
        /// Bytes of its body.
        length: u64,
    },
}

/// One answer after the other on a connection. There is never more than one under way.
pub(crate) struct Reader {
    /// What came of a head that is not whole.
    head: Vec<u8>,
    /// Status and length once the head is whole, and what is still to come of the body.
    body: Option<(u16, u64, u64)>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { head: Vec::new(), body: None }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<Progress> {
        let (status, length, left) = match self.body.take() {
            Some((status, length, left)) => (status, length, left.checked_sub(bytes.len() as u64)),
            None => {
                let joined;
                let begin = if self.head.is_empty() {
                    bytes
                } else {
                    self.head.extend_from_slice(bytes);
                    joined = std::mem::take(&mut self.head);
                    &joined
                };
                let Some(end) = memchr::memmem::find(begin, b"\r\n\r\n") else {
                    ensure!(begin.len() < 64 << 10, "an answer's head is too large");
                    self.head = begin.to_vec();
                    return Ok(Progress::Partial);
                };
                let (status, length) = read(&begin[..end + 2])?;
                (status, length, length.checked_sub((begin.len() - end - 4) as u64))
            }
        };
        match left.context("more came than one answer")? {
            0 => Ok(Progress::Whole { status, length }),
            left => {
                self.body = Some((status, length, left));
                Ok(Progress::Partial)
            }
        }
    }
}

/// Status and length of the body by the lines of a head.
fn read(head: &[u8]) -> anyhow::Result<(u16, u64)> {
    let text = std::str::from_utf8(head).context("an answer's head is no text")?;
    let status: u16 =
        text.get(9..12).and_then(|code| code.parse().ok()).context("an answer has no status")?;
    if status == 204 || status == 304 {
        return Ok((status, 0));
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
    });
    Ok((status, length.context("an answer has no Content-Length")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nAge: 1\r\n\r\nhello", Some((200, 5)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some((200, 0)));
        check("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", Some((304, 0)));
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, 0)));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", None);
        check("HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", None);
    }

    /// In one piece, byte by byte, and twice on a connection.
    #[track_caller]
    fn check(text: &str, expected: Option<(u16, u64)>) {
        for size in [text.len(), 7, 1] {
            let mut reader = Reader::new();
            for _ in 0..2 {
                let pieces = text.as_bytes().chunks(size);
                let progress: anyhow::Result<Vec<_>> = pieces.map(|piece| reader.feed(piece)).collect();
                match expected {
                    Some((status, length)) => {
                        let progress = progress.unwrap();
                        let (last, before) = progress.split_last().unwrap();
                        assert_eq!(*last, Progress::Whole { status, length }, "pieces of {size}: {text:?}");
                        assert!(
                            before.iter().all(|one| *one == Progress::Partial),
                            "pieces of {size}: {text:?}"
                        );
                    }
                    None => {
                        // A byte too many can come alone; then it is the next answer that is wrong.
                        if size >= 7 {
                            assert!(progress.is_err(), "pieces of {size}: {text:?}");
                        }
                        break;
                    }
                }
            }
        }
    }
}
