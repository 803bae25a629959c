//! Further forms of an entry's body, made after it was stored: the same page in other content codings.
//!
//! They belong to their entry. Key, tags, freshness and purges are the entry's own, so that a page is one entry in
//! whatever coding it is served, and goes as one. How a form is made is none of this crate's business.
//!
//! An entry gets its forms once, late, while it is being served ([`Store::grow`](crate::Store::grow)), or never. From
//! then on they are part of its weight. A booking of its own keeps the store's sum exact while that happens.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::coding::Coding;
use crate::entry::{fitted, heap};
use crate::time::Moment;

/// What may be done to an entry's body on its way to a client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Recoding {
    /// Nothing: everybody who finds the entry gets it as it is.
    #[default]
    Never,
    /// It is plain text, and forms in content codings may be made of it.
    Encode,
    /// It has a content coding that its node did not choose by `Accept-Encoding`. Who does not take that coding gets
    /// the plain text.
    Decode,
    /// It is a page with holes, to be put together for each request by the entry's [`Recipe`].
    Assemble,
}

/// How a page is put together, as the one who stored it understands it. Here only its bytes count.
pub type Recipe = Arc<dyn Any + Send + Sync>;

/// An entry's body in another coding, with the head that belongs to it.
#[derive(Clone, Debug)]
pub struct EncodedForm {
    coding: Coding,
    head: Bytes,
    body: Bytes,
}

impl EncodedForm {
    /// A form. `head` is serialised as an entry's own, with its own `Content-Encoding`, `Content-Length` and entity
    /// tag. The head is copied, the body where it would keep more memory alive than it shows.
    pub fn new(coding: Coding, head: Bytes, body: Bytes) -> Self {
        Self { coding, head: Bytes::copy_from_slice(&head), body: fitted(body) }
    }

    /// How the body is coded.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Status line and header lines, without the empty line.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// All further forms of an entry, at most one for each coding.
#[derive(Debug)]
pub struct Encoded {
    forms: Box<[EncodedForm]>,
    since: Moment,
}

impl Encoded {
    /// These forms, made at `now`.
    pub fn new(forms: Vec<EncodedForm>, now: Moment) -> Self {
        Self { forms: forms.into_boxed_slice(), since: now }
    }

    /// The forms, in no order that means anything.
    pub fn forms(&self) -> &[EncodedForm] {
        &self.forms
    }

    /// The form in this coding.
    pub fn form(&self, coding: Coding) -> Option<&EncodedForm> {
        self.forms.iter().find(|form| form.coding == coding)
    }

    /// When they were made.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// The memory they take, in bytes.
    pub fn weight(&self) -> u32 {
        let forms: usize = self.forms.iter().map(|form| heap(form.head.len()) + heap(form.body.len())).sum();
        u32::try_from(heap(size_of::<Self>()) + heap(size_of_val(&*self.forms)) + forms).unwrap_or(u32::MAX)
    }
}

/// What an entry's account says; see [`Booking`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Booked {
    /// Bytes of the entry with its share of the indexes.
    pub(crate) base: u32,
    /// Bytes of its encoded forms.
    pub(crate) encoded: u32,
}

impl Booked {
    pub(crate) fn total(self) -> i64 {
        i64::from(self.base) + i64::from(self.encoded)
    }
}

/// The memory that one entry has on the store's books, and whether it is still on them.
///
/// The race: a thread that made encoded forms adds their bytes to the store's sum, while another takes the entry off
/// the books (a purge, a newer copy, eviction) and subtracts what the entry weighs. Were the weight a plain number,
/// the one who leaves could subtract forms that are not added yet and then are, or miss forms that are added behind
/// its back; each time the sum would be wrong for good. So both are one step on one word: either the forms are in it
/// before it is closed, and are subtracted with it, or it is closed, and the forms are never added.
#[derive(Debug)]
pub(crate) struct Booking(AtomicU64);

impl Booking {
    /// The entry is off the books.
    const CLOSED: u64 = 1 << 63;

    /// Encoded forms cannot weigh more; the bit above is taken.
    const MOST_ENCODED: u32 = u32::MAX >> 1;

    pub(crate) fn new(base: u32) -> Self {
        Self(AtomicU64::new(u64::from(base)))
    }

    fn read(word: u64) -> Booked {
        Booked { base: word as u32, encoded: (word & !Self::CLOSED).wrapping_shr(32) as u32 }
    }

    pub(crate) fn booked(&self) -> Booked {
        Self::read(self.0.load(Ordering::Relaxed))
    }

