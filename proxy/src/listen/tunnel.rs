//! Bytes both ways between a client and a node that have agreed on another protocol.
//!
//! Nothing is looked at and nothing gathered: what one side sends is offered to the other at once, and as long as that takes
//! nothing, no more is read. So a tunnel holds at most [`ROOM`] bytes a way, and none while it rests.
//!
//! It ends when both sides have said that they are through, when one breaks off, when nothing goes either way for
//! [`Limits::idle`], or when one takes nothing of what it is sent for [`Limits::write`]. Where only one side is through, the
//! other has no more than [`HALF_CLOSED`] between two pieces: most of those whose client has gone never notice.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use crate::admin::{Counters, Limit, Towards};

/// Bytes that are read at a time. A WebSocket frame of a chat is far smaller, a TLS record as large.
const ROOM: usize = 16 * 1024;

/// Reads of one way before the other gets its turn.
const TURN: usize = 16;

/// How long a tunnel may rest of which one side is through; nginx and HAProxy leave that to their usual limits.
const HALF_CLOSED: Duration = Duration::from_secs(30);

thread_local! {
    /// What is read goes on at once, nearly always whole, so one room is enough for all tunnels of a thread.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

/// How long a tunnel may do nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Nothing goes either way.
    pub(super) idle: Duration,
    /// One side takes nothing of what it is sent.
    pub(super) write: Duration,
}

/// What came of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// Bytes that the client got.
    pub(super) to_client: u64,
    /// The client broke off, or takes nothing.
    pub(super) client_gone: bool,
}

/// Why a way stopped.
enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

/// One way.
struct Way {
    towards: Towards,
    /// Read, and not yet taken.
    waiting: BytesMut,
    /// Since when the taker has taken nothing of what waits.
    blocked: Option<Instant>,
    bytes: u64,
    /// Something is written that may stand in a buffer of the taker's.
    unflushed: bool,
    /// The giver is through.
    ended: bool,
    /// The taker was told so.
    finished: bool,
}

impl Way {
    fn new(towards: Towards, waiting: BytesMut) -> Self {
        Self { towards, waiting, blocked: None, bytes: 0, unflushed: false, ended: false, finished: false }
    }

    /// Moves what can be moved. Ready when all has been, or can be no more.
    fn poll<F: AsyncRead + Unpin, T: AsyncWrite + Unpin>(
        &mut self,
        from: &mut F,
        to: &mut T,
        counters: &Counters,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        let mut turns = 0;
        loop {
            while !self.waiting.is_empty() {
                match Pin::new(&mut *to).poll_write(context, &self.waiting) {
                    Poll::Ready(written) => {
                        let count = self.written(written, counters)?;
                        self.waiting.advance(count);
                    }
                    Poll::Pending => {
                        self.blocked.get_or_insert_with(Instant::now);
                        return Poll::Pending;
                    }
                }
            }
            self.blocked = None;
            if self.waiting.capacity() > 0 {
                self.waiting = BytesMut::new();
            }
            if self.ended {
                if !self.finished {
                    ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(Stopped::Writing)?;
                    self.finished = true;
                }
                return Poll::Ready(Ok(()));
            }
            if turns == TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns += 1;
            if self.poll_piece(from, to, counters, context)?.is_pending() {
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(context)).map_err(Stopped::Writing)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
    }

    /// Reads once, and offers that to the taker.
    fn poll_piece<F: AsyncRead + Unpin, T: AsyncWrite + Unpin>(
        &mut self,
        from: &mut F,
        to: &mut T,
        counters: &Counters,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        READ.with_borrow_mut(|room| {
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(from).poll_read(context, &mut room)).map_err(Stopped::Reading)?;
            let piece = room.filled();
            if piece.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let taken = match Pin::new(to).poll_write(context, piece) {
                Poll::Ready(written) => self.written(written, counters)?,
                Poll::Pending => 0,
            };
            self.waiting.extend_from_slice(&piece[taken..]);
            Poll::Ready(Ok(()))
        })
    }

