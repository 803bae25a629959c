//! Which purges happened while a response was on its way.
//!
//! A purge must also hold for a response that was generated before it and arrives after it. So every purge takes
//! the next generation, every fill is stamped with the generation at which its request went out, and a fill is
//! refused at its end if a later purge named its key or one of its tags — tags that may be known only by then.
//!
//! Purges are remembered only while a fill that began before them is under way, so an idle ledger is empty. It is
//! capped too: when a fill hangs while purges pour in, the oldest are forgotten, and fills from before them are
//! refused unseen, which is the safe side.
//!
//! The ledger is one short mutex. An index shard may be locked inside it, never the other way round.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::key::{BuildIdentity, CacheKey};
use crate::store::PurgeMode;
use crate::tag::Tag;

/// Records kept at most.
const MAX_RECORDS: usize = 100_000;

/// Records dropped at most in one go, so that the end of a long fill holds the lock for microseconds only.
const PRUNE_AT_ONCE: usize = 64;

/// Counts purges. A later purge has a greater generation.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(u64);

impl Generation {
    /// The number of purges so far.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// The newest purges of one name; zero for none.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    hard: Generation,
    soft: Generation,
}

impl Named {
    fn by(mode: PurgeMode, generation: Generation) -> Self {
        match mode {
            PurgeMode::Hard => Self { hard: generation, ..Self::default() },
            PurgeMode::Soft => Self { soft: generation, ..Self::default() },
        }
    }

    fn merge(self, other: Self) -> Self {
        Self { hard: self.hard.max(other.hard), soft: self.soft.max(other.soft) }
    }

    fn newest(self) -> Generation {
        self.hard.max(self.soft)
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Name {
    Key(CacheKey),
    Tag(Tag),
}

/// What purges did to a fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sentence {
    /// No purge named it.
    Clean,
    /// A soft purge named it: it is stale.
    Soft,
    /// A purge named it, or may have: it must not be stored.
    Hard,
}

#[derive(Default)]
struct State {
    current: Generation,
    /// Fills under way, counted by their stamp.
    in_flight: BTreeMap<Generation, usize>,
    keys: HashMap<CacheKey, Named, BuildIdentity>,
    tags: HashMap<Tag, Named>,
    all: Named,
    /// The names in the order of their purges, to forget them in that order. A name that was purged again stands
    /// here again; the maps know its newest purge only.
    order: VecDeque<(Generation, Name)>,
    /// Purges up to here may have been forgotten although a fill from before them is under way.
    floor: Generation,
}

impl State {
    /// Forgets what no fill can ask about any more, a little at a time.
    fn prune(&mut self) {
        let needless = self.needless();
        for _ in 0..PRUNE_AT_ONCE {
            match self.order.front() {
                Some((generation, _)) if *generation <= needless => self.forget_oldest(),
                Some(_) | None => return,
            }
        }
    }

    /// A fill asks about purges later than its stamp, so the oldest stamp itself is not needed.
    fn needless(&self) -> Generation {
        self.in_flight.keys().next().copied().unwrap_or(self.current)
    }

    fn forget_oldest(&mut self) {
        let Some((generation, name)) = self.order.pop_front() else { return };
        match name {
            Name::Key(key) => {
                if self.keys.get(&key).is_some_and(|named| named.newest() <= generation) {
                    self.keys.remove(&key);
                }
            }
            Name::Tag(tag) => {
                if self.tags.get(&tag).is_some_and(|named| named.newest() <= generation) {
                    self.tags.remove(&tag);
                }
            }
        }
    }

    fn record(&mut self, name: Name, mode: PurgeMode) {
        if self.in_flight.is_empty() {
            return;
        }
        let named = Named::by(mode, self.current);
        let known = match &name {
            Name::Key(key) => self.keys.entry(*key).or_default(),
            Name::Tag(tag) => self.tags.entry(tag.clone()).or_default(),
        };
        *known = known.merge(named);
        self.order.push_back((self.current, name));
        self.prune();
        while self.order.len() > MAX_RECORDS {
            if let Some((generation, _)) = self.order.front() {
                self.floor = *generation;
            }
            self.forget_oldest();
        }
    }

    /// The newest purges that name `key` or one of `tags`.
    fn named(&self, key: CacheKey, tags: &[Tag]) -> Named {
        let by_key = self.keys.get(&key).copied().unwrap_or_default();
        let mut named = self.all.merge(by_key);
        if !self.tags.is_empty() {
            for tag in tags {
                named = named.merge(self.tags.get(tag).copied().unwrap_or_default());
            }
        }
        named
    }
}

/// The record of purges. See the module's page.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<State>);

impl Ledger {
    /// The generation of the last purge.
    pub(crate) fn generation(&self) -> Generation {
        self.0.lock().current
    }

