//! Writes that depend on what is there.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use smallvec::SmallVec;

use super::copies::{Copy, exptime_of};
use super::{Failure, Found, Homes, Replicas, SHORT_TOMBSTONE, Write, ask_all, request_to_set};
use crate::session::key::Key;
use crate::session::servers::link::Replies;
use crate::session::servers::wire::{self, Only, Reply};
use crate::session::servers::{Away, Server};
use crate::session::value::{self, Kept, Version};

/// How often a change is tried against others of the same key.
const TRIES: usize = 500;

/// What came of a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Changed<T> {
    Written(Version),
    /// There was no reason to write.
    Left(T),
}

impl Found {
    /// What is to be written in its place, with the time that it has left.
    pub(crate) fn with(&self, value: Bytes) -> Write {
        let exptime = if self.facts.ttl < 0 { 0 } else { exptime_of(self.facts.ttl) };
        Write { value, client_flags: self.facts.client_flags, exptime }
    }
}

impl Replicas {
    /// Writes what `decide` makes of what is there, and of nothing else: the first home sees to that.
    ///
    /// # Errors
    ///
    /// It is written nowhere.
    pub(crate) async fn change<T>(
        &self,
        key: &Key,
        mut decide: impl FnMut(Option<Found>) -> Result<Write, T>,
    ) -> Result<Changed<T>, Failure> {
        let mut tried = None;
        for _ in 0..TRIES {
            let homes = self.homes(key).await?;
            let Ok(newest) = self.newest(key, &homes).await else { continue };
            let found = newest.value();
            // The answer to our own write came too late.
            if let (Some(found), Some(version)) = (&found, tried)
                && found.version == version
            {
                return Ok(Changed::Written(version));
            }
            let write = match decide(found) {
                Ok(write) => write,
                Err(left) => return Ok(Changed::Left(left)),
            };
            // Another has written to it while it was repaired.
            let Some((first, others)) = newest.copies.split_first() else { continue };
            if !Arc::ptr_eq(first.server, homes.up[0]) {
                continue;
            }
            let version = self.versions.next();
            tried = Some(version);
            let request = request_to_set(key, version, &write, first.only);
            match first.server.ask(&request, 1).await.as_deref() {
                Ok([Reply::Done(_)]) => {}
                Ok([Reply::TooLarge]) => return Err(Failure::TooLarge),
                Ok([Reply::NoMemory]) => return Err(Failure::NoMemory),
                // Changed by another since, or away: once more, from the start.
                Ok(_) | Err(Away) => continue,
            }
            let others: SmallVec<[_; 3]> = others.iter().map(|copy| copy.server).collect();
            if !others.is_empty() {
                // What was decided holds, whether the others hear of it or not.
                let _ = self.spread(&others, request_to_set(key, version, &write, Only::Always), 1).await;
            }
            return Ok(Changed::Written(version));
        }
        Err(Failure::Contended)
    }

    /// Writes if nothing is there; waits for the lock of a session. `None` if something is there.
    ///
    /// # Errors
    ///
    /// It is written nowhere.
    pub(crate) async fn add_or_wait(&self, key: &Key, write: &Write) -> Result<Option<Version>, Failure> {
        if !key.is_lock() {
            return self.add(key, write).await;
        }
        let added = self.add_lock(key, write).await?;
        let count = if added.is_some() { &self.counts.locks_taken } else { &self.counts.locks_refused };
        count.fetch_add(1, Relaxed);
        Ok(added)
    }

    /// Writes if nothing is there. `None` if something is.
    ///
    /// # Errors
    ///
    /// It is written nowhere.
    pub(crate) async fn add(&self, key: &Key, write: &Write) -> Result<Option<Version>, Failure> {
        for _ in 0..TRIES {
            let homes = self.homes(key).await?;
            match self.add_everywhere(key, write, &homes).await? {
                Added::Everywhere(version) => return Ok(Some(version)),
                Added::Refused => return Ok(None),
                Added::Unsettled => {}
            }
        }
        Err(Failure::Contended)
    }

