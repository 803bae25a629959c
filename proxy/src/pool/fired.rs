//! A limit that fires: counts every time, and tells now and then that a line in the log is due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A limit that fires a thousand times a second makes one line in this time.
const QUIET: Duration = Duration::from_secs(10);

/// How often a limit fired.
#[derive(Debug)]
pub(crate) struct Fired {
    start: Instant,
    count: AtomicU64,
    // Milliseconds since `start` from which on a line is due, and the count at the last line.
    due: AtomicU64,
    logged: AtomicU64,
}

impl Fired {
    /// Never yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, count: AtomicU64::new(0), due: AtomicU64::new(0), logged: AtomicU64::new(0) }
    }

    /// How often in all.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts. `Some` if a line is due, with how often it fired since the last one.
    pub(crate) fn fire(&self, now: Instant) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (at, due) = (millis(now.saturating_duration_since(self.start)), self.due.load(Ordering::Relaxed));
        let next = at.saturating_add(millis(QUIET));
        // Of several threads at once, one writes the line.
        if at < due || self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return None;
        }
        Some(count.saturating_sub(self.logged.swap(count, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_lose_no_count() {
        let start = Instant::now();
        let fired = Fired::new(start);
        for (seconds, due) in [(0, Some(1)), (0, None), (9, None), (10, Some(3)), (11, None), (999, Some(2))]
        {
            assert_eq!(fired.fire(start + Duration::from_secs(seconds)), due, "at {seconds} s");
        }
        assert_eq!(fired.count(), 6);
    }
}
