//! What is to become of an answer that came for the cache: whether it is stored, for how long, and who may have it.

use std::time::SystemTime;

use clearcoat_cache::{Lifetime, Reason, RequestFacts, Tag, TagsTooLong, Verdict, assess};
use http::{HeaderMap, Method, header};
use tracing::warn;

use super::Fetcher;
use super::deception;
use super::plan::Plan;
use super::wire::NodeHead;
use crate::admin::Limit;

/// The default is that of an answer which is none of the cache's business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// Others who ask for the same variant may have it.
    pub(super) shared: bool,
    /// Why it is not shared or stored, in a word.
    pub(super) detail: Option<&'static str>,
    /// `None`: it is not stored.
    pub(super) lifetime: Option<Lifetime>,
}

impl Fate {
    const fn refused(why: &'static str) -> Self {
        Self { shared: false, detail: Some(why), lifetime: None }
    }
}

impl Fetcher {
    /// What becomes of an answer with these tags. A URL whose answers are not for sharing is marked, so that the next
    /// requests for it do not wait for each other.
    pub(super) fn fate(&self, plan: &Plan, head: &NodeHead, tags: &Result<Box<[Tag]>, TagsTooLong>) -> Fate {
        if is_event_stream(&head.headers) {
            self.note_uncacheable(plan);
            return Fate::refused("event-stream");
        }
        match (self.judge(plan, head), tags) {
            (Verdict::Uncacheable(reason), _) => {
                // A failure says nothing of the next answer: no mark, so that requests go on sharing.
                if !head.status.is_server_error() {
                    self.note_uncacheable(plan);
                }
                Fate::refused(reason.as_str())
            }
            (Verdict::Store(_), Err(error)) => {
                self.counters.limit(Limit::Tags);
                warn!(url = plan.shown_url(), %error, "an answer has too many tags and is not stored");
                self.note_uncacheable(plan);
                Fate::refused("too-many-tags")
            }
            (Verdict::Store(lifetime), Ok(_))
                if lifetime.said_by.is_operator() && is_deceptive(plan, head) =>
            {
                self.counters.limit(Limit::Deception);
                self.note_uncacheable(plan);
                Fate::refused("deception-guard")
            }
            // Stored for the next question to the node; those who wait may not have it unasked.
            (Verdict::Store(lifetime), Ok(_)) if lifetime.ask_always => {
                Fate { shared: false, detail: Some(Reason::NoCache.as_str()), lifetime: Some(lifetime) }
            }
            (Verdict::Store(lifetime), Ok(_)) => {
                Fate { shared: true, detail: None, lifetime: Some(lifetime) }
            }
        }
    }

    /// Whether the answer may be stored, and for how long.
    fn judge(&self, plan: &Plan, head: &NodeHead) -> Verdict {
        let facts = RequestFacts {
            method: &Method::GET,
            authorization: plan.headers.contains_key(header::AUTHORIZATION),
            // As Varnish and nginx: what visitors send does not decide what is stored for others.
            no_store: false,
        };
        if plan.asks_context.is_some() && head.status.is_server_error() {
            // What failed says nothing about rights.
            return Verdict::Uncacheable(Reason::Status);
        }
        assess(&facts, head.status, &head.headers, &plan.freshness, SystemTime::now())
    }

    pub(super) fn note_uncacheable(&self, plan: &Plan) {
        if !plan.uncacheable_for.is_zero() {
            self.store.mark_uncacheable(plan.key, self.clock.now().saturating_add(plan.uncacheable_for));
        }
    }
}

/// Whether an answer is one event after the other, as they happen (Server-Sent Events): for the one who listens, and not to be kept
/// whatever it says itself.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether the path of an answer promises something else than it is.
fn is_deceptive(plan: &Plan, head: &NodeHead) -> bool {
    let content_type = head.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    plan.deception_guard && !deception::fits(&plan.target, head.status, content_type)
}
