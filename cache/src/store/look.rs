//! Looking something up: what there is for a request, and what the store notes when it is used.
//!
//! [`Store::peek`] only looks, so that it can be asked as well by whoever wants to know what the next request would
//! meet. [`Store::used`] and [`Store::discard`] are the rest of a look-up: a use is told to the policy, and what is of no
//! use any more goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ban::Tested;
use super::{Lookup, Store};
use crate::entry::{Entry, Freshness};
use crate::key::CacheKey;
use crate::time::Moment;
use crate::vary::SelectingHeaders;

/// What of a URL is stored, seen by one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// Only variants that this request does not select.
    OtherVariants,
    /// The variant that it selects, whatever its freshness.
    ThisVariant,
}

/// What a look found.
#[derive(Clone, Debug)]
pub struct Peek {
    /// What there is for the request.
    pub lookup: Lookup,
    /// What of its URL is stored.
    pub known: Known,
    /// An entry that it selects and that is of no use any more; [`Store::discard`] takes it out.
    pub dead: Option<Arc<Entry>>,
}

impl Store {
    /// What there is for a request to `key`; `request` chooses the variant.
    pub fn lookup(&self, key: CacheKey, request: &dyn SelectingHeaders, now: Moment) -> Lookup {
        let Peek { lookup, known: _, dead } = self.peek(key, request, now);
        if let Some(dead) = dead {
            self.discard(&dead);
        }
        match &lookup {
            Lookup::Fresh(entry) | Lookup::Grace(entry) | Lookup::Stale(entry) => self.used(entry),
            Lookup::Uncacheable | Lookup::Missing => {}
        }
        lookup
    }

    /// The same without a trace: nothing is noted and nothing goes.
    pub fn peek(&self, key: CacheKey, request: &dyn SelectingHeaders, now: Moment) -> Peek {
        let mut found = self.index.find(key, &self.secret, request, now);
        if let Some((entry, freshness)) = &mut found.entry {
            match self.tested(entry) {
                Tested::Clean => {}
                Tested::Softened => *freshness = entry.freshness(now),
                Tested::Struck(_) => *freshness = Freshness::Dead,
            }
        }
        let apart = if found.others { Known::OtherVariants } else { Known::Nothing };
        let missing = if found.uncacheable { Lookup::Uncacheable } else { Lookup::Missing };
        let (lookup, known, dead) = match found.entry {
            Some((entry, Freshness::Fresh)) => (Lookup::Fresh(entry), Known::ThisVariant, None),
            // As good as gone: it counts for nothing, swept or not.
            Some((entry, Freshness::Dead)) => (missing, apart, Some(entry)),
            // The mark is the later word of the origin.
            Some(_) if found.uncacheable => (missing, Known::ThisVariant, None),
            Some((entry, Freshness::Grace)) => (Lookup::Grace(entry), Known::ThisVariant, None),
            Some((entry, Freshness::Stale)) => (Lookup::Stale(entry), Known::ThisVariant, None),
            None => (missing, apart, None),
        };
        Peek { lookup, known, dead }
    }

    /// Until when answers under `key` are taken for uncacheable, if that is in the future.
    pub fn uncacheable_until(&self, key: CacheKey, now: Moment) -> Option<Moment> {
        self.index.marked_until(key).filter(|until| now < *until)
    }

    /// Notes that an entry that was found is about to be used: tells the policy once in a while.
    pub fn used(&self, entry: &Entry) {
        if entry.touch(self.span.0.load(Relaxed)) {
            self.room.touch(entry);
        }
    }

    /// Takes out an entry that was found to be of no use any more.
    pub fn discard(&self, dead: &Arc<Entry>) {
        if let Tested::Struck(ban) = self.tested(dead) {
            self.strike(dead, &ban);
        } else if self.remove(dead) {
            self.counters.expired.fetch_add(1, Relaxed);
        }
    }
}
