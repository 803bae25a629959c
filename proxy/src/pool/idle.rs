//! Connections to one node that wait for their next request.
//!
//! The last one that came back goes out first, so that as few as possible are in use and the others grow old; a node's own
//! timer then meets connections that nobody wants. Nothing watches an idle connection: whether the node has closed it is
//! looked at when it is taken, and once a second when the pool's task sweeps. One lock, held for a few moves.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::link::Link;
use super::peer::Target;
use super::settings::PoolSettings;

/// Idle connections that one node may have. Above nginx's usual `keepalive 64`: this is for all threads together.
const MOST: usize = 256;

/// How long a connection may have been idle and still carry a request that cannot be repeated.
///
/// A node may close a kept connection at the very moment when a request goes out on it, and then nobody can tell whether it
/// was heard. Nodes do so when their own idle time is over, which no server has below a second, or when they restart; so
/// what was used a moment ago is about as safe as a new connection, and what has rested is not taken.
const WARM: Duration = Duration::from_secs(1);

/// What the next request is to its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reuse {
    /// It may be sent again, should the connection turn out to be closed.
    Any,
    /// It must not: only a connection that was used a moment ago will do, and that is open for certain.
    Warm,
}

struct Idle {
    link: Link,
    since: Instant,
    until: Instant,
}

/// The idle connections of a node, the newest last.
#[derive(Default)]
pub(super) struct IdleLinks(Mutex<Vec<Idle>>);

impl IdleLinks {
    /// One that leads to `target` as a new one under `settings` would, if there is one that looks open.
    pub(super) fn take(
        &self,
        target: &Target,
        settings: &Arc<PoolSettings>,
        reuse: Reuse,
        now: Instant,
    ) -> Option<Link> {
        // Those that are closed are dropped behind the lock: closing a socket is a system call.
        let mut closed = Vec::new();
        let mut idle = self.0.lock();
        while let Some(at) = idle.iter().rposition(|idle| idle.link.leads_to(target, settings)) {
            if reuse == Reuse::Warm && now.saturating_duration_since(idle[at].since) > WARM {
                return None;
            }
            let mut found = idle.remove(at);
            let open = now < found.until
                && found.link.looks_open()
                && (reuse == Reuse::Any || found.link.is_open_for_certain());
            if open {
                return Some(found.link);
            }
            closed.push(found);
        }
        drop(idle);
        None
    }

    /// Keeps `link` for at most `wait`; of too many the oldest goes.
    pub(super) fn put(&self, mut link: Link, wait: Duration, now: Instant) {
        if wait.is_zero() || !link.input.is_empty() || !link.looks_open() {
            return;
        }
        link.rest();
        let mut idle = self.0.lock();
        let oldest = (idle.len() >= MOST).then(|| idle.remove(0));
        idle.push(Idle { link, since: now, until: super::clock::after(now, wait) });
        drop(idle);
        drop(oldest);
    }

    /// Ends those whose time is over and those that the node has closed.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.0.lock();
        let ended: Vec<Idle> =
            idle.extract_if(.., |idle| now >= idle.until || !idle.link.looks_open()).collect();
        drop(idle);
        drop(ended);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
