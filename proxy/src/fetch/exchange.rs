//! One answer from some node: choice, tries on other nodes, deadlines, and what the pool learns from it.
//!
//! Only requests without a body that are safe to repeat come here. Until the answer is handed on nobody has seen a
//! byte of it, so a node that dies in the middle of a small answer costs nothing but another try. To that end the
//! start of each body is *held* for a moment before the answer counts as given.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clearcoat_cache::Entry;
use clearcoat_cache::budget::{Charge, FillBudget};
use http::StatusCode;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{ErrorType, Result as PingoraResult};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info, warn};

use super::answer::interim_block;
use super::error::FetchError;
use super::plan::Plan;
use super::revalidate;
use crate::admin::{Counters, FetchResult, Limit};
use crate::esi::{CAPABILITY, SURROGATE_CAPABILITY};
use crate::front::forward;
use crate::pool::node::Node;
use crate::pool::{Lease, NodeId, Outcome, Pool, Unavailable, Want};

/// Bytes of a body that are held before the answer counts as given.
const HOLD_BYTES: usize = 64 * 1024;

/// How long the start of a body is held, from the end of the head. A page that is flushed in pieces is not kept
/// waiting longer than this.
const HOLD_TIME: Duration = Duration::from_millis(50);

/// Kept-alive connections that turn out to be closed may be replaced this often in one exchange without counting as a
/// try: the node may have closed all that were kept, and the last is a new one.
const STALE_CONNECTIONS: u32 = 4;

/// An answer whose head is complete and whose body has begun or ended.
pub(super) struct Exchange {
    /// Who answered.
    pub(super) node: Arc<Node>,
    pub(super) head: Box<ResponseHeader>,
    /// The start of the body.
    pub(super) held: Vec<Bytes>,
    /// `held` on the account, until a fill takes it over.
    pub(super) held_charge: Charge,
    /// What is still to come; `None` when all is there.
    pub(super) rest: Option<Rest>,
}

/// The part of an answer that is still at the node.
pub(super) struct Rest {
    session: HttpSession,
    peer: HttpPeer,
    lease: Lease,
    between_bytes: Duration,
    idle: Duration,
}

