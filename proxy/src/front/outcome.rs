//! What a request ends with: the answer as it is sent, whatever it is sent by.
//!
//! [`Front::outcome`] waits for what the short way could not answer and makes of it what the client gets: what is stored
//! in the form that is for it, an answer on its way with what of it is sent, or an answer of ours. Nothing here knows how
//! an answer is written; who writes it has the connection, counts what was sent, and drops the wait when its client leaves.

use std::sync::Arc;

use clearcoat_cache::{Entry, Moment, Recoding};
use http::HeaderMap;

use super::cache_status::{CacheStatus, Forwarded, Told};
use super::cold_range::{self, Cut};
use super::context::{Identified, delivery};
use super::range::{self, Part};
use super::visitor::Visitor;
use super::{Form, Front, Obtained, conditional};
use crate::admin::{Forward, RequestResult};
use crate::esi::{Arrived, Incoming, Rest, Serving};
use crate::fetch::{Answer, Caching, Failing, FetchError, Interim, Opened, Plan, Reader};
use crate::respond::Local;

/// Said of an answer of the hash URL that tells no hash and is the visitor's.
const NO_CONTEXT: &str = "no-user-context";

/// A stored entry that a request is answered with, and what is said of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: Arc<Entry>,
    /// When it was looked at.
    pub(crate) now: Moment,
    pub(crate) form: Form,
    pub(crate) result: RequestResult,
    pub(crate) status: CacheStatus,
    /// What the client is told as `Cache-Control` in place of what the head says first.
    pub(crate) cache_control: Option<&'static str>,
}

/// An answer that is on its way.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) answer: Arc<Answer>,
    /// Its body, from the first byte that is wanted.
    pub(crate) reader: Reader,
    /// What of it the client gets.
    pub(crate) cut: Cut,
    pub(crate) result: RequestResult,
    pub(crate) status: CacheStatus,
    /// What the client is told as `Cache-Control` in place of what the head says first.
    pub(crate) cache_control: Option<&'static str>,
}

/// A connection to a node that has agreed on another protocol.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// What the node said to that.
    pub(crate) answer: Arc<Answer>,
    pub(crate) opened: Opened,
    pub(crate) result: RequestResult,
    pub(crate) status: CacheStatus,
}

/// What a request ends with.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Something stored.
    Found(Found),
    /// Something on its way.
    Streaming(Streaming),
    /// The client has already what is on its way (304).
    NotModified {
        answer: Arc<Answer>,
        result: RequestResult,
        status: CacheStatus,
        /// As in [`Found`].
        cache_control: Option<&'static str>,
    },
    /// A page with holes, put together as far as memory goes.
    Page(Box<Serving>),
    /// Bytes both ways, as long as both sides want (101).
    Tunnel(Box<Tunnel>),
    /// An answer of ours.
    Local(Local, RequestResult),
}

/// What is known of who asks, besides the plan.
struct Asker {
    visitor: Visitor,
    session: bool,
    head_only: bool,
    /// What it takes to put pages together, where that is done.
    esi: Option<Arc<Rest>>,
}

impl Front {
    /// Decodes what was found for this client; goes by the plan if that cannot be done. Otherwise as
    /// [`Front::outcome`].
    pub(crate) async fn decoded_outcome(
        &self,
        found: Found,
        plan: Box<Plan>,
        interim: Option<Arc<Interim>>,
    ) -> Outcome {
        if self.decode(&found.entry).await {
            return Outcome::Found(found);
        }
        self.outcome(plan, interim).await
    }

