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
    gate: Arc<Gate>,
}

impl Wire {
    pub(super) fn new(stream: Stream, before: BytesMut, gate: Arc<Gate>) -> Self {
        Self { stream, before, output: Vec::new(), written: 0, gate }
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
            this.before.advance(count);
            return Poll::Ready(Ok(()));
        }
        if !this.gate.gathers.load(Relaxed) {
            // The same poll of the task has read already until nothing was left, and is woken by what comes.
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
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
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        ready!(self.poll_room(length, context))?;
        parts.iter().for_each(|part| self.output.extend_from_slice(part));
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
