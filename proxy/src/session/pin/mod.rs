//! Pins: each session stays at the node where it was begun, and every edge knows which that is.
//!
//! A session is known by its cookie. Where its pin is kept is configured: in memcached, so that all edges know of it;
//! with the visitor, in a cookie that only we can write (`cookie`); or nowhere: then the session's hash tells the node, by
//! weighted rendezvous hashing over those that are up, which all edges find alike. That is also what is done while memcached is away or
//! slow: no request waits for it longer than a few milliseconds, and none fails.
//!
//! Only requests that go to a node ask. What was asked is remembered for a second ([`local`]), so that edges that were told of
//! different things agree again soon.

mod cookie;
mod local;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clearcoat_cache::SelectingHeaders as _;
use clearcoat_conf::NamePattern;
use http::{HeaderMap, HeaderValue, header};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use tokio::time::{Instant, timeout};
use tracing::info;

pub(crate) use cookie::Signer;

use self::local::Local;
use super::key::Key;
use super::place;
use super::replicas::change::Changed;
use super::replicas::{Replicas, Write};
use crate::front::cookies::pairs;
use crate::pool::fired::Fired;
use crate::pool::{NodeId, Pinnable, Pool};

/// Where pins are kept.
pub(crate) enum Kept {
    Memcached(Replicas),
    Cookie(Signer),
    Nowhere,
}

/// What is configured.
pub(crate) struct PinSettings {
    /// Cookies that name a session.
    pub(crate) cookies: Vec<NamePattern>,
    /// How long a pin outlives the last request of its session.
    pub(crate) ttl: Duration,
    /// How long memcached may take.
    pub(crate) timeout: Duration,
    /// Drained nodes keep their sessions: these live there alone.
    pub(crate) drained_keep: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Pins that were found, here or in memcached or with the visitor.
    pub(crate) found: AtomicU64,
    /// Pins that were made.
    pub(crate) made: AtomicU64,
    /// Pins of nodes that went away, and were moved.
    pub(crate) moved: AtomicU64,
    /// Requests for which memcached could not be asked in time.
    pub(crate) fallbacks: AtomicU64,
}

/// A session, by a hash of its name. The name itself is kept nowhere.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SessionId(u128);

impl SessionId {
    fn of(name: &[u8]) -> Self {
        let mut hasher = SipHasher24::new_with_keys(0x7365_7373, 0x696f_6e73);
        std::hash::Hasher::write(&mut hasher, name);
        Self(hasher.finish128().as_u128())
    }

    /// Under which memcached keeps its pin to a node of this pool.
    fn key(self, pool: &str) -> Option<Key> {
        Key::new(format!("clearcoat.pin:{pool}:{:032x}", self.0).as_bytes())
    }

    fn place(self) -> u64 {
        self.0 as u64
    }
}

pub(crate) struct Pins {
    kept: Kept,
    settings: PinSettings,
    local: Local,
    pub(crate) counts: Counts,
    moved: Fired,
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pins").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Pins {
    pub(crate) fn new(kept: Kept, settings: PinSettings) -> Self {
        let now = Instant::now();
        Self { kept, settings, local: Local::default(), counts: Counts::default(), moved: Fired::new(now) }
    }

    /// The servers that pins are kept on.
    pub(crate) fn replicas(&self) -> Option<&Replicas> {
        match &self.kept {
            Kept::Memcached(replicas) => Some(replicas),
            Kept::Cookie(_) | Kept::Nowhere => None,
        }
    }

    /// The session that a request belongs to, by its first cookie that names one.
    fn session(&self, headers: &HeaderMap) -> Option<SessionId> {
        let mut found = None;
        headers.visit(header::COOKIE.as_str(), &mut |line| {
            for pair in pairs(line) {
                if found.is_none() {
                    found = self.named(pair);
                }
            }
        });
        found
    }

    /// The session that a cookie names.
    fn named(&self, pair: &[u8]) -> Option<SessionId> {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        let names = self.settings.cookies.iter().any(|cookie| cookie.matches(name.iter().copied()));
        (names && !value.is_empty()).then(|| SessionId::of(value))
    }

    /// The node that a request should go to; `None`: any. Nodes in `tried` have failed it already.
    pub(crate) async fn node_for(
        &self,
        pool: &Pool,
        headers: &HeaderMap,
        tried: &[NodeId],
    ) -> Option<NodeId> {
        if let Kept::Cookie(signer) = &self.kept {
            let told = signer.told(headers, &pool.pinnable());
            let kept = told.filter(|node| self.keeps(pool, *node, tried));
            self.counts.found.fetch_add(u64::from(kept.is_some()), Relaxed);
            if kept.is_some() {
                return kept;
            }
        }
        let session = self.session(headers)?;
        match &self.kept {
            Kept::Memcached(replicas) => self.in_memcached(replicas, pool, session, tried).await,
            Kept::Cookie(_) | Kept::Nowhere => self.by_hash(pool, session, tried),
        }
    }

    /// Whether a node keeps its sessions.
    fn keeps(&self, pool: &Pool, node: NodeId, tried: &[NodeId]) -> bool {
        let keeps = |one: &Pinnable| one.takes_new || one.drained && self.settings.drained_keep;
        !tried.contains(&node) && pool.pinnable().iter().any(|one| one.id == node && keeps(one))
    }

