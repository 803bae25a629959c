//! The retry budget: retries stay a small part of the traffic, so that a pool in trouble is not given more of it.
//!
//! A window of ten one-second buckets counts requests and retries; `now` is an argument. The pool guards it with a
//! lock of its own that is held for a few additions.

use tokio::time::Instant;

use super::settings::RetrySettings;

/// Seconds looked back on; as Finagle's and Linkerd's default.
const WINDOW_SECONDS: u64 = 10;

/// Requests and retries of the last ten seconds.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    start: Instant,
    // Second since `start` that the newest bucket stands for; older seconds lie before it, modulo the window.
    newest: u64,
    buckets: [Bucket; WINDOW_SECONDS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// An empty window that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, newest: 0, buckets: [Bucket::default(); WINDOW_SECONDS as usize] }
    }

    /// Counts a request's first try.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.bucket(now).requests += 1;
    }

    /// Takes one retry, if the budget has it.
    pub(crate) fn withdraw(&mut self, settings: &RetrySettings, now: Instant) -> bool {
        self.bucket(now);
        let (mut requests, mut retries) = (0, 0);
        for bucket in &self.buckets {
            requests += bucket.requests;
            retries += bucket.retries;
        }
        let allowed = requests * u64::from(settings.budget_percent) / 100
            + u64::from(settings.min_per_second) * WINDOW_SECONDS;
        if retries >= allowed {
            return false;
        }
        self.bucket(now).retries += 1;
        true
    }

    /// The bucket of this second, those between emptied.
    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        let second = now.saturating_duration_since(self.start).as_secs();
        // At most one turn: a longer pause empties every bucket once.
        for passed in self.newest + 1..=second.min(self.newest + WINDOW_SECONDS) {
            self.buckets[(passed % WINDOW_SECONDS) as usize] = Bucket::default();
        }
        // A clock read a little late by another thread counts into the newest second.
        self.newest = self.newest.max(second);
        &mut self.buckets[(self.newest % WINDOW_SECONDS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// `percent` and `min` make the budget; each step is (second, requests, retries asked for, retries given).
    #[track_caller]
    fn check(percent: u8, min: u32, steps: &[(u64, u32, u32, u32)]) {
        let settings = RetrySettings { attempts: 2, budget_percent: percent, min_per_second: min };
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        for &(second, requests, asked, given) in steps {
            let now = start + Duration::from_secs(second);
            (0..requests).for_each(|_| budget.deposit(now));
            let got = (0..asked).filter(|_| budget.withdraw(&settings, now)).count();
            assert_eq!(got, given as usize, "{percent} % + {min}/s at second {second}");
        }
    }

    #[test]
    fn retries_stay_within_their_share() {
        check(20, 0, &[(0, 1000, 1000, 200)]);
        check(20, 0, &[(0, 4, 4, 0), (1, 1, 4, 1)]);
        check(0, 0, &[(0, 1000, 10, 0)]);
    }

    #[test]
    fn a_quiet_pool_may_retry_too() {
        check(20, 1, &[(0, 1, 20, 10), (5, 0, 5, 0), (10, 0, 20, 10)]);
    }

    #[test]
    fn only_the_last_ten_seconds_count() {
        check(20, 0, &[(0, 100, 10, 10), (9, 0, 100, 10), (10, 0, 1, 0)]);
        check(20, 0, &[(0, 100, 0, 0), (1_000_000, 0, 5, 0), (1_000_001, 10, 5, 2)]);
        check(20, 0, &[(3, 100, 20, 20), (12, 0, 1, 0), (13, 50, 20, 10)]);
    }

    #[test]
    fn an_older_clock_is_taken_as_the_newest_second() {
        check(50, 0, &[(5, 2, 0, 0), (4, 2, 2, 2)]);
    }
}
