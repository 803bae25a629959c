//! The store: entries by key, variants, tags and purges behind one face.
//!
//! It brings together the index (what is stored), the tags (who carries what), the ledger of purges (what may still
//! be stored) and the room (what there is memory for). Each has its own short locks:
//!
//! | lock | held while | inside it |
//! | --- | --- | --- |
//! | ledger (one mutex) | a purge is noted, a fill is judged and put into the index | a part of the index |
//! | part of the index (256 reader-writer locks) | one look-up, one insertion or removal | none |
//! | bans (one reader-writer lock) | a ban is added, pending bans are copied | none; added with the ledger locked |
//! | part of the tags (64 mutexes) | one tag's list is changed, 512 carriers are copied | none |
//! | room (one mutex) | the policy takes an entry in, notes a use, chooses who goes | a part of the index |
//!
//! # Why purges are exact
//!
//! After a purge has answered, no look-up returns an entry that it named and that was stored, or being fetched,
//! before it. A purge (1) is noted in the ledger, then (2) removes what it finds, then answers. A commit (a) puts
//! its entry into the lists of its tags, then, with the ledger locked, (b) asks whether a purge since its stamp
//! named it and (c) puts it into the index. If (1) comes before (b), the commit sees the purge. If it comes after,
//! it comes after (c) too, because both are done under one lock, and (2) finds the entry in the index and, thanks
//! to (a), in its tags' lists. An entry leaves the index first and its tags' lists afterwards, so a second purge
//! that runs beside the first finds everything the first has not removed yet.

mod ban;
mod give_way;
mod look;
mod purge;
mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::ban::Bans;
use crate::budget::FillBudget;
use crate::encoded::{Encoded, Recoding};
use crate::entry::{Entry, Growth};
use crate::generation::{FillStamp, Generation, Ledger, PurgesWait, Sentence};
use crate::index::{Index, SHARDS};
use crate::key::{CacheKey, KeySecret};
use crate::room::Room;
use crate::tag::{Tag, TagIndex};
use crate::time::Moment;
use crate::vary::VarySpec;

pub use look::{Known, Peek};
pub use purge::{PurgeCount, PurgeMode};
pub use stats::StoreStats;

use ban::{Sentence as BanSentence, Tested};
use stats::Counters;

/// Different `Vary` lists that are kept once and shared.
const SHARED_SPECS: usize = 64;

/// Calls of [`Store::settle`] in which every entry is looked at once, to see whether it is over.
const PARTS_OF_SWEEP: usize = 4;

/// How much a store holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The memory for bodies, heads, index, tags and marks together, and for bodies that are on their way, in bytes. A
    /// hard limit; what was evicted but is still being sent to a client is not in it.
    pub memory_bytes: u64,
    /// Variants of one URL. When there are more, the oldest goes. Zero counts as one.
    pub max_variants: u32,
    /// Uncacheable URLs that are remembered, 48 bytes each; rounded up to a multiple of 256. Zero: none.
    pub max_marks: usize,
}

/// What there is for a request.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Serve it.
    Fresh(Arc<Entry>),
    /// Serve it while one request fetches a newer copy.
    Grace(Arc<Entry>),
    /// Fetch; this one is good for a conditional request, and when no node is up.
    Stale(Arc<Entry>),
    /// Fetch at once and do not queue behind others: lately the answer could not be stored (hit-for-miss).
    Uncacheable,
    /// Fetch.
    Missing,
}

/// What became of a fill.
#[derive(Clone, Debug)]
pub enum Commit {
    /// It is stored.
    Stored(Arc<Entry>),
    /// It is stored and stale already, because a soft purge named it while it was fetched.
    StoredSoft(Arc<Entry>),
    /// A purge named it while it was fetched.
    Refused,
    /// It takes more than half of the store.
    TooLarge,
}

