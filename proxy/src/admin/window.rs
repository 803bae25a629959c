//! The hit ratio of the last minute, from samples of two ever-growing sums.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the ratio looks.
pub(super) const SPAN: Duration = Duration::from_secs(60);

/// Time between samples. The window is at most this much longer than [`SPAN`].
pub(super) const STEP: Duration = Duration::from_secs(5);

/// One look at the sums.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    hits: u64,
    lookups: u64,
}

/// Samples of the last minute, oldest first; at most [`SPAN`] / [`STEP`] + 1 of them.
#[derive(Debug, Default)]
pub(super) struct Window {
    samples: VecDeque<Sample>,
}

impl Window {
    /// Keeps the sums of this moment. To be called every [`STEP`].
    pub(super) fn sample(&mut self, hits: u64, lookups: u64, now: Instant) {
        self.samples.push_back(Sample { at: now, hits, lookups });
        // The front is the newest sample that is at least a whole span old.
        while self.samples.get(1).is_some_and(|second| now.saturating_duration_since(second.at) >= SPAN) {
            self.samples.pop_front();
        }
    }

    /// The ratio between the oldest sample and the sums of now; `None` if nothing was looked up in that time. Before
    /// a minute has passed it is the ratio since the start.
    pub(super) fn ratio(&self, hits: u64, lookups: u64) -> Option<f64> {
        let (old_hits, old_lookups) =
            self.samples.front().map_or((0, 0), |sample| (sample.hits, sample.lookups));
        ratio(hits.saturating_sub(old_hits), lookups.saturating_sub(old_lookups))
    }
}

/// `hits` of `lookups`, 0 to 1; `None` if there were none.
pub(super) fn ratio(hits: u64, lookups: u64) -> Option<f64> {
    (lookups > 0).then(|| hits as f64 / lookups as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_forgets_what_is_older_than_a_minute() {
        let start = Instant::now();
        let mut window = Window::default();
        assert_eq!(window.ratio(0, 0), None);
        assert_eq!(window.ratio(1, 4), Some(0.25), "since the start, before the first sample");
        // 100 misses at the start, then one look-up and one hit a second.
        for second in (0..=120).step_by(5) {
            window.sample(second, 100 + second, start + Duration::from_secs(second));
        }
        assert_eq!(window.ratio(120, 220), Some(1.0));
        assert_eq!(window.samples.len() as u64, SPAN.as_secs() / STEP.as_secs() + 1);
        assert_eq!(window.ratio(60, 160), None, "nothing since the oldest sample");
    }

    #[test]
    fn a_pause_between_samples_keeps_the_last_one_before_it() {
        let start = Instant::now();
        let mut window = Window::default();
        window.sample(0, 10, start);
        window.sample(0, 20, start + Duration::from_secs(300));
        assert_eq!(window.ratio(5, 30), Some(0.25));
    }
}
