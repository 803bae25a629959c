//! A stored response, kept as the bytes that are sent.
//!
//! Nothing in it is parsed again when it is served: the head is serialised for HTTP/1, the body is one piece. All of
//! it is immutable but a few numbers (a soft purge moves the end of freshness, the store notes when it was last used
//! and what it weighs) and one part that is set late or never: its forms in other content codings (`encoded`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::coding::Coding;
use crate::encoded::{Booked, Booking, Encoded, EncodedForm, Recoding};
use crate::freshness::{Lifetime, SaidBy};
use crate::key::{CacheKey, VariantKey};
use crate::tag::Tag;
use crate::time::Moment;

/// What may be done with an entry at a given moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it while one request fetches a newer copy (RFC 5861 §3).
    Grace,
    /// Fetch first: it is good for a conditional request, and when no node is up. Whether it may stand in for a node
    /// that fails is asked of [`Entry::may_serve_on_error`].
    Stale,
    /// Not to be used any more.
    Dead,
}

/// What an entry is made of.
#[derive(Clone, Debug)]
pub struct EntryParts {
    /// The resource.
    pub key: CacheKey,
    /// Which variant of it; [`VariantKey::NONE`] if the response does not vary.
    pub variant: VariantKey,
    /// The URL as operators should see it, `http://host/path?query`. Never used to find the entry.
    pub url: Box<str>,
    /// The status code.
    pub status: u16,
    /// Status line and header lines for HTTP/1, each with its CRLF, without the empty line; with `Date` and
    /// `Content-Length`, without `Age`, `Cache-Status`, `Connection` and `Transfer-Encoding`.
    pub head: Bytes,
    /// The body, as long as `Content-Length` says.
    pub body: Bytes,
    /// Its tags, each once.
    pub tags: Box<[Tag]>,
    /// When it was received.
    pub stored: Moment,
    /// For how long it may be used.
    pub lifetime: Lifetime,
}

/// A stored response. See the module's page.
///
/// There are a million of them: what most entries do not have stands in a box that most do not have.
pub struct Entry {
    key: CacheKey,
    /// The URL, then the head.
    text: Box<[u8]>,
    body: Bytes,
    /// What it has that a plain page has not.
    extras: Option<Box<Extras>>,
    /// Milliseconds of monotonic time.
    stored: u64,
    /// Milliseconds of monotonic time; a soft purge sets it back.
    fresh_until: AtomicU64,
    ttl: Span,
    grace: Span,
    keep: Span,
    /// Seconds.
    initial_age: u32,
    /// Seconds after freshness.
    stale_if_error: u32,
    /// In which of the store's spans it last told its policy about a use.
    touched: AtomicU32,
    /// What it weighs, and whether that is on the store's books.
    booking: Booking,
    /// Where the policy keeps it; only the policy reads and writes it.
    seat: AtomicU32,
    url_bytes: u16,
    status: u16,
    may_be_stale: bool,
    ask_always: bool,
    said_by: SaidBy,
    recoding: Recoding,
    /// `Vary: Accept-Encoding` in `head` is not the node's word.
    vary_added: bool,
}

/// What not every entry has: a variant, tags, forms in content codings. An entry without any of it has no box either.
struct Extras {
    variant: VariantKey,
    tags: Box<[Tag]>,
    /// Where the entry stands in the list of each tag; only the tag index reads and writes them.
    places: Box<[AtomicU32]>,
    /// Bytes of the tag index that are on the entry's account.
    levy: AtomicU32,
    /// From which second of monotonic time on encoded forms may be asked for (again).
    encoding_due: AtomicU32,
    /// Set once, by whoever made the forms.
    encoded: OnceLock<Box<Encoded>>,
}

/// A span of time in four bytes: milliseconds up to 24 days, above that whole seconds, rounded down, up to 68 years,
/// which is as long as a response can ask for (RFC 9111 §1.2.2).
#[derive(Clone, Copy)]
struct Span(u32);

impl Span {
    /// Set when the rest counts seconds.
    const SECONDS: u32 = 1 << 31;

