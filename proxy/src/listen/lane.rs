//! The loop of one HTTP/1 connection: read heads, answer what can be answered at once, send the rest the long way.
//!
//! Pipelined requests are answered in order; hits among them are gathered and written together. Everything a client
//! can make us wait for has a deadline, and everything it can make us keep has a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::Cache;
use bytes::{Buf, BytesMut};
use clearcoat_purge::Dialects;
use pingora_core::apps::HttpServerApp as _;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{ALPN, GetProxyDigest as _, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use pingora_proxy::HttpProxy;

use super::answer::{self, Terms};
use super::chunks::ChunkScan;
use super::clients::Clients;
use super::connection::{Connection, Received, Waits};
use super::crowd::Crowd;
use super::deadline;
use super::doors::Standing;
use super::greet::Greeted;
use super::head::{self, Framing, Head, HeadLimits, Method, Parsed, Refusal};
use super::http2::preface::{self, Spoken};
use super::http2::{self, Http2Settings};
use super::pace::{Patience, TooSlow};
use super::recorded;
use super::rewound::{PassedPace, Rewound, Window};
use super::tls::Acceptor;
use super::{page, part, tunnel};
use crate::access::{Kept, Sent};
use crate::admin::{Limit, RequestResult};
use crate::esi::Serving;
use crate::fetch::Interim;
use crate::front::gate::{Left, Verification};
use crate::front::identity::Identity;
use crate::front::outcome::{Found, Outcome, Tunnel};
use crate::front::pass::{PassRoad, Passenger};
use crate::front::peers::Peers;
use crate::front::route::{self, HostRule};
use crate::front::submit::{self, Body};
use crate::front::visitor::Visitor;
use crate::front::{Front, Step};
use crate::respond::Local;
use crate::workers::others_first;

/// What the lane needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSettings {
    pub(crate) head: HeadLimits,
    pub(crate) waits: Waits,
    /// Connections over all listeners.
    pub(crate) connections: u32,
    /// Requests that one connection may carry; zero: no limit.
    pub(crate) requests_per_connection: u32,
    pub(crate) http2: Http2Settings,
    /// Bytes of a request body that is taken in whole before a node is asked.
    pub(crate) small_body: u64,
    /// How slowly a request body may come.
    pub(crate) body: Patience,
    /// From a head to the last byte of its answer; `None`: as long as it takes.
    pub(crate) lifetime: Option<Duration>,
}

/// The application behind a listener.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) front: Arc<Front>,
    pub(crate) pass: Arc<HttpProxy<PassRoad>>,
    pub(crate) settings: LaneSettings,
    /// `None`: the listener speaks plain HTTP.
    pub(crate) tls: Option<Arc<Acceptor>>,
    /// Whether HTTP/2 is spoken without TLS to those who begin with it (RFC 9113 section 3.3).
    pub(crate) http2: bool,
    /// The ways to ask for purges that are understood.
    pub(crate) dialects: Dialects,
    /// Balancers and proxies in front.
    pub(crate) peers: Peers,
    /// The hosts that are served here; `None`: those of all sites.
    pub(crate) hosts: Option<Arc<[HostRule]>>,
    /// The connections of each client, over all listeners; `None`: any number.
    pub(crate) clients: Option<Arc<Clients>>,
    /// The connections of all listeners.
    pub(crate) crowd: Arc<Crowd>,
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

/// What the buffer holds at the present position.
enum Turn {
    /// Not a whole head.
    Wait,
    /// A head whose small body has not come yet: so many bytes have to be there.
    WaitForBody(usize),
    Refuse(Refusal),
    /// A request that is looked at again when it is known whether its password is good.
    Verify(Box<Verification>),
    /// A request whose answer is in the output already.
    Answered {
        close: bool,
    },
    /// A request, with what has to be known of it when its head is gone.
    Take {
        step: Step,
        length: usize,
        window: Window,
        terms: Terms,
    },
}

/// Serves a connection to its end, each request by what its listener does then.
pub(super) async fn serve(standing: Standing, stream: Stream, shutdown: ShutdownWatch) {
    let lane = standing.load_full();
    let counters = lane.front.counters.clone();
    let Some(_member) = lane.crowd.admit(lane.settings.connections) else {
        return counters.limit(Limit::Connections);
    };
    let _open = counters.connection();
    others_first().await;
    let Some(greeted) = lane.greet(stream, &shutdown).await else { return };
    let Greeted { stream, visitor, identity, admitted: _admitted } = greeted;
    if stream.selected_alpn_proto() == Some(ALPN::H2) {
        return http2::serve(standing, stream, visitor, identity, BytesMut::new(), &shutdown).await;
    }
    let mut connection = lane.connection(stream, visitor, &shutdown);
    connection.identity = identity;
    drop(lane);
    run(standing, connection, &shutdown).await;
}

