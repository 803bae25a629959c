//! One memory made of many servers: each key lives on some of them, and is there as long as one of these is.
//!
//! A key has as many *homes* as the rule for it says: the servers that come first in its [order](super::place::order). Writes go to all
//! homes that are up, at the same time. Reads ask the first that is up, and the others if it has nothing; what it lacks it is given. A
//! home that was away may be older than the others; as long as it is doubted, all are asked and the newest copy counts, by its
//! [version](super::value::Version). If no home is up, the next server in the order stands in.
//!
//! What must be decided once - `add`, `cas`, `incr` - is decided by the first home that is up, by its own compare-and-swap; and `add`,
//! which is how sessions are locked, must come through at all of them, one after the other. So whoever takes a lock has it on every home
//! that is up, and two who see different homes are in each other's way on the one that both see.
//!
//! A deletion leaves a tombstone for a while, so that a copy that somebody is about to put back, or that a server brings along when it
//! returns, is older than that.

pub(crate) mod change;
mod copies;
mod flush;
mod heal;
mod lock;
mod meta;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use smallvec::{SmallVec, smallvec};
use tokio::time::sleep;

use super::key::Key;
use super::place;
use super::servers::link::Replies;
use super::servers::wire::{self, Facts, Only, Reply};
use super::servers::{Away, Server};
use super::value::{self, Kept, Version};
use super::version::Versions;

/// What is configured.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaSettings {
    /// Homes of a key.
    pub(crate) replicas: usize,
    /// Of those that begin so, the first that fits.
    pub(crate) prefixes: Vec<(Vec<u8>, usize)>,
    /// Homes that must have a write before it is answered; `None`: all that are up.
    pub(crate) acknowledge: Option<usize>,
    /// How long a client that finds a session's lock taken is kept waiting for it.
    pub(crate) lock_wait: Duration,
    /// How long a deletion is remembered of which a home that was away knows nothing.
    pub(crate) doubt: Duration,
}

/// How long all homes of a key are away before another server stands in for them.
const STAND_IN_AFTER: Duration = Duration::from_millis(500);

/// How often it is looked whether one is back until then.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a deletion is remembered that all homes have heard of: longer than anything under way.
const SHORT_TOMBSTONE: i64 = 10;

/// What is under a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    pub(crate) version: Version,
    pub(crate) value: Bytes,
    /// `cas` in it is the server's own and means nothing outside.
    pub(crate) facts: Facts,
}

/// What a client wants to be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Write {
    pub(crate) value: Bytes,
    pub(crate) client_flags: u32,
    /// As memcached has it: 0 for ever, up to 30 days from now in seconds, beyond that seconds since 1970, negative: over already.
    pub(crate) exptime: i64,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no memcached server is up")]
    Away,
    #[error("object too large for cache")]
    TooLarge,
    #[error("out of memory storing object")]
    NoMemory,
    /// Others changed it so often meanwhile that it was given up.
    #[error("too many changes of one key at a time")]
    Contended,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Copies that were missing, and given back.
    pub(crate) repaired_missing: AtomicU64,
    /// Copies that were older than another, and replaced.
    pub(crate) repaired_older: AtomicU64,
    /// Requests for which a home was away.
    pub(crate) degraded: AtomicU64,
    /// Requests that no server could be found for.
    pub(crate) failed: AtomicU64,
    pub(crate) locks_taken: AtomicU64,
    pub(crate) locks_refused: AtomicU64,
    /// Freed for those who went away with them.
    pub(crate) locks_given_back: AtomicU64,
}

pub(crate) struct Replicas {
    pub(crate) servers: Vec<Arc<Server>>,
    hashes: Vec<u64>,
    settings: ReplicaSettings,
    versions: Versions,
    queues: lock::Queues,
    pub(crate) counts: Counts,
}

/// The servers that a key is asked for on.
struct Homes<'s> {
    /// Those that are up, the one that decides first.
    up: SmallVec<[&'s Arc<Server>; 3]>,
    /// All homes are up, and what they have may be believed.
    sound: bool,
    /// One that stood in for them while all were away, and may be asked beside them.
    stood_in: Option<&'s Arc<Server>>,
}

impl Replicas {
    pub(crate) fn new(servers: Vec<Arc<Server>>, settings: ReplicaSettings) -> Self {
        let hashes = servers.iter().map(|server| server.hash()).collect();
        Self {
            servers,
            hashes,
            settings,
            versions: Versions::new(),
            queues: lock::Queues::default(),
            counts: Counts::default(),
        }
    }

