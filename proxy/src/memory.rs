//! What the process takes: how its allocator is set, and what allocator and system say.
//!
//! jemalloc, because memory is a promise here. A cache whose pages come and go in all sizes is what fragments a heap:
//! in `benches/memory` it keeps a twentieth more than is alive, where mimalloc keeps a fifth, it hands back what a purge
//! frees, it is the cheapest of the three in processor time, and it counts what is alive. Not here: the line that makes it
//! the allocator, which is in `main.rs`, because the benches choose theirs; and what is done about waste, which is
//! `clearcoat_cache::Governor`'s.

use clearcoat_cache::Footprint;
use tikv_jemalloc_ctl::{Access, AsName, background_thread, epoch, stats};

/// For how long freed pages are kept in case they are needed again, in milliseconds. jemalloc's default of ten seconds
/// holds back what ten seconds of churn free.
const KEEP_FREED_MS: isize = 100;

/// Sets the allocator to hand freed memory back by itself, soon. Call it first of all: threads that allocate later take
/// over what is set by then.
pub(crate) fn set_up() -> Result<(), tikv_jemalloc_ctl::Error> {
    // By a thread of its own: without it, memory is handed back only by the next allocation that comes along.
    background_thread::write(true)?;
    for name in [
        // For arenas that are made from now on, and for the one that exists.
        &b"arenas.dirty_decay_ms\0"[..],
        b"arena.0.dirty_decay_ms\0",
    ] {
        name.name().write(KEEP_FREED_MS)?;
    }
    // Handed back means handed back: lazily freed pages would still count as resident.
    for name in [&b"arenas.muzzy_decay_ms\0"[..], b"arena.0.muzzy_decay_ms\0"] {
        name.name().write(0isize)?;
    }
    Ok(())
}

/// What the process takes now; `None` where the system does not tell. Some ten microseconds: for once a second.
pub(crate) fn footprint() -> Option<Footprint> {
    Some(Footprint { resident_bytes: resident_bytes()?, live_bytes: live_bytes()? })
}

/// Bytes in allocations that are alive, each at the size of its class.
pub(crate) fn live_bytes() -> Option<u64> {
    // The numbers are collected when the epoch advances.
    epoch::advance().ok()?;
    Some(stats::allocated::read().ok()? as u64)
}

/// Memory of this process in RAM, from `VmRSS` of proc(5); `None` where there is no such file system.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `main.rs`, which the tests of the library are without.
    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn allocations_show_in_the_footprint() {
        set_up().expect("jemalloc is built with what this needs");
        let before = footprint().expect("Linux");
        let kept = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = footprint().expect("Linux");
        // Other tests run beside this one.
        assert!(after.live_bytes >= before.live_bytes + (32 << 20), "{before:?} {after:?}");
        assert!(after.resident_bytes >= after.live_bytes / 2, "{after:?}");
        drop(kept);
    }
}