impl Lane {
    /// A connection as the lane speaks on it.
    pub(super) fn connection(
        &self,
        stream: Stream,
        visitor: Visitor,
        shutdown: &ShutdownWatch,
    ) -> Connection {
        Connection::new(stream, visitor, self.settings.waits, shutdown)
    }

    /// Ends what the pass road keeps.
    pub(super) async fn cleanup(&self) {
        self.pass.http_cleanup().await;
    }

    /// Looks at what is in the buffer and decides; waits for nothing.
    fn turn(&self, connection: &mut Connection, served: u32) -> Turn {
        if connection.input.is_empty() {
            return Turn::Wait;
        }
        let mut lines = head::lines();
        let head = match head::parse(&connection.input, &mut lines, &self.settings.head) {
            Parsed::Partial => return Turn::Wait,
            Parsed::Refused(refusal) => return Turn::Refuse(refusal),
            Parsed::Complete(head) => head,
        };
        let mut left = Left::new();
        let identities = &self.front.settings.identities;
        let head = identities.told(&head, connection.identity.as_deref(), &mut left).unwrap_or(head);
        let mut visitor = self.peers.asker(connection.visitor, &head);
        visitor.number = visitor.number.after(served);
        connection.asker = visitor;
        let now = self.front.clock.moment(connection.now.into_std());
        let body = submit::body(&head, &connection.input, self.settings.small_body);
        let (step, body) = match body {
            _ if !self.serves(head.host) => (Step::Local(Local::no_site(), RequestResult::Refused), 0),
            Body::Other => (self.front.decide(&head, visitor, now), 0),
            Body::Coming(length) => return Turn::WaitForBody(length),
            Body::Whole(body) => (self.front.decide_with_body(&head, visitor, now, body), body.len()),
        };
        let step = match step {
            Step::Verify(verification) => return Turn::Verify(verification),
            step => step,
        };
        // What is handed over as it is has its body still before it.
        let body = if matches!(step, Step::Pass) { 0 } else { body };
        let last = self.settings.requests_per_connection;
        let unread_body = !matches!(step, Step::Pass) && body == 0 && head.framing != Framing::None;
        connection.client_is_done = head.close && !unread_body && !matches!(step, Step::Pass);
        let terms = Terms {
            head_only: head.method == Method::Head,
            version_11: head.version_11,
            trailers: head.takes_trailers(),
            // HTTP/1.0 knows no such word, and who has sent something of the body does not wait for it.
            expects: head.version_11 && connection.input.len() <= head.length && head.expects_continue(),
            arrived: connection.now.into_std(),
            read_ahead: self.settings.head.bytes,
            // Whoever asks for another protocol and does not get it may have begun to speak it all the same.
            close: head.close
                || unread_body
                || head.upgrade
                || (last > 0 && served + 1 >= last)
                || connection.is_draining(),
        };
        // Nearly every answer is one of these: nothing has to be kept of the request, for its head is still there.
        if let Step::Hit(found) = &step
            && let Some((code, bytes)) = answer::small_hit(&mut connection.output, found, terms)
        {
            let sent = Sent::own(found.result, code, bytes);
            let asked = || recorded::head(&head, visitor, &self.front.accounts.ids);
            let over = self.front.accounts.over(asked, terms.arrived, sent);
            connection.now = over.into();
            let length = head.length + body;
            // Its lines are views of the buffer.
            drop(left);
            connection.input.advance(length);
            return Turn::Answered { close: terms.close };
        }
        if self.front.accounts.is_recording() {
            connection.kept.keep(&recorded::head(&head, visitor, &self.front.accounts.ids));
        } else {
            connection.kept.forget();
        }
        Turn::Take { step, length: head.length + body, window: window(&head), terms }
    }

