//! A connection handed to pingora with the bytes put back that were read from it already, and taken back afterwards.
//!
//! Pingora reads ahead and would swallow a pipelined request behind the one it is given. So it sees no more than a
//! *window*: the head and the body of that request, as long as Content-Length says or until its last chunk. Bytes
//! behind it are kept for the lane.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{ALPN, Shutdown, SocketDigest, Ssl, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::chunks::ChunkScan;
use super::layer::tell_of_below;
use super::pace::{Minded, Patience, TooSlow, acknowledged};
use crate::admin::{Counters, Limit};

/// Bytes of requests behind the current one that are kept while it is served; past it the client has to wait.
const READ_AHEAD: usize = 16 * 1024;

/// Bytes of a chunked body that are read in one go.
const CHUNKS_AT_ONCE: usize = 16 * 1024;

/// How long an upload is taken in that was answered before its end, in all.
const LINGER: Duration = Duration::from_secs(5);

/// The same while nothing of it comes.
const LINGER_REST: Duration = Duration::from_secs(1);

/// Bytes of it that are read in one go.
const LINGER_ROOM: usize = 64 * 1024;

/// How much of what follows belongs to the request that is handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Window {
    /// So many bytes, the head included.
    Bytes(u64),
    /// So many bytes of head, and the chunked body behind it.
    Chunked(u64, ChunkScan),
}

impl Window {
    /// Whether the whole request has been given out.
    fn is_over(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunked(head, scan) => *head == 0 && scan.is_done(),
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
    minds: Minds,
    expects: Expects,
}

/// Whether the client waits to be told that its body may come (RFC 9110 section 10.1.1).
#[derive(Debug)]
enum Expects {
    /// No, or it has been told, or answered.
    Nothing,
    /// It does.
    Word,
    /// It does since a while: the node has until then to say something.
    WordBy(Pin<Box<Sleep>>),
    /// So much of our own word is not written yet.
    OurWord(&'static [u8]),
}

/// How long a node may think about a body that it is asked about. Most clients send it unasked after a second, some never, and some
/// nodes never say a word.
pub(crate) const CONTINUE_AFTER: Duration = Duration::from_millis(500);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Rewound {
    /// `expects` says that the client waits to be told that its body may come.
    pub(crate) fn new(
        inner: Stream,
        before: BytesMut,
        window: Window,
        expects: bool,
        pace: PassedPace,
    ) -> Self {
        let PassedPace { body, answer, counters } = pace;
        let socket = inner.get_socket_digest();
        let minds = Minds { body: Minded::new(body), answer: Minded::new(answer), socket, counters };
        let expects = if expects { Expects::Word } else { Expects::Nothing };
        Self { inner, before, window, ended: false, minds, expects }
    }

    fn mind_answer(
        &mut self,
        written: Poll<std::io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let minds = &mut self.minds;
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

    /// The node has said something. A word of ours that has begun is said to its end before that.
    fn poll_finish_word(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &self.expects {
            Expects::OurWord(left) if left.len() < CONTINUE.len() => self.poll_continue(context),
            _ => {
                self.expects = Expects::Nothing;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Tells a client that waits for it that its body may come, once the node has had its time to say so.
    fn poll_continue(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            match &mut self.expects {
                Expects::Nothing => return Poll::Ready(Ok(())),
                // The head was given out before anybody could wait for more.
                Expects::Word => self.expects = Expects::WordBy(Box::pin(sleep(CONTINUE_AFTER))),
                Expects::WordBy(due) => {
                    ready!(due.as_mut().poll(context));
                    self.expects = Expects::OurWord(CONTINUE);
                }
                Expects::OurWord(left) => {
                    let count = ready!(Pin::new(&mut self.inner).poll_write(context, left))?;
                    *left = &left[count..];
                    if left.is_empty() {
                        self.expects = Expects::Nothing;
                        return Pin::new(&mut self.inner).poll_flush(context);
                    }
                }
            }
        }
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
        let had_more = !self.before.is_empty();
        let before = buffer.filled().len();
        let read = self.poll_request(context, buffer);
        match read {
            Poll::Ready(Ok(())) => {
                self.minds.body.moved(buffer.filled().len() - before);
                if !had_more {
                    self.expects = Expects::Nothing;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if let Poll::Ready(Err(error)) = self.poll_continue(context) {
                    return Poll::Ready(Err(error));
                }
                let minds = &mut self.minds;
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
        let (Window::Bytes(left) | Window::Chunked(left, _)) = &mut this.window;
        *left -= count as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(self.poll_finish_word(context))?;
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
        ready!(self.poll_finish_word(context))?;
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
        if self.window.is_over() || self.ended {
            return;
        }
        // Answered before it was all sent. Closing with unread bytes would reset the connection, and may take the answer with it
        // (RFC 9112 section 9.6): what comes is taken in until the client has seen that.
        let mut room = vec![0; LINGER_ROOM];
        let _ = timeout(LINGER, async {
            while let Ok(Ok(1..)) = timeout(LINGER_REST, self.inner.read(&mut room)).await {}
        })
        .await;
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

    fn pace() -> PassedPace {
        let patience = Patience { silence: std::time::Duration::from_secs(60), rate: 240 };
        PassedPace { body: patience, answer: patience, counters: Counters::new() }
    }

    fn rewound(before: &[u8], window: Window) -> (Rewound, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1024);
        (Rewound::new(Box::new(ours), BytesMut::from(before), window, false, pace()), theirs)
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

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_a_word_gets_one() {
        let expecting = || {
            let (ours, theirs) = tokio::io::duplex(1024);
            let before = BytesMut::from(&b"head"[..]);
            (Rewound::new(Box::new(ours), before, Window::Bytes(8), true, pace()), theirs)
        };
        // Nobody else says it.
        let (mut stream, mut client) = expecting();
        let reading = tokio::spawn(async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            request
        });
        let mut word = vec![0; CONTINUE.len()];
        let start = tokio::time::Instant::now();
        client.read_exact(&mut word).await.unwrap();
        assert_eq!((&word[..], start.elapsed()), (CONTINUE, CONTINUE_AFTER));
        client.write_all(b"body").await.unwrap();
        assert_eq!(&reading.await.unwrap(), b"headbody");
        // The node says it, or the client does not wait.
        for said in [true, false] {
            let (mut stream, mut client) = expecting();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            if said {
                stream.write_all(b"x").await.unwrap();
            } else {
                client.write_all(b"b").await.unwrap();
                stream.read_exact(&mut [0; 1]).await.unwrap();
                stream.write_all(b"x").await.unwrap();
            }
            let more = tokio::time::timeout(CONTINUE_AFTER * 2, stream.read(&mut [0; 1])).await;
            assert!(more.is_err());
            drop(stream);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"x", "{said}");
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
