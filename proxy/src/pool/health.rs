//! What probes say about a node: unknown, up or down.
//!
//! A pure state machine: it neither sends probes nor reads a clock. Its owner guards it with the node's lock.

/// What is known of a node by its probes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Health {
    /// Not probed yet; takes no traffic.
    Unknown,
    /// Good.
    Up,
    /// Bad.
    Down,
}

/// [`Health`] and how near it is to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthRecord {
    health: Health,
    // Probes in a row that contradict `health`. Invariant: below `fall` while up, below `rise` while down.
    contrary: u32,
}

impl HealthRecord {
    /// Starts with what is known without a probe.
    pub(crate) fn new(health: Health) -> Self {
        Self { health, contrary: 0 }
    }

    /// What is known now.
    pub(crate) fn health(self) -> Health {
        self.health
    }

    /// Takes in one probe and tells the new state if that changed it. The first probe of all decides alone: nobody is
    /// served by the node yet, so there is nothing to be careful with. Zero `fall` or `rise` counts as one.
    pub(crate) fn record(&mut self, good: bool, fall: u32, rise: u32) -> Option<Health> {
        let (next, needed) = match (self.health, good) {
            (Health::Up, true) | (Health::Down, false) => {
                self.contrary = 0;
                return None;
            }
            (Health::Unknown, true) => (Health::Up, 1),
            (Health::Unknown, false) => (Health::Down, 1),
            (Health::Up, false) => (Health::Down, fall),
            (Health::Down, true) => (Health::Up, rise),
        };
        self.contrary += 1;
        if self.contrary < needed {
            return None;
        }
        self.force(next)
    }

    /// Sets the state whatever the probes said; tells it if that is a change.
    pub(crate) fn force(&mut self, health: Health) -> Option<Health> {
        self.contrary = 0;
        let changed = self.health != health;
        self.health = health;
        changed.then_some(health)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `probes` is one letter per probe, `states` the state after each: `?`, `+` or `-`.
    #[track_caller]
    fn check(start: Health, fall: u32, rise: u32, probes: &str, states: &str) {
        let mut record = HealthRecord::new(start);
        let seen: String = probes
            .chars()
            .map(|probe| {
                let before = record.health();
                let change = record.record(probe == 'g', fall, rise);
                assert_eq!(change, (before != record.health()).then_some(record.health()));
                match record.health() {
                    Health::Unknown => '?',
                    Health::Up => '+',
                    Health::Down => '-',
                }
            })
            .collect();
        assert_eq!(seen, states, "{start:?} fall {fall} rise {rise} probes {probes}");
    }

    #[test]
    fn the_first_probe_decides_alone() {
        check(Health::Unknown, 3, 2, "g", "+");
        check(Health::Unknown, 3, 2, "b", "-");
    }

    #[test]
    fn falls_and_rises_after_enough_probes_in_a_row() {
        check(Health::Up, 3, 2, "bbb", "++-");
        check(Health::Up, 3, 2, "bbgbbgbbb", "++++++++-");
        check(Health::Down, 3, 2, "gg", "-+");
        check(Health::Down, 3, 2, "gbgbgg", "-----+");
        check(Health::Unknown, 2, 3, "gbbgggb", "++---++");
    }

    #[test]
    fn zero_counts_as_one() {
        check(Health::Up, 0, 0, "bgb", "-+-");
    }

    #[test]
    fn a_forced_state_starts_counting_anew() {
        let mut record = HealthRecord::new(Health::Up);
        assert_eq!(record.record(false, 2, 1), None);
        assert_eq!(record.force(Health::Up), None);
        assert_eq!(record.record(false, 2, 1), None);
        assert_eq!(record.record(false, 2, 1), Some(Health::Down));
        assert_eq!(record.force(Health::Unknown), Some(Health::Unknown));
    }
}
