//! Answers as HTTP/1 bytes: a hit from its prepared head, and a body that is still on its way.

use std::future::{Future as _, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use clearcoat_cache::{Entry, Moment, Tag};
use http::HeaderMap;

use super::connection::{COPY_UP_TO, Connection};
use crate::fetch::{Answer, Reader};
use crate::front::cache_status::{CacheStatus, Told};
use crate::front::context::delivery;
use crate::front::outcome::Found;
use crate::front::range::Part;
use crate::front::{Form, conditional};

/// Bytes of a body that are taken and written in one step. A body that only passes through may be further ahead by its
/// window less this, so it must be well below that.
pub(super) const STEP_BYTES: usize = 64 * 1024;

/// How the body of a streamed answer is told from what follows (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delimited {
    Empty,
    Length,
    Chunked,
    Close,
}

/// What of a hit follows its head.
pub(crate) enum HitBody<'e> {
    Nothing,
    /// The one form that is frequent takes no list of parts.
    One(&'e Bytes),
    Parts(Vec<Bytes>),
}

/// Appends a hit; the body goes out at once when it is large. Returns the status and how many bytes of body were sent.
pub(super) async fn write_hit(
    connection: &mut Connection,
    found: &Found,
    terms: Terms,
) -> io::Result<(u16, u64)> {
    let (code, body) = hit_head(&mut connection.output, found, terms.close);
    let sent = match &body {
        HitBody::Nothing => 0,
        HitBody::One(_) | HitBody::Parts(_) if terms.head_only => 0,
        HitBody::One(body) => send(connection, std::slice::from_ref(*body)).await?,
        HitBody::Parts(parts) => send(connection, parts).await?,
    };
    Ok((code, sent))
}

/// Appends a hit that is small, as [`write_hit`] does; `None` and nothing appended if it is not, or not of the usual forms.
pub(super) fn small_hit(output: &mut Vec<u8>, found: &Found, terms: Terms) -> Option<(u16, u64)> {
    let length = match &found.form {
        Form::NotModified | Form::Coded { not_modified: true, .. } => 0,
        Form::Part(Part::Whole) => found.entry.body().len(),
        Form::Coded { coding, not_modified: false } => found.entry.form(*coding)?.body().len(),
        Form::Part(Part::One(_) | Part::Several(_) | Part::Unsatisfiable) => return None,
    };
    if length > COPY_UP_TO && !terms.head_only {
        return None;
    }
    let (code, body) = hit_head(output, found, terms.close);
    let sent = match body {
        HitBody::One(body) if !terms.head_only => {
            output.extend_from_slice(body);
            body.len() as u64
        }
        HitBody::Nothing | HitBody::One(_) | HitBody::Parts(_) => 0,
    };
    Some((code, sent))
}

/// Appends the head of a hit. Returns the status and what follows where the method is not HEAD.
#[inline]
pub(crate) fn hit_head<'f>(output: &mut Vec<u8>, found: &'f Found, close: bool) -> (u16, HitBody<'f>) {
    let Found { entry, now, form, result: _, status, cache_control } = found;
    let own_head = || delivery::head(entry.head(), *cache_control);
    let whole = |body: &'f Bytes| if body.is_empty() { HitBody::Nothing } else { HitBody::One(body) };
    let (code, body) = match form {
        Form::Part(Part::Whole) => {
            delivery::push_head(output, entry.head(), *cache_control);
            (entry.status(), whole(entry.body()))
        }
        Form::NotModified => {
            output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
            push_lines(output, &own_head(), conditional::belongs_on_not_modified);
            (304, HitBody::Nothing)
        }
        Form::Coded { coding, not_modified } => {
            // Forms are never taken away from an entry, so the one that was chosen is there.
            let (head, body) =
                entry.form(*coding).map_or((entry.head(), entry.body()), |form| (form.head(), form.body()));
            if *not_modified {
                output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
                let head = delivery::head(head, *cache_control);
                push_lines(output, &head, conditional::belongs_on_not_modified);
                (304, HitBody::Nothing)
            } else {
                delivery::push_head(output, head, *cache_control);
                (entry.status(), whole(body))
            }
        }
        Form::Part(Part::One(range)) => {
            let (asked, length) = (range.start as u64..range.end as u64, entry.body().len() as u64);
            one_range(output, &own_head(), &asked, length);
            (206, HitBody::Parts(vec![entry.body().slice(range.clone())]))
        }
        Form::Part(Part::Several(ranges)) => {
            (206, HitBody::Parts(several_ranges(output, &own_head(), entry.body(), ranges)))
        }
        Form::Part(Part::Unsatisfiable) => {
            unsatisfiable(output, entry.head(), entry.body().len() as u64);
            (416, HitBody::Nothing)
        }
    };
    end_hit(output, entry, *now, status, close);
    (code, body)
}

