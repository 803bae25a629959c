//! The pass road: requests that are none of the cache's business and carry a body, or change something, but for
//! those whose body is small ([`submit`](super::submit)).
//!
//! pingora-proxy streams them both ways. Here it is told which node, what the node and the client see, and above all
//! what may be sent twice: nothing that has reached a node, unless the method allows it (RFC 9110 section 9.2.2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use clearcoat_cache::Store;
use http::header::{self, HeaderName};
use http::{Method, Version};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tracing::warn;

use super::cache_status::{CacheStatus, Forwarded};
use super::context::delivery::Delivery;
use super::cookies::Kept;
use super::forward;
use super::gate::Turn;
use super::hop;
use super::identity::{Identities, Identity};
use super::invalidate::{Changed, invalidate};
use super::look::Passed;
use super::request_id::RequestIds;
use super::route::RouteTable;
use super::visitor::{self, Visitor};
use crate::access::mask;
use crate::access::{Accounts, Asked, Sent, Version as LoggedVersion};
use crate::admin::{Counters, FetchResult, Limit, RequestResult};
use crate::clock::Clock;
use crate::fetch::{FetchError, MAX_INTERIM, limit_fired, may_retry};
use crate::listen::chunks::BadChunk;
use crate::listen::pace::TooSlow;
use crate::pool::{Lease, NodeId, Outcome, Pool, Unavailable, Want};
use crate::respond::Local;
use crate::session::pin::Pins;

/// How long the rest of a body may rest that has been answered already; nginx's `lingering_timeout`.
const ANSWERED: Duration = Duration::from_secs(5);

pub(crate) struct PassRoad {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) accounts: Accounts,
    pub(crate) clock: Clock,
    /// Headers that visitors do not see.
    pub(crate) unwanted: Vec<HeaderName>,
    /// Sets requests apart that must not meet a kept-alive connection.
    pub(crate) fresh_connections: AtomicU64,
    /// How long a client's connection may be idle, in seconds.
    pub(crate) idle_seconds: u64,
    /// What is stored goes when an unsafe request changes it; `None`: it stays.
    pub(crate) invalidates: Option<Arc<Store>>,
    /// Bytes that a request body may have; `None`: any number.
    pub(crate) max_body: Option<u64>,
    /// Headers that only the connection may say.
    pub(crate) identities: Identities,
}

/// Whose request is handed over.
#[derive(Debug)]
pub(crate) struct Passenger {
    pub(crate) visitor: Visitor,
    /// Whose certificate was shown.
    pub(crate) identity: Option<Arc<Identity>>,
}

/// What is known of one request on this road.
pub(crate) struct Passing {
    started: Instant,
    pool: Option<Arc<Pool>>,
    pins: Option<Arc<Pins>>,
    hash: Option<u64>,
    tried: Vec<NodeId>,
    lease: Option<Lease>,
    sent_at: Option<Instant>,
    failure: Option<FetchError>,
    body_bytes: u64,
    /// Bytes that the body may have; `None`: any number.
    max_body: Option<u64>,
    /// Its place among the requests of its site, until it is over.
    turn: Option<Turn>,
    /// Interim answers so far.
    interim: usize,
    /// What of the answer is for the visitor, and whether the request has a session.
    delivery: Option<(Arc<Delivery>, bool)>,
    /// Why it is passed, as `Cache-Status` says it.
    forwarded: Forwarded,
}

impl PassRoad {
    fn host(header: &RequestHeader) -> String {
        let named = header.uri.authority().map(|authority| authority.as_str().as_bytes());
        let line = header.headers.get(header::HOST).map(header::HeaderValue::as_bytes);
        String::from_utf8_lossy(named.or(line).unwrap_or_default()).into_owned()
    }

