//! From a node into the cache: a fetch belongs to what it fetches and not to who asked first.
//!
//! It runs within the task of the visitor who waits for it, and in one of its own as soon as it could be kept waiting by that
//! visitor (`driven`), or at once where nobody waits (`refill`). It asks the nodes (`exchange`), decides what becomes of the
//! answer (`fate`), publishes the head to everybody who waits, pours the body as it comes, and stores what may be stored before
//! the last of it is seen. Clients only read along, so one that is slow or gone does not slow a fill, and ends it only if it was
//! the last and much is still to come (`stream`). The one exception is a body that is not kept: it is paced by its slowest reader
//! and ends with the last, or a slow client could make this process hold any amount of it.

mod answer;
mod deception;
mod driven;
mod error;
mod exchange;
mod fate;
pub(crate) mod interim;
mod last;
mod plan;
pub(crate) mod refill;
mod request;
mod revalidate;
mod stream;
mod trailers;
mod upgrade;
mod wire;

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use clearcoat_cache::collapse::{FillReader, FillWriter, Fills, Retention};
use clearcoat_cache::{
    Audience, CacheKey, Commit, Entry, EntryParts, FillStamp, Lifetime, Moment, Recoding, Store, VariantKey,
    VarySpec, collect_tags,
};
use http::header::{self, HeaderMap, HeaderName};
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use tracing::warn;

pub(crate) use answer::{Answer, Failing, Published, is_hop_by_hop, listed_in_connection};
pub(crate) use driven::Driven;
pub(crate) use error::FetchError;
pub(crate) use interim::Interim;
pub(crate) use last::{FillResult, LastFetch};
pub(crate) use plan::{Caching, Plan, Submission};
pub(crate) use revalidate::conditions;
pub(crate) use upgrade::{Opened, Upgrade};

use crate::admin::{Counters, EsiTrouble, Limit};
use crate::clock::Clock;
use crate::encode::{Encoder, Offer, codings};
use crate::esi::{Readable, SURROGATE_CONTROL, is_marked, read_page};
use crate::front::context::delivery::with_first;
use crate::front::context::{self, told};
use crate::front::request_id::RequestIds;
use crate::pool::node::Node;
use exchange::{Exchange, Rest, exchange};
pub(crate) use exchange::{limit_fired, may_retry};
use fate::Fate;
use last::{LastFetches, Noting};
use refill::Refills;
use stream::Pouring;
pub(crate) use wire::MAX_INTERIM;
use wire::NodeHead;

/// What fills are joined by: the URL, and the variant as far as it is known.
pub(crate) type FillKey = (CacheKey, VariantKey);
pub(crate) type Writer = FillWriter<FillKey, Published>;
pub(crate) type Reader = FillReader<Published>;

/// How far a body that is not kept may run ahead of its slowest reader.
const WINDOW_BYTES: usize = 256 * 1024;

/// What an answer is that is not stored because of its size, in a word.
const TOO_LARGE: &str = "too-large";

/// What a page with holes is that is not stored because its coding cannot be undone, in a word.
const UNDECODABLE: &str = "undecodable";

/// What a fetcher needs to know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct FetchSettings {
    /// A body larger than this is not stored.
    pub(crate) max_entry_bytes: u64,
    /// Response headers that carry tags.
    pub(crate) tag_headers: Vec<HeaderName>,
    /// Bytes of tags that one answer may carry and be stored.
    pub(crate) max_tag_bytes: usize,
    /// Visitors see the tags too.
    pub(crate) keep_tag_headers: bool,
    /// The most requests, besides the one who caused it, that wait for one fetch.
    pub(crate) collapse_waiters: u32,
    /// A fetch for the cache that all its visitors have left goes on if no more than this is still to come, in bytes; of
    /// unknown length, while it has brought no more than this.
    pub(crate) finish_abandoned: u64,
}

pub(crate) struct Fetcher {
    pub(crate) store: Arc<Store>,
    pub(crate) fills: Arc<Fills<FillKey, Published>>,
    /// What became of the last fetch of each URL.
    pub(crate) last: LastFetches,
    /// Refreshes of stale pages.
    pub(crate) refills: Arc<Refills>,
    /// Connects to nodes that speak TLS.
    connector: TransportConnector,
    counters: Arc<Counters>,
    clock: Clock,
    encoder: Arc<Encoder>,
    settings: ArcSwap<FetchSettings>,
    /// How nodes are told what stands for a request.
    ids: Arc<RequestIds>,
}

