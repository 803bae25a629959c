//! How often somebody may ask: a token bucket for each client, path, header or cookie, in memory of a fixed size.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm of ATM Forum TM 4.0): a request
//! moves it on by the time that one token takes to come back, and is too many if it would then lie further ahead than a
//! full bucket reaches. So a bucket that has been left alone long enough is as good as none, and needs no tidying.
//!
//! The buckets stand in sets of eight. Where a ninth is wanted, the one goes that is nearest to full: what is forgotten lets
//! somebody through who had asked little, and nobody is refused on another's account. Whoever would fill the table has to come
//! from very many addresses, and even then only gains what a client gains that was never seen.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::Moment;
use http::Method as HttpMethod;
use parking_lot::Mutex;

use super::NetSet;
use crate::front::cookies;
use crate::front::route::PathRule;
use crate::front::visitor::Visitor;
use crate::listen::head::Head;

/// Buckets that one set holds.
const SLOTS: usize = 8;

/// Sets of a rule: with them it takes 1.1 MB and knows 65,536 clients.
const SETS: usize = 8192;

/// Whose requests are counted together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum CountBy {
    Client,
    Path,
    /// By its lower-case name.
    Header(Box<str>),
    Cookie(Box<str>),
}

/// How often somebody may ask, and who did.
#[derive(Debug)]
pub(crate) struct RateRule {
    pub(crate) name: Box<str>,
    /// Empty: all.
    pub(crate) paths: Box<[PathRule]>,
    /// Empty: all.
    pub(crate) methods: Box<[HttpMethod]>,
    pub(crate) by: CountBy,
    pub(crate) except: NetSet,
    /// Nanoseconds until a token comes back.
    interval: u64,
    /// Nanoseconds until an empty bucket is full, less that of one token.
    reach: u64,
    buckets: Arc<Buckets>,
}

/// Who has asked how much.
#[derive(Debug)]
struct Buckets {
    hashing: RandomState,
    sets: Box<[Mutex<[Bucket; SLOTS]>]>,
}

/// The bucket of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// A hash of who it is.
    of: u64,
    /// Nanoseconds at which it is full.
    full_at: u64,
}