/// What became of encoded forms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grown {
    /// The entry has them, and they are in its weight.
    Kept,
    /// The entry has them, but is no longer stored.
    Gone,
    /// It had some before; these are dropped.
    Already,
    /// There are none, the entry is to be sent as it is, or it would take more than half of the store. It will not be asked for again.
    Refused,
}

/// The stored responses. Shared by `Arc`; every method takes `&self`.
pub struct Store {
    secret: KeySecret,
    index: Index,
    tags: TagIndex,
    ledger: Arc<Ledger>,
    bans: Bans,
    /// Held by the one sweep of bans that is under way.
    sweeping: Mutex<()>,
    room: Room,
    specs: Mutex<Vec<Arc<VarySpec>>>,
    counters: Counters,
    /// Numbers the spans in each of which the policy hears of an entry's use once; see [`Store::count_stored`]. Read by
    /// every hit and seldom written, so it has a line of its own.
    span: Apart<AtomicU32>,
    /// At which number of stored entries the span ends.
    span_ends: AtomicU64,
    /// By its settings, less the tables.
    capacity_bytes: AtomicU64,
    fixed_bytes: u64,
    fills: Arc<FillBudget>,
    /// What it may hold now in all.
    memory_bytes: AtomicU64,
}

#[derive(Default)]
#[repr(align(64))]
struct Apart<T>(T);

impl Store {
    /// Parts that [`Store::part`] goes through.
    pub const PARTS: usize = SHARDS;

    /// An empty store. `secret` makes its keys.
    pub fn new(settings: Settings, secret: KeySecret) -> Self {
        let fixed_bytes = Index::fixed_bytes(settings.max_marks);
        let capacity_bytes = room_within(settings.memory_bytes, fixed_bytes);
        Self {
            secret,
            index: Index::new(settings.max_variants as usize, settings.max_marks),
            tags: TagIndex::new(),
            ledger: Arc::default(),
            bans: Bans::default(),
            sweeping: Mutex::default(),
            room: Room::new(capacity_bytes),
            specs: Mutex::default(),
            counters: Counters::default(),
            span: Apart::default(),
            span_ends: AtomicU64::new(1),
            capacity_bytes: AtomicU64::new(capacity_bytes),
            fills: FillBudget::new(capacity_bytes),
            fixed_bytes,
            memory_bytes: AtomicU64::new(settings.memory_bytes),
        }
    }

    /// The secret that keys and variants are made with.
    pub fn secret(&self) -> &KeySecret {
        &self.secret
    }

    /// Stamps a fill, before its request goes out. Keep the stamp until the fill has ended.
    pub fn begin_fill(&self) -> FillStamp {
        self.ledger.begin()
    }

    /// Stores a response, unless a purge named it since `stamp`.
    ///
    /// `vary` is what the response varies on, and the entry's variant must be the one it computes for the request
    /// that fetched it; without `vary` the variant is [`VariantKey::NONE`](crate::VariantKey::NONE). Even a stored
    /// entry may be gone at once if there is no room for it; what is returned can be served in any case.
    pub fn commit(&self, stamp: &FillStamp, mut entry: Entry, vary: Option<VarySpec>, now: Moment) -> Commit {
        let most_bytes = u64::from(entry.weight()) + TagIndex::most_bytes(entry.tags()) as u64;
        if most_bytes > self.most_bytes() {
            self.counters.too_large.fetch_add(1, Relaxed);
            return Commit::TooLarge;
        }
        let vary = vary.map(|vary| self.shared_spec(vary));
        self.tags.intern(entry.tags_mut());
        let entry = Arc::new(entry);
        self.enter(&entry);
        let refuse = || {
            self.leave(&entry);
            self.counters.refused_by_purge.fetch_add(1, Relaxed);
            Commit::Refused
        };
        let (softened, inserted) = {
            let (banned, sentence, purges_wait) = self.judge(stamp, &entry);
            let softened = match (banned, sentence) {
                (BanSentence::Hard(_), _) | (_, Sentence::Hard) => {
                    drop(purges_wait);
                    return refuse();
                }
                (BanSentence::Soft(ban), _) => {
                    entry.soften(ban.at());
                    true
                }
                (BanSentence::Clean, Sentence::Soft) => {
                    entry.soften(now);
                    true
                }
                (BanSentence::Clean, Sentence::Clean) => false,
            };
            let inserted = self.index.insert(Arc::clone(&entry), vary);
            drop(purges_wait);
            (softened, inserted)
        };
        self.counters.variants_dropped.fetch_add(inserted.over_limit, Relaxed);
        for old in &inserted.displaced {
            self.leave(old);
        }
        self.room.admit(&entry, || {
            self.index.get(entry.key(), entry.variant()).is_some_and(|stored| Arc::ptr_eq(&stored, &entry))
        });
        self.make_room();
        self.count_stored();
        if softened { Commit::StoredSoft(entry) } else { Commit::Stored(entry) }
    }

