//! What the system and the allocator say about this process. Linux only.

use std::io;

/// The allocator that the benches run on.
pub const ALLOCATOR: &str = if cfg!(feature = "jemalloc") {
    "jemalloc"
} else if cfg!(feature = "mimalloc") {
    "mimalloc"
} else {
    "system"
};

/// Sets the allocator as the server does.
///
/// # Errors
///
/// The allocator was built without what is needed.
pub fn set_up() -> io::Result<()> {
    #[cfg(feature = "jemalloc")]
    {
        use tikv_jemalloc_ctl::{Access, AsName, background_thread};
        background_thread::write(true).map_err(io::Error::other)?;
        for (name, millis) in [
            (&b"arenas.dirty_decay_ms\0"[..], 100isize),
            (b"arena.0.dirty_decay_ms\0", 100),
            (b"arenas.muzzy_decay_ms\0", 0),
            (b"arena.0.muzzy_decay_ms\0", 0),
        ] {
            name.name().write(millis).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// A line of `/proc/self/status` in bytes, such as `VmRSS` or `VmHWM`.
///
/// # Errors
///
/// There is no such line, or no `/proc`.
pub fn memory(name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {name} in /proc/self/status")))
}

/// Seconds of processor time that the process has used: in its own code, and in the system for it.
///
/// # Errors
///
/// `/proc/self/stat` cannot be read.
pub fn processor_seconds() -> io::Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program stands in parentheses and may hold spaces; the times are the 14th and 15th field.
    let fields: Vec<_> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    // Linux counts in hundredths of a second on every architecture that it supports today.
    let seconds = |at: usize| fields.get(at)?.parse::<f64>().ok().map(|ticks| ticks / 100.0);
    seconds(11).zip(seconds(12)).ok_or_else(|| io::Error::other("/proc/self/stat is not as expected"))
}

/// What an allocator counts, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// In allocations that are alive, each at the size of its class.
    pub live: u64,
    /// In pages that hold at least one of them.
    pub active: u64,
    /// Resident by the allocator's account: active pages, its own, and freed ones that were not handed back yet.
    pub resident: u64,
}

/// What the allocator counts; `None` when it does not tell.
pub fn counted() -> Option<Counted> {
    #[cfg(feature = "jemalloc")]
    {
        use tikv_jemalloc_ctl::{epoch, stats};
        epoch::advance().ok()?;
        Some(Counted {
            live: stats::allocated::read().ok()? as u64,
            active: stats::active::read().ok()? as u64,
            resident: stats::resident::read().ok()? as u64,
        })
    }
    #[cfg(not(feature = "jemalloc"))]
    None
}
