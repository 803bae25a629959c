//! The connection underneath HTTP/2: bytes that were read before, and answers gathered into few writes.
//!
//! The `h2` crate writes after every frame of a body and before every request that it gives out. With many answers ready
//! at once that would be a system call for each; so what it writes is gathered here, and goes out when the loop of
//! the connection says so ([`Gate`]): when there is nothing left to be answered. A write that gets no further shows in
//! the gate, for the loop to end the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::calm::Calm;

/// Bytes that are gathered at most before they are written.
const GATHER_BYTES: usize = 64 * 1024;

/// Bytes of the buffer that are kept while there is nothing to write.
const KEEP_BYTES: usize = 4096;

/// What the loop of a connection and the wire under it tell each other. Both are polled by the same task, never at the same
/// time: it is shared only because the `h2` crate owns the wire.
#[derive(Debug, Default)]
pub(super) struct Gate {
    gathers: AtomicBool,
    holds: AtomicBool,
    progressed: AtomicBool,
    floods: AtomicBool,
}

impl Gate {
    /// From now on what is written is gathered (`true`), or goes out (`false`) and nothing is read.
    pub(super) fn gather(&self, gathers: bool) {
        self.gathers.store(gathers, Relaxed);
    }

    /// Whether the client has not taken yet what is written.
    pub(super) fn holds_output(&self) -> bool {
        self.holds.load(Relaxed)
    }

    /// Whether the client sends far more than requests and bodies. Nothing more is read of it then.
    pub(super) fn is_flooded(&self) -> bool {
        self.floods.load(Relaxed)
    }

    /// Whether the client has taken something since this was asked last.
    pub(super) fn take_progress(&self) -> bool {
        self.progressed.swap(false, Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Read from the connection and not yet given out.
    before: BytesMut,
    output: Vec<u8>,
    /// So much of it is written.
    written: usize,
    calm: Calm,
    gate: Arc<Gate>,
}

impl Wire {
    pub(super) fn new(stream: Stream, before: BytesMut, gate: Arc<Gate>) -> Self {
        Self { stream, before, output: Vec::new(), written: 0, calm: Calm::new(), gate }
    }

    /// Writes what is gathered.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let bytes = &self.output[self.written..];
            match Pin::new(&mut self.stream).poll_write(context, bytes)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.written += count;
                    self.gate.progressed.store(true, Relaxed);
                }
                Poll::Pending => {
                    self.gate.holds.store(true, Relaxed);
                    return Poll::Pending;
                }
            }
        }
        self.output.clear();
        self.written = 0;
        self.gate.holds.store(false, Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Waits until there is room for so many bytes.
    fn poll_room(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.len() + bytes > GATHER_BYTES { self.poll_drain(context) } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.before.is_empty() {
            let count = buffer.remaining().min(this.before.len());
            buffer.put_slice(&this.before[..count]);
            let _ = this.calm.received(&this.before[..count]);
            this.before.advance(count);
            return Poll::Ready(Ok(()));
        }
        if !this.gate.gathers.load(Relaxed) || this.gate.is_flooded() {
            // The same poll of the task has read already until nothing was left, and is woken by what comes.
            return Poll::Pending;
        }
        let already = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if polled.is_ready() && !this.calm.received(&buffer.filled()[already..]) {
            this.gate.floods.store(true, Relaxed);
        }
        if polled.is_pending() && this.output.is_empty() && this.output.capacity() > KEEP_BYTES {
            this.output = Vec::new();
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(bytes.len(), context))?;
        self.output.extend_from_slice(bytes);
        self.calm.sent(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        ready!(self.poll_room(length, context))?;
        for part in parts {
            self.output.extend_from_slice(part);
            self.calm.sent(part);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.gathers.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn wire(before: &[u8]) -> (Wire, Arc<Gate>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1000);
        let gate = Arc::new(Gate::default());
        gate.gather(true);
        (Wire::new(Box::new(ours), BytesMut::from(before), gate.clone()), gate, theirs)
    }

    #[tokio::test]
    async fn what_is_gathered_goes_out_when_the_gate_opens() {
        let (mut wire, gate, mut client) = wire(b"");
        for _ in 0..3 {
            wire.write_all(b"frame").await.unwrap();
            wire.flush().await.unwrap();
        }
        assert!(client.read(&mut [0; 100]).now_or_never().is_none(), "nothing is written yet");
        gate.gather(false);
        wire.flush().await.unwrap();
        let mut seen = [0; 15];
        client.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"frameframeframe");
        assert!(gate.take_progress() && !gate.holds_output());
        assert!(!gate.take_progress());
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_shows_in_the_gate() {
        let (mut wire, gate, mut client) = wire(b"");
        // The gate is shut: no more than its room is taken.
        for _ in 0..GATHER_BYTES / 1024 {
            wire.write_all(&[b'x'; 1024]).await.unwrap();
        }
        assert!(!gate.holds_output());
        assert!(wire.write_all(&[b'x'; 1024]).now_or_never().is_none());
        assert!(gate.holds_output());
        gate.gather(false);
        let draining = tokio::spawn(async move {
            wire.flush().await.unwrap();
            wire
        });
        client.read_exact(&mut vec![0; GATHER_BYTES]).await.unwrap();
        let _wire = draining.await.unwrap();
        assert!(!gate.holds_output());
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut wire, gate, mut client) = wire(b"pre");
        client.write_all(b"face").await.unwrap();
        let mut seen = [0; 7];
        wire.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"preface");
        gate.gather(false);
        client.write_all(b"more").await.unwrap();
        let mut room = [0; 4];
        let mut room = ReadBuf::new(&mut room);
        let polled = poll_fn(|context| Poll::Ready(Pin::new(&mut wire).poll_read(context, &mut room))).await;
        assert!(polled.is_pending(), "nothing is read while what is gathered goes out");
    }

    /// One poll of a future.
    trait NowOrNever: Future + Sized {
        fn now_or_never(self) -> Option<Self::Output> {
            let mut future = std::pin::pin!(self);
            match future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }

    impl<F: Future> NowOrNever for F {}
}