    /// Whether this host is served on this listener.
    pub(super) fn serves(&self, host: &[u8]) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| route::is_among(hosts, host))
    }

    pub(super) fn refuse(&self, connection: &mut Connection, local: &Local) {
        // A client that asked for a head takes what follows it for the next answer (RFC 9112 section 6.3).
        let head_only = connection.input.trim_ascii_start().starts_with(b"HEAD ");
        local.write_http1(&mut connection.output, &self.front.clock.http_date(), head_only, true);
        let bytes = if head_only { 0 } else { local.body().len() as u64 };
        let sent = Sent::own(RequestResult::Refused, local.status, bytes);
        let asked = || recorded::first_line(&connection.input, connection.visitor);
        self.front.accounts.over(asked, Instant::now(), sent);
    }

    async fn answer(&self, connection: &mut Connection, step: Step, terms: Terms) -> Next {
        match step {
            Step::Hit(found) => self.send(connection, &found, terms).await,
            Step::Page(mut page) => {
                let _turn = page.turn.take();
                self.send_page(connection, *page, terms).await
            }
            Step::Local(local, result) => self.send_local(connection, &local, result, terms),
            Step::Decode(found, plan) => {
                let outcome = |interim| self.front.decoded_outcome(found, plan, interim);
                self.wait(connection, outcome, terms).await
            }
            Step::Fetch(mut plan) => {
                let _turn = plan.turn.take();
                self.wait(connection, |interim| self.front.outcome(plan, interim), terms).await
            }
            // Handled by the callers, which own the connection or still have the request.
            Step::Pass | Step::Verify(_) => Next::Drop,
        }
    }

    /// Waits for what a request ends with, as long as its client does, and sends it.
    async fn wait<F: Future<Output = Outcome>>(
        &self,
        connection: &mut Connection,
        outcome: impl FnOnce(Option<Arc<Interim>>) -> F,
        terms: Terms,
    ) -> Next {
        let _in_flight = self.front.counters.in_flight();
        // Answers to earlier requests do not wait for this one.
        if let Err(error) = connection.flush().await {
            return self.client_gone(connection, terms, Some(&error));
        }
        let interim = Arc::new(Interim::default());
        // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
        // Pinned where it is made: it is large, and each hand it goes through would be a copy.
        let outcome = std::pin::pin!(outcome(terms.version_11.then(|| interim.clone())));
        match connection.unless_gone(terms.read_ahead, &interim, outcome).await {
            None => self.client_gone(connection, terms, None),
            Some(Outcome::Found(found)) => self.send(connection, &found, terms).await,
            Some(Outcome::Page(page)) => self.send_page(connection, *page, terms).await,
            Some(Outcome::Tunnel(tunnel)) => self.tunnel(connection, *tunnel, terms).await,
            Some(Outcome::Local(local, result)) => self.send_local(connection, &local, result, terms),
            Some(Outcome::NotModified { answer, result, status, cache_control }) => {
                let output = &mut connection.output;
                answer::not_modified(output, &answer, &status, cache_control, terms.close);
                let sent = Sent { result, status: 304, bytes: 0, node: Some(answer.node.name()) };
                self.over(connection, terms, sent)
            }
            Some(Outcome::Streaming(streaming)) => {
                let (result, answer) = (streaming.result, streaming.answer.clone());
                match part::stream(connection, streaming, terms).await {
                    Ok((code, delivered)) => {
                        let bytes = delivered.body_bytes;
                        let sent = Sent { result, status: code, bytes, node: Some(answer.node.name()) };
                        self.over(connection, terms, sent);
                        match (delivered.broken, delivered.close) {
                            (true, _) => Next::Drop,
                            (false, true) => Next::Close,
                            (false, false) => Next::Continue,
                        }
                    }
                    Err(error) => self.client_gone(connection, terms, Some(&error)),
                }
            }
        }
    }

    /// Tells that the protocol changes, and carries it until one side ends it.
    async fn tunnel(&self, connection: &mut Connection, tunnel: Tunnel, terms: Terms) -> Next {
        let Tunnel { answer, mut opened, result, status } = tunnel;
        let counters = &self.front.counters;
        // Before the client can know of it.
        let _open = counters.tunnel();
        answer::switching(&mut connection.output, &answer, &status);
        if let Err(error) = connection.flush().await {
            return self.client_gone(connection, terms, Some(&error));
        }
        let before = (std::mem::take(&mut connection.input), opened.link.input.split());
        let (client, node) = (&mut connection.stream, &mut opened.link);
        let carried = tunnel::relay(client, node, before, self.settings.waits.of_tunnel(), counters).await;
        let node = Some(&**opened.lease.node().name());
        self.over(connection, terms, Sent { result, status: 101, bytes: carried.to_client, node });
        if carried.client_gone { Next::Drop } else { Next::Close }
    }

    /// Sends what is stored.
    async fn send(&self, connection: &mut Connection, found: &Found, terms: Terms) -> Next {
        match answer::write_hit(connection, found, terms).await {
            Ok((code, bytes)) => self.over(connection, terms, Sent::own(found.result, code, bytes)),
            Err(error) => self.client_gone(connection, terms, Some(&error)),
        }
    }

    /// Sends a page that is put together.
    async fn send_page(&self, connection: &mut Connection, page: Serving, terms: Terms) -> Next {
        let (result, status) = (page.result, page.code);
        let _in_flight = (!page.page.is_whole()).then(|| self.front.counters.in_flight());
        match page::write(connection, &self.front, page, terms).await {
            Ok(delivered) => {
                let next = self.over(connection, terms, Sent::own(result, status, delivered.body_bytes));
                if delivered.close { Next::Close } else { next }
            }
            Err(error) => self.client_gone(connection, terms, Some(&error)),
        }
    }

    /// Sends an answer of ours.
    fn send_local(
        &self,
        connection: &mut Connection,
        local: &Local,
        result: RequestResult,
        terms: Terms,
    ) -> Next {
        let date = self.front.clock.http_date();
        local.write_http1(&mut connection.output, &date, terms.head_only, terms.close);
        let bytes = if terms.head_only { 0 } else { local.body().len() as u64 };
        self.over(connection, terms, Sent::own(result, local.status, bytes))
    }

    /// The answer is sent, or in the buffer from which it will be.
    fn over(&self, connection: &mut Connection, terms: Terms, sent: Sent<'_>) -> Next {
        let now = self.front.accounts.over(|| connection.kept.asked(), terms.arrived, sent);
        connection.now = now.into();
        Next::Continue
    }

    /// The client does not take its answer.
    fn client_gone(&self, connection: &mut Connection, terms: Terms, error: Option<&std::io::Error>) -> Next {
        match error.and_then(TooSlow::in_error) {
            Some(TooSlow::Silent) => self.front.counters.limit(Limit::WriteTimeout),
            Some(TooSlow::Slow) => self.front.counters.limit(Limit::ResponseRate),
            None => {}
        }
        self.over(connection, terms, Sent::own(RequestResult::ClientGone, 0, 0));
        Next::Drop
    }

    /// When a request has to be over that began then.
    fn over_at(&self, began: tokio::time::Instant) -> Option<tokio::time::Instant> {
        self.settings.lifetime.and_then(|lifetime| began.checked_add(lifetime))
    }

    /// The request has taken as long as it may. Its connection ends in the middle of whatever is said on it.
    fn overdue(&self, kept: &Kept, arrived: Instant) -> Next {
        self.front.counters.limit(Limit::RequestLifetime);
        let sent = Sent::own(RequestResult::Unavailable, 0, 0);
        self.front.accounts.over(|| kept.asked(), arrived, sent);
        Next::Drop
    }

    /// Gives the connection to pingora-proxy for one request. It comes back unless it has to end with it.
    async fn hand_over(
        &self,
        connection: Connection,
        window: Window,
        terms: Terms,
        over: Option<tokio::time::Instant>,
        shutdown: &ShutdownWatch,
    ) -> Option<Connection> {
        let _in_flight = self.front.counters.in_flight();
        let Connection { stream, input, visitor, identity, asker, kept, .. } = connection;
        let pace = PassedPace {
            body: self.settings.body,
            answer: self.settings.waits.write,
            counters: self.front.counters.clone(),
        };
        let mut rewound = Rewound::new(stream, input, window, terms.expects, pace);
        rewound.set_proxy_digest(digest_of(asker, identity.clone()));
        let session = ServerSession::new_http1(Box::new(rewound));
        let Some(passed) = deadline::until(over, self.pass.process_new_http(session, shutdown)).await else {
            self.overdue(&kept, terms.arrived);
            return None;
        };
        let (stream, _) = passed?.consume();
        let rewound = stream.into_any().downcast::<Rewound>().ok()?;
        let (stream, input) = rewound.into_rest()?;
        let mut connection = self.connection(stream, visitor, shutdown);
        connection.identity = identity;
        connection.input = input;
        Some(connection)
    }
}

