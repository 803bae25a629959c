//! The course of one request, whatever it came by: route, look up, and which way it goes.
//!
//! [`Front::decide`] is the short way: it looks and never waits. [`Front::obtain`] is the long one. The pass road is
//! pingora-proxy's, told what to do by [`pass::PassRoad`].

pub(crate) mod conditional;
pub(crate) mod forward;
mod obtain;
pub(crate) mod pass;
mod purge;
pub(crate) mod range;
pub(crate) mod route;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clearcoat_cache::{CacheKey, Entry, Lookup, Moment, Scheme, Store, VariantKey};
use clearcoat_purge::Guard;

pub(crate) use obtain::{FrontSettings, Obtained};

use crate::admin::{Counters, RequestResult};
use crate::clock::Clock;
use crate::fetch::{Caching, Fetcher, Plan};
use crate::listen::head::{Framing, Head, Method};
use crate::respond::Local;
use range::Part;
use route::{RouteTable, Treatment};

/// What answers requests.
pub(crate) struct Front {
    pub(crate) routes: Arc<ArcSwap<RouteTable>>,
    pub(crate) store: Arc<Store>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) guard: Guard,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Clock,
    pub(crate) settings: FrontSettings,
}

/// A request that is for the cache or a node, and what is known of it.
struct Asked<'a> {
    head: &'a Head<'a, 'a>,
    head_only: bool,
    key: CacheKey,
    treatment: &'a Treatment,
    client: Option<IpAddr>,
    /// What the store has of it, if that is not fresh.
    stale: Option<Arc<Entry>>,
}

/// What a client gets of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// That it has it already (304).
    NotModified,
    /// The entry or a part of it.
    Part(Part),
}

/// Which way a request goes.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answered from memory.
    Hit { entry: Arc<Entry>, result: RequestResult, now: Moment, form: Form },
    /// Answered by ourselves.
    Local(Local, RequestResult),
    /// Through the cache.
    Fetch(Box<Plan>),
    /// To a node, as it is.
    Pass,
}

impl Front {
    /// Decides without waiting for anything.
    pub(crate) fn decide(&self, head: &Head<'_, '_>, client: Option<IpAddr>) -> Step {
        let head_only = match head.method {
            Method::Get => false,
            Method::Head => true,
            Method::Other(method) if clearcoat_purge::is_purge_method(method) => {
                return Step::Local(self.purge(method, head, client), RequestResult::Purge);
            }
            Method::Other(_) => return self.pass(head),
        };
        if head.framing != Framing::None || head.upgrade {
            return self.pass(head);
        }
        let routes = self.routes.load();
        let Some(treatment) = routes.find(head.host, head.target) else {
            return Step::Local(Local::no_site(), RequestResult::Refused);
        };
        let key = self.store.secret().key(Scheme::Http, head.host, head.target);
        let mut asked = Asked { head, head_only, key, treatment, client, stale: None };
        if treatment.pass {
            return self.fetch(&asked, Caching::Bypass);
        }
        let now = self.clock.now();
        match self.store.lookup(key, head, now) {
            Lookup::Fresh(entry) => hit(head, entry, RequestResult::Hit, now),
            Lookup::Grace(entry) => {
                if !self.fetcher.fills.is_fetching(&(key, entry.variant())) {
                    asked.stale = Some(entry.clone());
                    self.refresh(self.plan(&asked, Caching::Shared));
                }
                hit(head, entry, RequestResult::Grace, now)
            }
            // Every node looks down: what is kept is better than an error, and than more load on dying nodes.
            Lookup::Stale(entry) if !treatment.pool.any_up() && entry.may_serve_disconnected(now) => {
                hit(head, entry, RequestResult::Grace, now)
            }
            Lookup::Stale(entry) => {
                let caching = if entry.ask_always() { Caching::Apart } else { Caching::Shared };
                asked.stale = Some(entry);
                self.fetch(&asked, caching)
            }
            Lookup::Missing => self.fetch(&asked, Caching::Shared),
            Lookup::Uncacheable => self.fetch(&asked, Caching::Apart),
        }
    }

    fn pass(&self, head: &Head<'_, '_>) -> Step {
        match self.routes.load().find(head.host, head.target) {
            Some(_) => Step::Pass,
            None => Step::Local(Local::no_site(), RequestResult::Refused),
        }
    }

    fn fetch(&self, asked: &Asked<'_>, caching: Caching) -> Step {
        Step::Fetch(Box::new(self.plan(asked, caching)))
    }

    /// What has to be kept of a request for the time when its head is gone.
    fn plan(&self, asked: &Asked<'_>, caching: Caching) -> Plan {
        let &Asked { head, head_only, key, treatment, client, .. } = asked;
        let headers = forward::end_to_end(head);
        let variant = match self.store.vary_of(key) {
            Some(vary) => vary.variant(self.store.secret(), &headers),
            None => VariantKey::NONE,
        };
        Plan {
            key,
            variant,
            caching,
            head_only,
            host: String::from_utf8_lossy(head.host).into(),
            target: String::from_utf8_lossy(head.target).into(),
            client,
            stale: asked.stale.clone(),
            hash: treatment.hash_on.as_ref().map(|hash_on| hash_on.number(head.target, head, client)),
            headers,
            pool: treatment.pool.clone(),
            freshness: treatment.freshness.clone(),
            uncacheable_for: treatment.uncacheable_for,
            interim: None,
        }
    }
}

fn hit(head: &Head<'_, '_>, entry: Arc<Entry>, result: RequestResult, now: Moment) -> Step {
    // In this order: a range of what the client has already is not sent (RFC 9110 section 13.2.2).
    let form = if conditional::is_not_modified(entry.status(), entry.head(), head) {
        Form::NotModified
    } else {
        Form::Part(range::part(&entry, head))
    };
    Step::Hit { entry, result, now, form }
}
