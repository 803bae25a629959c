//! HTTP/2 towards visitors (RFC 9113), through the same course of a request as HTTP/1.
//!
//! Frames, windows and header compression are the `h2` crate's; what a request is, what it ends with and how its heads look
//! are said elsewhere, once for both versions. Here is the loop of a connection ([`serve`]): it takes in requests, answers
//! hits at once and gives everything that waits a task of its own. Both end with the connection.
//!
//! Bounds: the streams at a time that a client is told of, with as many tasks; its header list; what it may reset (see
//! [`Credit`]) and send besides ([`calm`]); the time for which it may take nothing of what is written, or ask for nothing. Of the crate's own bounds
//! those on floods of resets, errors and empty frames hold too and end the connection with `ENHANCE_YOUR_CALM`.

mod calm;
mod fields;
mod passing;
pub(super) mod preface;
mod request;
mod respond;
mod tunnel;
mod wire;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use arc_swap::Cache;
use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, header};
use pingora_core::apps::HttpServerApp as _;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{Digest, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

use super::deadline::{self, Deadline};
use super::doors::Standing;
use super::head::{HeadLimits, Method, Refusal, has_option};
use super::lane::{Lane, digest_of};
use super::pace::{Pace, TooSlow, acknowledged};
use super::recorded;
use super::rewound::PassedPace;
use crate::access::{Asked, Kept, Sent, Version};
use crate::admin::{Counters, Limit, RequestResult};
use crate::fetch::{Interim, Plan};
use crate::front::Step;
use crate::front::gate::{Left, Verification};
use crate::front::identity::Identity;
use crate::front::visitor::Visitor;
use crate::respond::Local;
use passing::Passing;
use respond::{Answering, Gone, Rest};
use wire::{Gate, Wire};

/// What a client may send of one body before it has been read on, in bytes.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same of all bodies of a connection.
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Bytes of one answer that are handed to the connection ahead of the client.
const SEND_BUFFER: usize = 128 * 1024;

/// Resets by us, because of malformed frames and requests, that a connection survives.
const ERROR_RESETS: usize = 256;

/// Requests that a client may take back, or send malformed, beyond those that it let be answered.
const FREE_RESETS: u32 = 200;

/// How HTTP/2 is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http2Settings {
    /// Streams that a client may have open on one connection. 1..65536, default 128 as nginx's `http2_max_concurrent_streams`;
    /// RFC 9113 section 6.5.2 wants no less than 100.
    pub(crate) streams: u32,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self { streams: 128 }
    }
}

/// How many more requests a client may take back.
///
/// A request that is reset costs us the beginning of an answer and the client next to nothing (CVE-2023-44487). Browsers
/// reset whole pages too when their user goes on, so only who resets much more than he lets be answered is a flood.
#[derive(Debug)]
struct Credit(AtomicU32);

impl Credit {
    fn new() -> Self {
        Self(AtomicU32::new(FREE_RESETS))
    }

    /// A request was answered.
    fn earn(&self) {
        // Lost when two do so at the same time; that harms nobody.
        let credit = self.0.load(Relaxed);
        if credit < FREE_RESETS {
            self.0.store(credit + 1, Relaxed);
        }
    }

