//! The loop of one HTTP/1 connection: read heads, answer what can be answered at once, send the rest the long way.
//!
//! Pipelined requests are answered in order; hits among them are gathered and written together. Everything a client
//! can make us wait for has a deadline, and everything it can make us keep has a bound.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Buf;
use clearcoat_cache::coding::Coding;
use clearcoat_cache::{Entry, Moment};
use http::HeaderMap;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::{Semaphore, mpsc};

use super::answer::{self, Terms};
use super::chunks::ChunkScan;
use super::connection::{Connection, Received, Waits};
use super::head::{self, Framing, Head, HeadLimits, Method, Parsed, Refusal};
use super::part;
use super::rewound::{Rewound, Window};
use crate::admin::{Forward, Limit, RequestResult};
use crate::fetch::{Answer, Caching, Failing, FetchError, Plan, Published};
use crate::front::cache_status::{CacheStatus, Forwarded};
use crate::front::pass::PassRoad;
use crate::front::range::{self, Part};
use crate::front::{Form, Front, Obtained, Step, cold_range, conditional};
use crate::respond::Local;

/// Interim answers that wait to be written to one client; a node that sends them faster loses some.
const INTERIM_ANSWERS: usize = 8;

/// What the lane needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSettings {
    pub(crate) head: HeadLimits,
    pub(crate) waits: Waits,
    /// Requests that one connection may carry; zero: no limit.
    pub(crate) requests_per_connection: u32,
}

/// The application behind a listener.
pub(crate) struct Lane {
    pub(crate) front: Arc<Front>,
    pub(crate) pass: Arc<HttpProxy<PassRoad>>,
    pub(crate) settings: LaneSettings,
    /// One permit a connection, over all listeners.
    pub(crate) connections: Arc<Semaphore>,
}

/// What to do with the connection after a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Continue,
    /// All is answered; end it in good order.
    Close,
    /// It is no good any more.
    Drop,
}

/// An entry that a request got after all, and what is said of it.
struct Found {
    entry: Arc<Entry>,
    /// When it was looked at.
    now: Moment,
    result: RequestResult,
    status: CacheStatus,
}

/// What the buffer holds at the present position.
enum Turn {
    /// Not a whole head.
    Wait,
    Refuse(Refusal),
    /// A request, with what has to be known of it when its head is gone.
    Take {
        step: Step,
        length: usize,
        window: Window,
        terms: Terms,
    },
}

#[async_trait]
impl ServerApp for Lane {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let front = &self.front;
        let Ok(_permit) = self.connections.clone().try_acquire_owned() else {
            front.counters.limit(Limit::Connections);
            return None;
        };
        let _open = front.counters.connection();
        let connection = Connection::new(stream, self.settings.waits, shutdown);
        self.run(connection, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.pass.http_cleanup().await;
    }
}

