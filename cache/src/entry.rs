//! A stored response, kept as the bytes that are sent.
//!
//! Nothing in it is parsed again when it is served: the head is serialised for HTTP/1, the body is one piece. All of
//! it is immutable but a few numbers (a soft purge moves the end of freshness, the store notes when it was last used
//! and what it weighs) and one part that is set late or never: its forms in other content codings (`encoded`).

mod extras;
mod span;
mod weight;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::coding::Coding;
use crate::encoded::{Booked, Booking, Encoded, EncodedForm, Recipe, Recoding};
use crate::freshness::{Lifetime, SaidBy};
use crate::key::{CacheKey, VariantKey};
use crate::tag::Tag;
use crate::time::Moment;
use extras::Extras;
use span::{Span, whole_seconds};
use weight::{ARC_BYTES, BOOKKEEPING_BYTES, SHARED_BODY_BYTES};

pub(crate) use weight::{fitted, heap};

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

/// For whom a response is, as far as its head depends on that when it is delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Audience {
    /// Its head is the same for all who get it.
    #[default]
    Everybody,
    /// The node's `Vary` named the header that the proxy tells visitors' contexts apart by. It is not in the head, since
    /// nobody outside sees that header.
    Context,
    /// The same, and visitors with a session are told to keep no copy. `Cache-Control`, if there is one, is the first
    /// line of the head, as the node said it.
    Sessions,
    /// The same, and the node said `public`.
    SessionsElsePublic,
}

/// A stored response. See the module's page.
///
/// There are a million of them: what most entries do not have stands in a box that most do not have.
pub struct Entry {
    key: CacheKey,
    /// The URL, then the head.
    text: Box<[u8]>,
    body: Bytes,
    /// What it has that a plain page has not; made late where it is only for encoded forms, which most pages are never
    /// asked for.
    extras: OnceLock<Box<Extras>>,
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
    /// From which second of monotonic time on encoded forms may be asked for (again).
    encoding_due: AtomicU32,
    /// In which of the store's spans it last told its policy about a use; the number wraps.
    touched: AtomicU16,
    /// Up to which of the store's bans it was tested; the number wraps.
    ban_mark: AtomicU16,
    /// What it weighs, and whether that is on the store's books.
    booking: Booking,
    /// Where the policy keeps it; only the policy reads and writes it.
    seat: AtomicU32,
    url_bytes: u16,
    status: u16,
    flags: Flags,
    said_by: SaidBy,
    recoding: Recoding,
    audience: Audience,
}

