//! The plain text of what a node compressed, for clients that cannot read it.
//!
//! A node that sends `Content-Encoding: gzip` without `Vary: Accept-Encoding` says that this is for everybody; it is
//! not, and many do it. The entry is decoded for the first client that does not take the coding, and the plain text
//! becomes a form of the entry, like those that are made the other way round. What cannot be decoded, or is too large
//! for it, is fetched from a node for this client alone; what a node sends to such a request of its own goes through.
//!
//! Decoding is work: it is done on the runtime's blocking threads, two at a time at most. That bounds memory too,
//! because the text of each has a bound ([`most_decoded_bytes`](crate::encode::Encoder::most_decoded_bytes)).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clearcoat_cache::coding::Coding;
use clearcoat_cache::store::Grown;
use clearcoat_cache::{CacheKey, Encoded, EncodedForm, Entry};
use http::HeaderMap;
use tokio::sync::Semaphore;
use tracing::debug;

use super::Front;
use super::recoded::{is_readable_for, only_coding};
use crate::access::mask;
use crate::encode::{decompress, form_head};
use crate::fetch::{Answer, Reader};

/// Bodies that are decoded at the same time.
const AT_ONCE: usize = 2;

/// Who may decode now.
#[derive(Debug)]
pub(crate) struct DecodeTurns(Semaphore);

impl Default for DecodeTurns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Front {
    /// The stored entry that an answer has become, with its plain text, for a client that cannot read what the node
    /// sent; `kept` is what [`conditional::conditions`](super::conditional::conditions) kept of its request. `None` if
    /// the client can read it, or there is nothing better to give it than what the node sent.
    pub(crate) async fn decoded_instead(
        &self,
        key: CacheKey,
        answer: &Answer,
        kept: &HeaderMap,
        reader: &Reader,
    ) -> Option<Arc<Entry>> {
        if is_readable_for(answer, kept) {
            return None;
        }
        // It is stored before its end is told.
        reader.whole(self.max_coded_bytes()).await?;
        let stored = self.store.variants(key).into_iter();
        let entry = stored.into_iter().find(|entry| entry.variant() == answer.variant)?;
        self.decode(&entry).await.then_some(entry)
    }

    /// The largest body that is decoded.
    fn max_coded_bytes(&self) -> usize {
        usize::try_from(self.encoder.max_bytes()).unwrap_or(usize::MAX)
    }

    /// The plain text of a body that is in no entry. `None` if it cannot be decoded, or is too large for it.
    pub(crate) async fn plain_text(&self, coding: Coding, body: Bytes) -> Option<Bytes> {
        let _turn = self.decode_turns.0.acquire().await.ok()?;
        self.decompressed(coding, body).await
    }

    /// Decodes beside the runtime. For whoever has a turn.
    async fn decompressed(&self, coding: Coding, body: Bytes) -> Option<Bytes> {
        let started = Instant::now();
        let most_bytes = self.encoder.most_decoded_bytes();
        let decoding = tokio::task::spawn_blocking(move || decompress(coding, &body, most_bytes));
        match decoding.await {
            Ok(Ok(plain)) => {
                self.encoder.count_time(started.elapsed());
                Some(plain.into())
            }
            Ok(Err(error)) => {
                debug!(%error, "a body could not be decoded");
                None
            }
            // The runtime is going down.
            Err(_) => None,
        }
    }

    /// Gives an entry its plain text as a form. `false` if that cannot be; then a node has to be asked.
    pub(crate) async fn decode(&self, entry: &Arc<Entry>) -> bool {
        let max_bytes = self.max_coded_bytes();
        let (Some(coding), true) = (only_coding(entry), entry.body().len() <= max_bytes) else {
            return false;
        };
        // The semaphore is never closed.
        let Ok(_turn) = self.decode_turns.0.acquire().await else { return false };
        if entry.form(Coding::Identity).is_some() {
            // Somebody else was quicker.
            return true;
        }
        let Some(plain) = self.decompressed(coding, entry.body().clone()).await else {
            debug!(url = mask::shown(entry.url()), "a stored body could not be decoded");
            return false;
        };
        let head = form_head(entry.head(), Coding::Identity, plain.len());
        let form = EncodedForm::new(Coding::Identity, head, plain);
        match self.store.grow(entry, Encoded::new(vec![form], self.clock.now())) {
            Grown::Kept => {
                self.encoder.count(Coding::Identity, 0);
                true
            }
            Grown::Gone | Grown::Already => true,
            Grown::Refused => false,
        }
    }
}
