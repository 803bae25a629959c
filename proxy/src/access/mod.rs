//! The access log: a line for every request that is over.
//!
//! A request never waits for its line. It is written into memory by the thread that answered the request
//! ([`buffers`]), and one thread of its own ([`writer`]) puts what has gathered into the file in large pieces, at least
//! every [`writer::INTERVAL`]. When the file takes nothing (a full disk, a pipe nobody reads), memory fills up to a bound
//! and further records are dropped and counted. That is the only way in which a record can be lost.
//!
//! Whoever looks on while it happens ([`tail`]) gets the same records, with or without a file.
//!
//! This is the log of what visitors asked; what happens to Clearcoat itself is in [`crate::admin::logs`].
//!
//! Reading order: [`accounts`], [`record`], [`mod@line`] with [`text`] and [`date`], [`buffers`], [`writer`], [`mask`], [`filter`], [`tail`].

mod accounts;
mod buffers;
pub(crate) mod date;
mod destination;
pub(crate) mod filter;
pub(crate) mod line;
pub(crate) mod mask;
mod record;
pub(crate) mod tail;
mod text;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use accounts::{Accounts, Sent};
pub(crate) use destination::Destination;
pub(crate) use line::Format;
pub(crate) use record::{Asked, Ended, Kept, Record, Version};

use crate::admin::Counters;
use buffers::Buffers;
use writer::Writer;

/// Where the lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum File {
    /// Appended to the file of this path, which may be a named pipe. Made if there is none.
    Path(PathBuf),
    /// To the standard output of the process.
    Stdout,
}

/// What is logged how.
#[derive(Clone, Debug)]
pub(crate) struct AccessSettings {
    pub(crate) format: Format,
    /// Bytes of records that may wait for the writer.
    pub(crate) buffer_bytes: u64,
    /// Threads that answer requests; each gathers lines of its own.
    pub(crate) threads: usize,
}

/// The running log. Whoever ends the process calls [`AccessLog::close`] before.
pub(crate) struct AccessLog {
    buffers: Arc<Buffers>,
}

impl AccessLog {
    /// Starts the thread that writes to an open file.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub(crate) fn start(
        destination: Destination,
        settings: &AccessSettings,
        counters: Arc<Counters>,
    ) -> io::Result<Arc<Self>> {
        let buffers =
            Arc::new(Buffers::new(settings.format, settings.buffer_bytes, settings.threads, counters));
        Writer::start(destination, Arc::clone(&buffers))?;
        Ok(Arc::new(Self { buffers }))
    }

    /// Records a request that was over at `now`. Waits for nobody, allocates nothing.
    pub(crate) fn record(&self, record: &Record<'_>, now: Instant) {
        self.buffers.push(record, now);
    }

    /// Asks the writer to write what has gathered and then to open the file anew: it was renamed or removed.
    pub(crate) fn reopen(&self) {
        self.buffers.ask(|wishes| wishes.reopen = true);
    }

    /// Has what has gathered written; waits for that at most `patience`. What comes later is dropped and counted.
    pub(crate) fn close(&self, patience: Duration) {
        self.buffers.close(patience);
    }
}

#[cfg(test)]
mod tests;
