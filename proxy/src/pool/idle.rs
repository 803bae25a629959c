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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::link::test::pair;
    use super::super::settings::NodeTls;
    use super::super::test::settings;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn pool() -> Arc<PoolSettings> {
        Arc::new(settings(&[1]))
    }

    /// Takes one that leads where `link` does.
    fn take(idle: &IdleLinks, to: &Target, reuse: Reuse, now: Instant) -> Option<Link> {
        idle.take(to, &pool(), reuse, now)
    }

    #[tokio::test]
    async fn the_last_comes_first_and_goes_where_it_should() {
        let (idle, now) = (IdleLinks::default(), Instant::now());
        let ((one, _a), (two, _b)) = (pair().await, pair().await);
        let (first, second) = (one.target().clone(), two.target().clone());
        idle.put(one, LONG, now);
        idle.put(two, LONG, now);
        assert!(take(&idle, &Target::Unix("/nowhere".into()), Reuse::Any, now).is_none());
        let tls = NodeTls { verify: true, sni: None, ca: None };
        let other = Arc::new(PoolSettings { tls: Some(tls), ..settings(&[1]) });
        assert!(idle.take(&first, &other, Reuse::Any, now).is_none(), "trusted by nobody");
        for to in [&second, &first] {
            let link = take(&idle, to, Reuse::Any, now).unwrap();
            assert!(link.is_reused && link.target() == to);
        }
        assert_eq!(idle.len(), 0);
    }

    #[tokio::test]
    async fn what_has_rested_is_for_what_can_be_repeated() {
        let (idle, now) = (IdleLinks::default(), Instant::now());
        let (link, _node) = pair().await;
        let to = link.target().clone();
        idle.put(link, LONG, now);
        let rested = now + WARM + Duration::from_millis(1);
        assert!(take(&idle, &to, Reuse::Warm, rested).is_none());
        assert!(take(&idle, &to, Reuse::Any, rested).is_some(), "it is still there");
        let (link, node) = pair().await;
        let to = link.target().clone();
        idle.put(link, LONG, now);
        // Nobody has looked at it since, but the system knows.
        drop(node);
        assert!(take(&idle, &to, Reuse::Warm, now).is_none());
        assert_eq!(idle.len(), 0);
    }

    #[tokio::test]
    async fn none_stays_too_long() {
        let (idle, now) = (IdleLinks::default(), Instant::now());
        let mut nodes = Vec::new();
        for wait in [0, 1, 2, 3] {
            let (link, node) = pair().await;
            idle.put(link, Duration::from_secs(wait), now);
            nodes.push(node);
        }
        assert_eq!(idle.len(), 3);
        idle.sweep(now + Duration::from_secs(1));
        assert_eq!(idle.len(), 2);
        nodes.pop();
        while idle.len() > 1 {
            // Until this machine has heard of it.
            tokio::task::yield_now().await;
            idle.sweep(now + Duration::from_secs(1));
        }
        let (link, _node) = pair().await;
        let to = link.target().clone();
        idle.put(link, Duration::from_secs(1), now);
        assert!(take(&idle, &to, Reuse::Any, now + Duration::from_secs(1)).is_none());
    }

    #[tokio::test]
    async fn what_holds_more_than_its_answer_is_not_kept() {
        let (idle, now) = (IdleLinks::default(), Instant::now());
        let (mut link, _node) = pair().await;
        link.input.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        idle.put(link, LONG, now);
        assert_eq!(idle.len(), 0);
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_goes() {
        let (idle, now) = (IdleLinks::default(), Instant::now());
        let mut targets = Vec::new();
        let mut nodes = Vec::new();
        for _ in 0..=MOST {
            let (link, node) = pair().await;
            targets.push(link.target().clone());
            nodes.push(node);
            idle.put(link, LONG, now);
        }
        assert_eq!(idle.len(), MOST);
        assert!(take(&idle, &targets[0], Reuse::Any, now).is_none());
        assert!(take(&idle, &targets[1], Reuse::Any, now).is_some());
    }
}
