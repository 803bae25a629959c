//! A small table that never grows past its capacity: when there is no room, the oldest near the new one goes.
//!
//! For what is useful to remember and harmless to forget: marks of uncacheable URLs, `Vary` of URLs without an entry,
//! what became of their last fetch. Set-associative like a processor's cache: a key belongs to one set of eight, so that both finding and
//! replacing look at eight neighbours. It has no lock; it lives inside one.

/// Elements in a set.
const WAYS: usize = 8;

#[derive(Clone)]
struct Place<V> {
    key: u128,
    value: V,
    /// When it was put in, in puts.
    at: u32,
}

/// A table of at most `capacity` values. Nothing is allocated before the first one is put in.
pub struct Bounded<V> {
    places: Box<[Option<Place<V>>]>,
    capacity: usize,
    puts: u32,
}

impl<V: Clone> Bounded<V> {
    /// The memory of one place.
    pub const PLACE_BYTES: usize = size_of::<Option<Place<V>>>();

    /// A table of at most so many values; with zero it keeps none.
    pub fn new(capacity: usize) -> Self {
        Self { places: Box::default(), capacity, puts: 0 }
    }

    /// What was put in under `key`, if it is still there.
    pub fn get(&self, key: u128) -> Option<&V> {
        self.places[self.set(key)].iter().flatten().find(|place| place.key == key).map(|place| &place.value)
    }

    /// Puts in or replaces. Returns whether another one had to go.
    pub fn put(&mut self, key: u128, value: V) -> bool {
        if self.capacity == 0 {
            return false;
        }
        if self.places.is_empty() {
            self.places = vec![None; self.capacity].into_boxed_slice();
        }
        self.puts = self.puts.wrapping_add(1);
        let (puts, set) = (self.puts, self.set(key));
        let age = |place: &Option<Place<V>>| match place {
            Some(place) if place.key == key => u64::MAX,
            None => u64::from(u32::MAX) + 1,
            Some(place) => u64::from(puts.wrapping_sub(place.at)),
        };
        let Some(place) = self.places[set].iter_mut().max_by_key(|place| age(place)) else {
            return false;
        };
        let displaced = place.replace(Place { key, value, at: puts });
        displaced.is_some_and(|displaced| displaced.key != key)
    }

    /// Takes it out.
    pub fn remove(&mut self, key: u128) -> Option<V> {
        let set = self.set(key);
        let place =
            self.places[set].iter_mut().find(|place| place.as_ref().is_some_and(|place| place.key == key))?;
        place.take().map(|place| place.value)
    }

    /// Empties it, and gives its memory back.
    pub fn clear(&mut self) {
        self.places = Box::default();
    }

    /// All that is in it, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.places.iter().flatten().map(|place| &place.value)
    }

    /// Where the key's set lies; the last set is short if the capacity is no multiple of eight.
    fn set(&self, key: u128) -> std::ops::Range<usize> {
        let sets = self.places.len().div_ceil(WAYS);
        if sets == 0 {
            return 0..0;
        }
        let start = (key as usize % sets) * WAYS;
        start..(start + WAYS).min(self.places.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_neighbour_goes() {
        let mut table = Bounded::new(8);
        for key in 0..8 {
            assert!(!table.put(key, key));
        }
        assert!(!table.put(0, 100), "replacing its own value displaces nobody");
        assert!(table.put(8, 8));
        assert_eq!(table.get(0), Some(&100));
        assert_eq!(table.get(1), None);
        assert_eq!(table.values().count(), 8);
    }

    #[test]
    fn a_free_place_is_used_first() {
        let mut table = Bounded::new(3);
        (0..3).for_each(|key| assert!(!table.put(key, ())));
        assert_eq!(table.remove(1), Some(()));
        assert_eq!(table.remove(1), None);
        assert!(!table.put(9, ()));
        assert_eq!((table.get(0), table.get(2), table.get(9)), (Some(&()), Some(&()), Some(&())));
    }

    #[test]
    fn capacity_is_never_passed() {
        for capacity in [0, 1, 7, 8, 9, 20, 64] {
            let mut table = Bounded::new(capacity);
            assert_eq!(table.get(0), None);
            for key in 0..1000u128 {
                table.put(key, key);
                assert!(table.values().count() <= capacity, "capacity: {capacity}");
            }
            assert_eq!(table.values().count(), capacity);
        }
    }
}
