//! What a request ends with, as HTTP/2: the same heads as in HTTP/1, and bodies as far as the client's windows let them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::fields;
use crate::access::{Kept, Sent};
use crate::admin::{Limit, RequestResult};
use crate::esi::Serving;
use crate::fetch::{Answer, Interim, Reader};
use crate::front::Front;
use crate::front::cold_range::Cut;
use crate::front::context::delivery;
use crate::front::outcome::{Found, Outcome, Streaming};
use crate::listen::answer::{self, HitBody, STEP_BYTES};
use crate::listen::pace::{Pace, TooSlow, keeping};
use crate::respond::Local;

/// Bodies up to this many bytes are left to the connection in one piece when the client's windows take them; larger ones
/// get a task that minds how fast the client takes them.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// The client does not take its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gone {
    /// It has reset the stream, or its connection is over.
    Left,
    /// It took nothing for too long.
    Silent,
    /// It took too little, all in all.
    Slow,
    /// The request has taken as long as it may.
    Overdue,
}

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self::Left
    }
}

/// One request that is being answered.
pub(super) struct Answering<'a> {
    pub(super) front: &'a Front,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) head_only: bool,
    /// The client takes fields behind a body.
    pub(super) trailers: bool,
    /// When the request was there.
    pub(super) arrived: Instant,
    /// How the client takes the body.
    pub(super) taking: Pace,
    /// What is recorded of the request.
    pub(super) kept: Kept,
}

/// A body that could not be left to the connection.
pub(super) struct Rest {
    send: SendStream<Bytes>,
    parts: Vec<Bytes>,
    result: RequestResult,
    code: u16,
    node: Option<Arc<Answer>>,
}