    /// What the first server that told calls its version.
    pub(crate) fn version(&self) -> String {
        let told = self.servers.iter().find_map(|server| server.told());
        told.map_or_else(|| "1.6".to_owned(), |told| told.version)
    }

    /// How many homes a key has.
    fn homes_of(&self, key: &Key) -> usize {
        let rule = self.settings.prefixes.iter().find(|(prefix, _)| key.wire().starts_with(prefix));
        rule.map_or(self.settings.replicas, |(_, replicas)| *replicas).clamp(1, self.servers.len().max(1))
    }

    /// The servers for a key. Where all its homes are away, they are waited for at first: one that has only stumbled has all that
    /// another would have to do without.
    async fn homes(&self, key: &Key) -> Result<Homes<'_>, Failure> {
        let order = place::order(&self.hashes, key.place());
        let count = self.homes_of(key);
        let server = |position: &u8| &self.servers[usize::from(*position)];
        let (homes, others) = order.split_at(count.min(order.len()));
        loop {
            let up: SmallVec<[&Arc<Server>; 3]> =
                homes.iter().map(server).filter(|server| server.is_up()).collect();
            let next = || others.iter().map(server).find(|server| server.is_up());
            let doubted = up.iter().filter(|server| server.is_doubted()).count();
            if up.len() < count {
                self.counts.degraded.fetch_add(1, Relaxed);
            }
            if !up.is_empty() {
                let stood_in = if doubted == up.len() { next() } else { None };
                return Ok(Homes { sound: up.len() == count && doubted == 0, up, stood_in });
            }
            if homes.iter().any(|home| server(home).down_for().is_none_or(|time| time < STAND_IN_AFTER)) {
                sleep(LOOK_AGAIN).await;
                continue;
            }
            let Some(next) = next() else {
                self.counts.failed.fetch_add(1, Relaxed);
                return Err(Failure::Away);
            };
            return Ok(Homes { up: smallvec![next], sound: false, stood_in: None });
        }
    }

    /// How long a tombstone stays.
    fn tombstone_seconds(&self, homes: &Homes<'_>) -> i64 {
        if homes.sound {
            SHORT_TOMBSTONE
        } else {
            (self.settings.doubt.as_secs() as i64).max(SHORT_TOMBSTONE)
        }
    }

    /// What is under a key.
    ///
    /// # Errors
    ///
    /// No server is up that could have it.
    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Found>, Failure> {
        loop {
            let homes = self.homes(key).await?;
            // The first alone, if what it has is as new as any.
            if homes.up.iter().all(|server| !server.is_doubted()) {
                let mut request = Vec::with_capacity(key.wire().len() + 24);
                wire::push_get(&mut request, key.wire(), b"");
                match homes.up[0].ask(&request, 1).await {
                    Ok(replies) => match self.copy(&replies[0]) {
                        Some((Kept::Value { version, value }, facts)) => {
                            return Ok(Some(Found { version, value, facts }));
                        }
                        Some((Kept::Tombstone { .. }, _)) => return Ok(None),
                        None if homes.up.len() == 1 => return Ok(None),
                        None => {}
                    },
                    // The next home decides from now on.
                    Err(Away) => continue,
                }
            }
            if let Ok(newest) = self.newest(key, &homes).await {
                return Ok(newest.found());
            }
        }
    }

    /// What is under each of several keys, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), for the first that failed.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Found>>, Failure> {
        if let [key] = keys {
            return Ok(vec![self.get(key).await?]);
        }
        let mut found: Vec<Option<Found>> = Vec::new();
        found.resize(keys.len(), None);
        // What one server alone can say is asked there in one go.
        let mut asked: Vec<(&Arc<Server>, Vec<u8>, Vec<usize>)> = Vec::new();
        let mut others = Vec::new();
        for (position, key) in keys.iter().enumerate() {
            let homes = self.homes(key).await?;
            if homes.up.iter().any(|server| server.is_doubted()) {
                others.push(position);
                continue;
            }
            let server = homes.up[0];
            let index =
                asked.iter().position(|(other, ..)| Arc::ptr_eq(other, server)).unwrap_or_else(|| {
                    asked.push((server, Vec::new(), Vec::new()));
                    asked.len() - 1
                });
            wire::push_get(&mut asked[index].1, key.wire(), b"");
            asked[index].2.push(position);
        }
        let answers =
            join_all(asked.iter().map(|(server, requests, at)| server.ask(requests, at.len()))).await;
        for ((_, _, at), replies) in asked.iter().zip(answers) {
            let Ok(replies) = replies else {
                others.extend(at);
                continue;
            };
            for (position, reply) in at.iter().zip(&replies) {
                match self.copy(reply) {
                    Some((Kept::Value { version, value }, facts)) => {
                        found[*position] = Some(Found { version, value, facts });
                    }
                    Some((Kept::Tombstone { .. }, _)) => {}
                    None if self.homes_of(&keys[*position]) > 1 => others.push(*position),
                    None => {}
                }
            }
        }
        let rest = join_all(others.iter().map(|position| self.get(&keys[*position]))).await;
        for (position, answer) in others.into_iter().zip(rest) {
            found[position] = answer?;
        }
        Ok(found)
    }

    /// Writes, whatever was there.
    ///
    /// # Errors
    ///
    /// It is written nowhere.
    pub(crate) async fn set(&self, key: &Key, write: &Write) -> Result<Version, Failure> {
        let version = self.versions.next();
        loop {
            let homes = self.homes(key).await?;
            let request = request_to_set(key, version, write, Only::Always);
            match self.spread(&homes.up, request, 1).await {
                Ok(()) => return Ok(version),
                // All that were up are not any more.
                Err(Failure::Away) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sends the same to many, whose last of `count` answers each says whether it is written.
    async fn spread(&self, servers: &[&Arc<Server>], request: Vec<u8>, count: usize) -> Result<(), Failure> {
        let wanted = self.settings.acknowledge.unwrap_or(usize::MAX);
        if let [server] = servers {
            return outcome(&[server.ask(&request, count).await]);
        }
        if wanted >= servers.len() {
            return outcome(&ask_all(servers, &request, count).await);
        }
        // The others are written too, without anybody waiting for them.
        let mut writing = tokio::task::JoinSet::new();
        let request: Arc<[u8]> = request.into();
        for server in servers {
            let (server, request) = (Arc::clone(server), request.clone());
            writing.spawn(async move { server.ask(&request, count).await });
        }
        let mut done = Vec::new();
        while let Some(answer) = writing.join_next().await {
            done.push(answer.unwrap_or(Err(Away)));
            if done.iter().filter(|answer| outcome(std::slice::from_ref(answer)).is_ok()).count() >= wanted {
                writing.detach_all();
                return Ok(());
            }
        }
        outcome(&done)
    }

    /// Reads a copy, and learns of its version.
    fn copy(&self, reply: &Reply) -> Option<(Kept, Facts)> {
        let Reply::Value(stored, facts) = reply else { return None };
        let kept = match Kept::read(stored.clone()) {
            // Not written by us: the server's own number for it is as good, and smaller than all of ours.
            Kept::Value { version: Version::NONE, value } => {
                Kept::Value { version: Version(facts.cas), value }
            }
            kept => kept,
        };
        self.versions.seen(kept.version());
        Some((kept, *facts))
    }
}

fn request_to_set(key: &Key, version: Version, write: &Write, only: Only) -> Vec<u8> {
    let mut request = Vec::new();
    let parts = [&value::header(version)[..], &write.value];
    wire::push_set(&mut request, key.wire(), &parts, write.client_flags, write.exptime, only);
    request
}

/// Asks several servers the same at the same time.
async fn ask_all(
    servers: &[&Arc<Server>],
    request: &[u8],
    count: usize,
) -> SmallVec<[Result<Replies, Away>; 3]> {
    match servers {
        [server] => smallvec![server.ask(request, count).await],
        [first, second] => {
            let (first, second) = tokio::join!(first.ask(request, count), second.ask(request, count));
            smallvec![first, second]
        }
        _ => join_all(servers.iter().map(|server| server.ask(request, count))).await.into(),
    }
}

/// What came of a write: it is done if one server has it.
fn outcome(answers: &[Result<Replies, Away>]) -> Result<(), Failure> {
    let mut worst = Failure::Away;
    for answer in answers.iter().flatten() {
        match answer.last() {
            Some(Reply::Done(_)) => return Ok(()),
            Some(Reply::TooLarge) => worst = Failure::TooLarge,
            Some(Reply::NoMemory) => worst = Failure::NoMemory,
            // Nothing else is answered to a write without conditions.
            _ => {}
        }
    }
    Err(worst)
}
