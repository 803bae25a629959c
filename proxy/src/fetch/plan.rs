//! What is to be fetched, for whom, and on what terms: all that a fetch needs once its request is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::{CacheKey, Entry, FreshnessSettings, Moment, VariantKey, VarySpec};
use http::{HeaderMap, header};

use super::interim::Interim;
use super::upgrade::Upgrade;
use crate::access::mask;
use crate::admin::Forward;
use crate::esi::Rest;
use crate::front::context::delivery::Delivery;
use crate::front::context::{ContextRules, First, told};
use crate::front::forward;
use crate::front::gate::Turn;
use crate::front::purge::Order;
use crate::front::visitor::Visitor;
use crate::pool::{Behalf, Pool};
use crate::session::pin::Pins;

/// What the cache has to do with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caching {
    /// Looked up, shared with others who ask the same, and stored.
    Shared,
    /// Fetched for this request alone, because the answer was not for sharing a short while ago; stored if it has
    /// become so.
    Apart,
    /// A part is fetched for this request alone, beside the fetch of the whole or where the whole is not kept; not stored.
    Part,
    /// None of the cache's business; goes to the node as the client sent it.
    Bypass,
}

/// What a request gives to the application: its method, which is none that only asks, and its body.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) method: http::Method,
    pub(crate) body: Bytes,
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
    /// What the node is asked with, less what [`forward::told`] adds: what the client
    /// sent, as far as the route's rules let it on. Variants are chosen by it too.
    pub(crate) headers: HeaderMap,
    pub(crate) visitor: Visitor,
    /// Nobody waits for the answer: a stale page is renewed, or a visitor's hash.
    pub(crate) unawaited: bool,
    pub(crate) pool: Arc<Pool>,
    /// Which sessions stay at which node.
    pub(crate) pins: Option<Arc<Pins>>,
    /// A stored entry that is not fresh any more, or not wanted unasked, to be asked after.
    pub(crate) stale: Option<Arc<Entry>>,
    /// Set where the client asked for nothing from memory: only what was stored after this moment, when it asked, will do.
    pub(crate) newer_than: Option<Moment>,
    /// What every answer varies on, whatever it says itself: the parts of the key besides the URL.
    pub(crate) own_vary: Option<Arc<VarySpec>>,
    /// What consistent hashing goes by, when the pool balances so.
    pub(crate) hash: Option<u64>,
    pub(crate) freshness: FreshnessSettings,
    /// Whether an answer whose type does not fit its path is stored only on its own word.
    pub(crate) deception_guard: bool,
    /// How long a node may not be asked to share this URL after an answer that was not for sharing.
    pub(crate) uncacheable_for: Duration,
    /// Where interim answers go (RFC 9110 section 15.2): to the visitor who caused the fetch, and to nobody else,
    /// because what is hinted may be meant for that one alone. `None`: nobody wants them.
    pub(crate) interim: Option<Arc<Interim>>,
    /// Set where the request is more than a question.
    pub(crate) submission: Option<Submission>,
    /// Set where the request asks for another protocol.
    pub(crate) upgrade: Option<Arc<Upgrade>>,
    /// The node is told that trailers are taken.
    pub(crate) trailers: bool,
    /// What is stored may be compressed.
    pub(crate) compress: bool,
    /// What of the answer is for visitors.
    pub(crate) delivery: Arc<Delivery>,
    /// What it asks for is the hash of a visitor's context, by these rules.
    pub(crate) asks_context: Option<Arc<ContextRules>>,
    /// What has to be asked for before it: the visitor's hash.
    pub(crate) first: Option<Box<First>>,
    /// The purge that waits for the token that this asks for.
    pub(crate) purge: Option<Box<Order>>,
    /// What it takes to put together what the node marks (ESI), where that is done.
    pub(crate) esi: Option<Arc<Rest>>,
    /// Its place among the requests of its site. Whoever answers the request takes it and keeps it until then.
    pub(crate) turn: Option<Arc<Turn>>,
}

impl Plan {
    /// The method that the node sees: a HEAD of something that may be stored is asked as GET, so that it fills the
    /// cache (as Varnish does).
    pub(crate) fn method(&self) -> &str {
        if let Some(submission) = &self.submission {
            submission.method.as_str()
        } else if self.head_only && self.caching == Caching::Bypass {
            "HEAD"
        } else {
            "GET"
        }
    }

    /// Whether what the node marks as a page with holes is put together here. A part of a page cannot be.
    pub(crate) fn puts_together(&self) -> bool {
        self.esi.is_some() && self.caching != Caching::Part
    }

    /// What an answer with these headers varies on.
    pub(crate) fn vary(&self, headers: &HeaderMap) -> Option<Arc<VarySpec>> {
        let mut said = VarySpec::parse(headers);
        if self.asks_context.is_some() {
            said = said.as_ref().and_then(told::vary);
        }
        match (said, &self.own_vary) {
            (Some(said), Some(own)) => Some(Arc::new(own.and(&said))),
            (Some(said), None) => Some(Arc::new(said)),
            (None, own) => own.clone(),
        }
    }

    /// Whether a fresh entry is an answer.
    pub(crate) fn is_answered_by(&self, entry: &Entry) -> bool {
        self.newer_than.is_none_or(|asked_at| entry.stored() > asked_at)
    }

    /// For whom a connection to a node is made.
    pub(crate) fn behalf(&self) -> Behalf {
        if self.unawaited { Behalf::Own } else { self.visitor.behalf() }
    }

    /// Whether the request may be sent again after a node may have heard it (RFC 9110 section 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.submission.as_ref().is_none_or(|submission| forward::is_idempotent(&submission.method))
    }

    /// Whether the client asks for a part of the answer.
    pub(crate) fn wants_part(&self) -> bool {
        !self.head_only && self.headers.contains_key(header::RANGE)
    }

    /// Whether the request has a session: cookies, as far as they are kept, or Authorization.
    pub(crate) fn has_session(&self) -> bool {
        self.headers.contains_key(header::COOKIE) || self.headers.contains_key(header::AUTHORIZATION)
    }

    /// The URL as the log shows it.
    pub(crate) fn shown_url(&self) -> String {
        mask::shown(self.url())
    }

    /// The URL as operators know it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", self.visitor.scheme.as_str(), self.host, self.target)
    }
}
