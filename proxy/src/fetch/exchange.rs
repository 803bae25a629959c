//! One answer from some node: choice, tries on other nodes, deadlines, and what the pool learns from it.
//!
//! Most requests that come here are safe to repeat; those that are not are sent once, unless not a byte of them has gone
//! out. Until the answer is handed on nobody has seen a
//! byte of it, so a node that dies in the middle of a small answer costs nothing but another try. To that end the
//! start of each body is *held* for a moment before the answer counts as given.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::budget::{Charge, FillBudget};
use http::StatusCode;
use pingora_core::connectors::TransportConnector;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::answer::interim_block;
use super::error::FetchError;
use super::fate::is_event_stream;
use super::plan::Plan;
use super::upgrade::Opened;
use super::wire::{NodeHead, Session, Taken, WireError};
use crate::admin::{Counters, FetchResult, Limit};
use crate::pool::clock::after;
use crate::pool::node::Node;
use crate::pool::{Lease, LinkError, NodeId, Outcome, Pool, Reuse, Unavailable, Want};

/// Bytes of a body that are held before the answer counts as given.
const HOLD_BYTES: usize = 64 * 1024;

/// How long the start of a body is held, from the end of the head. A page that is flushed in pieces is not kept
/// waiting longer than this.
const HOLD_TIME: Duration = Duration::from_millis(50);

/// An answer whose head is complete and whose body has begun or ended.
pub(super) struct Exchange {
    /// Who answered.
    pub(super) node: Arc<Node>,
    pub(super) head: NodeHead,
    /// The start of the body.
    pub(super) held: Vec<Bytes>,
    /// `held` on the account, until a fill takes it over.
    pub(super) held_charge: Charge,
    /// What is still to come; `None` when all is there.
    pub(super) rest: Option<Rest>,
    /// The lines behind the body, where all is there.
    pub(super) trailers: Vec<u8>,
}

/// The part of an answer that is still at the node.
pub(super) struct Rest {
    session: Session,
    lease: Lease,
    between_bytes: Duration,
}

impl Rest {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// The node broke off or stalled.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.session.set_deadline(after(Instant::now(), self.between_bytes));
        match self.session.piece().await {
            Ok(chunk) => Ok(chunk),
            Err(error) => {
                let failure = Failure::of(&error);
                self.lease.report(failure.outcome());
                warn!(node = %self.lease.node(), error = %failure.error, "a node broke off in mid-body");
                Err(failure.error)
            }
        }
    }

    /// The lines behind the body, once that has been read to its end.
    pub(super) fn take_trailers(&mut self) -> Vec<u8> {
        self.session.take_trailers()
    }

    /// The connection and the place at the node, where that has agreed to another protocol.
    pub(super) fn into_opened(self) -> Opened {
        Opened { link: self.session.into_upgraded(), lease: self.lease }
    }

    /// Keeps the connection for the next request, if it can be. The place at the node is given back.
    pub(super) fn finish(self) {
        // In this order: whoever is called for the place finds the connection.
        if let Some((link, keep)) = self.session.into_link() {
            self.lease.keep_link(link, keep);
        }
        drop(self.lease);
    }
}

/// One failed try.
struct Failure {
    error: FetchError,
    /// For the log.
    cause: String,
    /// The connection had been kept alive and the node may simply have closed it.
    stale_connection: bool,
    /// The node may have heard the request.
    sent: bool,
}

impl Failure {
    fn of(error: &WireError) -> Self {
        let kind = match error {
            WireError::TimedOut => FetchError::TimedOut,
            WireError::Ended | WireError::Malformed(_) | WireError::Io(_) => FetchError::Broken,
        };
        Self { error: kind, cause: error.to_string(), stale_connection: false, sent: true }
    }

    fn outcome(&self) -> Outcome {
        match self.error {
            FetchError::ConnectFailed => Outcome::ConnectFailed,
            FetchError::TimedOut => Outcome::TimedOut,
            FetchError::Broken
            | FetchError::Unavailable(_)
            | FetchError::Crowded
            | FetchError::Context
            | FetchError::Token
            | FetchError::GivenUp => Outcome::Broken,
        }
    }
}

