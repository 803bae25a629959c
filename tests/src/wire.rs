//! Framing of HTTP/1.1 messages (RFC 9112), read strictly: what is doubtful is an error.
//!
//! Both sides of the harness read through [`Reader`]: the client reads answers, a node reads requests.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head accepted; a test of long tag lists stays below.
const MAX_HEAD_BYTES: usize = 4 << 20;
/// Most header lines accepted.
const MAX_HEADERS: usize = 1024;

/// Name and value pairs in the order and letter case in which they came.
pub type Headers = Vec<(String, String)>;

/// The value of the first line of that name, in any case.
pub fn first<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The values of all lines of that name, in any case.
pub fn all<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    /// Status code.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: String,
    /// Header lines.
    pub headers: Headers,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method.
    pub method: String,
    /// Request target as sent.
    pub target: String,
    /// 0 or 1, of HTTP/1.x.
    pub minor: u8,
    /// Header lines.
    pub headers: Headers,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection is closed behind it; answers only.
    Close,
}

/// Buffered reading of messages from one direction of a connection.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    buffer: BytesMut,
    copy: Option<Copied>,
}

/// All bytes of one direction of a connection, as they came.
pub type Copied = Arc<Mutex<Vec<u8>>>;

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: BytesMut::new(), copy: None }
    }

    /// Puts a copy of everything that is read from now on here, too.
    pub fn copy_to(&mut self, copy: Copied) {
        self.copy = Some(copy);
    }

    /// The stream below; bytes already read from it are lost.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads more bytes; false at the end of the stream.
    async fn more(&mut self) -> Result<bool> {
        self.buffer.reserve(16 << 10);
        let read = self.inner.read_buf(&mut self.buffer).await?;
        if let Some(copy) = &self.copy {
            let new = &self.buffer[self.buffer.len() - read..];
            copy.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(new);
        }
        Ok(read > 0)
    }

    /// Waits until something has come that was not read yet, or the stream has ended or broken.
    pub async fn begun(&mut self) {
        if self.buffer.is_empty() {
            // What is wrong with it the next reader learns as well.
            let _ = self.more().await;
        }
    }

    /// Reads whatever comes first: some bytes, or nothing at the end of the stream.
    pub async fn some(&mut self) -> Result<Bytes> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        Ok(self.buffer.split().freeze())
    }

    /// The bytes of one head with its empty line; nothing if the stream ends before its first byte.
    async fn head(&mut self) -> Result<Option<BytesMut>> {
        let mut seen = 0;
        loop {
            // The end mark may lie across two reads.
            let from = usize::saturating_sub(seen, 3);
            if let Some(at) = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(Some(self.buffer.split_to(from + at + 4)));
            }
            seen = self.buffer.len();
            ensure!(seen < MAX_HEAD_BYTES, "no end of the head within {MAX_HEAD_BYTES} bytes");
            if !self.more().await? {
                ensure!(seen == 0, "the stream ended within a head: {:?}", lossy(&self.buffer));
                return Ok(None);
            }
        }
    }

    /// The next answer's head; nothing if the stream ends before its first byte.
    ///
    /// # Errors
    ///
    /// If the stream breaks or the head is malformed.
    pub async fn answer_head(&mut self) -> Result<Option<AnswerHead>> {
        let Some(bytes) = self.head().await? else { return Ok(None) };
        let mut lines = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut lines);
        let status =
            parsed.parse(&bytes).with_context(|| format!("a malformed head: {:?}", lossy(&bytes)))?;
        ensure!(status.is_complete(), "an incomplete head: {:?}", lossy(&bytes));
        Ok(Some(AnswerHead {
            minor: parsed.version.context("no version")?,
            status: parsed.code.context("no status")?,
            reason: parsed.reason.unwrap_or_default().to_owned(),
            headers: owned(parsed.headers),
        }))
    }

    /// The next request's head; nothing if the stream ends before its first byte.
    ///
    /// # Errors
    ///
    /// If the stream breaks or the head is malformed.
    pub async fn request_head(&mut self) -> Result<Option<RequestHead>> {
        let Some(bytes) = self.head().await? else { return Ok(None) };
        let mut lines = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut lines);
        let status =
            parsed.parse(&bytes).with_context(|| format!("a malformed head: {:?}", lossy(&bytes)))?;
        ensure!(status.is_complete(), "an incomplete head: {:?}", lossy(&bytes));
        Ok(Some(RequestHead {
            method: parsed.method.context("no method")?.to_owned(),
            target: parsed.path.context("no target")?.to_owned(),
            minor: parsed.version.context("no version")?,
            headers: owned(parsed.headers),
        }))
    }

    /// The next piece of a body, empty at its end. `left` is the state of one body; begin with [`Left::new`].
    ///
    /// # Errors
    ///
    /// If the stream breaks or ends early, or a chunk is malformed.
    pub async fn piece(&mut self, left: &mut Left) -> Result<Bytes> {
        loop {
            match *left {
                Left::Nothing => return Ok(Bytes::new()),
                Left::Bytes(count) | Left::InChunk(count) => {
                    if self.buffer.is_empty() {
                        ensure!(
                            self.more().await?,
                            "cut short: the stream ended {count} bytes before the end"
                        );
                    }
                    let taken = self.buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                    let rest = count - taken as u64;
                    let piece = self.buffer.split_to(taken).freeze();
                    match (*left, rest) {
                        (Left::InChunk(_), 0) => {
                            ensure!(self.line().await?.is_empty(), "no line end behind a chunk");
                            *left = Left::Chunks;
                        }
                        (Left::InChunk(_), rest) => *left = Left::InChunk(rest),
                        (_, 0) => *left = Left::Nothing,
                        (_, rest) => *left = Left::Bytes(rest),
                    }
                    return Ok(piece);
                }
                Left::Chunks => {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default();
                    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
                    ensure!(digits && size.len() <= 15, "a malformed chunk size: {line:?}");
                    let size = u64::from_str_radix(size, 16)?;
                    if size > 0 {
                        *left = Left::InChunk(size);
                        continue;
                    }
                    while !self.line().await?.is_empty() {}
                    *left = Left::Nothing;
                }
                Left::UntilClose => {
                    if self.buffer.is_empty() && !self.more().await? {
                        *left = Left::Nothing;
                        continue;
                    }
                    return Ok(self.buffer.split().freeze());
                }
            }
        }
    }

    /// A whole body.
    ///
    /// # Errors
    ///
    /// As [`Reader::piece`].
    pub async fn body(&mut self, framing: Framing) -> Result<Bytes> {
        let mut left = Left::new(framing);
        let mut body = BytesMut::new();
        loop {
            let piece = self.piece(&mut left).await?;
            if piece.is_empty() {
                return Ok(body.freeze());
            }
            body.extend_from_slice(&piece);
        }
    }

    /// One line without its CRLF, as in chunked framing.
    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(at + 1);
                let Some(line) = line.strip_suffix(b"\r\n") else {
                    bail!("a bare line feed in {:?}", lossy(&line))
                };
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            ensure!(self.buffer.len() < 64 << 10, "an endless line");
            ensure!(self.more().await?, "cut short: the stream ended between two chunks");
        }
    }
}

