//! From a key to the entry, for every request.
//!
//! The index is split by the key; a look-up takes one part's read lock for the time of one hash probe and one clone
//! of an `Arc`. Writers hold a part's lock for one insertion or removal, never for a whole purge. It is the truth
//! about what is stored: the policy in `room` and the tags follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::hash_table::{Entry as TableEntry, HashTable};
use parking_lot::RwLock;
use smallvec::{SmallVec, smallvec};

use crate::bounded::Bounded;
use crate::entry::{Entry, Freshness};
use crate::key::{CacheKey, KeySecret, VariantKey};
use crate::time::Moment;
use crate::variants::Variants;
use crate::vary::{SelectingHeaders, VarySpec};

/// Parts of the index. Many, so that a part's table is small and its growth is a short pause for few.
pub(crate) const SHARDS: usize = 256;

/// Per part: what URLs without an entry vary on.
const LEARNED_PER_SHARD: usize = 16;

/// Entries that had to go.
pub(crate) type Displaced = SmallVec<[Arc<Entry>; 2]>;

/// What a slot takes, and one byte, in a table that is at its emptiest 7/16 full.
pub(crate) const SLOT_BYTES: usize = (size_of::<Slot>() + 1) * 16 / 7;

/// What stands under a key. Most resources have one variant.
///
/// The key itself is not here: the entry has it, and is in the processor's cache next anyway. A part of it is, in what
/// would be empty space, so that a table that grows need not visit every entry, and a stranger is nearly always told
/// from the slot alone.
enum Slot {
    One { digest: u32, entry: Arc<Entry> },
    Many { digest: u32, resource: Box<Resource> },
}

/// A resource that varies.
struct Resource {
    key: CacheKey,
    vary: Arc<VarySpec>,
    /// Never empty.
    variants: Variants,
}

impl Slot {
    fn new(entry: Arc<Entry>, vary: Option<Arc<VarySpec>>) -> Self {
        let key = entry.key();
        let digest = digest(key);
        match vary {
            None => Self::One { digest, entry },
            Some(vary) => {
                let variants = Variants::one(entry.variant(), entry);
                let resource = Resource { key, vary, variants };
                Self::Many { digest, resource: Box::new(resource) }
            }
        }
    }

    fn digest(&self) -> u32 {
        match self {
            Self::One { digest, .. } | Self::Many { digest, .. } => *digest,
        }
    }

    fn is_of(&self, key: CacheKey) -> bool {
        self.digest() == digest(key)
            && match self {
                Self::One { entry, .. } => entry.key() == key,
                Self::Many { resource, .. } => resource.key == key,
            }
    }

    fn variant(&self, wanted: VariantKey) -> Option<&Arc<Entry>> {
        match self {
            Self::One { entry, .. } => (entry.variant() == wanted).then_some(entry),
            Self::Many { resource, .. } => resource.variants.get(wanted),
        }
    }

    fn into_entries(self) -> Displaced {
        match self {
            Self::One { entry, .. } => smallvec![entry],
            Self::Many { resource, .. } => resource.variants.entries().map(Arc::clone).collect(),
        }
    }
}

/// The part of a key that a slot keeps. Keys are hashes; the high half chooses the part of the index.
fn digest(key: CacheKey) -> u32 {
    key.number() as u32
}

/// What the table goes by. It takes the place from the low bits and a mark from the highest seven, so the digest stands
/// at both ends.
fn spread(digest: u32) -> u64 {
    u64::from(digest) << 32 | u64::from(digest)
}

struct Shard {
    slots: HashTable<Slot>,
    /// Until when a URL is taken for uncacheable.
    marks: Bounded<Moment>,
    /// What a URL varies on that has no entry now.
    learned: Bounded<Arc<VarySpec>>,
}

impl Shard {
    fn slot(&self, key: CacheKey) -> Option<&Slot> {
        self.slots.find(spread(digest(key)), |slot| slot.is_of(key))
    }
}

/// What a look-up found.
pub(crate) struct Found {
    pub(crate) entry: Option<(Arc<Entry>, Freshness)>,
    /// There are variants that the request does not select.
    pub(crate) others: bool,
    pub(crate) uncacheable: bool,
}

/// What inserting an entry did to others.
pub(crate) struct Inserted {
    pub(crate) displaced: Displaced,
    /// Of these, variants that went because there were too many.
    pub(crate) over_limit: u64,
}

#[derive(Default)]
#[repr(align(64))]
struct Padded<T>(T);

/// See the module's page.
pub(crate) struct Index {
    shards: Box<[Padded<RwLock<Shard>>]>,
    max_variants: AtomicUsize,
}

