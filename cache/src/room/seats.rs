//! Three lists of entries, each in the order of use, in one table of seats.
//!
//! An entry knows its seat, so that no map is needed to find it. Seats are linked by number; they lie in pieces of a
//! thousand, so that growing copies nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::entry::Entry;
use crate::time::Moment;

/// The seat of an entry that has none.
pub(crate) const NO_SEAT: u32 = u32::MAX;

/// Seats in one allocation; a power of two.
const PIECE: usize = 1024;

/// In which list an entry stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    /// New.
    Window,
    /// It was let in, and not used since.
    Probation,
    /// It was used after it was let in.
    Protected,
}

/// A place in a list, 24 bytes.
struct Seat {
    /// `None` when it is free.
    entry: Option<Arc<Entry>>,
    /// The one used just after this one.
    newer: u32,
    /// The one used just before this one; of a free seat, the next free one.
    older: u32,
    /// What the entry weighed when it was counted.
    weight: u32,
    /// Its list in the lowest two bits; above them, when the entry is over, in whole seconds rounded up. What does not
    /// fit in thirty bits, 34 years, is looked at in vain from then on.
    due: u32,
}

/// The ends of a list.
#[derive(Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    bytes: u64,
}

/// See the module's page.
pub(super) struct Seats {
    pieces: Vec<Vec<Seat>>,
    lists: [Ends; 3],
    taken: usize,
    free: u32,
    /// Where the search for what is over goes on.
    hand: u32,
}

impl Seats {
    /// The memory of a seat.
    pub(super) const BYTES: usize = size_of::<Seat>();

    pub(super) fn new() -> Self {
        let empty = Ends { newest: NO_SEAT, oldest: NO_SEAT, bytes: 0 };
        Self { pieces: Vec::new(), lists: [empty; 3], taken: 0, free: NO_SEAT, hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// What all entries weigh.
    pub(super) fn bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.bytes).sum()
    }

    /// What the entries of a list weigh.
    pub(super) fn bytes_of(&self, segment: Segment) -> u64 {
        self.lists[segment as usize].bytes
    }

    /// Seats an entry as the newest of the new ones; the seat.
    pub(super) fn add(&mut self, entry: Arc<Entry>) -> u32 {
        let seconds = entry.useful_until().as_millis().div_ceil(1000);
        let due = u32::try_from(seconds).unwrap_or(u32::MAX).min(u32::MAX >> 2) << 2;
        let weight = entry.weight();
        let at = self.free;
        let at = if at == NO_SEAT { self.grown() } else { at };
        entry.seat().store(at, Relaxed);
        self.free = self.seat(at).older;
        *self.seat_mut(at) = Seat { entry: Some(entry), newer: NO_SEAT, older: NO_SEAT, weight, due };
        self.taken += 1;
        self.link_newest(at, Segment::Window);
        at
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: u32) -> Option<Arc<Entry>> {
        self.unlink(at);
        let free = self.free;
        let seat = self.seat_mut(at);
        let entry = seat.entry.take();
        seat.older = free;
        self.free = at;
        self.taken -= 1;
        if let Some(entry) = &entry {
            entry.seat().store(NO_SEAT, Relaxed);
        }
        if self.taken == 0 {
            // After a purge of everything its memory is given back too.
            *self = Self::new();
        }
        entry
    }

    /// Makes an entry the newest of a list.
    pub(super) fn renew(&mut self, at: u32, segment: Segment) {
        self.unlink(at);
        self.link_newest(at, segment);
    }

    /// Makes an entry the oldest of its list: the next to be judged.
    pub(super) fn put_last(&mut self, at: u32) {
        let segment = self.segment(at);
        self.unlink(at);
        let oldest = self.lists[segment as usize].oldest;
        if oldest == NO_SEAT {
            self.link_newest(at, segment);
            return;
        }
        let seat = self.seat_mut(at);
        (seat.newer, seat.older) = (oldest, NO_SEAT);
        let weight = u64::from(seat.weight);
        self.seat_mut(oldest).older = at;
        let list = &mut self.lists[segment as usize];
        list.oldest = at;
        list.bytes += weight;
    }

    /// The one that was not used for longest.
    pub(super) fn oldest(&self, segment: Segment) -> Option<u32> {
        some(self.lists[segment as usize].oldest)
    }

    /// The one in the same list that was used just after `at`.
    pub(super) fn newer(&self, at: u32) -> Option<u32> {
        some(self.seat(at).newer)
    }

    pub(super) fn segment(&self, at: u32) -> Segment {
        match self.seat(at).due & 3 {
            0 => Segment::Window,
            1 => Segment::Probation,
            _ => Segment::Protected,
        }
    }

    pub(super) fn weight(&self, at: u32) -> u64 {
        u64::from(self.seat(at).weight)
    }

    pub(super) fn entry(&self, at: u32) -> Option<&Arc<Entry>> {
        self.seat(at).entry.as_ref()
    }

    /// Weighs an entry anew.
    pub(super) fn reweigh(&mut self, at: u32) {
        let segment = self.segment(at);
        let seat = self.seat_mut(at);
        let (before, now) = (seat.weight, seat.entry.as_ref().map_or(0, |entry| entry.weight()));
        seat.weight = now;
        let list = &mut self.lists[segment as usize];
        list.bytes = list.bytes - u64::from(before) + u64::from(now);
    }

