//! One connection to a client: its buffers, its deadlines, and the end of it.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::protocols::{SocketDigest, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::deadline::Deadline;
use super::draining::Draining;
use super::pace::{Pace, Patience, TooSlow, acknowledged, keeping};
use super::tunnel::Limits;
use crate::access::Kept;
use crate::fetch::Interim;
use crate::front::identity::Identity;
use crate::front::visitor::Visitor;
use crate::workers::others_first;

/// What is asked of the buffer before each read; a browser's head fits.
const READ_ROOM: usize = 4096;

/// Bytes of each buffer that a connection keeps between requests.
const KEEP_ROOM: usize = 8192;

/// Bodies up to this many bytes are copied behind their head, so that one plain write carries both; larger ones are
/// written from where they are.
pub(crate) const COPY_UP_TO: usize = 4096;

/// Written output is flushed to the client at this size even if more pipelined answers would follow.
const OUTPUT_MARK: usize = 64 * 1024;

/// How a connection's clock is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// From the first byte of a head to its last, in all.
    pub(crate) header: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// How slowly an answer may be taken.
    pub(crate) write: Patience,
    /// While another protocol is spoken.
    pub(crate) tunnel: Duration,
}

impl Waits {
    /// What of them a tunnel goes by.
    pub(super) const fn of_tunnel(&self) -> Limits {
        Limits { idle: self.tunnel, write: self.write.silence }
    }
}

/// What came of waiting for more bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Received {
    /// There are more bytes in `input`.
    More,
    /// The client sends nothing more, or the connection broke.
    End,
    /// A deadline passed.
    Late,
    /// What came is less than has to come in the time.
    Slow,
    /// The request has taken as long as it may.
    Overdue,
    /// The server is shutting down and the client is between requests.
    Draining,
}

/// What ended a wait.
enum Waited<T> {
    Done(T),
    Interim(Bytes),
    Gone,
}

pub(crate) struct Connection {
    pub(crate) stream: Stream,
    /// Read and not yet consumed.
    pub(crate) input: BytesMut,
    /// Answered and not yet written.
    pub(crate) output: Vec<u8>,
    /// Whoever is at the other end.
    pub(crate) visitor: Visitor,
    /// Whose certificate they have shown.
    pub(crate) identity: Option<Arc<Identity>>,
    /// For whom they ask, by the request that is being answered.
    pub(crate) asker: Visitor,
    /// What the access log wants to know of the request that is being answered.
    pub(crate) kept: Kept,
    /// The client has said that the request under way is its last, and all of that was read.
    pub(crate) client_is_done: bool,
    /// When the last bytes came, or the last answer was over; read once for all who want to know.
    pub(crate) now: Instant,
    /// When the head was there of a request whose body is still to come.
    pub(crate) began: Option<Instant>,
    deadline: Deadline,
    /// When the first byte of the head now being received came.
    head_since: Option<Instant>,
    /// How long it waits for what.
    pub(super) waits: Waits,
    /// How the client takes what is written since it was waited for last.
    taking: Pace,
    digest: Option<Arc<SocketDigest>>,
    draining: Draining,
}

impl Connection {
    pub(crate) fn new(stream: Stream, visitor: Visitor, waits: Waits, shutdown: &ShutdownWatch) -> Self {
        let digest = stream.get_socket_digest();
        Self {
            stream,
            input: BytesMut::new(),
            output: Vec::with_capacity(2048),
            visitor,
            identity: None,
            asker: visitor,
            kept: Kept::default(),
            client_is_done: false,
            now: Instant::now(),
            began: None,
            deadline: Deadline::after(waits.idle.min(waits.header)),
            head_since: None,
            waits,
            taking: Pace::new(waits.write),
            digest,
            draining: Draining::new(shutdown),
        }
    }

