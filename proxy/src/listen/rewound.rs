//! A connection handed to pingora with the bytes put back that were read from it already, and taken back afterwards.
//!
//! Pingora reads ahead and would swallow a pipelined request behind the one it is given. So it sees no more than a
//! *window*: the head and the body of that request, as long as Content-Length says or until its last chunk. Bytes
//! behind it are kept for the lane. An upgrade has no end; it gets an open window, and the connection ends with it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{ALPN, Shutdown, SocketDigest, Ssl, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::chunks::ChunkScan;
use super::layer::tell_of_below;
use super::pace::{Minded, Patience, TooSlow, acknowledged};
use crate::admin::{Counters, Limit};

/// Bytes of requests behind the current one that are kept while it is served; past it the client has to wait.
const READ_AHEAD: usize = 16 * 1024;

/// Bytes of a chunked body that are read in one go.
const CHUNKS_AT_ONCE: usize = 16 * 1024;

/// How much of what follows belongs to the request that is handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Window {
    /// So many bytes, the head included.
    Bytes(u64),
    /// So many bytes of head, and the chunked body behind it.
    Chunked(u64, ChunkScan),
    /// Everything until the connection ends.
    Open,
}

impl Window {
    /// Whether the whole request has been given out.
    fn is_over(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunked(head, scan) => *head == 0 && scan.is_done(),
            Self::Open => false,
        }
    }
}

/// How slow a client may be on the pass road.
#[derive(Clone)]
pub(crate) struct PassedPace {
    pub(crate) body: Patience,
    pub(crate) answer: Patience,
    /// Who is slower is counted.
    pub(crate) counters: Arc<Counters>,
}

/// Minds both ways of one request.
struct Minds {
    body: Minded,
    answer: Minded,
    socket: Option<Arc<SocketDigest>>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Minds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Minds").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Rewound {
    inner: Stream,
    /// Read from the connection and not yet given out.
    before: BytesMut,
    window: Window,
    /// The client has sent its last byte.
    ended: bool,
    /// `None` where there is no request and no answer but a conversation.
    minds: Option<Minds>,
}

impl Rewound {
    pub(crate) fn new(inner: Stream, before: BytesMut, window: Window, pace: PassedPace) -> Self {
        let PassedPace { body, answer, counters } = pace;
        // Who speaks over a WebSocket may be as slow as they like.
        let minds = (window != Window::Open).then(|| Minds {
            body: Minded::new(body),
            answer: Minded::new(answer),
            socket: inner.get_socket_digest(),
            counters,
        });
        Self { inner, before, window, ended: false, minds }
    }

    fn mind_answer(
        &mut self,
        written: Poll<std::io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let Some(minds) = &mut self.minds else { return written };
        match written {
            Poll::Ready(Ok(bytes)) => minds.answer.moved(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let socket = || acknowledged(minds.socket.as_deref());
                let slow = ready!(minds.answer.poll_too_slow(socket, context));
                minds.counters.limit(match slow {
                    TooSlow::Silent => Limit::WriteTimeout,
                    TooSlow::Slow => Limit::ResponseRate,
                });
                return Poll::Ready(Err(slow.into()));
            }
        }
        written
    }

    /// The connection and the bytes behind the request; `None` when the request was not read to its end, so that
    /// nobody knows where the next one starts.
    pub(crate) fn into_rest(self) -> Option<(Stream, BytesMut)> {
        (self.window.is_over() && !self.ended).then_some((self.inner, self.before))
    }

    /// The head is read: gives out the chunked body as far as its framing is sound.
    fn poll_chunks(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.before.is_empty() {
            // Not straight into the reader's buffer: a next request may follow in the same piece.
            self.before.reserve(CHUNKS_AT_ONCE);
            let count = ready!(std::pin::pin!(self.inner.read_buf(&mut self.before)).poll(context))?;
            self.ended |= count == 0;
        }
        let Window::Chunked(_, scan) = &mut self.window else { return Poll::Ready(Ok(())) };
        let most = self.before.len().min(buffer.remaining());
        let count = scan.advance(&self.before[..most]).map_err(std::io::Error::other)?;
        buffer.put_slice(&self.before[..count]);
        self.before.advance(count);
        Poll::Ready(Ok(()))
    }

    /// The request is read. Only the end of the connection is of interest now; what comes is kept.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while self.before.len() < READ_AHEAD {
            let mut room = [0; 2048];
            let mut buffer = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            self.before.extend_from_slice(buffer.filled());
        }
        // Not woken from here; the other branches of whoever polls this go on.
        Poll::Pending
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.window.is_over() {
            return self.poll_end(context);
        }
        let before = buffer.filled().len();
        let read = self.poll_request(context, buffer);
        let Some(minds) = &mut self.minds else { return read };
        match read {
            Poll::Ready(Ok(())) => minds.body.moved(buffer.filled().len() - before),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let slow = ready!(minds.body.poll_too_slow(|| None, context));
                minds.counters.limit(match slow {
                    TooSlow::Silent => Limit::BodyTimeout,
                    TooSlow::Slow => Limit::BodyRate,
                });
                return Poll::Ready(Err(slow.into()));
            }
        }
        read
    }
}

