//! Pages that are put together, as HTTP/1 bytes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::answer::{self, Delivered, Terms};
use super::connection::Connection;
use crate::esi::Serving;
use crate::front::Front;

/// Bytes of a page that are taken and written in one step.
const STEP_BYTES: usize = 64 * 1024;

/// Writes a page: at once, with its length, where all of it is there; else as its pieces come.
///
/// # Errors
///
/// The client is gone or too slow.
pub(super) async fn write(
    connection: &mut Connection,
    front: &Arc<Front>,
    mut serving: Serving,
    terms: Terms,
) -> io::Result<Delivered> {
    let output = &mut connection.output;
    serving.push_head(output);
    answer::push_age(output, serving.age);
    if terms.head_only {
        // Its length is not known: a GET would have put it together.
        answer::end_head(output, &serving.status, terms.close);
        return Ok(Delivered { body_bytes: 0, close: terms.close, broken: false });
    }
    if serving.page.is_whole() {
        answer::push_length(output, serving.page.bytes());
        answer::end_head(output, &serving.status, terms.close);
        let body_bytes = answer::send(connection, serving.page.pieces()).await?;
        return Ok(Delivered { body_bytes, close: terms.close, broken: false });
    }
    // From here on the fetches run, while what is there already goes out.
    let mut body = serving.start(front);
    let chunked = terms.version_11;
    let close = terms.close || !chunked;
    if chunked {
        output.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    answer::end_head(output, &serving.status, close);
    let mut body_bytes = 0;
    let mut parts: Vec<Bytes> = Vec::new();
    loop {
        parts.clear();
        // What is there goes out before anything is waited for.
        if body.has_to_wait() {
            connection.flush().await?;
        }
        let reading = body.read(&mut parts, STEP_BYTES);
        match connection.while_there(terms.read_ahead, reading).await {
            Some(true) => {}
            Some(false) => break,
            None => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        body_bytes += answer::send_step(connection, &mut parts, chunked).await?;
        if connection.output_is_full() {
            connection.flush().await?;
        }
    }
    answer::end_body(connection, chunked).await?;
    Ok(Delivered { body_bytes, close, broken: false })
}
