//! What requests say about a node: failures in a row eject it for a while, each time for longer.
//!
//! A pure state machine with `now` as its last argument. Whether a node *may* be ejected depends on the others and is
//! the pool's to say. An ejection ends by time: a good probe of a cheap page does not prove that the expensive ones work
//! again; unless the node's probes failed too, and are good again: then it was mended.

use std::time::Duration;

use tokio::time::Instant;

use super::clock::after;
use super::settings::PassiveSettings;

/// Failures in a row and past ejections of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PassiveRecord {
    failures_in_row: u32,
    // How often the next ejection's time is doubled.
    doublings: u32,
    // End of the running or last ejection, moved on as good spells take doublings back.
    until: Option<Instant>,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Counted,
    /// Ejected until then, for so long.
    Ejected(Instant, Duration),
    /// Would be ejected, but too few nodes would be left.
    Spared,
}

impl PassiveRecord {
    /// Failures since the last success.
    pub(crate) fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// A request went well.
    pub(crate) fn succeed(&mut self) {
        self.failures_in_row = 0;
    }

    /// A request went wrong. While the node is out only requests sent before can still fail; they change nothing.
    pub(crate) fn fail(&mut self, settings: &PassiveSettings, may_eject: bool, now: Instant) -> Verdict {
        if settings.failures == 0 || self.until.is_some_and(|until| now < until) {
            return Verdict::Counted;
        }
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        if self.failures_in_row < settings.failures {
            return Verdict::Counted;
        }
        if !may_eject {
            return Verdict::Spared;
        }
        self.forgive(settings, now);
        let time = ejection_time(settings, self.doublings);
        self.failures_in_row = 0;
        if time < settings.eject_max {
            self.doublings += 1;
        }
        let until = after(now, time);
        self.until = Some(until);
        Verdict::Ejected(until, time)
    }

    /// Ends the running ejection before its time.
    pub(crate) fn end(&mut self, now: Instant) {
        self.until = self.until.map(|until| until.min(now));
        self.failures_in_row = 0;
    }

    /// Takes back one doubling for each good spell of `eject_max` since the last ejection ended.
    fn forgive(&mut self, settings: &PassiveSettings, now: Instant) {
        let spell = settings.eject_max.max(settings.eject).max(Duration::from_secs(1));
        while let Some(until) = self.until {
            if self.doublings == 0 || now < after(until, spell) {
                return;
            }
            self.doublings -= 1;
            self.until = Some(after(until, spell));
        }
    }
}

/// `eject` doubled so often, at most `eject_max`.
fn ejection_time(settings: &PassiveSettings, doublings: u32) -> Duration {
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    settings.eject.saturating_mul(factor).min(settings.eject_max.max(settings.eject))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: PassiveSettings = PassiveSettings {
        failures: 3,
        eject: Duration::from_secs(10),
        eject_max: Duration::from_secs(60),
        max_ejected_percent: 50,
    };

    /// Fails three times at `at` seconds; the ejection must last `lasts` seconds.
    #[track_caller]
    fn eject(record: &mut PassiveRecord, start: Instant, at: u64, lasts: u64) {
        let now = start + Duration::from_secs(at);
        for _ in 0..2 {
            assert_eq!(record.fail(&SETTINGS, true, now), Verdict::Counted, "at {at}");
        }
        let time = Duration::from_secs(lasts);
        assert_eq!(record.fail(&SETTINGS, true, now), Verdict::Ejected(now + time, time), "at {at}");
    }

    #[test]
    fn each_ejection_lasts_twice_as_long_up_to_the_most() {
        let (mut record, start) = (PassiveRecord::default(), Instant::now());
        for (at, lasts) in [(0, 10), (10, 20), (30, 40), (70, 60), (130, 60)] {
            eject(&mut record, start, at, lasts);
        }
    }

    #[test]
    fn a_good_spell_takes_a_doubling_back() {
        let (mut record, start) = (PassiveRecord::default(), Instant::now());
        eject(&mut record, start, 0, 10);
        eject(&mut record, start, 10, 20);
        // Out until 30. One spell of 60 s, not yet two: back from four times to twice the first time.
        eject(&mut record, start, 149, 20);
        // Out until 169; hours later all is forgiven.
        eject(&mut record, start, 99_999, 10);
    }

    #[test]
    fn success_starts_the_count_anew() {
        let (mut record, now) = (PassiveRecord::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(record.fail(&SETTINGS, true, now), Verdict::Counted);
            assert_eq!(record.fail(&SETTINGS, true, now), Verdict::Counted);
            record.succeed();
        }
        eject(&mut record, now, 0, 10);
    }

    #[test]
    fn failures_during_an_ejection_change_nothing() {
        let (mut record, start) = (PassiveRecord::default(), Instant::now());
        eject(&mut record, start, 0, 10);
        for _ in 0..9 {
            assert_eq!(record.fail(&SETTINGS, true, start + Duration::from_secs(9)), Verdict::Counted);
        }
        eject(&mut record, start, 10, 20);
    }

    #[test]
    fn a_spared_node_goes_as_soon_as_it_may() {
        let (mut record, now) = (PassiveRecord::default(), Instant::now());
        for expected in [Verdict::Counted, Verdict::Counted, Verdict::Spared, Verdict::Spared] {
            assert_eq!(record.fail(&SETTINGS, false, now), expected);
        }
        assert!(matches!(record.fail(&SETTINGS, true, now), Verdict::Ejected(..)));
    }

    #[test]
    fn zero_failures_turns_it_off() {
        let (mut record, now) = (PassiveRecord::default(), Instant::now());
        let settings = PassiveSettings { failures: 0, ..SETTINGS };
        for _ in 0..100 {
            assert_eq!(record.fail(&settings, true, now), Verdict::Counted);
        }
    }

    #[test]
    fn doubling_never_overflows() {
        let settings =
            PassiveSettings { eject: Duration::from_secs(1), eject_max: Duration::MAX, ..SETTINGS };
        assert_eq!(ejection_time(&settings, 31), Duration::from_secs(1 << 31));
        assert_eq!(ejection_time(&settings, 99), Duration::from_secs(u64::from(u32::MAX)));
    }
}