    fn new(span: Duration) -> Self {
        match u32::try_from(span.as_millis()) {
            Ok(millis) if millis < Self::SECONDS => Self(millis),
            Ok(_) | Err(_) => Self(Self::SECONDS | whole_seconds(span).min(Self::SECONDS - 1)),
        }
    }

    fn duration(self) -> Duration {
        if self.0 & Self::SECONDS == 0 {
            Duration::from_millis(u64::from(self.0))
        } else {
            Duration::from_secs(u64::from(self.0 & !Self::SECONDS))
        }
    }
}

/// What an allocation of `bytes` takes. Allocators round up to size classes; these are jemalloc's (64-bit, pages of
/// 4 KiB, 5.3.1): steps of 16 bytes up to 128, then four steps between two powers of two, and whole pages above 32 KiB.
pub(crate) const fn heap(bytes: usize) -> usize {
    let step = match bytes {
        0..=128 => 16,
        0x8001.. => 0x1000,
        _ => 1 << ((bytes - 1).ilog2() - 2),
    };
    // At the end of the numbers nothing is left to be rounded up.
    match bytes.checked_next_multiple_of(step) {
        Some(rounded) => rounded,
        None => bytes,
    }
}

/// The counters that an `Arc` keeps in front of what it shares.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// What the first clone of a body allocates, to be shared from then on.
const SHARED_BODY_BYTES: usize = 32;

/// What an entry costs in the store besides itself: its slot in the index, at the emptiest that the table gets, and
/// its seat in the policy, with its share of the sketch of frequencies.
const BOOKKEEPING_BYTES: usize = crate::index::SLOT_BYTES + crate::room::SEAT_BYTES;

/// What a variant costs beyond that: its place in its resource, and its share of the resource. Computed: 64 bytes for
/// the only variant, 80 for each of two (the list has room for four), about 60 for each of more, and from 33 on, where
/// they are found by hash, up to 75 for the slot and 53 for its place in the order.
const VARIANT_BYTES: usize = 128;

/// How long a job for encoded forms counts as under way, in seconds. After that it may have been dropped, and a client
/// who could use them asks again.
const ENCODING_RETRY_SECONDS: u32 = 5;

impl Entry {
    /// Makes an entry. Head and body are copied where they would keep more memory alive than they show.
    pub fn new(parts: EntryParts) -> Self {
        let EntryParts { key, variant, url, status, head, body, tags, stored, lifetime } = parts;
        // Longer than any limit on heads lets through; it is for operators to read.
        let url_bytes = url.floor_char_boundary(usize::from(u16::MAX));
        let mut text = Vec::with_capacity(url_bytes + head.len());
        text.extend_from_slice(&url.as_bytes()[..url_bytes]);
        text.extend_from_slice(&head);
        let text = text.into_boxed_slice();
        let body = fitted(body);
        let extras = (variant != VariantKey::NONE || !tags.is_empty()).then(|| Extras::new(variant, tags));
        let own_weight = heap(ARC_BYTES + size_of::<Self>())
            + heap(text.len())
            + heap(body.len())
            + if body.is_empty() { 0 } else { SHARED_BODY_BYTES }
            + extras.as_ref().map_or(0, Extras::weight)
            + BOOKKEEPING_BYTES;
        let fresh_for = lifetime.ttl.saturating_sub(lifetime.initial_age);
        // Past its lifetime on arrival: the time it is over already comes off what it may be used stale.
        let overdue = lifetime.initial_age.saturating_sub(lifetime.ttl);
        Self {
            key,
            text,
            body,
            extras: extras.map(Box::new),
            stored: stored.as_millis(),
            fresh_until: AtomicU64::new(stored.saturating_add(fresh_for).as_millis()),
            ttl: Span::new(lifetime.ttl),
            grace: Span::new(lifetime.grace.saturating_sub(overdue)),
            keep: Span::new(lifetime.keep),
            initial_age: whole_seconds(lifetime.initial_age),
            stale_if_error: whole_seconds(lifetime.stale_if_error.saturating_sub(overdue)),
            touched: AtomicU32::new(u32::MAX),
            booking: Booking::new(u32::try_from(own_weight).unwrap_or(u32::MAX)),
            seat: AtomicU32::new(crate::room::NO_SEAT),
            url_bytes: url_bytes as u16,
            status,
            may_be_stale: lifetime.may_be_stale,
            ask_always: lifetime.ask_always,
            said_by: lifetime.said_by,
            recoding: Recoding::Never,
            vary_added: false,
        }
    }

