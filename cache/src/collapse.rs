//! One fetch for many: requests that want the same answer while it is on its way share it.
//!
//! A fill is an answer in the making. Exactly one [`FillWriter`] pours into it; any number of [`FillReader`]s
//! drink from it, each at its own pace and from the first byte. The writer belongs to a task of its own, so a reader
//! that is slow or leaves neither slows nor ends the fill, unless the body is only passing through
//! ([`Retention::Window`]): then it is paced by the slowest reader and ends with the last.
//!
//! [`Fills`] is the table of fills that newcomers may join. It knows nothing of freshness or purges; who may use what
//! they joined is decided by the caller, from the head (`H`) that the writer publishes.
//!
//! Locks: one short `Mutex` a fill, one a shard of the table; never both at once, never across an await.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many shards the table of fills has; more would not be felt beside the fetches themselves.
const SHARDS: usize = 16;

/// The fills that may be joined, by what they fetch.
#[derive(Debug)]
pub struct Fills<K, H> {
    shards: [Mutex<HashMap<K, Arc<Fill<H>>>>; SHARDS],
    hasher: RandomState,
}

/// What [`Fills::join`] made of a newcomer.
#[derive(Debug)]
pub enum Joined<K: Eq + Hash + Clone, H> {
    /// Nobody was fetching it: the caller has to, and may read along.
    Leader(FillWriter<K, H>, FillReader<H>),
    /// Somebody already is.
    Follower(FillReader<H>),
}

/// How much of a body a fill keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retention {
    /// All of it: it is to be stored, and late readers start at the first byte.
    Whole,
    /// At most about this many bytes ahead of the slowest reader: the body is only passing through. Nobody can join
    /// any more.
    Window(usize),
}

/// Why a reader got no (whole) answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FillFailed {
    /// The writer gave up, or its task ended without a word.
    #[error("the fetch failed")]
    Failed,
    /// The one who was to fetch found that there is no need: look it up again.
    #[error("the fetch was withdrawn")]
    Withdrawn,
}

/// Every reader of a body that only passes through has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nobody reads the answer any more")]
pub struct Abandoned;

#[derive(Debug)]
struct Fill<H> {
    state: Mutex<State<H>>,
    /// Woken at every step of the writer.
    poured: Notify,
    /// Woken when a reader took something or left; only the writer waits for it.
    drained: Notify,
}

#[derive(Debug)]
struct State<H> {
    head: Option<Arc<H>>,
    retention: Retention,
    chunks: VecDeque<Bytes>,
    /// How many chunks were dropped in front of `chunks`; zero while the retention is `Whole`.
    dropped: u64,
    /// Bytes in `chunks`.
    kept_bytes: usize,
    end: End,
    /// The next chunk of every reader, by the reader's number.
    positions: HashMap<u64, u64>,
    next_reader: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Open,
    Complete,
    Failed,
    Withdrawn,
}

impl<K: Eq + Hash + Clone, H> Default for Fills<K, H> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl<K: Eq + Hash + Clone, H> Fills<K, H> {
    fn shard(&self, key: &K) -> &Mutex<HashMap<K, Arc<Fill<H>>>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[index]
    }

    /// Joins the fill of `key`, or starts one.
    pub fn join(self: &Arc<Self>, key: K) -> Joined<K, H> {
        let mut shard = self.shard(&key).lock();
        if let Some(fill) = shard.get(&key) {
            return Joined::Follower(FillReader::new(fill.clone()));
        }
        let fill = Arc::new(Fill::new());
        shard.insert(key.clone(), fill.clone());
        drop(shard);
        let reader = FillReader::new(fill.clone());
        Joined::Leader(FillWriter { fill, seat: Some((self.clone(), key)) }, reader)
    }

    /// A fill of one's own that nobody can join.
    pub fn alone(self: &Arc<Self>) -> (FillWriter<K, H>, FillReader<H>) {
        let fill = Arc::new(Fill::new());
        let reader = FillReader::new(fill.clone());
        (FillWriter { fill, seat: None }, reader)
    }

    /// Takes the reader's fill out of the table, if it still stands there: whoever comes now starts a new one. The
    /// readers that it has are not touched.
    pub fn close(&self, key: &K, reader: &FillReader<H>) {
        self.remove(key, &reader.fill);
    }

    /// Whether somebody fetches `key` and can be joined.
    pub fn is_fetching(&self, key: &K) -> bool {
        self.shard(key).lock().contains_key(key)
    }

    /// How many fills can be joined now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no fill can be joined now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove(&self, key: &K, fill: &Arc<Fill<H>>) {
        let mut shard = self.shard(key).lock();
        // A newer fill may have taken the place; that one stays.
        if shard.get(key).is_some_and(|found| Arc::ptr_eq(found, fill)) {
            shard.remove(key);
        }
    }
}

