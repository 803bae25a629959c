//! May this response be stored, and for how long is it fresh? Pure rules of RFC 9111 (HTTP Caching) and RFC 5861
//! (stale content), for a shared cache.
//!
//! [`assess`] goes through four steps, each a function below: may it be stored at all, how long did the origin say
//! it is fresh, how old is it already, how long may it be used after that. What is done with a stored entry at a
//! given moment is [`Entry::freshness`](crate::Entry::freshness).
//!
//! Where these rules are narrower than the RFC: a response with `Set-Cookie` is not stored (as in Varnish's
//! builtin VCL) unless these lines are stripped, the forms of `private` and `no-cache` that list fields count as the plain ones, and only GET is
//! stored.
//!
//! `settings` holds what the operator says, `source` tells which of several fields speaks for the response, `date`
//! reads dates.

mod date;
mod said;
mod settings;
mod source;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

use crate::directive::{CacheControl, delta_seconds};
use crate::vary;
use date::http_date;
pub use said::SaidBy;
use settings::REVERSE_PROXY_TTL;
pub use settings::{DefaultTtls, FreshnessSettings, Statuses, TargetedFields};
use source::Word;

/// The longest lifetime that is guessed (RFC 9111 §4.2.2 leaves the number to the cache).
pub const MOST_HEURISTIC: Duration = Duration::from_secs(24 * 60 * 60);

/// What about the request decides whether its response may be stored.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The method that was sent to the origin (a HEAD that is fetched with GET is a GET here).
    pub method: &'a Method,
    /// Whether the request carried `Authorization` (RFC 9111 §3.5).
    pub authorization: bool,
    /// Whether the request said `Cache-Control: no-store` (RFC 9111 §5.2.1.5) and is listened to. Varnish does not
    /// listen to it.
    pub no_store: bool,
}

impl<'a> RequestFacts<'a> {
    /// Reads the facts from a parsed request.
    pub fn read(method: &'a Method, headers: &HeaderMap) -> Self {
        Self {
            method,
            authorization: headers.contains_key(header::AUTHORIZATION),
            no_store: CacheControl::read(headers).no_store,
        }
    }
}

/// Whether to store a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Store it for so long.
    Store(Lifetime),
    /// Do not store it.
    Uncacheable(Reason),
}

/// How long a response may be used, counted from the moment it was received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lifetime {
    /// The freshness lifetime (RFC 9111 §4.2.1). The initial age counts against it and is not yet subtracted.
    pub ttl: Duration,
    /// How old the response was when it was received (RFC 9111 §4.2.3).
    pub initial_age: Duration,
    /// Time after the ttl in which it may be served while a newer copy is fetched.
    pub grace: Duration,
    /// Time after grace in which it may be revalidated.
    pub keep: Duration,
    /// Time after the ttl in which it may be served when a node fails.
    pub stale_if_error: Duration,
    /// Whether it may be served stale at all when no node can be reached: nothing in it demands to be asked after first
    /// (RFC 9111 §4.2.4).
    pub may_be_stale: bool,
    /// Whether a node has to be asked every time before it is used (`no-cache`, RFC 9111 §5.2.2.4): it is stored only
    /// so that the node can say that it is still right.
    pub ask_always: bool,
    /// Who said `ttl`.
    pub said_by: SaidBy,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// The method is not GET.
    Method,
    /// The status is interim (1xx), partial (206), an answer to a condition (304), one that is about the network or
    /// the client alone (428, 429, 431, 511), or unknown although the response said `must-understand`.
    Status,
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `no-cache`, and nothing could be asked of a node to use it again.
    NoCache,
    /// The response said `private`.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// The response varies on everything, or its `Vary` cannot be read.
    Vary,
    /// The request was authorized and the response does not say that it may be shared.
    Authorization,
    /// Nothing says for how long it is fresh.
    NoLifetime,
    /// It was stale when it arrived.
    Expired,
}