/// Sends the parts of a body behind the output: copied behind it when small.
pub(super) async fn send(connection: &mut Connection, parts: &[Bytes]) -> io::Result<u64> {
    let length: usize = parts.iter().map(Bytes::len).sum();
    if length <= COPY_UP_TO {
        parts.iter().for_each(|part| connection.output.extend_from_slice(part));
    } else {
        connection.flush_with(parts).await?;
    }
    Ok(length as u64)
}

/// Appends those lines of an answer's head that are wanted.
fn push_lines(output: &mut Vec<u8>, head: &[u8], wanted: impl Fn(&[u8]) -> bool) {
    let lines = head.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.filter(|line| wanted(line)).for_each(|line| output.extend_from_slice(line));
}

/// Appends a 416 for an answer of `length` bytes (RFC 9110 section 15.5.17); `head` is that of the answer.
pub(super) fn unsatisfiable(output: &mut Vec<u8>, head: &[u8], length: u64) {
    output.extend_from_slice(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */");
    push_number(output, length);
    output.extend_from_slice(b"\r\nContent-Length: 0\r\n");
    push_lines(output, head, |line| conditional::is_named(line, b"date:"));
}

/// Appends the head of a 206 with one range of a body of `length` bytes (RFC 9110 section 15.3.7.1).
pub(super) fn one_range(output: &mut Vec<u8>, head: &[u8], range: &Range<u64>, length: u64) {
    output.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
    push_lines(output, head, |line| !conditional::is_named(line, b"content-length:"));
    output.extend_from_slice(content_range(range.start, range.end, length).as_bytes());
    push_length(output, range.end - range.start);
}

/// Appends the head of a 206 with several ranges (RFC 9110 section 15.3.7.2) and returns its body.
pub(super) fn several_ranges(
    output: &mut Vec<u8>,
    head: &[u8],
    body: &Bytes,
    ranges: &[Range<usize>],
) -> Vec<Bytes> {
    // Must not stand in the body; 128 bits of chance see to that.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut media_type = Vec::new();
    push_lines(&mut media_type, head, |line| conditional::is_named(line, b"content-type:"));
    let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let mut part = format!("\r\n--{boundary}\r\n").into_bytes();
        part.extend_from_slice(&media_type);
        let line = content_range(range.start as u64, range.end as u64, body.len() as u64);
        part.extend_from_slice(line.as_bytes());
        part.extend_from_slice(b"\r\n");
        parts.push(Bytes::from(part));
        parts.push(body.slice(range.clone()));
    }
    parts.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
    output.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
    push_lines(output, head, |line| {
        !conditional::is_named(line, b"content-length:") && !conditional::is_named(line, b"content-type:")
    });
    let length: usize = parts.iter().map(Bytes::len).sum();
    let lines =
        format!("Content-Type: multipart/byteranges; boundary={boundary}\r\nContent-Length: {length}\r\n");
    output.extend_from_slice(lines.as_bytes());
    parts
}

