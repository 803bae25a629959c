//! Those who read along.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::fill::{End, Fill};
use super::{FillFailed, Retention};

/// One who reads a fill. Dropping it is leaving.
#[derive(Debug)]
pub struct FillReader<H> {
    fill: Arc<Fill<H>>,
    /// The first chunk that it is not done with.
    at: u64,
    /// Chunks that the last read gave out: done with when the next is asked for.
    in_hand: u64,
    /// Bytes that are still to be passed over.
    skip: u64,
    /// Bytes that are still wanted behind those.
    wanted: u64,
    follower: bool,
}

impl<H> FillReader<H> {
    /// The one who caused the fetch.
    pub(super) fn leading(fill: Arc<Fill<H>>) -> Self {
        let at = fill.state.lock().enter();
        Self { fill, at, in_hand: 0, skip: 0, wanted: u64::MAX, follower: false }
    }

    /// Another one; none if so many wait for the head already.
    pub(super) fn following(fill: Arc<Fill<H>>, most_waiters: u32) -> Option<Self> {
        let mut state = fill.state.lock();
        if state.head.is_none() && state.followers >= most_waiters {
            return None;
        }
        state.followers += 1;
        let at = state.enter();
        drop(state);
        Some(Self { fill, at, in_hand: 0, skip: 0, wanted: u64::MAX, follower: true })
    }

    pub(super) fn fill(&self) -> &Arc<Fill<H>> {
        &self.fill
    }

    /// Waits for the head. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`FillFailed`] when the fetch ended without one.
    pub async fn head(&self) -> Result<Arc<H>, FillFailed> {
        loop {
            let poured = self.fill.poured.notified();
            tokio::pin!(poured);
            // `notify_waiters` reaches only those who are registered: register before the look.
            poured.as_mut().enable();
            {
                let state = self.fill.state.lock();
                if let Some(head) = &state.head {
                    return Ok(head.clone());
                }
                match state.end {
                    End::Open => {}
                    End::Complete | End::Failed => return Err(FillFailed::Failed),
                    End::Withdrawn => return Err(FillFailed::Withdrawn),
                }
            }
            poured.await;
        }
    }

    /// Reads only these bytes of the body: what lies before them is passed over, and the body ends behind them, whatever
    /// becomes of the rest. To be said before the first read.
    pub fn narrow(&mut self, range: Range<u64>) {
        self.skip = range.start;
        self.wanted = range.end.saturating_sub(range.start);
    }

    /// Waits for the next pieces of the body and appends them to `into`, at most about `limit` bytes. `Ok(false)` at
    /// the end of the body, with nothing appended. Cancel safe.
    ///
    /// When the body only passes through, what a read gave out counts against the window until the next is asked for.
    ///
    /// # Errors
    ///
    /// [`FillFailed`] when the body broke off, after all that had come was read.
    pub async fn read(&mut self, into: &mut Vec<Bytes>, limit: usize) -> Result<bool, FillFailed> {
        loop {
            let poured = self.fill.poured.notified();
            tokio::pin!(poured);
            poured.as_mut().enable();
            {
                let mut state = self.fill.state.lock();
                let state = &mut *state;
                let mut at = self.at + self.in_hand;
                let start = (at - state.dropped) as usize;
                let (mut passed, mut taken) = (0, 0);
                if self.wanted > 0 {
                    for chunk in state.chunks.iter().skip(start) {
                        passed += 1;
                        let length = chunk.len() as u64;
                        if self.skip >= length {
                            self.skip -= length;
                            continue;
                        }
                        let from = std::mem::take(&mut self.skip) as usize;
                        let piece =
                            (chunk.len() - from).min(usize::try_from(self.wanted).unwrap_or(usize::MAX));
                        into.push(chunk.slice(from..from + piece));
                        self.wanted -= piece as u64;
                        taken += piece;
                        if taken >= limit || self.wanted == 0 {
                            break;
                        }
                    }
                }
                self.in_hand = passed;
                if taken == 0 {
                    // What was passed over is in nobody's hands.
                    at += std::mem::take(&mut self.in_hand);
                }
                if at > self.at {
                    state.advance(self.at, at);
                    self.at = at;
                    if state.window().is_some() {
                        state.trim();
                        self.fill.drained.notify_one();
                    }
                }
                if taken > 0 {
                    return Ok(true);
                }
                match state.end {
                    _ if self.wanted == 0 => return Ok(false),
                    End::Open => {}
                    End::Complete => return Ok(false),
                    End::Failed => return Err(FillFailed::Failed),
                    End::Withdrawn => return Err(FillFailed::Withdrawn),
                }
            }
            poured.await;
        }
    }

    /// Waits until the whole body is there, and takes none of it: its bytes. `None` as soon as it is clear that it only
    /// passes through, has more than `most_bytes`, or broke off; it is read as ever then. Cancel safe.
    pub async fn whole(&self, most_bytes: usize) -> Option<usize> {
        loop {
            let poured = self.fill.poured.notified();
            tokio::pin!(poured);
            poured.as_mut().enable();
            {
                let state = self.fill.state.lock();
                if state.retention != Retention::Whole || state.kept_bytes > most_bytes {
                    return None;
                }
                match state.end {
                    End::Open => {}
                    End::Complete => return Some(state.kept_bytes),
                    End::Failed | End::Withdrawn => return None,
                }
            }
            poured.await;
        }
    }

    /// Whether the whole answer is there, so that its length is known: its bytes, if so.
    pub fn whole_length(&self) -> Option<usize> {
        let state = self.fill.state.lock();
        (state.end == End::Complete && state.dropped == 0).then_some(state.kept_bytes)
    }

    /// Bytes of the body that have come so far.
    pub fn poured_bytes(&self) -> u64 {
        self.fill.state.lock().poured_bytes
    }
}

impl<H> Drop for FillReader<H> {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.leave(self.at);
        if self.follower {
            state.followers -= 1;
        }
        state.trim();
        drop(state);
        self.fill.drained.notify_one();
    }
}