impl Reason {
    /// A short word for logs and for the detail of `Cache-Status` (RFC 9211 §2.8).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::NoLifetime => "no-lifetime",
            Self::Expired => "expired",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides about a response. `received` is the wall clock, needed only where the origin gave a date and no span.
pub fn assess(
    request: &RequestFacts<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    settings: &FreshnessSettings,
    received: SystemTime,
) -> Verdict {
    let word = source::read(headers, settings);
    let control = &word.control;
    if let Some(reason) = forbidden(request, status, headers, control, settings) {
        return Verdict::Uncacheable(reason);
    }
    if control.no_cache {
        return ask_always(status, headers, settings);
    }
    let own_ttl = reverse_proxy_ttl(headers).filter(|_| settings.reverse_proxy_ttl);
    if own_ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Verdict::Uncacheable(Reason::Expired);
    }
    let overriding = settings.overrides.of(status).map(|ttl| (ttl, SaidBy::Override));
    let said = overriding
        .or(own_ttl.map(|ttl| (ttl, SaidBy::ReverseProxyTtl)))
        .or_else(|| explicit_lifetime(&word, headers, received))
        .or_else(|| unasked_lifetime(status, control, headers, settings, received));
    let Some((ttl, said_by)) = said else {
        return Verdict::Uncacheable(Reason::NoLifetime);
    };
    // What the operator allows to be stale are pages. An old error page helps nobody: by then the error may be over.
    let is_error = status.is_server_error();
    let unless_error = |configured: Duration| if is_error { Duration::ZERO } else { configured };
    let (grace, on_error) = (unless_error(settings.grace), unless_error(settings.stale_if_error));
    let lifetime = Lifetime {
        ttl,
        initial_age: initial_age(headers),
        grace: stale_window(control, control.stale_while_revalidate, grace, settings),
        keep: settings.keep,
        stale_if_error: stale_window(control, control.stale_if_error, on_error, settings),
        may_be_stale: !is_error && may_be_stale(control, settings),
        ask_always: false,
        said_by,
    };
    // A response that is born stale is worth storing only if it says itself that it may be used while it is
    // refreshed; the operator's grace is meant for pages that were fresh once.
    let own_grace = lifetime.grace.min(control.stale_while_revalidate.unwrap_or_default());
    if lifetime.initial_age >= ttl.saturating_add(own_grace) {
        return Verdict::Uncacheable(Reason::Expired);
    }
    Verdict::Store(lifetime)
}

/// What forbids storing, in RFC 9111 §3's order as far as it goes.
fn forbidden(
    request: &RequestFacts<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    control: &CacheControl,
    settings: &FreshnessSettings,
) -> Option<Reason> {
    if request.method != Method::GET {
        return Some(Reason::Method);
    }
    // A 1xx is no answer yet; partial and conditional answers are for whoever holds the whole; RFC 6585 forbids to
    // store the last four.
    if status.is_informational() || matches!(status.as_u16(), 206 | 304 | 428 | 429 | 431 | 511) {
        return Some(Reason::Status);
    }
    if control.must_understand && !is_understood(status) {
        return Some(Reason::Status);
    }
    if request.no_store {
        return Some(Reason::RequestNoStore);
    }
    // Beside `must-understand` it is meant for caches that do not know the status (RFC 9111 §5.2.2.3).
    if control.no_store && !control.must_understand {
        return Some(Reason::NoStore);
    }
    if control.private {
        return Some(Reason::Private);
    }
    let may_be_shared = control.public || control.must_revalidate || control.s_maxage.is_some();
    if request.authorization && !may_be_shared {
        return Some(Reason::Authorization);
    }
    // A cookie of one visitor in everybody's copy hands over a session.
    if headers.contains_key(header::SET_COOKIE) && !settings.strip_set_cookie {
        return Some(Reason::SetCookie);
    }
    if !vary::is_usable(headers) {
        return Some(Reason::Vary);
    }
    None
}

/// A response with `no-cache`: worth keeping only as long as there is something to ask the node by, and only a 200,
/// which is all that a node says "not modified" of.
fn ask_always(status: StatusCode, headers: &HeaderMap, settings: &FreshnessSettings) -> Verdict {
    let can_be_asked = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    if status != StatusCode::OK || !can_be_asked || settings.keep.is_zero() {
        return Verdict::Uncacheable(Reason::NoCache);
    }
    let initial_age = initial_age(headers);
    Verdict::Store(Lifetime { initial_age, keep: settings.keep, ask_always: true, ..Lifetime::default() })
}

/// Statuses whose meaning to a cache is known (RFC 9111 §3): those of RFC 9110 that may be stored, 308, and those of
/// RFC 4918, RFC 7725 and RFC 8470, none of which asks for anything of its own.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421..=426 | 451 | 500..=505 | 507
    )
}

/// `X-Reverse-Proxy-TTL`; what is no number is zero. `Age` counts against it, as against every lifetime.
fn reverse_proxy_ttl(headers: &HeaderMap) -> Option<Duration> {
    let seconds = delta_seconds(headers.get(&REVERSE_PROXY_TTL)?.as_bytes().trim_ascii());
    Some(Duration::from_secs(u64::from(seconds.unwrap_or(0))))
}

/// What the origin said: `s-maxage`, else `max-age`, else `Expires` minus `Date` (RFC 9111 §4.2.1).
fn explicit_lifetime(word: &Word, headers: &HeaderMap, received: SystemTime) -> Option<(Duration, SaidBy)> {
    if let Some(ttl) = word.control.s_maxage.or(word.control.max_age) {
        return Some((ttl, SaidBy::of_directives(word)));
    }
    let expires = expires_minus_date(headers, received).filter(|_| word.expires);
    expires.map(|ttl| (ttl, SaidBy::Expires))
}

