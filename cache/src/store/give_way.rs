//! Entries give way to bodies that are on their way.
//!
//! Moka keeps room for entries within a capacity that is fixed when it is made, and knows nothing of fills. What these
//! hold comes out of the same memory, so while there are many, entries have to go beyond what moka lets go. That is done
//! here, simply: part by part of the index, the least recently used first. Keys are hashes, so each part is a fair sample
//! of everything, as in the approximate LRU of Redis. Moka hears of it as of any other removal, and lets new entries in
//! when the fills are gone.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Store;
use crate::budget::{FillBudget, piece_cost};
use crate::index::SHARDS;

/// Of the entries of a part, one in so many goes before the next part is looked at.
const SHARE: usize = 8;

/// The most often that a sweep comes to each part.
const ROUNDS: usize = 64;

/// A sweep frees this part of the capacity beyond what is needed, so that the next piece of a body finds room without one.
const SLACK: u64 = 256;

impl Store {
    /// The account of what fills hold.
    pub fn fill_budget(&self) -> &Arc<FillBudget> {
        &self.fills
    }

    /// Bytes of the tables of a fixed size, the marks of uncacheable URLs above all. They come off the memory beforehand.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed_bytes
    }

    /// Makes room for a piece of a body of `length` bytes that a fill is about to take in. `false` if there is none, even
    /// with every entry gone: then a body should not be kept.
    ///
    /// Several fills may be told of the same room at the same time; together they may pass the limit by a piece each.
    pub fn make_room_for_fill(&self, length: usize) -> bool {
        let fills = self.fills.claimed().saturating_add(piece_cost(length));
        self.give_way(fills);
        fills <= self.capacity_bytes
    }

    /// Lets entries go until there is room beside them for `fills` bytes.
    pub(super) fn give_way(&self, fills: u64) {
        let most = self.capacity_bytes.saturating_sub(fills);
        if self.taken() <= most {
            return;
        }
        // One at a time: others who need room wait for this sweep instead of making one each.
        let mut hand = self.hand.lock();
        if self.taken() <= most {
            return;
        }
        let target = most.saturating_sub(self.capacity_bytes / SLACK);
        let mut empty_parts = 0;
        // By then next to nothing is left, whatever comes in meanwhile.
        for _ in 0..ROUNDS * SHARDS {
            if empty_parts == SHARDS {
                return;
            }
            let mut entries = self.index.entries(*hand);
            *hand = (*hand + 1) % SHARDS;
            empty_parts = if entries.is_empty() { empty_parts + 1 } else { 0 };
            entries.sort_by_cached_key(|entry| entry.last_use());
            for entry in entries.iter().take(entries.len().div_ceil(SHARE)) {
                if self.remove(entry) {
                    self.counters.evictions.fetch_add(1, Relaxed);
                }
                if self.taken() <= target {
                    return;
                }
            }
        }
    }

    fn taken(&self) -> u64 {
        self.counters.bytes.load(Relaxed).max(0) as u64
    }
}
