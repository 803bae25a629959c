//! Answers as HTTP/1 bytes: a hit from its prepared head, and a body that is still on its way.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use clearcoat_cache::{Entry, Moment};

use super::connection::{COPY_UP_TO, Connection};
use crate::fetch::{Answer, Reader};
use crate::front::conditional;

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

/// Appends a hit; the body goes out at once when it is large. Returns how many bytes of body were sent.
pub(super) async fn write_hit(
    connection: &mut Connection,
    entry: &Entry,
    now: Moment,
    head_only: bool,
    close: bool,
) -> io::Result<u64> {
    let output = &mut connection.output;
    output.extend_from_slice(entry.head());
    end_hit(output, entry, now, close);
    let body = entry.body();
    if head_only || body.is_empty() {
        return Ok(0);
    }
    if body.len() <= COPY_UP_TO {
        output.extend_from_slice(body);
    } else {
        connection.flush_with(std::slice::from_ref(body)).await?;
    }
    Ok(body.len() as u64)
}

/// Appends a 304 for an entry that the client has.
pub(super) fn write_not_modified(output: &mut Vec<u8>, entry: &Entry, now: Moment, close: bool) {
    output.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    for line in entry.head().split_inclusive(|byte| *byte == b'\n').skip(1) {
        if conditional::belongs_on_not_modified(line) {
            output.extend_from_slice(line);
        }
    }
    end_hit(output, entry, now, close);
}

/// What of a hit's head is not prepared.
fn end_hit(output: &mut Vec<u8>, entry: &Entry, now: Moment, close: bool) {
    output.extend_from_slice(b"Age: ");
    push_number(output, entry.age_seconds(now));
    output.extend_from_slice(b"\r\nCache-Status: clearcoat; hit; ttl=");
    let left = entry.ttl_left(now);
    if left < 0 {
        output.push(b'-');
    }
    push_number(output, left.unsigned_abs());
    output.extend_from_slice(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
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

/// Writes an answer whose body is still coming, as it comes.
///
/// # Errors
///
/// The client is gone or too slow.
pub(super) async fn stream(
    connection: &mut Connection,
    answer: &Answer,
    mut reader: Reader,
    cache_status: &str,
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
    if let Some(age) = answer.age {
        output.extend_from_slice(b"Age: ");
        push_number(output, age);
        output.extend_from_slice(b"\r\n");
    }
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
    output.extend_from_slice(b"Cache-Status: clearcoat; ");
    output.extend_from_slice(cache_status.as_bytes());
    output.extend_from_slice(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
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