impl<H> Fill<H> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                head: None,
                retention: Retention::Whole,
                chunks: VecDeque::new(),
                dropped: 0,
                kept_bytes: 0,
                end: End::Open,
                positions: HashMap::new(),
                next_reader: 0,
            }),
            poured: Notify::new(),
            drained: Notify::new(),
        }
    }
}

impl<H> State<H> {
    /// Forgets what every reader has taken, when nobody can come late.
    fn trim(&mut self) {
        if self.retention == Retention::Whole {
            return;
        }
        let end = self.dropped + self.chunks.len() as u64;
        let slowest = self.positions.values().copied().min().unwrap_or(end);
        while self.dropped < slowest {
            if let Some(chunk) = self.chunks.pop_front() {
                self.kept_bytes -= chunk.len();
            }
            self.dropped += 1;
        }
    }
}

/// The one who fetches. Dropped before [`FillWriter::complete`], it fails the fill.
#[derive(Debug)]
pub struct FillWriter<K: Eq + Hash + Clone, H> {
    fill: Arc<Fill<H>>,
    /// Where the fill can be joined; `None` when it cannot.
    seat: Option<(Arc<Fills<K, H>>, K)>,
}

impl<K: Eq + Hash + Clone, H> FillWriter<K, H> {
    /// Makes the head known to all readers. With [`Retention::Window`] nobody can join from now on.
    pub fn publish(&mut self, head: H, retention: Retention) {
        if retention != Retention::Whole {
            self.leave_table();
        }
        let mut state = self.fill.state.lock();
        state.head = Some(Arc::new(head));
        state.retention = retention;
        drop(state);
        self.fill.poured.notify_waiters();
    }