/// What of a body is still to come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// It is complete.
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// A chunk's size line comes next.
    Chunks,
    /// So many bytes of this chunk.
    InChunk(u64),
    /// Everything up to the end of the stream.
    UntilClose,
}

impl Left {
    /// All of it.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty | Framing::Length(0) => Self::Nothing,
            Framing::Length(count) => Self::Bytes(count),
            Framing::Chunked => Self::Chunks,
            Framing::Close => Self::UntilClose,
        }
    }
}

/// How the body behind an answer's head ends, by RFC 9112 section 6.3, but with every doubt an error.
///
/// # Errors
///
/// If `Transfer-Encoding` and `Content-Length` stand together, or either is malformed or doubled.
pub fn answer_framing(method: &str, head: &AnswerHead) -> Result<Framing> {
    let declared = declared_framing(&head.headers)?;
    if method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304 {
        return Ok(Framing::Empty);
    }
    Ok(declared.unwrap_or(Framing::Close))
}

/// How the body behind a request's head ends.
///
/// # Errors
///
/// As [`answer_framing`].
pub fn request_framing(head: &RequestHead) -> Result<Framing> {
    Ok(declared_framing(&head.headers)?.unwrap_or(Framing::Empty))
}

fn declared_framing(headers: &[(String, String)]) -> Result<Option<Framing>> {
    let lengths = all(headers, "content-length");
    let codings = all(headers, "transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => {
            ensure!(
                length.bytes().all(|byte| byte.is_ascii_digit()),
                "a malformed Content-Length: {length:?}"
            );
            Ok(Some(Framing::Length(length.parse()?)))
        }
        ([], [coding]) => {
            ensure!(coding.eq_ignore_ascii_case("chunked"), "an unknown Transfer-Encoding: {coding:?}");
            Ok(Some(Framing::Chunked))
        }
        _ => bail!("doubtful framing: Content-Length {lengths:?}, Transfer-Encoding {codings:?}"),
    }
}

/// Whether the sender of this head will close, or wants closed, the connection behind it.
pub fn closes(minor: u8, headers: &[(String, String)]) -> bool {
    let told = |word: &str| {
        all(headers, "connection")
            .iter()
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if minor == 0 { !told("keep-alive") } else { told("close") }
}

fn owned(lines: &[httparse::Header<'_>]) -> Headers {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    lines.iter().map(|line| (line.name.to_owned(), text(line.value))).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one answer to a GET from `bytes`; the body, or the error in words.
    async fn read(bytes: &str) -> Result<Bytes> {
        let mut reader = Reader::new(bytes.as_bytes());
        let head = reader.answer_head().await?.context("nothing came")?;
        let framing = answer_framing("GET", &head)?;
        reader.body(framing).await
    }

    #[tokio::test]
    async fn whole_bodies_are_read() {
        let answers = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nabcdef", ""),
            ("HTTP/1.1 204 No Content\r\n\r\nabcdef", ""),
            ("HTTP/1.1 200\r\n\r\nabcdef", "abcdef"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nA: b\r\n\r\nrest",
                "abc",
            ),
        ];
        for (bytes, body) in answers {
            assert_eq!(read(bytes).await.expect("a whole body"), body, "answer: {bytes:?}");
        }
    }

    #[tokio::test]
    async fn doubtful_bodies_are_refused() {
        let answers = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "cut short"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "cut short"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "behind a chunk"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "chunk size"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\r\n", "bare line feed"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "doubtful"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "doubtful"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", "malformed"),
            ("HTTP/1.1 200 OK\r\nContent-", "within a head"),
            ("SMTP 200\r\n\r\n", "malformed head"),
            ("", "nothing came"),
        ];
        for (bytes, words) in answers {
            let error = read(bytes).await.expect_err("a refusal");
            assert!(format!("{error:#}").contains(words), "answer {bytes:?} gave {error:#}");
        }
    }
}