    fn target(header: &RequestHeader) -> &str {
        header.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// As the listener knows them: it says so with each request that it hands over.
    fn passenger(session: &Session) -> Option<&Passenger> {
        session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    fn visitor(session: &Session) -> Visitor {
        Self::passenger(session).map(|passenger| passenger.visitor).unwrap_or_else(|| {
            let has_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
            Visitor::unknown(visitor::scheme(has_tls))
        })
    }

    /// Removes what an unsafe request that succeeded has changed: what is stored under its own URL and, on the same
    /// host, under those that the answer names (RFC 9111 section 4.4).
    fn invalidate(&self, request: &RequestHeader, response: &ResponseHeader) {
        let Some(store) = &self.invalidates else { return };
        let host = Self::host(request);
        let changed = Changed {
            method: &request.method,
            host: &host,
            target: Self::target(request),
            status: response.status,
        };
        let names = [header::LOCATION, header::CONTENT_LOCATION];
        let named = names.iter().filter_map(|name| response.headers.get(name)?.to_str().ok());
        invalidate(store, &self.routes, &changed, named, self.clock.now());
    }

    fn check_body(&self, bytes: u64, most: Option<u64>) -> Result<()> {
        if most.is_some_and(|most| bytes > most) {
            self.counters.limit(Limit::BodyBytes);
            return Err(
                Error::explain(ErrorType::HTTPStatus(413), "the request body is too large").into_down()
            );
        }
        Ok(())
    }

    fn settle_lease(ctx: &mut Passing, outcome: Outcome) {
        if let Some(lease) = ctx.lease.take() {
            lease.report(outcome);
        }
    }
}

/// What the access log is told of a request.
fn asked<'a>(session: &'a Session, host: &'a str, ids: &RequestIds) -> Asked<'a> {
    let request = session.req_header();
    let visitor = PassRoad::visitor(session);
    let said = request.headers.get_all(&ids.header).iter().map(header::HeaderValue::as_bytes);
    let mut asked = Asked {
        client: visitor.address,
        method: request.method.as_str().as_bytes(),
        target: PassRoad::target(request).as_bytes(),
        version: match request.version {
            Version::HTTP_10 => LoggedVersion::Http10,
            Version::HTTP_2 => LoggedVersion::Http2,
            _ => LoggedVersion::Http11,
        },
        host: host.as_bytes(),
        request_id: ids.of(visitor, said),
        ..Asked::default()
    };
    for (name, value) in &request.headers {
        asked.header(name.as_str(), value.as_bytes());
    }
    asked
}

/// Whether a chunked body was not one, which the client can still hear.
fn is_bad_chunk(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.and_then(std::io::Error::get_ref).is_some_and(|cause| cause.is::<BadChunk>())
}

/// Whether the client was slower than it may be.
fn was_too_slow(error: &Error) -> bool {
    error.root_cause().downcast_ref().and_then(TooSlow::in_error).is_some()
}

/// Turns why there is no node into pingora's kind of error; what the client hears stands in `ctx.failure`.
fn give_up(ctx: &mut Passing, failure: FetchError) -> Box<Error> {
    ctx.failure = Some(failure);
    Error::explain(ErrorType::ConnectNoRoute, failure.to_string()).into_up()
}

#[async_trait]
impl ProxyHttp for PassRoad {
    type CTX = Passing;

    fn new_ctx(&self) -> Passing {
        Passing {
            started: Instant::now(),
            pool: None,
            pins: None,
            hash: None,
            tried: Vec::new(),
            lease: None,
            sent_at: None,
            failure: None,
            body_bytes: 0,
            max_body: None,
            turn: None,
            interim: 0,
            delivery: None,
            forwarded: Passed::Method.forwarded(),
        }
    }

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {
        // None: pingora's compression is not wanted.
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Passing) -> Result<()> {
        let close = hop::settle(session.req_header_mut());
        // pingora resets this when it has read the head, to no limit at all.
        let ends =
            close || session.req_header().version < Version::HTTP_11 || session.is_process_shutting_down();
        ctx.forwarded = match session.req_header().method {
            Method::GET | Method::HEAD => Passed::Body.forwarded(),
            _ => Passed::Method.forwarded(),
        };
        session.set_keepalive((!ends).then_some(self.idle_seconds));
        // By itself it takes an interim answer for the answer, and ends the connection after it.
        session.set_close_on_response_before_downstream_finish(false);
        let knows_interim = session.req_header().version >= Version::HTTP_11;
        session.as_mut().set_ignore_info_resp(!knows_interim);
        // How slow the client may be is minded by the connection below.
        session.set_read_timeout(None);
        session.set_write_timeout(None);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Passing) -> Result<bool> {
        ctx.max_body = self.max_body;
        let request = session.req_header();
        let (host, routes) = (Self::host(request), &self.routes);
        let gate = routes.find(host.as_bytes(), Self::target(request).as_bytes());
        if let Some(gate) = gate.and_then(|treatment| treatment.gate.as_deref()) {
            ctx.max_body = gate.max_body.or(ctx.max_body);
            if let Some(turns) = &gate.turns {
                ctx.turn = turns.take();
                if ctx.turn.is_none() {
                    self.counters.limit(Limit::Concurrent);
                    let text = "too many requests of this site are being worked on";
                    return Err(Error::explain(ErrorType::HTTPStatus(503), text).into_down());
                }
            }
        }
        // Told in advance, so that a body that is too large is not begun.
        let length = session.req_header().headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
        self.check_body(length.unwrap_or(0), ctx.max_body)?;
        Ok(false)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Passing,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        self.check_body(ctx.body_bytes, ctx.max_body)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Passing) -> Result<Box<HttpPeer>> {
        let request = session.req_header();
        if ctx.pool.is_none() {
            let routes = &self.routes;
            let host = Self::host(request);
            let target = Self::target(request);
            let Some(treatment) = routes.find(host.as_bytes(), target.as_bytes()) else {
                return Err(give_up(ctx, FetchError::Unavailable(Unavailable::NoNode)));
            };
            let client = Self::visitor(session).address;
            let kept = Kept { cookies: &treatment.request.cookies, headers: &request.headers };
            ctx.hash =
                treatment.hash_on.as_ref().map(|hash_on| hash_on.number(target.as_bytes(), &kept, client));
            let mut session = request.headers.contains_key(header::AUTHORIZATION);
            treatment.request.cookies.each(&request.headers, &mut |_| session = true);
            ctx.delivery = Some((treatment.delivery.clone(), session));
            ctx.pool = Some(treatment.pool.clone());
            ctx.pins.clone_from(&treatment.pins);
            treatment.pool.note_request();
        }
        let Some(pool) = ctx.pool.clone() else {
            return Err(give_up(ctx, FetchError::GivenUp));
        };
        let idempotent = forward::is_idempotent(&request.method);
        let want = Want { hash: ctx.hash, tried: &ctx.tried, idempotent };
        let pinned = match &ctx.pins {
            Some(pins) => pins.node_for(&pool, &request.headers, &ctx.tried).await,
            None => None,
        };
        let lease = match pool.acquire_at(pinned, &want).await {
            Ok(lease) => lease,
            Err(unavailable) => {
                limit_fired(unavailable, &self.counters);
                let failure = ctx.failure.unwrap_or(FetchError::Unavailable(unavailable));
                return Err(give_up(ctx, failure));
            }
        };
        let mut peer = match lease.peer(Self::visitor(session).behalf()) {
            Ok(peer) => peer,
            Err(error) => {
                warn!(node = %lease.node(), %error, "a node has no address");
                return Err(give_up(ctx, FetchError::ConnectFailed));
            }
        };
        if !idempotent || !lease.keeps_links() {
            // A kept-alive connection may be closed by the node at the very moment when the request is sent on it, and nobody could
            // tell whether it was heard. And one that said for whom it is carries nobody else's request. On a new connection that cannot be, so it is never asked.
            peer.group_key = self.fresh_connections.fetch_add(1, Ordering::Relaxed) | 1 << 63;
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        ctx.tried.push(lease.node().id());
        ctx.lease = Some(lease);
        ctx.sent_at = Some(Instant::now());
        Ok(Box::new(peer))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Passing,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Not a byte has gone out, so any method may try the next node.
        let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
        let failure = if timed_out { FetchError::TimedOut } else { FetchError::ConnectFailed };
        self.counters.fetch(if timed_out { FetchResult::TimedOut } else { FetchResult::ConnectFailed });
        Self::settle_lease(ctx, if timed_out { Outcome::TimedOut } else { Outcome::ConnectFailed });
        ctx.failure = Some(failure);
        let again = ctx.pool.as_ref().is_some_and(|pool| {
            ctx.tried.len() < pool.attempts() as usize && may_retry(pool, &self.counters)
        });
        if again {
            self.counters.fetch(FetchResult::Retried);
        }
        error.set_retry(again);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Passing,
        client_reused: bool,
    ) -> Box<Error> {
        if *error.esource() != ErrorSource::Upstream {
            // The visitor left or broke off; the node has nothing to do with it.
            ctx.lease = None;
            error.set_retry(false);
            return error;
        }
        let stale_connection = client_reused && session.response_written().is_none();
        let timed_out = matches!(error.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
        ctx.failure = Some(if timed_out { FetchError::TimedOut } else { FetchError::Broken });
        if stale_connection && !timed_out {
            ctx.lease = None;
        } else {
            Self::settle_lease(ctx, if timed_out { Outcome::TimedOut } else { Outcome::Broken });
            self.counters.fetch(if timed_out { FetchResult::TimedOut } else { FetchResult::Broken });
        }
        let repeatable = forward::is_idempotent(&session.req_header().method)
            && session.response_written().is_none()
            && !session.as_ref().retry_buffer_truncated();
        let again = repeatable
            && ctx.pool.as_ref().is_some_and(|pool| {
                ctx.tried.len() < pool.attempts() as usize && may_retry(pool, &self.counters)
            });
        if again {
            self.counters.fetch(FetchResult::Retried);
        }
        error.set_retry(again);
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Passing,
    ) -> Result<()> {
        let host = Self::host(session.req_header());
        let target = Self::target(session.req_header()).to_owned();
        // pingora frames the body anew from these two.
        let keep = |name: &HeaderName| name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING;
        let dropped: Vec<HeaderName> = request
            .headers
            .keys()
            .filter(|name| forward::is_not_for_nodes(name) && !keep(name))
            .cloned()
            .collect();
        for name in dropped {
            request.remove_header(&name);
        }
        if let Some(treatment) = self.routes.find(host.as_bytes(), target.as_bytes()) {
            let authorization = request.headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
            if let (Some(value), Some(gate)) = (authorization, &treatment.gate)
                && gate.keeps_back(value)
            {
                request.remove_header(&header::AUTHORIZATION);
            }
            for (name, value) in treatment.request.changes_past_cache(&request.headers) {
                match value {
                    Some(value) => request.insert_header(name, value)?,
                    None => drop(request.remove_header(&name)),
                }
            }
        }
        // An absolute-form target was for us; nodes get the origin-form (RFC 9112 section 3.2.1). pingora keeps it
        // beside the URI.
        if request.raw_path() != target.as_bytes() {
            request.set_raw_path(target.as_bytes())?;
        }
        request.set_version(Version::HTTP_11);
        let as_rfc7239 = ctx.pool.as_ref().is_some_and(|pool| pool.tells_forwarded());
        let visitor = Self::visitor(session);
        forward::complete(request, &host, visitor, as_rfc7239)?;
        let ids = &self.accounts.ids;
        if let Some(id) = ids.told(visitor, &request.headers) {
            request.insert_header(ids.header.clone(), id)?;
        }
        let claimed: Vec<HeaderName> =
            request.headers.keys().filter(|name| self.identities.claims(name.as_str())).cloned().collect();
        for name in claimed {
            request.remove_header(&name);
        }
        if let Some(identity) = Self::passenger(session).and_then(|passenger| passenger.identity.as_deref()) {
            request.insert_header(identity.header().clone(), identity.subject())?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Passing,
    ) -> Result<()> {
        if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::explain(
                ErrorType::InvalidHTTPHeader,
                "the node changes the protocol unasked",
            )
            .into_up());
        }
        if response.status.is_informational() {
            ctx.interim += 1;
            if ctx.interim > MAX_INTERIM {
                let error = Error::explain(ErrorType::InvalidHTTPHeader, "interim answers without end");
                return Err(error.into_up());
            }
            return Ok(());
        }
        if !session.as_mut().is_body_done() {
            // It is answered before it is all there, and nobody knows how much of it will still come.
            session.set_keepalive(None);
        }
        let first_byte = ctx.sent_at.map_or(Duration::ZERO, |sent_at| sent_at.elapsed());
        if let Some(lease) = &ctx.lease {
            lease.report(Outcome::Answered { status: response.status.as_u16(), first_byte });
        }
        self.counters.fetch(FetchResult::Ok);
        self.invalidate(session.req_header(), response);
        if let (Some(pins), Some(pool), Some(lease)) = (&ctx.pins, &ctx.pool, &ctx.lease) {
            let node = lease.node().id();
            let mut headers = response.headers.clone();
            let before = headers.get_all(header::SET_COOKIE).iter().count();
            pins.learn(pool, &session.req_header().headers, &mut headers, node).await;
            // pingora keeps the spelling of names beside the headers, so that what is new goes through it.
            for line in headers.get_all(header::SET_COOKIE).iter().skip(before) {
                response.append_header(header::SET_COOKIE, line)?;
            }
        }
        for name in
            self.unwanted.iter().map(HeaderName::as_str).chain(["surrogate-control", "x-reverse-proxy-ttl"])
        {
            response.remove_header(name);
        }
        let scheme = Self::visitor(session).scheme;
        if let Some((delivery, session)) = &ctx.delivery {
            delivery.show(response, *session, scheme)?;
        }
        response.append_header("Cache-Status", CacheStatus::Forwarded(ctx.forwarded).value())?;
        if !response.headers.contains_key(header::DATE) {
            response.insert_header(header::DATE, &*self.clock.http_date())?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        _ctx: &mut Passing,
    ) -> Result<Option<Duration>> {
        if end_of_stream && !session.as_mut().is_body_done() {
            // It was answered before it was all there. Who goes on sending is heard as long as the node listens.
            session.set_read_timeout(Some(ANSWERED));
        }
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Passing) -> FailToProxy {
        let local = match (ctx.failure, error.esource(), error.etype()) {
            (Some(failure), _, _) => Local::failure(failure, ctx.forwarded),
            (None, ErrorSource::Downstream, _) if is_bad_chunk(error) => {
                Local::plain(400, None, "the request body is malformed".into()).refused()
            }
            // Counted where it was found.
            (None, ErrorSource::Downstream, ErrorType::ReadError) if was_too_slow(error) => Local::too_slow(),
            (
                None,
                ErrorSource::Downstream,
                ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ) => {
                // Nobody is there to hear it.
                return FailToProxy { error_code: 0, can_reuse_downstream: false };
            }
            (None, _, ErrorType::HTTPStatus(413)) => Local::body_too_large(),
            (None, _, ErrorType::HTTPStatus(503)) => Local::crowded(),
            (None, ErrorSource::Downstream, _) => {
                Local::plain(400, None, "the request could not be read to its end".into()).refused()
            }
            (None, _, _) => Local::failure(FetchError::Broken, ctx.forwarded),
        };
        if session.response_written().is_none_or(|response| response.status.is_informational()) {
            session.set_keepalive(None);
            let status = local.status;
            if let Err(error) = write(session, &local, &self.clock.http_date()).await {
                tracing::debug!(%error, status, "an error answer could not be delivered");
            }
        }
        FailToProxy { error_code: local.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Passing) {
        if let Some(error) = error.filter(|error| *error.esource() == ErrorSource::Upstream) {
            warn!(
                request = self.request_summary(session, ctx),
                tries = ctx.tried.len(),
                cause = %error,
                "a request that is passed got no answer from a node"
            );
        }
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let result = match ctx.failure {
            Some(_) if error.is_some() => RequestResult::Unavailable,
            Some(_) | None => RequestResult::Pass,
        };
        self.counters.forward(ctx.forwarded.forward);
        let node = ctx.lease.as_ref().map(|lease| &**lease.node().name());
        let sent = Sent { result, status, bytes: session.body_bytes_sent() as u64, node };
        let host = Self::host(session.req_header());
        self.accounts.over(|| asked(session, &host, &self.accounts.ids), ctx.started, sent);
        ctx.lease = None;
    }

    fn request_summary(&self, session: &Session, _ctx: &Passing) -> String {
        let request = session.req_header();
        mask::shown(format!("{} {}{}", request.method, Self::host(request), Self::target(request)))
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Passing, _error: &Error) -> bool {
        // Logged once, in `logging`, with the node's side of it.
        true
    }
}

/// Writes one of our own answers through pingora's session.
async fn write(session: &mut Session, local: &Local, date: &str) -> Result<()> {
    let mut response = ResponseHeader::build(local.status, Some(6))?;
    for (name, value) in local.header_lines(date) {
        response.insert_header(name, value)?;
    }
    session.write_response_header(Box::new(response), false).await?;
    session.write_response_body(Some(local.body().clone()), true).await
}
