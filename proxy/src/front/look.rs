//! Which way a request will go, found by looking alone: nothing is noted, started or changed.
//!
//! [`Front::decide`](super::Front::decide) acts on what [`Front::look`] finds, and whoever wants to know what the next
//! request would meet asks the same function; so the two cannot disagree.

use std::borrow::Cow;
use std::sync::Arc;

use clearcoat_cache::{CacheKey, Entry, Known, Lookup, Moment, Peek};

use super::Front;
use super::cache_status::Forwarded;
use super::context::{Context, Missing};
use super::route::Treatment;
use super::seen::{NoCache, Seen};
use super::visitor::Visitor;
use super::wishes;
use crate::admin::Forward;
use crate::fetch::Caching;
use crate::listen::head::{Framing, Head, Method};
use crate::pool::Pool;

/// Why a request goes to a node although it could have been answered from memory.
pub(crate) const fn forward_to_cached(known: Known) -> Forward {
    match known {
        Known::Nothing => Forward::UriMiss,
        Known::OtherVariants => Forward::VaryMiss,
        Known::ThisVariant => Forward::Stale,
    }
}

/// Why a request goes over the pass road.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Passed {
    /// Its method is neither GET nor HEAD.
    Method,
    /// It asks for another protocol.
    Upgrade,
    /// It carries a body.
    Body,
}

impl Passed {
    /// The same as `Cache-Status` says it.
    pub(crate) const fn forwarded(self) -> Forwarded {
        let (forward, detail) = match self {
            Self::Method => (Forward::Method, None),
            Self::Upgrade => (Forward::Bypass, Some("upgrade")),
            Self::Body => (Forward::Bypass, Some("body")),
        };
        Forwarded { detail, ..Forwarded::new(forward) }
    }
}

/// Which way a request goes.
#[derive(Debug)]
pub(crate) enum Course<'r> {
    /// It is a purge.
    Purge,
    /// No site is for its host.
    NoSite,
    /// To a node as it is, both ways streamed.
    Pass(Passed),
    /// To a node as it is, because its route says so, of all requests or of those with cookies, or because nodes are told whose
    /// certificate was shown.
    Bypass(CacheKey, &'r Treatment),
    /// It says what nobody outside may say.
    Forged,
    /// What its visitor may see has to be asked for first.
    Identify(Needed<'r>),
    /// Its answer may come from memory, or go there.
    Cached(Met<'r>),
}

/// What is known of a request for the cache before its visitor's context is.
#[derive(Debug)]
pub(crate) struct Needed<'r> {
    pub(crate) treatment: &'r Treatment,
    pub(crate) key: CacheKey,
    /// Path and query as the route normalises them.
    pub(crate) target: Cow<'r, [u8]>,
    /// What is stored of its URL, whatever the hash will be.
    pub(crate) known: Known,
    pub(crate) missing: Missing<'r>,
    /// It wants a page that was asked after.
    pub(crate) anew: bool,
    /// It may have a page within grace.
    pub(crate) may_be_stale: bool,
}

/// What a request for the cache meets.
#[derive(Debug)]
pub(crate) struct Met<'r> {
    pub(crate) treatment: &'r Treatment,
    pub(crate) key: CacheKey,
    /// Path and query as the route normalises them.
    pub(crate) target: Cow<'r, [u8]>,
    /// Of its visitor.
    pub(crate) context: Context<'r>,
    pub(crate) known: Known,
    /// What stood in its place and is of no use any more.
    pub(crate) dead: Option<Arc<Entry>>,
    pub(crate) way: Way,
}

/// What is done with what was found.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// It is served.
    Hit(Arc<Entry>),
    /// It is served stale, and a fetch of a newer copy is due.
    Grace(Arc<Entry>),
    /// It is served stale and nobody is asked, because no node is up.
    Disconnected(Arc<Entry>),
    /// A node is asked whether it is still right.
    Revalidate(Arc<Entry>),
    /// It is fresh, and a node is asked all the same because the client wants that; what comes of it is for all.
    Anew(Arc<Entry>),
    /// It is fetched, together with others who ask the same.
    Fetch,
    /// It is fetched for this request alone: lately the answer was not for sharing.
    FetchApart,
    /// The client wants what is stored or nothing, and nothing fits.
    Nothing,
}

impl Way {
    /// How it is fetched, where it is.
    pub(crate) fn caching(&self) -> Caching {
        match self {
            Self::Revalidate(entry) if entry.ask_always() => Caching::Apart,
            Self::FetchApart => Caching::Apart,
            Self::Hit(_) | Self::Grace(_) | Self::Disconnected(_) | Self::Nothing => Caching::Shared,
            Self::Revalidate(_) | Self::Anew(_) | Self::Fetch => Caching::Shared,
        }
    }

