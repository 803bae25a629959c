//! Reading one request: its head, and its body by length or by chunks.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Limits, MOST_FIELDS, Request};

/// One line of a chunked body, its extensions included, may have so many bytes.
const CHUNK_LINE_BYTES: usize = 1024;

/// Why there is no request.
pub(super) enum Missing {
    /// The stream ended where a request could have begun.
    Gone,
    Idle,
    Refused(u16, &'static str),
    Broken,
}

impl From<io::Error> for Missing {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

pub(super) async fn read_request<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    limits: &Limits,
) -> Result<Request, Missing>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if buffer.is_empty() {
        match timeout(limits.idle_time, stream.read_buf(buffer)).await {
            Ok(Ok(0)) => return Err(Missing::Gone),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Missing::Idle),
        }
    }
    let head_end = timeout_at(Instant::now() + limits.head_time, head_end(stream, buffer, limits.head_bytes))
        .await
        .map_err(|_| Missing::Refused(408, "the request head took too long"))??;
    let head = buffer.split_to(head_end);
    let (mut request, framing) = parse_head(&head, limits.fields)?;
    let body = async {
        if framing != Framing::Length(0) && request.field("expect").is_some() {
            expect(stream, &request, framing, limits).await?;
        }
        match framing {
            Framing::Length(length) => read_length(stream, buffer, length, limits).await,
            Framing::Chunked => read_chunked(stream, buffer, limits).await,
        }
    };
    request.body = timeout_at(Instant::now() + limits.body_time, body)
        .await
        .map_err(|_| Missing::Refused(408, "the request body took too long"))??;
    Ok(request)
}

/// Reads until the head is complete and tells where it ends.
async fn head_end<S>(stream: &mut S, buffer: &mut BytesMut, most: usize) -> Result<usize, Missing>
where
    S: AsyncRead + Unpin,
{
    let mut searched = 0;
    loop {
        // Empty lines before a request are to be ignored (RFC 9112 §2.2).
        while buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            searched = 0;
        }
        if let Some(place) = memchr::memmem::find(&buffer[searched..], b"\r\n\r\n") {
            let end = searched + place + 4;
            return if end > most { Err(TOO_LARGE) } else { Ok(end) };
        }
        searched = buffer.len().saturating_sub(3);
        if buffer.len() > most {
            return Err(TOO_LARGE);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(if buffer.is_empty() { Missing::Gone } else { Missing::Broken });
        }
    }
}

const TOO_LARGE: Missing = Missing::Refused(431, "the request head is too large");

/// How long a body is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Framing {
    /// So many bytes; none if neither `Content-Length` nor `Transfer-Encoding` stands there.
    Length(u64),
    Chunked,
}

const fn bad(why: &'static str) -> Missing {
    Missing::Refused(400, why)
}

fn parse_head(head: &[u8], most_fields: usize) -> Result<(Request, Framing), Missing> {
    // httparse takes a bare LF for the end of a line; others in the chain may not.
    if memchr::memchr_iter(b'\n', head).any(|place| place == 0 || head[place - 1] != b'\r') {
        return Err(bad("a line ends without a carriage return"));
    }
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let room = &mut fields[..most_fields.min(MOST_FIELDS)];
    let mut parsed = httparse::Request::new(room);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the request head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => return Err(Missing::Refused(431, "too many header fields")),
        Err(httparse::Error::Version) => return Err(Missing::Refused(505, "only HTTP/1.0 and HTTP/1.1")),
        Err(_) => return Err(bad("the request head is malformed")),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad("the request line is incomplete"));
    };
    let fields: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    let mut request = Request { method: method.to_owned(), fields, ..Request::default() };
    take_target(&mut request, target, minor)?;
    let framing = framing(&request, minor)?;
    let close = request
        .fields
        .iter()
        .filter(|(name, _)| name == "connection")
        .any(|(_, value)| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")));
    request.keep_alive = minor == 1 && !close;
    request.is_version_10 = minor == 0;
    Ok((request, framing))
}

/// Fills path, query and host (RFC 9112 §3.2).
fn take_target(request: &mut Request, target: &str, minor: u8) -> Result<(), Missing> {
    let mut hosts = request.fields.iter().filter(|(name, _)| name == "host").map(|(_, value)| value);
    let host = hosts.next().cloned();
    if hosts.next().is_some() || (minor == 1 && host.is_none()) {
        return Err(bad("there must be one Host"));
    }
    request.host = host.unwrap_or_default();
    let local = if target.starts_with('/') || (target == "*" && request.method == "OPTIONS") {
        target
    } else {
        // An absolute target wins over Host (§3.2.2).
        let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) else {
            return Err(bad("the target must be a path"));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        request.host = rest[..end].to_owned();
        if rest[end..].starts_with('/') { &rest[end..] } else { "/" }
    };
    match local.split_once('?') {
        Some((path, query)) => {
            request.path = path.to_owned();
            request.query = Some(query.to_owned());
        }
        None => request.path = local.to_owned(),
    }
    Ok(())
}

