//! One request of HTTP/2 on the pass road: pingora-proxy's view of a stream.
//!
//! Bodies go both ways as they come, as far as the windows of either side let them: what the client sent is taken off its
//! window only when the node's connection has asked for it, and an answer waits where the client takes none. Nodes speak
//! HTTP/1 to pingora, which drops trailers; so none reach the client, and those of a request end here.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout, timeout_at};

use super::fields::is_of_a_connection;
use super::respond::{Gone, send_data};
use crate::admin::{Counters, Limit};
use crate::listen::pace::{Pace, TooSlow, keeping};
use crate::listen::rewound::{CONTINUE_AFTER, PassedPace};

/// Bytes of a body that are kept to be sent to a second node; as in pingora's own sessions.
const RETRY_BYTES: usize = 64 * 1024;

type Messages = Box<dyn futures_core::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

pub(super) struct Passing {
    request: RequestHeader,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// There once the head is sent.
    send: Option<SendStream<Bytes>>,
    written: Option<Box<ResponseHeader>>,
    /// The answer is sent to its end.
    ended: bool,
    taken_back: Arc<AtomicBool>,
    body_read: usize,
    body_sent: usize,
    retry: Option<FixedBuffer>,
    digest: Digest,
    /// How the client sends the body.
    sending: Pace,
    /// How it takes the answer.
    taking: Pace,
    counters: Arc<Counters>,
    read_wait: Option<Duration>,
    write_wait: Option<Duration>,
    drain_wait: Option<Duration>,
    /// When the client is told that its body may come, if it waits for that and the node says nothing.
    expects: Option<Instant>,
}

impl Passing {
    /// `cookies` is the cookie put together, if it came in pieces.
    pub(super) fn new(
        mut parts: Parts,
        cookies: &[u8],
        body: RecvStream,
        respond: SendResponse<Bytes>,
        digest: Digest,
        pace: PassedPace,
    ) -> Self {
        if !cookies.is_empty() {
            // Each piece was a value, and so is what they make together.
            if let Ok(cookies) = HeaderValue::from_bytes(cookies) {
                parts.headers.insert(header::COOKIE, cookies);
            }
        }
        // What has begun to come waits for nothing, which shows when it is read.
        let expects = parts
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
            .then(|| Instant::now() + CONTINUE_AFTER);
        Self {
            request: parts.into(),
            body,
            respond,
            send: None,
            written: None,
            ended: false,
            taken_back: Arc::default(),
            body_read: 0,
            body_sent: 0,
            retry: None,
            digest,
            sending: Pace::new(pace.body),
            taking: Pace::new(pace.answer),
            counters: pace.counters,
            read_wait: None,
            write_wait: None,
            drain_wait: None,
            expects,
        }
    }

    /// Becomes true when the client does not wait for its answer.
    pub(super) fn taken_back(&self) -> Arc<AtomicBool> {
        self.taken_back.clone()
    }

    fn left(&self) -> Box<Error> {
        self.taken_back.store(true, Relaxed);
        Error::explain(ErrorType::ConnectionClosed, "the client has taken its request back").into_down()
    }

