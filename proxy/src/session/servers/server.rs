//! One memcached server: its connections, and whether it is there.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tracing::{info, warn};

use super::link::{Address, Link, Replies};
use crate::session::place;

/// What is the same for all servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerSettings {
    /// How long a server may take for what it is asked.
    pub(crate) timeout: Duration,
    /// Connections to each.
    pub(crate) connections: usize,
    /// Bytes that an item may have there.
    pub(crate) most_bytes: usize,
    /// How long one that was away and kept what it had is not believed alone.
    pub(crate) doubt: Duration,
}

/// The server did not answer, or cannot: another has to be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the memcached server does not answer")]
pub(crate) struct Away;

/// What a process tells of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) version: String,
    pub(crate) pid: u64,
    pub(crate) uptime: u64,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) limit_bytes: u64,
    pub(crate) evictions: u64,
}

#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    /// What it is called in the configuration, and its places depend on.
    name: String,
    hash: u64,
    settings: ServerSettings,
    /// Connections at rest, the last used last.
    idle: Mutex<Vec<(u64, Link)>>,
    /// How often it was found to be away: connections from before tell nothing of how it is now.
    era: AtomicU64,
    /// Requests in a row that it did not answer in time.
    late: AtomicU64,
    /// When it was found to be away, in milliseconds since `began`.
    down_since: AtomicU64,
    room: Semaphore,
    up: AtomicBool,
    /// In milliseconds since `began`.
    doubted_until: AtomicU64,
    began: Instant,
    told: Mutex<Option<Told>>,
    /// Wakes the one who looks after it.
    pub(super) lost: Notify,
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) outages: AtomicU64,
}