/// RFC 9112 §6.3, without its leniencies.
fn framing(request: &Request, minor: u8) -> Result<Framing, Missing> {
    let values = |wanted: &'static str| {
        request.fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
    };
    let mut codings = values("transfer-encoding");
    let mut lengths = values("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(bad("a body has a length or is chunked, not both")),
        (Some(_), None) if minor == 0 => Err(bad("HTTP/1.0 has no transfer codings")),
        (Some(coding), None) if codings.next().is_none() && coding.eq_ignore_ascii_case("chunked") => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(Missing::Refused(501, "the only transfer coding here is chunked")),
        (None, Some(length)) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse() {
                Ok(length) if digits && lengths.next().is_none() => Ok(Framing::Length(length)),
                _ => Err(bad("the Content-Length is not one number")),
            }
        }
    }
}

/// Answers `Expect` before the body comes (RFC 9110 §10.1.1). A body that is known to be too large is not asked for.
async fn expect<S>(
    stream: &mut S,
    request: &Request,
    framing: Framing,
    limits: &Limits,
) -> Result<(), Missing>
where
    S: AsyncWrite + Unpin,
{
    match request.field("expect") {
        Some(what) if !what.eq_ignore_ascii_case("100-continue") => {
            Err(Missing::Refused(417, "only 100-continue can be expected"))
        }
        Some(_) if framing_fits(framing, limits) => {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            stream.flush().await?;
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

fn framing_fits(framing: Framing, limits: &Limits) -> bool {
    match framing {
        Framing::Length(length) => length <= limits.body_bytes as u64,
        Framing::Chunked => true,
    }
}

const BODY_TOO_LARGE: Missing = Missing::Refused(413, "the request body is too large");

async fn read_length<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
    length: u64,
    limits: &Limits,
) -> Result<Bytes, Missing>
where
    S: AsyncRead + Unpin,
{
    let length = usize::try_from(length).map_err(|_| BODY_TOO_LARGE)?;
    if length > limits.body_bytes {
        return Err(BODY_TOO_LARGE);
    }
    fill(stream, buffer, length).await?;
    Ok(buffer.split_to(length).freeze())
}

async fn read_chunked<S>(stream: &mut S, buffer: &mut BytesMut, limits: &Limits) -> Result<Bytes, Missing>
where
    S: AsyncRead + Unpin,
{
    let mut body = BytesMut::new();
    loop {
        let line = line(stream, buffer, CHUNK_LINE_BYTES).await?;
        let size = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => usize::try_from(size).map_err(|_| BODY_TOO_LARGE)?,
            Ok(httparse::Status::Partial) | Err(_) => return Err(bad("a chunk has no readable size")),
        };
        if size == 0 {
            break;
        }
        if size > limits.body_bytes - body.len() {
            return Err(BODY_TOO_LARGE);
        }
        fill(stream, buffer, size + 2).await?;
        body.extend_from_slice(&buffer[..size]);
        if &buffer[size..size + 2] != b"\r\n" {
            return Err(bad("a chunk does not end where it should"));
        }
        buffer.advance(size + 2);
    }
    // Trailer fields mean nothing to a small service; their number of bytes is bounded nevertheless.
    let mut left = limits.head_bytes;
    loop {
        let line = line(stream, buffer, left).await?;
        if line.len() == 2 {
            return Ok(body.freeze());
        }
        left = left.saturating_sub(line.len());
    }
}

/// Takes a line of at most `most` bytes, its CR LF included, from the front of the buffer.
async fn line<S>(stream: &mut S, buffer: &mut BytesMut, most: usize) -> Result<BytesMut, Missing>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer).map(|place| place + 1) {
            return match end {
                end if end > most => Err(TOO_LARGE),
                end if end >= 2 && buffer[end - 2] == b'\r' => Ok(buffer.split_to(end)),
                _ => Err(bad("a line ends without a carriage return")),
            };
        }
        if buffer.len() > most {
            return Err(TOO_LARGE);
        }
        fill(stream, buffer, buffer.len() + 1).await?;
    }
}

/// Reads until the buffer holds `wanted` bytes.
async fn fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    wanted: usize,
) -> Result<(), Missing> {
    while buffer.len() < wanted {
        if stream.read_buf(buffer).await? == 0 {
            return Err(Missing::Broken);
        }
    }
    Ok(())
}
