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
        match retention {
            Retention::Whole => {}
            Retention::Window(window) => state.pass_through(window),
        }
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
                let Some(window) = state.window() else { return Ok(()) };
                state.trim();
                if !state.has_readers() {
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
            self.fill.state.lock().push(chunk);
            self.fill.poured.notify_waiters();
        }
    }

    /// From now on the body only passes through: it has become too large to be kept. Nobody can join any more.
    pub fn let_through(&mut self, window: usize) {
        self.leave_table();
        let mut state = self.fill.state.lock();
        state.pass_through(window);
        state.trim();
    }

    /// Bytes of the body that the fill holds now.
    pub fn kept_bytes(&self) -> usize {
        self.fill.state.lock().kept_bytes
    }

    /// Bytes of the body that were poured so far.
    pub fn poured_bytes(&self) -> u64 {
        self.fill.state.lock().poured_bytes
    }

    /// The whole body in one piece, with `last` at its end, to be stored. Of use only while the retention is
    /// [`Retention::Whole`].
    ///
    /// `last` is not shown to the readers: it comes back, to be poured when the body has been stored. So whoever has
    /// read a body to its end finds it in the store. Where the body came in several pieces it is copied once, and the
    /// fill keeps views of the copy in place of them: its readers hold no second one. From now on the body is off the
    /// account of fills, because the store has it on its own; if it is not stored, call [`FillWriter::take_back`].
    pub fn gather(&mut self, last: Bytes) -> (Bytes, Bytes) {
        // The pieces are shared, so the lock is not held while they are copied; only this writer could add one.
        let (pieces, length): (Vec<Bytes>, usize) = {
            let mut state = self.fill.state.lock();
            let length = state.kept_bytes + last.len();
            if state.chunks.len() > 1 || (state.chunks.len() == 1 && !last.is_empty()) {
                state.charge_copy(length);
            }
            (state.chunks.iter().cloned().collect(), length)
        };
        let whole = match &pieces[..] {
            [] => last.clone(),
            [only] if last.is_empty() => only.clone(),
            pieces => {
                let mut whole = Vec::with_capacity(length);
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.extend_from_slice(&last);
                Bytes::from(whole)
            }
        };
        self.fill.state.lock().hand_over(&whole);
        let last = whole.slice(length - last.len()..);
        (whole, last)
    }

    /// What was gathered is not stored after all: what readers still want of it is the fill's own again.
    pub fn take_back(&mut self) {
        self.fill.state.lock().take_back();
    }

    /// Nobody can join from now on; readers that are there stay.
    pub fn leave_table(&mut self) {
        if let Some((fills, key)) = self.seat.take() {
            fills.remove(&key, &self.fill);
        }
    }

    /// Whether somebody may still come.
    pub fn can_be_joined(&self) -> bool {
        self.seat.is_some()
    }

    /// The fill is for the store, not for a reader: that there is none is no reason to end it.
    pub fn needs_no_reader(&mut self) {
        self.fill.state.lock().unattended = true;
    }

    /// Waits until the last reader has left; for ever if the fill needs none. By the time this returns another may have
    /// joined: [`FillWriter::abandon`] knows. Cancel safe.
    pub async fn deserted(&self) {
        loop {
            let drained = self.fill.drained.notified();
            if self.is_deserted() {
                return;
            }
            drained.await;
        }
    }

    /// Whether the last reader has left and the fill was for readers.
    pub fn is_deserted(&self) -> bool {
        self.fill.state.lock().is_deserted()
    }

    /// Ends the fill, if really nobody reads it; returns whether it did.
    ///
    /// The race is with a newcomer who finds the fill in the table. Both take the lock of the table's part first and that
    /// of the fill inside it: either the newcomer is a reader by the time of the look, and the fill goes on; or the fill
    /// has left the table when he looks, and he starts a new one. Nobody joins a fill that has been ended.
    pub fn abandon(&mut self) -> bool {
        let seat = self.seat.take();
        let mut shard = seat.as_ref().map(|(fills, key)| (fills.shard(key).lock(), key));
        let mut state = self.fill.state.lock();
        if !state.is_deserted() {
            drop(state);
            drop(shard);
            self.seat = seat;
            return false;
        }
        if state.end == End::Open {
            state.end = End::Failed;
        }
        drop(state);
        if let Some((shard, key)) = &mut shard
            && shard.get(*key).is_some_and(|found| Arc::ptr_eq(found, &self.fill))
        {
            shard.remove(*key);
        }
        true
    }

    /// The body is whole. What is to be stored has to be in the store by now: the fill leaves the table here, and a
    /// request that finds neither would fetch again.
    pub fn complete(mut self) {
        self.end(End::Complete);
    }

    /// Does not fetch after all: readers get [`FillFailed::Withdrawn`](super::FillFailed::Withdrawn) and look again.
    pub fn withdraw(mut self) {
        self.end(End::Withdrawn);
    }

    /// Gives up: readers get [`FillFailed::Failed`](super::FillFailed::Failed).
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