/// What is so or not, in one byte.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    const MAY_BE_STALE: u8 = 1;
    const ASK_ALWAYS: u8 = 2;
    /// `Vary: Accept-Encoding` in the head is not the node's word.
    const VARY_ADDED: u8 = 4;
    /// Whoever gets it is told whether it was a hit.
    const TELLS: u8 = 8;

    const fn with(self, flag: u8, is_so: bool) -> Self {
        Self(if is_so { self.0 | flag } else { self.0 & !flag })
    }

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// What encoded forms have added to an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Growth {
    /// In bytes.
    pub(crate) weight: u32,
    /// It is on the books, because the entry still was.
    pub(crate) is_booked: bool,
}

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
            extras: extras.map(|extras| OnceLock::from(Box::new(extras))).unwrap_or_default(),
            stored: stored.as_millis(),
            fresh_until: AtomicU64::new(stored.saturating_add(fresh_for).as_millis()),
            ttl: Span::new(lifetime.ttl),
            grace: Span::new(lifetime.grace.saturating_sub(overdue)),
            keep: Span::new(lifetime.keep),
            initial_age: whole_seconds(lifetime.initial_age),
            stale_if_error: whole_seconds(lifetime.stale_if_error.saturating_sub(overdue)),
            encoding_due: AtomicU32::new(0),
            touched: AtomicU16::new(u16::MAX),
            ban_mark: AtomicU16::new(0),
            booking: Booking::new(u32::try_from(own_weight).unwrap_or(u32::MAX)),
            seat: AtomicU32::new(crate::room::NO_SEAT),
            url_bytes: url_bytes as u16,
            status,
            flags: Flags(0)
                .with(Flags::MAY_BE_STALE, lifetime.may_be_stale)
                .with(Flags::ASK_ALWAYS, lifetime.ask_always),
            said_by: lifetime.said_by,
            recoding: Recoding::Never,
            audience: Audience::Everybody,
        }
    }

    /// Says for whom it is.
    #[must_use]
    pub fn with_audience(self, audience: Audience) -> Self {
        Self { audience, ..self }
    }

    /// Says whether whoever gets it is told more than others.
    #[must_use]
    pub fn telling(self, tells: bool) -> Self {
        Self { flags: self.flags.with(Flags::TELLS, tells), ..self }
    }

    /// Whether whoever gets it is told more than others.
    pub fn tells(&self) -> bool {
        self.flags.has(Flags::TELLS)
    }

    /// Says what may be done to the body on its way to clients, and whether `Accept-Encoding` was added to the `Vary`
    /// in the head for that.
    #[must_use]
    pub fn with_recoding(self, recoding: Recoding, vary_added: bool) -> Self {
        Self { recoding, flags: self.flags.with(Flags::VARY_ADDED, vary_added), ..self }
    }

    /// Makes it a page that is put together for each request ([`Recoding::Assemble`]). `recipe` takes so many bytes.
    #[must_use]
    pub fn with_recipe(mut self, recipe: Recipe, recipe_bytes: usize) -> Self {
        let booking = &self.booking;
        let _ = self.extras.get_or_init(|| {
            let extras = Extras::new(VariantKey::NONE, Box::default());
            booking.add_base(extras.weight() as u32);
            Box::new(extras)
        });
        if let Some(extras) = self.extras.get_mut() {
            extras.recipe = Some(recipe);
        }
        self.booking.add_base(u32::try_from(recipe_bytes).unwrap_or(u32::MAX));
        Self { recoding: Recoding::Assemble, ..self }
    }

    /// How it is put together, if it is.
    pub fn recipe(&self) -> Option<&Recipe> {
        self.extras.get()?.recipe.as_ref()
    }

    /// Gives it its encoded forms before it is stored.
    #[must_use]
    pub fn with_encoded(self, encoded: Encoded) -> Self {
        self.add_forms(encoded);
        self
    }

    /// The resource.
    pub fn key(&self) -> CacheKey {
        self.key
    }

    /// Which variant of the resource.
    pub fn variant(&self) -> VariantKey {
        self.extras.get().map_or(VariantKey::NONE, |extras| extras.variant)
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
        self.extras.get().map_or(&[], |extras| &extras.tags)
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
        self.flags.has(Flags::MAY_BE_STALE)
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
        self.may_serve_on_error(now) || (self.may_be_stale() && now < kept)
    }

    /// Whether a node has to be asked before every use: requests for it gain nothing by waiting for each other, since
    /// the answer to one may not be given to another.
    pub fn ask_always(&self) -> bool {
        self.flags.has(Flags::ASK_ALWAYS)
    }

    /// What `Age` says (RFC 9111 §5.1), in seconds. One that is stale because of a purge is as old as if its lifetime were over:
    /// a cache in front of this one must not take it for fresh, and store it as what came after that purge.
    pub fn age_seconds(&self, now: Moment) -> u64 {
        let age = u64::from(self.initial_age) + now.since(self.stored()).as_secs();
        let fresh_until = self.fresh_until();
        if now < fresh_until {
            return age;
        }
        age.max(self.ttl.duration().as_secs() + now.since(fresh_until).as_secs())
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
        self.flags.has(Flags::VARY_ADDED)
    }

    /// For whom it is.
    pub fn audience(&self) -> Audience {
        self.audience
    }

    /// Its forms in other content codings, once they are made.
    pub fn encoded(&self) -> Option<&Encoded> {
        self.extras.get()?.encoded.get().map(Box::as_ref)
    }

    /// Its form in one coding.
    pub fn form(&self, coding: Coding) -> Option<&EncodedForm> {
        self.encoded()?.form(coding)
    }

    /// Whether somebody should see to its encoded forms now. True for one of many who ask at the same time, and again
    /// a few seconds later as long as there are none: the job may have been lost.
    pub fn claim_encoding(&self, now: Moment) -> bool {
        let second = u32::try_from(now.as_millis() / 1000).unwrap_or(u32::MAX - 1);
        let due = self.encoding_due.load(Ordering::Relaxed);
        let next = second.saturating_add(ENCODING_RETRY_SECONDS);
        // Of all who find it due, one moves it on.
        second >= due
            && self.is_for_forms()
            && self.encoded().is_none()
            && self.encoding_due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// No encoded forms will be made of it: [`Entry::claim_encoding`] says no from now on.
    pub fn give_up_encoding(&self) {
        self.encoding_due.store(u32::MAX, Ordering::Relaxed);
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
        let span = span as u16;
        // Two threads may both say yes: the policy hears twice, which is harmless; so is a use that it does not hear of,
        // because the last was just as many spans ago as the number counts.
        self.touched.load(Ordering::Relaxed) != span && {
            self.touched.store(span, Ordering::Relaxed);
            true
        }
    }

    /// The number of the last ban that it was tested against.
    pub(crate) fn ban_mark(&self) -> u16 {
        self.ban_mark.load(Ordering::Relaxed)
    }

    /// Notes that it was tested up to another ban, unless that was done meanwhile.
    pub(crate) fn advance_ban_mark(&self, from: u16, to: u16) {
        let _ = self.ban_mark.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn places(&self) -> &[AtomicU32] {
        self.extras.get().map_or(&[], |extras| &extras.places)
    }

    pub(crate) fn tags_mut(&mut self) -> &mut [Tag] {
        self.extras.get_mut().map_or(&mut [], |extras| &mut extras.tags)
    }

    /// Bytes of the tag index that are on its account.
    pub(crate) fn levy(&self) -> u32 {
        self.extras.get().map_or(0, |extras| extras.levy.load(Ordering::Relaxed))
    }

    /// Puts a part of the tag index on its account, once, while nobody else has it.
    pub(crate) fn set_levy(&self, bytes: u32) {
        if let Some(extras) = self.extras.get() {
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
    /// ([`Entry::with_recoding`]).
    pub(crate) fn grow(&self, encoded: Encoded) -> Option<Growth> {
        if self.is_for_forms() { self.add_forms(encoded) } else { None }
    }

    const fn is_for_forms(&self) -> bool {
        match self.recoding {
            Recoding::Encode | Recoding::Decode => true,
            Recoding::Never | Recoding::Assemble => false,
        }
    }

    /// Two may come at the same time: the forms of one are kept, and whoever makes the box, its own in it, also has it on
    /// its account.
    fn add_forms(&self, encoded: Encoded) -> Option<Growth> {
        let mut weight = encoded.weight();
        let mut encoded = Some(Box::new(encoded));
        let extras = self.extras.get_or_init(|| {
            let extras = Extras::new(VariantKey::NONE, Box::default());
            weight = weight.saturating_add(extras.weight() as u32);
            Box::new(Extras { encoded: encoded.take().map(OnceLock::from).unwrap_or_default(), ..extras })
        });
        if let Some(encoded) = encoded {
            extras.encoded.set(encoded).ok()?;
        }
        Some(Growth { weight, is_booked: self.booking.add_encoded(weight) })
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

#[cfg(test)]
pub(crate) mod tests;
