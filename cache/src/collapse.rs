//! One fetch for many: requests that want the same answer while it is on its way share it.
//!
//! A fill is an answer in the making. Exactly one [`FillWriter`] pours into it; any number of [`FillReader`]s
//! drink from it, each at its own pace and from the first byte. The writer belongs to a task of its own, so a reader
//! that is slow neither slows nor ends the fill, unless the body is only passing through ([`Retention::Window`]): then it
//! is paced by the slowest reader and ends with the last. Whether a fill that is kept goes on when its last reader has
//! left is for its writer to decide ([`FillWriter::deserted`], [`FillWriter::abandon`]).
//!
//! [`Fills`] is the table of fills that newcomers may join. It knows nothing of freshness or purges; who may use what
//! they joined is decided by the caller, from the head (`H`) that the writer publishes.
//!
//! What fills hold is on the account of a [`FillBudget`].
//!
//! Locks: one a shard of the table, one short `Mutex` a fill. Who needs both takes the shard's first; never across an
//! await.

mod fill;
mod reader;
mod writer;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

pub use reader::FillReader;
pub use writer::FillWriter;

use crate::budget::FillBudget;
use fill::Fill;

/// How many shards the table of fills has; more would not be felt beside the fetches themselves.
const SHARDS: usize = 16;

/// How many requests may wait for one fill's head, unless it is said otherwise.
const MOST_WAITERS: u32 = 10_000;

/// The fills that may be joined, by what they fetch.
#[derive(Debug)]
pub struct Fills<K, H> {
    shards: [Mutex<HashMap<K, Arc<Fill<H>>>>; SHARDS],
    hasher: RandomState,
    most_waiters: AtomicU32,
    budget: Arc<FillBudget>,
}

/// What [`Fills::join`] made of a newcomer.
#[derive(Debug)]
pub enum Joined<K: Eq + Hash + Clone, H> {
    /// Nobody was fetching it: the caller has to, and may read along.
    Leader(FillWriter<K, H>, FillReader<H>),
    /// Somebody already is.
    Follower(FillReader<H>),
    /// Somebody already is, and as many wait for his head as may.
    Full,
}

/// How much of a body a fill keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retention {
    /// All of it: it is to be stored, and late readers start at the first byte.
    Whole,
    /// At most about this many bytes ahead of the slowest reader: the body is only passing through. Nobody can join
    /// any more.
    Window(usize),
}

/// Why a reader got no (whole) answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FillFailed {
    /// The writer gave up, or its task ended without a word.
    #[error("the fetch failed")]
    Failed,
    /// The one who was to fetch found that there is no need: look it up again.
    #[error("the fetch was withdrawn")]
    Withdrawn,
}

/// Every reader of a body that only passes through has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nobody reads the answer any more")]
pub struct Abandoned;

impl<K: Eq + Hash + Clone, H> Default for Fills<K, H> {
    fn default() -> Self {
        Self::new(MOST_WAITERS, FillBudget::unlimited())
    }
}

impl<K: Eq + Hash + Clone, H> Fills<K, H> {
    /// An empty table. At most `most_waiters` requests, besides the one who caused it, wait for one fill's head; what
    /// fills hold is put on `budget`.
    pub fn new(most_waiters: u32, budget: Arc<FillBudget>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            most_waiters: AtomicU32::new(most_waiters),
            budget,
        }
    }

    /// Lets so many wait from now on; those who wait already go on.
    pub fn set_most_waiters(&self, most_waiters: u32) {
        self.most_waiters.store(most_waiters, Relaxed);
    }

    /// The account of what its fills hold.
    pub fn budget(&self) -> &Arc<FillBudget> {
        &self.budget
    }

    fn shard(&self, key: &K) -> &Mutex<HashMap<K, Arc<Fill<H>>>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[index]
    }

    /// Joins the fill of `key`, or starts one.
    pub fn join(self: &Arc<Self>, key: K) -> Joined<K, H> {
        let mut shard = self.shard(&key).lock();
        if let Some(fill) = shard.get(&key) {
            // Under the lock of the shard: the writer must not end the fill between our finding it and our entering.
            return match FillReader::following(fill.clone(), self.most_waiters.load(Relaxed)) {
                Some(reader) => Joined::Follower(reader),
                None => Joined::Full,
            };
        }
        let fill = Arc::new(Fill::new(self.budget.charge()));
        let reader = FillReader::leading(fill.clone());
        shard.insert(key.clone(), fill.clone());
        drop(shard);
        Joined::Leader(FillWriter { fill, seat: Some((self.clone(), key)) }, reader)
    }

    /// A fill of one's own that nobody can join.
    pub fn alone(self: &Arc<Self>) -> (FillWriter<K, H>, FillReader<H>) {
        let fill = Arc::new(Fill::new(self.budget.charge()));
        let reader = FillReader::leading(fill.clone());
        (FillWriter { fill, seat: None }, reader)
    }

    /// Takes the reader's fill out of the table, if it still stands there: whoever comes now starts a new one. The
    /// readers that it has are not touched.
    pub fn close(&self, key: &K, reader: &FillReader<H>) {
        self.remove(key, reader.fill());
    }

    /// Whether somebody fetches `key` and can be joined.
    pub fn is_fetching(&self, key: &K) -> bool {
        self.shard(key).lock().contains_key(key)
    }

    /// How many fills can be joined now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no fill can be joined now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, key: &K, fill: &Arc<Fill<H>>) {
        let mut shard = self.shard(key).lock();
        // A newer fill may have taken the place; that one stays.
        if shard.get(key).is_some_and(|found| Arc::ptr_eq(found, fill)) {
            shard.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