fn content_range(start: u64, end: u64, length: u64) -> String {
    format!("Content-Range: bytes {}-{}/{}\r\n", start, end - 1, length)
}

/// What of a hit's head is not prepared.
fn end_hit(output: &mut Vec<u8>, entry: &Entry, now: Moment, status: &CacheStatus, close: bool) {
    output.extend_from_slice(b"Age: ");
    push_number(output, entry.age_seconds(now));
    output.extend_from_slice(b"\r\n");
    if status.told() == Told::All {
        push_tags(output, entry.tags());
    }
    end_head(output, status, close);
}

/// Appends the tags of what is stored, as `xkey`.
#[cold]
fn push_tags(output: &mut Vec<u8>, tags: &[Tag]) {
    if tags.is_empty() {
        return;
    }
    output.extend_from_slice(b"xkey:");
    for tag in tags {
        output.push(b' ');
        output.extend_from_slice(tag.as_bytes());
    }
    output.extend_from_slice(b"\r\n");
}

/// Appends the line that tells where a body of so many bytes ends.
pub(super) fn push_length(output: &mut Vec<u8>, length: u64) {
    output.extend_from_slice(b"Content-Length: ");
    push_number(output, length);
    output.extend_from_slice(b"\r\n");
}

pub(super) fn push_number(output: &mut Vec<u8>, number: u64) {
    output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// What the client's request means for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) head_only: bool,
    pub(super) version_11: bool,
    /// The client takes fields behind a body.
    pub(super) trailers: bool,
    /// The connection ends after this answer anyway.
    pub(super) close: bool,
    /// The client waits to be told that its body may come.
    pub(super) expects: bool,
    /// When the head was there.
    pub(super) arrived: Instant,
    /// Bytes of further requests that are taken in meanwhile.
    pub(super) read_ahead: usize,
}

/// What became of a streamed answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Delivered {
    pub(super) body_bytes: u64,
    /// The connection cannot be used for another request.
    pub(super) close: bool,
    /// The node broke off after the client had the head.
    pub(super) broken: bool,
}

/// Appends a 304 for an answer that the client has already; its body is not waited for.
pub(super) fn not_modified(
    output: &mut Vec<u8>,
    answer: &Answer,
    status: &CacheStatus,
    cache_control: Option<&str>,
    close: bool,
) {
    output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    push_lines(output, &delivery::head(&answer.block, cache_control), conditional::belongs_on_not_modified);
    push_age(output, answer.age);
    end_head(output, status, close);
}

pub(super) fn push_age(output: &mut Vec<u8>, age: Option<u64>) {
    if let Some(age) = age {
        output.extend_from_slice(b"Age: ");
        push_number(output, age);
        output.extend_from_slice(b"\r\n");
    }
}

