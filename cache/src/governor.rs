//! How much a store may hold so that the *process* keeps the budget.
//!
//! A store counts what it allocated. The process has more resident: freed memory that the allocator has not handed back,
//! and pages of which only a part is in use. This waste depends on the allocator, on the sizes of the pages that are
//! stored and on how they change; no weight of an entry can know it. So it is measured, and what passes an allowance is
//! taken from what the store may hold.
//!
//! Pure arithmetic: whoever calls it once a second or so measures, and tells the store.

/// What the waste may be before the store is made smaller, in parts of the budget: one in so many. With jemalloc it is
/// a hundredth when nothing happens and some hundredths under churn.
const ALLOWANCE: u64 = 16;

/// The store is never made smaller than this part of its budget, one in so many: a measure that is wrong, or memory
/// that has nothing to do with the store, must not empty the cache.
const LEAST: u64 = 2;

/// Steps by which the capacity changes, one part of the budget in so many; smaller changes are let be, so that the
/// store does not tremble. It grows by one step at a time, and shrinks at once.
const STEP: u64 = 64;

/// What a process takes now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Footprint {
    /// Bytes of it that are in memory.
    pub resident_bytes: u64,
    /// Bytes in allocations that are alive, whatever they are for.
    pub live_bytes: u64,
}

/// Decides how much a store may hold. See the module's page.
#[derive(Debug)]
pub struct Governor {
    budget_bytes: u64,
    /// What the process has resident beside its allocations: code, stacks, tables of the allocator.
    base_bytes: u64,
    capacity_bytes: u64,
}

impl Governor {
    /// For a store with a budget. `idle` is what the process takes before anything is stored.
    pub fn new(budget_bytes: u64, idle: Footprint) -> Self {
        Self {
            budget_bytes,
            base_bytes: idle.resident_bytes.saturating_sub(idle.live_bytes),
            capacity_bytes: budget_bytes,
        }
    }

    /// Goes by another budget from now on. What the process took for nothing is found out anew.
    pub fn set_budget(&mut self, bytes: u64) {
        self.budget_bytes = bytes;
        self.capacity_bytes = bytes;
    }

    /// What the store may hold now.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// What the process has resident for nothing.
    pub fn waste_bytes(&self, now: Footprint) -> u64 {
        now.resident_bytes.saturating_sub(now.live_bytes).saturating_sub(self.base_bytes)
    }

    /// Takes a measurement. The new capacity if it changed; call once a second or so.
    pub fn measure(&mut self, now: Footprint) -> Option<u64> {
        let excess = self.waste_bytes(now).saturating_sub(self.budget_bytes / ALLOWANCE);
        let least = self.budget_bytes / LEAST;
        let wanted = self.budget_bytes.saturating_sub(excess).max(least);
        let step = (self.budget_bytes / STEP).max(1);
        let before = self.capacity_bytes;
        if wanted + step <= before || (wanted < before && wanted == least) {
            self.capacity_bytes = wanted;
        } else if wanted >= before + step {
            self.capacity_bytes = before + step;
        } else if wanted == self.budget_bytes {
            self.capacity_bytes = wanted;
        }
        (self.capacity_bytes != before).then_some(self.capacity_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A process that takes 30 MiB idle, 10 of them allocated.
    fn governor() -> Governor {
        let idle = Footprint { resident_bytes: 30 * MIB, live_bytes: 10 * MIB };
        Governor::new(1024 * MIB, idle)
    }

    /// MiB of waste; the capacity in MiB if it changed.
    fn measure(governor: &mut Governor, waste: u64) -> Option<u64> {
        let now = Footprint { resident_bytes: (20 + 700 + waste) * MIB, live_bytes: 700 * MIB };
        governor.measure(now).map(|bytes| bytes / MIB)
    }

    #[test]
    fn waste_within_the_allowance_is_let_be() {
        let mut governor = governor();
        for waste in [0, 50, 64, 0] {
            assert_eq!(measure(&mut governor, waste), None, "{waste}");
        }
        assert_eq!(governor.capacity_bytes(), 1024 * MIB);
        // Less resident than allocated: nothing was touched yet.
        assert_eq!(governor.measure(Footprint { resident_bytes: 0, live_bytes: MIB }), None);
    }

    #[test]
    fn it_shrinks_at_once_and_grows_step_by_step() {
        let mut governor = governor();
        assert_eq!(measure(&mut governor, 164), Some(924));
        assert_eq!(measure(&mut governor, 172), None, "less than a step");
        assert_eq!(measure(&mut governor, 157), None, "less than a step");
        assert_eq!(measure(&mut governor, 264), Some(824));
        for capacity in (0..12).map(|step| 840 + step * 16) {
            assert_eq!(measure(&mut governor, 10), Some(capacity));
        }
        assert_eq!(measure(&mut governor, 10), Some(1024), "the last part of a step counts too");
        assert_eq!(measure(&mut governor, 10), None);
    }

    #[test]
    fn half_of_the_budget_is_never_taken() {
        let mut governor = governor();
        assert_eq!(measure(&mut governor, 5000), Some(512));
        assert_eq!(measure(&mut governor, 9000), None);
    }
}
