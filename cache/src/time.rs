//! Monotonic time as a number that is handed in: nothing in this crate reads a clock.

use std::time::Duration;

/// A point of monotonic time: milliseconds since the process began.
///
/// Freshness is decided on this scale, so a wall clock that jumps neither empties the cache nor revives what is
/// stale. Arithmetic saturates: a span too long to be counted ends at [`Moment::FAR`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Moment(u64);

impl Moment {
    /// The beginning of the process.
    pub const ZERO: Self = Self(0);
    /// Later than anything that will ever be asked about.
    pub const FAR: Self = Self(u64::MAX);

    /// The moment `millis` milliseconds after the process began.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the process began.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `span` later; `None` beyond the end of the scale.
    pub fn checked_add(self, span: Duration) -> Option<Self> {
        self.0.checked_add(u64::try_from(span.as_millis()).ok()?).map(Self)
    }

    /// The moment `span` later, at most [`Moment::FAR`].
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(span)))
    }

    /// The moment `span` earlier, at least [`Moment::ZERO`].
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(span)))
    }

    /// The time that passed since `earlier`; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// `span` in whole milliseconds; what does not fit is clamped.
pub(crate) fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_subtracting_saturate() {
        let second = Duration::from_secs(1);
        assert_eq!(Moment::from_millis(5).saturating_add(second), Moment::from_millis(1005));
        assert_eq!(Moment::FAR.saturating_add(second), Moment::FAR);
        assert_eq!(Moment::from_millis(5).saturating_add(Duration::MAX), Moment::FAR);
        assert_eq!(Moment::from_millis(5).saturating_sub(second), Moment::ZERO);
        assert_eq!(Moment::FAR.checked_add(second), None);
        assert_eq!(Moment::ZERO.checked_add(Duration::MAX), None);
        assert_eq!(Moment::ZERO.checked_add(second), Some(Moment::from_millis(1000)));
    }

    #[test]
    fn time_since_a_later_moment_is_zero() {
        assert_eq!(Moment::from_millis(9).since(Moment::from_millis(4)), Duration::from_millis(5));
        assert_eq!(Moment::from_millis(4).since(Moment::from_millis(9)), Duration::ZERO);
    }
}