    /// What bans and purges since `stamp` say of an entry that is about to be inserted; no other can begin as long as the
    /// guard lives, and the entry is marked as tested against all that there are.
    fn judge(&self, stamp: &FillStamp, entry: &Entry) -> (BanSentence, Sentence, PurgesWait<'_>) {
        loop {
            // Conditions may take their time: they are asked before the ledger is locked. If a ban comes meanwhile, once
            // more; that takes a ban each time, and bans have to wait for the sweep when there are many.
            let (banned, through) = self.tested_fill(stamp, entry);
            let (sentence, purges_wait) = self.ledger.judge(stamp, entry.key(), entry.tags());
            if self.bans.newest() == through {
                entry.advance_ban_mark(entry.ban_mark(), through);
                return (banned, sentence, purges_wait);
            }
        }
    }

    /// Gives an entry its encoded forms, once. They are served from now on and are part of its weight, and of what goes
    /// with it. An entry that has left the store meanwhile gets them too, for those who still send it; that is in no
    /// account, like the entry itself.
    pub fn grow(&self, entry: &Arc<Entry>, encoded: Encoded) -> Grown {
        if entry.recoding() == Recoding::Never
            || encoded.forms().is_empty()
            || u64::from(entry.weight()) + u64::from(encoded.weight()) > self.most_bytes()
        {
            entry.give_up_encoding();
            return Grown::Refused;
        }
        match entry.grow(encoded) {
            None => Grown::Already,
            Some(Growth { is_booked: false, .. }) => Grown::Gone,
            Some(Growth { weight, is_booked: true }) => {
                self.counters.bytes.fetch_add(i64::from(weight), Relaxed);
                self.count_encoded(weight, 1);
                self.room.reweigh(entry);
                self.make_room();
                Grown::Kept
            }
        }
    }

    /// The newest purge after `stamp` that names `key` or one of `tags`. While a purge is remembered at all it is
    /// found; one that was forgotten for lack of space is reported as naming everything. Bans are asked apart
    /// ([`Store::banned_since`]).
    pub fn named_since(&self, stamp: &FillStamp, key: CacheKey, tags: &[Tag]) -> Option<Generation> {
        self.ledger.named_since(stamp, key, tags)
    }

    /// The generation of the last purge.
    pub fn generation(&self) -> Generation {
        self.ledger.generation()
    }