    /// Adds a piece of the body. Waits for the readers when the body only passes through and the window is full.
    ///
    /// Cancel safe: the chunk is added at once, and only the wait is lost.
    ///
    /// # Errors
    ///
    /// [`Abandoned`] when the body only passes through and nobody reads it any more.
    pub async fn pour(&mut self, chunk: Bytes) -> Result<(), Abandoned> {
        self.append(chunk);
        loop {
            // Made before the look, so that a reader that drains in between is not missed.
            let drained = self.fill.drained.notified();
            {
                let mut state = self.fill.state.lock();
                let Retention::Window(window) = state.retention else { return Ok(()) };
                state.trim();
                if state.positions.is_empty() {
                    return Err(Abandoned);
                }
                if state.kept_bytes <= window {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Adds a piece of the body, and waits for nobody: for bodies that are kept.
    pub fn append(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            let mut state = self.fill.state.lock();
            state.kept_bytes += chunk.len();
            state.chunks.push_back(chunk);
            drop(state);
            self.fill.poured.notify_waiters();
        }
    }

    /// From now on the body only passes through: it has become too large to be kept. Nobody can join any more.
    pub fn let_through(&mut self, window: usize) {
        self.leave_table();
        let mut state = self.fill.state.lock();
        state.retention = Retention::Window(window);
        state.trim();
    }

    /// Bytes of the body that the fill holds now.
    pub fn kept_bytes(&self) -> usize {
        self.fill.state.lock().kept_bytes
    }

    /// The whole body in one piece; copied when it came in several. Only of use while the retention is
    /// [`Retention::Whole`].
    pub fn body(&self) -> Bytes {
        // The pieces are shared, so the lock is not held while they are copied.
        let (pieces, length): (Vec<Bytes>, usize) = {
            let state = self.fill.state.lock();
            (state.chunks.iter().cloned().collect(), state.kept_bytes)
        };
        if let [only] = &pieces[..] {
            return only.clone();
        }
        let mut whole = Vec::with_capacity(length);
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        Bytes::from(whole)
    }

    /// Nobody can join from now on; readers that are there stay.
    pub fn leave_table(&mut self) {
        if let Some((fills, key)) = self.seat.take() {
            fills.remove(&key, &self.fill);
        }
    }

    /// The body is whole. What is to be stored has to be in the store by now: the fill leaves the table here, and a
    /// request that finds neither would fetch again.
    pub fn complete(mut self) {
        self.end(End::Complete);
    }

    /// Does not fetch after all: readers get [`FillFailed::Withdrawn`] and look again.
    pub fn withdraw(mut self) {
        self.end(End::Withdrawn);
    }

    /// Gives up: readers get [`FillFailed::Failed`].
    pub fn fail(mut self) {
        self.end(End::Failed);
    }

    fn end(&mut self, end: End) {
        // Out of the table first: a reader woken by a failure may try again and must not meet the same fill.
        self.leave_table();
        let mut state = self.fill.state.lock();
        if state.end == End::Open {
            state.end = end;
        }
        drop(state);
        self.fill.poured.notify_waiters();
    }
}

impl<K: Eq + Hash + Clone, H> Drop for FillWriter<K, H> {
    fn drop(&mut self) {
        // After `complete` or `fail` this changes nothing.
        self.end(End::Failed);
    }
}

/// One who reads a fill. Dropping it is leaving.
#[derive(Debug)]
pub struct FillReader<H> {
    fill: Arc<Fill<H>>,
    number: u64,
}

impl<H> FillReader<H> {
    fn new(fill: Arc<Fill<H>>) -> Self {
        let mut state = fill.state.lock();
        let number = state.next_reader;
        state.next_reader += 1;
        let first = state.dropped;
        state.positions.insert(number, first);
        drop(state);
        Self { fill, number }
    }

    /// Waits for the head. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`FillFailed`] when the fetch ended without one.
    pub async fn head(&self) -> Result<Arc<H>, FillFailed> {
        loop {
            let poured = self.fill.poured.notified();
            tokio::pin!(poured);
            // `notify_waiters` reaches only those who are registered: register before the look.
            poured.as_mut().enable();
            {
                let state = self.fill.state.lock();
                if let Some(head) = &state.head {
                    return Ok(head.clone());
                }
                match state.end {
                    End::Open => {}
                    End::Complete | End::Failed => return Err(FillFailed::Failed),
                    End::Withdrawn => return Err(FillFailed::Withdrawn),
                }
            }
            poured.await;
        }
    }

    /// Waits for the next pieces of the body and appends them to `into`, at most about `limit` bytes. `Ok(false)` at
    /// the end of the body, with nothing appended. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`FillFailed`] when the body broke off, after all that had come was read.
    pub async fn read(&mut self, into: &mut Vec<Bytes>, limit: usize) -> Result<bool, FillFailed> {
        loop {
            let poured = self.fill.poured.notified();
            tokio::pin!(poured);
            poured.as_mut().enable();
            {
                let mut state = self.fill.state.lock();
                let state = &mut *state;
                let Some(position) = state.positions.get_mut(&self.number) else {
                    return Err(FillFailed::Failed);
                };
                let start = (*position - state.dropped) as usize;
                let mut taken = 0;
                for chunk in state.chunks.iter().skip(start) {
                    into.push(chunk.clone());
                    taken += chunk.len();
                    *position += 1;
                    if taken >= limit {
                        break;
                    }
                }
                if taken > 0 {
                    if state.retention != Retention::Whole {
                        state.trim();
                        self.fill.drained.notify_one();
                    }
                    return Ok(true);
                }
                match state.end {
                    End::Open => {}
                    End::Complete => return Ok(false),
                    End::Failed => return Err(FillFailed::Failed),
                    End::Withdrawn => return Err(FillFailed::Withdrawn),
                }
            }
            poured.await;
        }
    }

    /// Whether the whole answer is there, so that its length is known: its bytes, if so.
    pub fn whole_length(&self) -> Option<usize> {
        let state = self.fill.state.lock();
        (state.end == End::Complete && state.dropped == 0).then_some(state.kept_bytes)
    }
}

impl<H> Drop for FillReader<H> {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.positions.remove(&self.number);
        state.trim();
        drop(state);
        self.fill.drained.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    type Table = Fills<u32, &'static str>;

    fn lead(fills: &Arc<Table>, key: u32) -> (FillWriter<u32, &'static str>, FillReader<&'static str>) {
        match fills.join(key) {
            Joined::Leader(writer, reader) => (writer, reader),
            Joined::Follower(_) => panic!("{key} is already being fetched"),
        }
    }

    fn follow(fills: &Arc<Table>, key: u32) -> FillReader<&'static str> {
        match fills.join(key) {
            Joined::Leader(..) => panic!("nobody fetches {key}"),
            Joined::Follower(reader) => reader,
        }
    }

    async fn drink(reader: &mut FillReader<&'static str>) -> Result<String, FillFailed> {
        let mut pieces = Vec::new();
        while reader.read(&mut pieces, 3).await? {}
        Ok(pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect())
    }

    #[tokio::test]
    async fn all_readers_get_the_whole_body_from_its_first_byte() {
        let fills = Arc::new(Table::default());
        let (mut writer, mut first) = lead(&fills, 1);
        writer.publish("head", Retention::Whole);
        writer.pour(Bytes::from_static(b"hello ")).await.unwrap();
        let mut second = follow(&fills, 1);
        writer.pour(Bytes::from_static(b"world")).await.unwrap();
        assert_eq!(writer.body(), "hello world");
        writer.complete();
        assert_eq!(first.head().await.map(|head| *head), Ok("head"));
        assert_eq!(drink(&mut first).await.as_deref(), Ok("hello world"));
        assert_eq!(drink(&mut second).await.as_deref(), Ok("hello world"));
        assert!(fills.is_empty());
    }

    #[tokio::test]
    async fn a_writer_that_vanishes_fails_its_readers_and_frees_the_key() {
        let fills = Arc::new(Table::default());
        let (writer, reader) = lead(&fills, 1);
        let waiting = tokio::spawn(async move { reader.head().await.map(|head| *head) });
        tokio::task::yield_now().await;
        drop(writer);
        assert_eq!(waiting.await.unwrap(), Err(FillFailed::Failed));
        let _ = lead(&fills, 1);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_does_not_end_a_fill_that_is_kept() {
        let fills = Arc::new(Table::default());
        let (mut writer, reader) = lead(&fills, 1);
        drop(reader);
        writer.publish("head", Retention::Whole);
        for _ in 0..100 {
            writer.pour(Bytes::from_static(&[b'x'; 1000])).await.unwrap();
        }
        assert_eq!(writer.body().len(), 100_000);
    }

    #[tokio::test]
    async fn what_passes_through_is_paced_by_the_slowest_reader_and_ends_with_the_last() {
        let fills = Arc::new(Table::default());
        let (mut writer, mut reader) = lead(&fills, 1);
        writer.publish("head", Retention::Window(1000));
        assert!(fills.is_empty(), "nobody can join what is not kept");
        let pouring = tokio::spawn(async move {
            let mut poured = 0;
            while writer.pour(Bytes::from_static(&[b'x'; 600])).await.is_ok() {
                poured += 1;
                assert!(writer.kept_bytes() <= 1600, "the window holds");
                if poured == 50 {
                    writer.complete();
                    return true;
                }
            }
            false
        });
        assert_eq!(drink(&mut reader).await.unwrap().len(), 30_000);
        assert!(pouring.await.unwrap());

        let (mut writer, reader) = lead(&fills, 2);
        writer.publish("head", Retention::Window(1000));
        let pouring =
            tokio::spawn(async move { while writer.pour(Bytes::from_static(&[b'x'; 600])).await.is_ok() {} });
        tokio::task::yield_now().await;
        drop(reader);
        pouring.await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_grows_too_large_turns_to_passing_through_for_all_its_readers() {
        let fills = Arc::new(Table::default());
        let (mut writer, mut quick) = lead(&fills, 1);
        let mut slow = follow(&fills, 1);
        writer.publish("head", Retention::Whole);
        writer.pour(Bytes::from_static(b"aaaa")).await.unwrap();
        let mut pieces = Vec::new();
        assert_eq!(quick.read(&mut pieces, 100).await, Ok(true));
        writer.let_through(100);
        writer.pour(Bytes::from_static(b"bbbb")).await.unwrap();
        writer.complete();
        assert_eq!(drink(&mut quick).await.as_deref(), Ok("bbbb"));
        assert_eq!(drink(&mut slow).await.as_deref(), Ok("aaaabbbb"));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error_after_what_had_come() {
        let fills = Arc::new(Table::default());
        let (mut writer, mut reader) = lead(&fills, 1);
        writer.publish("head", Retention::Whole);
        writer.pour(Bytes::from_static(b"half")).await.unwrap();
        writer.fail();
        let mut pieces = Vec::new();
        assert_eq!(reader.read(&mut pieces, 100).await, Ok(true));
        assert_eq!(reader.read(&mut pieces, 100).await, Err(FillFailed::Failed));
    }

    #[tokio::test]
    async fn a_closed_fill_keeps_its_readers_and_makes_way_for_a_new_one() {
        let fills = Arc::new(Table::default());
        let (old, old_reader) = lead(&fills, 1);
        fills.close(&1, &old_reader);
        let (new, _new_reader) = lead(&fills, 1);
        drop(old);
        let _still_there = follow(&fills, 1);
        drop(new);
        assert!(fills.is_empty());
    }

    // Races: the end of a fill against its readers' registration, and joins against the end. Real threads, many rounds.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_reader_misses_the_end_however_they_race() {
        let fills = Arc::new(Table::default());
        for round in 0..500 {
            let (mut writer, leader) = lead(&fills, round);
            let mut readers = vec![leader];
            readers.extend((0..7).map(|_| follow(&fills, round)));
            let reading: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    tokio::spawn(async move {
                        reader.head().await.unwrap();
                        drink(&mut reader).await.unwrap()
                    })
                })
                .collect();
            let writing = tokio::spawn(async move {
                writer.publish("head", Retention::Whole);
                writer.pour(Bytes::from_static(b"ab")).await.unwrap();
                writer.pour(Bytes::from_static(b"cd")).await.unwrap();
                writer.complete();
            });
            writing.await.unwrap();
            for reader in reading {
                assert_eq!(reader.await.unwrap(), "abcd");
            }
        }
    }
}