    /// A request was taken back, or malformed.
    fn spend(&self) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |credit| credit.checked_sub(1));
    }

    fn is_spent(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// What the tasks of a connection share.
struct Shared {
    digest: Digest,
    visitor: Visitor,
    identity: Option<Arc<Identity>>,
    shutdown: ShutdownWatch,
    /// Tasks that are at work.
    tasks: AtomicUsize,
    credit: Credit,
    /// Takes requests whose password is known now. There are never more than streams.
    again: UnboundedSender<(Request<RecvStream>, SendResponse<Bytes>)>,
}

/// A task at work, by what the listener did when its request came.
struct AtWork {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
}

impl AtWork {
    fn new(shared: &Arc<Shared>, lane: &Arc<Lane>) -> Self {
        shared.tasks.fetch_add(1, Relaxed);
        Self { shared: shared.clone(), lane: lane.clone() }
    }

    /// Notes how the client took its answer.
    fn ended(&self, ended: Result<(), Gone>, answering: Answering<'_>) {
        match ended {
            Ok(()) => self.shared.credit.earn(),
            Err(gone) => {
                self.shared.credit.spend();
                drop(answering.gone(gone));
            }
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.shared.tasks.fetch_sub(1, Relaxed);
    }
}

/// What happens to a connection.
enum Event {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    /// The same one once more, which was kept from being decided about.
    Again(Request<RecvStream>, SendResponse<Bytes>),
    /// It is over, in good order or by the crate's decision.
    End(Option<h2::Error>),
    /// The client sends too much besides requests.
    Flood,
    /// Nothing was asked for too long.
    Idle,
    /// Too little of what was written was taken for too long.
    Stuck(Limit),
    /// The server is shutting down.
    Draining,
}

/// Speaks HTTP/2 on a connection until its end; `before` is what was read of it already, the preface included.
pub(super) async fn serve(
    standing: Standing,
    stream: Stream,
    visitor: Visitor,
    identity: Option<Arc<Identity>>,
    before: BytesMut,
    shutdown: &ShutdownWatch,
) {
    let mut newest = Cache::new(standing);
    let lane = newest.load();
    let (settings, counters) = (&lane.settings, lane.front.counters.clone());
    let waits = settings.waits;
    let digest = Digest {
        ssl_digest: stream.get_ssl_digest(),
        socket_digest: stream.get_socket_digest(),
        ..Digest::default()
    };
    let gate = Arc::new(Gate::default());
    gate.gather(true);
    let wire = Wire::new(stream, before, gate.clone());
    let handshake = builder(&settings.head, settings.http2).handshake(wire);
    let connection = match timeout(waits.header, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            return tracing::debug!(client = ?visitor.address, %error, "HTTP/2 was not agreed on");
        }
        Err(_) => return counters.limit(Limit::HeaderTimeout),
    };
    let (again, verified) = unbounded_channel();
    let shared = Arc::new(Shared {
        digest,
        visitor,
        identity,
        shutdown: shutdown.clone(),
        tasks: AtomicUsize::new(0),
        credit: Credit::new(),
        again,
    });
    let mut watch = shutdown.clone();
    let mut serving = Serving {
        connection,
        gate,
        shared,
        verified,
        // An error means that the server is gone, which is a shutdown too.
        draining: Box::pin(async move { drop(watch.wait_for(|draining| *draining).await) }),
        drains: false,
        flooded: false,
        deadline: Deadline::after(waits.idle),
        busy_until: Instant::now(),
        taking: Pace::new(waits.write),
        newest,
        requests: 0,
        numbered: 0,
        cookies: Vec::new(),
        kept: Kept::default(),
    };
    serving.run(&counters).await;
}

fn builder(limits: &HeadLimits, settings: Http2Settings) -> server::Builder {
    // The crate counts 32 bytes more for each line (RFC 9113 section 6.5.2) and answers 431 itself, uncounted; so what is a little
    // too large passes it, and our own limit decides.
    let header_list = (limits.bytes * 2).saturating_add(limits.count * 32);
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        // WebSocket over a stream (RFC 8441).
        .enable_connect_protocol();
    builder
}

/// The loop of one connection.
struct Serving {
    connection: server::Connection<Wire, Bytes>,
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    /// What the listener does.
    newest: Cache<Standing, Arc<Lane>>,
    /// Requests whose password is known now.
    verified: UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    drains: bool,
    flooded: bool,
    deadline: Deadline,
    /// When there was a request last, or an answer under way.
    busy_until: Instant,
    /// How the client takes what is written.
    taking: Pace,
    requests: u32,
    /// The number of the last one, in its id.
    numbered: u32,
    /// Room for a cookie that came in pieces.
    cookies: Vec<u8>,
    /// Room for what is recorded of a request.
    kept: Kept,
}

impl Serving {
    async fn run(&mut self, counters: &Counters) {
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Event::Request(request, respond) => {
                    self.requests = self.requests.saturating_add(1);
                    // Its answer may be gone before anybody looks whether there is one.
                    self.busy_until = Instant::now();
                    let most = self.newest.load().settings.requests_per_connection;
                    self.request(request, respond);
                    if self.shared.credit.is_spent() {
                        counters.limit(Limit::Http2Flood);
                        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    } else if self.requests == most {
                        self.connection.graceful_shutdown();
                    }
                }
                Event::Again(request, respond) => self.request(request, respond),
                Event::Flood => {
                    self.flooded = true;
                    counters.limit(Limit::Http2Flood);
                    self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
                Event::Draining => {
                    self.drains = true;
                    self.connection.graceful_shutdown();
                }
                Event::Idle => {
                    counters.limit(Limit::Idle);
                    // Says goodbye, and what is not taken soon is not waited for.
                    self.connection.abrupt_shutdown(Reason::NO_ERROR);
                    let farewell = poll_fn(|context| {
                        self.gate.gather(false);
                        self.connection.poll_closed(context)
                    });
                    let _ = timeout(std::time::Duration::from_secs(1), farewell).await;
                    return;
                }
                Event::Stuck(limit) => return counters.limit(limit),
                Event::End(error) => {
                    if let Some(error) = error {
                        let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
                        if calm && error.is_library() {
                            counters.limit(Limit::Http2Flood);
                        }
                        tracing::debug!(client = ?self.shared.visitor.address, %error, "an HTTP/2 connection broke");
                    }
                    return;
                }
            }
        }
    }

    /// Takes in what is there, one request at a time; when there is nothing more, writes what was answered.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(Some((request, respond))) = self.verified.poll_recv(context) {
            return Poll::Ready(Event::Again(request, respond));
        }
        for gathers in [true, false] {
            self.gate.gather(gathers);
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    return Poll::Ready(Event::Request(request, respond));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::End(Some(error))),
                Poll::Ready(None) => return Poll::Ready(Event::End(None)),
                Poll::Pending => {}
            }
        }
        if !self.flooded && self.gate.is_flooded() {
            return Poll::Ready(Event::Flood);
        }
        if !self.drains && self.draining.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Draining);
        }
        let (now, waits) = (Instant::now(), self.newest.load().settings.waits);
        let (holds, at_work) = (self.gate.holds_output(), self.shared.tasks.load(Relaxed) > 0);
        if self.gate.take_progress() {
            self.taking.over();
        }
        if !holds {
            self.taking.begin_anew();
        }
        if holds || at_work || self.connection.has_streams() {
            self.busy_until = now;
        }
        let idle = self.busy_until + waits.idle;
        let acknowledged = || acknowledged(self.shared.digest.socket_digest.as_deref());
        let mut stuck = holds.then(|| self.taking.wait(acknowledged));
        self.deadline.set(stuck.map_or(idle, |stuck| idle.min(stuck)));
        loop {
            if self.deadline.poll_passed(context).is_pending() {
                return Poll::Pending;
            }
            if stuck.is_some_and(|stuck| stuck <= Instant::now()) {
                match self.taking.passed(acknowledged) {
                    Ok(()) => stuck = Some(self.taking.wait(acknowledged)),
                    Err(TooSlow::Silent) => return Poll::Ready(Event::Stuck(Limit::WriteTimeout)),
                    Err(TooSlow::Slow) => return Poll::Ready(Event::Stuck(Limit::ResponseRate)),
                }
            }
            if self.busy_until != now {
                return Poll::Ready(Event::Idle);
            }
            // An answer is under way, which has deadlines of its own.
            let later = Instant::now() + waits.idle;
            self.deadline.set(stuck.map_or(later, |stuck| later.min(stuck)));
        }
    }

    /// Answers a request, or starts to.
    fn request(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let arrived = std::time::Instant::now();
        let (parts, body) = request.into_parts();
        // One that was kept from being decided about comes twice, as two.
        self.numbered = self.numbered.wrapping_add(1);
        let number = self.numbered;
        let Self { shared, newest, cookies, kept: room, .. } = self;
        let lane = newest.load();
        let (front, settings) = (&*lane.front, &lane.settings);
        let mut kept = std::mem::take(room);
        kept.forget();
        request::join_cookies(&parts.headers, cookies);
        let decided = request::lines(&parts, cookies, &settings.head).and_then(|lines| {
            let head = request::head(&parts, &lines, body.is_end_stream(), &settings.head)?;
            let mut left = Left::new();
            let identities = &front.settings.identities;
            let head = identities.told(&head, shared.identity.as_deref(), &mut left).unwrap_or(head);
            let mut visitor = lane.peers.asker(shared.visitor, &head);
            visitor.number = visitor.number.after(number);
            let step = match lane.serves(head.host) {
                true => front.decide(&head, visitor, front.clock.moment(arrived)),
                false => Step::Local(Local::no_site(), RequestResult::Refused),
            };
            if front.accounts.is_recording() {
                let asked = recorded::head(&head, visitor, &front.accounts.ids);
                kept.keep(&Asked { version: Version::Http2, ..asked });
            }
            Ok((step, visitor, head.method == Method::Head))
        });
        if decided.is_err() && front.accounts.is_recording() {
            kept.keep(&request::recorded(&parts, shared.visitor));
        }
        let decided = match decided {
            Ok((Step::Verify(verification), ..)) => {
                *room = kept;
                let request = Request::from_parts(parts, body);
                let at_work = AtWork::new(shared, lane);
                return drop(tokio::spawn(verify(at_work, verification, request, respond, arrived)));
            }
            decided => decided,
        };
        let head_only = decided.as_ref().is_ok_and(|(.., head_only)| *head_only);
        let trailers =
            parts.headers.get_all(header::TE).iter().any(|value| has_option(value.as_bytes(), b"trailers"));
        let taking = Pace::new(settings.waits.write);
        let mut answering = Answering { front, respond, head_only, trailers, arrived, taking, kept };
        let answered = match decided {
            Err(refusal) => {
                note_refusal(&front.counters, shared, refusal);
                answering.local(&Local::refusal(refusal), RequestResult::Refused)
            }
            Ok((Step::Hit(found), ..)) => match answering.hit(&found) {
                Ok(None) => {
                    shared.credit.earn();
                    Ok(())
                }
                Ok(Some(rest)) => {
                    return drop(tokio::spawn(Waiting::new(shared, lane, answering).rest(rest)));
                }
                Err(gone) => Err(gone),
            },
            Ok((Step::Page(page), ..)) if page.page.is_whole() => match answering.whole_page(&page) {
                Ok(None) => {
                    shared.credit.earn();
                    Ok(())
                }
                Ok(Some(rest)) => {
                    return drop(tokio::spawn(Waiting::new(shared, lane, answering).rest(rest)));
                }
                Err(gone) => Err(gone),
            },
            Ok((Step::Local(local, result), ..)) => answering.local(&local, result),
            Ok((Step::Fetch(plan), ..)) if plan.upgrade.is_some() => {
                return drop(tokio::spawn(Waiting::new(shared, lane, answering).tunnel(plan, body)));
            }
            Ok((step @ (Step::Decode(..) | Step::Fetch(_) | Step::Page(_)), ..)) => {
                return drop(tokio::spawn(Waiting::new(shared, lane, answering).outcome(step)));
            }
            // Taken out above.
            Ok((Step::Verify(_), ..)) => Ok(()),
            Ok((Step::Pass, visitor, _)) => {
                let at_work = AtWork::new(shared, lane);
                let proxy_digest = Some(Arc::new(digest_of(visitor, shared.identity.clone())));
                let digest = Digest { proxy_digest, ..shared.digest.clone() };
                let pace = PassedPace {
                    body: settings.body,
                    answer: settings.waits.write,
                    counters: front.counters.clone(),
                };
                let session = Passing::new(parts, cookies, body, answering.respond, digest, pace);
                return drop(tokio::spawn(pass(at_work, session, answering.kept, arrived)));
            }
        };
        *room = match answered {
            Ok(()) => answering.kept,
            Err(gone) => answering.gone(gone),
        };
    }
}