    /// Remembers until `until` that answers under `key` cannot be stored, so that requests do not queue behind each
    /// other for nothing (Varnish's hit-for-miss). A fresh variant is still served; a stale one no longer. The next
    /// commit under the key lifts the mark.
    pub fn mark_uncacheable(&self, key: CacheKey, until: Moment) {
        if self.index.mark(key, until) {
            self.counters.marks_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Notes what a response varies on as soon as its head is known, so that requests for other variants do not wait
    /// for a body that is not theirs.
    pub fn learn_vary(&self, key: CacheKey, vary: VarySpec) {
        self.index.learn(key, self.shared_spec(vary));
    }

    /// What a resource varies on, as far as it is known.
    pub fn vary_of(&self, key: CacheKey) -> Option<Arc<VarySpec>> {
        self.index.vary_of(key)
    }

    /// All stored variants of a URL, whatever their freshness.
    pub fn variants(&self, key: CacheKey) -> Vec<Arc<Entry>> {
        let mut variants = self.index.variants(key).into_vec();
        variants.retain(|entry| !matches!(self.tested(entry), Tested::Struck(_)));
        variants
    }

    /// Some entries that carry a tag, at most `limit`.
    pub fn tagged(&self, tag: &Tag, limit: usize) -> Vec<Arc<Entry>> {
        let (mut found, mut end) = (Vec::new(), usize::MAX);
        while found.len() < limit {
            let Some((carriers, start)) = self.tags.carriers_before(tag.as_bytes(), end) else { break };
            found.extend(carriers.into_iter().take(limit - found.len()));
            if start == 0 {
                break;
            }
            end = start;
        }
        found
    }

    /// How many entries carry a tag.
    pub fn count_tagged(&self, tag: &Tag) -> usize {
        self.tags.count(tag)
    }

    /// The entries of one part of the store, `0..Store::PARTS`; none beyond. For sweeps over everything that must not
    /// hold a lock for long.
    pub fn part(&self, part: usize) -> Vec<Arc<Entry>> {
        if part < SHARDS { self.index.entries(part) } else { Vec::new() }
    }

    /// Lets go of entries that are over; commits see to the rest. Call it every second or so: it looks at a quarter of
    /// the entries each time, so that one that is over is gone a few seconds later.
    pub fn settle(&self, now: Moment) {
        for entry in self.room.over(now, PARTS_OF_SWEEP) {
            // It may have been replaced or purged meanwhile; then only the policy still knew it.
            if self.remove(&entry) {
                self.counters.expired.fetch_add(1, Relaxed);
            }
        }
        self.make_room();
    }

    /// Makes it hold `bytes` in all, its tables included, instead of what its settings say: less, when the process takes
    /// more memory than the store knows of ([`Governor`](crate::Governor)), and as much again afterwards. What no longer
    /// has room goes at once; for much of it, call this where a thread may be busy for a while.
    pub fn set_memory(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Relaxed);
        self.room.set_capacity(room_within(bytes, self.fixed_bytes));
        self.make_room();
    }

    /// Goes by other settings from now on, but for the number of its marks, whose table stays as large as it was made. What
    /// is stored stays as far as there is room for it; see [`set_memory`](Self::set_memory).
    pub fn reconfigure(&self, settings: Settings) {
        let capacity = room_within(settings.memory_bytes, self.fixed_bytes);
        self.index.set_max_variants(settings.max_variants as usize);
        self.capacity_bytes.store(capacity, Relaxed);
        self.fills.set_capacity(capacity);
        self.set_memory(settings.memory_bytes);
    }

    /// What it may hold now in all.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Relaxed)
    }

    /// What one entry may weigh, at most.
    fn most_bytes(&self) -> u64 {
        (self.capacity_bytes.load(Relaxed) / 2).min(u64::from(u32::MAX) - 1)
    }

    /// Counts what came in, and ends the span when half as many came in as there are.
    ///
    /// What matters to the policy is not how much time goes by between two uses but how much else comes in. So where
    /// nothing comes in, no hit costs anything, and where entries are gone after a second, the policy still knows the
    /// second's favourites. (With spans of eight seconds the hit ratio fell by four points where entries came and went
    /// faster than that. Spans from an eighth of the entries to all of them differ by less than a point.)
    fn count_stored(&self) {
        let stored = self.counters.stored.fetch_add(1, Relaxed) + 1;
        if stored >= self.span_ends.load(Relaxed) {
            // Two threads may both end a span: the policy hears of some uses twice, which is harmless.
            let entries = self.counters.entries.load(Relaxed).max(0) as u64;
            self.span_ends.store(stored + entries / 2 + 1, Relaxed);
            self.span.0.fetch_add(1, Relaxed);
        }
    }