fn expires_minus_date(headers: &HeaderMap, received: SystemTime) -> Option<Duration> {
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let first = lines.next()?;
    // `Expires: 0`, other nonsense, and two different answers all mean: already stale (RFC 9111 §5.3).
    if lines.any(|line| line != first) {
        return Some(Duration::ZERO);
    }
    let Some(expires) = http_date(first.as_bytes(), received) else {
        return Some(Duration::ZERO);
    };
    Some(expires.duration_since(sent(headers, received)).unwrap_or_default())
}

/// When the response was made: its `Date`, or else when it was received (RFC 9110 §6.6.1).
fn sent(headers: &HeaderMap, received: SystemTime) -> SystemTime {
    let date = headers.get(header::DATE).and_then(|line| http_date(line.as_bytes(), received));
    date.unwrap_or(received)
}

/// What applies to a response that names no lifetime: what the operator says of its status, then a guess, then what the
/// operator says of all the usual ones.
fn unasked_lifetime(
    status: StatusCode,
    control: &CacheControl,
    headers: &HeaderMap,
    settings: &FreshnessSettings,
    received: SystemTime,
) -> Option<(Duration, SaidBy)> {
    match settings.defaults.rule(status) {
        // Zero forbids the guess as well: such statuses are not to be stored unasked.
        Some((Statuses::Class(_) | Statuses::One(_), ttl)) => {
            (!ttl.is_zero()).then_some((ttl, SaidBy::StatusTtl))
        }
        Some((Statuses::Usual, _)) | None => {
            let guess = heuristic_lifetime(status, control, headers, settings, received);
            let guess = guess.map(|ttl| (ttl, SaidBy::Heuristic));
            guess.or_else(|| Some((settings.defaults.of(status)?, SaidBy::DefaultTtl)))
        }
    }
}

/// A guess from how long the page had not changed (RFC 9111 §4.2.2). `None` if guessing is off, is not allowed, or
/// has nothing to go by.
fn heuristic_lifetime(
    status: StatusCode,
    control: &CacheControl,
    headers: &HeaderMap,
    settings: &FreshnessSettings,
    received: SystemTime,
) -> Option<Duration> {
    let allowed =
        control.public || Statuses::Usual.contains(status) || matches!(status.as_u16(), 405 | 414 | 501);
    if settings.heuristic_percent == 0 || !allowed {
        return None;
    }
    let modified = http_date(headers.get(header::LAST_MODIFIED)?.as_bytes(), received)?;
    let unchanged = sent(headers, received).duration_since(modified).ok()?;
    let guess = unchanged.as_secs().saturating_mul(u64::from(settings.heuristic_percent)) / 100;
    Some(Duration::from_secs(guess).min(MOST_HEURISTIC)).filter(|guess| !guess.is_zero())
}

/// How old the response already was: its `Age`.
///
/// The apparent age of RFC 9111 §4.2.3, `received - Date`, is left out, as Varnish does: it is right only if both
/// clocks are, and a web node that is five minutes slow would turn its cache off.
fn initial_age(headers: &HeaderMap) -> Duration {
    let age = headers.get(header::AGE).map(|line| line.as_bytes()).unwrap_or_default();
    // A list is against the rules; its first member counts (RFC 9111 §5.1).
    let first = age.split(|&byte| byte == b',').next().unwrap_or_default();
    Duration::from_secs(u64::from(delta_seconds(first.trim_ascii()).unwrap_or(0)))
}

/// How long it may be served stale: as the response says or as the operator does, whichever is longer, unless it
/// forbids that (RFC 9111 §4.2.4).
fn stale_window(
    control: &CacheControl,
    said: Option<Duration>,
    configured: Duration,
    settings: &FreshnessSettings,
) -> Duration {
    if must_ask(control, settings) {
        return Duration::ZERO;
    }
    configured.max(said.unwrap_or_default())
}

/// Whether a stale response may not be served before a node was asked, whatever windows there are.
fn must_ask(control: &CacheControl, settings: &FreshnessSettings) -> bool {
    (control.must_revalidate || control.proxy_revalidate) && !settings.grace_over_revalidate
}

/// Whether a stale response may be served beyond all windows when no node can be reached. `s-maxage` forbids it as
/// `proxy-revalidate` does (RFC 9111 §5.2.2.10), but it is also how applications name a lifetime for caches like this
/// one; so it yields to an operator who gives grace. The windows that a response names beside it are its own word.
fn may_be_stale(control: &CacheControl, settings: &FreshnessSettings) -> bool {
    let s_maxage_yields = !settings.grace.is_zero() || settings.grace_over_revalidate;
    !must_ask(control, settings) && (control.s_maxage.is_none() || s_maxage_yields)
}

#[cfg(test)]
mod tests;
