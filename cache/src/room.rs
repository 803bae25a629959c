//! Which entries there is room for: W-TinyLFU (Einziger, Friedman and Manes, 2017), weighted in bytes.
//!
//! New entries come into a small window. When they leave it and the store is full, they are judged: one gets in if it
//! was asked for more often lately than all those together that would have to go for it, those not used for longest.
//! So a crawler's pages pass through the window and displace nothing, and a large file has to be worth the many pages
//! whose place it takes. What is used after that is protected from newcomers, up to four fifths of the store.
//!
//! This is the policy and nothing else: it is never asked for an entry, and the index is the truth about what is
//! stored. It is one mutex, held for well under a microsecond but by [`Room::over`] and [`Room::evict`], which come
//! back for more. A look-up tells of a use now and then, and never waits: if the lock is taken, the use goes
//! uncounted.
//!
//! The records are small, 24 bytes and 8 to 16 of the sketch: an entry knows its seat itself. That is why this is not
//! moka, whose policy is the same but for the window: it takes 320 bytes an entry, 370 with expiry (0.12.16, x86-64), and
//! cannot be told of another capacity. `tests/policy.rs` holds the hit ratios of the two against each other.

mod seats;
mod sketch;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use smallvec::SmallVec;

pub(crate) use self::seats::NO_SEAT;
use self::seats::{Seats, Segment};
use self::sketch::Sketch;
use crate::entry::Entry;
use crate::time::Moment;

/// What an entry costs here.
pub(crate) const SEAT_BYTES: usize = Seats::BYTES + Sketch::BYTES_PER_ENTRY;

/// The window's part of the capacity, one in so many. The authors found a hundredth good for most traces.
const WINDOW_SHARE: u64 = 100;

/// The protected part of the rest, in fifths.
const PROTECTED_FIFTHS: u64 = 3;

/// Entries that one newcomer is weighed against at most. One that takes the place of more gets in by the first of
/// them, and the rest go too.
const MOST_RIVALS: usize = 256;

/// Entries that go under one locking.
const EVICTED_AT_ONCE: usize = 64;

/// Seats that are looked at under one locking for entries that are over.
const SEATS_AT_ONCE: usize = 1024;

/// Entries that were taken out of the policy and have to leave the store.
pub(crate) type Leaving = SmallVec<[Arc<Entry>; 4]>;

struct Policy {
    seats: Seats,
    sketch: Sketch,
    capacity: u64,
}

/// See the module's page.
pub(crate) struct Room(Mutex<Policy>);

impl Room {
    /// Room for `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Mutex::new(Policy { seats: Seats::new(), sketch: Sketch::new(), capacity }))
    }

    /// Changes what the parts of the policy are measured by.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        self.0.lock().capacity = capacity;
    }

    /// Tells the policy that an entry was used.
    pub(crate) fn touch(&self, entry: &Entry) {
        // To lose a use now and then is better than to make a hit wait.
        if let Some(mut policy) = self.0.try_lock() {
            policy.used(entry);
        }
    }

    /// Takes in an entry that was put into the index, if it is still there. `is_stored` reads the index; it is called
    /// with the policy locked and may lock a part of the index, nothing else.
    ///
    /// That closes the race with whoever removes the entry meanwhile: he takes it out of the index first and calls
    /// [`Room::forget`] afterwards. If the index still has it here, he has yet to call; if not, it is not taken in.
    pub(crate) fn admit(&self, entry: &Arc<Entry>, is_stored: impl FnOnce() -> bool) {
        let mut policy = self.0.lock();
        // The fill that brought it is its first use.
        policy.sketch.count(entry.popularity_key());
        if is_stored() && entry.seat().load(Relaxed) == NO_SEAT {
            let entries = policy.seats.len() + 1;
            policy.sketch.fit(entries);
            policy.add(entry);
        }
    }

    /// Forgets an entry that has left the index for good.
    pub(crate) fn forget(&self, entry: &Entry) {
        let mut policy = self.0.lock();
        let seat = entry.seat().load(Relaxed);
        if seat != NO_SEAT {
            policy.seats.remove(seat);
        }
    }

    /// Notes that an entry weighs more than it did, if it is here; one that is yet to come in is weighed then.
    pub(crate) fn reweigh(&self, entry: &Entry) {
        let mut policy = self.0.lock();
        let seat = entry.seat().load(Relaxed);
        if seat != NO_SEAT {
            policy.seats.reweigh(seat);
        }
    }

    /// Some of the entries that there is no room for within `limit`; none when all is well. The limit may be less than
    /// the capacity for a while.
    pub(crate) fn evict(&self, limit: u64) -> Leaving {
        let mut leaving = Leaving::new();
        self.0.lock().evict(limit, &mut leaving);
        leaving
    }

    /// Entries that are of no use any more: looks at one part in `parts` of all, a little at a time.
    pub(crate) fn over(&self, now: Moment, parts: usize) -> Vec<Arc<Entry>> {
        let mut over = Vec::new();
        let mut left = (self.0.lock().seats.seats() as usize).div_ceil(parts);
        while left > 0 {
            let count = left.min(SEATS_AT_ONCE);
            self.0.lock().seats.remove_over(now, count, &mut over);
            left -= count;
        }
        over
    }

    #[cfg(test)]
    pub(crate) fn holds(&self, entry: &Arc<Entry>) -> bool {
        let policy = self.0.lock();
        let seat = entry.seat().load(Relaxed);
        seat != NO_SEAT && policy.seats.entry(seat).is_some_and(|known| Arc::ptr_eq(known, entry))
    }
}