/// Asks nodes with this request until one answers; `None` is one that cannot be sent.
///
/// # Errors
///
/// Why there is no answer, after all tries that are allowed.
pub(super) async fn exchange(
    plan: &Plan,
    request: Option<&[u8]>,
    connector: &TransportConnector,
    counters: &Counters,
    budget: &Arc<FillBudget>,
) -> Result<Exchange, FetchError> {
    let pool = &plan.pool;
    pool.note_request();
    let mut tried: Vec<NodeId> = Vec::new();
    let idempotent = plan.is_idempotent();
    // Whether the next try is made on a new connection, which cannot have been closed already.
    let mut anew = false;
    let mut last = None;
    loop {
        let want = Want { hash: plan.hash, tried: &tried, idempotent };
        let pinned = match &plan.pins {
            Some(pins) => pins.node_for(pool, &plan.headers, &tried).await,
            None => None,
        };
        let lease = match pool.acquire_at(pinned, &want).await {
            Ok(lease) => lease,
            Err(unavailable) => {
                limit_fired(unavailable, counters);
                return Err(last.unwrap_or(FetchError::Unavailable(unavailable)));
            }
        };
        let node = lease.node().clone();
        let failure = match attempt(plan, request, lease, anew, connector, budget).await {
            Ok(mut exchange) => {
                counters.fetch(FetchResult::Ok);
                if let Some(pins) = &plan.pins {
                    pins.learn(pool, &plan.headers, &mut exchange.head.headers, node.id()).await;
                }
                if plan.submission.is_some() || !asks_for_another_node(exchange.head.status) {
                    return Ok(exchange);
                }
                tried.push(node.id());
                let again = tried.len() < pool.attempts() as usize
                    && pool.is_usable_besides(&tried)
                    && may_retry(pool, counters);
                if !again {
                    return Ok(exchange);
                }
                counters.fetch(FetchResult::Retried);
                debug!(%node, status = exchange.head.status.as_u16(), "trying another node");
                continue;
            }
            Err(failure) => failure,
        };
        if failure.stale_connection && idempotent && !anew {
            anew = true;
            continue;
        }
        counters.fetch(match failure.error {
            FetchError::ConnectFailed => FetchResult::ConnectFailed,
            FetchError::TimedOut => FetchResult::TimedOut,
            FetchError::Broken
            | FetchError::Unavailable(_)
            | FetchError::Crowded
            | FetchError::Context
            | FetchError::Token
            | FetchError::GivenUp => FetchResult::Broken,
        });
        tried.push(node.id());
        let repeatable = idempotent || !failure.sent;
        // What has reached no node is no load there, so it takes nothing off the budget: a node that dies takes more than a fifth of
        // the requests with it, where there are few of them.
        let costs_nothing = !failure.sent && matches!(failure.error, FetchError::ConnectFailed);
        let again = repeatable
            && tried.len() < pool.attempts() as usize
            && (costs_nothing || may_retry(pool, counters));
        let cause = failure.cause.trim();
        if !again {
            warn!(%node, url = plan.shown_url(), cause, tries = tried.len(), "a visitor gets an error: {}", failure.error);
            return Err(failure.error);
        }
        // No visitor notices; that a node goes out is logged by the pool, with the reason.
        info!(%node, url = plan.shown_url(), cause, "trying another node: {}", failure.error);
        last = Some(failure.error);
        counters.fetch(FetchResult::Retried);
    }
}

/// Takes a retry off the pool's budget.
pub(crate) fn may_retry(pool: &Pool, counters: &Counters) -> bool {
    let may = pool.may_retry();
    if !may {
        counters.limit(Limit::RetryBudget);
    }
    may
}

/// Counts that a pool's queue refused a request.
pub(crate) fn limit_fired(unavailable: Unavailable, counters: &Counters) {
    match unavailable {
        Unavailable::QueueFull => counters.limit(Limit::QueueFull),
        Unavailable::QueueTimeout => counters.limit(Limit::QueueTimeout),
        Unavailable::NoNode => {}
    }
}