/// Counts what is not listened to.
fn note_refusal(counters: &Counters, shared: &Shared, refusal: Refusal) {
    match refusal {
        Refusal::HeadTooLarge => counters.limit(Limit::HeaderBytes),
        Refusal::TooManyLines => counters.limit(Limit::HeaderCount),
        Refusal::UrlTooLong => counters.limit(Limit::UrlBytes),
        Refusal::Malformed(_) | Refusal::MethodNotAllowed | Refusal::Version | Refusal::Expectation => {}
    }
    tracing::debug!(client = ?shared.visitor.address, %refusal, "a request was refused");
    shared.credit.spend();
}

/// A request whose answer has to be waited for, by a task of its own.
struct Waiting {
    at_work: AtWork,
    respond: SendResponse<Bytes>,
    head_only: bool,
    /// The client takes fields behind a body.
    trailers: bool,
    arrived: std::time::Instant,
    kept: Kept,
}

impl Waiting {
    fn new(shared: &Arc<Shared>, lane: &Arc<Lane>, answering: Answering<'_>) -> Self {
        let Answering { respond, head_only, trailers, arrived, kept, front: _, taking: _ } = answering;
        Self { at_work: AtWork::new(shared, lane), respond, head_only, trailers, arrived, kept }
    }

    async fn outcome(self, step: Step) {
        let Self { at_work, respond, head_only, trailers, arrived, kept } = self;
        let lane = at_work.lane.clone();
        let (front, taking) = (&lane.front, Pace::new(lane.settings.waits.write));
        let _in_flight = front.counters.in_flight();
        let mut answering = Answering { front, respond, head_only, trailers, arrived, taking, kept };
        let interim = Arc::new(Interim::default());
        let over = over_at(&lane, arrived);
        let ended = {
            let work = std::pin::pin!(async {
                match step {
                    Step::Fetch(mut plan) => {
                        let _turn = plan.turn.take();
                        let outcome = front.outcome(plan, Some(interim.clone()));
                        answering.wait(front, &interim, outcome).await
                    }
                    Step::Decode(found, plan) => {
                        let outcome = front.decoded_outcome(found, plan, Some(interim.clone()));
                        answering.wait(front, &interim, outcome).await
                    }
                    Step::Page(mut page) => {
                        let _turn = page.turn.take();
                        answering.page(front, *page).await
                    }
                    // Answered by whoever would have made a task of it.
                    Step::Hit(_) | Step::Local(..) | Step::Verify(_) | Step::Pass => Ok(()),
                }
            });
            deadline::until(over, work).await.unwrap_or(Err(Gone::Overdue))
        };
        at_work.ended(ended, answering);
    }