/// The loop of a connection. Each turn goes by what the listener does by then, found out without a write that other threads
/// would feel.
async fn run(standing: Standing, mut connection: Connection, shutdown: &ShutdownWatch) {
    let mut newest = Cache::new(standing.clone());
    let mut served = 0;
    loop {
        let lane = newest.load();
        connection.waits = lane.settings.waits;
        let spoken =
            if lane.http2 && served == 0 { preface::spoken(&connection.input) } else { Spoken::Http1 };
        let turn = match spoken {
            Spoken::Http1 => lane.turn(&mut connection, served),
            Spoken::Unknown => Turn::Wait,
            Spoken::Http2 => {
                let Connection { stream, visitor, identity, input, .. } = connection;
                return http2::serve(standing, stream, visitor, identity, input, shutdown).await;
            }
        };
        match turn {
            Turn::Wait => {
                if connection.flush().await.is_err() {
                    return;
                }
                let partial = !connection.input.is_empty();
                match connection.receive(partial, served == 0).await {
                    Received::More => {}
                    Received::End => return,
                    Received::Draining => return connection.close().await,
                    Received::Late | Received::Slow | Received::Overdue => {
                        let limit = if partial || served == 0 { Limit::HeaderTimeout } else { Limit::Idle };
                        lane.front.counters.limit(limit);
                        if partial {
                            lane.refuse(&mut connection, &Local::too_slow());
                        }
                        return connection.close().await;
                    }
                }
            }
            Turn::WaitForBody(length) => {
                if connection.flush().await.is_err() {
                    return;
                }
                let over = lane.over_at(*connection.began.get_or_insert(connection.now));
                match connection.receive_body(length, lane.settings.body, over).await {
                    Received::More => {}
                    Received::End | Received::Draining => return,
                    Received::Overdue => return lane.front.counters.limit(Limit::RequestLifetime),
                    late @ (Received::Late | Received::Slow) => {
                        let slow = late == Received::Slow;
                        let limit = if slow { Limit::BodyRate } else { Limit::BodyTimeout };
                        lane.front.counters.limit(limit);
                        lane.refuse(&mut connection, &Local::too_slow());
                        return connection.close().await;
                    }
                }
            }
            Turn::Refuse(refusal) => {
                match refusal {
                    Refusal::HeadTooLarge => lane.front.counters.limit(Limit::HeaderBytes),
                    Refusal::TooManyLines => lane.front.counters.limit(Limit::HeaderCount),
                    Refusal::UrlTooLong => lane.front.counters.limit(Limit::UrlBytes),
                    Refusal::Malformed(_)
                    | Refusal::MethodNotAllowed
                    | Refusal::Version
                    | Refusal::Expectation => {}
                }
                tracing::debug!(client = ?connection.visitor.address, %refusal, "a request was refused");
                lane.refuse(&mut connection, &Local::refusal(refusal));
                return connection.close().await;
            }
            Turn::Verify(verification) => {
                if connection.flush().await.is_err() {
                    return;
                }
                if !verification.settle().await {
                    lane.refuse(&mut connection, &Local::passwords_crowded());
                    return connection.close().await;
                }
            }
            Turn::Answered { close } => {
                connection.head_is_complete();
                connection.began = None;
                served += 1;
                if close {
                    return connection.close().await;
                }
                if connection.output_is_full() && connection.flush().await.is_err() {
                    return;
                }
            }
            Turn::Take { step, length, window, terms } => {
                connection.head_is_complete();
                if matches!(step, Step::Local(_, RequestResult::Purge)) {
                    others_first().await;
                }
                served += 1;
                let over = lane.over_at(connection.began.take().unwrap_or(connection.now));
                // What is upgraded is no request any more.
                let over = over.filter(|_| !step.opens_tunnel());
                let next = if let Step::Pass = step {
                    if connection.flush().await.is_err() {
                        return;
                    }
                    match lane.hand_over(connection, window, terms, over, shutdown).await {
                        Some(back) => {
                            connection = back;
                            Next::Continue
                        }
                        None => return,
                    }
                } else {
                    connection.input.advance(length);
                    let answered = {
                        let answering = std::pin::pin!(lane.answer(&mut connection, step, terms));
                        deadline::until(over, answering).await
                    };
                    answered.unwrap_or_else(|| lane.overdue(&connection.kept, terms.arrived))
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

/// A visitor, as the pass road is told of them.
pub(super) fn digest_of(visitor: Visitor, identity: Option<Arc<Identity>>) -> ProxyDigest {
    let (no_answer, ()) = http::Response::new(()).into_parts();
    ProxyDigest::new(
        Box::new(ResponseHeader::from(no_answer)),
        Some(Box::new(Passenger { visitor, identity })),
    )
}

/// How much of the connection belongs to a request.
fn window(head: &Head<'_, '_>) -> Window {
    match head.framing {
        Framing::None => Window::Bytes(head.length as u64),
        Framing::Length(body) => Window::Bytes((head.length as u64).saturating_add(body)),
        Framing::Chunked => Window::Chunked(head.length as u64, ChunkScan::new()),
    }
}
