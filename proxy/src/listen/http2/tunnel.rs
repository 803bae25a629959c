//! WebSocket over one stream of HTTP/2 (RFC 8441): its DATA as the client's end of a tunnel.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fields;
use super::respond::{Answering, Gone};
use crate::access::Sent;
use crate::fetch::{FetchError, Interim};
use crate::front::Front;
use crate::front::cache_status::Forwarded;
use crate::front::outcome::{Outcome, Tunnel};
use crate::listen::answer;
use crate::listen::tunnel::{Limits, relay};
use crate::respond::Local;

/// A stream whose bytes are another protocol's.
struct Client {
    send: SendStream<Bytes>,
    body: RecvStream,
    /// Received and not yet read.
    rest: Bytes,
    /// We are through.
    ended: bool,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.body.poll_data(context)) {
                Some(piece) => self.rest = piece.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let piece = {
            let count = self.rest.len().min(room.remaining());
            self.rest.split_to(count)
        };
        room.put_slice(&piece);
        // Only now may the client send as much again. An error means that the stream is over, which the next read finds.
        let _ = self.body.flow_control().release_capacity(piece.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send.reserve_capacity(bytes.len());
        let mut room = self.send.capacity();
        while room == 0 {
            room = match ready!(self.send.poll_capacity(context)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = room.min(bytes.len());
        let piece = Bytes::copy_from_slice(&bytes[..count]);
        self.send.send_data(piece, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own loop writes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl Answering<'_> {
    /// Waits for the node's word on another protocol, and carries that if it agrees. `body` is what the client says by it.
    pub(super) async fn tunnel(
        &mut self,
        front: &Arc<Front>,
        interim: &Interim,
        outcome: impl Future<Output = Outcome>,
        body: RecvStream,
        limits: Limits,
    ) -> Result<(), Gone> {
        let tunnel = match self.until_known(interim, outcome).await? {
            Outcome::Tunnel(tunnel) => *tunnel,
            // To this client any 2xx would say that there is a tunnel (RFC 9110 section 9.3.6).
            Outcome::Streaming(streaming) if streaming.answer.status.is_success() => {
                let forwarded = Forwarded::new(streaming.answer.forward);
                let forwarded = Forwarded { status: Some(streaming.answer.status.as_u16()), ..forwarded };
                return self.local(&Local::failure(FetchError::Broken, forwarded), streaming.result);
            }
            other => return self.conclude(front, other).await,
        };
        let Tunnel { answer, mut opened, result, status } = tunnel;
        let mut block = answer.block.to_vec();
        answer::end_head(&mut block, &status, false);
        let mut head = fields::response(&block.into());
        *head.status_mut() = StatusCode::OK;
        let counters = &front.counters;
        // Before the client can know of it.
        let open = counters.tunnel();
        let send = self.respond.send_response(head, false)?;
        let mut client = Client { send, body, rest: Bytes::new(), ended: false };
        let before = (bytes::BytesMut::new(), opened.link.input.split());
        let carried = relay(&mut client, &mut opened.link, before, limits, counters).await;
        drop(open);
        if !client.ended {
            // As a broken connection is told (RFC 8441 section 5).
            client.send.send_reset(Reason::CANCEL);
        }
        let node = Some(&**opened.lease.node().name());
        self.over(Sent { result, status: 200, bytes: carried.to_client, node });
        Ok(())
    }
}