    async fn add_everywhere<'s>(
        &'s self,
        key: &Key,
        write: &Write,
        homes: &Homes<'s>,
    ) -> Result<Added, Failure> {
        let Ok(newest) = self.newest(key, homes).await else { return Ok(Added::Unsettled) };
        if newest.value().is_some() {
            return Ok(Added::Refused);
        }
        let version = self.versions.next();
        let mut added: SmallVec<[(&Arc<Server>, u64); 3]> = SmallVec::new();
        // One after the other, and by everybody in the same order: whoever has the first has the others too, unless somebody sees
        // other servers as up. Then one of the two is refused where both come.
        for Copy { server, only, .. } in &newest.copies {
            let request = request_to_set(key, version, write, *only);
            let failure = match server.ask(&request, 1).await.as_deref() {
                Ok([Reply::Done(done)]) => {
                    added.push((server, done.cas));
                    continue;
                }
                // Whether it has it or not: it is none of the homes any more.
                Err(Away) => continue,
                Ok([Reply::TooLarge]) => Some(Failure::TooLarge),
                Ok([Reply::NoMemory]) => Some(Failure::NoMemory),
                // Another was quicker; unless that was us.
                Ok(_) => match self.added_before(server, key, version).await {
                    Some(cas) => {
                        added.push((server, cas));
                        continue;
                    }
                    None => None,
                },
            };
            self.take_back(key, &added).await;
            return failure.map_or(Ok(Added::Unsettled), Err);
        }
        Ok(if added.is_empty() { Added::Unsettled } else { Added::Everywhere(version) })
    }

    /// Whether a server has what we have just added, although it did not say so; gives its CAS.
    async fn added_before(&self, server: &Arc<Server>, key: &Key, version: Version) -> Option<u64> {
        let mut request = Vec::new();
        wire::push_get(&mut request, key.wire(), b"");
        let replies = server.ask(&request, 1).await.ok()?;
        let (kept, facts) = self.copy(replies.first()?)?;
        (kept.version() == version).then_some(facts.cas)
    }

    /// Removes what was added on the way to a refusal.
    async fn take_back(&self, key: &Key, added: &[(&Arc<Server>, u64)]) {
        for (server, cas) in added {
            let mut request = Vec::new();
            wire::push_delete(&mut request, key.wire(), Some(*cas), b"");
            let _ = server.ask(&request, 1).await;
        }
    }

    /// Deletes; tells whether there was something.
    ///
    /// # Errors
    ///
    /// No server heard of it.
    pub(crate) async fn delete(&self, key: &Key) -> Result<bool, Failure> {
        let version = self.versions.next();
        loop {
            let homes = self.homes(key).await?;
            let mut request = Vec::new();
            wire::push_get(&mut request, key.wire(), b"");
            self.push_tombstone(&mut request, key, version, &homes, Only::Always);
            let servers: SmallVec<[_; 4]> = homes.up.iter().copied().chain(homes.stood_in).collect();
            let answers = ask_all(&servers, &request, 2).await;
            if answers.iter().all(Result::is_err) {
                continue;
            }
            self.lock_freed(key);
            return Ok(self.was_there(&answers));
        }
    }

    /// Deletes what has this version.
    ///
    /// # Errors
    ///
    /// No server heard of it.
    pub(crate) async fn delete_if(&self, key: &Key, expected: Version) -> Result<Deleted, Failure> {
        for _ in 0..TRIES {
            let homes = self.homes(key).await?;
            let Ok(newest) = self.newest(key, &homes).await else { continue };
            match newest.value() {
                None => return Ok(Deleted::NotFound),
                Some(found) if found.version != expected => return Ok(Deleted::Exists),
                Some(_) => {}
            }
            let version = self.versions.next();
            let mut first = true;
            let mut lost = false;
            for copy in &newest.copies {
                // What another has written there is not ours to delete.
                if copy.version.is_some_and(|version| version > expected) {
                    continue;
                }
                let mut request = Vec::new();
                self.push_tombstone(&mut request, key, version, &homes, copy.only);
                let done = matches!(copy.server.ask(&request, 1).await.as_deref(), Ok([Reply::Done(_)]));
                lost |= first && !done;
                first = false;
            }
            if lost || first {
                continue;
            }
            return Ok(Deleted::Done);
        }
        Err(Failure::Contended)
    }

    fn push_tombstone(&self, out: &mut Vec<u8>, key: &Key, version: Version, homes: &Homes<'_>, only: Only) {
        let seconds = self.tombstone_seconds(homes);
        wire::push_set(out, key.wire(), &[&value::tombstone(version)], 0, seconds, only);
    }

    /// Whether the newest of what was there before is a value.
    fn was_there(&self, answers: &[Result<Replies, Away>]) -> bool {
        let before = answers.iter().flatten().filter_map(|replies| self.copy(replies.first()?));
        let newest =
            before.map(|(kept, _)| kept).reduce(|a, b| if b.version() > a.version() { b } else { a });
        matches!(newest, Some(Kept::Value { .. }))
    }

    /// Sets the time that something has left, and gives it. `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// No server is up that could have it.
    pub(crate) async fn touch(&self, key: &Key, exptime: i64) -> Result<Option<Found>, Failure> {
        for _ in 0..TRIES {
            let homes = self.homes(key).await?;
            let Ok(newest) = self.newest(key, &homes).await else { continue };
            let Some(found) = newest.value() else { return Ok(None) };
            let servers: SmallVec<[_; 3]> = newest.copies.iter().map(|copy| copy.server).collect();
            let mut request = Vec::new();
            wire::push_touch(&mut request, key.wire(), exptime);
            let answers = ask_all(&servers, &request, 1).await;
            if answers.iter().flatten().any(|replies| matches!(replies[0], Reply::Done(_))) {
                return Ok(Some(found));
            }
        }
        Err(Failure::Contended)
    }
}

enum Added {
    Everywhere(Version),
    Refused,
    /// Every home went away meanwhile.
    Unsettled,
}

/// What came of a deletion that depended on a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deleted {
    Done,
    NotFound,
    Exists,
}

// A tombstone that all have heard of outlives what is under way: every request to a server has a deadline far below it.
const _: () = assert!(SHORT_TOMBSTONE >= 10);
