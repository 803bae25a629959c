//! How much a store holds and what it has done, in numbers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::Store;

/// Numbers about a store. Gauges describe now, counters the time since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoreStats {
    /// Gauge: entries.
    pub entries: u64,
    /// Gauge: their memory, with their share of the indexes.
    pub bytes: u64,
    /// Gauge: entries that have encoded forms.
    pub encoded_entries: u64,
    /// Gauge: the memory of encoded forms; it is part of `bytes`.
    pub encoded_bytes: u64,
    /// Gauge: what fills in progress hold; with `bytes` it stays within the memory, unless bodies that only pass through
    /// take more than a quarter of it.
    pub fill_bytes: u64,
    /// Gauge: tags that at least one entry carries.
    pub tags: u64,
    /// Gauge: the memory of the tag index; it is part of `bytes`.
    pub tag_bytes: u64,
    /// Gauge: uncacheable URLs remembered, those that have run out included.
    pub marks: u64,
    /// Counter: marks that went because there were too many.
    pub marks_dropped: u64,
    /// Counter: entries that were stored.
    pub stored: u64,
    /// Counter: entries that went because there was no room, or that were not let in.
    pub evictions: u64,
    /// Counter: entries that went because their time was over.
    pub expired: u64,
    /// Gauge: bans that are not over.
    pub bans: u64,
    /// Counter: entries that went because of a ban.
    pub banned: u64,
    /// Counter: fills refused because of a purge.
    pub refused_by_purge: u64,
    /// Counter: fills refused because of their size.
    pub too_large: u64,
    /// Counter: variants that went because their URL had too many.
    pub variants_dropped: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    // Signed: two threads may pass each other on the way, and below zero for an instant must not become huge.
    pub(super) entries: AtomicI64,
    pub(super) bytes: AtomicI64,
    pub(super) levied: AtomicI64,
    pub(super) encoded_entries: AtomicI64,
    pub(super) encoded_bytes: AtomicI64,
    pub(super) marks_dropped: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) banned: AtomicU64,
    pub(super) refused_by_purge: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) variants_dropped: AtomicU64,
}

impl Store {
    /// Numbers for operators. Counting the marks visits every part of the index: not for the way of a request.
    pub fn stats(&self) -> StoreStats {
        let counters = &self.counters;
        let gauge = |number: &AtomicI64| number.load(Relaxed).max(0) as u64;
        StoreStats {
            entries: gauge(&counters.entries),
            bytes: gauge(&counters.bytes),
            encoded_entries: gauge(&counters.encoded_entries),
            encoded_bytes: gauge(&counters.encoded_bytes),
            fill_bytes: self.fills.held(),
            tags: self.tags.tags(),
            tag_bytes: self.tags.bytes(),
            marks: self.index.marks(),
            marks_dropped: counters.marks_dropped.load(Relaxed),
            stored: counters.stored.load(Relaxed),
            evictions: counters.evictions.load(Relaxed),
            expired: counters.expired.load(Relaxed),
            bans: self.bans.len() as u64,
            banned: counters.banned.load(Relaxed),
            refused_by_purge: counters.refused_by_purge.load(Relaxed),
            too_large: counters.too_large.load(Relaxed),
            variants_dropped: counters.variants_dropped.load(Relaxed),
        }
    }
}
