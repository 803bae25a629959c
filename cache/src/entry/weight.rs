//! What an entry takes of memory, as the allocator counts it.

use bytes::Bytes;

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
pub(super) const ARC_BYTES: usize = 2 * size_of::<usize>();

/// What the first clone of a body allocates, to be shared from then on.
pub(super) const SHARED_BODY_BYTES: usize = 32;

/// What an entry costs in the store besides itself: its slot in the index, at the emptiest that the table gets, and
/// its seat in the policy, with its share of the sketch of frequencies.
pub(super) const BOOKKEEPING_BYTES: usize = crate::index::SLOT_BYTES + crate::room::SEAT_BYTES;

/// What a variant costs beyond that: its place in its resource, and its share of the resource. Computed: 64 bytes for
/// the only variant, 80 for each of two (the list has room for four), about 60 for each of more, and from 33 on, where
/// they are found by hash, up to 75 for the slot and 53 for its place in the order.
pub(super) const VARIANT_BYTES: usize = 128;

/// A body up to so many bytes is copied rather than shared.
const COPY_UP_TO: usize = 4096;

/// The body in an allocation of its own size. A buffer that grew while it was filled has up to twice its length. A body that
/// others hold too is copied if it is small, because sharing takes memory too, and the copy needs no counters as long as
/// nobody clones it; a large one stays shared.
pub(crate) fn fitted(body: Bytes) -> Bytes {
    match body.try_into_mut() {
        Ok(buffer) if buffer.capacity() - buffer.len() > buffer.len() / 16 + 64 => {
            Bytes::copy_from_slice(&buffer)
        }
        Ok(buffer) => buffer.freeze(),
        Err(shared) if shared.len() <= COPY_UP_TO => Bytes::copy_from_slice(&shared),
        Err(shared) => shared,
    }
}