    /// Waits for what `plan` asks for. Interim answers of the node (1xx) go to `interim`, as blocks of HTTP/1.
    ///
    /// Dropping it is leaving: what nobody else waits for is ended as far as the rules for abandoned fetches say so.
    pub(crate) async fn outcome(&self, mut plan: Box<Plan>, interim: Option<Arc<Interim>>) -> Outcome {
        let asker = Asker {
            visitor: plan.visitor,
            session: plan.has_session(),
            head_only: plan.head_only,
            esi: plan.esi.clone(),
        };
        if let Some(order) = plan.purge.take() {
            return Box::pin(self.purge_if_told(*plan, *order)).await;
        }
        if let Some(first) = plan.first.take() {
            let (forward, conditions) = (plan.forward, conditional::conditions(&plan.headers));
            let wanted = cold_range::wanted(&plan);
            plan = match Box::pin(self.identify(*plan, *first)).await {
                Ok(Identified::Page(plan)) => plan,
                Ok(Identified::Stored(entry, now)) => {
                    return self.in_store(entry, now, &conditions, wanted.as_ref(), &asker).await;
                }
                Ok(Identified::Refused(Obtained::Stream { answer, reader, collapsed })) => {
                    let now = self.clock.now();
                    let forwarded = Forwarded { detail: Some(NO_CONTEXT), ..Forwarded::new(answer.forward) };
                    let (result, status) = streamed(answer.caching, forwarded, &answer, now, collapsed);
                    let status = self.told_to(asker.visitor, CacheStatus::Forwarded(status));
                    let cut = Cut::Whole;
                    return Outcome::Streaming(Streaming {
                        answer,
                        reader,
                        cut,
                        result,
                        status,
                        cache_control: None,
                    });
                }
                Ok(Identified::Refused(Obtained::Entry(entry) | Obtained::Instead { entry, .. })) => {
                    return self.in_store(entry, self.clock.now(), &HeaderMap::new(), None, &asker).await;
                }
                Err(error) => return failed(error, Forwarded::new(forward)),
            };
        }
        let (caching, key) = (plan.caching, plan.key);
        let upgrade = plan.upgrade.clone();
        let forwarded = Forwarded::new(plan.forward);
        self.counters.forward(plan.forward);
        // A node is not told of them when the answer may be stored: it has to come whole.
        let conditions = match caching {
            Caching::Bypass => HeaderMap::new(),
            Caching::Shared | Caching::Apart | Caching::Part => conditional::conditions(&plan.headers),
        };
        let wanted = cold_range::wanted(&plan);
        plan.interim = interim;
        // Parts are rare, and what they take is kept out of the way of all others.
        let obtained = match &wanted {
            None => self.obtain(plan).await.map(|obtained| (obtained, Cut::Whole)),
            Some(wanted) => Box::pin(self.obtain_part(plan, wanted, &conditions)).await,
        };
        let obtained = match obtained {
            Ok(obtained) => obtained,
            Err(error) => return failed(error, forwarded),
        };
        match obtained {
            (Obtained::Entry(entry), _) => {
                self.in_store(entry, self.clock.now(), &conditions, wanted.as_ref(), &asker).await
            }
            (Obtained::Instead { entry, failing, collapsed }, _) => {
                let now = self.clock.now();
                let status = self.told_to(asker.visitor, instead(forwarded, &entry, now, failing, collapsed));
                let said = (RequestResult::Grace, status);
                self.waited_for(entry, now, said, &conditions, wanted.as_ref(), &asker).await
            }
            (Obtained::Stream { answer, reader, collapsed }, cut) => {
                let now = self.clock.now();
                // Asked for apart, perhaps for another reason than at first.
                let forwarded = match answer.caching {
                    Caching::Part => Forwarded { forward: answer.forward, ..forwarded },
                    Caching::Shared | Caching::Apart | Caching::Bypass => forwarded,
                };
                let (result, mut status) = streamed(caching, forwarded, &answer, now, collapsed);
                if let Some(opened) = upgrade.and_then(|upgrade| upgrade.take()) {
                    let status = self.told_to(asker.visitor, CacheStatus::Forwarded(status));
                    return Outcome::Tunnel(Box::new(Tunnel { answer, opened, result, status }));
                }
                if answer.recoding == Recoding::Assemble
                    && let Some(rest) = &asker.esi
                {
                    let said = (result, self.told_to(asker.visitor, CacheStatus::Forwarded(status)));
                    let cache_control = delivery::instead(answer.audience, asker.session);
                    let page = Incoming { key, answer: &answer, head_only: asker.head_only, cache_control };
                    return match self.incoming(rest, page, reader, said).await {
                        Ok(Arrived::Page(serving)) => Outcome::Page(serving),
                        Ok(Arrived::Stored(entry)) => {
                            self.waited_for(entry, now, said, &conditions, None, &asker).await
                        }
                        Err(error) => failed(error, forwarded),
                    };
                }
                if let Some(entry) = self.decoded_instead(key, &answer, &conditions, &reader).await {
                    let said = (result, self.told_to(asker.visitor, CacheStatus::Forwarded(status)));
                    return self.waited_for(entry, now, said, &conditions, None, &asker).await;
                }
                let cache_control = delivery::instead(answer.audience, asker.session);
                if conditional::is_not_modified(answer.status.as_u16(), &answer.block, &conditions) {
                    // The node's own status is not the one that the client sees.
                    status.status = status.status.or(Some(answer.status.as_u16()));
                    let status = self.told_to(asker.visitor, CacheStatus::Forwarded(status));
                    return Outcome::NotModified { answer, result, status, cache_control };
                }
                let status = self.told_to(asker.visitor, CacheStatus::Forwarded(status));
                Outcome::Streaming(Streaming { answer, reader, cut, result, status, cache_control })
            }
        }
    }

