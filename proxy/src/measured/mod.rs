//! What the benches call of the server. No stable interface: it goes with what it wraps.
//!
//! Everything here is a thin wrapper that takes text or bytes, so that a bench times the very code that answers visitors
//! and nothing else of it has to be public. Not here: what is measured from outside, as the benches under load do, and
//! whatever of `cache` and `purge` the benches reach by themselves.
//!
//! The steps of a hit are apart, in the order in which a lane takes them: [`Request::read`], [`Edge::route`] (a part of the
//! next one), [`Edge::decide`], [`Hit::write_head`], [`LogLine::write`].

mod record;
mod strangers;

use std::fmt;
use std::net::IpAddr;

use clearcoat_cache::{Moment, Scheme, Store};

use crate::access::Accounts;
use crate::admin::Counters;
use crate::assemble;
use crate::esi::{self, Part};
use crate::front::outcome::Found;
use crate::front::request_id::RequestIds;
use crate::front::visitor::Visitor;
use crate::front::{Front, Step};
use crate::listen::answer;
use crate::listen::head::{self, Head, HeadLimits, Lines, MAX_HEADERS, Parsed};
use crate::pool::Pools;

pub use record::{Format, LogLine, log_filter};
pub use strangers::{asker, chunked_body, proxy_header};

/// Heads may be so large here; the defaults of a configuration.
const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, count: 128, url_bytes: 16 * 1024 };

const _: () = assert!(LIMITS.count <= MAX_HEADERS);

/// What the endpoint for sessions answers to bytes that come in pieces of this size, where it has no server to ask.
///
/// # Errors
///
/// No runtime can be made.
pub fn session_answers(bytes: &[u8], piece: usize) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static RUNTIME: std::io::Result<tokio::runtime::Runtime> =
            tokio::runtime::Builder::new_current_thread().enable_time().build();
    }
    RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => Ok(runtime.block_on(crate::session::endpoint::fed::answers(bytes, piece))),
        Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
    })
}

/// How many answers of a memcached server these bytes are, where they come in pieces of this size; and whether nothing else is behind
/// them.
pub fn memcached_answers(bytes: &[u8], piece: usize) -> (usize, bool) {
    let (mut input, mut count) = (bytes::BytesMut::new(), 0);
    for part in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        loop {
            match crate::session::servers::wire::read_reply(&mut input, 4096) {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return (count, false),
            }
        }
    }
    (count, true)
}

/// What answers requests, without listeners: nothing connects to it, and it connects to nothing while what is asked for is
/// stored.
pub struct Edge {
    front: Front,
}

impl Edge {
    /// What a configuration describes, its store empty.
    ///
    /// # Errors
    ///
    /// What keeps a server with this configuration from starting.
    pub fn new(configuration: &str) -> anyhow::Result<Self> {
        let config = clearcoat_conf::parse(configuration, "bench", &|_| None)?;
        let pools = Pools::new(assemble::pool_settings(&config)?);
        let accounts = Accounts::new(Counters::new(), None, RequestIds::default());
        let gates = config.sites.iter().map(|site| assemble::Gates::new(site, &[]));
        let gates = gates.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { front: assemble::Base::new(&config, &pools, accounts)?.front(&config, None, &gates)? })
    }

    /// Its store, to be filled.
    pub fn store(&self) -> &Store {
        &self.front.store
    }

    /// Finds the route of a host and a target; whether its requests pass the cache by. `None`: no site is for this host.
    pub fn route(&self, host: &[u8], target: &[u8]) -> Option<bool> {
        self.front.routes.find(host, target).map(|treatment| treatment.pass)
    }

    /// Decides about the request of a visitor as the server does, at moment zero; `None` if memory does not answer it.
    pub fn decide(&self, request: &Request<'_, '_>) -> Option<Hit> {
        // The lane has read the clock before, and not for this alone.
        let now = Moment::from_millis(0);
        match self.front.decide(
            &request.0,
            Visitor { address: Some(VISITOR), ..Visitor::unknown(Scheme::Https) },
            now,
        ) {
            Step::Hit(found) => Some(Hit(found)),
            Step::Decode(..) | Step::Local(..) | Step::Page(_) | Step::Fetch(_) => None,
            Step::Verify(_) | Step::Pass => None,
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Edge").finish_non_exhaustive()
    }
}

const VISITOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// Room for the lines of one head, on the caller's stack as in the server.
#[derive(Debug)]
pub struct Room<'b>(Lines<'b>);

impl Room<'_> {
    /// Empty; costs nothing.
    #[inline]
    pub const fn new() -> Self {
        Self(head::lines())
    }
}

impl Default for Room<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct Request<'b, 'h>(Head<'b, 'h>);

impl<'b, 'h> Request<'b, 'h> {
    /// Reads a head as it comes from a visitor; `None` if it is not whole or refused.
    #[inline]
    pub fn read(bytes: &'b [u8], room: &'h mut Room<'b>) -> Option<Self> {
        match head::parse(bytes, &mut room.0, &LIMITS) {
            Parsed::Complete(head) => Some(Self(head)),
            Parsed::Partial | Parsed::Refused(_) => None,
        }
    }

    /// Bytes of the head.
    pub fn length(&self) -> usize {
        self.0.length
    }

    /// Path and query.
    pub fn target(&self) -> &'b [u8] {
        self.0.target
    }
}

/// An answer from memory.
#[derive(Debug)]
pub struct Hit(Found);

impl Hit {
    /// Appends the head of the answer: what is prepared of it, `Age`, `Cache-Status` and the end. Returns the status.
    #[inline]
    pub fn write_head(&self, output: &mut Vec<u8>) -> u16 {
        answer::hit_head(output, &self.0, false).0
    }
}

/// A page that was read for ESI tags.
#[derive(Debug)]
pub struct Page(esi::Template);

impl Page {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Self {
        Self(esi::parse::parse(body))
    }

    /// Goes through all of it as a request does.
    ///
    /// # Panics
    ///
    /// If a part of it does not lie within `body`, which it was read from, or begins before the one ahead of it ends.
    pub fn require_sound(&self, body: &[u8]) {
        let end = require_sound(&self.0.parts, 0);
        assert!(end <= body.len(), "a text ends behind the body");
    }

    /// Texts and tags of which it is made.
    pub fn parts(&self) -> usize {
        self.0.parts.len()
    }
}

#[cfg(test)]
mod tests;

/// Where the last of these parts ends; none may begin before `from`.
fn require_sound(parts: &[Part], mut from: usize) -> usize {
    for part in parts {
        from = match part {
            Part::Text(span) => {
                let range = span.range();
                assert!(from <= range.start && range.start <= range.end, "texts stand in their order");
                range.end
            }
            Part::Include(_) => from,
            Part::Variable(variable) => {
                let mut text = Vec::new();
                esi::push_escaped(&mut text, &variable.value(&Anybody));
                assert!(!text.contains(&b'<'), "what a request says is no markup");
                from
            }
            // Branches stand in any order.
            Part::Try(block) => require_sound(&block.except, from).max(require_sound(&block.attempt, from)),
            Part::Choose(choose) => {
                let whens = choose.whens.iter().map(|(test, parts)| {
                    test.holds(&Anybody);
                    require_sound(parts, from)
                });
                whens.max().unwrap_or(from).max(require_sound(&choose.otherwise, from))
            }
        };
    }
    from
}

/// A request that says everything that variables ask for.
struct Anybody;

impl esi::Visit for Anybody {
    fn host(&self) -> &[u8] {
        b"a.test"
    }

    fn query(&self) -> &[u8] {
        b"a=1&b=%3Cx%3E&a=<"
    }

    fn lines(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        match name {
            "cookie" => line(b"a=1; x=<b>"),
            "accept-language" => line(b"en, de;q=0.5"),
            _ => line(b"3"),
        }
    }
}