impl Rewound {
    /// Gives out what is still to come of the request.
    fn poll_request(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self;
        let limit = match this.window {
            Window::Chunked(0, _) => return this.poll_chunks(context, buffer),
            Window::Bytes(bytes) | Window::Chunked(bytes, _) => {
                buffer.remaining().min(usize::try_from(bytes).unwrap_or(usize::MAX))
            }
            Window::Open => buffer.remaining(),
        };
        let count = if !this.before.is_empty() {
            let count = limit.min(this.before.len());
            buffer.put_slice(&this.before[..count]);
            this.before.advance(count);
            count
        } else if limit == buffer.remaining() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
            buffer.filled().len() - before
        } else {
            // The end of the window is nearer than that of the buffer. What a part of it has taken in can only be
            // claimed safely for memory that is initialised first.
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit));
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut part))?;
            let count = part.filled().len();
            buffer.advance(count);
            count
        };
        this.ended |= count == 0 && limit > 0;
        match &mut this.window {
            Window::Bytes(left) | Window::Chunked(left, _) => *left -= count as u64,
            Window::Open => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.mind_answer(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.mind_answer(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Rewound {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl Ssl for Rewound {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

tell_of_below!(Rewound, inner);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::io::AsyncWriteExt;

    fn rewound(before: &[u8], window: Window) -> (Rewound, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1024);
        let patience = Patience { silence: std::time::Duration::from_secs(60), rate: 240 };
        let pace = PassedPace { body: patience, answer: patience, counters: Counters::new() };
        (Rewound::new(Box::new(ours), BytesMut::from(before), window, pace), theirs)
    }

    #[tokio::test]
    async fn a_window_ends_where_the_request_does() {
        let (mut stream, mut client) = rewound(b"head+bo", Window::Bytes(9));
        client.write_all(b"dyGET /next").await.unwrap();
        let mut request = [0; 9];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"head+body");
        // Watching for the end keeps what comes behind.
        let watch =
            tokio::time::timeout(std::time::Duration::from_millis(50), stream.read(&mut request)).await;
        assert!(watch.is_err(), "the next request is not given out");
        let (_, rest) = stream.into_rest().unwrap();
        assert_eq!(&rest[..], b"GET /next");
    }

    #[tokio::test]
    async fn a_chunked_body_ends_the_window_with_its_last_chunk() {
        let window = || Window::Chunked(4, ChunkScan::new());
        let (mut stream, mut client) = rewound(b"head3\r\nab", window());
        client.write_all(b"c\r\n0\r\n\r\nGET /next").await.unwrap();
        let mut request = vec![0; 17];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, b"head3\r\nabc\r\n0\r\n\r\n"[..]);
        let (_, rest) = stream.into_rest().unwrap();
        assert_eq!(&rest[..], b"GET /next");

        let (mut stream, _client) = rewound(b"head;x\r\n", window());
        let mut request = Vec::new();
        assert!(stream.read_to_end(&mut request).await.is_err());
        assert_eq!(request, b"head");
    }

    #[tokio::test]
    async fn a_request_that_was_not_read_to_its_end_leaves_no_connection() {
        let (mut stream, _client) = rewound(b"head+bo", Window::Bytes(9));
        let mut request = [0; 7];
        stream.read_exact(&mut request).await.unwrap();
        assert!(stream.into_rest().is_none());
    }

    #[tokio::test]
    async fn a_long_body_is_read_through_buffers_of_any_size() {
        for size in [1, 7, 1000, 100_000] {
            let (mut stream, mut client) = rewound(b"head", Window::Bytes(50_004));
            let sending = tokio::spawn(async move {
                client.write_all(&[b'x'; 50_000]).await.unwrap();
                client.write_all(b"GET /next").await.unwrap();
                client
            });
            let mut read = 0;
            while read < 50_004 {
                let mut room = Vec::with_capacity(size);
                let count = stream.read_buf(&mut room).await.unwrap();
                assert!((1..=size).contains(&count), "{count} of {size}");
                read += count;
            }
            assert_eq!(read, 50_004);
            let _client = sending.await.unwrap();
            assert!(stream.into_rest().is_some());
        }
    }

    #[tokio::test]
    async fn the_end_of_the_connection_is_told() {
        let (mut stream, client) = rewound(b"", Window::Bytes(0));
        drop(client);
        assert_eq!(stream.read(&mut [0; 10]).await.unwrap(), 0);
        assert!(stream.into_rest().is_none());
    }
}
