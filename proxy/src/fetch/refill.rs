//! Refreshes of stale pages: at most so many at the nodes of a pool at a time, those that visitors ask for most first.
//!
//! After a soft purge of the whole site, or when many pages are over at the same moment, every request finds a stale page and
//! wants it refreshed. That many fetches would take the nodes down, and most would be for pages that hardly anybody reads. So
//! only a few run; what else is wanted waits, and each further request for it counts. Visitors get the stale page
//! meanwhile, and a visitor who has to wait for a page himself does not wait for any of this: as long as visitors queue
//! before the nodes, nothing is refreshed.
//!
//! One short mutex, taken by requests that are answered with a stale page and by nobody else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::collapse::Joined;
use parking_lot::Mutex;

use super::{Fetcher, FillKey, Plan};
use crate::pool::Pool;

/// Pages of a pool that wait for their turn. One more takes the place of the one that was asked for least.
const MOST_WAITING: usize = 2048;

/// How often it is looked whether visitors still queue before the nodes.
const PATIENCE: Duration = Duration::from_millis(10);

/// What there is of them, for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RefillStats {
    /// At the nodes now, or next.
    pub(crate) running: u64,
    /// Waiting for their turn.
    pub(crate) waiting: u64,
    /// Given up for others that are asked for more; they are wanted again with their next request.
    pub(crate) displaced: u64,
}

/// The refreshes of all pools. `P` is what is kept of one that waits.
pub(crate) struct Refills<P = Plan> {
    pools: Mutex<Pools<P>>,
}

struct Pools<P> {
    by_name: HashMap<Box<str>, Refreshes<P>>,
    displaced: u64,
}

/// Those of one pool.
struct Refreshes<P> {
    running: u32,
    waiting: HashMap<FillKey, Waiting<P>>,
    /// By how often they were asked for since they wait, and the earlier first; the number is never given twice.
    order: BTreeMap<(u32, Reverse<u64>), FillKey>,
    last_number: u64,
}

struct Waiting<P> {
    asked: u32,
    number: u64,
    plan: P,
}

impl<P> Default for Refreshes<P> {
    fn default() -> Self {
        Self { running: 0, waiting: HashMap::new(), order: BTreeMap::new(), last_number: 0 }
    }
}

impl<P> Refreshes<P> {
    fn want(&mut self, key: FillKey, plan: impl FnOnce() -> P) -> bool {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            self.order.remove(&(waiting.asked, Reverse(waiting.number)));
            waiting.asked = waiting.asked.saturating_add(1);
            self.order.insert((waiting.asked, Reverse(waiting.number)), key);
            return false;
        }
        let displaces = self.waiting.len() >= MOST_WAITING;
        if displaces && let Some((_, least)) = self.order.pop_first() {
            self.waiting.remove(&least);
        }
        self.last_number += 1;
        let number = self.last_number;
        self.waiting.insert(key, Waiting { asked: 1, number, plan: plan() });
        self.order.insert((1, Reverse(number)), key);
        displaces
    }

    fn most_wanted(&mut self) -> Option<P> {
        let (_, key) = self.order.pop_last()?;
        self.waiting.remove(&key).map(|waiting| waiting.plan)
    }
}

impl<P> Refills<P> {
    pub(crate) fn new() -> Self {
        Self { pools: Mutex::new(Pools { by_name: HashMap::new(), displaced: 0 }) }
    }

    /// Asks for a refresh at a pool where `limit` may run at a time. If it is its turn now, it comes back with the place; else it
    /// waits.
    fn ask(
        self: &Arc<Self>,
        pool: &str,
        limit: u32,
        key: FillKey,
        plan: impl FnOnce() -> P,
    ) -> Option<(P, Place<P>)> {
        let mut pools = self.pools.lock();
        let pools = &mut *pools;
        if !pools.by_name.contains_key(pool) {
            pools.by_name.insert(pool.into(), Refreshes::default());
        }
        let refreshes = pools.by_name.get_mut(pool)?;
        if refreshes.running < limit {
            refreshes.running += 1;
            let place = Place { refills: self.clone(), pool: pool.into(), is_held: true };
            return Some((plan(), place));
        }
        pools.displaced += u64::from(refreshes.want(key, plan));
        None
    }

    pub(crate) fn stats(&self) -> RefillStats {
        let pools = self.pools.lock();
        let mut stats = RefillStats { displaced: pools.displaced, ..RefillStats::default() };
        for refreshes in pools.by_name.values() {
            stats.running += u64::from(refreshes.running);
            stats.waiting += refreshes.waiting.len() as u64;
        }
        stats
    }
}

/// One of the places of a pool, given back when it is dropped, however the refresh ended.
struct Place<P> {
    refills: Arc<Refills<P>>,
    pool: Box<str>,
    is_held: bool,
}

