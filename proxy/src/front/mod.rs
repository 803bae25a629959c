//! The course of one request, whatever it came by: route, look up, and which way it goes.
//!
//! [`Front::decide`] is the short way: it looks ([`look`]) and never waits. [`Front::obtain`] is the long one. The pass road is
//! pingora-proxy's, told what to do by [`pass::PassRoad`].

pub(crate) mod audit;
pub(crate) mod cache_status;
pub(crate) mod cold_range;
pub(crate) mod conditional;
pub(crate) mod context;
pub(crate) mod cookies;
mod decode;
pub(crate) mod explain;
pub(crate) mod forward;
mod forwarded;
pub(crate) mod gate;
mod hop;
pub(crate) mod identity;
mod invalidate;
pub(crate) mod look;
pub(crate) mod names;
pub(crate) mod normalise;
mod obtain;
mod order;
pub(crate) mod outcome;
pub(crate) mod parts;
pub(crate) mod pass;
pub(crate) mod peers;
pub(crate) mod purge;
pub(crate) mod query;
pub(crate) mod range;
mod recoded;
pub(crate) mod request_id;
pub(crate) mod route;
pub(crate) mod seen;
pub(crate) mod submit;
pub(crate) mod token;
pub(crate) mod visitor;
mod wishes;

use std::sync::Arc;

use clearcoat_cache::coding::Coding;
use clearcoat_cache::key::canonical_host;
use clearcoat_cache::{
    CacheKey, Entry, Moment, Recoding, Scheme, SelectingHeaders, Store, VariantKey, VarySpec,
};
use clearcoat_purge::Guard;
use http::header::HeaderName;

pub(crate) use decode::DecodeTurns;
pub(crate) use obtain::{FrontSettings, Obtained};

use crate::access::Accounts;
use crate::admin::{Counters, Forward, Limit, RequestResult};
use crate::clock::Clock;
use crate::encode::Encoder;
use crate::esi::{Rest, Serving};
use crate::fetch::{Caching, Fetcher, Plan, Upgrade};
use crate::listen::head::{Head, Method};
use crate::respond::Local;
use cache_status::CacheStatus;
use context::delivery;
use gate::{Left, Shut, Verification};
use look::{Course, Met, Needed, Passed, Way, forward_to_cached};
use outcome::Found;
use range::Part;
use recoded::Given;
use route::{RouteTable, Treatment};
use seen::Seen;
use visitor::Visitor;

/// Said of an entry that is served stale because no node is up.
const NO_NODE_UP: &str = "no-node-up";

/// Why a node is asked when what is stored is in a coding that the client does not take and cannot be decoded.
const UNREADABLE: Forward = Forward::VaryMiss;

/// What answers requests.
pub(crate) struct Front {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) store: Arc<Store>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) encoder: Arc<Encoder>,
    pub(crate) decode_turns: Arc<DecodeTurns>,
    pub(crate) guard: Guard,
    pub(crate) purges: clearcoat_purge::Reader,
    pub(crate) audit: Arc<audit::Audit>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) accounts: Accounts,
    pub(crate) clock: Clock,
    pub(crate) settings: FrontSettings,
}

/// A request that is for the cache or a node, and what is known of it.
struct Asked<'a> {
    head: &'a Head<'a, 'a>,
    head_only: bool,
    key: CacheKey,
    /// As the route normalises it, unless it passes.
    target: &'a [u8],
    treatment: &'a Treatment,
    visitor: Visitor,
    /// The header of the visitor's context and what it says.
    hash: Option<(&'a HeaderName, &'a [u8])>,
    forward: Forward,
    /// What the store has of it, if that is not fresh or not wanted.
    stale: Option<Arc<Entry>>,
}

/// What a client gets of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// That it has it already (304).
    NotModified,
    /// The entry or a part of it.
    Part(Part),
    /// The entry in another coding than it is stored in, or that the client has it already.
    Coded { coding: Coding, not_modified: bool },
}