    fn written(&mut self, written: io::Result<usize>, counters: &Counters) -> Result<usize, Stopped> {
        match written {
            Ok(0) => Err(Stopped::Writing(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.blocked = None;
                self.unflushed = true;
                self.bytes += count as u64;
                counters.tunnelled(self.towards, count as u64);
                Ok(count)
            }
            Err(error) => Err(Stopped::Writing(error)),
        }
    }
}

/// Carries bytes between `client` and `node` until the tunnel ends. `before` is what was read of each already: of the client
/// for the node, and of the node for the client.
pub(super) async fn relay<C, N>(
    client: &mut C,
    node: &mut N,
    before: (BytesMut, BytesMut),
    limits: Limits,
    counters: &Counters,
) -> Carried
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Way::new(Towards::Node, before.0);
    let mut down = Way::new(Towards::Client, before.1);
    let mut deadline = Deadline::after(limits.idle);
    let (mut moved_at, mut moved) = (Instant::now(), 0);
    let client_gone = poll_fn(|context| {
        let down_over = down.poll(node, client, counters, context);
        let up_over = up.poll(client, node, counters, context);
        match (&down_over, &up_over) {
            (Poll::Ready(Err(Stopped::Writing(error))), _)
            | (_, Poll::Ready(Err(Stopped::Reading(error)))) => {
                tracing::debug!(%error, "the client of a tunnel broke off");
                return Poll::Ready(true);
            }
            (Poll::Ready(Err(Stopped::Reading(error))), _)
            | (_, Poll::Ready(Err(Stopped::Writing(error)))) => {
                tracing::debug!(%error, "the node of a tunnel broke off");
                return Poll::Ready(false);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(false),
            _ => {}
        }
        // Read again only where something happened: a tunnel is mostly woken for that.
        let so_far = up.bytes + down.bytes + u64::from(up.ended) + u64::from(down.ended);
        if so_far != moved {
            (moved_at, moved) = (Instant::now(), so_far);
        }
        let idle = if up.finished || down.finished { limits.idle.min(HALF_CLOSED) } else { limits.idle };
        loop {
            let blocked = [up.blocked, down.blocked].into_iter().flatten().map(|since| since + limits.write);
            deadline.set(blocked.fold(moved_at + idle, Instant::min));
            ready!(deadline.poll_passed(context));
            let now = Instant::now();
            let late = |way: &Way| way.blocked.is_some_and(|since| since + limits.write <= now);
            if late(&up) || late(&down) {
                counters.limit(Limit::WriteTimeout);
                return Poll::Ready(late(&down));
            }
            if moved_at + idle <= now {
                counters.limit(Limit::TunnelTimeout);
                return Poll::Ready(false);
            }
        }
    })
    .await;
    Carried { to_client: down.bytes, client_gone }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    const LIMITS: Limits = Limits { idle: Duration::from_secs(3600), write: Duration::from_secs(60) };

    /// The client's and the node's end of a tunnel with buffers of 1 KiB, and the tunnel.
    fn tunnel(before: (&[u8], &[u8])) -> (DuplexStream, DuplexStream, JoinHandle<(Carried, u64)>) {
        let ((client, mut ours), (mut theirs, node)) = (duplex(1024), duplex(1024));
        let before = (BytesMut::from(before.0), BytesMut::from(before.1));
        let carrying = tokio::spawn(async move {
            let counters = Counters::new();
            let carried = relay(&mut ours, &mut theirs, before, LIMITS, &counters).await;
            (carried, counters.totals().limit(Limit::TunnelTimeout))
        });
        (client, node, carrying)
    }

    async fn read(stream: &mut DuplexStream, count: usize) -> String {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_each_side_ends_for_itself() {
        let (mut client, mut node, carrying) = tunnel((b"early ", b"hello "));
        client.write_all(b"ping").await.unwrap();
        node.write_all(b"pong").await.unwrap();
        assert_eq!(read(&mut node, 10).await, "early ping");
        assert_eq!(read(&mut client, 10).await, "hello pong");
        client.shutdown().await.unwrap();
        assert_eq!(node.read(&mut [0]).await.unwrap(), 0, "the node hears that the client is through");
        node.write_all(b"and more").await.unwrap();
        assert_eq!(read(&mut client, 8).await, "and more");
        node.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let (carried, _) = carrying.await.unwrap();
        assert_eq!((carried.to_client, carried.client_gone), (18, false));
    }

    #[tokio::test]
    async fn much_goes_both_ways_at_once() {
        let (client, node, carrying) = tunnel((b"", b""));
        let mut work = Vec::new();
        for (stream, byte) in [(client, b'c'), (node, b'n')] {
            let (mut read, mut write) = tokio::io::split(stream);
            work.push(tokio::spawn(async move {
                write.write_all(&vec![byte; 3_000_000]).await.unwrap();
                write.shutdown().await.unwrap();
                0
            }));
            work.push(tokio::spawn(async move {
                let mut bytes = Vec::new();
                read.read_to_end(&mut bytes).await.unwrap();
                assert!(bytes.iter().all(|got| *got != byte));
                bytes.len()
            }));
        }
        let mut taken = 0;
        for task in work {
            taken += task.await.unwrap();
        }
        assert_eq!(taken, 6_000_000);
        assert_eq!(carrying.await.unwrap().0.to_client, 3_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_rests_ends() {
        let start = Instant::now();
        let (mut client, mut node, carrying) = tunnel((b"", b""));
        tokio::time::sleep(Duration::from_secs(3000)).await;
        client.write_all(b"ping").await.unwrap();
        assert_eq!(read(&mut node, 4).await, "ping");
        let (carried, counted) = carrying.await.unwrap();
        assert_eq!((carried.client_gone, counted), (false, 1));
        assert_eq!(start.elapsed().as_secs(), 6600);
        // One side that is through shortens it.
        let start = Instant::now();
        let (mut client, _node, carrying) = tunnel((b"", b""));
        client.shutdown().await.unwrap();
        assert_eq!(carrying.await.unwrap().1, 1);
        assert_eq!(start.elapsed(), HALF_CLOSED);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for() {
        let start = Instant::now();
        let (_client, mut node, carrying) = tunnel((b"", b""));
        let sending = tokio::spawn(async move { node.write_all(&[b'x'; 1_000_000]).await });
        assert!(carrying.await.unwrap().0.client_gone);
        assert_eq!(start.elapsed().as_secs(), 60);
        assert!(sending.await.unwrap().is_err(), "the rest was never taken in");
    }
}
