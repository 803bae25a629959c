//! A body as a whole and in plain text, so that it can be read for tags.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use clearcoat_cache::budget::Charge;
use clearcoat_cache::coding::Coding;
use clearcoat_cache::{CacheKey, Entry};
use tracing::debug;

use super::parse::parse;
use super::serving::head_for_clients;
use super::template::Template;
use crate::admin::{EsiTrouble, Limit};
use crate::encode::{coding_names, decompress};
use crate::fetch::{Answer, FetchError, Reader};
use crate::front::{Front, conditional};

/// Bytes of a body that are taken in one step.
const STEP_BYTES: usize = 64 * 1024;

/// A page that is to be read: how its body is coded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Readable {
    pub(crate) coding: Option<Coding>,
}

impl Readable {
    /// By the names in `Content-Encoding`. `None`: a coding that is not known here, or several.
    pub(crate) fn new<'n>(mut names: impl Iterator<Item = &'n [u8]>) -> Option<Self> {
        match (names.next(), names.next()) {
            (None, _) => Some(Self { coding: None }),
            (Some(only), None) => Coding::named(only).map(|coding| Self { coding: Some(coding) }),
            (Some(_), Some(_)) => None,
        }
    }

    /// A body in plain text, at most so many bytes of it. Meant for a fetch's task: it takes about a millisecond for 100 KiB.
    pub(crate) fn plain(self, body: Bytes, most_bytes: usize) -> Option<Bytes> {
        match self.coding {
            None | Some(Coding::Identity) => Some(body),
            Some(coding) => decompress(coding, &body, most_bytes).ok().map(Bytes::from),
        }
    }

    /// The same of a serialised head.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        Self::new(conditional::lines(head, b"content-encoding").flat_map(coding_names))
    }
}

/// Reads a page's plain body; `block` is the answer's head.
pub(crate) fn read_page(block: &[u8], body: &[u8]) -> Template {
    Template { head: head_for_clients(block), ..parse(body) }
}

/// What a page that was on its way is by now.
pub(super) enum Gathered {
    /// Stored, with tags or without.
    Stored(Arc<Entry>),
    /// Read, and stored nowhere.
    Read { template: Template, body: Bytes, charge: Charge },
}

impl Front {
    /// Waits for the end of a page.
    pub(super) async fn gather(
        &self,
        key: CacheKey,
        answer: &Answer,
        reader: Reader,
    ) -> Result<Gathered, FetchError> {
        // It is stored before its end is told.
        if reader.whole(usize::MAX).await.is_some() {
            let stored = self.store.variants(key).into_iter();
            // What was asked for before a purge may not be what is stored after it, but then it is newer.
            if let Some(entry) = stored.into_iter().find(|entry| entry.variant() == answer.variant) {
                return Ok(Gathered::Stored(entry));
            }
        }
        let readable = answer.page.unwrap_or(Readable { coding: None });
        let (body, charge) = self.plain_body(readable, reader).await.ok_or(FetchError::Broken)?;
        let template = read_page(&answer.block, &body);
        self.counters.esi(EsiTrouble::StrayTag, u64::from(template.strays));
        Ok(Gathered::Read { template, body, charge })
    }

    /// The whole of a body in plain text. `None`: it broke off, is too large, or cannot be decoded.
    pub(super) async fn plain_body(&self, readable: Readable, mut reader: Reader) -> Option<(Bytes, Charge)> {
        let mut charge = self.fetcher.fills.budget().charge();
        let (mut parts, mut whole) = (Vec::new(), BytesMut::new());
        while reader.read(&mut parts, STEP_BYTES).await.ok()? {
            for part in parts.drain(..) {
                if (whole.len() + part.len()) as u64 > self.settings.esi.bytes {
                    self.counters.limit(Limit::EsiBytes);
                    return None;
                }
                charge.add_piece(part.len());
                whole.extend_from_slice(&part);
            }
        }
        let body = whole.freeze();
        match readable.coding {
            None | Some(Coding::Identity) => Some((body, charge)),
            Some(coding) => {
                let plain = self.plain_text(coding, body).await;
                if plain.is_none() {
                    debug!("a body with tags, or for a page, could not be decoded");
                }
                let plain = plain?;
                charge.add_piece(plain.len());
                Some((plain, charge))
            }
        }
    }
}