impl Lane {
    async fn run(&self, mut connection: Connection, shutdown: &ShutdownWatch) {
        let mut served = 0;
        loop {
            match self.turn(&connection, served) {
                Turn::Wait => {
                    if connection.flush().await.is_err() {
                        return;
                    }
                    let partial = !connection.input.is_empty();
                    match connection.receive(partial, served == 0).await {
                        Received::More => {}
                        Received::End => return,
                        Received::Draining => return connection.close().await,
                        Received::Late => {
                            let limit =
                                if partial || served == 0 { Limit::HeaderTimeout } else { Limit::Idle };
                            self.front.counters.limit(limit);
                            if partial {
                                self.refuse(&mut connection, &Local::too_slow());
                            }
                            return connection.close().await;
                        }
                    }
                }
                Turn::Refuse(refusal) => {
                    match refusal {
                        Refusal::HeadTooLarge => self.front.counters.limit(Limit::HeaderBytes),
                        Refusal::TooManyLines => self.front.counters.limit(Limit::HeaderCount),
                        Refusal::UrlTooLong => self.front.counters.limit(Limit::UrlBytes),
                        Refusal::Malformed(_) | Refusal::MethodNotAllowed | Refusal::Version => {}
                    }
                    tracing::debug!(client = ?connection.client, %refusal, "a request was refused");
                    self.refuse(&mut connection, &Local::refusal(refusal));
                    return connection.close().await;
                }
                Turn::Take { step, length, window, terms } => {
                    connection.head_is_complete();
                    served += 1;
                    let next = if let Step::Pass = step {
                        if connection.flush().await.is_err() {
                            return;
                        }
                        match self.hand_over(connection, window, shutdown).await {
                            Some(back) => {
                                connection = back;
                                Next::Continue
                            }
                            None => return,
                        }
                    } else {
                        connection.input.advance(length);
                        self.answer(&mut connection, step, terms).await
                    };
                    match next {
                        // The body of a request that we answered ourselves was not read, and what follows cannot be
                        // told from it.
                        Next::Continue if terms.close => return connection.close().await,
                        Next::Continue => {}
                        Next::Close => return connection.close().await,
                        Next::Drop => return,
                    }
                    if connection.output_is_full() && connection.flush().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Looks at what is in the buffer and decides; waits for nothing.
    fn turn(&self, connection: &Connection, served: u32) -> Turn {
        if connection.input.is_empty() {
            return Turn::Wait;
        }
        let arrived = Instant::now();
        let mut lines = head::lines();
        let head = match head::parse(&connection.input, &mut lines, &self.settings.head) {
            Parsed::Partial => return Turn::Wait,
            Parsed::Refused(refusal) => return Turn::Refuse(refusal),
            Parsed::Complete(head) => head,
        };
        let step = self.front.decide(&head, connection.client);
        let last = self.settings.requests_per_connection;
        let unread_body = !matches!(step, Step::Pass) && head.framing != Framing::None;
        let terms = Terms {
            head_only: head.method == Method::Head,
            version_11: head.version_11,
            arrived,
            read_ahead: self.settings.head.bytes,
            close: head.close || unread_body || (last > 0 && served + 1 >= last) || connection.is_draining(),
        };
        Turn::Take { step, length: head.length, window: window(&head), terms }
    }

    fn refuse(&self, connection: &mut Connection, local: &Local) {
        local.write_http1(&mut connection.output, &self.front.clock.http_date(), false, true);
        self.front.counters.request(RequestResult::Refused, local.status, 0, std::time::Duration::ZERO);
    }

    async fn answer(&self, connection: &mut Connection, step: Step, terms: Terms) -> Next {
        let started = terms.arrived;
        let counters = &self.front.counters;
        match step {
            Step::Hit { entry, result, status, now, form } => {
                match answer::write_hit(connection, &entry, now, &form, &status, terms).await {
                    Ok((status, bytes)) => {
                        counters.request(result, status, bytes, started.elapsed());
                        Next::Continue
                    }
                    Err(error) => self.client_gone(started, Some(&error)),
                }
            }
            Step::Decode { entry, result, status, now, not_modified, plan } => {
                if !self.front.decode(&entry).await {
                    return self.fetch(connection, *plan, terms, started).await;
                }
                let form = Form::Coded { coding: Coding::Identity, not_modified };
                match answer::write_hit(connection, &entry, now, &form, &status, terms).await {
                    Ok((code, bytes)) => {
                        counters.request(result, code, bytes, started.elapsed());
                        Next::Continue
                    }
                    Err(error) => self.client_gone(started, Some(&error)),
                }
            }
            Step::Local(local, result) => {
                let date = self.front.clock.http_date();
                local.write_http1(&mut connection.output, &date, terms.head_only, terms.close);
                counters.request(result, local.status, local.body().len() as u64, started.elapsed());
                Next::Continue
            }
            Step::Fetch(plan) => self.fetch(connection, *plan, terms, started).await,
            // Handled by the caller, which owns the connection.
            Step::Pass => Next::Drop,
        }
    }

    async fn fetch(
        &self,
        connection: &mut Connection,
        mut plan: Plan,
        terms: Terms,
        started: Instant,
    ) -> Next {
        let counters = &self.front.counters;
        let _in_flight = counters.in_flight();
        // Answers to earlier requests do not wait for this one.
        if let Err(error) = connection.flush().await {
            return self.client_gone(started, Some(&error));
        }
        let (caching, key) = (plan.caching, plan.key);
        let forwarded = Forwarded::new(plan.forward);
        counters.forward(plan.forward);
        let read_ahead = self.settings.head.bytes;
        // A node is not told of them when the answer may be stored: it has to come whole.
        let conditions = match caching {
            Caching::Bypass => HeaderMap::new(),
            Caching::Shared | Caching::Apart | Caching::Part => conditional::conditions(&plan.headers),
        };
        let wanted = cold_range::wanted(&plan);
        // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
        let (sender, mut interim) = mpsc::channel(INTERIM_ANSWERS);
        plan.interim = terms.version_11.then_some(sender);
        let obtaining = self.front.obtain_part(plan, wanted.as_ref(), &conditions);
        let obtained = connection.unless_gone(read_ahead, &mut interim, obtaining).await;
        match obtained {
            None => self.client_gone(started, None),
            Some(Err(error)) => self.failed(connection, error, forwarded, terms),
            Some(Ok((Obtained::Entry(entry), _))) => {
                let now = self.front.clock.now();
                let fresh = entry.ttl_left(now) >= 0;
                let result = if fresh { RequestResult::Hit } else { RequestResult::Grace };
                let status = CacheStatus::hit(&entry, now, None);
                let found = Found { entry, now, result, status };
                self.waited_for(connection, found, &conditions, wanted.as_ref(), terms).await
            }
            Some(Ok((Obtained::Instead { entry, failing, collapsed }, _))) => {
                let now = self.front.clock.now();
                let status = instead(forwarded, &entry, now, failing, collapsed);
                let found = Found { entry, now, result: RequestResult::Grace, status };
                self.waited_for(connection, found, &conditions, wanted.as_ref(), terms).await
            }
            Some(Ok((Obtained::Stream { head, reader, collapsed }, cut))) => {
                let Published::Answer(answer) = &*head else { return Next::Drop };
                let now = self.front.clock.now();
                // Asked for apart, perhaps for another reason than at first.
                let forwarded = match answer.caching {
                    Caching::Part => Forwarded { forward: answer.forward, ..forwarded },
                    Caching::Shared | Caching::Apart | Caching::Bypass => forwarded,
                };
                let (result, mut status) = streamed(caching, forwarded, answer, now, collapsed);
                if let Some(entry) = self.front.decoded_instead(key, answer, &conditions, &reader).await {
                    let found = Found { entry, now, result, status: CacheStatus::Forwarded(status) };
                    return self.waited_for(connection, found, &conditions, None, terms).await;
                }
                if conditional::is_not_modified(answer.status.as_u16(), &answer.block, &conditions) {
                    // The node's own status is not the one that the client sees.
                    status.status = status.status.or(Some(answer.status.as_u16()));
                    let status = CacheStatus::Forwarded(status);
                    answer::not_modified(&mut connection.output, answer, &status, terms.close);
                    counters.request(result, 304, 0, started.elapsed());
                    return Next::Continue;
                }
                let status = CacheStatus::Forwarded(status);
                match part::stream(connection, answer, reader, &cut, &status, terms).await {
                    Ok((code, delivered)) => {
                        counters.request(result, code, delivered.body_bytes, started.elapsed());
                        match (delivered.broken, delivered.close) {
                            (true, _) => Next::Drop,
                            (false, true) => Next::Close,
                            (false, false) => Next::Continue,
                        }
                    }
                    Err(error) => self.client_gone(started, Some(&error)),
                }
            }
        }
    }

    /// Sends an entry that was waited for; `wanted` are the parts of it that the client asks for.
    async fn waited_for(
        &self,
        connection: &mut Connection,
        found: Found,
        conditions: &HeaderMap,
        wanted: Option<&HeaderMap>,
        terms: Terms,
    ) -> Next {
        let Found { entry, now, result, status } = &found;
        let form = if conditional::is_not_modified(entry.status(), entry.head(), conditions) {
            Form::NotModified
        } else {
            let part = |wanted| range::part_of(entry.status(), entry.head(), entry.body().len(), wanted);
            Form::Part(wanted.map_or(Part::Whole, |wanted| part(wanted)))
        };
        let Some(form) = self.front.recoded_whole(conditions, entry, form, *now).await else {
            return self.failed(connection, FetchError::GivenUp, Forwarded::new(Forward::VaryMiss), terms);
        };
        match answer::write_hit(connection, entry, *now, &form, status, terms).await {
            Ok((code, bytes)) => {
                self.front.counters.request(*result, code, bytes, terms.arrived.elapsed());
                Next::Continue
            }
            Err(error) => self.client_gone(terms.arrived, Some(&error)),
        }
    }

    /// There is no answer.
    fn failed(
        &self,
        connection: &mut Connection,
        error: FetchError,
        forwarded: Forwarded,
        terms: Terms,
    ) -> Next {
        let local = Local::failure(error, forwarded);
        let date = self.front.clock.http_date();
        local.write_http1(&mut connection.output, &date, terms.head_only, terms.close);
        let (bytes, took) = (local.body().len() as u64, terms.arrived.elapsed());
        self.front.counters.request(RequestResult::Unavailable, local.status, bytes, took);
        Next::Continue
    }

    /// The client does not take its answer.
    fn client_gone(&self, started: Instant, error: Option<&std::io::Error>) -> Next {
        if error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
            self.front.counters.limit(Limit::WriteTimeout);
        }
        self.front.counters.request(RequestResult::ClientGone, 0, 0, started.elapsed());
        Next::Drop
    }

    /// Gives the connection to pingora-proxy for one request. It comes back unless it has to end with it.
    async fn hand_over(
        &self,
        mut connection: Connection,
        window: Window,
        shutdown: &ShutdownWatch,
    ) -> Option<Connection> {
        let _in_flight = self.front.counters.in_flight();
        let input = std::mem::take(&mut connection.input);
        let rewound = Rewound::new(connection.stream, input, window);
        let session = ServerSession::new_http1(Box::new(rewound));
        let reusable = self.pass.process_new_http(session, shutdown).await?;
        let (stream, _) = reusable.consume();
        let rewound = stream.into_any().downcast::<Rewound>().ok()?;
        let (stream, input) = rewound.into_rest()?;
        let mut connection = Connection::new(stream, self.settings.waits, shutdown);
        connection.input = input;
        Some(connection)
    }
}

/// How much of the connection belongs to a request.
fn window(head: &Head<'_, '_>) -> Window {
    match head.framing {
        Framing::None if !head.upgrade => Window::Bytes(head.length as u64),
        Framing::Length(body) if !head.upgrade => Window::Bytes((head.length as u64).saturating_add(body)),
        Framing::Chunked if !head.upgrade => Window::Chunked(head.length as u64, ChunkScan::new()),
        // After an upgrade the connection is another protocol's.
        Framing::None | Framing::Length(_) | Framing::Chunked => Window::Open,
    }
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
    (result, Forwarded { status, ttl, stored, collapsed, detail: answer.detail, ..forwarded })
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
    CacheStatus::Forwarded(Forwarded { status, ttl, collapsed, detail: Some(detail), ..forwarded })
}
