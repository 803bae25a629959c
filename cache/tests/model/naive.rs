//! The store as anybody would write it who had no hurry: a list of responses, a list of purges, and a loop over them.
//!
//! It knows nothing of locks, hashes, memory or the policy that keeps room. What the policy took out of the store is
//! told to it from outside ([`Naive::forget`]), so that it can go on being exact.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::step::{Response, VARIES, Visitor};

/// What a purge or a look-up needs to know of a stored response. Times in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Each response has another.
    pub(crate) number: u64,
    pub(crate) said: Response,
    pub(crate) stored: u64,
    pub(crate) fresh_until: u64,
    /// The policy frees memory by the real clock; this is when it was told of the response.
    pub(crate) told: Instant,
}

/// What may be done with a response, in the words of `Freshness`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    Fresh,
    Grace,
    Stale,
    Dead,
}

impl Known {
    pub(crate) fn new(number: u64, said: Response, stored: u64, told: Instant) -> Self {
        let fresh_for = said.life.ttl.saturating_sub(said.life.age) * 1000;
        Self { number, said, stored, fresh_until: stored + fresh_for, told }
    }

    /// What was over on arrival counts against grace.
    fn overdue(&self) -> u64 {
        self.said.life.age.saturating_sub(self.said.life.ttl)
    }

    fn grace_until(&self) -> u64 {
        self.fresh_until + self.said.life.grace.saturating_sub(self.overdue()) * 1000
    }

    fn kept_until(&self) -> u64 {
        self.grace_until() + self.said.life.keep * 1000
    }

    fn on_error_until(&self) -> u64 {
        let window = self.said.life.on_error.saturating_sub(self.overdue()) * 1000;
        self.grace_until().max(self.fresh_until + window)
    }

    pub(crate) fn word(&self, now: u64) -> Word {
        if now < self.fresh_until {
            Word::Fresh
        } else if now < self.grace_until() {
            Word::Grace
        } else if now < self.kept_until() || now < self.on_error_until() {
            Word::Stale
        } else {
            Word::Dead
        }
    }

    pub(crate) fn on_error(&self, now: u64) -> bool {
        now < self.on_error_until()
    }

    pub(crate) fn disconnected(&self, now: u64) -> bool {
        self.on_error(now) || (self.said.life.may_be_stale && now < self.kept_until())
    }

    /// Whether it may have been freed because its time was over by the real clock.
    pub(crate) fn lay_about(&self) -> bool {
        let useful = self.kept_until().max(self.on_error_until()).saturating_sub(self.stored);
        u128::from(useful) <= self.told.elapsed().as_millis()
    }

    fn answers(&self, visitor: &Visitor) -> bool {
        self.said.vary.is_none_or(|vary| visitor.looks_to(vary) == self.said.asked.looks_to(vary))
    }
}

/// A purge, for the fills that began before it.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Url(u8),
    Tags(Vec<u8>),
    All,
}

impl Named {
    pub(crate) fn names(&self, url: u8, tags: &[u8]) -> bool {
        match self {
            Self::Url(named) => *named == url,
            Self::Tags(named) => named.iter().any(|tag| tags.contains(tag)),
            Self::All => true,
        }
    }
}

/// What purges since a fill's beginning did to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Clean,
    Soft,
    Hard,
}

/// What a look-up must find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    Entry(Word, u64),
    Uncacheable,
    Missing,
}

pub(crate) struct Naive {
    /// In the order in which they were stored.
    pub(crate) known: Vec<Known>,
    /// URLs and until when they are taken for uncacheable.
    pub(crate) marks: BTreeMap<u8, u64>,
    /// What URLs vary on that have no entry, by number in [`VARIES`].
    pub(crate) learned: BTreeMap<u8, u8>,
    /// Every purge so far, and whether it was a soft one; the generation of the first is 1.
    pub(crate) purges: Vec<(Named, bool)>,
    pub(crate) now: u64,
    pub(crate) max_variants: usize,
    pub(crate) remembers_marks: bool,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) variants_dropped: u64,
}

impl Naive {
    pub(crate) fn new(max_variants: usize, remembers_marks: bool) -> Self {
        Self {
            known: Vec::new(),
            marks: BTreeMap::new(),
            learned: BTreeMap::new(),
            purges: Vec::new(),
            now: 100_000,
            max_variants,
            remembers_marks,
            stored: 0,
            refused: 0,
            variants_dropped: 0,
        }
    }

    pub(crate) fn fate(&self, before: usize, url: u8, tags: &[u8]) -> Fate {
        let mut fate = Fate::Clean;
        for (named, soft) in &self.purges[before..] {
            if named.names(url, tags) {
                if !soft {
                    return Fate::Hard;
                }
                fate = Fate::Soft;
            }
        }
        fate
    }

    /// The generation of the last purge since `before` that names it; zero for none.
    pub(crate) fn named_since(&self, before: usize, url: u8, tags: &[u8]) -> u64 {
        let names = |(named, _): &(Named, bool)| named.names(url, tags);
        let last = self.purges.iter().rposition(names).map_or(0, |at| at + 1);
        if last > before { last as u64 } else { 0 }
    }