    /// Stamps a fill that begins now.
    pub(crate) fn begin(self: &Arc<Self>) -> FillStamp {
        let mut state = self.0.lock();
        let generation = state.current;
        *state.in_flight.entry(generation).or_default() += 1;
        FillStamp { generation, ledger: Arc::clone(self) }
    }

    /// Takes the next generation for a purge of one URL.
    pub(crate) fn purge_key(&self, key: CacheKey, mode: PurgeMode) -> Generation {
        let mut state = self.0.lock();
        state.current.0 += 1;
        state.record(Name::Key(key), mode);
        state.current
    }

    /// Takes the next generation for a purge of tags.
    pub(crate) fn purge_tags<T: AsRef<[u8]>>(&self, tags: &[T], mode: PurgeMode) -> Generation {
        let mut state = self.0.lock();
        state.current.0 += 1;
        if !state.in_flight.is_empty() {
            // What is no tag, no answer carries.
            for tag in tags.iter().filter_map(|tag| Tag::new(tag.as_ref()).ok()) {
                state.record(Name::Tag(tag), mode);
            }
        }
        state.current
    }

    /// Takes the next generation for a purge of everything.
    pub(crate) fn purge_all(&self, mode: PurgeMode) -> Generation {
        let mut state = self.0.lock();
        state.current.0 += 1;
        state.all = state.all.merge(Named::by(mode, state.current));
        state.current
    }

    /// Takes the next generation for a ban, which `add` puts where it is found. It tells up to which generation bans had to
    /// be forgotten that a fill under way may not have seen.
    pub(crate) fn ban<E>(
        &self,
        add: impl FnOnce(Generation) -> Result<Option<Generation>, E>,
    ) -> Result<Generation, E> {
        let mut state = self.0.lock();
        let generation = Generation(state.current.0 + 1);
        let forgotten = add(generation)?;
        state.current = generation;
        state.floor = state.floor.max(forgotten.unwrap_or_default());
        Ok(generation)
    }

    /// The stamp of the oldest fill under way; where there is none, the last purge. What happened up to then no fill asks
    /// about any more.
    pub(crate) fn needless(&self) -> Generation {
        self.0.lock().needless()
    }

    /// The newest purge after `stamp` that names the key or a tag, as far as it is remembered.
    pub(crate) fn named_since(&self, stamp: &FillStamp, key: CacheKey, tags: &[Tag]) -> Option<Generation> {
        let state = self.0.lock();
        let forgotten = if stamp.generation < state.floor { state.floor } else { Generation::default() };
        let newest = state.named(key, tags).newest().max(forgotten);
        (newest > stamp.generation).then_some(newest)
    }

    /// Judges a fill. As long as the guard lives, no purge can begin: what is made visible before it is dropped,
    /// every later purge finds.
    pub(crate) fn judge(&self, stamp: &FillStamp, key: CacheKey, tags: &[Tag]) -> (Sentence, PurgesWait<'_>) {
        let state = self.0.lock();
        let named = state.named(key, tags);
        let sentence = if stamp.generation < state.floor || named.hard > stamp.generation {
            Sentence::Hard
        } else if named.soft > stamp.generation {
            Sentence::Soft
        } else {
            Sentence::Clean
        };
        (sentence, PurgesWait { _state: state })
    }

    #[cfg(test)]
    fn records(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.order.len(), state.keys.len() + state.tags.len())
    }
}

/// Keeps purges from beginning while it lives.
pub(crate) struct PurgesWait<'a> {
    _state: MutexGuard<'a, State>,
}

/// The moment at which a fill began, in purges. While it lives, purges are remembered for it: drop it when the fill
/// has ended, well or badly.
pub struct FillStamp {
    generation: Generation,
    ledger: Arc<Ledger>,
}

impl FillStamp {
    /// The last purge before the fill began.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

impl std::fmt::Debug for FillStamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FillStamp").field(&self.generation).finish()
    }
}

