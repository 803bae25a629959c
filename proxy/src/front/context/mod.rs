//! The user context: what a visitor may see, told to nodes and to the cache by the value of one request header, the hash.
//!
//! Visitors with the same rights have the same hash, and pages that depend on rights vary on it. The application computes
//! it: before a page is looked up, its route's hash URL is asked with the visitor's cookies and Authorization
//! (FOSHttpCache's user context, in Varnish `fos_user_context.vcl`). That answer is an entry of the same store, under a key
//! of its own for each visitor, so that ten thousand sessions are not ten thousand variants of one URL, and one read of the
//! store finds it: nothing is parsed, waited for or allocated.
//!
//! In this room: the look-up here, the wait where it has to be asked for first (`identify`), what becomes of the answer
//! to it (`told`), what nobody outside may say (`forged`), and what visitors see of pages that vary on the hash
//! (`delivery`).

pub(crate) mod delivery;
pub(crate) mod except;
pub(crate) mod forged;
mod identify;
pub(crate) mod told;

use std::sync::Arc;

use clearcoat_cache::{
    CacheKey, Entry, FreshnessSettings, Known, Lookup, Moment, SelectingHeaders, Tag, VariantKey,
};
use http::header::{self, HeaderName, HeaderValue};

use super::Front;
use super::look::forward_to_cached;
use super::route::Treatment;
use super::seen::Seen;
use super::visitor::Visitor;
use crate::fetch::{Caching, Plan};
use crate::listen::head::Head;
use crate::pool::Pool;
use except::Except;

pub(crate) use identify::{First, Identified};

/// How a route finds out its visitors' contexts.
#[derive(Clone, Debug)]
pub(crate) struct ContextRules {
    /// The header that carries the hash, on requests to nodes and on the answer of the hash URL.
    pub(crate) header: HeaderName,
    /// What the hash URL is asked for as `Accept`, and what it answers as `Content-Type`.
    pub(crate) accept: HeaderValue,
    /// Path of the hash URL, on the visitor's host.
    pub(crate) path: Box<str>,
    /// URLs that need no hash.
    pub(crate) except: Except,
    /// The hash of visitors without a session, where no node need be asked for it.
    pub(crate) anonymous: Option<HeaderValue>,
    /// Whether a request with Authorization is told apart by a hash like any other. If not, it goes without: the
    /// application tells it apart itself, by `Vary: Authorization`.
    pub(crate) authorized: bool,
    /// For how long hash answers are good: as they say themselves, and never on the operator's word.
    pub(crate) freshness: FreshnessSettings,
}

/// What the look at a visitor's context found.
#[derive(Debug)]
pub(crate) enum Context<'r> {
    /// There is none to this request.
    None,
    /// This is the hash.
    Known(&'r HeaderName, Hash<'r>),
    /// The hash URL does not give this visitor a hash but this answer, which the visitor gets in place of the page.
    Refused(CacheKey, Arc<Entry>),
    /// It has to be asked for first.
    Missing(Missing<'r>),
}

/// A hash that is known.
#[derive(Debug)]
pub(crate) enum Hash<'r> {
    /// By the route's rules.
    Fixed(&'r HeaderValue),
    /// From the store, in an entry that has one.
    Stored(Arc<Entry>, &'r HeaderName),
}

/// A hash that is not known.
#[derive(Debug)]
pub(crate) struct Missing<'r> {
    pub(crate) rules: &'r Arc<ContextRules>,
    pub(crate) key: CacheKey,
    /// What is stored of it and not fresh any more.
    pub(crate) stale: Option<Arc<Entry>>,
    pub(crate) caching: Caching,
    pub(crate) known: Known,
}

impl Hash<'_> {
    /// What the header says.
    pub(crate) fn value(&self) -> &[u8] {
        match self {
            Self::Fixed(value) => value.as_bytes(),
            Self::Stored(entry, header) => told::hash(entry.head(), header).unwrap_or_default(),
        }
    }
}

impl Context<'_> {
    /// The header and what it says, where there is a hash.
    pub(crate) fn hash(&self) -> Option<(&HeaderName, &[u8])> {
        match self {
            Self::Known(name, hash) => Some((name, hash.value())),
            Self::None | Self::Refused(..) | Self::Missing(_) => None,
        }
    }

    /// The entry that it was found in.
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Known(_, Hash::Stored(entry, _)) | Self::Refused(_, entry) => Some(entry),
            Self::Known(_, Hash::Fixed(_)) | Self::None | Self::Missing(_) => None,
        }
    }
}

