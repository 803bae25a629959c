//! Those who read along.

use std::sync::Arc;

use bytes::Bytes;

use super::fill::{End, Fill};
use super::{FillFailed, Retention};

/// One who reads a fill. Dropping it is leaving.
#[derive(Debug)]
pub struct FillReader<H> {
    pub(super) fill: Arc<Fill<H>>,
    number: u64,
}

impl<H> FillReader<H> {
    pub(super) fn new(fill: Arc<Fill<H>>) -> Self {
        let mut state = fill.state.lock();
        let number = state.next_reader;
        state.next_reader += 1;
        let first = state.dropped;
        state.positions.insert(number, first);
        drop(state);
        Self { fill, number }
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

    /// Waits for the next pieces of the body and appends them to `into`, at most about `limit` bytes. `Ok(false)` at
    /// the end of the body, with nothing appended. Cancel safe.
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
                let Some(position) = state.positions.get_mut(&self.number) else {
                    return Err(FillFailed::Failed);
                };
                let start = (*position - state.dropped) as usize;
                let mut taken = 0;
                for chunk in state.chunks.iter().skip(start) {
                    into.push(chunk.clone());
                    taken += chunk.len();
                    *position += 1;
                    if taken >= limit {
                        break;
                    }
                }
                if taken > 0 {
                    if state.retention != Retention::Whole {
                        state.trim();
                        self.fill.drained.notify_one();
                    }
                    return Ok(true);
                }
                match state.end {
                    End::Open => {}
                    End::Complete => return Ok(false),
                    End::Failed => return Err(FillFailed::Failed),
                    End::Withdrawn => return Err(FillFailed::Withdrawn),
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
}

impl<H> Drop for FillReader<H> {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.positions.remove(&self.number);
        state.trim();
        drop(state);
        self.fill.drained.notify_one();
    }
}
