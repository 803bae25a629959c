//! The one who fetches.

use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;

use super::fill::{End, Fill};
use super::{Abandoned, Fills, Retention};

/// The one who fetches. Dropped before [`FillWriter::complete`], it fails the fill.
#[derive(Debug)]
pub struct FillWriter<K: Eq + Hash + Clone, H> {
    pub(super) fill: Arc<Fill<H>>,
    /// Where the fill can be joined; `None` when it cannot.
    pub(super) seat: Option<(Arc<Fills<K, H>>, K)>,
}

impl<K: Eq + Hash + Clone, H> FillWriter<K, H> {
    /// Makes the head known to all readers. With [`Retention::Window`] nobody can join from now on.
    pub fn publish(&mut self, head: H, retention: Retention) {
        if retention != Retention::Whole {
            self.leave_table();
        }
        let mut state = self.fill.state.lock();
        state.head = Some(Arc::new(head));
        state.retention = retention;
        drop(state);
        self.fill.poured.notify_waiters();
    }

    /// Adds a piece of the body. Waits for the readers when the body only passes through and the window is full.
    ///
    /// Cancel safe: the chunk is added at once, and only the wait is lost.
    ///
    /// # Errors
    ///
    /// [`Abandoned`] when the body only passes through and nobody reads it any more.
    pub async fn pour(&mut self, chunk: Bytes) -> Result<(), Abandoned> {
        self.append(chunk);
        loop {
            // Made before the look, so that a reader that drains in between is not missed.
            let drained = self.fill.drained.notified();
            {
                let mut state = self.fill.state.lock();
                let Retention::Window(window) = state.retention else { return Ok(()) };
                state.trim();
                if state.positions.is_empty() {
                    return Err(Abandoned);
                }
                if state.kept_bytes <= window {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Adds a piece of the body, and waits for nobody: for bodies that are kept.
    pub fn append(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            let mut state = self.fill.state.lock();
            state.kept_bytes += chunk.len();
            state.chunks.push_back(chunk);
            drop(state);
            self.fill.poured.notify_waiters();
        }
    }

    /// From now on the body only passes through: it has become too large to be kept. Nobody can join any more.
    pub fn let_through(&mut self, window: usize) {
        self.leave_table();
        let mut state = self.fill.state.lock();
        state.retention = Retention::Window(window);
        state.trim();
    }

    /// Bytes of the body that the fill holds now.
    pub fn kept_bytes(&self) -> usize {
        self.fill.state.lock().kept_bytes
    }

    /// The whole body in one piece, with `last` at its end. Of use only while the retention is [`Retention::Whole`].
    ///
    /// `last` is not shown to the readers: it comes back, to be poured when the body has been stored. So whoever has
    /// read a body to its end finds it in the store. Where the body came in several pieces it is copied once, and the
    /// fill keeps views of the copy in place of them: its readers hold no second one.
    pub fn gather(&mut self, last: Bytes) -> (Bytes, Bytes) {
        // The pieces are shared, so the lock is not held while they are copied; only this writer could add one.
        let (pieces, length): (Vec<Bytes>, usize) = {
            let state = self.fill.state.lock();
            (state.chunks.iter().cloned().collect(), state.kept_bytes)
        };
        match &pieces[..] {
            [] => return (last.clone(), last),
            [only] if last.is_empty() => return (only.clone(), last),
            _ => {}
        }
        let mut whole = Vec::with_capacity(length + last.len());
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.extend_from_slice(&last);
        drop(pieces);
        let whole = Bytes::from(whole);
        let mut state = self.fill.state.lock();
        let mut start = 0;
        for chunk in &mut state.chunks {
            let end = start + chunk.len();
            *chunk = whole.slice(start..end);
            start = end;
        }
        drop(state);
        let last = whole.slice(start..);
        (whole, last)
    }

    /// Nobody can join from now on; readers that are there stay.
    pub fn leave_table(&mut self) {
        if let Some((fills, key)) = self.seat.take() {
            fills.remove(&key, &self.fill);
        }
    }

    /// The body is whole. What is to be stored has to be in the store by now: the fill leaves the table here, and a
    /// request that finds neither would fetch again.
    pub fn complete(mut self) {
        self.end(End::Complete);
    }

    /// Does not fetch after all: readers get [`FillFailed::Withdrawn`] and look again.
    pub fn withdraw(mut self) {
        self.end(End::Withdrawn);
    }

    /// Gives up: readers get [`FillFailed::Failed`].
    pub fn fail(mut self) {
        self.end(End::Failed);
    }

    fn end(&mut self, end: End) {
        // Out of the table first: a reader woken by a failure may try again and must not meet the same fill.
        self.leave_table();
        let mut state = self.fill.state.lock();
        if state.end == End::Open {
            state.end = end;
        }
        drop(state);
        self.fill.poured.notify_waiters();
    }
}

impl<K: Eq + Hash + Clone, H> Drop for FillWriter<K, H> {
    fn drop(&mut self) {
        // After `complete` or `fail` this changes nothing.
        self.end(End::Failed);
    }
}
