//! The memory in which lines wait for the writer.
//!
//! Lines are gathered in *chunks*. A thread writes into the chunk of its *shard*, under a lock that only the writer asks
//! for besides, ten times a second and for the time of an exchange of pointers; so the lock is there nearly always, and
//! nobody ever waits behind a write to the file. A chunk that is full goes into the queue and an empty one is taken
//! from it: the queue's lock is shared, but asked for once in some hundred lines.
//!
//! There are as many chunks as the bound of the memory allows, made when they are needed and used again and again. When
//! all wait for the writer, records are dropped and counted.
//!
//! Locks are taken in the order shard, queue. Chunks enter the queue under the lock of their shard, also those that the
//! writer fetches half full, so the lines of one thread are written in the order in which they were made.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use super::date::Date;
use super::line::{self, Format, MAX_LINE};
use super::record::Record;
use crate::admin::Counters;

/// Bytes of a chunk, where the memory allows it: large enough for rare exchanges and large writes.
const CHUNK: u64 = 64 * 1024;

/// Bytes of a chunk at least; any line fits.
const MIN_CHUNK: u64 = 16 * 1024;

const _: () = assert!(MAX_LINE as u64 <= MIN_CHUNK);

/// What a thread gathers.
struct Gathering {
    /// Room for lines; of capacity zero when the writer has fetched the last one.
    chunk: Vec<u8>,
    /// The date of the last line.
    date: Date,
}

/// On cache lines of its own; 128 because processors fetch lines in pairs.
#[repr(align(128))]
struct Shard(Mutex<Gathering>);

/// What the writer is asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    /// Open the file anew.
    pub(super) reopen: bool,
    /// Write what there is and end.
    pub(super) close: bool,
}

struct Queue {
    /// Lines for the writer, in order.
    waiting: VecDeque<Vec<u8>>,
    /// Empty chunks.
    free: Vec<Vec<u8>>,
    /// Chunks that exist, wherever they are.
    made: usize,
    wishes: Wishes,
    /// The writer has ended.
    ended: bool,
}

pub(super) struct Buffers {
    format: Format,
    counters: Arc<Counters>,
    /// The zero of the monotonic times of records.
    began: Instant,
    /// The wall clock at `began`, in microseconds since 1970. The writer sets it right when the wall clock is stepped,
    /// so that a record needs no second look at a clock.
    wall_at_began: AtomicU64,
    shards: Box<[Shard]>,
    chunk_bytes: usize,
    most_chunks: usize,
    /// All chunks are taken; a hint, so that a flood of drops does not fight for the queue's lock. Changed under it.
    exhausted: AtomicBool,
    queue: Mutex<Queue>,
    /// Tells the writer that it is wanted before its time.
    wanted: Condvar,
    /// Tells that the writer has ended.
    ended: Condvar,
}