impl Index {
    pub(crate) fn new(max_variants: usize, max_marks: usize) -> Self {
        let marks_per_shard = max_marks.div_ceil(SHARDS);
        let shard = || Shard {
            slots: HashTable::new(),
            marks: Bounded::new(marks_per_shard),
            learned: Bounded::new(LEARNED_PER_SHARD),
        };
        Self {
            shards: (0..SHARDS).map(|_| Padded(RwLock::new(shard()))).collect(),
            max_variants: AtomicUsize::new(max_variants.max(1)),
        }
    }

    /// Keeps no more variants of a URL from now on. Where there are more, they stay until they are over or replaced.
    pub(crate) fn set_max_variants(&self, max_variants: usize) {
        self.max_variants.store(max_variants.max(1), Relaxed);
    }

    /// Memory of the tables that are bounded by number, at their fullest.
    pub(crate) fn fixed_bytes(max_marks: usize) -> u64 {
        let marks = max_marks.div_ceil(SHARDS) * Bounded::<Moment>::PLACE_BYTES;
        let learned = LEARNED_PER_SHARD * Bounded::<Arc<VarySpec>>::PLACE_BYTES;
        (SHARDS * (size_of::<Padded<RwLock<Shard>>>() + marks + learned)) as u64
    }

    pub(crate) fn find(
        &self,
        key: CacheKey,
        secret: &KeySecret,
        request: &dyn SelectingHeaders,
        now: Moment,
    ) -> Found {
        let shard = self.shard(key).read();
        let (entry, variants) = match shard.slot(key) {
            None => (None, 0),
            Some(Slot::One { entry, .. }) => (Some(entry), 1),
            // The variant is computed under the lock: that takes less time than sharing the spec, whose counter
            // all threads would fight for.
            Some(slot @ Slot::Many { resource, .. }) => {
                (slot.variant(resource.vary.variant(secret, request)), resource.variants.len())
            }
        };
        let others = variants > usize::from(entry.is_some());
        let entry = entry.map(|entry| (Arc::clone(entry), entry.freshness(now)));
        // A fresh entry wins over a mark: the mark may be about another variant.
        let fresh = matches!(entry, Some((_, Freshness::Fresh)));
        let uncacheable = !fresh && shard.marks.get(key.number()).is_some_and(|&until| now < until);
        Found { entry, others, uncacheable }
    }

    /// Exactly this variant, whatever its freshness.
    pub(crate) fn get(&self, key: CacheKey, variant: VariantKey) -> Option<Arc<Entry>> {
        self.shard(key).read().slot(key)?.variant(variant).map(Arc::clone)
    }

    /// All variants under a key.
    pub(crate) fn variants(&self, key: CacheKey) -> Displaced {
        match self.shard(key).read().slot(key) {
            None => Displaced::new(),
            Some(Slot::One { entry, .. }) => smallvec![Arc::clone(entry)],
            Some(Slot::Many { resource, .. }) => resource.variants.entries().map(Arc::clone).collect(),
        }
    }

    /// Puts an entry in the place of the one with the same variant, and lifts the URL's uncacheable mark.
    ///
    /// The latest response decides what a resource varies on: entries stored under another spec go, because they
    /// can no longer be told apart. (Varnish keeps them and asks each for its own.)
    pub(crate) fn insert(&self, entry: Arc<Entry>, vary: Option<Arc<VarySpec>>) -> Inserted {
        let key = entry.key();
        let mut shard = self.shard(key).write();
        shard.marks.remove(key.number());
        shard.learned.remove(key.number());
        let mut over_limit = 0;
        let found =
            shard.slots.entry(spread(digest(key)), |slot| slot.is_of(key), |slot| spread(slot.digest()));
        let displaced = match found {
            TableEntry::Vacant(free) => {
                free.insert(Slot::new(entry, vary));
                Displaced::new()
            }
            TableEntry::Occupied(mut known) => match (known.get_mut(), vary) {
                (Slot::Many { resource, .. }, Some(vary)) if resource.vary == vary => {
                    let variant = entry.variant();
                    let mut displaced = Displaced::new();
                    if let Some(same) = resource.variants.remove(variant) {
                        displaced.push(same);
                    } else if resource.variants.len() >= self.max_variants.load(Relaxed) {
                        displaced.extend(resource.variants.remove_oldest());
                        over_limit += 1;
                    }
                    resource.variants.push(variant, entry);
                    displaced
                }
                (slot @ (Slot::One { .. } | Slot::Many { .. }), vary) => {
                    std::mem::replace(slot, Slot::new(entry, vary)).into_entries()
                }
            },
        };
        Inserted { displaced, over_limit }
    }