    /// Whether the client waits for a node.
    pub(super) const fn asks_a_node(&self) -> bool {
        match self {
            Self::Hit(_) | Self::Grace(_) | Self::Disconnected(_) | Self::Nothing => false,
            Self::Revalidate(_) | Self::Anew(_) | Self::Fetch | Self::FetchApart => true,
        }
    }
}

impl Front {
    /// Which way the request goes, which came at `now`. Waits for nothing and leaves no trace.
    pub(crate) fn look<'r>(&'r self, head: &'r Head<'_, '_>, visitor: Visitor, now: Moment) -> Course<'r> {
        let passed = match head.method {
            Method::Get | Method::Head if head.upgrade => Some(Passed::Upgrade),
            Method::Get | Method::Head if head.framing != Framing::None => Some(Passed::Body),
            Method::Get | Method::Head => None,
            Method::Other(method) if visitor.dialects.take(method) => None,
            Method::Other(_) => Some(Passed::Method),
        };
        let treatment = self.routes.find(head.host, head.target);
        if treatment
            .and_then(|treatment| treatment.forgeries.as_ref())
            .is_some_and(|known| known.are_in(head))
        {
            return Course::Forged;
        }
        if let Method::Other(_) = head.method
            && passed.is_none()
        {
            return Course::Purge;
        }
        let Some(treatment) = treatment else { return Course::NoSite };
        if let Some(passed) = passed {
            return Course::Pass(passed);
        }
        let rules = &treatment.request;
        let target = rules.query.apply(head.target);
        let key = self.store.secret().key(visitor.scheme, head.host, &target);
        let seen = Seen::new(head, rules, visitor.address);
        if treatment.pass || seen.passes_by_cookie() || self.settings.identities.are_in(head) {
            return Course::Bypass(key, treatment);
        }
        let anew = match rules.no_cache {
            NoCache::Ignored => false,
            NoCache::Everybody => wishes::asks_anew(head),
            NoCache::Purgers => self.refreshes(treatment, head, visitor),
        };
        let may_be_stale = || treatment.grace_for_sessions || !seen.has_session();
        let context = match self.context(treatment, head, seen, visitor, &target, now) {
            Context::Refused(key, entry) => {
                let (known, way) = (Known::ThisVariant, Way::Hit(entry));
                let context = Context::None;
                return Course::Cached(Met { treatment, key, target, context, known, dead: None, way });
            }
            Context::Missing(_) if wishes::only_if_stored(head) => Context::None,
            Context::Missing(missing) => {
                let known = self.store.peek(key, &seen, now).known;
                let may_be_stale = may_be_stale();
                return Course::Identify(Needed {
                    treatment,
                    key,
                    target,
                    known,
                    missing,
                    anew,
                    may_be_stale,
                });
            }
            context @ (Context::None | Context::Known(..)) => context,
        };
        let Peek { lookup, known, dead } = self.store.peek(key, &seen.with_hash(context.hash()), now);
        let way = self.way(lookup, &treatment.pool, anew, may_be_stale, now);
        let way = if way.asks_a_node() && wishes::only_if_stored(head) { Way::Nothing } else { way };
        Course::Cached(Met { treatment, key, target, context, known, dead, way })
    }

    /// Whether somebody who may purge wants a newer copy than there is, whoever may be fetching one.
    pub(super) fn refreshes(&self, treatment: &Treatment, head: &Head<'_, '_>, visitor: Visitor) -> bool {
        treatment.request.no_cache == NoCache::Purgers
            && wishes::asks_anew(head)
            && self.guard.allows(visitor.address)
    }

    /// What is done with what was found. `may_be_stale` tells whether the visitor may have a page within grace while a node
    /// is up.
    pub(super) fn way(
        &self,
        lookup: Lookup,
        pool: &Pool,
        anew: bool,
        may_be_stale: impl FnOnce() -> bool,
        now: Moment,
    ) -> Way {
        match lookup {
            Lookup::Fresh(entry) if anew => Way::Anew(entry),
            Lookup::Fresh(entry) => Way::Hit(entry),
            Lookup::Grace(entry) if anew || !may_be_stale() && pool.any_up() => Way::Revalidate(entry),
            Lookup::Grace(entry) => Way::Grace(entry),
            // Every node looks down: what is kept is better than an error, and than more load on dying nodes.
            Lookup::Stale(entry) if !pool.any_up() && entry.may_serve_disconnected(now) => {
                Way::Disconnected(entry)
            }
            Lookup::Stale(entry) => Way::Revalidate(entry),
            Lookup::Missing => Way::Fetch,
            Lookup::Uncacheable => Way::FetchApart,
        }
    }
}
