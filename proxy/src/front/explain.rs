//! What the next request would meet, and why: the decision of [`Front::look`] put into words, with what it is based on.
//!
//! Nothing comes of it: no use is noted, nothing is fetched, purged or cleared away. What the request meets is not worked
//! out here but asked of the functions that real requests go through, so that the two agree; how the node will answer is
//! all that is not known.

mod facts;
mod words;

use std::sync::Arc;

use clearcoat_cache::{Entry, Known};

use super::cache_status::{CacheStatus, Forwarded};
use super::gate::{Left, Shut};
use super::look::{Course, Met, Passed, Way, forward_to_cached};
use super::range::Part;
use super::route::Place;
use super::seen::Seen;
use super::visitor::Visitor;
use super::{Form, Front, NO_NODE_UP, form, known_host};
use crate::admin::Forward;
use crate::admin::why::{Asker, Explanation, Next, Outcome};
use crate::fetch::{Caching, conditions};
use crate::listen::head::{Head, HeadLimits, Parsed, Refusal, lines, parse};
use crate::respond::Local;

/// Explains requests. Holds what the lane would read them with.
pub(crate) struct Explainer {
    pub(crate) front: Arc<Front>,
    pub(crate) limits: HeadLimits,
}

/// Why a request goes the way it goes, as far as words need it.
#[derive(Debug)]
enum Reason {
    Malformed(String),
    NoSite,
    Purge,
    Passed(Passed),
    Bypass,
    Cookie,
    Identity,
    Forged,
    /// The visitor's context comes first; what of the page's URL is stored.
    Identify(Known),
    Cached(Way, Known),
}

impl Explainer {
    /// What `request`, a head as this client would send it, would meet; `url` is it for
    /// people.
    pub(crate) fn explain(&self, url: String, asker: Asker, request: &[u8]) -> Explanation {
        let mut room = lines();
        match parse(request, &mut room, &self.limits) {
            Parsed::Complete(head) => {
                let visitor = Visitor { address: asker.client, ..Visitor::unknown(asker.scheme) };
                self.front.explain(url, &head, visitor)
            }
            Parsed::Refused(refusal) => refused(url, refusal),
            // What was put together with its end is too short only if it is none.
            Parsed::Partial => refused(url, Refusal::Malformed("this is not a request")),
        }
    }
}

fn refused(url: String, refusal: Refusal) -> Explanation {
    let local = Local::refusal(refusal);
    let next = Next { status: Some(local.status), cache_status: local.cache_status(), ..Next::default() };
    let answer = words::answer("", &url, &Reason::Malformed(refusal.to_string()), &next, None, None);
    Explanation { url, answer, next, ..Explanation::default() }
}