impl Fetcher {
    pub(crate) fn new(
        store: Arc<Store>,
        counters: Arc<Counters>,
        clock: Clock,
        encoder: Arc<Encoder>,
        settings: FetchSettings,
        ids: Arc<RequestIds>,
    ) -> Arc<Self> {
        let fills = Fills::new(settings.collapse_waiters, store.fill_budget().clone());
        Arc::new(Self {
            store,
            fills: Arc::new(fills),
            last: LastFetches::new(),
            refills: Arc::new(Refills::new()),
            // Connections are kept by their nodes.
            connector: TransportConnector::new(Some(ConnectorOptions::new(1))),
            counters,
            clock,
            encoder,
            settings: ArcSwap::from_pointee(settings),
            ids,
        })
    }

    /// Goes by other settings from now on, with what is being fetched too.
    pub(crate) fn reconfigure(&self, settings: FetchSettings) {
        self.fills.set_most_waiters(settings.collapse_waiters);
        self.settings.store(Arc::new(settings));
    }

    /// The fetch of `plan` into `writer`, to be driven by the visitor who waits for it.
    pub(crate) fn drive(self: &Arc<Self>, plan: Arc<Plan>, writer: Writer) -> Driven {
        let fetcher = self.clone();
        let interim = plan.interim.clone();
        Driven::new(async move { fetcher.run(&plan, writer).await }, interim)
    }

    async fn run(&self, plan: &Plan, writer: Writer) {
        // Taken before the request goes out: a purge from now on names what this fetch will bring, if that is for others.
        let stamp = match plan.caching {
            Caching::Shared | Caching::Apart => Some(Arc::new(self.store.begin_fill())),
            Caching::Bypass | Caching::Part => None,
        };
        let mut noting = Noting::new(&self.last, &self.clock, plan);
        let asked = {
            // Pinned here, because `select!` would move it.
            let asking = pin!(self.ask(plan));
            tokio::select! {
                asked = asking => asked,
                // What nobody else can join is for its one visitor, who has left.
                () = writer.deserted(), if !writer.can_be_joined() => return,
            }
        };
        // What follows waits no more, unless a body has to be; by then all that is not needed for that is gone.
        if let Some(pouring) = self.tell(asked, stamp, &mut noting, writer) {
            self.stream(&noting, pouring).await;
        }
    }