    /// What is sent of an entry that turned out to be there.
    async fn in_store(
        &self,
        entry: Arc<Entry>,
        now: Moment,
        conditions: &HeaderMap,
        wanted: Option<&HeaderMap>,
        asker: &Asker,
    ) -> Outcome {
        let fresh = entry.ttl_left(now) >= 0;
        let result = if fresh { RequestResult::Hit } else { RequestResult::Grace };
        let status = self.told_to(asker.visitor, CacheStatus::hit(&entry, now, None));
        self.waited_for(entry, now, (result, status), conditions, wanted, asker).await
    }

    /// What is sent of an entry that was waited for; `wanted` are the parts of it that the client asks for.
    async fn waited_for(
        &self,
        entry: Arc<Entry>,
        now: Moment,
        (result, status): (RequestResult, CacheStatus),
        conditions: &HeaderMap,
        wanted: Option<&HeaderMap>,
        asker: &Asker,
    ) -> Outcome {
        let cache_control = delivery::instead(entry.audience(), asker.session);
        if entry.recoding() == Recoding::Assemble
            && let Some(rest) = &asker.esi
        {
            let form = Form::Part(Part::Whole);
            let found = Found { entry, now, form, result, status, cache_control };
            return match self.page_for(rest, asker.head_only, &found) {
                Some(page) => Outcome::Page(Box::new(page)),
                None => Outcome::Found(found),
            };
        }
        let form = if conditional::is_not_modified(entry.status(), entry.head(), conditions) {
            Form::NotModified
        } else {
            let part = |wanted| range::part_of(entry.status(), entry.head(), entry.body().len(), wanted);
            Form::Part(wanted.map_or(Part::Whole, |wanted| part(wanted)))
        };
        match self.recoded_whole(conditions, &entry, form, now).await {
            Some(form) => Outcome::Found(Found { entry, now, form, result, status, cache_control }),
            None => failed(FetchError::GivenUp, Forwarded::new(Forward::VaryMiss)),
        }
    }
}

/// There is no answer.
fn failed(error: FetchError, forwarded: Forwarded) -> Outcome {
    Outcome::Local(Local::failure(error, forwarded), RequestResult::Unavailable)
}

/// What is said of an answer that is on its way.
fn streamed(
    caching: Caching,
    forwarded: Forwarded,
    answer: &Answer,
    now: Moment,
    collapsed: Option<bool>,
) -> (RequestResult, Forwarded) {
    let result = match (caching, answer.shared, collapsed) {
        (Caching::Bypass, _, _) => RequestResult::Pass,
        (_, true, Some(true)) => RequestResult::Collapsed,
        (_, true, _) => RequestResult::Miss,
        (_, false, _) => RequestResult::Uncacheable,
    };
    // Of what was asked after, the node's word is told: 304, or that it sent another answer.
    let status = match (answer.revalidated, forwarded.forward) {
        (true, _) => Some(304),
        (false, Forward::Stale | Forward::Request) => Some(answer.status.as_u16()),
        (
            false,
            Forward::Bypass | Forward::Method | Forward::UriMiss | Forward::VaryMiss | Forward::Partial,
        ) => None,
    };
    let ttl = answer.fresh_until.map(|until| {
        let (until, now) = (until.as_millis() as i64, now.as_millis() as i64);
        until.saturating_sub(now).div_euclid(1000)
    });
    // Only the request whose fetch it was had it stored.
    let stored = answer.stored && collapsed != Some(true);
    let told = if answer.tells { Told::Hit } else { Told::Nothing };
    (result, Forwarded { status, ttl, stored, collapsed, detail: answer.detail, told, ..forwarded })
}

/// What is said of a stored entry that is served because a node failed.
fn instead(
    forwarded: Forwarded,
    entry: &Entry,
    now: Moment,
    failing: Failing,
    collapsed: Option<bool>,
) -> CacheStatus {
    let (status, detail) = match failing {
        Failing::Status(status) => (Some(status.as_u16()), "stale-if-error"),
        Failing::Error(error) => (None, error.as_str()),
    };
    let ttl = Some(entry.ttl_left(now));
    // It is delivered from memory.
    let told = if entry.tells() { Told::Hit } else { Told::Nothing };
    CacheStatus::Forwarded(Forwarded { status, ttl, collapsed, detail: Some(detail), told, ..forwarded })
}