pub(super) fn end_head(output: &mut Vec<u8>, status: &CacheStatus, close: bool) {
    status.write_line(output);
    output.extend_from_slice(if close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
}

/// Appends that a WebSocket follows (101).
pub(super) fn switching(output: &mut Vec<u8>, answer: &Answer, status: &CacheStatus) {
    output.extend_from_slice(&answer.block);
    output.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    end_head(output, status, false);
}

/// Writes an answer whose body is still coming, as it comes.
///
/// # Errors
///
/// The client is gone or too slow.
pub(super) async fn stream(
    connection: &mut Connection,
    answer: &Answer,
    mut reader: Reader,
    status: &CacheStatus,
    cache_control: Option<&str>,
    terms: Terms,
) -> io::Result<Delivered> {
    // An answer that has ended already has a length, whatever the node said.
    let length = reader.whole_length().map(|length| length as u64).or(answer.length);
    let delimited = match length {
        _ if !answer.may_have_body() => Delimited::Empty,
        // Fields can only stand behind chunks.
        Some(_) if terms.trailers && answer.trailers.get().is_some() => Delimited::Chunked,
        Some(_) => Delimited::Length,
        None if terms.version_11 => Delimited::Chunked,
        None => Delimited::Close,
    };
    let close = terms.close || delimited == Delimited::Close && !terms.head_only;
    let output = &mut connection.output;
    delivery::push_head(output, &answer.block, cache_control);
    push_age(output, answer.age);
    match (delimited, length) {
        (Delimited::Length, Some(length)) => {
            // A node that answers HEAD says the length that GET would have; the body's own length is none.
            let length = if terms.head_only { answer.length.unwrap_or(length) } else { length };
            push_length(output, length);
        }
        (Delimited::Chunked, _) => output.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (Delimited::Empty | Delimited::Close | Delimited::Length, _) => {}
    }
    end_head(output, status, close);
    if terms.head_only || delimited == Delimited::Empty {
        connection.flush().await?;
        return Ok(Delivered { body_bytes: 0, close, broken: false });
    }

    let chunked = delimited == Delimited::Chunked;
    let (body_bytes, whole) = body(connection, &mut reader, chunked, terms, &answer.trailers).await?;
    let broken = !whole || delimited == Delimited::Length && length != Some(body_bytes);
    Ok(Delivered { body_bytes, close: close || broken, broken })
}

/// Writes a body behind its head as it comes. Returns its bytes, and whether it came to its end.
///
/// # Errors
///
/// The client is gone or too slow.
pub(super) async fn body(
    connection: &mut Connection,
    reader: &mut Reader,
    chunked: bool,
    terms: Terms,
    trailers: &OnceLock<HeaderMap>,
) -> io::Result<(u64, bool)> {
    let mut body_bytes = 0;
    let mut parts = Vec::new();
    loop {
        // What was written is let go before the wait, and with it the memory.
        parts.clear();
        let read = {
            let mut reading = pin!(reader.read(&mut parts, STEP_BYTES));
            match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Ready(read) => Some(read),
                Poll::Pending => {
                    // The head goes out with what there is of the body, and does not wait for what there is not.
                    connection.flush().await?;
                    // A client that leaves while nothing is to be written would be noticed by nobody else.
                    connection.while_there(terms.read_ahead, reading).await
                }
            }
        };
        let more = match read {
            Some(Ok(more)) => more,
            Some(Err(_)) => {
                // Ending the connection without the end of the body is how HTTP/1 says that it is not whole.
                connection.flush().await?;
                return Ok((body_bytes, false));
            }
            None => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if !more {
            break;
        }
        body_bytes += send_step(connection, &mut parts, chunked).await?;
        // The end may be there already, and then goes out in the same write.
        if reader.whole_length().is_none() {
            connection.flush().await?;
        }
    }
    let fields = trailers.get().filter(|_| chunked && terms.trailers);
    if let Some(fields) = fields {
        connection.output.extend_from_slice(b"0\r\n");
        for (name, value) in fields {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                connection.output.extend_from_slice(part);
            }
        }
        connection.output.extend_from_slice(b"\r\n");
    }
    end_body(connection, chunked && fields.is_none()).await?;
    Ok((body_bytes, true))
}

/// Sends what came of a body in one step, as a chunk where that is how its end is told (RFC 9112 section 7.1). Returns its
/// bytes without the framing.
pub(super) async fn send_step(
    connection: &mut Connection,
    parts: &mut Vec<Bytes>,
    chunked: bool,
) -> io::Result<u64> {
    let step: usize = parts.iter().map(Bytes::len).sum();
    if chunked {
        connection.output.extend_from_slice(format!("{step:x}\r\n").as_bytes());
        parts.push(Bytes::from_static(b"\r\n"));
    }
    send(connection, parts).await?;
    Ok(step as u64)
}

/// Tells the end of a body that was sent in steps, and writes what is left of it.
pub(super) async fn end_body(connection: &mut Connection, chunked: bool) -> io::Result<()> {
    if chunked {
        connection.output.extend_from_slice(b"0\r\n\r\n");
    }
    connection.flush().await
}
