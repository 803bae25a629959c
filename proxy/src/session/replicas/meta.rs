//! What only the meta commands ask: facts of an item, making one that is missing, marking one as out of date.

use super::change::Deleted;
use super::{Failure, Found, Replicas, ask_all};
use crate::session::key::Key;
use crate::session::servers::wire::{self, Reply};
use crate::session::value::{Kept, Version};

impl Replicas {
    /// As [`get`](Self::get), with what the deciding server knows of its use.
    ///
    /// # Errors
    ///
    /// No server is up that could have it.
    pub(crate) async fn get_with_facts(&self, key: &Key, use_too: bool) -> Result<Option<Found>, Failure> {
        if !use_too {
            return self.get(key).await;
        }
        // Asked before the value is: asking is a use.
        let homes = self.homes(key).await?;
        let mut request = Vec::new();
        request.extend_from_slice(b"mg ");
        request.extend_from_slice(key.wire());
        request.extend_from_slice(b" h l t\r\n");
        let facts = match homes.up[0].ask(&request, 1).await.as_deref() {
            Ok([Reply::Done(facts)]) => Some(*facts),
            _ => None,
        };
        let mut found = self.get(key).await?;
        if let (Some(found), Some(facts)) = (&mut found, facts) {
            found.facts.fetched = facts.fetched;
            found.facts.idle = facts.idle;
        }
        Ok(found)
    }

    /// What is under a key. Where nothing is, an empty item is made with the time `vivify`, and the one who asks is told to fill it;
    /// the same where less than `recache` seconds are left. Others are told that somebody does. The deciding server keeps account.
    ///
    /// # Errors
    ///
    /// No server is up that could have it.
    pub(crate) async fn get_or_make(
        &self,
        key: &Key,
        vivify: Option<i64>,
        recache: Option<i64>,
        touch: Option<i64>,
    ) -> Result<Option<Found>, Failure> {
        loop {
            let homes = self.homes(key).await?;
            // Brings the deciding server up to date.
            let Ok(newest) = self.newest(key, &homes).await else { continue };
            let is_there = newest.value().is_some();
            if !is_there {
                // A tombstone would be in the way of what the server makes.
                let tombstone = newest.copies.first().and_then(|copy| match copy.only {
                    wire::Only::IfUnchanged(cas) => Some(cas),
                    wire::Only::Always | wire::Only::IfMissing => None,
                });
                if let Some(cas) = tombstone {
                    let mut request = Vec::new();
                    wire::push_delete(&mut request, key.wire(), Some(cas), b"");
                    let _ = homes.up[0].ask(&request, 1).await;
                }
            }
            let flags: String = [('N', vivify), ('R', recache), ('T', touch)]
                .iter()
                .filter_map(|(flag, time)| Some(format!(" {flag}{}", (*time)?)))
                .collect();
            let mut request = Vec::new();
            wire::push_get(&mut request, key.wire(), flags.as_bytes());
            let Ok(replies) = homes.up[0].ask(&request, 1).await else { continue };
            return Ok(match self.copy(&replies[0]) {
                Some((Kept::Value { version, value }, facts)) => Some(Found { version, value, facts }),
                Some((Kept::Tombstone { .. }, _)) | None => None,
            });
        }
    }

    /// Marks an item as out of date: it is still given, and the first who asks is told to make it anew.
    ///
    /// # Errors
    ///
    /// No server is up that could have it.
    pub(crate) async fn mark_stale(
        &self,
        key: &Key,
        expected: Option<Version>,
        exptime: Option<i64>,
    ) -> Result<Deleted, Failure> {
        loop {
            let homes = self.homes(key).await?;
            let Ok(newest) = self.newest(key, &homes).await else { continue };
            match newest.value() {
                None => return Ok(Deleted::NotFound),
                Some(found) if expected.is_some_and(|expected| expected != found.version) => {
                    return Ok(Deleted::Exists);
                }
                Some(_) => {}
            }
            let flags = exptime.map_or_else(|| " I".to_owned(), |exptime| format!(" I T{exptime}"));
            let mut request = Vec::new();
            wire::push_delete(&mut request, key.wire(), None, flags.as_bytes());
            let answers = ask_all(&homes.up, &request, 1).await;
            if answers.iter().flatten().any(|replies| matches!(replies[0], Reply::Done(_))) {
                return Ok(Deleted::Done);
            }
        }
    }
}
