//! The live tail: records for those who look on.
//!
//! Each reader has a filter and a bounded piece of memory. A record is tested against the filters by the thread that
//! answered the request, and what a reader wants is written into that reader's memory, under a lock that nobody holds for
//! longer than a line takes. So a reader of few among very many misses none of them. One who does not keep up loses records,
//! is told how many, and holds up nobody.
//!
//! While nobody listens, a request pays for a look at one number that nobody changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::date::Date;
use super::filter::Filter;
use super::line::{self, Format};
use super::record::Record;
use crate::admin::{Counters, Limit};

/// Readers at once. Each costs every request a test of its filter.
pub(crate) const MOST_READERS: usize = 16;

/// Bytes of lines that wait for a reader; some thousand lines.
const MOST_BYTES: usize = 1 << 20;

/// Where those who look on are.
pub(crate) struct Tail {
    counters: Arc<Counters>,
    /// How many readers there are; what a request looks at.
    listening: AtomicUsize,
    /// The readers. Changed under `changing` only.
    readers: ArcSwap<Vec<Arc<Waiting>>>,
    changing: Mutex<()>,
}

/// What one reader wants, and what waits for it.
struct Waiting {
    filter: Filter,
    gathered: Mutex<Gathered>,
    /// Tells that something waits.
    wanted: Notify,
}

struct Gathered {
    lines: Vec<u8>,
    dropped: u64,
    /// The date of the last line.
    date: Date,
}

/// What has gathered for a reader since it last asked.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// JSON objects, each with the end of its line.
    pub(crate) lines: Vec<u8>,
    /// Records that there was no room for behind these lines.
    pub(crate) dropped: u64,
}

/// There are [`MOST_READERS`] already.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{MOST_READERS} others read the log already")]
pub(crate) struct Crowded;

/// One who looks on, until it is dropped.
pub(crate) struct Reader {
    tail: Arc<Tail>,
    waiting: Arc<Waiting>,
}

impl Tail {
    pub(crate) fn new(counters: Arc<Counters>) -> Arc<Self> {
        let readers = ArcSwap::default();
        Arc::new(Self { counters, listening: AtomicUsize::new(0), readers, changing: Mutex::new(()) })
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.listening.load(Relaxed) > 0
    }

    /// How many do.
    pub(crate) fn readers(&self) -> u64 {
        self.listening.load(Relaxed) as u64
    }

    /// Has all records from now on that the filter wants.
    ///
    /// # Errors
    ///
    /// [`Crowded`], which is counted.
    pub(crate) fn listen(self: &Arc<Self>, filter: Filter) -> Result<Reader, Crowded> {
        let gathered = Gathered { lines: Vec::new(), dropped: 0, date: Date::of(0) };
        let waiting = Arc::new(Waiting { filter, gathered: Mutex::new(gathered), wanted: Notify::new() });
        let changing = self.changing.lock();
        let mut readers = Vec::clone(&self.readers.load());
        if readers.len() >= MOST_READERS {
            drop(changing);
            self.counters.limit(Limit::TailReaders);
            return Err(Crowded);
        }
        readers.push(waiting.clone());
        self.listening.store(readers.len(), Relaxed);
        self.readers.store(Arc::new(readers));
        drop(changing);
        Ok(Reader { tail: self.clone(), waiting })
    }

    /// Gives a record to those who want it.
    pub(super) fn show(&self, record: &Record<'_>) {
        let readers = self.readers.load();
        if readers.is_empty() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let most = line::most_bytes(record);
        for reader in readers.iter().filter(|reader| reader.filter.wants(record)) {
            let mut gathered = reader.gathered.lock();
            let Gathered { lines, dropped, date } = &mut *gathered;
            // Once something is lost, all is until the reader comes: it is told where.
            if *dropped > 0 || lines.len() + most > MOST_BYTES {
                *dropped += 1;
                drop(gathered);
                self.counters.limit(Limit::TailRecords);
                continue;
            }
            let first = lines.is_empty();
            date.advance(wall);
            line::push(lines, Format::Json, record, date, wall);
            drop(gathered);
            if first {
                reader.wanted.notify_one();
            }
        }
    }
}

