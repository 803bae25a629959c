//! The body of an answer: from the node into its fill and, if it is kept, into the store.
//!
//! Who is still there to read decides how long that goes on. A body that is kept is worth finishing for the next visitor
//! when little of it is missing; one that is not, or that its visitors left early, would only cost the node and the
//! memory. Nginx always goes on, Varnish ends only what it does not keep; neither bounds what a crowd that asks and
//! leaves can make them fetch.

use std::sync::Arc;

use bytes::Bytes;
use clearcoat_cache::collapse::Retention;
use tokio::pin;

use super::exchange::Rest;
use super::last::{FillResult, Noting};
use super::{Answer, Fetcher, Storing, TOO_LARGE, WINDOW_BYTES, Writer};
use crate::admin::Limit;

/// What an answer is that is not stored because its visitors left, in a word.
const ABANDONED: &str = "abandoned";

/// What an answer is that is not stored because bodies on their way take all of the memory, in a word.
const NO_MEMORY: &str = "no-memory";

/// What came of waiting for more of a body.
enum More {
    Piece(Bytes),
    End,
    /// The node broke off or stalled.
    Broken,
    /// Nobody reads it, and it is not worth finishing.
    Abandoned,
}

/// A body whose head has been told, on its way.
pub(super) struct Pouring {
    /// What else is known of it, if it is to be stored.
    pub(super) storing: Option<Storing>,
    /// What of it is there already.
    pub(super) held: Vec<Bytes>,
    /// Where the rest comes from; `None` when nothing is to come.
    pub(super) rest: Option<Rest>,
    pub(super) writer: Writer,
    /// What its readers have the head of.
    pub(super) answer: Arc<Answer>,
}

impl Fetcher {
    /// How a body begins its way: kept from its first byte, or passing through.
    pub(super) fn retention(storing: Option<&Storing>) -> Retention {
        match storing {
            Some(_) => Retention::Whole,
            None => Retention::Window(WINDOW_BYTES),
        }
    }

    /// Pours the body as it comes, and stores it before its end is seen, if that is wanted.
    pub(super) async fn stream(&self, noting: &Noting<'_>, pouring: Pouring) {
        let Pouring { mut storing, held, mut rest, mut writer, answer } = pouring;
        let length = storing.as_ref().and_then(|storing| storing.length);
        let mut held = held.into_iter();
        loop {
            let more = match (held.next(), &mut rest) {
                (Some(chunk), _) => More::Piece(chunk),
                (None, None) => More::End,
                (None, Some(source)) => self.more(source, storing.is_some(), length, &mut writer).await,
            };
            let chunk = match more {
                More::Piece(chunk) => chunk,
                More::End => break,
                // Whoever reads along sees the body break off; a part of a body is never stored.
                More::Broken => {
                    noting.note(FillResult::BrokenOff);
                    return writer.fail();
                }
                // The connection to the node ends with `rest`.
                More::Abandoned => {
                    if storing.is_some() {
                        noting.note(FillResult::NotStored(ABANDONED));
                    }
                    return;
                }
            };
            let brought = writer.poured_bytes() + chunk.len() as u64;
            if storing.is_some() && brought > self.settings.load().max_entry_bytes {
                storing = None;
                noting.note(FillResult::NotStored(TOO_LARGE));
                self.counters.limit(Limit::EntrySize);
                self.note_uncacheable(noting.plan);
                writer.let_through(WINDOW_BYTES);
            }
            // What only passes through cannot be refused; entries give way to it all the same.
            let room = self.store.make_room_for_fill(chunk.len());
            if storing.is_some() && !room {
                storing = None;
                noting.note(FillResult::NotStored(NO_MEMORY));
                self.counters.limit(Limit::FillMemory);
                writer.let_through(WINDOW_BYTES);
            }
            let chunk = match storing.take_if(|storing| storing.length == Some(brought)) {
                // With this piece the body is whole: it is stored first, so that whoever has read it to its end and asks
                // again finds it.
                // Those who have the head were told that it would be stored, and cannot be told otherwise any more.
                Some(storing) => self.store_whole(noting, storing, chunk, &mut writer).0,
                None => chunk,
            };
            if writer.pour(chunk).await.is_err() {
                // Nobody reads what is not kept.
                return;
            }
        }
        if let (None, Some(rest)) = (&storing, &mut rest)
            && let Some(fields) = self.trailers(noting.plan, &rest.take_trailers())
        {
            // Before the end is told, so that whoever has read the body to it finds them.
            let _ = answer.trailers.set(fields);
        }
        if let Some(storing) = storing {
            // Only the framing told the end: readers hear of it when the body is stored.
            let _ = self.store_whole(noting, storing, Bytes::new(), &mut writer);
        }
        writer.complete();
        if let Some(rest) = rest {
            rest.finish();
        }
    }

    /// Stores the body that the fill holds with `last` at its end; gives `last` back, to be poured, and tells why the
    /// body was refused if it was.
    pub(super) fn store_whole(
        &self,
        noting: &Noting<'_>,
        storing: Storing,
        last: Bytes,
        writer: &mut Writer,
    ) -> (Bytes, Result<(), &'static str>) {
        let (body, last) = writer.gather(last);
        let stored = self.commit(noting.plan, storing, body);
        noting.note(FillResult::of_commit(stored));
        if stored.is_err() {
            writer.take_back();
        }
        (last, stored)
    }

    /// Waits for the next piece, as long as that makes sense for somebody.
    async fn more(&self, source: &mut Rest, storing: bool, length: Option<u64>, writer: &mut Writer) -> More {
        let worth_finishing = storing && self.is_worth_finishing(length, writer.poured_bytes());
        // Looked at for every piece: a node that is always ready would never let the wait below come to it.
        if !worth_finishing && writer.is_deserted() && self.abandon(storing, writer) {
            return More::Abandoned;
        }
        let next = source.next();
        pin!(next);
        loop {
            let answered = tokio::select! {
                biased;
                piece = &mut next => Some(piece),
                () = writer.deserted(), if !worth_finishing => None,
            };
            match answered {
                Some(Ok(Some(piece))) => return More::Piece(piece),
                Some(Ok(None)) => return More::End,
                Some(Err(_)) => return More::Broken,
                None if self.abandon(storing, writer) => return More::Abandoned,
                // Somebody came in the very moment, and is read for again.
                None => {}
            }
        }
    }

    /// Ends a fill that nobody reads, unless somebody came in the meantime.
    fn abandon(&self, storing: bool, writer: &mut Writer) -> bool {
        let abandoned = writer.abandon();
        if abandoned && storing {
            self.counters.limit(Limit::FillAbandoned);
        }
        abandoned
    }

    /// Whether a body that is kept is fetched to its end though nobody reads it.
    fn is_worth_finishing(&self, length: Option<u64>, brought: u64) -> bool {
        let bytes = match length {
            Some(length) => length.saturating_sub(brought),
            // How much is to come is not known; by then as much as this may have been for nothing.
            None => brought,
        };
        bytes <= self.settings.load().finish_abandoned
    }
}
