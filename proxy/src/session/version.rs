//! The clock that versions are made from.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use super::value::Version;

/// Bits of a version that tell edges apart.
const EDGE_BITS: u32 = 12;

/// Makes versions: each is larger than every one that was made or seen here before, also when the system's clock is set back or
/// another edge's is ahead (a hybrid logical clock).
///
/// Two edges give the same version to different writes only if they drew the same 12 bits and write in the same microsecond.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The last version, without the bits of the edge.
    last: AtomicU64,
    edge: u64,
}

/// How far ahead of our own clock another edge's may be believed: one that is years ahead would put an end to all versions.
const MOST_AHEAD_MICROS: u64 = 24 * 3_600 * 1_000_000;

impl Versions {
    pub(crate) fn new() -> Self {
        Self { last: AtomicU64::new(0), edge: fastrand::u64(..1 << EDGE_BITS) }
    }

    /// A new version.
    pub(crate) fn next(&self) -> Version {
        let now = now_micros();
        // Of two threads that come at once, the second counts on from what the first has left.
        let update = |last: u64| Some(now.max(last + 1));
        let (Ok(last) | Err(last)) = self.last.fetch_update(Relaxed, Relaxed, update);
        Version(now.max(last + 1) << EDGE_BITS | self.edge)
    }

    /// Notes a version of another edge: the next one here is larger.
    pub(crate) fn seen(&self, version: Version) {
        let micros = version.0 >> EDGE_BITS;
        // Nearly always it is one of a while ago.
        if micros > self.last.load(Relaxed) && micros < now_micros() + MOST_AHEAD_MICROS {
            self.last.fetch_max(micros, Relaxed);
        }
    }
}

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_on_all_threads() {
        let versions = Versions::new();
        let made: Vec<Vec<Version>> = std::thread::scope(|scope| {
            let make = || (0..10_000).map(|_| versions.next()).collect();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        assert!(made.iter().all(|made: &Vec<Version>| made.is_sorted()));
        let mut all = made.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40_000);
    }

    #[test]
    fn what_was_seen_is_older_than_what_comes() {
        let versions = Versions::new();
        let ahead = Version(versions.next().0 + (3_600_000_000 << EDGE_BITS));
        versions.seen(ahead);
        assert!(versions.next() > ahead);
        versions.seen(Version::NONE);
        assert!(versions.next() > ahead);
        // Of an edge whose clock is wrong by years.
        let before = versions.next();
        versions.seen(Version(u64::MAX));
        assert!(versions.next().0 < before.0 + (1_000_000_000 << EDGE_BITS));
    }
}