impl Reader {
    /// What has gathered, as soon as there is something. Cancel safe: nothing is lost.
    pub(crate) async fn next(&self) -> Batch {
        loop {
            let batch = self.take();
            if !batch.lines.is_empty() || batch.dropped > 0 {
                return batch;
            }
            self.waiting.wanted.notified().await;
        }
    }

    fn take(&self) -> Batch {
        let mut gathered = self.waiting.gathered.lock();
        Batch { lines: std::mem::take(&mut gathered.lines), dropped: std::mem::take(&mut gathered.dropped) }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _changing = self.tail.changing.lock();
        let mut readers = Vec::clone(&self.tail.readers.load());
        readers.retain(|reader| !Arc::ptr_eq(reader, &self.waiting));
        self.tail.listening.store(readers.len(), Relaxed);
        self.tail.readers.store(Arc::new(readers));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::super::record::{Asked, Ended};
    use super::*;
    use crate::admin::RequestResult;

    fn show(tail: &Tail, target: &str, status: u16) {
        let asked = Asked { method: b"GET", target: target.as_bytes(), ..Asked::default() };
        let took = Duration::from_micros(10);
        let ended = Ended { result: RequestResult::Hit, status, sent_bytes: 1, took, node: None };
        tail.show(&Record { asked, ended });
    }

    fn listen(tail: &Arc<Tail>, filter: &str) -> Reader {
        tail.listen(Filter::read(filter).unwrap()).unwrap()
    }

    async fn targets(reader: &Reader) -> Vec<String> {
        let lines = reader.next().await.lines;
        let target = |line: &str| -> String {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["target"].as_str().unwrap().to_owned()
        };
        String::from_utf8(lines).unwrap().lines().map(target).collect()
    }

    #[tokio::test]
    async fn each_reader_gets_what_it_wants() {
        let tail = Tail::new(Counters::new());
        show(&tail, "/before", 200);
        let (all, failed) = (listen(&tail, ""), listen(&tail, "status>=500"));
        assert!(tail.is_heard());
        show(&tail, "/a", 200);
        show(&tail, "/b", 503);
        assert_eq!(targets(&all).await, ["/a", "/b"]);
        assert_eq!(targets(&failed).await, ["/b"]);
        drop(failed);
        show(&tail, "/c", 200);
        assert_eq!(targets(&all).await, ["/c"]);
        drop(all);
        assert!(!tail.is_heard());
    }

    #[tokio::test]
    async fn one_who_waits_is_woken() {
        let tail = Tail::new(Counters::new());
        let reader = listen(&tail, "");
        let other = tail.clone();
        let waiting = tokio::spawn(async move { targets(&reader).await });
        tokio::task::yield_now().await;
        show(&other, "/a", 200);
        assert_eq!(waiting.await.unwrap(), ["/a"]);
    }

    #[tokio::test]
    async fn one_who_does_not_read_loses_records_and_is_told() {
        let counters = Counters::new();
        let tail = Tail::new(counters.clone());
        let (slow, quick) = (listen(&tail, ""), listen(&tail, "path==/0"));
        const RECORDS: u64 = 10_000;
        for number in 0..RECORDS {
            show(&tail, &format!("/{number}"), 200);
        }
        let batch = slow.next().await;
        assert!(batch.lines.len() <= MOST_BYTES);
        let lines = batch.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert!(lines > 1_000 && batch.dropped == RECORDS - lines, "{lines} and {}", batch.dropped);
        assert_eq!(counters.totals().limit(Limit::TailRecords), batch.dropped);
        assert_eq!(targets(&quick).await, ["/0"], "nobody else loses anything by it");
        show(&tail, "/after", 200);
        assert_eq!(targets(&slow).await, ["/after"]);
    }

    #[test]
    fn readers_are_bounded_in_number() {
        let counters = Counters::new();
        let tail = Tail::new(counters.clone());
        let mut readers: Vec<Reader> = (0..MOST_READERS).map(|_| listen(&tail, "")).collect();
        assert_eq!(tail.listen(Filter::read("").unwrap()).err(), Some(Crowded));
        assert_eq!(counters.totals().limit(Limit::TailReaders), 1);
        readers.pop();
        listen(&tail, "");
    }
}