    /// The next piece of the request's body; `None` at its end.
    ///
    /// Never an empty one: a client may send as many empty frames as it likes, and pingora would write each as a chunk
    /// of size zero, which is the last one to a node. What came behind it the node would take for a request.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        let began = match self.expects {
            Some(due) => timeout_at(due, next(&mut self.body)).await.ok(),
            None => None,
        };
        if began.is_none() && self.expects.is_some() {
            // One that cannot be sent is none that the client waits for.
            let _ = self.respond.send_informational(informational(StatusCode::CONTINUE));
        }
        self.expects = None;
        let read = {
            let reading = std::pin::pin!(async {
                match began {
                    Some(began) => began,
                    None => next(&mut self.body).await,
                }
            });
            let paced = keeping(&mut self.sending, || None, reading);
            match self.read_wait {
                // Set when it was answered: who goes on sending is heard for a moment.
                Some(wait) => timeout(wait, paced).await.map_err(|_| {
                    Error::explain(ErrorType::ReadTimedout, "the request body does not come").into_down()
                })?,
                None => paced.await,
            }
        };
        let piece = match read {
            Ok((piece, _)) => piece,
            Err(slow) => {
                self.counters.limit(match slow {
                    TooSlow::Silent => Limit::BodyTimeout,
                    TooSlow::Slow => Limit::BodyRate,
                });
                let slow = io::Error::from(slow);
                return Err(Error::because(ErrorType::ReadError, "the request body", slow).into_down());
            }
        };
        let Some(piece) = piece.transpose().map_err(|_| self.left())? else { return Ok(None) };
        self.body_read += piece.len();
        self.sending.moved(piece.len());
        if let Some(retry) = &mut self.retry {
            retry.write_to_buffer(&piece);
        }
        // An error means that the stream is over, which the next read finds.
        let _ = self.body.flow_control().release_capacity(piece.len());
        Ok(Some(piece))
    }

    fn send_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.send.is_some() {
            return Ok(());
        }
        self.expects = None;
        let dropped: Vec<HeaderName> =
            head.headers.keys().filter(|name| is_of_a_connection(name)).cloned().collect();
        for name in dropped {
            head.remove_header(&name);
        }
        let mut response = Response::from_parts(head.as_owned_parts(), ());
        *response.version_mut() = Version::HTTP_2;
        if head.status.is_informational() {
            // One that cannot be sent is none that the client waits for.
            let _ = self.respond.send_informational(response);
            return Ok(());
        }
        self.send = Some(self.respond.send_response(response, end).map_err(|_| self.left())?);
        self.written = Some(head);
        self.ended = end;
        Ok(())
    }

    async fn send_piece(&mut self, piece: Bytes, end: bool) -> Result<()> {
        if self.ended || piece.is_empty() && !end {
            return Ok(());
        }
        let Some(send) = &mut self.send else {
            return Error::e_explain(ErrorType::InternalError, "a body comes before its head");
        };
        let length = piece.len();
        match send_data(send, piece, end, &mut self.taking).await {
            Ok(()) => {}
            Err(Gone::Left) => return Err(self.left()),
            Err(gone @ (Gone::Silent | Gone::Slow | Gone::Overdue)) => {
                let silent = gone == Gone::Silent;
                self.counters.limit(if silent { Limit::WriteTimeout } else { Limit::ResponseRate });
                return Err(Error::explain(ErrorType::WriteTimedout, "the client takes nothing").into_down());
            }
        }
        self.body_sent += length;
        self.ended = end;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let Some(send) = &mut self.send else {
            return Error::e_explain(ErrorType::InternalError, "trailers come before their head");
        };
        if send.send_trailers(trailers).is_err() {
            return Err(self.left());
        }
        self.ended = true;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        match &mut self.send {
            Some(send) if !self.ended => {
                if send.send_data(Bytes::new(), true).is_err() {
                    return Err(self.left());
                }
                self.ended = true;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the stream so that the client takes nothing for whole that is not (RFC 9113 section 8.1).
    fn reset(&mut self) {
        if !self.ended {
            self.ended = true;
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Ready when the client does not wait any more.
    async fn until_left(&mut self) {
        poll_fn(|context| match &mut self.send {
            Some(send) => send.poll_reset(context).map(|_| ()),
            None => self.respond.poll_reset(context).map(|_| ()),
        })
        .await;
    }

    fn has_no_body(&self) -> bool {
        self.body_read == 0 && self.body.is_end_stream()
    }
}

/// The next piece of a body that is not empty.
async fn next(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    poll_fn(|context| {
        loop {
            match body.poll_data(context) {
                Poll::Ready(Some(Ok(piece))) if piece.is_empty() => {}
                polled => return polled,
            }
        }
    })
    .await
}

/// An interim answer without any field.
fn informational(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    response
}

impl Drop for Passing {
    fn drop(&mut self) {
        // pingora drops a session whose answer broke off without another word.
        self.reset();
    }
}

#[async_trait]
impl Session for Passing {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // Nothing behind it is in its way, unlike in HTTP/1: what is not read is refused when the stream is dropped.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.send_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.send_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        self.send_piece(piece, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut done = false;
        for task in tasks {
            done |= match task {
                HttpTask::Header(head, end) => {
                    self.send_head(head, end)?;
                    end
                }
                HttpTask::Body(piece, end) => {
                    if let Some(piece) = piece {
                        self.send_piece(piece, end).await?;
                    }
                    end
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "HTTP/2 is not upgraded");
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.send_trailers(*trailers)?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if done {
            self.end()?;
        }
        Ok(done)
    }

    fn set_read_timeout(&mut self, wait: Option<Duration>) {
        self.read_wait = wait;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_wait
    }

    fn set_write_timeout(&mut self, wait: Option<Duration>) {
        self.write_wait = wait;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_wait
    }

    fn set_total_drain_timeout(&mut self, wait: Option<Duration>) {
        self.drain_wait = wait;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_wait
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.reset();
    }

    fn is_body_done(&mut self) -> bool {
        self.body.is_end_stream()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_body_empty(&mut self) -> bool {
        self.has_no_body()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.body.is_end_stream() {
            self.until_left().await;
            return Err(self.left());
        }
        self.read().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.body_sent
    }

    fn body_bytes_read(&self) -> usize {
        self.body_read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // Asked for by subrequests alone, which the pass road makes none of.
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {
        self.retry.get_or_insert_with(|| FixedBuffer::new(RETRY_BYTES));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.retry.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.retry.as_ref().filter(|buffer| !buffer.is_truncated()).and_then(FixedBuffer::get_buffer)
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Messages> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: Messages) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