    pub(crate) fn store(&mut self, new: Known, fate: Fate) {
        let mut new = new;
        match fate {
            Fate::Hard => return self.refused += 1,
            Fate::Soft => new.fresh_until = new.fresh_until.min(self.now),
            Fate::Clean => {}
        }
        let Response { url, vary, asked, .. } = new.said.clone();
        // A response with another `Vary` than the last one displaces all that went before; so does one without.
        self.known.retain(|known| known.said.url != url || (vary.is_some() && known.said.vary == vary));
        // The same variant is replaced.
        self.known.retain(|known| known.said.url != url || !known.answers(&asked));
        let variants: Vec<_> = self.known.iter().filter(|known| known.said.url == url).collect();
        if variants.len() >= self.max_variants {
            let oldest = variants[0].number;
            self.known.retain(|known| known.number != oldest);
            self.variants_dropped += 1;
        }
        self.known.push(new);
        self.stored += 1;
        self.marks.remove(&url);
        self.learned.remove(&url);
    }

    /// Takes out what is gone from the store although nothing above says so.
    pub(crate) fn forget(&mut self, number: u64) {
        let Some(at) = self.known.iter().position(|known| known.number == number) else { return };
        let gone = self.known.remove(at);
        self.learn_if_last(&gone);
    }

    /// What a URL varies on outlives its last variant.
    fn learn_if_last(&mut self, gone: &Known) {
        let url = gone.said.url;
        if let Some(vary) = gone.said.vary
            && !self.known.iter().any(|known| known.said.url == url)
        {
            self.learned.insert(url, vary);
        }
    }

    pub(crate) fn find(&self, url: u8, visitor: &Visitor) -> Found {
        let here = self.known.iter().filter(|known| known.said.url == url);
        let fitting = here.clone().find(|known| known.answers(visitor));
        let word = fitting.map_or(Word::Dead, |known| known.word(self.now));
        let marked = self.marks.get(&url).is_some_and(|until| self.now < *until);
        match (fitting, word) {
            (Some(known), Word::Fresh) => Found::Entry(word, known.number),
            _ if marked => Found::Uncacheable,
            (Some(known), Word::Grace | Word::Stale) => Found::Entry(word, known.number),
            (Some(_) | None, _) => Found::Missing,
        }
    }

    /// Purges, and says how many were purged and how many softened.
    pub(crate) fn purge(&mut self, named: Named, soft: bool) -> (u64, u64) {
        match &named {
            Named::Url(url) => _ = self.marks.remove(url),
            Named::All => self.marks.clear(),
            Named::Tags(_) => {}
        }
        let hit: Vec<_> = self
            .known
            .iter()
            .filter(|known| named.names(known.said.url, &known.said.tags))
            .cloned()
            .collect();
        let mut count = (0, 0);
        for known in hit {
            let (purged, softened) = self.purge_one(known.number, soft, !matches!(named, Named::All));
            count = (count.0 + purged, count.1 + softened);
        }
        self.purges.push((named, soft));
        count
    }

    /// Purges one response if it is still stored. `learn`: what its URL varied on is remembered.
    pub(crate) fn purge_one(&mut self, number: u64, soft: bool, learn: bool) -> (u64, u64) {
        let now = self.now;
        let Some(at) = self.known.iter().position(|known| known.number == number) else { return (0, 0) };
        if soft {
            let known = &mut self.known[at];
            let was_fresh = known.word(now) == Word::Fresh;
            known.fresh_until = known.fresh_until.min(now);
            return (0, u64::from(was_fresh));
        }
        let gone = self.known.remove(at);
        if learn {
            self.learn_if_last(&gone);
        }
        (u64::from(gone.word(now) != Word::Dead), 0)
    }

    pub(crate) fn mark(&mut self, url: u8, until: u64) {
        if self.remembers_marks {
            self.marks.insert(url, until);
        }
    }

    pub(crate) fn learn(&mut self, url: u8, vary: u8) {
        let known = self.known.iter().find(|known| known.said.url == url);
        if known.is_none_or(|known| known.said.vary != Some(vary)) {
            self.learned.insert(url, vary);
        }
    }

    pub(crate) fn vary_of(&self, url: u8) -> Option<&'static [&'static str]> {
        let learned = self.learned.get(&url).copied();
        let stored =
            || self.known.iter().find(|known| known.said.url == url).and_then(|known| known.said.vary);
        learned.or_else(stored).map(|vary| VARIES[usize::from(vary)])
    }

    pub(crate) fn tags(&self) -> BTreeSet<u8> {
        self.known.iter().flat_map(|known| known.said.tags.iter().copied()).collect()
    }

    pub(crate) fn carriers(&self, tag: u8) -> usize {
        self.known.iter().filter(|known| known.said.tags.contains(&tag)).count()
    }
}
