//! The token that an application tells to those who purge: ezplatform-http-cache's, which Varnish asks for in
//! `ez_invalidate_token`.
//!
//! A purge that shows a token is let in if the application's own URL tells the same one. That answer is kept as hashes of user
//! contexts are (`context`): under a key that no visitor's request has, purgeable by its tags and its URL, and with the token in
//! the first line of its head. An answer of another type, status or shape tells no token, and then none is right: Varnish
//! hands such an answer to the client, who takes a 200 for a purge that has been done.

use clearcoat_cache::Moment;

use super::context::{Context, told};
use super::look::forward_to_cached;
use super::outcome::Outcome;
use super::purge::Order;
use super::route::Treatment;
use super::seen::Seen;
use super::visitor::Visitor;
use super::{Asked, Front, Obtained, Step};
use crate::access::mask;
use crate::admin::RequestResult;
use crate::fetch::{Caching, FetchError, Plan};
use crate::front::cache_status::Forwarded;
use crate::listen::head::Head;
use crate::respond::Local;

/// Where clients show it and the application tells it.
pub(crate) const HEADER: &str = "x-invalidate-token";

/// What the application is asked for.
pub(crate) const TYPE: &str = "application/vnd.ezplatform.invalidate-token";

/// What purges say that is nobody's business but ours; with a list of tags as long as clients send it the application's own server may not take the
/// request for its token.
const OF_PURGES: [&str; 9] = [
    HEADER,
    "xkey-purge",
    "xkey-softpurge",
    "key",
    "surrogate-key",
    "x-cache-tags",
    "x-host",
    "x-url",
    "x-content-type",
];

impl Front {
    /// Carries a purge out if the application tells the token that it shows: now, if it has told it lately, or when it has been asked.
    pub(super) fn purge_by_token(
        &self,
        order: Order,
        treatment: &Treatment,
        head: &Head<'_, '_>,
        visitor: Visitor,
        now: Moment,
    ) -> Step {
        let Some(rules) = &treatment.purge_token else { return self.purged(order, None) };
        let seen = Seen::new(head, &treatment.request, visitor.address);
        let key = self.store.secret().key_for(visitor.scheme, head.host, rules.path.as_bytes(), |_| ());
        match self.told_before(rules, key, &treatment.pool, seen, now) {
            Context::Known(_, hash) => self.purged(order, Some(hash.value())),
            Context::None | Context::Refused(..) => self.purged(order, None),
            Context::Missing(missing) => {
                let asked = Asked {
                    head,
                    head_only: false,
                    key,
                    target: rules.path.as_bytes(),
                    treatment,
                    visitor,
                    hash: None,
                    forward: forward_to_cached(missing.known),
                    stale: None,
                };
                let mut plan = missing.rules.plan(&self.plan(&asked, Caching::Shared), &missing);
                for name in OF_PURGES {
                    plan.headers.remove(name);
                }
                plan.variant = self.expected_variant(key, None, &plan.headers);
                plan.purge = Some(Box::new(order));
                Step::Fetch(Box::new(plan))
            }
        }
    }

    fn purged(&self, order: Order, told: Option<&[u8]>) -> Step {
        Step::Local(self.purge_shown(order, told), RequestResult::Purge)
    }

    /// Waits for the token that `plan` asks for, and purges what is ordered if it was shown.
    pub(super) async fn purge_if_told(&self, plan: Plan, order: Order) -> Outcome {
        let forward = plan.forward;
        let Some(rules) = plan.asks_context.clone() else {
            return Outcome::Local(self.purge_shown(order, None), RequestResult::Purge);
        };
        let obtained = match self.obtain(plan).await {
            Ok(Obtained::Stream { answer, .. }) if answer.status.is_server_error() => Err(FetchError::Token),
            Ok(obtained) => Ok(obtained),
            Err(error) => Err(error),
        };
        let head = match &obtained {
            Ok(Obtained::Entry(entry) | Obtained::Instead { entry, .. }) => entry.head(),
            Ok(Obtained::Stream { answer, .. }) => &answer.block,
            Err(error) => {
                tracing::warn!(order = mask::shown(order.asked.to_string()), %error, "a purge was refused: the application did not tell its token");
                let local = Local::failure(*error, Forwarded::new(forward));
                return Outcome::Local(local, RequestResult::Unavailable);
            }
        };
        Outcome::Local(self.purge_shown(order, told::hash(head, &rules.header)), RequestResult::Purge)
    }
}
