//! Which entries carry which tag.
//!
//! The index is split by the tag's hash; each part has a short lock of its own, and no two are ever held together
//! nor any other lock of the store inside. An entry without tags touches none of it.
//!
//! A tag's carriers are a list, and every entry remembers at which place of each list it stands: leaving a tag with
//! a million carriers moves one element, and costs a quarter of the memory of a hash set.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

use hashbrown::hash_table::{Entry as TableEntry, HashTable};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Tag;
use crate::entry::{Entry, heap};

const SHARDS: usize = 64;

/// Carriers in one allocation; longer lists are made of several, so that no push copies a long list under the lock.
const CHUNK: usize = 512;

/// Marks an entry that stands in no list.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// What a record costs beside the text of its tag: its slot, and one byte, in a table that is at its emptiest 7/16
/// full. (Counted at two thirds full, half a million entries with a tag of their own took 4 % more than their
/// account.)
const RECORD_BYTES: usize = (size_of::<Record>() + 1) * 16 / 7;

/// The counters of the shared allocation in which the text of a tag stands.
const COUNTERS_BYTES: usize = 2 * size_of::<usize>();

/// An entry in a tag's list, and which of the entry's tags it is.
#[derive(Clone)]
struct Carrier {
    entry: Arc<Entry>,
    ordinal: u32,
}

impl Carrier {
    fn place(&self) -> &AtomicU32 {
        &self.entry.places()[self.ordinal as usize]
    }
}

/// Invariant: an element's place is its position, and it is only changed under the shard's lock.
enum Carriers {
    Few(SmallVec<[Carrier; 1]>),
    /// Every chunk but the last is full, none is empty.
    Many(Vec<Vec<Carrier>>),
}

impl Carriers {
    fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(chunks) => chunks.last().map_or(0, |last| (chunks.len() - 1) * CHUNK + last.len()),
        }
    }

    fn get(&self, place: usize) -> Option<&Carrier> {
        match self {
            Self::Few(list) => list.get(place),
            Self::Many(chunks) => chunks.get(place / CHUNK)?.get(place % CHUNK),
        }
    }

    fn push(&mut self, carrier: Carrier) {
        carrier.place().store(self.len() as u32, Relaxed);
        match self {
            Self::Few(list) if list.len() < CHUNK => list.push(carrier),
            Self::Few(list) => {
                let full = std::mem::take(list).into_vec();
                *self = Self::Many(vec![full, vec![carrier]]);
            }
            Self::Many(chunks) => match chunks.last_mut() {
                Some(last) if last.len() < CHUNK => last.push(carrier),
                Some(_) | None => chunks.push(vec![carrier]),
            },
        }
    }

    /// Takes out the element at `place`, which exists, and puts the last one there.
    fn swap_remove(&mut self, place: usize) {
        let last = match self {
            Self::Few(list) => list.pop(),
            Self::Many(chunks) => {
                let last = chunks.last_mut().and_then(Vec::pop);
                chunks.pop_if(|chunk| chunk.is_empty());
                last
            }
        };
        let Some(last) = last else { return };
        let hole = match self {
            Self::Few(list) => list.get_mut(place),
            Self::Many(chunks) => {
                chunks.get_mut(place / CHUNK).and_then(|chunk| chunk.get_mut(place % CHUNK))
            }
        };
        match hole {
            Some(hole) => {
                last.place().store(place as u32, Relaxed);
                std::mem::replace(hole, last).place().store(NOWHERE, Relaxed);
            }
            // It was the last one itself.
            None => last.place().store(NOWHERE, Relaxed),
        }
    }

    fn heap_bytes(&self) -> usize {
        let elements = match self {
            Self::Few(list) if !list.spilled() => 0,
            Self::Few(list) => list.capacity(),
            Self::Many(chunks) => {
                chunks.last().map_or(0, Vec::capacity) + chunks.len().saturating_sub(1) * (CHUNK + 2)
            }
        };
        elements * size_of::<Carrier>()
    }
}

struct Record {
    tag: Tag,
    hash: u64,
    carriers: Carriers,
}

impl Record {
    fn fixed_bytes(tag: &Tag) -> usize {
        RECORD_BYTES + heap(COUNTERS_BYTES + tag.as_bytes().len())
    }
}

/// Which entries carry which tag. See the module's page.
pub(crate) struct TagIndex {
    shards: Box<[Mutex<HashTable<Record>>]>,
    hasher: RandomState,
    tags: AtomicI64,
    bytes: AtomicI64,
}