    /// Says what may be done to the body on its way to clients, and whether `Accept-Encoding` was added to the `Vary`
    /// in the head for that.
    #[must_use]
    pub fn with_recoding(mut self, recoding: Recoding, vary_added: bool) -> Self {
        match recoding {
            Recoding::Never => {}
            Recoding::Encode | Recoding::Decode => _ = self.extras_for_forms(),
        }
        Self { recoding, vary_added, ..self }
    }

    /// Gives it its encoded forms before it is stored.
    #[must_use]
    pub fn with_encoded(mut self, encoded: Encoded) -> Self {
        let weight = encoded.weight();
        if self.extras_for_forms().encoded.set(Box::new(encoded)).is_ok() {
            self.booking.add_encoded(weight);
        }
        self
    }

    /// The resource.
    pub fn key(&self) -> CacheKey {
        self.key
    }

    /// Which variant of the resource.
    pub fn variant(&self) -> VariantKey {
        self.extras.as_ref().map_or(VariantKey::NONE, |extras| extras.variant)
    }

    /// The URL, for operators.
    pub fn url(&self) -> &str {
        str::from_utf8(&self.text[..usize::from(self.url_bytes)]).unwrap_or_default()
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Status line and header lines, without the empty line.
    pub fn head(&self) -> &[u8] {
        &self.text[usize::from(self.url_bytes)..]
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The tags.
    pub fn tags(&self) -> &[Tag] {
        self.extras.as_ref().map_or(&[], |extras| &extras.tags)
    }

    /// When it was received.
    pub fn stored(&self) -> Moment {
        Moment::from_millis(self.stored)
    }

    /// The freshness lifetime it came with.
    pub fn ttl(&self) -> Duration {
        self.ttl.duration()
    }

    /// Who said its lifetime.
    pub fn said_by(&self) -> SaidBy {
        self.said_by
    }

    /// How old it was when it was received.
    pub fn initial_age(&self) -> Duration {
        Duration::from_secs(u64::from(self.initial_age))
    }

    /// Whether it may be served stale when no node can be reached: nothing in it demanded to be asked after first.
    pub fn may_be_stale(&self) -> bool {
        self.may_be_stale
    }

    /// How long after freshness it may be served while a newer copy is fetched.
    pub fn grace(&self) -> Duration {
        self.grace.duration()
    }

    /// How long after grace it may be revalidated.
    pub fn keep(&self) -> Duration {
        self.keep.duration()
    }

    /// How long after freshness it may stand in for a node that fails.
    pub fn stale_if_error(&self) -> Duration {
        Duration::from_secs(u64::from(self.stale_if_error))
    }

    /// When freshness ends, or ended.
    pub fn fresh_until(&self) -> Moment {
        Moment::from_millis(self.fresh_until.load(Ordering::Acquire))
    }

    /// What may be done with it now.
    pub fn freshness(&self, now: Moment) -> Freshness {
        let fresh_until = self.fresh_until();
        if now < fresh_until {
            return Freshness::Fresh;
        }
        let grace_until = fresh_until.saturating_add(self.grace());
        if now < grace_until {
            return Freshness::Grace;
        }
        if now < fresh_until.saturating_add(self.usable_stale()) { Freshness::Stale } else { Freshness::Dead }
    }

    /// Whether it may be served now in place of an error: a node's 500, 502, 503 or 504, or none that answers
    /// (RFC 5861 §4). True as long as it may be served anyway.
    pub fn may_serve_on_error(&self, now: Moment) -> bool {
        let window = self.grace().max(self.stale_if_error());
        now < self.fresh_until().saturating_add(window)
    }

    /// Whether it may be served now because no node can be reached (RFC 9111 §4.2.4): within grace and keep, unless the
    /// response demanded to be asked after first. True as long as it may be served anyway.
    pub fn may_serve_disconnected(&self, now: Moment) -> bool {
        let kept = self.fresh_until().saturating_add(self.grace().saturating_add(self.keep()));
        self.may_serve_on_error(now) || (self.may_be_stale && now < kept)
    }

    /// Whether a node has to be asked before every use: requests for it gain nothing by waiting for each other, since
    /// the answer to one may not be given to another.
    pub fn ask_always(&self) -> bool {
        self.ask_always
    }

    /// What `Age` says (RFC 9111 §5.1), in seconds.
    pub fn age_seconds(&self, now: Moment) -> u64 {
        u64::from(self.initial_age) + now.since(self.stored()).as_secs()
    }

    /// Seconds of freshness left, rounded down; negative when it is over, also at the very moment (RFC 9211 §2.4 `ttl`).
    pub fn ttl_left(&self, now: Moment) -> i64 {
        let (until, now) = (self.fresh_until().as_millis(), now.as_millis());
        let left = match i128::from(until) - i128::from(now) {
            0 => -1,
            left => left.div_euclid(1000),
        };
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// What may be done to the body on its way to clients.
    pub fn recoding(&self) -> Recoding {
        self.recoding
    }

    /// Whether `Accept-Encoding` was added to the `Vary` in the head, so that it is not the node's word.
    pub fn vary_added(&self) -> bool {
        self.vary_added
    }

    /// Its forms in other content codings, once they are made.
    pub fn encoded(&self) -> Option<&Encoded> {
        self.extras.as_ref()?.encoded.get().map(Box::as_ref)
    }

    /// Its form in one coding.
    pub fn form(&self, coding: Coding) -> Option<&EncodedForm> {
        self.encoded()?.form(coding)
    }

    /// Whether somebody should see to its encoded forms now. True for one of many who ask at the same time, and again
    /// a few seconds later as long as there are none: the job may have been lost.
    pub fn claim_encoding(&self, now: Moment) -> bool {
        let second = u32::try_from(now.as_millis() / 1000).unwrap_or(u32::MAX - 1);
        let Some(extras) = &self.extras else { return false };
        let due = extras.encoding_due.load(Ordering::Relaxed);
        // Of all who find it due, one moves it on.
        second >= due
            && extras.encoded.get().is_none()
            && extras
                .encoding_due
                .compare_exchange(
                    due,
                    second.saturating_add(ENCODING_RETRY_SECONDS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// No encoded forms will be made of it: [`Entry::claim_encoding`] says no from now on.
    pub fn give_up_encoding(&self) {
        if let Some(extras) = &self.extras {
            extras.encoding_due.store(u32::MAX, Ordering::Relaxed);
        }
    }

    /// The memory it takes, in bytes, with its encoded forms and its share of the indexes.
    pub fn weight(&self) -> u32 {
        let booked = self.booking.booked();
        booked.base.saturating_add(booked.encoded)
    }

    /// Ends freshness now and keeps grace and keep, counted from now (what xkey's soft purge does). Returns whether
    /// it was fresh; an entry that was not stays as it is.
    pub fn soften(&self, now: Moment) -> bool {
        let now = now.as_millis();
        self.fresh_until.fetch_min(now, Ordering::AcqRel) > now
    }

    /// Until when it is of any use.
    pub(crate) fn useful_until(&self) -> Moment {
        self.fresh_until().saturating_add(self.usable_stale())
    }

    /// How long after freshness it is of any use: through grace and keep, or until it may no longer stand in for a
    /// node that fails, whichever is later.
    fn usable_stale(&self) -> Duration {
        self.grace().saturating_add(self.keep()).max(self.stale_if_error())
    }

    /// Whether this is its first use within a span of the store.
    pub(crate) fn touch(&self, span: u32) -> bool {
        // Two threads may both say yes: the policy hears twice, which is harmless.
        self.touched.load(Ordering::Relaxed) != span && {
            self.touched.store(span, Ordering::Relaxed);
            true
        }
    }

    pub(crate) fn places(&self) -> &[AtomicU32] {
        self.extras.as_ref().map_or(&[], |extras| &extras.places)
    }

    pub(crate) fn tags_mut(&mut self) -> &mut [Tag] {
        self.extras.as_mut().map_or(&mut [], |extras| &mut extras.tags)
    }

    /// Bytes of the tag index that are on its account.
    pub(crate) fn levy(&self) -> u32 {
        self.extras.as_ref().map_or(0, |extras| extras.levy.load(Ordering::Relaxed))
    }

    /// Puts a part of the tag index on its account, once, while nobody else has it.
    pub(crate) fn set_levy(&self, bytes: u32) {
        if let Some(extras) = &self.extras {
            extras.levy.store(bytes, Ordering::Relaxed);
            self.booking.add_base(bytes);
        }
    }

    pub(crate) fn booked(&self) -> Booked {
        self.booking.booked()
    }

    /// Takes it off the books: what it weighed until now.
    pub(crate) fn close_books(&self) -> Booked {
        self.booking.close()
    }

    /// Sets its encoded forms and books them. `None` if it has some already or was not made for any
    /// ([`Entry::with_recoding`]); else whether it was still on the books.
    pub(crate) fn grow(&self, encoded: Encoded) -> Option<bool> {
        let weight = encoded.weight();
        self.extras.as_ref()?.encoded.set(Box::new(encoded)).ok()?;
        Some(self.booking.add_encoded(weight))
    }

    /// The box, made and booked if there is none yet. For an entry that is not stored yet.
    fn extras_for_forms(&mut self) -> &Extras {
        let booking = &self.booking;
        self.extras.get_or_insert_with(|| {
            let extras = Extras::new(VariantKey::NONE, Box::default());
            booking.add_base(extras.weight() as u32);
            Box::new(extras)
        })
    }

    pub(crate) fn seat(&self) -> &AtomicU32 {
        &self.seat
    }

    /// Under which number the policy counts its uses; the same for every refresh of the same variant, so that a
    /// page's popularity survives. Both parts are hashes under a secret, so together they are as good as a hash.
    pub(crate) fn popularity_key(&self) -> u64 {
        (self.key.number() ^ self.variant().number()) as u64
    }
}

impl Extras {
    fn new(variant: VariantKey, tags: Box<[Tag]>) -> Self {
        Self {
            variant,
            places: tags.iter().map(|_| AtomicU32::new(crate::tag::NOWHERE)).collect(),
            tags: tags.into_vec().into_boxed_slice(),
            levy: AtomicU32::new(0),
            encoding_due: AtomicU32::new(0),
            encoded: OnceLock::new(),
        }
    }

    /// Its memory.
    fn weight(&self) -> usize {
        heap(size_of::<Self>())
            + heap(size_of_val(&*self.tags))
            + heap(size_of_val(&*self.places))
            + if self.variant == VariantKey::NONE { 0 } else { VARIANT_BYTES }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("url", &self.url())
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("tags", &self.tags())
            .finish_non_exhaustive()
    }
}

/// `span` without its fraction; what does not fit is clamped.
fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

/// The body in an allocation of its own size. A buffer that grew while it was filled has up to twice its length; a
/// body that others hold too stays shared, because a copy would only add to the memory.
pub(crate) fn fitted(body: Bytes) -> Bytes {
    match body.try_into_mut() {
        Ok(buffer) if buffer.capacity() - buffer.len() > buffer.len() / 16 + 64 => {
            Bytes::copy_from_slice(&buffer)
        }
        Ok(buffer) => buffer.freeze(),
        Err(shared) => shared,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;

    use super::*;

    /// An entry of which only the key and the tags matter.
    pub(crate) fn entry_with_tags(key: u128, tags: &[Tag]) -> Arc<Entry> {
        Arc::new(Entry::new(EntryParts {
            key: CacheKey::from_number(key),
            tags: tags.into(),
            ..parts([60, 0, 0, 0])
        }))
    }

    /// Seconds of ttl, initial age, grace, keep; stored after one second.
    fn parts(seconds: [u64; 4]) -> EntryParts {
        let [ttl, initial_age, grace, keep] = seconds.map(Duration::from_secs);
        EntryParts {
            key: CacheKey::from_number(1),
            variant: VariantKey::NONE,
            url: "http://a/".into(),
            status: 200,
            head: Bytes::from_static(b"HTTP/1.1 200 OK\r\n"),
            body: Bytes::from_static(b"body"),
            tags: Box::default(),
            stored: Moment::from_millis(1000),
            lifetime: Lifetime { ttl, initial_age, grace, keep, ..Lifetime::default() },
        }
    }

    fn entry(seconds: [u64; 4]) -> Entry {
        Entry::new(parts(seconds))
    }

    #[test]
    fn without_a_node_what_is_kept_is_served_unless_it_must_be_asked_after() {
        for (may_be_stale, at, expected) in [
            (true, 9, true),
            (true, 34, true),
            (true, 35, false),
            (false, 9, true),
            (false, 14, true),
            (false, 15, false),
        ] {
            let mut parts = parts([10, 0, 5, 20]);
            parts.lifetime.may_be_stale = may_be_stale;
            let entry = Entry::new(parts);
            let now = Moment::from_millis(entry.stored().as_millis() + at * 1000);
            assert_eq!(entry.may_serve_disconnected(now), expected, "{may_be_stale} at {at} s");
        }
    }

    #[test]
    fn freshness_goes_through_its_spans() {
        let life = [60, 20, 10, 5];
        check(life, 1_000, Freshness::Fresh);
        check(life, 40_999, Freshness::Fresh);
        check(life, 41_000, Freshness::Grace);
        check(life, 50_999, Freshness::Grace);
        check(life, 51_000, Freshness::Stale);
        check(life, 55_999, Freshness::Stale);
        check(life, 56_000, Freshness::Dead);
        check([60, 0, 0, 0], 61_000, Freshness::Dead);
        // Four seconds too old on arrival: six of ten seconds of grace are left.
        check([60, 64, 10, 0], 6_999, Freshness::Grace);
        check([60, 64, 10, 0], 7_000, Freshness::Dead);
        check([u64::MAX / 1000, 0, u64::MAX / 1000, 0], u64::MAX - 1, Freshness::Fresh);
    }

    #[track_caller]
    fn check(seconds: [u64; 4], now: u64, expected: Freshness) {
        assert_eq!(entry(seconds).freshness(Moment::from_millis(now)), expected, "{seconds:?} at {now}");
    }

    #[test]
    fn a_failing_node_has_a_window_of_its_own() {
        // Ttl 60 s, initial age, grace 10 s, keep 5 s; seconds of stale-if-error; milliseconds now.
        for (initial_age, window, now, freshness, on_error) in [
            (0, 0, 60_999, Freshness::Fresh, true),
            (0, 0, 70_999, Freshness::Grace, true),
            (0, 0, 71_000, Freshness::Stale, false),
            (0, 5, 70_999, Freshness::Grace, true),
            (0, 12, 72_999, Freshness::Stale, true),
            (0, 12, 73_000, Freshness::Stale, false),
            (0, 100, 76_000, Freshness::Stale, true),
            (0, 100, 160_999, Freshness::Stale, true),
            (0, 100, 161_000, Freshness::Dead, false),
            // Four seconds over on arrival: 96 are left.
            (64, 100, 96_999, Freshness::Stale, true),
            (64, 100, 97_000, Freshness::Dead, false),
            (0, u64::MAX, u64::from(u32::MAX) * 1000, Freshness::Stale, true),
        ] {
            let mut parts = parts([60, initial_age, 10, 5]);
            parts.lifetime.stale_if_error = Duration::from_secs(window);
            let entry = Entry::new(parts);
            let now = Moment::from_millis(now);
            let found = (entry.freshness(now), entry.may_serve_on_error(now));
            assert_eq!(found, (freshness, on_error), "age {initial_age}, window {window}, at {now:?}");
            assert_eq!(now < entry.useful_until(), freshness != Freshness::Dead);
        }
    }

    #[test]
    fn softening_moves_the_window_for_failing_nodes_too() {
        let mut parts = parts([60, 0, 0, 0]);
        parts.lifetime.stale_if_error = Duration::from_secs(30);
        let entry = Entry::new(parts);
        entry.soften(Moment::from_millis(11_000));
        assert!(entry.may_serve_on_error(Moment::from_millis(40_999)));
        assert!(!entry.may_serve_on_error(Moment::from_millis(41_000)));
    }

    #[test]
    fn age_and_remaining_ttl_are_whole_seconds() {
        let entry = entry([60, 20, 10, 5]);
        for (now, age, left) in
            [(1000, 20, 40), (2000, 21, 39), (40_999, 59, 0), (41_000, 60, -1), (41_001, 60, -1)]
        {
            let now = Moment::from_millis(now);
            assert_eq!((entry.age_seconds(now), entry.ttl_left(now)), (age, left), "at {now:?}");
        }
        assert_eq!(entry.age_seconds(Moment::ZERO), 20);
    }

    #[test]
    fn softening_ends_freshness_once_and_keeps_grace() {
        let entry = entry([60, 0, 10, 5]);
        let now = Moment::from_millis(31_000);
        assert!(entry.soften(now));
        assert!(!entry.soften(now));
        assert!(!entry.soften(Moment::from_millis(35_000)), "grace is not prolonged");
        assert_eq!(entry.freshness(now), Freshness::Grace);
        assert_eq!(entry.freshness(Moment::from_millis(40_999)), Freshness::Grace);
        assert_eq!(entry.freshness(Moment::from_millis(41_000)), Freshness::Stale);
        assert_eq!(entry.ttl(), Duration::from_secs(60));
    }

    #[test]
    fn a_use_is_told_once_in_a_span() {
        let entry = entry([60, 0, 0, 0]);
        assert_eq!([0, 0, 1, 1, 0].map(|span| entry.touch(span)), [true, false, true, false, true]);
    }

    #[test]
    fn a_body_keeps_no_more_memory_than_it_shows() {
        let mut grown = BytesMut::with_capacity(1 << 20);
        grown.extend_from_slice(&[7; 1000]);
        let fitted = fitted(grown.freeze());
        assert_eq!(fitted.len(), 1000);
        assert_eq!(fitted.try_into_mut().map(|buffer| buffer.capacity()), Ok(1000));
    }

    #[test]
    fn weight_counts_everything() {
        let small = entry([60, 0, 0, 0]);
        let body = Bytes::from(vec![0; 100_000]);
        let large = Entry::new(EntryParts { body, ..parts([60, 0, 0, 0]) });
        assert!(large.weight() - small.weight() >= 100_000 - 4);
        assert!(small.weight() as usize > size_of::<Entry>() + 100);
        let tagged = entry_with_tags(1, &[Tag::new(b"a").expect("a tag")]);
        assert!(tagged.weight() > small.weight());
        let own = tagged.weight();
        tagged.set_levy(50);
        assert_eq!(tagged.weight(), own + 50);
    }

    fn forms(made_at: u64, bytes: usize) -> Encoded {
        let body = Bytes::from(vec![0; bytes]);
        Encoded::new(vec![EncodedForm::new(Coding::Gzip, Bytes::new(), body)], Moment::from_millis(made_at))
    }

    /// One that forms may be made of.
    fn growing(seconds: [u64; 4]) -> Entry {
        entry(seconds).with_recoding(Recoding::Encode, false)
    }

    #[test]
    fn one_that_is_sent_as_it_is_has_no_forms() {
        let entry = entry([60, 0, 0, 0]);
        assert!(!entry.claim_encoding(Moment::ZERO));
        assert_eq!(entry.grow(forms(5000, 700)), None);
        assert!(growing([60, 0, 0, 0]).weight() > entry.weight(), "what it needs for them is on the books");
    }

    #[test]
    fn encoded_forms_come_once_and_weigh() {
        let entry = growing([60, 0, 0, 0]);
        let own = entry.weight();
        assert!(entry.form(Coding::Gzip).is_none());
        let weight = forms(5000, 700).weight();
        assert_eq!(entry.grow(forms(5000, 700)), Some(true));
        assert_eq!(entry.weight(), own + weight);
        assert_eq!(entry.grow(forms(5000, 100)), None, "they are there already");
        assert_eq!(entry.weight(), own + weight);
        assert_eq!(entry.form(Coding::Gzip).map(|form| form.body().len()), Some(700));
        let (given, other) = (Entry::new(parts([60, 0, 0, 0])).with_encoded(forms(0, 700)), own + weight);
        assert_eq!(given.weight(), other);
        given.close_books();
        assert_eq!(given.grow(forms(0, 1)), None);
    }

    #[test]
    fn forms_that_come_too_late_are_served_and_not_booked() {
        let entry = growing([60, 0, 0, 0]);
        let own = entry.close_books();
        assert_eq!(entry.grow(forms(5000, 700)), Some(false));
        assert_eq!(entry.booked(), own);
        assert!(entry.form(Coding::Gzip).is_some());
    }

    #[test]
    fn one_of_many_sees_to_the_forms_and_another_when_the_job_was_lost() {
        let entry = growing([60, 0, 0, 0]);
        let claim = |seconds: u64| entry.claim_encoding(Moment::from_millis(seconds * 1000));
        assert_eq!([claim(0), claim(0), claim(4), claim(5), claim(5)], [true, false, false, true, false]);
        entry.give_up_encoding();
        assert!(!claim(1_000_000) && !claim(u64::MAX / 1000));
        let grown = Entry::new(parts([60, 0, 0, 0])).with_encoded(forms(0, 1));
        assert!(!grown.claim_encoding(Moment::ZERO));
    }

    #[test]
    fn growing_does_not_prolong_how_long_it_is_of_use() {
        // Stored after one second, of use for 75 s.
        let entry = growing([60, 0, 10, 5]);
        entry.grow(forms(11_000, 1));
        assert_eq!(entry.useful_until(), Moment::from_millis(76_000));
    }

    #[test]
    fn allocations_are_rounded_up_to_classes() {
        for (bytes, expected) in [
            (0, 0),
            (1, 16),
            (64, 64),
            (65, 80),
            (128, 128),
            (129, 160),
            (1024, 1024),
            (1025, 1280),
            (64 << 10, 64 << 10),
            (28_673, 32 << 10),
            ((32 << 10) + 1, 36 << 10),
            (100_000, 100 << 10),
            ((1 << 20) + 1, 1028 << 10),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(heap(bytes), expected, "bytes: {bytes}");
        }
    }

    #[test]
    fn it_stays_compact() {
        // With the counters of its `Arc` it fills a size class of 160 bytes.
        assert!(size_of::<Entry>() <= 144, "{}", size_of::<Entry>());
    }

    #[test]
    fn spans_are_exact_while_milliseconds_matter() {
        let day = 24 * 3600;
        for (span, expected) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_micros(1900), Duration::from_millis(1)),
            (Duration::from_millis((1 << 31) - 1), Duration::from_millis((1 << 31) - 1)),
            (Duration::from_millis(1 << 31), Duration::from_secs((1 << 31) / 1000)),
            (Duration::from_millis(400 * day * 1000 + 999), Duration::from_secs(400 * day)),
            (Duration::MAX, Duration::from_secs((1 << 31) - 1)),
        ] {
            assert_eq!(Span::new(span).duration(), expected, "{span:?}");
        }
    }

    #[test]
    fn url_and_head_share_an_allocation_and_stay_apart() {
        let entry = growing([60, 0, 0, 0]);
        assert_eq!((entry.url(), entry.head()), ("http://a/", &b"HTTP/1.1 200 OK\r\n"[..]));
        let long = Entry::new(EntryParts { url: "\u{e9}".repeat(40_000).into(), ..parts([60, 0, 0, 0]) });
        assert_eq!((long.url().len(), long.head()), (65_534, entry.head()));
    }
}
