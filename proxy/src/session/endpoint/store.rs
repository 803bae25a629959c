//! What storing means, in whatever protocol it is asked for.

use bytes::Bytes;

use super::Client;
use crate::session::key::Key;
use crate::session::replicas::change::Changed;
use crate::session::replicas::{Failure, Write};
use crate::session::value::Version;

/// The ways to store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Store {
    Set,
    /// Only where there is nothing.
    Add,
    /// Only where there is something, as all that follow.
    Replace,
    Append,
    Prepend,
}

impl Store {
    /// Whether it changes what is there, and leaves its flags and its time.
    pub(super) fn extends(self) -> bool {
        matches!(self, Self::Append | Self::Prepend)
    }
}

/// Why nothing was stored. Each protocol has words of its own for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unstored {
    /// There is nothing that could be changed.
    Missing,
    /// There is something already.
    There,
    /// What is there is not the version that was named.
    OtherVersion,
    /// Both together are larger than an item may be.
    TooLarge,
}

impl Client {
    /// Stores; if a version is named, only over that one. `most` is for what is extended.
    pub(super) async fn store(
        &mut self,
        key: &Key,
        store: Store,
        write: &Write,
        expected: Option<Version>,
        most: usize,
    ) -> Result<Result<Version, Unstored>, Failure> {
        match (store, expected) {
            (Store::Set, None) => return Ok(Ok(self.replicas.set(key, write).await?)),
            (Store::Add, None) => return Ok(self.add(key, write).await?.ok_or(Unstored::There)),
            _ => {}
        }
        let changed = self.replicas.change(key, |found| {
            let found = found.ok_or(Unstored::Missing)?;
            if expected.is_some_and(|expected| expected != found.version) {
                return Err(Unstored::OtherVersion);
            }
            let together = |first: &Bytes, second: &Bytes| {
                let value = [&first[..], &second[..]].concat();
                if value.len() > most { Err(Unstored::TooLarge) } else { Ok(found.with(value.into())) }
            };
            match store {
                Store::Append => together(&found.value, &write.value),
                Store::Prepend => together(&write.value, &found.value),
                Store::Set | Store::Add | Store::Replace => Ok(write.clone()),
            }
        });
        Ok(match changed.await? {
            Changed::Written(version) => Ok(version),
            Changed::Left(why) => Err(why),
        })
    }
}