    /// Tells the visitors who wait what came of asking a node, and stores what is all there. What is left to be done is
    /// to pour the body.
    fn tell(
        &self,
        asked: Result<(Exchange, Option<Arc<Entry>>), FetchError>,
        stamp: Option<Arc<FillStamp>>,
        noting: &mut Noting<'_>,
        mut writer: Writer,
    ) -> Option<Pouring> {
        let plan = noting.plan;
        let (Exchange { node, head, held, held_charge, rest, trailers }, revalidated) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                let instead = self.instead_of_an_error(
                    plan,
                    Failing::Error(error),
                    Entry::may_serve_disconnected,
                    &mut writer,
                );
                noting.note(match instead {
                    Some(_) => FillResult::StaleServed,
                    None => FillResult::Failed(error),
                });
                writer.publish(instead.unwrap_or(Published::Failed(error)), Retention::Whole);
                writer.fail();
                return None;
            }
        };
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            self.tell_of_upgrade(plan, &head, node, rest, writer);
            return None;
        }
        noting.answered(&node, if revalidated.is_some() { 304 } else { head.status.as_u16() });
        if is_failure(head.status)
            && let Some(published) = self.instead_of_an_error(
                plan,
                Failing::Status(head.status),
                Entry::may_serve_on_error,
                &mut writer,
            )
        {
            noting.note(FillResult::StaleServed);
            writer.publish(published, Retention::Whole);
            writer.fail();
            return None;
        }
        let (mut answer, lifetime, offer) =
            self.answer(plan, &head, stamp.as_ref(), revalidated.as_deref(), node);
        let known_bytes = answer.length.unwrap_or(0).max(held.iter().map(|chunk| chunk.len() as u64).sum());
        let fits = known_bytes <= self.settings.load().max_entry_bytes;
        if lifetime.is_some() && !fits {
            self.counters.limit(Limit::EntrySize);
            answer.detail = Some(TOO_LARGE);
            if !answer.shared {
                self.note_uncacheable(plan);
            }
        }
        let storing = lifetime.filter(|_| fits).zip(stamp).map(|(lifetime, stamp)| Storing {
            stamp,
            status: head.status,
            block: answer.block.clone(),
            tags: answer.tags.clone(),
            variant: answer.variant,
            audience: answer.audience,
            tells: answer.tells,
            vary: answer.vary.clone(),
            lifetime,
            length: answer.length,
            offer,
            page: answer.page,
        });
        answer.stored = storing.is_some();
        answer.fresh_until = storing.as_ref().filter(|_| answer.shared).map(|storing| {
            let lifetime = &storing.lifetime;
            self.clock.now().saturating_add(lifetime.ttl.saturating_sub(lifetime.initial_age))
        });
        if let Some(vary) = answer.vary.as_ref().filter(|_| lifetime.is_some()) {
            self.store.learn_vary(plan.key, VarySpec::clone(vary));
        }
        match (storing, rest) {
            (Some(storing), None) => {
                // All is there already: it is stored before anybody hears of it, so that whoever has the page and
                // asks again finds it.
                for chunk in held {
                    writer.append(chunk);
                }
                drop(held_charge);
                if let Err(refused) = self.store_whole(noting, storing, Bytes::new(), &mut writer).1 {
                    (answer.stored, answer.fresh_until, answer.detail) = (false, None, Some(refused));
                }
                writer.publish(Published::Answer(Arc::new(answer)), Retention::Whole);
                writer.complete();
                None
            }
            (storing, rest) => {
                noting.note(match answer.detail {
                    _ if storing.is_some() => FillResult::Arriving,
                    why => FillResult::NotStored(why.unwrap_or("unknown")),
                });
                let retention = Self::retention(storing.as_ref());
                if let (None, Some(fields)) = (&storing, self.trailers(plan, &trailers)) {
                    let _ = answer.trailers.set(fields);
                }
                let answer = Arc::new(answer);
                writer.publish(Published::Answer(answer.clone()), retention);
                Some(Pouring { storing, held, rest, writer, answer })
            }
        }
    }

    /// Hands the connection of a node that changes the protocol to the one visitor who asked for that.
    fn tell_of_upgrade(
        &self,
        plan: &Plan,
        head: &NodeHead,
        node: Arc<Node>,
        rest: Option<Rest>,
        mut writer: Writer,
    ) {
        let agreed = plan.upgrade.as_ref().filter(|upgrade| upgrade.is_agreed(&head.headers));
        let (Some(upgrade), Some(rest)) = (agreed, rest) else {
            warn!(%node, url = plan.shown_url(), "a node changes to another protocol than it was asked for");
            writer.publish(Published::Failed(FetchError::Broken), Retention::Whole);
            return writer.fail();
        };
        upgrade.open(rest.into_opened());
        let (answer, ..) = self.answer(plan, head, None, None, node);
        writer.publish(Published::Answer(Arc::new(answer)), Retention::Whole);
        writer.complete();
    }

    /// The stored entry, if it may be served where a node failed, unless a purge has taken it since.
    fn instead_of_an_error(
        &self,
        plan: &Plan,
        failing: Failing,
        may_serve: impl Fn(&Entry, Moment) -> bool,
        writer: &mut Writer,
    ) -> Option<Published> {
        let stale = plan.stale.as_ref().filter(|stale| may_serve(stale, self.clock.now()))?;
        // In this order: whoever comes after a purge finds this fill no more, or the purge is seen here.
        writer.leave_table();
        let stored = self.store.variants(plan.key).iter().any(|stored| Arc::ptr_eq(stored, stale));
        stored.then(|| Published::Stale(stale.clone(), failing))
    }

    /// Asks a node for the answer, or whether the stale entry still is it; then that entry comes back, brought up to
    /// date, as if the node had sent it.
    async fn ask(&self, plan: &Plan) -> Result<(Exchange, Option<Arc<Entry>>), FetchError> {
        // Only an entry that is still stored is asked after: a purge since the look-up took it for good.
        let stale = plan.stale.as_ref().filter(|stale| {
            plan.caching != Caching::Bypass
                && self.store.variants(plan.key).iter().any(|stored| Arc::ptr_eq(stored, stale))
        });
        let budget = self.fills.budget();
        let request = request::bytes(plan, stale.map(Arc::as_ref), &self.ids);
        let mut asked = exchange(plan, request.as_deref(), &self.connector, &self.counters, budget).await?;
        let Some(stale) = stale.filter(|_| asked.head.status == http::StatusCode::NOT_MODIFIED) else {
            return Ok((asked, None));
        };
        asked.head = revalidate::freshened(stale, &asked.head.headers, &plan.delivery);
        asked.held = vec![stale.body().clone()];
        // A 304 has no body, so this is nothing but the connection.
        if let Some(rest) = asked.rest.take() {
            rest.finish();
        }
        Ok((asked, Some(stale.clone())))
    }

    /// What of the lines behind a body goes on.
    fn trailers(&self, plan: &Plan, lines: &[u8]) -> Option<HeaderMap> {
        let settings = self.settings.load();
        trailers::passable(lines, |name| {
            plan.freshness.is_for_us(name)
                || settings.tag_headers.contains(name)
                || plan.delivery.hides(name)
                || plan.asks_context.as_ref().is_some_and(|rules| rules.header == *name)
        })
    }

    fn answer(
        &self,
        plan: &Plan,
        head: &NodeHead,
        stamp: Option<&Arc<FillStamp>>,
        revalidated: Option<&Entry>,
        node: Arc<Node>,
    ) -> (Answer, Option<Lifetime>, Offer) {
        let settings = self.settings.load();
        let tags = match plan.caching {
            Caching::Bypass => Ok(Box::default()),
            Caching::Shared | Caching::Apart | Caching::Part => {
                collect_tags(&head.headers, &settings.tag_headers, settings.max_tag_bytes)
                    .and_then(|tags| plan.delivery.with_suffix(tags, &head.headers))
            }
        };
        let Fate { shared, detail, lifetime } = match plan.caching {
            Caching::Bypass | Caching::Part => {
                Fate { detail: plan.upgrade.is_some().then_some("upgrade"), ..Fate::default() }
            }
            Caching::Shared | Caching::Apart => self.fate(plan, head, &tags),
        };
        let vary = match plan.caching {
            Caching::Bypass => None,
            Caching::Shared | Caching::Apart | Caching::Part => plan.vary(&head.headers),
        };
        let variant = match &vary {
            Some(vary) => vary.variant(self.store.secret(), &plan.headers),
            None => VariantKey::NONE,
        };
        let page = page(plan, head, revalidated);
        let is_decoded = page.is_some_and(|page| page.coding.is_some());
        let offer = match lifetime {
            // It is stored in plain text, and nobody gets the node's coding.
            Some(_) if plan.asks_context.is_none() && !is_decoded => {
                self.encoder.offer(plan.compress, head.status, &head.headers, vary.as_deref())
            }
            Some(_) | None => Offer::default(),
        };
        let tells = plan.delivery.is_debugged(&head.headers);
        let mut shown = plan.delivery.shown(offer.headers(&head.headers), plan.visitor.scheme);
        if let Some(rules) = &plan.asks_context {
            shown.first = told::line(rules, &head.headers).or(shown.first);
        }
        let unwanted = |name: &HeaderName| {
            plan.freshness.is_for_us(name)
                || page.is_some() && *name == SURROGATE_CONTROL
                || is_decoded && *name == header::CONTENT_ENCODING
                // What is kept sets nobody's cookies, also what is only kept to be asked after: its lines come back with
                // a 304. The first visitor sees the same as all others.
                || lifetime.is_some() && *name == header::SET_COOKIE
                || !tells
                    && (!settings.keep_tag_headers && settings.tag_headers.contains(name)
                        || plan.delivery.hides(name))
                || plan.asks_context.as_ref().is_some_and(|rules| rules.header == *name)
                || plan.upgrade.as_ref().is_some_and(|upgrade| upgrade.is_own(name))
        };
        let number = |name: HeaderName| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .and_then(|text| text.trim().parse().ok())
        };
        let answer = Answer {
            status: head.status,
            block: with_first(
                answer::header_block(
                    head.status,
                    head.reason(),
                    &shown.headers,
                    unwanted,
                    &self.clock.http_date(),
                ),
                shown.first.as_ref(),
            ),
            audience: shown.audience,
            tells,
            length: number(header::CONTENT_LENGTH),
            caching: plan.caching,
            forward: plan.forward,
            node,
            age: number(header::AGE),
            shared,
            stored: false,
            fresh_until: None,
            detail,
            variant,
            vary,
            tags: match (tags.unwrap_or_default(), revalidated) {
                // A 304 without tags leaves the entry those that it has.
                (tags, Some(entry)) if tags.is_empty() => entry.tags().into(),
                (tags, _) => {
                    match plan.asks_context.as_ref().and_then(|_| context::tag(&plan.host, &plan.target)) {
                        Some(own) => tags.iter().cloned().chain([own]).collect(),
                        None => tags,
                    }
                }
            },
            revalidated: revalidated.is_some(),
            recoding: if page.is_some() { Recoding::Assemble } else { offer.recoding },
            page,
            stamp: stamp.cloned(),
            trailers: OnceLock::new(),
        };
        (answer, lifetime, offer)
    }

    /// Stores the answer; if that was refused, why, in a word. Those who have the head already were told that it would be
    /// stored, and cannot be told otherwise any more.
    fn commit(&self, plan: &Plan, storing: Storing, body: Bytes) -> Result<(), &'static str> {
        let now = self.clock.now();
        let (body, template) = match storing.page {
            None => (body, None),
            Some(page) => {
                let plain = page.plain(body, self.encoder.most_decoded_bytes()).ok_or(UNDECODABLE)?;
                let template = read_page(&storing.block, &plain);
                // Without a tag it is a page like all others.
                let has_work = template.has_work(plain.len());
                (plain, has_work.then_some(template))
            }
        };
        let mut head = Vec::with_capacity(storing.block.len() + 32);
        head.extend_from_slice(&storing.block);
        head.extend_from_slice(b"Content-Length: ");
        head.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        head.extend_from_slice(b"\r\n");
        let entry = Entry::new(EntryParts {
            key: plan.key,
            variant: storing.variant,
            url: plan.url().into_boxed_str(),
            status: storing.status.as_u16(),
            head: head.into(),
            body,
            tags: storing.tags,
            stored: now,
            lifetime: storing.lifetime,
        })
        .with_audience(storing.audience)
        .telling(storing.tells);
        let entry = self.encoder.prepare(entry, storing.offer, plan.stale.as_deref(), now);
        let entry = match template {
            Some(template) => {
                self.counters.esi(EsiTrouble::StrayTag, u64::from(template.strays));
                let weight = template.weight();
                entry.with_recipe(Arc::new(template), weight)
            }
            None => entry,
        };
        let vary = storing.vary.map(|vary| VarySpec::clone(&vary));
        match self.store.commit(&storing.stamp, entry, vary, now) {
            Commit::Stored(entry) | Commit::StoredSoft(entry) => {
                self.encoder.stored(&entry, &plan.headers, now);
                Ok(())
            }
            // A purge that came while this was on its way names it; whoever asked before may still read it.
            Commit::Refused => Err("purged"),
            Commit::TooLarge => {
                self.counters.limit(Limit::EntrySize);
                Err(TOO_LARGE)
            }
        }
    }
}

