//! Whether the server is shutting down, asked at every request for next to nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use pingora_core::server::ShutdownWatch;

/// A connection's word of the shutdown.
///
/// The wait is registered once: the waker of a connection's task stays the same, so one registration is enough for the
/// life of the connection. From then on a look at the number of changes, one load, tells whether there is news.
pub(super) struct Draining {
    watch: ShutdownWatch,
    wait: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    registered: bool,
    begun: bool,
}

impl Draining {
    pub(super) fn new(shutdown: &ShutdownWatch) -> Self {
        let mut waiting = shutdown.clone();
        Self {
            watch: shutdown.clone(),
            wait: Box::pin(async move {
                // An error means that the server is gone, which is a shutdown too.
                let _ = waiting.wait_for(|draining| *draining).await;
            }),
            registered: false,
            begun: *shutdown.borrow(),
        }
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.begun || (self.has_news() && *self.watch.borrow())
    }

    /// Whether it has begun; if not, the task of `context` is woken when it does.
    ///
    /// A shutdown that begins between the look and the wait wakes the task, since the registration is older.
    pub(super) fn poll_begun(&mut self, context: &mut Context<'_>) -> bool {
        if !self.begun && (!self.registered || self.has_news()) {
            self.registered = true;
            self.begun = self.wait.as_mut().poll(context).is_ready();
        }
        self.begun
    }

    fn has_news(&self) -> bool {
        self.watch.has_changed().unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn one_who_waits_is_told_and_one_who_asks_too() {
        let (begin, shutdown) = watch::channel(false);
        let mut draining = Draining::new(&shutdown);
        assert!(!draining.has_begun());
        let waiting = tokio::spawn(async move {
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                if draining.poll_begun(context) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            (polls, draining.has_begun())
        });
        tokio::task::yield_now().await;
        let other = Draining::new(&shutdown);
        begin.send(true).unwrap();
        assert_eq!(waiting.await.unwrap(), (2, true));
        assert!(other.has_begun());
        assert!(Draining::new(&shutdown).has_begun(), "one that comes later");
        drop(begin);
        assert!(other.has_begun());
    }

    #[tokio::test]
    async fn a_server_that_is_gone_is_a_shutdown() {
        let (begin, shutdown) = watch::channel(false);
        let mut draining = Draining::new(&shutdown);
        assert!(poll_fn(|context| Poll::Ready(!draining.poll_begun(context))).await);
        drop(begin);
        assert!(poll_fn(|context| Poll::Ready(draining.poll_begun(context))).await);
    }
}
