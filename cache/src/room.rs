//! Which entries there is room for: moka's W-TinyLFU, weighted in bytes.
//!
//! This is the policy and nothing else: it is never asked for an entry. It follows the index: after every change
//! under a key, [`Room::follow`] brings moka to what the index holds *at that time*, under a lock per stripe of keys.
//! Whatever order two threads come in, the last one to follow sees the last state, so the two agree in the end; a
//! reader of the index never waits for any of this.
//!
//! The other way round, moka's eviction listener may run inside any call to moka, with locks of ours held around it.
//! So it takes none: it puts the entry on a queue, and [`Room::next_evicted`] hands it out to whoever has the hands
//! free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::entry::Entry;
use crate::key::BuildIdentity;

/// Locks under which moka is brought in step.
const STRIPES: usize = 256;

/// Moka cannot count years by the hundred thousand; nobody stores anything for longer than this.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why moka let an entry go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// There was no room, or it was not admitted.
    Size,
    /// Its grace and keep were over.
    Expired,
}

#[derive(Default)]
struct Evicted {
    queue: Mutex<Vec<(Arc<Entry>, Cause)>>,
    /// Its length, to see without the lock that it is empty.
    length: AtomicUsize,
}

/// Frees entries that are of no use any more. Whether one is, is decided by `Entry::freshness`; this only sees to
/// it that they do not lie about.
struct UsefulLife;

impl Expiry<u128, Arc<Entry>> for UsefulLife {
    fn expire_after_create(&self, _: &u128, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.useful_for().min(LONGEST_LIFE))
    }

    fn expire_after_update(
        &self,
        _: &u128,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.useful_for().min(LONGEST_LIFE))
    }
}

/// See the module's page.
pub(crate) struct Room {
    moka: Cache<u128, Arc<Entry>, BuildIdentity>,
    evicted: Arc<Evicted>,
    stripes: Box<[Mutex<()>]>,
}

impl Room {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let evicted = Arc::new(Evicted::default());
        let queue = Arc::clone(&evicted);
        let listener = move |_: Arc<u128>, entry: Arc<Entry>, cause: RemovalCause| {
            let cause = match cause {
                RemovalCause::Size => Cause::Size,
                RemovalCause::Expired => Cause::Expired,
                // These are echoes of our own doing.
                RemovalCause::Explicit | RemovalCause::Replaced => return,
            };
            let mut waiting = queue.queue.lock();
            waiting.push((entry, cause));
            queue.length.store(waiting.len(), Ordering::Release);
        };
        let moka = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .expire_after(UsefulLife)
            .eviction_listener(listener)
            .build_with_hasher(BuildIdentity::default());
        Self { moka, evicted, stripes: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }

    /// Tells the policy that an entry was used.
    pub(crate) fn touch(&self, entry: &Entry) {
        self.moka.get(&entry.room_key());
    }

    /// Brings moka in step with the index under `key`. `current` reads the index; it is called with the stripe
    /// locked and may lock a part of the index, nothing else.
    pub(crate) fn follow(&self, key: u128, current: impl FnOnce() -> Option<Arc<Entry>>) {
        let _in_step = self.stripes[(key >> 64) as usize % STRIPES].lock();
        match current() {
            Some(entry) => {
                // Asking counts as a use: the fill that brought the entry is the first one.
                let known = self.moka.get(&key);
                if !known.is_some_and(|known| Arc::ptr_eq(&known, &entry)) {
                    self.moka.insert(key, entry);
                }
            }
            None => self.moka.invalidate(&key),
        }
    }

    /// Tells moka that `entry` weighs more than it did, if it is still what the index holds. `current` as for
    /// [`Room::follow`], and in step with it: whoever comes last under the stripe's lock sees the last state.
    pub(crate) fn reweigh(&self, entry: &Entry, current: impl FnOnce() -> Option<Arc<Entry>>) {
        let key = entry.room_key();
        let _in_step = self.stripes[(key >> 64) as usize % STRIPES].lock();
        if let Some(current) = current().filter(|current| std::ptr::eq(&**current, entry)) {
            // Moka weighs what it is given; the old weight is in its own records.
            self.moka.insert(key, current);
        }
    }

    /// Lets moka work off what it was told, so that it evicts now and not later.
    pub(crate) fn run_pending(&self) {
        self.moka.run_pending_tasks();
    }

    pub(crate) fn has_evicted(&self) -> bool {
        self.evicted.length.load(Ordering::Acquire) > 0
    }

    /// The next entry that moka let go.
    pub(crate) fn next_evicted(&self) -> Option<(Arc<Entry>, Cause)> {
        let mut waiting = self.evicted.queue.lock();
        let next = waiting.pop();
        self.evicted.length.store(waiting.len(), Ordering::Release);
        if waiting.is_empty() && waiting.capacity() > 1024 {
            waiting.shrink_to(1024);
        }
        next
    }

    #[cfg(test)]
    pub(crate) fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.moka.get(&entry.room_key()).is_some_and(|known| Arc::ptr_eq(&known, entry))
    }
}
