//! How many requests of a site may be at its nodes at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// As many turns as may be had at a time.
#[derive(Debug)]
pub(crate) struct Turns {
    left: AtomicU32,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

impl Turns {
    pub(crate) fn new(most: u32) -> Self {
        Self { left: AtomicU32::new(most) }
    }

    /// A turn, if one is left.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Turn> {
        // Between reading and writing another may take the last one: then this is tried again and finds none.
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| Turn(self.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_turns_as_said() {
        let turns = Arc::new(Turns::new(2));
        let (one, two) = (turns.take(), turns.take());
        assert!(one.is_some() && two.is_some() && turns.take().is_none());
        drop(one);
        assert!(turns.take().is_some());
    }

    #[test]
    fn threads_never_have_more_at_a_time() {
        let turns = Arc::new(Turns::new(3));
        let held = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(turn) = turns.take() else { continue };
                        assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(turns.left.load(Ordering::SeqCst), 3);
    }
}