    async fn tunnel(self, mut plan: Box<Plan>, body: RecvStream) {
        let Self { at_work, respond, head_only, trailers, arrived, kept } = self;
        let lane = at_work.lane.clone();
        let (front, waits) = (&lane.front, lane.settings.waits);
        let _in_flight = front.counters.in_flight();
        let taking = Pace::new(waits.write);
        let mut answering = Answering { front, respond, head_only, trailers, arrived, taking, kept };
        let interim = Arc::new(Interim::default());
        let _turn = plan.turn.take();
        let outcome = front.outcome(plan, Some(interim.clone()));
        let ended = answering.tunnel(front, &interim, outcome, body, waits.of_tunnel()).await;
        at_work.ended(ended, answering);
    }

    async fn rest(self, rest: Rest) {
        let Self { at_work, respond, head_only, trailers, arrived, kept } = self;
        let lane = at_work.lane.clone();
        let (front, taking) = (&*lane.front, Pace::new(lane.settings.waits.write));
        let mut answering = Answering { front, respond, head_only, trailers, arrived, taking, kept };
        let ended = {
            let work = std::pin::pin!(answering.rest(rest));
            deadline::until(over_at(&lane, arrived), work).await.unwrap_or(Err(Gone::Overdue))
        };
        at_work.ended(ended, answering);
    }
}

