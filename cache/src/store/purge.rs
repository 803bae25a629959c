//! Purges: by URL, by tag, of everything. Why they are exact is told on the store's own page.

use std::sync::Arc;

use super::Store;
use crate::entry::{Entry, Freshness};
use crate::index::SHARDS;
use crate::key::CacheKey;
use crate::time::Moment;

/// Entries that are purged on the spot: in less time than it takes to have the rest of a thread's work done by another.
const FEW: usize = 500;

/// What a purge does to the entries it names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PurgeMode {
    /// They are gone.
    Hard,
    /// They are stale; grace and keep count from now.
    Soft,
}

/// What a purge did. Each entry counts once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PurgeCount {
    /// Entries removed that could still have been used.
    pub purged: u64,
    /// Entries that were fresh and are stale now.
    pub softened: u64,
}

impl std::ops::AddAssign for PurgeCount {
    fn add_assign(&mut self, other: Self) {
        self.purged += other.purged;
        self.softened += other.softened;
    }
}

impl Store {
    /// Purges all variants of a URL, its uncacheable mark, and the fills of it that are under way.
    pub fn purge_key(&self, key: CacheKey, mode: PurgeMode, now: Moment) -> PurgeCount {
        self.ledger.purge_key(key, mode);
        let entries = match mode {
            PurgeMode::Hard => self.index.take(key),
            PurgeMode::Soft => {
                self.index.unmark(key);
                self.index.variants(key)
            }
        };
        self.count_purged(entries, mode, now)
    }

    /// Lets no fill of a URL that is under way be stored or joined any more. What is stored stays.
    pub fn outdate_fills(&self, key: CacheKey) {
        self.ledger.purge_key(key, PurgeMode::Hard);
    }

    /// Purges every entry that carries one of the tags, and the fills under way whose answer will carry one.
    ///
    /// The cost is that of the entries named, one or two microseconds each: for tags that thousands carry, call it
    /// where a thread may be busy for a while.
    pub fn purge_tags<T: AsRef<[u8]>>(&self, tags: &[T], mode: PurgeMode, now: Moment) -> PurgeCount {
        self.purge_tags_aside(tags, mode, now, |rest| rest())
    }

    /// The same; where it is more than some hundred entries, `aside` is called once with the rest of the work.
    pub fn purge_tags_aside<T: AsRef<[u8]>>(
        &self,
        tags: &[T],
        mode: PurgeMode,
        now: Moment,
        aside: impl FnOnce(&mut dyn FnMut()),
    ) -> PurgeCount {
        self.ledger.purge_tags(tags, mode);
        let mut count = PurgeCount::default();
        // Goes on at this place of this tag's list, and comes back with the place where more than `few` would have been named.
        let mut purge = |(from, mut end): (usize, usize), few: usize| {
            let mut named = 0;
            for (at, tag) in tags.iter().enumerate().skip(from) {
                while let Some((carriers, start)) = self.tags.carriers_before(tag.as_ref(), end) {
                    named += carriers.len();
                    if named > few {
                        return Some((at, end));
                    }
                    for entry in carriers {
                        count += self.purge_entry(&entry, mode, now);
                    }
                    if start == 0 {
                        break;
                    }
                    end = start;
                }
                end = usize::MAX;
            }
            None
        };
        if let Some(place) = purge((0, usize::MAX), FEW) {
            aside(&mut || _ = purge(place, usize::MAX));
        }
        count
    }

    /// Purges everything, marks and fills under way included.
    pub fn purge_all(&self, mode: PurgeMode, now: Moment) -> PurgeCount {
        self.ledger.purge_all(mode);
        let mut count = PurgeCount::default();
        for part in 0..SHARDS {
            let entries = match mode {
                PurgeMode::Hard => self.index.take_shard(part),
                PurgeMode::Soft => self.index.entries(part),
            };
            count += self.count_purged(entries, mode, now);
        }
        if mode == PurgeMode::Soft {
            self.index.clear_marks();
        }
        count
    }

    /// Purges one entry if it is still stored. Fills under way are not named by it.
    pub fn purge_entry(&self, entry: &Arc<Entry>, mode: PurgeMode, now: Moment) -> PurgeCount {
        match mode {
            PurgeMode::Hard => {
                let usable = entry.freshness(now) != Freshness::Dead;
                PurgeCount { purged: u64::from(self.remove(entry) && usable), softened: 0 }
            }
            PurgeMode::Soft => {
                // One that is about to be committed stands in its tags' lists already; its commit makes it stale,
                // and it is none of those that were stored before the purge.
                let stored = self.index.get(entry.key(), entry.variant());
                let stored = stored.is_some_and(|stored| Arc::ptr_eq(&stored, entry));
                PurgeCount { purged: 0, softened: u64::from(stored && entry.soften(now)) }
            }
        }
    }

    fn count_purged(
        &self,
        entries: impl IntoIterator<Item = Arc<Entry>>,
        mode: PurgeMode,
        now: Moment,
    ) -> PurgeCount {
        let mut count = PurgeCount::default();
        for entry in entries {
            match mode {
                // It was taken out of the index already.
                PurgeMode::Hard => {
                    count.purged += u64::from(entry.freshness(now) != Freshness::Dead);
                    self.leave(&entry);
                }
                PurgeMode::Soft => count.softened += u64::from(entry.soften(now)),
            }
        }
        count
    }
}