impl TagIndex {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            tags: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
        }
    }

    /// How many tags are carried by at least one entry.
    pub(crate) fn tags(&self) -> u64 {
        self.tags.load(Relaxed).max(0) as u64
    }

    /// The memory of the index.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed).max(0) as u64
    }

    /// The most that an entry with these tags can cost here: every tag is new.
    pub(crate) fn most_bytes(tags: &[Tag]) -> usize {
        tags.iter().map(|tag| Record::fixed_bytes(tag) + 2 * size_of::<Carrier>()).sum()
    }

    /// Replaces every tag that is known by the index's own copy, so that a text is in memory once.
    pub(crate) fn intern(&self, tags: &mut [Tag]) {
        for tag in tags {
            let (hash, shard) = self.shard(tag.as_bytes());
            if let Some(known) = shard.lock().find(hash, |record| record.tag == *tag) {
                *tag = known.tag.clone();
            }
        }
    }

    /// Adds a new entry to the lists of all its tags.
    pub(crate) fn link(&self, entry: &Arc<Entry>) {
        for (ordinal, tag) in entry.tags().iter().enumerate() {
            let (hash, shard) = self.shard(tag.as_bytes());
            let carrier = Carrier { entry: Arc::clone(entry), ordinal: ordinal as u32 };
            let mut table = shard.lock();
            let grown = match table.entry(hash, |record| record.tag == *tag, |record| record.hash) {
                TableEntry::Occupied(mut known) => {
                    let carriers = &mut known.get_mut().carriers;
                    let before = carriers.heap_bytes();
                    carriers.push(carrier);
                    carriers.heap_bytes() as i64 - before as i64
                }
                TableEntry::Vacant(free) => {
                    let mut carriers = Carriers::Few(SmallVec::new());
                    carriers.push(carrier);
                    free.insert(Record { tag: tag.clone(), hash, carriers });
                    self.tags.fetch_add(1, Relaxed);
                    Record::fixed_bytes(tag) as i64
                }
            };
            self.bytes.fetch_add(grown, Relaxed);
        }
    }

    /// Takes an entry off the lists of all its tags. Doing it twice does no harm.
    pub(crate) fn unlink(&self, entry: &Arc<Entry>) {
        for (tag, place) in entry.tags().iter().zip(entry.places()) {
            let (hash, shard) = self.shard(tag.as_bytes());
            let mut table = shard.lock();
            // Read under the lock: another entry's leaving may just have moved this one.
            let place = place.load(Relaxed) as usize;
            let Ok(mut record) = table.find_entry(hash, |record| record.tag == *tag) else {
                continue;
            };
            let carriers = &mut record.get_mut().carriers;
            if !carriers.get(place).is_some_and(|carrier| Arc::ptr_eq(&carrier.entry, entry)) {
                continue;
            }
            let mut shrunk = carriers.heap_bytes() as i64;
            carriers.swap_remove(place);
            if carriers.len() == 0 {
                let (record, _) = record.remove();
                shrunk += Record::fixed_bytes(&record.tag) as i64;
                self.tags.fetch_sub(1, Relaxed);
                if table.len() * 4 < table.capacity() {
                    let smaller = table.len() * 2;
                    table.shrink_to(smaller, |record| record.hash);
                }
            } else {
                shrunk -= carriers.heap_bytes() as i64;
            }
            self.bytes.fetch_sub(shrunk, Relaxed);
        }
    }

    /// How many entries carry the tag.
    pub(crate) fn count(&self, tag: &Tag) -> usize {
        let (hash, shard) = self.shard(tag.as_bytes());
        shard.lock().find(hash, |record| record.tag == *tag).map_or(0, |record| record.carriers.len())
    }

    /// The carriers before place `end`, at most `CHUNK`, and the place where they begin; `None` when there are none.
    ///
    /// Going from `usize::MAX` down to zero passes every entry that carried the tag at the beginning and still does,
    /// although the lock is released in between: leaving moves an element from the end to a lower place, so one not
    /// yet passed stays before `end`. Some may come twice, and some that were added meanwhile may come too.
    pub(crate) fn carriers_before(&self, tag: &[u8], end: usize) -> Option<(Vec<Arc<Entry>>, usize)> {
        let (hash, shard) = self.shard(tag);
        let table = shard.lock();
        let carriers = &table.find(hash, |record| record.tag.as_bytes() == tag)?.carriers;
        let end = end.min(carriers.len());
        let start = end.saturating_sub(CHUNK);
        let found: Vec<_> = (start..end)
            .filter_map(|place| carriers.get(place))
            .map(|carrier| Arc::clone(&carrier.entry))
            .collect();
        (!found.is_empty()).then_some((found, start))
    }

    fn shard(&self, tag: &[u8]) -> (u64, &Mutex<HashTable<Record>>) {
        let hash = self.hasher.hash_one(tag);
        // The table uses the lowest bits and the top seven; these are in between.
        (hash, &self.shards[(hash >> 40) as usize % SHARDS])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::entry::tests::entry_with_tags;

    fn tag(number: u32) -> Tag {
        Tag::new(format!("t{number}").as_bytes()).unwrap()
    }

    /// All carriers' keys, by walking as a purge does.
    fn walk(index: &TagIndex, tag: &Tag) -> Vec<u128> {
        let (mut found, mut end) = (Vec::new(), usize::MAX);
        while let Some((entries, start)) = index.carriers_before(tag.as_bytes(), end) {
            found.extend(entries.iter().map(|entry| entry.key().number()));
            end = start;
        }
        found
    }

    #[test]
    fn a_long_list_keeps_its_places() {
        let index = TagIndex::new();
        let entries: Vec<_> =
            (0..CHUNK as u32 * 3 + 7).map(|n| entry_with_tags(n.into(), &[tag(1)])).collect();
        entries.iter().for_each(|entry| index.link(entry));
        assert_eq!(index.count(&tag(1)), entries.len());
        // From the front, from the back, and from the middle until nothing is left.
        let mut order: Vec<_> = entries.iter().collect();
        while !order.is_empty() {
            for at in [0, order.len() / 2, order.len() - 1] {
                if at < order.len() {
                    index.unlink(order.swap_remove(at));
                }
            }
            assert_eq!(index.count(&tag(1)), order.len());
        }
        assert_eq!((index.tags(), index.bytes()), (0, 0));
    }

    #[test]
    fn texts_are_shared() {
        let index = TagIndex::new();
        let first = entry_with_tags(1, &[tag(1)]);
        index.link(&first);
        let mut tags = [tag(1), tag(2)];
        index.intern(&mut tags);
        assert!(Arc::ptr_eq(&tags[0].0, &first.tags()[0].0));
        assert_eq!(tags, [tag(1), tag(2)]);
    }

    #[test]
    fn walking_while_entries_leave_misses_none() {
        let index = TagIndex::new();
        let entries: Vec<_> = (0..CHUNK as u32 * 4).map(|n| entry_with_tags(n.into(), &[tag(1)])).collect();
        entries.iter().for_each(|entry| index.link(entry));
        let mut seen = BTreeSet::new();
        let (mut end, mut step) = (usize::MAX, 0);
        while let Some((chunk, start)) = index.carriers_before(tag(1).as_bytes(), end) {
            seen.extend(chunk.iter().map(|entry| entry.key().number()));
            end = start;
            // Meanwhile others leave: of those passed already, and of those still to come.
            step += 1;
            for entry in entries.iter().skip(step).step_by(7) {
                if entry.key().number() % 3 == 0 {
                    index.unlink(entry);
                }
            }
        }
        let missed = entries.iter().filter(|entry| {
            entry.places()[0].load(Relaxed) != NOWHERE && !seen.contains(&entry.key().number())
        });
        assert_eq!(missed.count(), 0);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_model(
            steps in prop::collection::vec((any::<bool>(), 0usize..30), 1..200),
            tag_sets in prop::collection::vec(prop::collection::btree_set(0u32..8, 0..5), 30),
        ) {
            let index = TagIndex::new();
            let tags = |set: &BTreeSet<u32>| set.iter().map(|&n| tag(n)).collect::<Vec<_>>();
            let mut linked: BTreeMap<usize, Arc<Entry>> = BTreeMap::new();
            for (link, which) in steps {
                if link {
                    linked.entry(which).or_insert_with(|| {
                        let entry = entry_with_tags(which as u128, &tags(&tag_sets[which]));
                        index.link(&entry);
                        entry
                    });
                } else if let Some(entry) = linked.remove(&which) {
                    index.unlink(&entry);
                    index.unlink(&entry);
                }
            }
            let mut carried = 0;
            for number in 0..8 {
                let carriers = linked.iter().filter(|(which, _)| tag_sets[**which].contains(&number));
                let expected: Vec<_> = carriers.map(|(which, _)| *which as u128).collect();
                let mut found = walk(&index, &tag(number));
                found.sort_unstable();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(index.count(&tag(number)), expected.len());
                carried += u64::from(!expected.is_empty());
            }
            prop_assert_eq!(index.tags(), carried);
            for entry in linked.values() {
                index.unlink(entry);
            }
            prop_assert_eq!((index.tags(), index.bytes()), (0, 0));
        }
    }
}