/// The number that the next new thread takes.
static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's number among those that record; `usize::MAX` until its first record.
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Buffers {
    /// Room for about `bytes`; at least four chunks of the smallest size.
    pub(super) fn new(format: Format, bytes: u64, threads: usize, counters: Arc<Counters>) -> Self {
        let threads = threads.max(1);
        let chunk_bytes = (bytes / (4 * threads as u64)).clamp(MIN_CHUNK, CHUNK);
        let most_chunks = usize::try_from(bytes / chunk_bytes).unwrap_or(usize::MAX).max(4);
        // Where there are fewer chunks than threads, some share a shard, and none is without a chunk for long.
        let shards = threads.min(most_chunks / 2);
        let began = Instant::now();
        let shard = |_| Shard(Mutex::new(Gathering { chunk: Vec::new(), date: Date::of(0) }));
        let buffers = Self {
            format,
            counters,
            began,
            wall_at_began: AtomicU64::new(0),
            shards: (0..shards).map(shard).collect(),
            chunk_bytes: chunk_bytes as usize,
            most_chunks,
            exhausted: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                free: Vec::new(),
                made: 0,
                wishes: Wishes::default(),
                ended: false,
            }),
            wanted: Condvar::new(),
            ended: Condvar::new(),
        };
        buffers.set_clock();
        buffers
    }

    /// Adds the line of a request that was over at `now`, or counts it as dropped.
    pub(super) fn push(&self, record: &Record<'_>, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        let wall = self.wall_at_began.load(Relaxed).saturating_add(since.as_micros() as u64);
        let most = line::most_bytes(record);
        let mut gathering = self.shard().0.lock();
        let Gathering { chunk, date } = &mut *gathering;
        if chunk.capacity() - chunk.len() < most && !self.exchange(chunk) {
            drop(gathering);
            return self.counters.log_dropped(1);
        }
        date.advance(wall);
        line::push(chunk, self.format, record, date, wall);
    }

    /// Puts an empty chunk in the place of `chunk`, which is left alone if there is none.
    fn exchange(&self, chunk: &mut Vec<u8>) -> bool {
        if self.exhausted.load(Relaxed) {
            return false;
        }
        let mut queue = self.queue.lock();
        // Nobody would fetch what is written into a new chunk.
        if queue.wishes.close {
            return false;
        }
        let empty = match queue.free.pop() {
            Some(empty) => empty,
            None if queue.made < self.most_chunks => {
                queue.made += 1;
                Vec::with_capacity(self.chunk_bytes)
            }
            None => {
                self.exhausted.store(true, Relaxed);
                self.wanted.notify_one();
                return false;
            }
        };
        let full = std::mem::replace(chunk, empty);
        if full.capacity() > 0 {
            queue.waiting.push_back(full);
        }
        // The writer comes by itself; it is woken only if that might be too late.
        if queue.waiting.len() > self.most_chunks / 2 {
            self.wanted.notify_one();
        }
        true
    }

    /// Waits until the time is over or the writer is wanted, and gives what is wished. A wish stays until
    /// [`Self::reopened`] or the end.
    pub(super) fn wait(&self, time: Duration) -> Wishes {
        let mut queue = self.queue.lock();
        let wished = queue.wishes.reopen || queue.wishes.close;
        if !wished && queue.waiting.len() <= self.most_chunks / 2 {
            self.wanted.wait_for(&mut queue, time);
        }
        queue.wishes
    }

    /// What is wished now.
    pub(super) fn wishes(&self) -> Wishes {
        self.queue.lock().wishes
    }

    /// Moves all lines that there are to the end of `batch`.
    pub(super) fn take(&self, batch: &mut VecDeque<Vec<u8>>) {
        for Shard(shard) in &self.shards {
            let mut gathering = shard.lock();
            if !gathering.chunk.is_empty() {
                let chunk = std::mem::take(&mut gathering.chunk);
                self.queue.lock().waiting.push_back(chunk);
            }
        }
        batch.append(&mut self.queue.lock().waiting);
    }

    /// Takes a chunk back whose lines are written.
    pub(super) fn give_back(&self, mut chunk: Vec<u8>) {
        chunk.clear();
        let mut queue = self.queue.lock();
        queue.free.push(chunk);
        self.exhausted.store(false, Relaxed);
    }

    /// Takes over what the wall clock says.
    pub(super) fn set_clock(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_began = now.saturating_sub(self.began.elapsed());
        self.wall_at_began.store(at_began.as_micros() as u64, Relaxed);
    }

    /// Counts lines that were made and cannot be written any more.
    pub(super) fn lost(&self, lines: u64) {
        self.counters.log_dropped(lines);
    }

    /// Asks something of the writer.
    pub(super) fn ask(&self, wish: impl FnOnce(&mut Wishes)) {
        wish(&mut self.queue.lock().wishes);
        self.wanted.notify_one();
    }

    /// The writer has opened the file anew.
    pub(super) fn reopened(&self) {
        self.queue.lock().wishes.reopen = false;
    }

    /// The writer ends.
    pub(super) fn end(&self) {
        self.queue.lock().ended = true;
        self.ended.notify_all();
    }

    /// Asks the writer to end and waits for it.
    pub(super) fn close(&self, patience: Duration) {
        self.ask(|wishes| wishes.close = true);
        let mut queue = self.queue.lock();
        self.ended.wait_while_for(&mut queue, |queue| !queue.ended, patience);
    }

    fn shard(&self) -> &Shard {
        // A thread that is being torn down has no thread-locals any more; shard 0 will do.
        let number = THREAD.try_with(|own| {
            if own.get() == usize::MAX {
                own.set(NEXT_THREAD.fetch_add(1, Relaxed));
            }
            own.get()
        });
        &self.shards[number.unwrap_or(0) % self.shards.len()]
    }
}