/// A node that says it cannot serve, as opposed to an application that failed: another may do better.
fn asks_for_another_node(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

async fn attempt(
    plan: &Plan,
    request: Option<&[u8]>,
    lease: Lease,
    anew: bool,
    connector: &TransportConnector,
    budget: &Arc<FillBudget>,
) -> Result<Exchange, Failure> {
    let started = Instant::now();
    let node = lease.node().clone();
    let mut held_charge = budget.charge();
    let result = ask(plan, request, &lease, anew, connector, started, &mut held_charge).await;
    match result {
        Ok((head, held, mut session, ended)) => {
            let trailers = if ended { session.take_trailers() } else { Vec::new() };
            let rest = Rest { session, lease, between_bytes: plan.pool.timeouts().between_bytes };
            let rest = if ended {
                rest.finish();
                None
            } else {
                Some(rest)
            };
            Ok(Exchange { node, head, held, held_charge, rest, trailers })
        }
        Err(failure) => {
            if !failure.stale_connection {
                lease.report(failure.outcome());
            }
            Err(failure)
        }
    }
}

type Asked = (NodeHead, Vec<Bytes>, Session, bool);

/// Sends the request and reads the head and the held start of the body.
async fn ask(
    plan: &Plan,
    request: Option<&[u8]>,
    lease: &Lease,
    anew: bool,
    connector: &TransportConnector,
    started: Instant,
    held_charge: &mut Charge,
) -> Result<Asked, Failure> {
    let timeouts = plan.pool.timeouts();
    let fail = |error, cause: String| Failure { error, cause, stale_connection: false, sent: false };
    let request = request.ok_or_else(|| fail(FetchError::Broken, "the target cannot be sent".into()))?;
    let reuse = if plan.is_idempotent() { Reuse::Any } else { Reuse::Warm };
    let kept = if anew { None } else { lease.kept_link(reuse, started) };
    let link = match kept {
        Some(link) => link,
        // In a box, because it is large, rare, and else a part of every fetch.
        None => Box::pin(lease.new_link(plan.behalf(), connector)).await.map_err(|error| {
            let kind = match error {
                LinkError::TimedOut => FetchError::TimedOut,
                LinkError::Failed(_) | LinkError::Peer(_) => FetchError::ConnectFailed,
            };
            fail(kind, error.to_string())
        })?,
    };

    let mut session = Session::new(link);
    session.set_deadline(after(Instant::now(), timeouts.first_byte));
    if plan.upgrade.is_some() {
        session.may_upgrade();
    }
    let exchange = async {
        session.send(request).await?;
        session.head(plan.method() == "HEAD", |head| pass_on_interim(plan, head)).await
    };
    let head = match exchange.await {
        Ok(head) => head,
        Err(error) => {
            let mut failure = Failure::of(&error);
            // Nothing came back on a kept connection: the node had closed it before the request reached it.
            failure.stale_connection = session.may_be_stale() && !matches!(error, WireError::TimedOut);
            return Err(failure);
        }
    };
    let first_byte = started.elapsed();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        lease.report(Outcome::Answered { status: 101, first_byte });
        return Ok((head, Vec::new(), session, false));
    }

    let mut held = Vec::new();
    let mut held_bytes = 0;
    // Its listener wants to know that it has begun, and may wait for the first event for long.
    let is_event_stream = is_event_stream(&head.headers);
    let mut waits = false;
    let ended = loop {
        if session.is_through() {
            break true;
        }
        if held_bytes >= HOLD_BYTES || is_event_stream {
            break false;
        }
        // Most bodies come with their head, and need no timer to be moved.
        let piece = match session.buffered() {
            Ok(Taken::Piece(piece)) => Ok(Some(piece)),
            Ok(Taken::End) => Ok(None),
            Ok(Taken::More) => {
                if !waits {
                    waits = true;
                    session.set_deadline(Instant::now() + HOLD_TIME);
                }
                session.piece().await
            }
            Err(error) => Err(error),
        };
        match piece {
            // The hold is over; reading a body piece is cancel safe, nothing is lost.
            Err(WireError::TimedOut) => break false,
            Ok(None) => break true,
            Ok(Some(chunk)) => {
                held_bytes += chunk.len();
                held_charge.add_piece(chunk.len());
                held.push(chunk);
            }
            Err(error) => return Err(Failure::of(&error)),
        }
    };
    lease.report(Outcome::Answered { status: head.status.as_u16(), first_byte });
    Ok((head, held, session, ended))
}

/// Sends an interim answer on to the visitor who waits.
fn pass_on_interim(plan: &Plan, head: &NodeHead) {
    if let Some(visitor) = &plan.interim {
        let unwanted = |name: &http::HeaderName| plan.freshness.is_for_us(name);
        visitor.send(interim_block(head.status, &head.headers, unwanted));
    }
}