    /// Removes exactly this entry; `false` if it was no longer there.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) -> bool {
        let key = entry.key();
        let mut shard = self.shard(key).write();
        let shard = &mut *shard;
        let found = shard.slots.find_entry(spread(digest(key)), |slot| slot.is_of(key));
        let Ok(mut known) = found else {
            return false;
        };
        match known.get_mut() {
            Slot::One { entry: one, .. } => {
                if !Arc::ptr_eq(one, entry) {
                    return false;
                }
                known.remove();
            }
            Slot::Many { resource, .. } => {
                let stored = resource.variants.get(entry.variant());
                if !stored.is_some_and(|stored| Arc::ptr_eq(stored, entry)) {
                    return false;
                }
                resource.variants.remove(entry.variant());
                if resource.variants.len() == 0 {
                    // The next crowd should still be told apart.
                    shard.learned.put(key.number(), Arc::clone(&resource.vary));
                    known.remove();
                }
            }
        }
        true
    }

    /// Removes all variants under a key, and its mark.
    pub(crate) fn take(&self, key: CacheKey) -> Displaced {
        let mut shard = self.shard(key).write();
        shard.marks.remove(key.number());
        let shard = &mut *shard;
        match shard.slots.find_entry(spread(digest(key)), |slot| slot.is_of(key)) {
            Ok(known) => {
                let (slot, _) = known.remove();
                if let Slot::Many { resource, .. } = &slot {
                    shard.learned.put(key.number(), Arc::clone(&resource.vary));
                }
                slot.into_entries()
            }
            Err(_) => Displaced::new(),
        }
    }

    /// Empties one part, marks included.
    pub(crate) fn take_shard(&self, shard: usize) -> Vec<Arc<Entry>> {
        let slots = {
            let mut shard = self.shards[shard].0.write();
            shard.marks.clear();
            std::mem::take(&mut shard.slots)
        };
        slots.into_iter().flat_map(Slot::into_entries).collect()
    }

    /// All entries of one part.
    pub(crate) fn entries(&self, shard: usize) -> Vec<Arc<Entry>> {
        let shard = self.shards[shard].0.read();
        let mut all = Vec::with_capacity(shard.slots.len());
        for slot in &shard.slots {
            match slot {
                Slot::One { entry, .. } => all.push(Arc::clone(entry)),
                Slot::Many { resource, .. } => all.extend(resource.variants.entries().map(Arc::clone)),
            }
        }
        all
    }

    /// Returns whether another mark had to go.
    pub(crate) fn mark(&self, key: CacheKey, until: Moment) -> bool {
        self.shard(key).write().marks.put(key.number(), until)
    }

    pub(crate) fn marked_until(&self, key: CacheKey) -> Option<Moment> {
        self.shard(key).read().marks.get(key.number()).copied()
    }

    pub(crate) fn unmark(&self, key: CacheKey) {
        self.shard(key).write().marks.remove(key.number());
    }

    pub(crate) fn clear_marks(&self) {
        for shard in &self.shards {
            shard.0.write().marks.clear();
        }
    }

    pub(crate) fn marks(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.read().marks.values().count() as u64).sum()
    }

    /// Remembers what a URL without an entry varies on. What an entry says stays.
    pub(crate) fn learn(&self, key: CacheKey, vary: Arc<VarySpec>) {
        let mut shard = self.shard(key).write();
        match shard.slot(key) {
            Some(Slot::Many { resource, .. }) if resource.vary == vary => {}
            Some(Slot::One { .. } | Slot::Many { .. }) | None => {
                shard.learned.put(key.number(), vary);
            }
        }
    }

    /// What was learned last, else what the entries vary on.
    pub(crate) fn vary_of(&self, key: CacheKey) -> Option<Arc<VarySpec>> {
        let shard = self.shard(key).read();
        shard.learned.get(key.number()).map(Arc::clone).or_else(|| match shard.slot(key)? {
            Slot::One { .. } => None,
            Slot::Many { resource, .. } => Some(Arc::clone(&resource.vary)),
        })
    }

    fn shard(&self, key: CacheKey) -> &RwLock<Shard> {
        // The tables inside use the low half of the number.
        &self.shards[(key.number() >> 64) as usize % SHARDS].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_marks_are_small() {
        assert_eq!((size_of::<Slot>(), Bounded::<Moment>::PLACE_BYTES), (16, 48));
    }
}