    /// Removes exactly this entry; `false` if another did so before.
    fn remove(&self, entry: &Arc<Entry>) -> bool {
        let removed = self.index.remove(entry);
        if removed {
            self.leave(entry);
        }
        removed
    }

    /// Puts an entry on the books: its tags' lists and the memory.
    fn enter(&self, entry: &Arc<Entry>) {
        if !entry.tags().is_empty() {
            self.tags.link(entry);
            // The tag index grows by less than its entries' sum, because they share tags. Each pays what is not paid
            // yet, at most what its tags would cost alone; so all of the index is paid for by those who use it.
            let unpaid = self.tags.bytes() as i64 - self.counters.levied.load(Relaxed);
            let levy = unpaid.clamp(0, TagIndex::most_bytes(entry.tags()) as i64);
            entry.set_levy(u32::try_from(levy).unwrap_or(u32::MAX));
            self.counters.levied.fetch_add(i64::from(entry.levy()), Relaxed);
        }
        self.counters.entries.fetch_add(1, Relaxed);
        let booked = entry.booked();
        self.counters.bytes.fetch_add(booked.total(), Relaxed);
        self.count_encoded(booked.encoded, 1);
    }

    /// Takes an entry off the books. Done once for each, by whoever took it out of the index.
    fn leave(&self, entry: &Arc<Entry>) {
        self.room.forget(entry);
        if !entry.tags().is_empty() {
            self.tags.unlink(entry);
            self.counters.levied.fetch_sub(i64::from(entry.levy()), Relaxed);
        }
        self.counters.entries.fetch_sub(1, Relaxed);
        // Forms that are made at this very moment are in here, or they are never booked.
        let booked = entry.close_books();
        self.counters.bytes.fetch_sub(booked.total(), Relaxed);
        self.count_encoded(booked.encoded, -1);
    }

    /// Counts an entry's encoded forms in (1) or out (-1).
    fn count_encoded(&self, bytes: u32, sign: i64) {
        if bytes > 0 {
            self.counters.encoded_entries.fetch_add(sign, Relaxed);
            self.counters.encoded_bytes.fetch_add(sign * i64::from(bytes), Relaxed);
        }
    }

    /// What entries and fills may take together now.
    fn limit(&self) -> u64 {
        room_within(self.memory_bytes.load(Relaxed), self.fixed_bytes)
    }

    /// Lets go of what there is no room for.
    fn make_room(&self) {
        self.make_room_beside(self.fills.claimed());
    }

    /// Lets go of what there is no room for beside so many bytes of fills.
    fn make_room_beside(&self, fills: u64) {
        loop {
            let leaving = self.room.evict(self.limit().saturating_sub(fills));
            if leaving.is_empty() {
                return;
            }
            for entry in &leaving {
                if self.remove(entry) {
                    self.counters.evictions.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// The copy of `vary` that all resources share. Sites use a handful; what is beyond is simply not shared.
    fn shared_spec(&self, vary: VarySpec) -> Arc<VarySpec> {
        let mut specs = self.specs.lock();
        if let Some(known) = specs.iter().find(|known| ***known == vary) {
            return Arc::clone(known);
        }
        let vary = Arc::new(vary);
        if specs.len() < SHARED_SPECS {
            specs.push(Arc::clone(&vary));
        }
        vary
    }
}

/// What is left for entries of a budget. With one smaller than its own tables a store still stores something.
fn room_within(memory_bytes: u64, fixed_bytes: u64) -> u64 {
    memory_bytes.saturating_sub(fixed_bytes).max(memory_bytes / 4)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
