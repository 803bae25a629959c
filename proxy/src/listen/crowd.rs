//! How many connections there are in all, for the limit of them (`max_connections`), which may change while they last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The connections of all listeners.
#[derive(Debug, Default)]
pub(crate) struct Crowd(AtomicU32);

impl Crowd {
    /// Counts a connection from there until the guard is dropped. `None`: there are `most` already.
    pub(crate) fn admit(self: &Arc<Self>, most: u32) -> Option<Member> {
        // Between reading and writing another may come in: then this is tried again with what is true by then.
        let next = |count: u32| (count < most).then(|| count + 1);
        self.0.fetch_update(Relaxed, Relaxed, next).is_ok().then(|| Member(self.clone()))
    }
}

/// One connection that is counted.
#[derive(Debug)]
pub(crate) struct Member(Arc<Crowd>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_may_change_while_there_are_some() {
        let crowd = Arc::<Crowd>::default();
        let members: Vec<_> = (0..3).map_while(|_| crowd.admit(2)).collect();
        assert_eq!(members.len(), 2);
        let third = crowd.admit(3);
        assert!(third.is_some());
        assert!(crowd.admit(2).is_none(), "there are more than may be by now");
        drop((members, third));
        assert!(crowd.admit(1).is_some());
    }

    #[test]
    fn threads_never_are_more() {
        let crowd = Arc::<Crowd>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let member = crowd.admit(2);
                        assert!(crowd.0.load(Relaxed) <= 2);
                        drop(member);
                    }
                });
            }
        });
        assert_eq!(crowd.0.load(Relaxed), 0);
    }
}
