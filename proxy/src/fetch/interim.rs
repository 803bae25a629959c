//! Interim answers (RFC 9110 section 15.2) on their way from a fetch to the visitor who caused it.
//!
//! They are rare and every fetch has the means for them, so this is the least there can be: one lock, and no memory for
//! blocks until the first comes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

/// Blocks that wait to be written; a node that sends them faster loses some.
const MOST: usize = 8;

/// A short queue with one writer and one reader.
#[derive(Debug, Default)]
pub(crate) struct Interim {
    state: Mutex<State>,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Bytes>,
    reader: Option<Waker>,
}

impl Interim {
    /// Adds a block, unless as many wait as may.
    pub(super) fn send(&self, block: Bytes) {
        self.used.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        if state.blocks.len() < MOST {
            state.blocks.push_back(block);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether there ever was a block.
    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The next block if it is there.
    pub(crate) fn next(&self) -> Option<Bytes> {
        // The flag alone would do where writer and reader are one task; where they are not, the waker decides.
        if !self.was_used() {
            return None;
        }
        self.state.lock().blocks.pop_front()
    }

    /// The next block once it is there.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Bytes> {
        let mut state = self.state.lock();
        match state.blocks.pop_front() {
            Some(block) => Poll::Ready(block),
            None => {
                if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                    state.reader = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_order_and_too_many_are_lost() {
        let interim = Interim::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(!interim.was_used() && interim.next().is_none());
        assert_eq!(interim.poll_next(&mut context), Poll::Pending);
        for number in 0..=MOST as u8 {
            interim.send(Bytes::from(vec![number]));
        }
        assert!(interim.was_used());
        assert_eq!(interim.poll_next(&mut context), Poll::Ready(Bytes::from_static(&[0])));
        let rest: Vec<u8> = std::iter::from_fn(|| interim.next()).map(|block| block[0]).collect();
        assert_eq!(rest, (1..MOST as u8).collect::<Vec<_>>());
        assert_eq!(interim.poll_next(&mut context), Poll::Pending);
    }
}