/// Finds out whether the password of a request is good, and gives it back to be decided about.
async fn verify(
    at_work: AtWork,
    verification: Box<Verification>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    arrived: std::time::Instant,
) {
    let shared = &at_work.shared;
    if verification.settle().await {
        // Where nobody takes it the connection is gone, and its request with it.
        let _ = shared.again.send((request, respond));
        return;
    }
    let lane = at_work.lane.clone();
    let (front, taking) = (&*lane.front, Pace::new(lane.settings.waits.write));
    let mut answering = Answering {
        front,
        respond,
        head_only: false,
        trailers: false,
        arrived,
        taking,
        kept: Kept::default(),
    };
    let ended = answering.local(&Local::passwords_crowded(), RequestResult::Refused);
    at_work.ended(ended, answering);
}

/// When a request has to be over that began then.
fn over_at(lane: &Lane, arrived: std::time::Instant) -> Option<Instant> {
    lane.settings.lifetime.and_then(|lifetime| Instant::from_std(arrived).checked_add(lifetime))
}

/// Sends a request over the pass road.
async fn pass(at_work: AtWork, session: Passing, kept: Kept, arrived: std::time::Instant) {
    let AtWork { shared, lane } = &at_work;
    let _in_flight = lane.front.counters.in_flight();
    let taken_back = session.taken_back();
    let passing = lane.pass.process_new_http(ServerSession::new_custom(Box::new(session)), &shared.shutdown);
    if deadline::until(over_at(lane, arrived), passing).await.is_none() {
        lane.front.counters.limit(Limit::RequestLifetime);
        let sent = Sent::own(RequestResult::Unavailable, 0, 0);
        lane.front.accounts.over(|| kept.asked(), arrived, sent);
    }
    if taken_back.load(Relaxed) { shared.credit.spend() } else { shared.credit.earn() }
}
