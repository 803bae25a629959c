//! The account of fills in progress: what they hold comes out of the same memory as what is stored.
//!
//! A body on its way is held by its fill until it is stored or has passed through, and a slow node or slow visitors can
//! make that long. [`FillBudget`] adds up what all fills hold; each has a [`Charge`] on it, which gives back what is left
//! when it is dropped. The account itself refuses nothing: the store makes room for it
//! ([`Store::make_room_for_fill`](crate::Store::make_room_for_fill)), and who fetches asks there before a body grows.
//!
//! Only atomics, relaxed: the sum orders nothing, and a reader that misses the change of that very moment sees it at the
//! next piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::entry::heap;

/// What a piece of a body costs besides its bytes: its place in the fill's list, and the head of its allocation once it
/// is shared. A node that sends a body byte by byte pays for it.
const PIECE_BYTES: usize = 64;

/// The smallest window: about what one connection's kernel buffers hold anyway.
const SMALLEST_WINDOW: usize = 16 << 10;

/// Entries give way to bodies that only pass through up to one part in so many of the capacity.
const PASSING_SHARE: u64 = 4;

/// The account of what fills hold, in bytes.
#[derive(Debug)]
pub struct FillBudget {
    /// What the store and its fills may take together.
    capacity: AtomicU64,
    /// By bodies that are kept to be stored.
    kept: AtomicU64,
    /// By bodies that only pass through.
    passing: AtomicU64,
}

impl FillBudget {
    /// An account against this many bytes.
    pub(crate) fn new(capacity: u64) -> Arc<Self> {
        Arc::new(Self {
            capacity: AtomicU64::new(capacity),
            kept: AtomicU64::new(0),
            passing: AtomicU64::new(0),
        })
    }

    /// An account that nothing is measured against: for fills without a store.
    pub fn unlimited() -> Arc<Self> {
        Self::new(u64::MAX)
    }

    /// Measures against this many bytes from now on.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Relaxed);
    }

    /// What all fills hold now.
    pub fn held(&self) -> u64 {
        self.kept.load(Relaxed).saturating_add(self.passing.load(Relaxed))
    }

    /// What entries have to give way to. A body that is kept can be refused, one that passes through cannot: if entries
    /// gave way to all of those, whoever opens connections enough and reads slowly could empty the store. Beyond their
    /// share these come on top of the memory, at least a piece for each connection.
    pub(crate) fn claimed(&self) -> u64 {
        let passing = self.passing.load(Relaxed).min(self.capacity.load(Relaxed) / PASSING_SHARE);
        self.kept.load(Relaxed).saturating_add(passing)
    }

    /// How far a body that only passes through may run ahead of its slowest reader, at most `most` bytes: the fuller
    /// the memory is with bodies on their way, the less. Such a body cannot be refused, so many slow visitors must not
    /// be able to push out all that is stored.
    pub fn window(&self, most: usize) -> usize {
        let (held, capacity) = (self.held(), self.capacity.load(Relaxed));
        if held < capacity / 16 {
            most
        } else if held < capacity / 8 {
            (most / 4).max(SMALLEST_WINDOW).min(most)
        } else {
            SMALLEST_WINDOW.min(most)
        }
    }

    /// An empty charge.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: self.clone(), bytes: 0, passing: false }
    }
}

/// What one fill has on the account. Gives it back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<FillBudget>,
    bytes: u64,
    passing: bool,
}

impl Charge {
    /// Puts a piece of a body on the account.
    pub fn add_piece(&mut self, length: usize) {
        self.add(piece_cost(length));
    }

    /// Takes a piece off the account.
    pub(crate) fn remove_piece(&mut self, length: usize) {
        self.set(self.bytes.saturating_sub(piece_cost(length)));
    }

    /// Puts bytes on the account, for as long as they are in use.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.set(self.bytes.saturating_add(bytes));
    }

    /// Leaves this on the account.
    pub(crate) fn set(&mut self, bytes: u64) {
        let account = if self.passing { &self.budget.passing } else { &self.budget.kept };
        if bytes >= self.bytes {
            account.fetch_add(bytes - self.bytes, Relaxed);
        } else {
            account.fetch_sub(self.bytes - bytes, Relaxed);
        }
        self.bytes = bytes;
    }

    /// What is charged here only passes through from now on.
    pub(crate) fn pass_through(&mut self) {
        let bytes = self.bytes;
        self.set(0);
        self.passing = true;
        self.set(bytes);
    }

    pub(crate) fn budget(&self) -> &Arc<FillBudget> {
        &self.budget
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What a piece of this length takes.
pub(crate) fn piece_cost(length: usize) -> u64 {
    (heap(length) + PIECE_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_gives_back_what_it_has() {
        let budget = FillBudget::new(1 << 20);
        let mut charge = budget.charge();
        let mut other = budget.charge();
        charge.add_piece(100_000);
        other.add_piece(1);
        assert_eq!(budget.held(), piece_cost(100_000) + piece_cost(1));
        charge.remove_piece(100_000);
        charge.remove_piece(100_000);
        assert_eq!(budget.held(), piece_cost(1), "never below nothing");
        charge.set(7);
        charge.pass_through();
        assert_eq!(budget.held(), 7 + piece_cost(1));
        drop(charge);
        drop(other);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn entries_give_way_to_what_passes_through_up_to_its_share_only() {
        let budget = FillBudget::new(1000);
        let (mut kept, mut passing) = (budget.charge(), budget.charge());
        passing.pass_through();
        for (keeps, passes, claimed) in
            [(0, 0, 0), (300, 0, 300), (300, 200, 500), (300, 900, 550), (0, 5000, 250)]
        {
            kept.set(keeps);
            passing.set(passes);
            assert_eq!((budget.claimed(), budget.held()), (claimed, keeps + passes));
        }
    }

    #[test]
    fn windows_shrink_as_memory_fills_up() {
        const MIB: u64 = 1 << 20;
        for (held, most, expected) in [
            (0, 256 << 10, 256 << 10),
            (4 * MIB - 1, 256 << 10, 256 << 10),
            (4 * MIB, 256 << 10, 64 << 10),
            (8 * MIB, 256 << 10, 16 << 10),
            (1000 * MIB, 256 << 10, 16 << 10),
            (4 * MIB, 32 << 10, 16 << 10),
            (1000 * MIB, 1000, 1000),
        ] {
            let budget = FillBudget::new(64 * MIB);
            let mut charge = budget.charge();
            charge.set(held);
            assert_eq!(budget.window(most), expected, "{held} bytes held, window of {most}");
        }
    }
}
