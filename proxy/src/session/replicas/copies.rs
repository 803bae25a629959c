//! All copies of a key, which of them is the newest, and the others made as new as that.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use smallvec::SmallVec;

use super::{Found, Homes, Replicas};
use crate::session::key::Key;
use crate::session::servers::wire::{self, Facts, Only, Reply};
use crate::session::servers::{Away, Server};
use crate::session::value::{self, Kept, Version};

/// What a server has, as it said.
type Had<'s> = (&'s Arc<Server>, Option<(Kept, Facts)>);

/// What a home has, after it was repaired.
pub(super) struct Copy<'s> {
    pub(super) server: &'s Arc<Server>,
    /// By which a write can depend on it.
    pub(super) only: Only,
    /// What was written there last.
    pub(super) version: Option<Version>,
}

/// What is known of a key when all its homes were asked.
pub(super) struct Newest<'s> {
    kept: Option<Kept>,
    facts: Facts,
    /// The homes that answered, in their order. Where a repair met another's write, there is none.
    pub(super) copies: SmallVec<[Copy<'s>; 3]>,
}

impl Newest<'_> {
    /// The value, if it is one.
    pub(super) fn found(self) -> Option<Found> {
        match self.kept? {
            Kept::Value { version, value } => Some(Found { version, value, facts: self.facts }),
            Kept::Tombstone { .. } => None,
        }
    }

    pub(super) fn value(&self) -> Option<Found> {
        match self.kept.clone()? {
            Kept::Value { version, value } => Some(Found { version, value, facts: self.facts }),
            Kept::Tombstone { .. } => None,
        }
    }
}

impl Replicas {
    /// Asks all homes for their copy, and gives the newest to those that have an older one or none.
    ///
    /// # Errors
    ///
    /// None of them answered.
    pub(super) async fn newest<'s>(&'s self, key: &Key, homes: &Homes<'s>) -> Result<Newest<'s>, Away> {
        let mut request = Vec::with_capacity(key.wire().len() + 24);
        wire::push_get(&mut request, key.wire(), b"");
        let asked: SmallVec<[&Arc<Server>; 4]> = homes.up.iter().copied().chain(homes.stood_in).collect();
        let answers = super::ask_all(&asked, &request, 1).await;
        let mut copies: SmallVec<[Had<'_>; 4]> = SmallVec::new();
        for (server, answer) in asked.iter().zip(answers) {
            if let Ok(replies) = answer {
                copies.push((*server, self.copy(&replies[0])));
            }
        }
        if copies.is_empty() {
            return Err(Away);
        }
        // Of equals the first.
        let newest = copies
            .iter()
            .filter_map(|(_, copy)| copy.as_ref())
            .reduce(|a, b| if b.0.version() > a.0.version() { b } else { a })
            .cloned();
        let (kept, facts) = newest.map_or((None, Facts::default()), |(kept, facts)| (Some(kept), facts));
        let homes_that_answered = copies
            .iter()
            .filter(|(server, _)| homes.stood_in.is_none_or(|other| !Arc::ptr_eq(other, server)));
        let repaired = homes_that_answered.map(async |(server, copy)| {
            let only = copy.as_ref().map_or(Only::IfMissing, |(_, facts)| Only::IfUnchanged(facts.cas));
            let have = copy.as_ref().map(|(kept, _)| kept.version());
            let only = match &kept {
                // A lock that stands on one server alone is one that somebody is about to take, and may not get.
                Some(newest) if !key.is_lock() && self.lags(newest, have) => {
                    self.repair(server, key, newest, &facts, only).await?
                }
                _ => only,
            };
            Some(Copy { server, only, version: have })
        });
        let copies = join_all(repaired).await.into_iter().flatten().collect();
        Ok(Newest { kept, facts, copies })
    }

    /// Whether a copy should be replaced by this one.
    fn lags(&self, newest: &Kept, have: Option<Version>) -> bool {
        match have {
            Some(have) => have < newest.version(),
            // What is not there need not be marked as deleted.
            None => matches!(newest, Kept::Value { .. }),
        }
    }

    /// Gives a server the newest copy, unless what it has has changed meanwhile.
    async fn repair(
        &self,
        server: &Arc<Server>,
        key: &Key,
        newest: &Kept,
        facts: &Facts,
        only: Only,
    ) -> Option<Only> {
        let mut request = Vec::new();
        // What is left of its time; less than a second is a second.
        let exptime = if facts.ttl < 0 { 0 } else { exptime_of(facts.ttl) };
        let (header, value) = match newest {
            Kept::Value { version, value } => (value::header(*version), &value[..]),
            Kept::Tombstone { version } => (value::tombstone(*version), &b""[..]),
        };
        wire::push_set(&mut request, key.wire(), &[&header, value], facts.client_flags, exptime, only);
        match server.ask(&request, 1).await.ok()?.first()? {
            Reply::Done(done) => {
                let counts = &self.counts;
                let count =
                    if only == Only::IfMissing { &counts.repaired_missing } else { &counts.repaired_older };
                count.fetch_add(1, Relaxed);
                Some(Only::IfUnchanged(done.cas))
            }
            _ => None,
        }
    }
}

/// The exptime that lets an item live so many seconds from now.
pub(super) fn exptime_of(ttl: i64) -> i64 {
    /// What is longer than this is a date (memcached's `REALTIME_MAXDELTA`).
    const LONGEST: i64 = 30 * 24 * 3_600;
    if ttl <= LONGEST {
        return ttl.max(1);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A server takes dates of 32 bits.
    now.map_or(LONGEST, |now| (now.as_secs() as i64 + ttl).min(i64::from(i32::MAX)))
}