impl RateRule {
    /// `count` requests in `per`, and `burst` of them at once; both more than zero.
    pub(crate) fn new(name: &str, count: u32, per: Duration, burst: u32) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(count.max(1))).max(1);
        Self {
            name: name.into(),
            paths: Box::default(),
            methods: Box::default(),
            by: CountBy::Client,
            except: NetSet::default(),
            interval,
            reach: interval.saturating_mul(u64::from(burst.saturating_sub(1))),
            buckets: Arc::new(Buckets {
                hashing: RandomState::new(),
                sets: (0..SETS).map(|_| Mutex::default()).collect(),
            }),
        }
    }

    /// Goes on with what another rule knows of its clients, which was this one before the configuration was changed. With another
    /// rate it begins anew: what is in a bucket is told in the time of its own.
    pub(crate) fn go_on_from(&mut self, before: &Self) {
        if self.by == before.by && (self.interval, self.reach) == (before.interval, before.reach) {
            self.buckets = before.buckets.clone();
        }
    }

    /// How long until this request may come; `None`: it may.
    pub(crate) fn wait(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Option<Duration> {
        self.ask(head, visitor, now, false)
    }

    /// The same, and a token is taken if it may.
    pub(crate) fn take(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Option<Duration> {
        self.ask(head, visitor, now, true)
    }

    fn ask(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment, takes: bool) -> Option<Duration> {
        if !self.is_about(head) || self.except.contains(visitor.address) {
            return None;
        }
        let now = u64::try_from(now.since(Moment::default()).as_nanos()).unwrap_or(u64::MAX);
        self.ask_of(self.whose(head, visitor.address), now, takes)
    }

    fn is_about(&self, head: &Head<'_, '_>) -> bool {
        let meant = super::meant(head.target);
        let (path, meant) = (path(head.target), path(&meant));
        (self.methods.is_empty() || self.methods.iter().any(|method| method == head.method.as_str()))
            && (self.paths.is_empty()
                || self.paths.iter().any(|rule| rule.matches(path) || rule.matches(meant)))
    }

    /// A number for whoever is counted together.
    fn whose(&self, head: &Head<'_, '_>, client: Option<IpAddr>) -> u64 {
        let named = |kind: u8, value: &[u8]| self.buckets.hashing.hash_one((kind, value));
        let by = match &self.by {
            CountBy::Client => None,
            CountBy::Path => Some(named(1, path(&super::meant(head.target)))),
            CountBy::Header(name) => head.values(name).next().map(|value| named(2, value)),
            CountBy::Cookie(name) => {
                let lines = head.values("cookie");
                let mut pairs = lines.flat_map(cookies::pairs);
                let value =
                    |pair: &'_ [u8]| Some(pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
                pairs.find_map(value).map(|value| named(3, &value))
            }
        };
        by.unwrap_or_else(|| match client.map(|client| client.to_canonical()) {
            None => named(4, b""),
            Some(IpAddr::V4(address)) => named(5, &address.octets()),
            // What one customer has. Whoever has it changes the rest at will.
            Some(IpAddr::V6(address)) => named(6, &address.octets()[..8]),
        })
    }

    fn ask_of(&self, of: u64, now: u64, takes: bool) -> Option<Duration> {
        // The low bits choose the set, and all of them tell who is who in it.
        let mut set = self.buckets.sets[of as usize % SETS].lock();
        let found = set.iter().position(|bucket| bucket.of == of);
        let full_at = found.map_or(0, |place| set[place].full_at).max(now);
        let ahead = full_at - now;
        if ahead > self.reach {
            return Some(Duration::from_nanos(ahead - self.reach));
        }
        if takes {
            let bucket = match found {
                Some(place) => Some(&mut set[place]),
                None => set.iter_mut().min_by_key(|bucket| bucket.full_at),
            };
            if let Some(bucket) = bucket {
                *bucket = Bucket { of, full_at: full_at.saturating_add(self.interval) };
            }
        }
        None
    }
}

fn path(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of so many requests at once come through.
    fn through(rule: &RateRule, of: u64, now: u64, asked: usize) -> usize {
        (0..asked).filter(|_| rule.ask_of(of, now, true).is_none()).count()
    }

    #[test]
    fn a_burst_comes_through_and_then_the_rate() {
        let rule = RateRule::new("a", 10, Duration::from_secs(1), 20);
        assert_eq!(through(&rule, 1, SECOND, 100), 20);
        assert_eq!(rule.ask_of(1, SECOND, true), Some(Duration::from_millis(100)));
        assert_eq!(through(&rule, 1, SECOND + SECOND / 10, 100), 1);
        assert_eq!(through(&rule, 1, 2 * SECOND, 100), 9);
        assert_eq!(through(&rule, 1, 60 * SECOND, 100), 20, "it is full again and no fuller");
        assert_eq!(through(&rule, 2, SECOND, 100), 20, "another has a bucket of its own");
    }

    #[test]
    fn looking_takes_nothing() {
        let rule = RateRule::new("a", 1, Duration::from_secs(60), 1);
        assert_eq!(rule.ask_of(1, SECOND, false), None);
        assert_eq!(rule.ask_of(1, SECOND, true), None);
        assert_eq!(rule.ask_of(1, SECOND, false), Some(Duration::from_secs(60)));
    }

    #[test]
    fn who_asks_most_is_forgotten_last() {
        let rule = RateRule::new("a", 1, Duration::from_secs(1), 100);
        // All in one set.
        let client = |number: u64| number * SETS as u64;
        assert_eq!(through(&rule, client(1), SECOND, 200), 100);
        for number in 2..1_000 {
            assert_eq!(through(&rule, client(number), SECOND, 1), 1);
        }
        assert_eq!(through(&rule, client(1), SECOND, 1), 0);
    }

    #[test]
    fn threads_together_get_no_more() {
        let rule = RateRule::new("a", 1, Duration::from_secs(3600), 500);
        let counted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| through(&rule, 7, SECOND, 1_000))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).sum::<usize>()
        });
        assert_eq!(counted, 500);
    }

    proptest! {
        #[test]
        fn never_more_than_a_burst_and_the_rate(
            count in 1_u32..50, burst in 1_u32..50, steps in prop::collection::vec(0_u64..SECOND, 1..200),
        ) {
            let rule = RateRule::new("a", count, Duration::from_secs(1), burst);
            let (mut now, mut passed) = (SECOND, 0_u64);
            for step in steps {
                now += step;
                passed += u64::from(rule.ask_of(1, now, true).is_none());
                let most = u64::from(burst) + (now - SECOND) * u64::from(count) / SECOND + 1;
                prop_assert!(passed <= most, "{} of {}", passed, most);
            }
        }
    }
}
