//! A deadline that is moved at every request but seldom touches the timer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// When the connection has waited long enough.
///
/// Moving a timer costs a lock of the timer wheel. Deadlines of a busy connection nearly always move further away, so
/// the timer is left where it is: when it fires too early it is set to what is left.
pub(crate) struct Deadline {
    timer: Pin<Box<Sleep>>,
    due: Instant,
}

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Self {
        let due = Instant::now() + wait;
        Self { timer: Box::pin(sleep_until(due)), due }
    }

    pub(crate) fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll_passed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.due {
                return Poll::Ready(());
            }
            let due = self.due;
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Does `work` until then; `None`: it was not done in time. Without a deadline it takes as long as it takes.
pub(crate) async fn until<T>(due: Option<Instant>, work: impl Future<Output = T> + Unpin) -> Option<T> {
    match due {
        None => Some(work.await),
        Some(due) => timeout_at(due, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_due_wherever_it_was_moved() {
        let start = Instant::now();
        let mut deadline = Deadline::after(Duration::from_secs(10));
        deadline.set(start + Duration::from_secs(60));
        poll_fn(|context| deadline.poll_passed(context)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
        deadline.set(Instant::now() + Duration::from_secs(50));
        deadline.set(Instant::now() + Duration::from_secs(5));
        poll_fn(|context| deadline.poll_passed(context)).await;
        assert_eq!(start.elapsed().as_secs(), 65);
    }
}
