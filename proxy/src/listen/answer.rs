//! Answers as HTTP/1 bytes: a hit from its prepared head, and a body that is still on its way.

use std::io;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use clearcoat_cache::{Entry, Moment};

use super::connection::{COPY_UP_TO, Connection};
use crate::fetch::{Answer, Reader};
use crate::front::cache_status::CacheStatus;
use crate::front::range::Part;
use crate::front::{Form, conditional};

/// Bytes of a body that are taken and written in one step.
const STEP_BYTES: usize = 256 * 1024;

/// How the body of a streamed answer is told from what follows (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delimited {
    Empty,
    Length,
    Chunked,
    Close,
}

/// Appends a hit; the body goes out at once when it is large. Returns the status and how many bytes of body were sent.
pub(super) async fn write_hit(
    connection: &mut Connection,
    entry: &Entry,
    now: Moment,
    form: &Form,
    status: &CacheStatus,
    terms: Terms,
) -> io::Result<(u16, u64)> {
    let output = &mut connection.output;
    let (code, parts) = match form {
        Form::Part(Part::Whole) => {
            output.extend_from_slice(entry.head());
            end_hit(output, entry, now, status, terms.close);
            // The one form that is frequent takes no list of parts.
            let body = entry.body();
            return if terms.head_only || body.is_empty() {
                Ok((entry.status(), 0))
            } else {
                send(connection, std::slice::from_ref(body)).await.map(|sent| (entry.status(), sent))
            };
        }
        Form::NotModified => {
            output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
            push_lines(output, entry, conditional::belongs_on_not_modified);
            (304, Vec::new())
        }
        Form::Part(Part::One(range)) => (206, one_range(output, entry, range)),
        Form::Part(Part::Several(ranges)) => (206, several_ranges(output, entry, ranges)),
        Form::Part(Part::Unsatisfiable) => {
            output.extend_from_slice(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */");
            push_number(output, entry.body().len() as u64);
            output.extend_from_slice(b"\r\nContent-Length: 0\r\n");
            push_lines(output, entry, |line| conditional::is_named(line, b"date:"));
            (416, Vec::new())
        }
    };
    end_hit(output, entry, now, status, terms.close);
    send(connection, &parts).await.map(|sent| (code, sent))
}

/// Sends the parts of a body behind the output: copied behind it when small.
async fn send(connection: &mut Connection, parts: &[Bytes]) -> io::Result<u64> {
    let length: usize = parts.iter().map(Bytes::len).sum();
    if length <= COPY_UP_TO {
        parts.iter().for_each(|part| connection.output.extend_from_slice(part));
    } else {
        connection.flush_with(parts).await?;
    }
    Ok(length as u64)
}

/// Appends those lines of an entry's head that are wanted.
fn push_lines(output: &mut Vec<u8>, entry: &Entry, wanted: impl Fn(&[u8]) -> bool) {
    let lines = entry.head().split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.filter(|line| wanted(line)).for_each(|line| output.extend_from_slice(line));
}

/// The head of a 206 with one range, and its body (RFC 9110 section 15.3.7.1).
fn one_range(output: &mut Vec<u8>, entry: &Entry, range: &Range<usize>) -> Vec<Bytes> {
    output.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
    push_lines(output, entry, |line| !conditional::is_named(line, b"content-length:"));
    output.extend_from_slice(content_range(entry, range).as_bytes());
    output.extend_from_slice(b"Content-Length: ");
    push_number(output, range.len() as u64);
    output.extend_from_slice(b"\r\n");
    vec![entry.body().slice(range.clone())]
}

/// The head of a 206 with several ranges, and its body (RFC 9110 section 15.3.7.2).
fn several_ranges(output: &mut Vec<u8>, entry: &Entry, ranges: &[Range<usize>]) -> Vec<Bytes> {
    // Must not stand in the body; 128 bits of chance see to that.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut media_type = Vec::new();
    push_lines(&mut media_type, entry, |line| conditional::is_named(line, b"content-type:"));
    let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
    for range in ranges {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        head.extend_from_slice(&media_type);
        head.extend_from_slice(content_range(entry, range).as_bytes());
        head.extend_from_slice(b"\r\n");
        parts.push(Bytes::from(head));
        parts.push(entry.body().slice(range.clone()));
    }
    parts.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
    output.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n");
    push_lines(output, entry, |line| {
        !conditional::is_named(line, b"content-length:") && !conditional::is_named(line, b"content-type:")
    });
    let length: usize = parts.iter().map(Bytes::len).sum();
    let lines =
        format!("Content-Type: multipart/byteranges; boundary={boundary}\r\nContent-Length: {length}\r\n");
    output.extend_from_slice(lines.as_bytes());
    parts
}

fn content_range(entry: &Entry, range: &Range<usize>) -> String {
    format!("Content-Range: bytes {}-{}/{}\r\n", range.start, range.end - 1, entry.body().len())
}

/// What of a hit's head is not prepared.
fn end_hit(output: &mut Vec<u8>, entry: &Entry, now: Moment, status: &CacheStatus, close: bool) {
    output.extend_from_slice(b"Age: ");
    push_number(output, entry.age_seconds(now));
    output.extend_from_slice(b"\r\n");
    end_head(output, status, close);
}

fn push_number(output: &mut Vec<u8>, number: u64) {
    output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// What the client's request means for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) head_only: bool,
    pub(super) version_11: bool,
    /// The connection ends after this answer anyway.
    pub(super) close: bool,
    /// When the head was there.
    pub(super) arrived: Instant,
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
pub(super) fn not_modified(output: &mut Vec<u8>, answer: &Answer, status: &CacheStatus, close: bool) {
    output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    let lines = answer.block.split_inclusive(|byte| *byte == b'\n').skip(1);
    let wanted = lines.filter(|line| conditional::belongs_on_not_modified(line));
    wanted.for_each(|line| output.extend_from_slice(line));
    push_age(output, answer.age);
    end_head(output, status, close);
}

fn push_age(output: &mut Vec<u8>, age: Option<u64>) {
    if let Some(age) = age {
        output.extend_from_slice(b"Age: ");
        push_number(output, age);
        output.extend_from_slice(b"\r\n");
    }
}

fn end_head(output: &mut Vec<u8>, status: &CacheStatus, close: bool) {
    status.write_line(output);
    output.extend_from_slice(if close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
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
    terms: Terms,
) -> io::Result<Delivered> {
    // An answer that has ended already has a length, whatever the node said.
    let length = reader.whole_length().map(|length| length as u64).or(answer.length);
    let delimited = match length {
        _ if !answer.may_have_body() => Delimited::Empty,
        Some(_) => Delimited::Length,
        None if terms.version_11 => Delimited::Chunked,
        None => Delimited::Close,
    };
    let close = terms.close || delimited == Delimited::Close && !terms.head_only;
    let output = &mut connection.output;
    output.extend_from_slice(&answer.block);
    push_age(output, answer.age);
    match (delimited, length) {
        (Delimited::Length, Some(length)) => {
            // A node that answers HEAD says the length that GET would have; the body's own length is none.
            let length = if terms.head_only { answer.length.unwrap_or(length) } else { length };
            output.extend_from_slice(b"Content-Length: ");
            push_number(output, length);
            output.extend_from_slice(b"\r\n");
        }
        (Delimited::Chunked, _) => output.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (Delimited::Empty | Delimited::Close | Delimited::Length, _) => {}
    }
    end_head(output, status, close);
    if terms.head_only || delimited == Delimited::Empty {
        connection.flush().await?;
        return Ok(Delivered { body_bytes: 0, close, broken: false });
    }

    let mut body_bytes = 0;
    let mut parts = Vec::new();
    loop {
        parts.clear();
        let more = match reader.read(&mut parts, STEP_BYTES).await {
            Ok(more) => more,
            Err(_) => {
                // Ending the connection without the end of the body is how HTTP/1 says that it is not whole.
                connection.flush().await?;
                return Ok(Delivered { body_bytes, close: true, broken: true });
            }
        };
        if !more {
            break;
        }
        let step: usize = parts.iter().map(Bytes::len).sum();
        body_bytes += step as u64;
        if delimited == Delimited::Chunked {
            let output = &mut connection.output;
            output.extend_from_slice(format!("{step:x}\r\n").as_bytes());
            parts.push(Bytes::from_static(b"\r\n"));
        }
        if step <= COPY_UP_TO {
            parts.iter().for_each(|part| connection.output.extend_from_slice(part));
            // The end may be there already, and then goes out in the same write.
            if reader.whole_length().is_none() {
                connection.flush().await?;
            }
        } else {
            connection.flush_with(&parts).await?;
        }
    }
    if delimited == Delimited::Chunked {
        connection.output.extend_from_slice(b"0\r\n\r\n");
    }
    connection.flush().await?;
    let broken = delimited == Delimited::Length && length != Some(body_bytes);
    Ok(Delivered { body_bytes, close: close || broken, broken })
}