impl Drop for FillStamp {
    fn drop(&mut self) {
        let mut state = self.ledger.0.lock();
        if let Some(count) = state.in_flight.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&self.generation);
            }
        }
        state.prune();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KEY: CacheKey = CacheKey::from_number(1);
    const OTHER: CacheKey = CacheKey::from_number(2);

    fn tag(text: &str) -> Tag {
        Tag::new(text.as_bytes()).unwrap()
    }

    fn sentence(ledger: &Ledger, stamp: &FillStamp, tags: &[Tag]) -> Sentence {
        ledger.judge(stamp, KEY, tags).0
    }

    #[test]
    fn only_later_purges_that_name_it_count() {
        let ledger = Arc::new(Ledger::default());
        ledger.purge_key(KEY, PurgeMode::Hard);
        let stamp = ledger.begin();
        assert_eq!(sentence(&ledger, &stamp, &[]), Sentence::Clean);
        ledger.purge_key(OTHER, PurgeMode::Hard);
        ledger.purge_tags(&[tag("a")], PurgeMode::Hard);
        assert_eq!(sentence(&ledger, &stamp, &[tag("b")]), Sentence::Clean);
        assert_eq!(ledger.named_since(&stamp, KEY, &[tag("b")]), None);
        assert_eq!(sentence(&ledger, &stamp, &[tag("b"), tag("a")]), Sentence::Hard);
        assert_eq!(ledger.named_since(&stamp, KEY, &[tag("a")]), Some(ledger.generation()));
        ledger.purge_key(KEY, PurgeMode::Soft);
        assert_eq!(sentence(&ledger, &stamp, &[]), Sentence::Soft);
        assert_eq!(sentence(&ledger, &stamp, &[tag("a")]), Sentence::Hard);
        assert_eq!(sentence(&ledger, &ledger.begin(), &[tag("a")]), Sentence::Clean);
    }

    #[test]
    fn a_soft_purge_does_not_hide_an_earlier_hard_one() {
        let ledger = Arc::new(Ledger::default());
        let stamp = ledger.begin();
        ledger.purge_key(KEY, PurgeMode::Hard);
        let between = ledger.begin();
        ledger.purge_key(KEY, PurgeMode::Soft);
        assert_eq!(sentence(&ledger, &stamp, &[]), Sentence::Hard);
        assert_eq!(sentence(&ledger, &between, &[]), Sentence::Soft);
    }

    #[test]
    fn purging_everything_names_every_fill() {
        let ledger = Arc::new(Ledger::default());
        let stamp = ledger.begin();
        ledger.purge_all(PurgeMode::Soft);
        assert_eq!(sentence(&ledger, &stamp, &[]), Sentence::Soft);
        ledger.purge_all(PurgeMode::Hard);
        assert_eq!(sentence(&ledger, &stamp, &[]), Sentence::Hard);
        assert_eq!(sentence(&ledger, &ledger.begin(), &[]), Sentence::Clean);
    }

    #[test]
    fn nothing_is_remembered_without_a_fill() {
        let ledger = Arc::new(Ledger::default());
        ledger.purge_key(KEY, PurgeMode::Hard);
        ledger.purge_tags(&[tag("a")], PurgeMode::Hard);
        assert_eq!(ledger.records(), (0, 0));
        let early = ledger.begin();
        ledger.purge_key(KEY, PurgeMode::Hard);
        let late = ledger.begin();
        ledger.purge_key(KEY, PurgeMode::Hard);
        assert_eq!(ledger.records(), (2, 1));
        drop(early);
        assert_eq!(ledger.records(), (1, 1));
        assert_eq!(sentence(&ledger, &late, &[]), Sentence::Hard);
        drop(late);
        assert_eq!(ledger.records(), (0, 0));
    }

    #[test]
    fn past_the_cap_old_fills_are_refused_unseen() {
        let ledger = Arc::new(Ledger::default());
        let old = ledger.begin();
        for number in 0..MAX_RECORDS {
            ledger.purge_key(CacheKey::from_number(number as u128 + 10), PurgeMode::Soft);
        }
        assert_eq!(sentence(&ledger, &old, &[]), Sentence::Clean);
        let new = ledger.begin();
        ledger.purge_key(OTHER, PurgeMode::Soft);
        assert_eq!(ledger.records(), (MAX_RECORDS, MAX_RECORDS));
        assert_eq!(sentence(&ledger, &old, &[]), Sentence::Hard);
        assert!(ledger.named_since(&old, KEY, &[]).is_some());
        assert_eq!(sentence(&ledger, &new, &[]), Sentence::Clean);
        drop(old);
        // What only the old one needed goes a little at a time.
        while ledger.records().0 > 1 {
            let before = ledger.records().0;
            drop(ledger.begin());
            assert!(ledger.records().0 < before);
        }
        drop(new);
        assert_eq!(ledger.records(), (0, 0));
    }
}
