//! What became of the last fetch of each URL, for operators who ask why.
//!
//! A bounded table that forgets the oldest: nothing depends on it. It is written once or twice in a fetch, never on the
//! way of a hit, and each part has a mutex of its own that is held for one look into eight places.

use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::bounded::Bounded;
use clearcoat_cache::{CacheKey, Moment};
use parking_lot::Mutex;

use super::{Caching, FetchError, Plan};
use crate::clock::Clock;
use crate::pool::node::Node;

/// Fetches that are remembered.
const MOST: usize = 4096;

/// Parts of the table.
const PARTS: usize = 16;

/// One fetch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LastFetch {
    /// When its request went out.
    pub(crate) began: Moment,
    /// From then to the last that is known of it.
    pub(crate) took: Duration,
    /// The name of the node that answered, and its status.
    pub(crate) answered: Option<(Arc<str>, u16)>,
    pub(crate) result: FillResult,
}

/// What became of what a fetch brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FillResult {
    /// It is stored.
    Stored,
    /// It is to be stored when its body is whole, and that is still on its way.
    Arriving,
    /// It is not stored, for this reason.
    NotStored(&'static str),
    /// The node failed and the stale copy was served instead.
    StaleServed,
    /// The body broke off.
    BrokenOff,
    /// No node answered.
    Failed(FetchError),
}

impl FillResult {
    /// What a commit came to: nothing, or why it was refused.
    pub(super) const fn of_commit(committed: Result<(), &'static str>) -> Self {
        match committed {
            Ok(()) => Self::Stored,
            Err(refused) => Self::NotStored(refused),
        }
    }

    /// It in a word, or why it is not stored.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Arriving => "arriving",
            Self::NotStored(why) => why,
            Self::StaleServed => "stale-served",
            Self::BrokenOff => "body-broken-off",
            Self::Failed(error) => error.as_str(),
        }
    }
}

/// The table. Shared by all fetches.
pub(crate) struct LastFetches {
    parts: Box<[Mutex<Bounded<LastFetch>>]>,
}

impl LastFetches {
    pub(super) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::new(Bounded::new(MOST / PARTS))).collect() }
    }

    /// Notes it in the place of what was known of the URL.
    pub(super) fn note(&self, key: CacheKey, fetch: LastFetch) {
        self.part(key).lock().put(key.number(), fetch);
    }

    /// The last fetch of a URL, in any variant.
    pub(crate) fn of(&self, key: CacheKey) -> Option<LastFetch> {
        self.part(key).lock().get(key.number()).cloned()
    }

    fn part(&self, key: CacheKey) -> &Mutex<Bounded<LastFetch>> {
        // The tables inside use the low half of the number.
        &self.parts[(key.number() >> 64) as usize % PARTS]
    }
}

/// A fetch that is under way, and where it is noted.
pub(super) struct Noting<'t> {
    /// What is fetched.
    pub(super) plan: &'t Plan,
    table: &'t LastFetches,
    clock: &'t Clock,
    began: Moment,
    answered: Option<(Arc<Node>, u16)>,
}

impl<'t> Noting<'t> {
    /// Of a fetch that begins now.
    pub(super) fn new(table: &'t LastFetches, clock: &'t Clock, plan: &'t Plan) -> Self {
        Self { plan, table, clock, began: clock.now(), answered: None }
    }

    /// A node answered.
    pub(super) fn answered(&mut self, node: &Arc<Node>, status: u16) {
        self.answered = Some((node.clone(), status));
    }

    /// Notes what became of it so far, unless it is none of the cache's business.
    pub(super) fn note(&self, result: FillResult) {
        if matches!(self.plan.caching, Caching::Bypass | Caching::Part) {
            return;
        }
        let &Self { began, ref answered, .. } = self;
        let took = self.clock.now().since(began);
        let answered = answered.as_ref().map(|(node, status)| (node.name().clone(), *status));
        self.table.note(self.plan.key, LastFetch { began, took, answered, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(began: u64) -> LastFetch {
        LastFetch {
            began: Moment::from_millis(began),
            took: Duration::ZERO,
            answered: None,
            result: FillResult::Stored,
        }
    }

    #[test]
    fn the_last_fetch_of_a_url_is_remembered_and_all_of_them_are_bounded() {
        let table = LastFetches::new();
        // The halves choose part and place; real ones are hashes and have nothing to do with each other.
        let key = |number: u128| CacheKey::from_number(number << 64 | number >> 4);
        for round in 0..2 {
            for number in 0..20_000 {
                table.note(key(number), fetch(round));
            }
        }
        assert_eq!(table.of(key(19_999)), Some(fetch(1)));
        let remembered = (0..20_000).filter(|number| table.of(key(*number)).is_some()).count();
        assert_eq!(remembered, MOST);
    }
}
