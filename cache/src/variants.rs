//! The variants of one resource, in the order in which they were stored.
//!
//! Few of them are a list that is read through: there is nothing faster for a handful, and nothing smaller. Where an
//! operator lets a URL have thousands (one for each session), a look-up must not read through thousands while it holds
//! a lock; so beyond [`FEW`] they are found by hash, and a second map keeps their order. It has no lock; it lives
//! inside one.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::entry::Entry;
use crate::key::{BuildIdentity, VariantKey};

/// Above this number they are found by hash. Reading through so many keys takes about as long as computing the hash of
/// the request's headers, which comes before.
const FEW: usize = 32;

/// See the module's page.
pub(crate) enum Variants {
    /// The one stored last stands last.
    Few(Vec<(VariantKey, Arc<Entry>)>),
    Many(Box<Many>),
}

/// Invariant: `order` has each variant of `entries` once, under the number it was stored at.
#[derive(Default)]
pub(crate) struct Many {
    entries: HashMap<VariantKey, (u64, Arc<Entry>), BuildIdentity>,
    order: BTreeMap<u64, VariantKey>,
    stored: u64,
}

impl Variants {
    pub(crate) fn one(variant: VariantKey, entry: Arc<Entry>) -> Self {
        Self::Few(vec![(variant, entry)])
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(many) => many.entries.len(),
        }
    }

    pub(crate) fn get(&self, wanted: VariantKey) -> Option<&Arc<Entry>> {
        match self {
            Self::Few(list) => list.iter().find(|(variant, _)| *variant == wanted).map(|(_, entry)| entry),
            Self::Many(many) => many.entries.get(&wanted).map(|(_, entry)| entry),
        }
    }

    /// Puts an entry behind all others, which must not be there yet.
    pub(crate) fn push(&mut self, variant: VariantKey, entry: Arc<Entry>) {
        match self {
            Self::Few(list) if list.len() < FEW => list.push((variant, entry)),
            Self::Few(list) => {
                let mut many = Box::<Many>::default();
                for (variant, entry) in std::mem::take(list) {
                    many.push(variant, entry);
                }
                many.push(variant, entry);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.push(variant, entry),
        }
    }

    pub(crate) fn remove(&mut self, wanted: VariantKey) -> Option<Arc<Entry>> {
        match self {
            Self::Few(list) => {
                let at = list.iter().position(|(variant, _)| *variant == wanted)?;
                Some(list.remove(at).1)
            }
            Self::Many(many) => {
                let (number, entry) = many.entries.remove(&wanted)?;
                many.order.remove(&number);
                self.become_few();
                Some(entry)
            }
        }
    }

    pub(crate) fn remove_oldest(&mut self) -> Option<Arc<Entry>> {
        match self {
            Self::Few(list) => (!list.is_empty()).then(|| list.remove(0).1),
            Self::Many(many) => {
                let (_, variant) = many.order.pop_first()?;
                let removed = many.entries.remove(&variant).map(|(_, entry)| entry);
                self.become_few();
                removed
            }
        }
    }

    /// In any order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(_, entry)| entry);
        few.chain(many.into_iter().flat_map(|many| many.entries.values().map(|(_, entry)| entry)))
    }

    /// Goes back to a list, well below the number at which it became a map: one that comes and goes at the border must
    /// not turn all the others over each time.
    fn become_few(&mut self) {
        let Self::Many(many) = self else { return };
        if many.entries.len() > FEW / 2 {
            return;
        }
        let mut list = Vec::with_capacity(FEW);
        for &variant in many.order.values() {
            list.extend(many.entries.remove(&variant).map(|(_, entry)| (variant, entry)));
        }
        *self = Self::Few(list);
    }
}

impl Many {
    fn push(&mut self, variant: VariantKey, entry: Arc<Entry>) {
        self.stored += 1;
        self.order.insert(self.stored, variant);
        self.entries.insert(variant, (self.stored, entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::entry_with_tags;
    use crate::key::KeySecret;

    fn variant(number: u64) -> VariantKey {
        use std::hash::Hasher;
        KeySecret::new([1; 16]).variant(|hash| hash.write_u64(number))
    }

    fn entry(number: u64) -> Arc<Entry> {
        entry_with_tags(u128::from(number), &[])
    }

    /// Keys of the entries from the oldest to the newest.
    fn drained(mut variants: Variants) -> Vec<u64> {
        std::iter::from_fn(|| variants.remove_oldest()).map(|entry| entry.key().number() as u64).collect()
    }

    #[test]
    fn few_and_many_keep_the_order_in_which_they_came() {
        for count in [1, 2, FEW as u64, FEW as u64 + 1, 1000] {
            let mut variants = Variants::one(variant(0), entry(0));
            for number in 1..count {
                variants.push(variant(number), entry(number));
            }
            assert_eq!((variants.len() as u64, variants.entries().count() as u64), (count, count));
            assert!(variants.get(variant(count)).is_none() && variants.remove(variant(count)).is_none());
            assert_eq!(
                variants.get(variant(count - 1)).map(|entry| entry.key().number()),
                Some(u128::from(count) - 1)
            );
            assert_eq!(drained(variants), (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_that_is_stored_again_is_the_newest() {
        for count in [4, 100] {
            let mut variants = Variants::one(variant(0), entry(0));
            for number in 1..count {
                variants.push(variant(number), entry(number));
            }
            assert!(variants.remove(variant(1)).is_some());
            variants.push(variant(1), entry(1));
            assert_eq!(drained(variants), [0].into_iter().chain(2..count).chain([1]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_that_became_few_are_a_list_again() {
        let mut variants = Variants::one(variant(0), entry(0));
        for number in 1..100 {
            variants.push(variant(number), entry(number));
        }
        assert!(matches!(variants, Variants::Many(_)));
        for number in 0..100 - FEW as u64 / 2 {
            assert!(variants.remove(variant(number)).is_some());
        }
        assert!(matches!(variants, Variants::Few(_)));
        assert_eq!(drained(variants), (100 - FEW as u64 / 2..100).collect::<Vec<_>>());
    }
}
