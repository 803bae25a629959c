//! The wait for a hash that is not known, and what the page's request meets once it is.

use std::sync::Arc;

use clearcoat_cache::{Entry, Moment};
use http::header::HeaderValue;

use super::told;
use crate::admin::Forward;
use crate::fetch::{Caching, FetchError, Plan};
use crate::front::look::{Way, forward_to_cached};
use crate::front::recoded::can_be_given;
use crate::front::{Front, Obtained};

/// The request for the hash that goes before that for a page, and what has to be known for the page's look-up.
#[derive(Clone, Debug)]
pub(crate) struct First {
    /// The request for the hash.
    pub(crate) plan: Plan,
    /// The client wants a page that was asked after.
    pub(crate) anew: bool,
    /// It may have a page within grace.
    pub(crate) may_be_stale: bool,
}

/// What a page's request meets when its hash is known.
#[derive(Debug)]
pub(crate) enum Identified {
    /// The page is to be had from a node.
    Page(Box<Plan>),
    /// It is in the store.
    Stored(Arc<Entry>, Moment),
    /// There is no hash but this answer, and it is the visitor's.
    Refused(Obtained),
}

impl Front {
    /// Waits for the hash that `plan` needs, together with others of the same visitor, and looks the page up with it.
    ///
    /// # Errors
    ///
    /// The hash could not be had.
    pub(in crate::front) async fn identify(
        &self,
        mut plan: Plan,
        first: First,
    ) -> Result<Identified, FetchError> {
        let First { plan: hash_plan, anew, may_be_stale } = first;
        let Some(rules) = hash_plan.asks_context.clone() else { return Ok(Identified::Page(Box::new(plan))) };
        let obtained = Box::pin(self.obtain(hash_plan)).await?;
        let head = match &obtained {
            Obtained::Entry(entry) | Obtained::Instead { entry, .. } => entry.head(),
            // What failed says nothing about rights, and must not decide what is shown.
            Obtained::Stream { answer, .. } if answer.status.is_server_error() => {
                return Err(FetchError::Context);
            }
            Obtained::Stream { answer, .. } => &answer.block,
        };
        let value = match told::hash(head, &rules.header) {
            Some(value) => HeaderValue::from_bytes(value),
            None => return Ok(Identified::Refused(obtained)),
        };
        drop(obtained);
        // It came in a header.
        let Ok(value) = value else { return Err(FetchError::Context) };
        plan.headers.insert(rules.header.clone(), value);
        plan.variant = self.expected_variant(plan.key, plan.own_vary.as_ref(), &plan.headers);
        let now = self.clock.now();
        let peek = self.store.peek(plan.key, &plan.headers, now);
        if let Some(dead) = &peek.dead {
            self.store.discard(dead);
        }
        let way = self.way(peek.lookup, &plan.pool, anew, || may_be_stale, now);
        plan.forward = forward_to_cached(peek.known);
        plan.caching = way.caching();
        match way {
            Way::Hit(entry) | Way::Disconnected(entry) if can_be_given(&entry, &plan.headers) => {
                self.store.used(&entry);
                Ok(Identified::Stored(entry, now))
            }
            Way::Grace(entry) if can_be_given(&entry, &plan.headers) => {
                self.store.used(&entry);
                self.fetcher.refresh(&plan.pool, (plan.key, entry.variant()), || Plan {
                    stale: Some(entry.clone()),
                    ..plan.clone()
                });
                Ok(Identified::Stored(entry, now))
            }
            // Not in a form that this client reads: asked for as if nobody had it.
            Way::Hit(_) | Way::Disconnected(_) | Way::Grace(_) => {
                plan.caching = Caching::Apart;
                Ok(Identified::Page(Box::new(plan)))
            }
            Way::Revalidate(entry) => {
                self.store.used(&entry);
                plan.stale = Some(entry);
                Ok(Identified::Page(Box::new(plan)))
            }
            Way::Anew(entry) => {
                self.store.used(&entry);
                plan.forward = Forward::Request;
                plan.newer_than = Some(now);
                plan.stale = Some(entry);
                Ok(Identified::Page(Box::new(plan)))
            }
            Way::Fetch | Way::FetchApart | Way::Nothing => Ok(Identified::Page(Box::new(plan))),
        }
    }
}