    /// The node that a session's hash tells.
    fn by_hash(&self, pool: &Pool, session: SessionId, tried: &[NodeId]) -> Option<NodeId> {
        let nodes = pool.pinnable();
        let usable = |backup: bool| {
            nodes
                .iter()
                .filter(move |one| one.takes_new && one.backup == backup && !tried.contains(&one.id))
                .map(|one| (one.id, place::drawn_by_weight(one.id.0, one.weight, session.place())))
                .max_by(|a, b| a.1.total_cmp(&b.1))
        };
        usable(false).or_else(|| usable(true)).map(|(id, _)| id)
    }

    async fn in_memcached(
        &self,
        replicas: &Replicas,
        pool: &Pool,
        session: SessionId,
        tried: &[NodeId],
    ) -> Option<NodeId> {
        let now = Instant::now();
        if let Some(node) = self.local.get(session, now).filter(|node| self.keeps(pool, *node, tried)) {
            self.counts.found.fetch_add(1, Relaxed);
            return Some(node);
        }
        let chosen = self.by_hash(pool, session, tried);
        let asked = timeout(self.settings.timeout, self.agreed(replicas, pool, session, tried, chosen));
        match asked.await {
            Ok(Some(node)) => {
                self.local.put(session, node, now);
                Some(node)
            }
            Ok(None) | Err(_) => {
                self.counts.fallbacks.fetch_add(1, Relaxed);
                chosen
            }
        }
    }

    /// The node on which all edges agree, with `chosen` where there is none yet or it is gone; `None` if that cannot be told.
    async fn agreed(
        &self,
        replicas: &Replicas,
        pool: &Pool,
        session: SessionId,
        tried: &[NodeId],
        chosen: Option<NodeId>,
    ) -> Option<NodeId> {
        let key = session.key(&pool.name())?;
        let ttl = self.settings.ttl.as_secs().max(1) as i64;
        if let Some(found) = replicas.get(&key).await.ok()?
            && let Some(node) = read(&found.value)
            && self.keeps(pool, node, tried)
        {
            self.counts.found.fetch_add(1, Relaxed);
            // It slides, at the price of a request in each half of its time.
            if found.facts.ttl < ttl / 2 {
                let _ = replicas.touch(&key, ttl).await;
            }
            return Some(node);
        }
        let chosen = chosen?;
        let write = pin(chosen, ttl);
        // Of two edges the first decides, both where there was none and where it has to go elsewhere.
        if replicas.add(&key, &write).await.ok()?.is_some() {
            self.counts.made.fetch_add(1, Relaxed);
            return Some(chosen);
        }
        let changed = replicas.change(&key, |found| match found.and_then(|found| read(&found.value)) {
            Some(other) if self.keeps(pool, other, tried) => Err(other),
            Some(_) | None => Ok(write.clone()),
        });
        match changed.await.ok()? {
            Changed::Written(_) => {
                self.counts.moved.fetch_add(1, Relaxed);
                if let Some(sessions) = self.moved.fire(Instant::now()) {
                    info!(pool = pool.name(), sessions, session = %format_args!("{:08x}", session.0 as u32), "sessions go to other nodes: theirs is gone");
                }
                Some(chosen)
            }
            Changed::Left(other) => Some(other),
        }
    }

    /// Learns from an answer which session a node has begun, and tells the visitor where that is kept with them.
    pub(crate) async fn learn(&self, pool: &Pool, asked: &HeaderMap, answer: &mut HeaderMap, node: NodeId) {
        let lines = answer.get_all(header::SET_COOKIE).iter();
        let begun = lines.filter_map(|line| {
            let pair = line.as_bytes().split(|byte| *byte == b';').next()?;
            self.named(pair)
        });
        let Some(session) = begun.last() else { return };
        match &self.kept {
            Kept::Nowhere => {}
            Kept::Cookie(signer) => {
                // Only beside a cookie of the node's own: what is stored never carries one.
                if signer.told(asked, &pool.pinnable()) != Some(node)
                    && let Some(line) = signer.line(node).and_then(|line| HeaderValue::try_from(line).ok())
                {
                    self.counts.made.fetch_add(1, Relaxed);
                    answer.append(header::SET_COOKIE, line);
                }
            }
            Kept::Memcached(replicas) => {
                let now = Instant::now();
                if self.local.get(session, now) == Some(node) {
                    return;
                }
                let Some(key) = session.key(&pool.name()) else { return };
                let ttl = self.settings.ttl.as_secs().max(1) as i64;
                // Before the visitor has the cookie, so that the next request finds it on any edge.
                let write = pin(node, ttl);
                let kept = timeout(self.settings.timeout, replicas.set(&key, &write)).await;
                if matches!(kept, Ok(Ok(_))) {
                    self.counts.made.fetch_add(1, Relaxed);
                    self.local.put(session, node, now);
                } else {
                    self.counts.fallbacks.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// A pin as memcached keeps it.
fn pin(node: NodeId, exptime: i64) -> Write {
    Write { value: format!("{:016x}", node.0).into(), client_flags: 0, exptime }
}

fn read(value: &[u8]) -> Option<NodeId> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 16)?;
    u64::from_str_radix(text, 16).ok().map(NodeId)
}
