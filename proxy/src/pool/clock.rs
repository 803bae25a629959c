//! Moments to come, for durations from the configuration: however long, they never overflow the clock.

use std::time::Duration;

use tokio::time::Instant;

/// Stands for any longer time: thirty years, far beyond the life of a process and within every clock.
pub(super) const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The moment `wait` after `now`, at most [`FAR`] away.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_duration_leads_to_a_moment() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)) - now, Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX) - now, FAR);
    }
}