    /// Whether the server is shutting down: this answer is the last on the connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.has_begun()
    }

    /// Waits for more bytes of a head. `partial` says that part of one is in `input` already: then its total deadline
    /// counts, however slowly its bytes come; otherwise the idle time.
    pub(crate) async fn receive(&mut self, partial: bool, first: bool) -> Received {
        let due = if partial || first {
            // The first request of a connection has no more time than its head: nobody connects to wait.
            let since = *self.head_since.get_or_insert(self.now);
            since + self.waits.header
        } else {
            self.head_since = None;
            self.now + self.waits.idle
        };
        self.deadline.set(due);
        if !partial {
            // What a burst of pipelined requests or a large head took is not kept while the client rests.
            if self.input.capacity() > KEEP_ROOM {
                self.input = BytesMut::new();
            }
            self.output.shrink_to(KEEP_ROOM);
            self.taking.begin_anew();
            self.kept.rest();
        }
        self.input.reserve(READ_ROOM);
        let Self { stream, input, deadline, draining, .. } = self;
        let received = poll_fn(|context| {
            let drains = draining.poll_begun(context);
            match poll_read(stream, input, context) {
                Poll::Ready(Ok(count)) if count > 0 => return Poll::Ready(Received::More),
                Poll::Ready(_) => return Poll::Ready(Received::End),
                Poll::Pending => {}
            }
            if drains && !partial {
                return Poll::Ready(Received::Draining);
            }
            deadline.poll_passed(context).map(|()| Received::Late)
        })
        .await;
        if received == Received::More {
            self.now = Instant::now();
        }
        received
    }

    /// Waits for the body of a request, until `length` bytes of it and its head are in `input`, or it has to be over.
    pub(crate) async fn receive_body(
        &mut self,
        length: usize,
        patience: Patience,
        over: Option<Instant>,
    ) -> Received {
        // What bounds the head has done its work.
        self.head_since = None;
        let mut pace = Pace::new(patience);
        while self.input.len() < length {
            let before = self.input.len();
            let slow = pace.wait(|| None);
            self.deadline.set(over.map_or(slow, |over| over.min(slow)));
            let Self { stream, input, deadline, .. } = self;
            input.reserve(length - input.len());
            let received = poll_fn(|context| match poll_read(stream, input, context) {
                Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Received::More),
                Poll::Ready(_) => Poll::Ready(Received::End),
                Poll::Pending => deadline.poll_passed(context).map(|()| Received::Late),
            })
            .await;
            match received {
                Received::More => {
                    pace.over();
                    pace.moved(self.input.len() - before);
                }
                Received::Late if over.is_some_and(|over| over <= Instant::now()) => {
                    return Received::Overdue;
                }
                Received::Late => match pace.passed(|| None) {
                    Ok(()) => {}
                    Err(TooSlow::Silent) => return Received::Late,
                    Err(TooSlow::Slow) => return Received::Slow,
                },
                ended => return ended,
            }
        }
        Received::More
    }

    /// A head was read whole; the next one gets a deadline of its own.
    pub(crate) fn head_is_complete(&mut self) {
        self.head_since = None;
    }

    /// Waits for `work`, unless the client leaves meanwhile. Up to `limit` bytes of further requests are taken in, and
    /// what comes through `interim` is written in between.
    pub(crate) async fn unless_gone<T>(
        &mut self,
        limit: usize,
        interim: &Interim,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match self.waited(limit, interim, work.as_mut()).await {
                Waited::Done(done) => {
                    // Both may have come at once; the answer itself is not written yet.
                    while let Some(block) = interim.next() {
                        self.output.extend_from_slice(&block);
                    }
                    return Some(done);
                }
                Waited::Gone => return None,
                Waited::Interim(block) => {
                    self.output.extend_from_slice(&block);
                    if self.flush().await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    async fn waited<T>(
        &mut self,
        limit: usize,
        interim: &Interim,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Waited<T> {
        let Self { stream, input, .. } = self;
        poll_fn(|context| {
            // Asked first: what was hinted before the answer came goes out before it.
            if let Poll::Ready(block) = interim.poll_next(context) {
                return Poll::Ready(Waited::Interim(block));
            }
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Waited::Done(done));
            }
            poll_gone(stream, input, limit, context).map(|()| Waited::Gone)
        })
        .await
    }

    /// Waits for `work` in the middle of an answer, unless the client leaves meanwhile. Up to `limit` bytes of further
    /// requests are taken in.
    pub(crate) async fn while_there<T>(&mut self, limit: usize, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let Self { stream, input, .. } = self;
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => poll_gone(stream, input, limit, context).map(|()| None),
        })
        .await
    }

    /// Whether so much output has gathered that it should be written before more is added.
    pub(crate) fn output_is_full(&self) -> bool {
        self.output.len() >= OUTPUT_MARK
    }

    /// Writes all output.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut done = 0;
        while done < self.output.len() {
            let Self { stream, output, taking, digest, .. } = self;
            let write = progress(taking, digest.as_deref(), stream.write(&output[done..])).await?;
            done += self.noted(write);
        }
        self.output.clear();
        self.send_on().await
    }

    /// Waits until the socket has what was written; under TLS some of it may be in between.
    async fn send_on(&mut self) -> io::Result<()> {
        let Self { stream, taking, digest, .. } = self;
        let (done, waited) = keeping(taking, || acknowledged(digest.as_deref()), stream.flush()).await?;
        if waited {
            self.now = Instant::now();
        }
        done
    }

    /// Writes all output and the parts of a body behind it, each from where it is.
    pub(crate) async fn flush_with(&mut self, parts: &[Bytes]) -> io::Result<()> {
        // Positions: `part` counts the output as part zero.
        let (mut part, mut offset) = (0, 0);
        let total = parts.len() + 1;
        loop {
            let length = |part: usize| if part == 0 { self.output.len() } else { parts[part - 1].len() };
            while part < total && offset >= length(part) {
                offset -= length(part);
                part += 1;
            }
            if part >= total {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let mut count = 0;
            for (index, slice) in (part..total).zip(&mut slices) {
                let bytes: &[u8] = if index == 0 { &self.output } else { &parts[index - 1] };
                *slice = IoSlice::new(if index == part { &bytes[offset..] } else { bytes });
                count += 1;
            }
            let writing = self.stream.write_vectored(&slices[..count]);
            let write = progress(&mut self.taking, self.digest.as_deref(), writing).await?;
            offset += self.noted(write);
        }
        self.output.clear();
        self.send_on().await
    }

    /// Time may have passed with a write.
    fn noted(&mut self, write: Progress) -> usize {
        if write.waited {
            self.now = Instant::now();
        }
        write.bytes
    }

    /// Ends the connection so that the client can still read the last answer: what it sent meanwhile is taken in for
    /// a moment, because closing with unread bytes resets the connection and may take the answer with it (RFC 9112
    /// section 9.6).
    pub(crate) async fn close(mut self) {
        const LINGER: Duration = Duration::from_secs(1);
        const LINGER_BYTES: usize = 256 * 1024;
        if self.flush().await.is_err() {
            return;
        }
        others_first().await;
        if self.client_is_done && self.input.is_empty() && self.stream.get_ssl_digest().is_none() {
            return;
        }
        // Under TLS there are last words to be sent.
        match timeout(self.waits.write.silence, self.stream.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        // Nothing more comes from a client that has said so (RFC 9112 section 9.6), and nobody need wait for it.
        if self.client_is_done && self.input.is_empty() {
            return;
        }
        self.input.clear();
        let _ = timeout(LINGER, async {
            let mut taken = 0;
            while taken < LINGER_BYTES {
                self.input.clear();
                self.input.reserve(READ_ROOM);
                match poll_fn(|context| poll_read(&mut self.stream, &mut self.input, context)).await {
                    Ok(count) if count > 0 => taken += count,
                    Ok(_) | Err(_) => break,
                }
            }
        })
        .await;
    }
}

/// What came of a write.
struct Progress {
    bytes: usize,
    /// The client did not take them at once.
    waited: bool,
}

/// One write, as long as the client's pace lets it take.
async fn progress(
    pace: &mut Pace,
    digest: Option<&SocketDigest>,
    write: impl Future<Output = io::Result<usize>>,
) -> io::Result<Progress> {
    match keeping(pace, || acknowledged(digest), write).await? {
        (Ok(0), _) => Err(io::ErrorKind::WriteZero.into()),
        (Ok(bytes), waited) => {
            pace.moved(bytes);
            Ok(Progress { bytes, waited })
        }
        (Err(error), _) => Err(error),
    }
}

/// Ready when the client has left. What it sends instead is taken in, up to `limit` bytes.
fn poll_gone(stream: &mut Stream, input: &mut BytesMut, limit: usize, context: &mut Context<'_>) -> Poll<()> {
    while input.len() < limit {
        input.reserve(READ_ROOM);
        match poll_read(stream, input, context) {
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(_) => return Poll::Ready(()),
            Poll::Pending => break,
        }
    }
    Poll::Pending
}

/// Reads what is there into the room that the caller has reserved.
fn poll_read(
    stream: &mut Stream,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // The future holds nothing between polls, so making it anew each time loses nothing.
    std::pin::pin!(stream.read_buf(input)).poll(context)
}