impl Answering<'_> {
    /// Sends what is stored without waiting for anything. Returns the body if that would have to wait.
    pub(super) fn hit(&mut self, found: &Found) -> Result<Option<Rest>, Gone> {
        let mut block = Vec::with_capacity(found.entry.head().len() + 160);
        let (code, body) = answer::hit_head(&mut block, found, false);
        let parts: &[Bytes] = match &body {
            HitBody::Nothing => &[],
            HitBody::One(body) => std::slice::from_ref(*body),
            HitBody::Parts(parts) => parts,
        };
        self.at_once(&block.into(), code, parts, found.result)
    }

    /// Sends a page that is put together and all there, without waiting. Returns the body if that would have to wait.
    pub(super) fn whole_page(&mut self, page: &Serving) -> Result<Option<Rest>, Gone> {
        let mut block = self.page_head(page);
        if !self.head_only {
            answer::push_length(&mut block, page.page.bytes());
        }
        answer::end_head(&mut block, &page.status, false);
        self.at_once(&block.into(), page.code, page.page.pieces(), page.result)
    }

    /// Sends a head, and the body behind it as far as nothing has to be waited for: else that is returned.
    fn at_once(
        &mut self,
        block: &Bytes,
        code: u16,
        parts: &[Bytes],
        result: RequestResult,
    ) -> Result<Option<Rest>, Gone> {
        let parts = if self.head_only { &[] } else { parts };
        let length: usize = parts.iter().map(Bytes::len).sum();
        let mut send = self.respond.send_response(fields::response(block), length == 0)?;
        if length > 0 {
            send.reserve_capacity(length);
            if length > AT_ONCE_BYTES || send.capacity() < length {
                return Ok(Some(Rest { send, parts: parts.to_vec(), result, code, node: None }));
            }
            let last = parts.len() - 1;
            for (index, part) in parts.iter().enumerate() {
                send.send_data(part.clone(), index == last)?;
            }
        }
        self.over(Sent::own(result, code, length as u64));
        Ok(None)
    }

    /// The head of a page that is put together, as far as it does not frame the body.
    fn page_head(&self, page: &Serving) -> Vec<u8> {
        let mut block = Vec::with_capacity(512);
        page.push_head(&mut block);
        answer::push_age(&mut block, page.age);
        block
    }

    /// Sends a page that is put together, as its pieces come.
    pub(super) async fn page(&mut self, front: &Arc<Front>, mut page: Serving) -> Result<(), Gone> {
        // Of a HEAD nothing is fetched.
        if self.head_only || page.page.is_whole() {
            return match self.whole_page(&page)? {
                Some(rest) => self.rest(rest).await,
                None => Ok(()),
            };
        }
        let mut block = self.page_head(&page);
        // From here on the fetches run.
        let mut body = page.start(front);
        answer::end_head(&mut block, &page.status, false);
        let mut send = self.respond.send_response(fields::response(&block.into()), false)?;
        let (mut sent, mut pieces) = (0, Vec::new());
        loop {
            pieces.clear();
            if !while_there(&mut send, body.read(&mut pieces, STEP_BYTES)).await? {
                break;
            }
            sent += self.step(&mut send, &mut pieces).await?;
        }
        send.send_data(Bytes::new(), true)?;
        self.over(Sent::own(page.result, page.code, sent));
        Ok(())
    }

    /// Sends an answer of ours.
    pub(super) fn local(&mut self, local: &Local, result: RequestResult) -> Result<(), Gone> {
        let mut block = Vec::with_capacity(256);
        local.write_http1(&mut block, &self.front.clock.http_date(), true, false);
        let body = local.body().clone();
        let mut send = self.respond.send_response(fields::response(&block.into()), self.head_only)?;
        let bytes = if self.head_only { 0 } else { body.len() as u64 };
        self.over(Sent::own(result, local.status, bytes));
        if !self.head_only {
            // A line of text, however small the client's window is.
            send.send_data(body, true)?;
        }
        Ok(())
    }

    /// Sends the body that [`Answering::hit`] left.
    pub(super) async fn rest(&mut self, rest: Rest) -> Result<(), Gone> {
        let Rest { mut send, parts, result, code, node } = rest;
        let length: usize = parts.iter().map(Bytes::len).sum();
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.into_iter().enumerate() {
            self.data(&mut send, part, index == last).await?;
        }
        let node = node.as_ref().map(|answer| &**answer.node.name());
        self.over(Sent { result, status: code, bytes: length as u64, node });
        Ok(())
    }

    /// Waits for what the request ends with, as long as the client does, and sends it. What comes through `interim` is
    /// sent before.
    pub(super) async fn wait(
        &mut self,
        front: &Arc<Front>,
        interim: &Interim,
        outcome: impl Future<Output = Outcome>,
    ) -> Result<(), Gone> {
        let outcome = self.until_known(interim, outcome).await?;
        self.conclude(front, outcome).await
    }

    /// Waits for what the request ends with, as long as the client does. What comes through `interim` is sent before.
    pub(super) async fn until_known(
        &mut self,
        interim: &Interim,
        outcome: impl Future<Output = Outcome>,
    ) -> Result<Outcome, Gone> {
        let mut outcome = std::pin::pin!(outcome);
        poll_fn(|context| self.poll_outcome(interim, outcome.as_mut(), context)).await
    }

    /// Sends what the request ends with.
    pub(super) async fn conclude(&mut self, front: &Arc<Front>, outcome: Outcome) -> Result<(), Gone> {
        match outcome {
            Outcome::Found(found) => match self.hit(&found)? {
                Some(rest) => self.rest(rest).await,
                None => Ok(()),
            },
            Outcome::Local(local, result) => self.local(&local, result),
            Outcome::NotModified { answer, result, status, cache_control } => {
                let mut block = Vec::with_capacity(answer.block.len() + 128);
                answer::not_modified(&mut block, &answer, &status, cache_control, false);
                self.respond.send_response(fields::response(&block.into()), true)?;
                self.over(Sent { result, status: 304, bytes: 0, node: Some(answer.node.name()) });
                Ok(())
            }
            Outcome::Streaming(streaming) => self.stream(streaming).await,
            Outcome::Page(page) => self.page(front, *page).await,
            // Nobody but `tunnel` asks for one.
            Outcome::Tunnel(_) => Err(Gone::Left),
        }
    }

    fn poll_outcome(
        &mut self,
        interim: &Interim,
        outcome: std::pin::Pin<&mut impl Future<Output = Outcome>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Outcome, Gone>> {
        let done = outcome.poll(context);
        // Asked after it: what was hinted before the answer came goes out before it.
        while let Poll::Ready(block) = interim.poll_next(context) {
            // One that cannot be sent is none that the client waits for.
            let _ = self.respond.send_informational(fields::response(&block));
        }
        if done.is_ready() {
            return done.map(Ok);
        }
        self.respond.poll_reset(context).map(|_| Err(Gone::Left))
    }

    /// Sends an answer whose body is still coming, as it comes.
    async fn stream(&mut self, streaming: Streaming) -> Result<(), Gone> {
        let Streaming { answer, mut reader, cut, result, status, cache_control } = streaming;
        let mut block = Vec::with_capacity(answer.block.len() + 160);
        let (code, body) = stream_head(&mut block, &answer, cache_control, &reader, &cut, self.head_only);
        if code != 416 {
            answer::push_age(&mut block, answer.age);
        }
        answer::end_head(&mut block, &status, false);
        let head = fields::response(&block.into());
        let length = match body {
            StreamBody::Nothing => {
                self.respond.send_response(head, true)?;
                self.over(Sent { result, status: code, bytes: 0, node: Some(answer.node.name()) });
                return Ok(());
            }
            StreamBody::Parts(parts) => {
                drop(reader);
                let send = self.respond.send_response(head, false)?;
                let node = Some(answer);
                return self.rest(Rest { send, parts, result, code, node }).await;
            }
            StreamBody::Reader(length) => length,
        };
        let mut send = self.respond.send_response(head, false)?;
        let (mut sent, mut pieces) = (0, Vec::new());
        loop {
            // What was sent is let go before the wait, and with it the memory.
            pieces.clear();
            match while_there(&mut send, reader.read(&mut pieces, STEP_BYTES)).await? {
                Ok(true) => {}
                Ok(false) if length.is_none_or(|length| length == sent) => break,
                // Without a reset the client would take for whole what is not (RFC 9113 section 8.1).
                Ok(false) | Err(_) => {
                    send.send_reset(Reason::INTERNAL_ERROR);
                    self.over(Sent { result, status: code, bytes: sent, node: Some(answer.node.name()) });
                    return Ok(());
                }
            }
            sent += self.step(&mut send, &mut pieces).await?;
        }
        match answer.trailers.get().filter(|_| self.trailers) {
            Some(fields) => send.send_trailers(fields.clone())?,
            None => send.send_data(Bytes::new(), true)?,
        }
        self.over(Sent { result, status: code, bytes: sent, node: Some(answer.node.name()) });
        Ok(())
    }

    /// Hands on what came of a body in one step. Returns its bytes.
    async fn step(&mut self, send: &mut SendStream<Bytes>, pieces: &mut Vec<Bytes>) -> Result<u64, Gone> {
        let mut bytes = 0;
        for piece in pieces.drain(..) {
            bytes += piece.len() as u64;
            self.data(send, piece, false).await?;
        }
        Ok(bytes)
    }

    /// Hands on a piece of a body as far as the client's windows let it.
    async fn data(&mut self, send: &mut SendStream<Bytes>, piece: Bytes, last: bool) -> Result<(), Gone> {
        send_data(send, piece, last, &mut self.taking).await
    }

    /// The answer is sent, or handed to the connection.
    pub(super) fn over(&self, sent: Sent<'_>) {
        self.front.accounts.over(|| self.kept.asked(), self.arrived, sent);
    }

    /// Notes that the client did not take its answer. Gives back the room of the record.
    pub(super) fn gone(mut self, gone: Gone) -> Kept {
        match gone {
            Gone::Left => {}
            Gone::Silent => self.front.counters.limit(Limit::WriteTimeout),
            Gone::Slow => self.front.counters.limit(Limit::ResponseRate),
            Gone::Overdue => self.front.counters.limit(Limit::RequestLifetime),
        }
        self.respond.send_reset(Reason::CANCEL);
        let result = match gone {
            Gone::Overdue => RequestResult::Unavailable,
            Gone::Left | Gone::Silent | Gone::Slow => RequestResult::ClientGone,
        };
        self.over(Sent::own(result, 0, 0));
        self.kept
    }
}