impl Server {
    /// A server that is taken for up until it is found not to be.
    pub(crate) fn new(address: Address, settings: ServerSettings) -> Self {
        let name = address.to_string();
        Self {
            hash: place::hash(name.as_bytes()),
            address,
            name,
            settings,
            idle: Mutex::default(),
            era: AtomicU64::new(0),
            late: AtomicU64::new(0),
            down_since: AtomicU64::new(0),
            room: Semaphore::new(settings.connections),
            up: AtomicBool::new(true),
            // Nobody knows what it has missed before we came.
            doubted_until: AtomicU64::new(settings.doubt.as_millis() as u64),
            began: Instant::now(),
            told: Mutex::default(),
            lost: Notify::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Whether what it has may be older than what others have.
    pub(crate) fn is_doubted(&self) -> bool {
        let until = self.doubted_until.load(Relaxed);
        // Nearly always the doubt is over, and then nobody need know the time.
        until != 0 && {
            let doubted = self.now() < until;
            if !doubted {
                // Who doubts it anew meanwhile has a later time than this.
                let _ = self.doubted_until.compare_exchange(until, 0, Relaxed, Relaxed);
            }
            doubted
        }
    }

    /// What it told last.
    pub(crate) fn told(&self) -> Option<Told> {
        self.told.lock().clone()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Asks `count` things, put one behind the other in `requests`. They may reach the server more than once: of a write with a
    /// condition, that it did not hold may mean that it did the first time.
    ///
    /// May be dropped at any time; the connection goes with it.
    ///
    /// # Errors
    ///
    /// It is away, or answers too late. It counts as down from then on, and is asked again once a probe succeeded.
    pub(crate) async fn ask(&self, requests: &[u8], count: usize) -> Result<Replies, Away> {
        while self.is_up() {
            self.counts.requests.fetch_add(count as u64, Relaxed);
            let mut era = self.era.load(Relaxed);
            match timeout(self.settings.timeout, self.exchange(requests, count, &mut era)).await {
                Ok(Ok(replies)) => {
                    self.late.store(0, Relaxed);
                    return Ok(replies);
                }
                Ok(Err(error)) => {
                    self.failed(&error, era);
                    return Err(Away);
                }
                // Asked again, until it is known one way or the other.
                Err(_) => self.is_late(era),
            }
        }
        Err(Away)
    }

    /// `era` becomes that of the connection.
    async fn exchange(&self, requests: &[u8], count: usize, era: &mut u64) -> io::Result<Replies> {
        // Never closed, so the permit is only a matter of time.
        let _permit = self.room.acquire().await;
        let mut link = match self.take_idle() {
            Some((opened_in, link)) => {
                *era = opened_in;
                link
            }
            None => Link::open(&self.address).await?,
        };
        let replies = link.exchange(requests, count, self.settings.most_bytes).await?;
        // A server that was found to be away meanwhile has none of its old connections any more.
        if *era == self.era.load(Relaxed) {
            self.idle.lock().push((*era, link));
        }
        Ok(replies)
    }

    fn take_idle(&self) -> Option<(u64, Link)> {
        loop {
            let (era, link) = self.idle.lock().pop()?;
            if link.is_quiet() {
                return Some((era, link));
            }
        }
    }

    /// Lets it forget everything after so many seconds.
    ///
    /// # Errors
    ///
    /// It did not hear of it.
    pub(crate) async fn flush(&self, delay: i64) -> io::Result<()> {
        if !self.is_up() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let request = format!("flush_all {delay}\r\n");
        let flushed = async { Link::open(&self.address).await?.lines(request.as_bytes(), |_| {}).await };
        timeout(self.settings.timeout, flushed).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Gives the keys of everything it has, up to `most`. What is written meanwhile may be missing.
    ///
    /// # Errors
    ///
    /// It went away, or another asks it for the same.
    pub(crate) async fn keys(&self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let mut link = Link::open(&self.address).await?;
        link.lines(b"lru_crawler metadump all\r\n", |line| {
            let key = line.strip_prefix(b"key=").and_then(|line| line.split(|byte| *byte == b' ').next());
            if let Some(key) = key
                && keys.len() < most
            {
                keys.push(decoded(key));
            }
        })
        .await?;
        Ok(keys)
    }

    /// A request was not answered in time. What it did there nobody knows, so the server is doubted; a single one says no more, for
    /// it may have been us who were late.
    fn is_late(&self, era: u64) {
        self.doubt(self.settings.doubt);
        if self.late.fetch_add(1, Relaxed) + 1 >= MOST_LATE {
            self.failed(&io::ErrorKind::TimedOut.into(), era);
        }
    }

    /// A connection of that era failed: it counts as down from now on.
    fn failed(&self, error: &io::Error, era: u64) {
        self.counts.failures.fetch_add(1, Relaxed);
        self.doubt(self.settings.doubt.min(SHORT_DOUBT));
        // Of many who find out at once, one says so; and those who come late, when it is back, say nothing.
        if self.era.compare_exchange(era, era + 1, Relaxed, Relaxed).is_err() {
            return;
        }
        self.down_since.store(self.now(), Relaxed);
        if self.up.swap(false, Relaxed) {
            self.counts.outages.fetch_add(1, Relaxed);
            warn!(server = %self.name, %error, "memcached server is down");
        }
        self.idle.lock().clear();
        self.lost.notify_one();
    }

    /// Is doubted for so long from now on, at least.
    fn doubt(&self, time: Duration) {
        if !time.is_zero() {
            self.doubted_until.fetch_max(self.now() + time.as_millis() as u64, Relaxed);
        }
    }

    /// How long it has been away; `None` if it is up.
    pub(crate) fn down_for(&self) -> Option<Duration> {
        (!self.is_up())
            .then(|| Duration::from_millis(self.now().saturating_sub(self.down_since.load(Relaxed))))
    }

    /// It answered a probe with this. Tells whether it was down before; `kept` says whether a process that was restarted has
    /// what the one before it had.
    pub(super) fn answered(&self, told: Told, kept: bool) -> bool {
        let before = self.told.lock().replace(told.clone());
        let returned = !self.up.load(Relaxed);
        let doubt = match &before {
            // What it had before we knew it is as old as it is.
            None => self.settings.doubt.min(Duration::from_secs(told.uptime + 1)),
            Some(before) if returned && (kept || before.pid == told.pid) => self.settings.doubt,
            // A new one has nothing, and what is missing is asked for elsewhere. What another edge has written since may be
            // older than what we have written past it.
            Some(_) if returned => self.settings.doubt.min(SHORT_DOUBT),
            Some(_) => return false,
        };
        if before.is_none() && !returned {
            // It was doubted for longer, before it was known how young it is.
            self.doubted_until.store(0, Relaxed);
        }
        self.doubt(doubt);
        self.late.store(0, Relaxed);
        if returned {
            self.up.store(true, Relaxed);
            info!(server = %self.name, items = told.items, "memcached server is up");
        }
        returned
    }

    /// A probe failed.
    pub(super) fn missed(&self, error: &io::Error) {
        if self.is_up() {
            self.failed(error, self.era.load(Relaxed));
        }
    }
}

/// A key as a server lists it: percent-encoded.
fn decoded(key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key;
    while let [byte, behind @ ..] = rest {
        let encoded = behind.first_chunk::<2>().filter(|_| *byte == b'%');
        let hex = encoded.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*byte));
        rest = if hex.is_some() { &behind[2..] } else { behind };
    }
    bytes
}

/// Requests in a row that are not answered in time before a server counts as down.
const MOST_LATE: u64 = 3;

/// How long edges may disagree on whether a server is up.
const SHORT_DOUBT: Duration = Duration::from_secs(10);
