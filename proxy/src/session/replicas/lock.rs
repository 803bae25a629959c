//! Waiting for the lock of a session.
//!
//! PHP takes a lock by adding a key, and asks again after 150 ms if it is there already; after five times it gives up, and the
//! request fails. Whoever comes to us waits instead, in turn, and has the lock the moment that it is free.
//!
//! What is kept of those who wait concerns this edge alone. If another edge frees the lock nobody is told, so it is looked at now and
//! then all the same; and whether it is taken is decided where it always is, at the servers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::change::Deleted;
use super::{Failure, Replicas, Write};
use crate::session::key::Key;
use crate::session::value::Version;

/// How often a lock is looked at that another edge may free.
const LOOK: Duration = Duration::from_millis(25);

/// Those who wait, by the key of the lock. As many as there are connections at most.
#[derive(Debug, Default)]
pub(super) struct Queues {
    waiting: Mutex<HashMap<Vec<u8>, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    freed: Arc<Notify>,
    /// How many places there are in it.
    places: usize,
}

/// A place in a queue; leaving it takes an empty queue away.
struct Place<'q> {
    queues: &'q Queues,
    key: &'q [u8],
    freed: Arc<Notify>,
}

impl Queues {
    fn wait<'q>(&'q self, key: &'q [u8]) -> Place<'q> {
        let mut waiting = self.waiting.lock();
        let queue = waiting.entry(key.to_vec()).or_default();
        queue.places += 1;
        let freed = queue.freed.clone();
        Place { queues: self, key, freed }
    }

    /// Tells the one who has waited longest.
    fn freed(&self, key: &[u8]) {
        if let Some(queue) = self.waiting.lock().get(key) {
            queue.freed.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting.lock();
        let Some(queue) = waiting.get_mut(self.key) else { return };
        queue.places -= 1;
        if queue.places == 0 {
            waiting.remove(self.key);
        } else {
            // Had the news come to us, the next one has to hear of it.
            self.freed.notify_one();
        }
    }
}

impl Replicas {
    /// Takes the lock of a session, as soon as it is free; `None` if it is not within the time.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub(crate) async fn add_lock(&self, key: &Key, write: &Write) -> Result<Option<Version>, Failure> {
        let deadline = Instant::now() + self.settings.lock_wait;
        if let Some(version) = self.add(key, write).await? {
            return Ok(Some(version));
        }
        let place = self.queues.wait(key.wire());
        loop {
            let look = Instant::now() + LOOK;
            if look > deadline {
                return Ok(None);
            }
            // Whether it was freed or only time has passed: it is asked for. That it was freed is kept for us while we ask.
            let _ = timeout_at(look, place.freed.notified()).await;
            if let Some(version) = self.add(key, write).await? {
                return Ok(Some(version));
            }
        }
    }

    /// Frees a lock whose holder is gone, unless another has it by now.
    pub(crate) async fn give_back(&self, key: &Key, version: Version) {
        if matches!(self.delete_if(key, version).await, Ok(Deleted::Done)) {
            self.counts.locks_given_back.fetch_add(1, Relaxed);
            self.lock_freed(key);
        }
    }

    /// Lets the next one have a lock that was deleted.
    pub(super) fn lock_freed(&self, key: &Key) {
        if key.is_lock() {
            self.queues.freed(key.wire());
        }
    }
}