/// Waits for the next step of a body as long as the client does: one that leaves while nothing is to be sent would be noticed
/// by nobody else.
async fn while_there<T>(send: &mut SendStream<Bytes>, reading: impl Future<Output = T>) -> Result<T, Gone> {
    let mut reading = std::pin::pin!(reading);
    poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(step) => Poll::Ready(Ok(step)),
        Poll::Pending => send.poll_reset(context).map(|_| Err(Gone::Left)),
    })
    .await
}

/// Hands `piece` to the connection as far as the client's windows let it, and waits while they are closed for as
/// long as the client's pace lets it.
pub(super) async fn send_data(
    send: &mut SendStream<Bytes>,
    mut piece: Bytes,
    last: bool,
    taking: &mut Pace,
) -> Result<(), Gone> {
    loop {
        send.reserve_capacity(piece.len());
        let mut room = send.capacity();
        if room == 0 && !piece.is_empty() {
            let waiting = keeping(taking, || None, poll_fn(|context| send.poll_capacity(context)));
            room = match waiting.await {
                Ok((Some(room), _)) => room?,
                Ok((None, _)) => return Err(Gone::Left),
                Err(TooSlow::Silent) => return Err(Gone::Silent),
                Err(TooSlow::Slow) => return Err(Gone::Slow),
            };
        }
        taking.moved(room.min(piece.len()));
        let part = piece.split_to(room.min(piece.len()));
        let ends = piece.is_empty();
        send.send_data(part, last && ends)?;
        if ends {
            return Ok(());
        }
    }
}