    /// Looks at the next `count` seats for entries that are over, and takes them out.
    pub(super) fn remove_over(&mut self, now: Moment, count: usize, over: &mut Vec<Arc<Entry>>) {
        for _ in 0..count {
            let seats = self.seats();
            if seats == 0 {
                return;
            }
            let at = if self.hand < seats { self.hand } else { 0 };
            self.hand = at + 1;
            let seat = self.seat(at);
            let Some(entry) = &seat.entry else { continue };
            if u64::from(seat.due >> 2) * 1000 <= now.as_millis() && entry.useful_until() <= now {
                over.extend(self.remove(at));
            }
        }
    }

    /// How many seats there are, free ones included.
    pub(super) fn seats(&self) -> u32 {
        let last = self.pieces.last().map_or(0, Vec::len);
        (self.pieces.len().saturating_sub(1) * PIECE + last) as u32
    }

    fn grown(&mut self) -> u32 {
        let at = self.seats();
        let seat = Seat { entry: None, newer: NO_SEAT, older: NO_SEAT, weight: 0, due: 0 };
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(seat),
            Some(_) | None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(seat);
                self.pieces.push(piece);
            }
        }
        at
    }

    fn seat(&self, at: u32) -> &Seat {
        &self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    fn seat_mut(&mut self, at: u32) -> &mut Seat {
        &mut self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    fn link_newest(&mut self, at: u32, segment: Segment) {
        let newest = self.lists[segment as usize].newest;
        let seat = self.seat_mut(at);
        (seat.newer, seat.older) = (NO_SEAT, newest);
        seat.due = seat.due & !3 | segment as u32;
        let weight = u64::from(seat.weight);
        if newest != NO_SEAT {
            self.seat_mut(newest).newer = at;
        }
        let list = &mut self.lists[segment as usize];
        list.newest = at;
        if list.oldest == NO_SEAT {
            list.oldest = at;
        }
        list.bytes += weight;
    }

    fn unlink(&mut self, at: u32) {
        let segment = self.segment(at);
        let seat = self.seat(at);
        let (newer, older, weight) = (seat.newer, seat.older, u64::from(seat.weight));
        if newer != NO_SEAT {
            self.seat_mut(newer).older = older;
        }
        if older != NO_SEAT {
            self.seat_mut(older).newer = newer;
        }
        let list = &mut self.lists[segment as usize];
        if newer == NO_SEAT {
            list.newest = older;
        }
        if older == NO_SEAT {
            list.oldest = newer;
        }
        list.bytes -= weight;
    }
}

fn some(at: u32) -> Option<u32> {
    (at != NO_SEAT).then_some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::entry::tests::entry_with_tags;

    const SEGMENTS: [Segment; 3] = [Segment::Window, Segment::Probation, Segment::Protected];

    fn keys(seats: &Seats, segment: Segment) -> Vec<u128> {
        let mut at = seats.oldest(segment);
        let mut found = Vec::new();
        while let Some(seat) = at {
            found.push(seats.entry(seat).unwrap().key().number());
            at = seats.newer(seat);
        }
        found
    }

    #[test]
    fn a_seat_is_small() {
        assert_eq!(Seats::BYTES, 24);
    }

    #[test]
    fn what_is_over_is_found_wherever_it_sits() {
        let mut seats = Seats::new();
        // All of these are over 61 seconds after the beginning.
        let entries: Vec<_> = (0..PIECE as u128 * 2 + 3).map(|number| entry_with_tags(number, &[])).collect();
        entries.iter().for_each(|entry| _ = seats.add(Arc::clone(entry)));
        let mut over = Vec::new();
        seats.remove_over(Moment::from_millis(60_999), 10_000, &mut over);
        assert!(over.is_empty());
        seats.remove_over(Moment::from_millis(61_000), 1000, &mut over);
        assert_eq!((over.len(), seats.len()), (1000, PIECE * 2 + 3 - 1000));
        seats.remove_over(Moment::from_millis(61_000), 10_000, &mut over);
        assert_eq!((over.len(), seats.len(), seats.bytes(), seats.seats()), (PIECE * 2 + 3, 0, 0, 0));
        assert!(over.iter().all(|entry| entry.seat().load(Relaxed) == NO_SEAT));
    }

    proptest! {
        #[test]
        fn it_agrees_with_naive_lists(steps in prop::collection::vec((0u8..4, 0usize..12, 0usize..3), 1..300)) {
            let entries: Vec<_> = (0..12).map(|number| entry_with_tags(number, &[])).collect();
            let mut seats = Seats::new();
            // Oldest first.
            let mut lists: [VecDeque<u128>; 3] = Default::default();
            for (what, which, list) in steps {
                let (entry, number) = (&entries[which], which as u128);
                let seat = entry.seat().load(Relaxed);
                let known = lists.iter().position(|list| list.contains(&number));
                prop_assert_eq!(known.is_some(), seat != NO_SEAT);
                if let Some(known) = known {
                    prop_assert_eq!(seats.segment(seat), SEGMENTS[known]);
                    lists[known].retain(|&other| other != number);
                    match what {
                        0 | 1 => {
                            seats.renew(seat, SEGMENTS[list]);
                            lists[list].push_back(number);
                        }
                        2 => {
                            seats.put_last(seat);
                            lists[known].push_front(number);
                        }
                        _ => prop_assert!(Arc::ptr_eq(&seats.remove(seat).unwrap(), entry)),
                    }
                } else {
                    seats.add(Arc::clone(entry));
                    lists[0].push_back(number);
                }
                for (list, segment) in lists.iter().zip(SEGMENTS) {
                    prop_assert_eq!(&keys(&seats, segment), &list.iter().copied().collect::<Vec<_>>());
                    let bytes: u64 = list.iter().map(|&key| u64::from(entries[key as usize].weight())).sum();
                    prop_assert_eq!(seats.bytes_of(segment), bytes);
                }
                prop_assert_eq!(seats.len(), lists.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
