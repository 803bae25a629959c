//! Parts of answers that are still on their way, as HTTP/1 bytes.

use std::io;

use super::answer::{self, Delivered, Terms};
use super::connection::Connection;
use crate::front::cold_range::Cut;
use crate::front::context::delivery;
use crate::front::outcome::Streaming;

/// Writes what a client gets of an answer. Returns the status that it sees.
///
/// # Errors
///
/// The client is gone or too slow.
pub(super) async fn stream(
    connection: &mut Connection,
    streaming: Streaming,
    terms: Terms,
) -> io::Result<(u16, Delivered)> {
    let Streaming { answer, mut reader, cut, result: _, status, cache_control } = streaming;
    let (answer, status) = (&*answer, &status);
    let head = &*delivery::head(&answer.block, cache_control);
    let close = terms.close;
    match &cut {
        Cut::Whole => {
            let delivered = answer::stream(connection, answer, reader, status, cache_control, terms).await?;
            Ok((answer.status.as_u16(), delivered))
        }
        Cut::One { range, length } => {
            answer::one_range(&mut connection.output, head, range, *length);
            answer::push_age(&mut connection.output, answer.age);
            answer::end_head(&mut connection.output, status, close);
            let (body_bytes, whole) =
                answer::body(connection, &mut reader, false, terms, &answer.trailers).await?;
            let broken = !whole || body_bytes != range.end - range.start;
            Ok((206, Delivered { body_bytes, close: close || broken, broken }))
        }
        Cut::Several { ranges, body } => {
            drop(reader);
            let parts = answer::several_ranges(&mut connection.output, head, body, ranges);
            answer::push_age(&mut connection.output, answer.age);
            answer::end_head(&mut connection.output, status, close);
            let body_bytes = answer::send(connection, &parts).await?;
            Ok((206, Delivered { body_bytes, close, broken: false }))
        }
        Cut::Unsatisfiable { length } => {
            drop(reader);
            answer::unsatisfiable(&mut connection.output, head, *length);
            answer::end_head(&mut connection.output, status, close);
            Ok((416, Delivered { body_bytes: 0, close, broken: false }))
        }
    }
}