impl Policy {
    fn window(&self) -> u64 {
        self.capacity / WINDOW_SHARE
    }

    fn add(&mut self, entry: &Arc<Entry>) {
        let seat = self.seats.add(Arc::clone(entry));
        if self.seats.weight(seat) > self.window() {
            // Larger than the window: judged at once, and not after everything else in the window.
            self.seats.put_last(seat);
        }
    }

    fn used(&mut self, entry: &Entry) {
        self.sketch.count(entry.popularity_key());
        let seat = entry.seat().load(Relaxed);
        if seat == NO_SEAT {
            return;
        }
        match self.seats.segment(seat) {
            Segment::Window => self.seats.renew(seat, Segment::Window),
            Segment::Protected => self.seats.renew(seat, Segment::Protected),
            Segment::Probation => {
                self.seats.renew(seat, Segment::Protected);
                let most = (self.capacity - self.window()) / 5 * PROTECTED_FIFTHS;
                while self.seats.bytes_of(Segment::Protected) > most {
                    let Some(oldest) = self.seats.oldest(Segment::Protected) else { return };
                    self.seats.renew(oldest, Segment::Probation);
                }
            }
        }
    }

    fn evict(&mut self, limit: u64, leaving: &mut Leaving) {
        while leaving.len() < EVICTED_AT_ONCE {
            let needed = self.seats.bytes().saturating_sub(limit);
            let newcomer = self.seats.oldest(Segment::Window);
            match newcomer {
                Some(newcomer) if self.seats.bytes_of(Segment::Window) > self.window() => {
                    if needed == 0 {
                        self.seats.renew(newcomer, Segment::Probation);
                    } else {
                        self.judge(newcomer, needed, leaving);
                    }
                }
                Some(_) | None if needed == 0 => return,
                Some(_) | None => {
                    let segments = [Segment::Probation, Segment::Protected, Segment::Window];
                    let Some(oldest) = segments.into_iter().find_map(|list| self.seats.oldest(list)) else {
                        return;
                    };
                    leaving.extend(self.seats.remove(oldest));
                }
            }
        }
    }

    /// Decides between a newcomer and those that would have to go for it: either it or they leave.
    fn judge(&mut self, newcomer: u32, needed: u64, leaving: &mut Leaving) {
        let popularity = self.popularity(newcomer);
        // It has to be worth as many bytes as it takes, even if by chance a few less have to be freed for it.
        let price = self.seats.weight(newcomer).max(needed);
        let mut rivals: SmallVec<[u32; 16]> = SmallVec::new();
        let (mut rivals_popularity, mut freed) = (0, 0);
        let mut wins = true;
        for segment in [Segment::Probation, Segment::Protected] {
            let mut next = self.seats.oldest(segment);
            while let Some(rival) = next {
                if freed >= price || rivals.len() >= MOST_RIVALS || !wins {
                    break;
                }
                rivals_popularity += self.popularity(rival);
                freed += self.seats.weight(rival);
                rivals.push(rival);
                wins = popularity > rivals_popularity;
                next = self.seats.newer(rival);
            }
        }
        if wins && !rivals.is_empty() {
            let mut freed = 0;
            for rival in rivals {
                if freed >= needed {
                    break;
                }
                freed += self.seats.weight(rival);
                leaving.extend(self.seats.remove(rival));
            }
            self.seats.renew(newcomer, Segment::Probation);
        } else {
            leaving.extend(self.seats.remove(newcomer));
        }
    }

    fn popularity(&self, seat: u32) -> u32 {
        self.seats.entry(seat).map_or(0, |entry| self.sketch.estimate(entry.popularity_key()))
    }
}

#[cfg(test)]
mod tests;
