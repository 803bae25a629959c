//! What is to be fetched, for whom, and on what terms: all that a fetch needs once its request is gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{CacheKey, Entry, FreshnessSettings, VariantKey};
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::admin::Forward;
use crate::pool::Pool;

/// What the cache has to do with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caching {
    /// Looked up, shared with others who ask the same, and stored.
    Shared,
    /// Fetched for this request alone, because the answer was not for sharing a short while ago; stored if it has
    /// become so.
    Apart,
    /// None of the cache's business; goes to the node as the client sent it.
    Bypass,
}

/// One fetch to be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) key: CacheKey,
    /// The variant that the request selects, as far as is known before the answer.
    pub(crate) variant: VariantKey,
    pub(crate) caching: Caching,
    /// Why a node is asked.
    pub(crate) forward: Forward,
    /// The client asked for the head alone.
    pub(crate) head_only: bool,
    /// Host as the client named it.
    pub(crate) host: Box<str>,
    /// Path and query.
    pub(crate) target: Box<str>,
    /// What the client sent, less what concerns its own connection only.
    pub(crate) headers: HeaderMap,
    pub(crate) client: Option<IpAddr>,
    pub(crate) pool: Arc<Pool>,
    /// A stored entry that is not fresh any more, to be asked after.
    pub(crate) stale: Option<Arc<Entry>>,
    /// What consistent hashing goes by, when the pool balances so.
    pub(crate) hash: Option<u64>,
    pub(crate) freshness: FreshnessSettings,
    /// How long a node may not be asked to share this URL after an answer that was not for sharing.
    pub(crate) uncacheable_for: Duration,
    /// Where interim answers go (RFC 9110 section 15.2): to the visitor who caused the fetch, and to nobody else,
    /// because what is hinted may be meant for that one alone. `None`: nobody wants them.
    pub(crate) interim: Option<mpsc::Sender<Bytes>>,
}

impl Plan {
    /// The method that the node sees: a HEAD of something that may be stored is asked as GET, so that it fills the
    /// cache (as Varnish does).
    pub(crate) fn method(&self) -> &'static str {
        if self.head_only && self.caching == Caching::Bypass { "HEAD" } else { "GET" }
    }

    /// The URL as operators know it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.host, self.target)
    }
}
