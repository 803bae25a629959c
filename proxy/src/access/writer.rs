//! The one thread that writes the access log.
//!
//! It owns the open file and what it has fetched from the [`Buffers`]; nobody waits for it but whoever ends the process,
//! and that for a bounded time. Whatever keeps it from writing (a full disk, a pipe that nobody reads) it tries again and
//! again, from the very byte where it was stopped, so that no line is torn; what it has fetched stays where it is, and the
//! bound of the buffers does the rest.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::buffers::Buffers;
use super::destination::Destination;

/// The longest that a line waits before it is written, if it can be.
pub(super) const INTERVAL: Duration = Duration::from_millis(150);

/// The first wait after a write that could not be made; it doubles up to [`INTERVAL`] while nothing moves. Short, because
/// a pipe takes only 64 KiB at a time.
const FIRST_RETRY: Duration = Duration::from_millis(1);

/// Bytes of one write at most, and pieces of it.
const WRITE_BYTES: usize = 256 * 1024;
const WRITE_PIECES: usize = 16;

/// How long the log is silent about the file after a line on it.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Writer {
    destination: Destination,
    buffers: Arc<Buffers>,
    /// Fetched and not yet written; of the first, the bytes up to `offset` are.
    batch: VecDeque<Vec<u8>>,
    offset: usize,
    retry: Duration,
    /// When a failure was last told.
    told: Option<Instant>,
    /// It was told that nothing can be written, and not yet that it can again.
    failing: bool,
}

impl Writer {
    /// Starts the thread. It ends when the buffers are closed.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub(super) fn start(destination: Destination, buffers: Arc<Buffers>) -> io::Result<()> {
        let mut writer = Self {
            destination,
            buffers,
            batch: VecDeque::new(),
            offset: 0,
            retry: FIRST_RETRY,
            told: None,
            failing: false,
        };
        thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run()).map(drop)
    }

    fn run(&mut self) {
        loop {
            let stuck = !self.batch.is_empty();
            let wishes = if stuck {
                // Not to be woken by those who gather: that they want something written is no news.
                thread::sleep(self.retry);
                self.buffers.wishes()
            } else {
                self.buffers.wait(INTERVAL)
            };
            self.buffers.set_clock();
            if !stuck {
                // Only now: chunks fetched half full while nothing can be written would use up the memory.
                self.buffers.take(&mut self.batch);
            }
            let moved = self.write_all();
            self.retry = if moved { FIRST_RETRY } else { (self.retry * 2).min(INTERVAL) };
            if stuck && self.batch.is_empty() {
                // Wishes are for when all that there was at their time is written.
                continue;
            }
            if wishes.reopen {
                self.reopen();
            }
            if wishes.close && self.batch.is_empty() {
                return self.buffers.end();
            }
        }
    }

    /// Writes what it can. Returns whether that was anything.
    fn write_all(&mut self) -> bool {
        let mut moved = self.batch.is_empty();
        while !self.batch.is_empty() {
            match self.write_some() {
                // Nobody should take nothing of something.
                Ok(0) => break,
                Ok(count) => {
                    self.written(count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        self.skip_torn();
                    }
                    self.failing |= self.say(&error, "the access log cannot be written");
                    return moved;
                }
            }
        }
        if moved && std::mem::take(&mut self.failing) {
            info!(file = self.destination.name(), "the access log is written again");
        }
        moved
    }

    fn write_some(&mut self) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
        let (mut count, mut bytes) = (0, 0);
        for (chunk, piece) in self.batch.iter().zip(&mut pieces) {
            let chunk = if count == 0 { &chunk[self.offset..] } else { chunk };
            // At least one, whatever its size.
            if count > 0 && bytes + chunk.len() > WRITE_BYTES {
                break;
            }
            *piece = IoSlice::new(chunk);
            bytes += chunk.len();
            count += 1;
        }
        self.destination.write(&pieces[..count])
    }

    /// So many bytes more are written.
    fn written(&mut self, count: usize) {
        self.offset += count;
        while let Some(first) = self.batch.front()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            if let Some(chunk) = self.batch.pop_front() {
                self.buffers.give_back(chunk);
            }
        }
    }

    /// Leaves out the rest of a line whose beginning went to a file that is gone, so that the next one begins with a
    /// whole line.
    fn skip_torn(&mut self) {
        let Some(first) = self.batch.front() else { return };
        if self.offset == 0 || first.get(self.offset - 1) == Some(&b'\n') {
            return;
        }
        let rest = &first[self.offset..];
        let count = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        self.buffers.lost(1);
        self.written(count);
    }

    /// Opens the file anew. What had gathered before is in the old one, unless that one takes nothing.
    fn reopen(&mut self) {
        match self.destination.reopen() {
            Ok(()) => {
                self.skip_torn();
                self.buffers.reopened();
                info!(file = self.destination.name(), "the access log is opened anew");
            }
            // The wish stays, and the old file takes the lines until it is fulfilled.
            Err(error) => {
                self.say(&error, "the access log cannot be opened anew");
                thread::sleep(INTERVAL);
            }
        }
    }

    /// Logs a failure, unless one was logged a moment ago; returns whether it did.
    fn say(&mut self, error: &io::Error, what: &str) -> bool {
        let due = self.told.is_none_or(|told| told.elapsed() >= SAY_INTERVAL);
        if due {
            warn!(file = self.destination.name(), %error, "{what}");
            self.told = Some(Instant::now());
        }
        due
    }
}