impl Rest {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// The node broke off or stalled.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        match read_body(&mut self.session, Instant::now() + self.between_bytes).await {
            Ok(chunk) => Ok(chunk),
            Err(failure) => {
                self.lease.report(failure.outcome());
                warn!(node = %self.lease.node(), error = %failure.error, "a node broke off in mid-body");
                Err(failure.error)
            }
        }
    }

    /// Keeps the connection for the next request, if it can be. The place at the node is given back.
    pub(super) async fn finish(self, connector: &Connector) {
        if !self.idle.is_zero() {
            connector.release_http_session(self.session, &self.peer, Some(self.idle)).await;
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
}

impl Failure {
    fn outcome(&self) -> Outcome {
        match self.error {
            FetchError::ConnectFailed => Outcome::ConnectFailed,
            FetchError::TimedOut => Outcome::TimedOut,
            FetchError::Broken
            | FetchError::Unavailable(_)
            | FetchError::Crowded
            | FetchError::Context
            | FetchError::GivenUp => Outcome::Broken,
        }
    }
}

/// Asks nodes until one answers; with `stale`, whether that entry is still right.
///
/// # Errors
///
/// Why there is no answer, after all tries that are allowed.
pub(super) async fn exchange(
    plan: &Plan,
    stale: Option<&Entry>,
    connector: &Connector,
    counters: &Counters,
    budget: &Arc<FillBudget>,
) -> Result<Exchange, FetchError> {
    let pool = &plan.pool;
    pool.note_request();
    let mut tried: Vec<NodeId> = Vec::new();
    let mut stale_connections = 0;
    let mut last = None;
    loop {
        let want = Want { hash: plan.hash, tried: &tried, idempotent: true };
        let lease = match pool.acquire(&want).await {
            Ok(lease) => lease,
            Err(unavailable) => {
                limit_fired(unavailable, counters);
                return Err(last.unwrap_or(FetchError::Unavailable(unavailable)));
            }
        };
        let node = lease.node().clone();
        let failure = match attempt(plan, stale, lease, connector, budget).await {
            Ok(exchange) => {
                counters.fetch(FetchResult::Ok);
                tried.push(node.id());
                let again = asks_for_another_node(exchange.head.status)
                    && tried.len() < pool.attempts() as usize
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
        if failure.stale_connection && stale_connections < STALE_CONNECTIONS {
            stale_connections += 1;
            continue;
        }
        counters.fetch(match failure.error {
            FetchError::ConnectFailed => FetchResult::ConnectFailed,
            FetchError::TimedOut => FetchResult::TimedOut,
            FetchError::Broken
            | FetchError::Unavailable(_)
            | FetchError::Crowded
            | FetchError::Context
            | FetchError::GivenUp => FetchResult::Broken,
        });
        tried.push(node.id());
        let again = tried.len() < pool.attempts() as usize && may_retry(pool, counters);
        let cause = failure.cause.trim();
        if !again {
            warn!(%node, url = plan.url(), cause, tries = tried.len(), "a visitor gets an error: {}", failure.error);
            return Err(failure.error);
        }
        // No visitor notices; that a node goes out is logged by the pool, with the reason.
        info!(%node, url = plan.url(), cause, "trying another node: {}", failure.error);
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
    stale: Option<&Entry>,
    lease: Lease,
    connector: &Connector,
    budget: &Arc<FillBudget>,
) -> Result<Exchange, Failure> {
    let started = Instant::now();
    let node = lease.node().clone();
    let mut held_charge = budget.charge();
    let result = ask(plan, stale, &lease, connector, started, &mut held_charge).await;
    match result {
        Ok((head, held, session, peer, ended)) => {
            let timeouts = plan.pool.timeouts();
            let rest =
                Rest { session, peer, lease, between_bytes: timeouts.between_bytes, idle: timeouts.idle };
            let rest = if ended {
                rest.finish(connector).await;
                None
            } else {
                Some(rest)
            };
            Ok(Exchange { node, head, held, held_charge, rest })
        }
        Err(failure) => {
            if !failure.stale_connection {
                lease.report(failure.outcome());
            }
            Err(failure)
        }
    }
}

type Asked = (Box<ResponseHeader>, Vec<Bytes>, HttpSession, HttpPeer, bool);

/// Sends the request and reads the head and the held start of the body.
async fn ask(
    plan: &Plan,
    stale: Option<&Entry>,
    lease: &Lease,
    connector: &Connector,
    started: Instant,
    held_charge: &mut Charge,
) -> Result<Asked, Failure> {
    let timeouts = plan.pool.timeouts();
    let fail = |error, cause: String| Failure { error, cause, stale_connection: false };
    let peer = lease.peer().map_err(|error| fail(FetchError::ConnectFailed, error.to_string()))?;
    let header = request_header(plan, stale).map_err(|error| fail(FetchError::Broken, error.to_string()))?;

    // The peer carries the limit for the TCP connect; this one bounds TLS and all.
    let connect = timeout_at(started + timeouts.connect * 2, connector.get_http_session(&peer)).await;
    let (mut session, reused) = match connect {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            let timed_out =
                matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
            let kind = if timed_out { FetchError::TimedOut } else { FetchError::ConnectFailed };
            return Err(fail(kind, error.to_string()));
        }
        Err(_) => return Err(fail(FetchError::TimedOut, "the connection took too long".into())),
    };

    let deadline = Instant::now() + timeouts.first_byte;
    let exchange = async {
        session.write_request_header(Box::new(header)).await?;
        loop {
            session.read_response().await?;
            match session.resp_header() {
                Some(head) if head.status.is_informational() => pass_on_interim(plan, head),
                Some(_) | None => return PingoraResult::<()>::Ok(()),
            }
        }
    };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let mut failure = failure_of(&error);
            // Nothing came back on a kept connection: the node had closed it before the request reached it.
            failure.stale_connection =
                reused && session.get_status().is_none() && error.etype() != &ErrorType::ReadTimedout;
            return Err(failure);
        }
        Err(_) => {
            return Err(fail(FetchError::TimedOut, format!("no answer within {:?}", timeouts.first_byte)));
        }
    }
    let Some(head) = session.resp_header().cloned() else {
        return Err(fail(FetchError::Broken, "there is no head".into()));
    };
    let first_byte = started.elapsed();

    let mut held = Vec::new();
    let mut held_bytes = 0;
    let hold_until = Instant::now() + HOLD_TIME;
    let is_event_stream = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let ended = loop {
        if held_bytes >= HOLD_BYTES || (is_event_stream && held_bytes > 0) {
            break false;
        }
        match timeout_at(hold_until, session.read_body_bytes()).await {
            // The hold is over; reading a body piece is cancel safe, nothing is lost.
            Err(_) => break false,
            Ok(Ok(None)) => break true,
            Ok(Ok(Some(chunk))) => {
                held_bytes += chunk.len();
                held_charge.add_piece(chunk.len());
                held.push(chunk);
            }
            Ok(Err(error)) => return Err(failure_of(&error)),
        }
    };
    lease.report(Outcome::Answered { status: head.status.as_u16(), first_byte });
    Ok((Box::new(head), held, session, peer, ended))
}

/// Sends an interim answer on to the visitor who waits. 101 cannot come, since nobody asked for it; if it does, it is
/// nothing for a client.
fn pass_on_interim(plan: &Plan, head: &ResponseHeader) {
    if let Some(visitor) = &plan.interim
        && head.status != StatusCode::SWITCHING_PROTOCOLS
    {
        let unwanted = |name: &http::HeaderName| plan.freshness.is_for_us(name);
        // A node that sends more of them than a visitor takes has hinted enough.
        let _ = visitor.try_send(interim_block(head.status, &head.headers, unwanted));
    }
}

async fn read_body(session: &mut HttpSession, deadline: Instant) -> Result<Option<Bytes>, Failure> {
    match timeout_at(deadline, session.read_body_bytes()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(failure_of(&error)),
        Err(_) => Err(Failure {
            error: FetchError::TimedOut,
            cause: "the body stalled".into(),
            stale_connection: false,
        }),
    }
}

fn failure_of(error: &pingora_error::Error) -> Failure {
    let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    Failure {
        error: if timed_out { FetchError::TimedOut } else { FetchError::Broken },
        cause: error.to_string(),
        stale_connection: false,
    }
}

/// The request as the node gets it.
fn request_header(plan: &Plan, stale: Option<&Entry>) -> PingoraResult<RequestHeader> {
    let mut header =
        RequestHeader::build(plan.method(), plan.target.as_bytes(), Some(plan.headers.len() + 8))?;
    for (name, value) in &plan.headers {
        header.append_header(name.clone(), value.clone())?;
    }
    forward::complete(&mut header, &plan.host, plan.visitor, plan.caching)?;
    if plan.puts_together() {
        header.insert_header(SURROGATE_CAPABILITY.clone(), CAPABILITY.clone())?;
    }
    if let Some(entry) = stale {
        revalidate::add_conditions(&mut header, entry)?;
    }
    Ok(header)
}
