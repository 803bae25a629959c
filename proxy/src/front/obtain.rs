//! The long way of a request for the cache: join or start the fetch, wait for its head, and make sure that what was
//! joined is really for this request.

use std::sync::Arc;
use std::time::Duration;

use clearcoat_cache::collapse::{FillFailed, Joined};
use clearcoat_cache::{Entry, Lookup, Page};
use ipnet::IpNet;
use tokio::time::timeout;

use super::Front;
use super::identity::Identities;
use super::recoded::{can_be_given, is_readable_for};
use crate::admin::Limit;
use crate::esi::EsiSettings;
use crate::fetch::{Answer, Caching, Failing, FetchError, Plan, Published, Reader};

/// Rounds of joining something that turns out to be for others. Each round has a reason that cannot repeat itself for
/// long (a purge in between, a Vary just learned); past them the request goes alone.
const ROUNDS: usize = 4;

/// How a request got what it got.
#[derive(Debug)]
pub(crate) enum Obtained {
    /// It is in the store by now.
    Entry(Arc<Entry>),
    /// It is in the store still, and the best there is where a node failed. `collapsed` as below.
    Instead { entry: Arc<Entry>, failing: Failing, collapsed: Option<bool> },
    /// It is on its way: its head and the body. `collapsed` tells whether it was another's
    /// fetch; `Some(false)`: one was waited for in vain.
    Stream { answer: Arc<Answer>, reader: Reader, collapsed: Option<bool> },
}

impl Front {
    /// Gets an answer for `plan`, together with others where that is allowed.
    pub(crate) async fn obtain(&self, plan: impl Into<Arc<Plan>>) -> Result<Obtained, FetchError> {
        // Shared with the fetch, and nearly always its last form.
        let mut plan: Arc<Plan> = plan.into();
        let mut rounds = 0;
        let mut in_vain = None;
        while plan.caching == Caching::Shared && rounds < ROUNDS {
            rounds += 1;
            let asked_at = self.store.generation();
            let key = (plan.key, plan.variant);
            let (reader, driven) = match self.fetcher.fills.join(key) {
                Joined::Leader(writer, reader) => {
                    // A fill may have ended between our look-up and our joining: then the store has it.
                    if let Some(entry) = self.fresh(&plan) {
                        writer.withdraw();
                        return Ok(Obtained::Entry(entry));
                    }
                    let driven = self.fetcher.drive(plan.clone(), writer);
                    (reader, Some(driven))
                }
                Joined::Follower(reader) => (reader, None),
                Joined::Full => {
                    self.counters.limit(Limit::CollapseWaiters);
                    return Err(FetchError::Crowded);
                }
            };
            let collapsed = driven.is_none();
            let head = if let Some(driven) = driven {
                driven.until(reader.head()).await
            } else {
                let _waiting = self.counters.waiting();
                match timeout(self.settings.collapse_timeout, reader.head()).await {
                    Ok(head) => head,
                    Err(_) => {
                        // As nginx does at the end of its lock timeout: ask for oneself, and do not store.
                        self.counters.limit(Limit::CollapseTimeout);
                        in_vain = Some(false);
                        break;
                    }
                }
            };
            let head = match head {
                Ok(head) => head,
                // The one who was to fetch found that it need not: look again.
                Err(FillFailed::Withdrawn) => {
                    if let Some(entry) = self.fresh(&plan) {
                        return Ok(Obtained::Entry(entry));
                    }
                    continue;
                }
                Err(FillFailed::Failed) => return Err(FetchError::GivenUp),
            };
            let answer = match &*head {
                Published::Failed(error) => return Err(*error),
                Published::Stale(entry, failing) => {
                    let collapsed = if collapsed { Some(true) } else { in_vain };
                    return Ok(Obtained::Instead { entry: entry.clone(), failing: *failing, collapsed });
                }
                Published::Answer(answer) => answer.clone(),
            };
            if !collapsed {
                return Ok(Obtained::Stream { answer, reader, collapsed: in_vain });
            }
            in_vain = Some(false);
            match self.fitness(&plan, &answer, asked_at) {
                Fitness::Ours => return Ok(Obtained::Stream { answer, reader, collapsed: Some(true) }),
                // All who waited go on at the same time, each for itself.
                Fitness::NotForSharing => Arc::make_mut(&mut plan).caching = Caching::Apart,
                Fitness::Purged => self.fetcher.fills.close(&key, &reader),
                Fitness::OtherVariant => {
                    let variant = match &answer.vary {
                        Some(vary) => vary.variant(self.store.secret(), &plan.headers),
                        None => answer.variant,
                    };
                    Arc::make_mut(&mut plan).variant = variant;
                    if let Some(entry) = self.fresh(&plan) {
                        return Ok(Obtained::Entry(entry));
                    }
                }
            }
        }
        if plan.caching == Caching::Shared {
            Arc::make_mut(&mut plan).caching = Caching::Apart;
        }
        // The whole would not be shared, and this client does not want it. An entry that is asked after is another thing.
        if plan.caching == Caching::Apart && plan.wants_part() && plan.stale.is_none() {
            Arc::make_mut(&mut plan).caching = Caching::Part;
        }
        let (writer, reader) = self.fetcher.fills.alone();
        let driven = self.fetcher.drive(plan.clone(), writer);
        match driven.until(reader.head()).await {
            Ok(head) => match &*head {
                Published::Failed(error) => Err(*error),
                Published::Stale(entry, failing) => {
                    Ok(Obtained::Instead { entry: entry.clone(), failing: *failing, collapsed: in_vain })
                }
                Published::Answer(answer) => {
                    self.submitted(&plan, answer);
                    Ok(Obtained::Stream { answer: answer.clone(), reader, collapsed: in_vain })
                }
            },
            Err(FillFailed::Failed | FillFailed::Withdrawn) => Err(FetchError::GivenUp),
        }
    }