/// What all answers of a hash URL carry, so that a purge of it takes those to all visitors. `None` where it would be no tag;
/// then only the application's own tags name them.
pub(crate) fn tag(host: &str, target: &str) -> Option<Tag> {
    Tag::new(format!("!user-context:{host}{target}").as_bytes()).ok()
}

/// A visitor's request as the hash URL is asked.
struct Asking<'a> {
    seen: Seen<'a>,
    accept: &'a HeaderValue,
}

impl SelectingHeaders for Asking<'_> {
    fn visit(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        if name == header::ACCEPT.as_str() {
            value(self.accept.as_bytes())
        } else {
            self.seen.visit(name, value)
        }
    }
}

impl ContextRules {
    /// What a usable answer of the hash URL means.
    fn told(&self, key: CacheKey, entry: Arc<Entry>) -> Context<'_> {
        match told::hash(entry.head(), &self.header) {
            Some(_) => Context::Known(&self.header, Hash::Stored(entry, &self.header)),
            None => Context::Refused(key, entry),
        }
    }

    /// The fetch of the hash for the visitor who asks for `page`.
    pub(super) fn plan(self: &Arc<Self>, page: &Plan, missing: &Missing<'_>) -> Plan {
        let mut headers = page.headers.clone();
        // A part of an answer or "not modified" would tell nobody the hash.
        for name in [
            header::RANGE,
            header::IF_RANGE,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_MATCH,
            header::IF_UNMODIFIED_SINCE,
        ] {
            headers.remove(name);
        }
        headers.insert(header::ACCEPT, self.accept.clone());
        Plan {
            trailers: false,
            key: missing.key,
            variant: VariantKey::NONE,
            caching: missing.caching,
            forward: forward_to_cached(missing.known),
            head_only: false,
            target: self.path.clone(),
            headers,
            stale: missing.stale.clone(),
            newer_than: None,
            own_vary: None,
            freshness: self.freshness.clone(),
            deception_guard: false,
            compress: false,
            interim: None,
            asks_context: Some(self.clone()),
            first: None,
            esi: None,
            ..page.clone()
        }
    }
}

impl Front {
    /// A page's request with that for the hash before it.
    pub(super) fn ask_first(
        &self,
        page: Plan,
        missing: &Missing<'_>,
        anew: bool,
        may_be_stale: bool,
    ) -> Plan {
        let mut plan = missing.rules.plan(&page, missing);
        plan.variant = self.expected_variant(plan.key, None, &plan.headers);
        Plan { first: Some(Box::new(First { plan, anew, may_be_stale })), ..page }
    }

    /// The context of a request that is for the cache. Waits for nothing and leaves no trace.
    pub(super) fn context<'r>(
        &self,
        treatment: &'r Treatment,
        head: &Head<'_, '_>,
        seen: Seen<'_>,
        visitor: Visitor,
        target: &[u8],
        now: Moment,
    ) -> Context<'r> {
        let Some(rules) = &treatment.context else { return Context::None };
        if rules.except.covers(target) || !rules.authorized && seen.is_authorized() {
            return Context::None;
        }
        let mut session = false;
        let key = self.store.secret().key_for(visitor.scheme, head.host, rules.path.as_bytes(), |write| {
            seen.identity(&mut |kind, part| {
                session = true;
                write(kind, part);
            });
        });
        if let Some(anonymous) = rules.anonymous.as_ref().filter(|_| !session) {
            return Context::Known(&rules.header, Hash::Fixed(anonymous));
        }
        self.told_before(rules, key, &treatment.pool, seen, now)
    }

    /// What the hash URL told the one who asks it under this key.
    pub(super) fn told_before<'r>(
        &self,
        rules: &'r Arc<ContextRules>,
        key: CacheKey,
        pool: &Pool,
        seen: Seen<'_>,
        now: Moment,
    ) -> Context<'r> {
        let peek = self.store.peek(key, &Asking { seen, accept: &rules.accept }, now);
        let known = peek.known;
        let missing = |stale, caching| Context::Missing(Missing { rules, key, stale, caching, known });
        match peek.lookup {
            Lookup::Fresh(entry) => rules.told(key, entry),
            // Rights that were taken away must not live on for a grace: a stale hash is asked after first, by one request
            // for all who share it. While no node is up it is better than nothing, as stale pages are.
            Lookup::Grace(entry) | Lookup::Stale(entry)
                if !pool.any_up() && entry.may_serve_disconnected(now) =>
            {
                rules.told(key, entry)
            }
            Lookup::Grace(entry) | Lookup::Stale(entry) => missing(Some(entry), Caching::Shared),
            Lookup::Missing => missing(None, Caching::Shared),
            Lookup::Uncacheable => missing(None, Caching::Apart),
        }
    }
}