impl Front {
    fn explain(&self, url: String, head: &Head<'_, '_>, visitor: Visitor) -> Explanation {
        let routes = &self.routes;
        let place = routes.place(head.host, head.target);
        let method = head.method.as_str().to_owned();
        let mut explained = Explanation { url, method, ..Explanation::default() };
        let now = self.clock.now();
        let [asked, meant] = match super::is_purge(head, visitor) {
            true => [None, None],
            false => routes.gates(head.host, head.target),
        };
        let shut = meant.and_then(|gate| gate.look_strictly(head, visitor));
        if let Some(shut) = shut.or_else(|| asked?.look(head, visitor, now)) {
            explained.route = place.as_ref().map(facts::route);
            return self.barred(explained, head, &shut);
        }
        let mut left = Left::new();
        let guarded = [asked, meant].into_iter().flatten().find(|gate| gate.passwords.is_some());
        let inward = guarded.and_then(|gate| gate.inward(head, &mut left));
        let head = inward.as_ref().unwrap_or(head);
        let course = self.look(head, visitor, now);
        // Whatever is stored is shown also to a request that is not answered from it.
        if let Some(place) = &place {
            explained.route = Some(facts::route(place));
            explained.next.node_up = Some(place.treatment.pool.any_up());
        }
        let (mut shown, mut fate) = (None, None);
        let reason = match course {
            Course::Purge => Reason::Purge,
            Course::NoSite => Reason::NoSite,
            Course::Forged => Reason::Forged,
            Course::Identify(needed) => Reason::Identify(needed.known),
            Course::Pass(passed) => Reason::Passed(passed),
            Course::Bypass(_, treatment) if treatment.pass => Reason::Bypass,
            Course::Bypass(..) if self.settings.identities.are_in(head) => Reason::Identity,
            Course::Bypass(..) => Reason::Cookie,
            Course::Cached(Met { treatment, key, target, context, known, dead, way }) => {
                let seen = Seen::new(head, &treatment.request, visitor.address).with_hash(context.hash());
                let selected = match &way {
                    Way::Hit(entry)
                    | Way::Grace(entry)
                    | Way::Disconnected(entry)
                    | Way::Revalidate(entry)
                    | Way::Anew(entry) => Some(entry.clone()),
                    Way::Fetch | Way::FetchApart | Way::Nothing => dead,
                };
                let variant = self.expected_variant(key, treatment.request.parts.vary(), &seen);
                let stored = self.store.variants(key);
                // A mark hides what is stale; it is stored all the same.
                let hidden = || stored.iter().find(|entry| entry.variant() == variant || stored.len() == 1);
                let entry =
                    selected.or_else(|| (known == Known::ThisVariant).then(hidden).flatten().cloned());
                let (scheme, host) = (visitor.scheme, known_host(visitor.scheme, head.host));
                let known_url = format!("{}://{host}{}", scheme.as_str(), String::from_utf8_lossy(&target));
                let named = (key, known_url);
                explained.key = Some(facts::key(&self.store, named, &seen, &stored, entry.as_deref(), now));
                explained.entry = entry.as_deref().map(|entry| facts::entry(entry, now));
                explained.uncacheable_for =
                    self.store.uncacheable_until(key, now).map(|until| until.since(now).as_secs());
                explained.last_fetch = self.fetcher.last.of(key).map(|fetch| facts::fetch(&fetch, now));
                explained.next.fetch_under_way = self.fetcher.fills.is_fetching(&(key, variant));
                shown = Some(now);
                fate = entry;
                Reason::Cached(way, known)
            }
        };
        self.predict(&mut explained.next, &reason, head, shown);
        let entry = fate.as_deref().zip(shown);
        explained.answer = words::answer(
            &explained.method,
            &explained.url,
            &reason,
            &explained.next,
            place.as_ref().map(|place: &Place<'_>| place.treatment.pool.name()).as_deref(),
            entry.map(|(entry, now)| words::Stored { entry, now, explained: &explained }),
        );
        explained
    }

    /// What is said of a request that does not come in.
    fn barred(&self, mut explained: Explanation, head: &Head<'_, '_>, shut: &Shut<'_>) -> Explanation {
        explained.next.outcome = if let Shut::Redirect = shut { Outcome::Redirect } else { Outcome::Refused };
        if let Some((local, _)) = shut.answer(head) {
            explained.next.status = Some(local.status);
            explained.next.cache_status = local.cache_status();
        }
        explained.answer = words::barred(&explained.method, &explained.url, shut);
        explained
    }

    /// What can be said of the answer before anybody is asked.
    fn predict(
        &self,
        next: &mut Next,
        reason: &Reason,
        head: &Head<'_, '_>,
        now: Option<clearcoat_cache::Moment>,
    ) {
        let now = now.unwrap_or_else(|| self.clock.now());
        let hit = |entry: &Entry, detail| CacheStatus::hit(entry, now, detail).value();
        let asked = |forwarded: Forwarded| CacheStatus::Forwarded(forwarded).value();
        let (outcome, status, cache_status) = match reason {
            Reason::Malformed(_) | Reason::NoSite => {
                let local = Local::no_site();
                (Outcome::Refused, Some(local.status), local.cache_status())
            }
            Reason::Forged => {
                let local = Local::forged();
                (Outcome::Refused, Some(local.status), local.cache_status())
            }
            Reason::Identify(known) => {
                (Outcome::Fetch, None, asked(Forwarded::new(forward_to_cached(*known))))
            }
            Reason::Purge => (Outcome::Purge, None, CacheStatus::Own("purge").value()),
            Reason::Passed(passed) => (Outcome::Pass, None, asked(passed.forwarded())),
            Reason::Bypass | Reason::Cookie | Reason::Identity => {
                (Outcome::Pass, None, asked(Forwarded::new(Forward::Bypass)))
            }
            Reason::Cached(way, known) => {
                let forward = match way {
                    Way::Anew(_) => Forward::Request,
                    Way::Hit(_) | Way::Grace(_) | Way::Disconnected(_) | Way::Nothing => {
                        forward_to_cached(*known)
                    }
                    Way::Revalidate(_) | Way::Fetch | Way::FetchApart => forward_to_cached(*known),
                };
                let forward = Forwarded::new(forward);
                match way {
                    Way::Hit(entry) => (Outcome::Hit, Some(status_of(entry, head)), hit(entry, None)),
                    Way::Grace(entry) => (Outcome::Grace, Some(status_of(entry, head)), hit(entry, None)),
                    Way::Disconnected(entry) => {
                        let status = Some(status_of(entry, head));
                        (Outcome::Disconnected, status, hit(entry, Some(NO_NODE_UP)))
                    }
                    Way::Nothing => {
                        let local = Local::nothing_stored();
                        (Outcome::Refused, Some(local.status), local.cache_status())
                    }
                    Way::Revalidate(_) | Way::Anew(_) | Way::Fetch | Way::FetchApart => {
                        let joins = next.fetch_under_way && way.caching() == Caching::Shared;
                        let outcome = match way {
                            _ if joins => Outcome::Join,
                            Way::FetchApart => Outcome::FetchApart,
                            Way::Revalidate(entry) | Way::Anew(entry) => {
                                next.conditions = conditions(entry);
                                Outcome::Revalidate
                            }
                            Way::Hit(_) | Way::Grace(_) | Way::Disconnected(_) => Outcome::Fetch,
                            Way::Fetch | Way::Nothing => Outcome::Fetch,
                        };
                        let collapsed = joins.then_some(true);
                        (outcome, None, asked(Forwarded { collapsed, ..forward }))
                    }
                }
            }
        };
        (next.outcome, next.status, next.cache_status) = (outcome, status, cache_status);
    }
}

/// The status of an answer from memory.
fn status_of(entry: &Entry, head: &Head<'_, '_>) -> u16 {
    match form(entry, head) {
        Form::NotModified | Form::Coded { not_modified: true, .. } => 304,
        Form::Part(Part::Whole) | Form::Coded { not_modified: false, .. } => entry.status(),
        Form::Part(Part::One(_) | Part::Several(_)) => 206,
        Form::Part(Part::Unsatisfiable) => 416,
    }
}