/// What follows the head of a streamed answer.
enum StreamBody {
    Nothing,
    Parts(Vec<Bytes>),
    /// What the reader gives; of so many bytes, if that is known.
    Reader(Option<u64>),
}

/// Appends the head of a streamed answer up to where `Age` goes; returns the status that the client sees and what follows.
fn stream_head(
    output: &mut Vec<u8>,
    answer: &Answer,
    cache_control: Option<&str>,
    reader: &Reader,
    cut: &Cut,
    head_only: bool,
) -> (u16, StreamBody) {
    match cut {
        Cut::Whole => {
            delivery::push_head(output, &answer.block, cache_control);
            let code = answer.status.as_u16();
            if !answer.may_have_body() {
                return (code, StreamBody::Nothing);
            }
            // An answer that has ended already has a length, whatever the node said. A node that answers HEAD says the
            // length that GET would have; the body's own length is none.
            let there = reader.whole_length().map(|length| length as u64);
            let length = if head_only { answer.length } else { there.or(answer.length) };
            if let Some(length) = length {
                answer::push_length(output, length);
            }
            (code, if head_only { StreamBody::Nothing } else { StreamBody::Reader(length) })
        }
        Cut::One { range, length } => {
            answer::one_range(output, &delivery::head(&answer.block, cache_control), range, *length);
            (206, StreamBody::Reader(Some(range.end - range.start)))
        }
        Cut::Several { ranges, body } => {
            let head = delivery::head(&answer.block, cache_control);
            (206, StreamBody::Parts(answer::several_ranges(output, &head, body, ranges)))
        }
        Cut::Unsatisfiable { length } => {
            answer::unsatisfiable(output, &answer.block, *length);
            (416, StreamBody::Nothing)
        }
    }
}
