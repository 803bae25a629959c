//! Entries give way to bodies that are on their way.
//!
//! What fills hold comes out of the same memory as what is stored. So while there are many, the policy has that much less
//! room for entries, and lets those go that it would let go next; when the fills are gone, new entries come in again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Store;
use crate::budget::{FillBudget, piece_cost};

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
        let limit = self.limit();
        let taken = self.counters.bytes.load(Relaxed).max(0) as u64;
        // For nearly every piece there is room, and no lock is taken.
        if taken > limit.saturating_sub(fills) {
            self.make_room_beside(fills);
        }
        fills <= limit
    }
}