    /// What the store has for `plan` by now.
    fn fresh(&self, plan: &Plan) -> Option<Arc<Entry>> {
        match self.store.lookup(plan.key, &plan.headers, self.clock.now()) {
            Lookup::Fresh(entry) => {
                let fits = plan.is_answered_by(&entry) && can_be_given(&entry, &plan.headers);
                fits.then_some(entry)
            }
            Lookup::Grace(_) | Lookup::Stale(_) | Lookup::Uncacheable | Lookup::Missing => None,
        }
    }

    /// Whether what somebody else asked for is an answer to this request too.
    fn fitness(&self, plan: &Plan, answer: &Answer, asked_at: clearcoat_cache::Generation) -> Fitness {
        let Some(stamp) =
            answer.stamp.as_ref().filter(|_| answer.shared && is_readable_for(answer, &plan.headers))
        else {
            return Fitness::NotForSharing;
        };
        // A purge that had been answered when this request came must not be undone by an older fetch. One that came
        // later does not matter: this request could as well have been served before it.
        let mut purged = self.store.named_since(stamp, plan.key, &answer.tags);
        if self.store.ban_count() > 0 {
            let page = Page { url: &plan.url(), head: &answer.block, tags: &answer.tags };
            purged = purged.max(self.store.banned_since(stamp, &page));
        }
        if purged.is_some_and(|generation| generation <= asked_at) {
            return Fitness::Purged;
        }
        let variant = match &answer.vary {
            Some(vary) => vary.variant(self.store.secret(), &plan.headers),
            None => answer.variant,
        };
        if variant == answer.variant { Fitness::Ours } else { Fitness::OtherVariant }
    }
}

enum Fitness {
    Ours,
    NotForSharing,
    Purged,
    OtherVariant,
}

/// What [`Front::obtain`] needs of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct FrontSettings {
    /// The longest wait for somebody else's fetch.
    pub(crate) collapse_timeout: Duration,
    /// Clients that are told all.
    pub(crate) debug_clients: Box<[IpNet]>,
    /// How far pages are put together.
    pub(crate) esi: EsiSettings,
    /// What is stored goes when an unsafe request changes it.
    pub(crate) unsafe_invalidates: bool,
    /// Headers that only the connection may say.
    pub(crate) identities: Identities,
}