impl<P> Place<P> {
    /// What to do next with the place, unless there are more than `limit` by now, or nothing waits. Then it is given back, in the same
    /// moment: who asks for a refresh finds either the place free or somebody who will come to it.
    fn next(&mut self, limit: u32) -> Option<P> {
        let mut pools = self.refills.pools.lock();
        let refreshes = pools.by_name.get_mut(&self.pool)?;
        let next = (refreshes.running <= limit).then(|| refreshes.most_wanted()).flatten();
        if next.is_none() {
            refreshes.running -= 1;
            self.is_held = false;
        }
        next
    }
}

impl<P> Drop for Place<P> {
    fn drop(&mut self) {
        // Only where the fetch panicked or the server ends.
        if self.is_held
            && let Some(refreshes) = self.refills.pools.lock().by_name.get_mut(&self.pool)
        {
            refreshes.running = refreshes.running.saturating_sub(1);
        }
    }
}

impl Fetcher {
    /// Fetches a page anew while the old copy is served, when it is its turn, unless somebody already does.
    pub(crate) fn refresh(self: &Arc<Self>, pool: &Arc<Pool>, key: FillKey, plan: impl FnOnce() -> Plan) {
        if self.fills.is_fetching(&key) {
            return;
        }
        let name = pool.name();
        if let Some((plan, place)) = self.refills.ask(&name, pool.refill_concurrency(), key, plan) {
            let fetcher = self.clone();
            tokio::spawn(async move { fetcher.refill(plan, place).await });
        }
    }

    /// Refreshes what `first` asks for, and then what is wanted most, until nothing is.
    async fn refill(self: Arc<Self>, first: Plan, mut place: Place<Plan>) {
        let mut next = Some(first);
        while let Some(plan) = next {
            let pool = plan.pool.clone();
            while pool.has_queue() {
                tokio::time::sleep(PATIENCE).await;
            }
            let plan = Plan { unawaited: true, ..plan };
            if self.is_wanted(&plan)
                && let Joined::Leader(mut writer, _) = self.fills.join((plan.key, plan.variant))
            {
                writer.needs_no_reader();
                self.run(&plan, writer).await;
            }
            next = place.next(pool.refill_concurrency());
        }
    }

    /// Whether what was stale when it was asked for still is, and still there: since then a visitor may have had it fetched, or a purge
    /// have taken it.
    fn is_wanted(&self, plan: &Plan) -> bool {
        let now = self.clock.now();
        plan.stale.as_ref().is_none_or(|stale| {
            self.store.variants(plan.key).iter().any(|stored| Arc::ptr_eq(stored, stale))
                && stale.fresh_until() <= now
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clearcoat_cache::{CacheKey, VariantKey};

    use super::*;

    fn key(number: u64) -> FillKey {
        (CacheKey::from_number(u128::from(number)), VariantKey::NONE)
    }

    /// The pages in the order of their turns, after these were asked for while one ran.
    fn turns(asked: impl IntoIterator<Item = u64>) -> (Vec<u64>, RefillStats) {
        let refills = Arc::new(Refills::new());
        let (_, mut place) = refills.ask("web", 1, key(0), || 0).unwrap();
        for number in asked {
            assert!(refills.ask("web", 1, key(number), || number).is_none());
        }
        let stats = refills.stats();
        let turns = std::iter::from_fn(|| place.next(1)).collect();
        drop(place);
        assert_eq!(refills.stats(), RefillStats { displaced: stats.displaced, ..RefillStats::default() });
        (turns, stats)
    }

    #[test]
    fn what_is_asked_for_most_comes_first_and_the_earlier_of_equals() {
        let (turns, stats) = turns([3, 1, 2, 2, 4, 1, 2, 5, 4]);
        assert_eq!(turns, [2, 1, 4, 3, 5]);
        assert_eq!(stats, RefillStats { running: 1, waiting: 5, displaced: 0 });
    }

    #[test]
    fn what_is_asked_for_least_gives_way() {
        let most = MOST_WAITING as u64;
        // Two that are asked for again, then more than there is room for.
        let (turns, stats) = turns([1, 2, 1, 2].into_iter().chain(3..most + 100));
        assert_eq!((turns.len() as u64, &turns[..2]), (most, &[1, 2][..]));
        assert_eq!((stats.waiting, stats.displaced), (most, 99));
    }

    #[test]
    fn each_pool_has_its_own_places() {
        let refills = Arc::new(Refills::new());
        let places: Vec<_> = (0..3).map(|number| refills.ask("web", 2, key(number), || number)).collect();
        assert_eq!(places.iter().filter(|place| place.is_some()).count(), 2);
        assert!(refills.ask("files", 2, key(9), || 9).is_some());
        drop(places);
        assert_eq!(refills.stats().running, 0);
        // A limit that was lowered meanwhile is kept to.
        let (_, mut one) = refills.ask("web", 2, key(1), || 1).unwrap();
        let (_, mut two) = refills.ask("web", 2, key(2), || 2).unwrap();
        assert!(one.next(1).is_none());
        assert!(refills.ask("web", 1, key(3), || 3).is_none());
        assert_eq!([two.next(1), two.next(1)], [Some(2), Some(3)]);
    }
}