/// Which way a request goes.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answered from memory.
    Hit(Found),
    /// Answered from memory as soon as the entry is decoded for this client; by the plan, if it cannot be.
    Decode(Found, Box<Plan>),
    /// Answered by ourselves.
    Local(Local, RequestResult),
    /// Put together of what is stored and, maybe, of what has to be fetched.
    Page(Box<Serving>),
    /// Through the cache.
    Fetch(Box<Plan>),
    /// Not known before it is known whether its password is good; then the request comes again.
    Verify(Box<Verification>),
    /// To a node, as it is.
    Pass,
}

impl Step {
    /// Whether another protocol is asked for.
    pub(crate) fn opens_tunnel(&self) -> bool {
        matches!(self, Self::Fetch(plan) if plan.upgrade.is_some())
    }
}

impl Front {
    /// Decides without waiting for anything, and acts on it: see [`Front::look`] for the decision.
    pub(crate) fn decide(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Step {
        self.enter(head, visitor, now, |head| match self.decide_alone(head, visitor, now) {
            Step::Hit(found) if found.entry.recoding() == Recoding::Assemble => {
                match self.page(head, visitor, &found) {
                    Some(page) => Step::Page(Box::new(page)),
                    None => Step::Hit(found),
                }
            }
            step => step,
        })
    }

    /// What `decide` says of a request that comes in, or why it does not.
    fn enter(
        &self,
        head: &Head<'_, '_>,
        visitor: Visitor,
        now: Moment,
        decide: impl FnOnce(&Head<'_, '_>) -> Step,
    ) -> Step {
        let [asked, meant] = self.routes.gates(head.host, head.target);
        if asked.is_none() && meant.is_none() || is_purge(head, visitor) {
            return decide(head);
        }
        let shut = meant.and_then(|gate| gate.look_strictly(head, visitor));
        if let Some(shut) = shut.or_else(|| asked?.pass(head, visitor, now)) {
            shut.note(&self.counters);
            return match (shut.answer(head), shut) {
                (Some((local, result)), _) => Step::Local(local, result),
                (None, Shut::Unverified(verification)) => Step::Verify(verification),
                (None, _) => Step::Local(Local::denied(), RequestResult::Refused),
            };
        }
        let mut left = Left::new();
        let guarded = [asked, meant].into_iter().flatten().find(|gate| gate.passwords.is_some());
        let mut step = match guarded.and_then(|gate| gate.inward(head, &mut left)) {
            Some(head) => decide(&head),
            None => decide(head),
        };
        let turn = match &mut step {
            Step::Fetch(plan) => Some(&mut plan.turn),
            Step::Page(page) if !page.page.is_whole() => Some(&mut page.turn),
            // Memory answers, or we do; the pass road takes its own.
            Step::Hit(_) | Step::Decode(..) | Step::Page(_) | Step::Local(..) => None,
            Step::Verify(_) | Step::Pass => None,
        };
        if let (Some(turns), Some(turn)) = (asked.and_then(|gate| gate.turns.as_ref()), turn) {
            *turn = turns.take().map(Arc::new);
            if turn.is_none() {
                self.counters.limit(Limit::Concurrent);
                return Step::Local(Local::crowded(), RequestResult::Refused);
            }
        }
        step
    }

    /// As [`Front::decide`], but a page with holes is a hit like any other: so fragments are asked for.
    pub(crate) fn decide_alone(&self, head: &Head<'_, '_>, visitor: Visitor, now: Moment) -> Step {
        let asked = |key, target, treatment, hash, forward, stale| Asked {
            head,
            head_only: head.method == Method::Head,
            key,
            target,
            treatment,
            visitor,
            hash,
            forward,
            stale,
        };
        let met = match self.look(head, visitor, now) {
            Course::Purge => return self.purge(head, visitor, now),
            Course::NoSite => return Step::Local(Local::no_site(), RequestResult::Refused),
            Course::Pass(passed) => {
                let treatment = self.routes.find(head.host, head.target);
                let (Passed::Upgrade, Some(treatment)) = (passed, treatment) else { return Step::Pass };
                let key = self.store.secret().key(visitor.scheme, head.host, head.target);
                let asked = asked(key, head.target, treatment, None, passed.forwarded().forward, None);
                return self.upgrade(&asked);
            }
            Course::Bypass(key, treatment) => {
                let asked = asked(key, head.target, treatment, None, Forward::Bypass, None);
                return self.fetch(&asked, Caching::Bypass);
            }
            Course::Forged => return Step::Local(Local::forged(), RequestResult::Refused),
            Course::Identify(needed) => {
                let Needed { treatment, key, ref target, known, ref missing, anew, may_be_stale } = needed;
                let asked = asked(key, target, treatment, None, forward_to_cached(known), None);
                let plan = self.plan(&asked, Caching::Shared);
                return Step::Fetch(Box::new(self.ask_first(plan, missing, anew, may_be_stale)));
            }
            Course::Cached(met) => met,
        };
        let Met { treatment, key, ref target, ref context, known, dead, way } = met;
        if way.asks_a_node() && self.refreshes(treatment, head, visitor) {
            // From now on nobody joins what was asked for before, and it is not stored over what this brings.
            self.store.outdate_fills(key);
        }
        let asked = |forward, stale| asked(key, target, treatment, context.hash(), forward, stale);
        if let Some(dead) = &dead {
            self.store.discard(dead);
        }
        if let Some(told) = context.entry() {
            self.store.used(told);
        }
        let (forward, caching) = (forward_to_cached(known), way.caching());
        match way {
            Way::Hit(entry) => {
                self.store.used(&entry);
                self.hit(&asked(UNREADABLE, None), entry, RequestResult::Hit, None, now)
            }
            Way::Grace(entry) => {
                self.store.used(&entry);
                self.fetcher.refresh(&treatment.pool, (key, entry.variant()), || {
                    self.plan(&asked(forward, Some(entry.clone())), caching)
                });
                self.hit(&asked(UNREADABLE, None), entry, RequestResult::Grace, None, now)
            }
            Way::Disconnected(entry) => {
                self.store.used(&entry);
                let asked = asked(UNREADABLE, None);
                self.hit(&asked, entry, RequestResult::Grace, Some(NO_NODE_UP), now)
            }
            Way::Revalidate(entry) => {
                self.store.used(&entry);
                self.fetch(&asked(forward, Some(entry)), caching)
            }
            Way::Anew(entry) => {
                self.store.used(&entry);
                self.fetch(&asked(Forward::Request, Some(entry)), caching)
            }
            Way::Fetch | Way::FetchApart => self.fetch(&asked(forward, None), caching),
            Way::Nothing => Step::Local(Local::nothing_stored(), RequestResult::Refused),
        }
    }

    /// Asks a node for another protocol; what it answers instead is passed on.
    fn upgrade(&self, asked: &Asked<'_>) -> Step {
        let mut plan = self.plan(asked, Caching::Bypass);
        plan.esi = None;
        plan.trailers = false;
        plan.upgrade = Some(Arc::new(Upgrade::of(asked.head)));
        Step::Fetch(Box::new(plan))
    }

    fn fetch(&self, asked: &Asked<'_>, caching: Caching) -> Step {
        Step::Fetch(Box::new(self.plan(asked, caching)))
    }

    /// The variant that a request selects, as far as is known before the answer.
    fn expected_variant(
        &self,
        key: CacheKey,
        own_vary: Option<&Arc<VarySpec>>,
        request: &dyn SelectingHeaders,
    ) -> VariantKey {
        match self.store.vary_of(key).as_ref().or(own_vary) {
            Some(vary) => vary.variant(self.store.secret(), request),
            None => VariantKey::NONE,
        }
    }

    /// What has to be kept of a request for the time when its head is gone.
    fn plan(&self, asked: &Asked<'_>, caching: Caching) -> Plan {
        let &Asked { head, head_only, key, target, treatment, visitor, hash, forward, stale: _ } = asked;
        let headers = Seen::new(head, &treatment.request, visitor.address).with_hash(hash).headers(caching);
        let own_vary = treatment.request.parts.vary();
        let variant = self.expected_variant(key, own_vary, &headers);
        Plan {
            key,
            variant,
            caching,
            forward,
            head_only,
            host: match caching {
                Caching::Bypass => String::from_utf8_lossy(head.host).into(),
                Caching::Shared | Caching::Apart | Caching::Part => known_host(visitor.scheme, head.host),
            },
            target: String::from_utf8_lossy(target).into(),
            visitor,
            unawaited: false,
            stale: asked.stale.clone(),
            newer_than: (forward == Forward::Request).then(|| self.clock.now()),
            own_vary: own_vary.cloned(),
            hash: treatment.hash_on.as_ref().map(|hash_on| hash_on.number(target, &headers, visitor.address)),
            headers,
            pool: treatment.pool.clone(),
            pins: treatment.pins.clone(),
            freshness: treatment.freshness.clone(),
            deception_guard: treatment.deception_guard,
            uncacheable_for: treatment.uncacheable_for,
            interim: None,
            submission: None,
            upgrade: None,
            compress: treatment.compress,
            delivery: treatment.delivery.clone(),
            asks_context: None,
            first: None,
            purge: None,
            esi: treatment.esi.then(|| Arc::new(Rest::of(head, visitor, &self.settings.esi))),
            turn: None,
            // What is for many is asked for alike.
            trailers: caching == Caching::Bypass && head.takes_trailers(),
        }
    }

    /// What a visitor is told of an answer.
    fn told_to(&self, visitor: Visitor, status: CacheStatus) -> CacheStatus {
        // Nobody, nearly always.
        if self.settings.debug_clients.is_empty() || !self.is_debugger(visitor) {
            status
        } else {
            status.to_debugger()
        }
    }

    #[cold]
    fn is_debugger(&self, visitor: Visitor) -> bool {
        let address = visitor.address.map(|address| address.to_canonical());
        address.is_some_and(|address| self.settings.debug_clients.iter().any(|net| net.contains(&address)))
    }

    /// The answer from memory, in the form that this client takes.
    fn hit(
        &self,
        asked: &Asked<'_>,
        entry: Arc<Entry>,
        result: RequestResult,
        detail: Option<&'static str>,
        now: Moment,
    ) -> Step {
        let status = self.told_to(asked.visitor, CacheStatus::hit(&entry, now, detail));
        let form = form(&entry, asked.head);
        let session = delivery::minds_sessions(entry.audience())
            && Seen::new(asked.head, &asked.treatment.request, asked.visitor.address).has_session();
        let cache_control = delivery::instead(entry.audience(), session);
        if matches!(entry.recoding(), Recoding::Never | Recoding::Assemble) {
            return Step::Hit(Found { entry, now, form, result, status, cache_control });
        }
        let not_modified = form == Form::NotModified;
        match self.recoded(asked.head, &entry, form, now) {
            Given::As(form) => Step::Hit(Found { entry, now, form, result, status, cache_control }),
            Given::Decoded => {
                let plan = Box::new(self.plan(asked, Caching::Apart));
                let form = Form::Coded { coding: Coding::Identity, not_modified };
                Step::Decode(Found { entry, now, form, result, status, cache_control }, plan)
            }
        }
    }
}

/// Whether it is a purge, as far as that listener knows any.
fn is_purge(head: &Head<'_, '_>, visitor: Visitor) -> bool {
    matches!(head.method, Method::Other(method) if visitor.dialects.take(method))
}

/// The one spelling under which a node is asked for what all spellings of a host share.
fn known_host(scheme: Scheme, host: &[u8]) -> Box<str> {
    let (name, port) = canonical_host(scheme, host);
    let mut known = String::from_utf8_lossy(name).to_ascii_lowercase();
    if !port.is_empty() {
        known.push(':');
        known.push_str(&String::from_utf8_lossy(port));
    }
    known.into_boxed_str()
}

/// In which form a request gets what is stored for it.
fn form(entry: &Entry, head: &Head<'_, '_>) -> Form {
    // In this order: a range of what the client has already is not sent (RFC 9110 section 13.2.2).
    if conditional::is_not_modified(entry.status(), entry.head(), head) {
        Form::NotModified
    } else {
        Form::Part(range::part(entry, head))
    }
}
