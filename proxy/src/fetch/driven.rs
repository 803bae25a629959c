//! A fetch that runs within the task of the visitor who caused it, for as long as that one waits for its head.
//!
//! Nearly every fetch ends while its visitor waits. A task of its own would cost it two changes of task, often from one
//! thread to another, for nothing. It gets one the moment that it could be kept waiting, or ended, by its visitor: when
//! there is a head and a body is still to come, when an interim answer has to be written, and when the visitor leaves.
//! So it belongs to what it fetches all the same.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use tokio::runtime::Handle;

use super::interim::Interim;

/// A fetch under way, driven by whoever holds this. Dropping it gives the fetch a task of its own.
#[must_use = "a fetch goes on only when it is driven or dropped"]
pub(crate) struct Driven {
    fetch: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    interim: Option<Arc<Interim>>,
}

impl Driven {
    pub(super) fn new(
        fetch: impl Future<Output = ()> + Send + 'static,
        interim: Option<Arc<Interim>>,
    ) -> Self {
        Self { fetch: Some(Box::pin(fetch)), interim }
    }

    /// Waits for `event`, which the fetch brings about; from then on the fetch needs nobody any more.
    pub(crate) async fn until<T>(mut self, event: impl Future<Output = T>) -> T {
        let mut event = std::pin::pin!(event);
        poll_fn(|context| {
            self.drive(context);
            event.as_mut().poll(context)
        })
        .await
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        // Out of its place meanwhile: one that panics must not be polled again.
        let Some(mut fetch) = self.fetch.take() else { return };
        if fetch.as_mut().poll(context).is_ready() {
            return;
        }
        self.fetch = Some(fetch);
        if self.interim.as_ref().is_some_and(|interim| interim.was_used()) {
            // Whoever writes it may wait for the visitor; those who share the fetch must not.
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        if let Some(fetch) = self.fetch.take() {
            // Without a runtime the process is ending, and the fetch with it.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(fetch);
            }
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.let_go();
    }
}