/// How an answer's body is read, if it is a page with holes that is put together here: the node says so, or said so of the entry
/// that a 304 brings up to date.
fn page(plan: &Plan, head: &NodeHead, revalidated: Option<&Entry>) -> Option<Readable> {
    if !plan.puts_together() || head.status == http::StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let known = revalidated.is_some_and(|entry| entry.recoding() == Recoding::Assemble);
    if !known && !is_marked(&head.headers) {
        return None;
    }
    let readable = Readable::new(codings(&head.headers));
    if readable.is_none() {
        warn!(
            url = plan.shown_url(),
            "a page with ESI tags is in a coding that cannot be undone: it is served as it is"
        );
    }
    readable
}

/// Statuses that stand for an error in the sense of RFC 5861 section 4.
fn is_failure(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// What is needed of an answer to store it.
struct Storing {
    stamp: Arc<FillStamp>,
    status: http::StatusCode,
    block: Bytes,
    audience: Audience,
    tells: bool,
    tags: Box<[clearcoat_cache::Tag]>,
    variant: VariantKey,
    vary: Option<Arc<VarySpec>>,
    lifetime: Lifetime,
    /// What the body's framing says of its length.
    length: Option<u64>,
    offer: Offer,
    /// Set where it is a page with holes.
    page: Option<Readable>,
}