    /// Adds to the base, while the entry is made or put on the books: nobody else has it by then.
    pub(crate) fn add_base(&self, bytes: u32) {
        let base = self.booked().base;
        self.0.fetch_add(u64::from(base.saturating_add(bytes) - base), Ordering::Relaxed);
    }

    /// Adds encoded forms; `false`, with nothing changed, when the entry has left the books, or with more bytes than
    /// can be counted.
    pub(crate) fn add_encoded(&self, bytes: u32) -> bool {
        let grown = self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            let encoded = Self::read(word).encoded.checked_add(bytes);
            let fits = encoded.is_some_and(|encoded| encoded <= Self::MOST_ENCODED);
            (word & Self::CLOSED == 0 && fits).then(|| word + (u64::from(bytes) << 32))
        });
        grown.is_ok()
    }

    /// Takes the entry off the books and tells what stood there: nothing if that was done before.
    pub(crate) fn close(&self) -> Booked {
        let word = self.0.fetch_or(Self::CLOSED, Ordering::AcqRel);
        if word & Self::CLOSED == 0 { Self::read(word) } else { Booked { base: 0, encoded: 0 } }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;
    use std::thread;

    use super::*;

    #[test]
    fn an_account_is_closed_once_with_all_that_was_booked() {
        let booking = Booking::new(100);
        booking.add_base(20);
        assert!(booking.add_encoded(50) && booking.add_encoded(5));
        assert_eq!(booking.booked(), Booked { base: 120, encoded: 55 });
        assert_eq!(booking.close(), Booked { base: 120, encoded: 55 });
        assert_eq!(booking.close().total(), 0);
        assert!(!booking.add_encoded(1));
        // Who still serves it may still ask.
        assert_eq!(booking.booked(), Booked { base: 120, encoded: 55 });
    }

    #[test]
    fn numbers_that_do_not_fit_spoil_nothing() {
        let booking = Booking::new(u32::MAX - 1);
        booking.add_base(7);
        assert!(!booking.add_encoded(u32::MAX));
        assert!(booking.add_encoded(Booking::MOST_ENCODED));
        assert!(!booking.add_encoded(1));
        assert_eq!(booking.close(), Booked { base: u32::MAX, encoded: Booking::MOST_ENCODED });
    }

    #[test]
    fn growing_and_leaving_at_once_keep_the_sum() {
        let sum = AtomicI64::new(0);
        let (mut grew_first, mut left_first) = (0, 0);
        // As many rounds as it takes to have seen both orders; far fewer than there are.
        for round in 0..100_000 {
            let booking = Booking::new(1000);
            sum.fetch_add(booking.booked().total(), Ordering::Relaxed);
            let grow = || {
                let grown = booking.add_encoded(77);
                sum.fetch_add(if grown { 77 } else { 0 }, Ordering::Relaxed);
                grown
            };
            let leave = || sum.fetch_sub(booking.close().total(), Ordering::Relaxed);
            let grown = thread::scope(|scope| {
                // Thread start takes its time, so each side is the one that starts at once in turn.
                if round % 2 == 0 {
                    let leaving = scope.spawn(leave);
                    let grown = grow();
                    leaving.join().map(|_| grown)
                } else {
                    let growing = scope.spawn(grow);
                    leave();
                    growing.join()
                }
            });
            match grown {
                Ok(true) => grew_first += 1,
                Ok(false) => left_first += 1,
                Err(_) => panic!("neither side panics"),
            }
            assert_eq!(sum.load(Ordering::Relaxed), 0, "round {round}");
            if round > 200 && grew_first > 0 && left_first > 0 {
                return;
            }
        }
        panic!("only one order was seen: {grew_first} and {left_first}");
    }

    #[test]
    fn forms_are_found_and_weighed() {
        let form = |coding, length| {
            EncodedForm::new(coding, Bytes::from_static(b"HTTP/1.1 200 OK\r\n"), Bytes::from(vec![0; length]))
        };
        let encoded = Encoded::new(vec![form(Coding::Gzip, 3000), form(Coding::Br, 2000)], Moment::ZERO);
        assert_eq!(encoded.form(Coding::Br).map(|form| form.body().len()), Some(2000));
        assert!(encoded.form(Coding::Zstd).is_none());
        assert!(encoded.weight() >= 5000 + 2 * 17, "{}", encoded.weight());
        assert!(encoded.weight() < 6000, "{}", encoded.weight());
    }
}
