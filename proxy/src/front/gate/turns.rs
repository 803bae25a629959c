//! How many requests of a site may be at its nodes at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// As many turns as may be had at a time.
#[derive(Debug)]
pub(crate) struct Turns {
    taken: AtomicU32,
    most: AtomicU32,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

impl Turns {
    pub(crate) fn new(most: u32) -> Self {
        Self { taken: AtomicU32::new(0), most: AtomicU32::new(most) }
    }

    /// There are so many from now on. Those that are taken beyond it are only missed by those who come.
    pub(crate) fn set_most(&self, most: u32) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// A turn, if one is left.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Turn> {
        // Between reading and writing another may take the last one: then this is tried again and finds none.
        let most = self.most.load(Ordering::Relaxed);
        let next = |taken: u32| (taken < most).then(|| taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.is_ok().then(|| Turn(self.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
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
    fn there_may_be_more_or_less_of_them_later() {
        let turns = Arc::new(Turns::new(1));
        let one = turns.take();
        turns.set_most(2);
        let two = turns.take();
        assert!(one.is_some() && two.is_some() && turns.take().is_none());
        turns.set_most(1);
        drop(one);
        assert!(turns.take().is_none(), "the other one is still taken");
        drop(two);
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
        assert_eq!(turns.taken.load(Ordering::SeqCst), 0);
    }
}
