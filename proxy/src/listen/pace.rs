//! How slowly a client may send a body or take an answer.
//!
//! Two things bound a wait. A *silence* ends it: so long nothing moves. And a *rate* bounds all waits for one body together:
//! they may be as long as the bytes that moved take at that rate, and one silence more. Without the second a byte now and then
//! would hold a connection for ever. It is an average: who sent much at once may be slow for a while, so a train in a tunnel is
//! no attack; and only waiting for the client counts, so nobody pays for a slow node. Kestrel's `MinDataRate` is
//! the model, and Apache's `mod_reqtimeout` does the like for requests.
//!
//! What a client takes of an answer is what its kernel has acknowledged. The socket itself tells little: it takes megabytes
//! at once and then nothing for as long as a third of them needs, so that an honest client behind a slow line seems to take
//! nothing at all, and one that takes nothing seems to have taken much.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_core::protocols::SocketDigest;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// What is allowed to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// So long nothing may move; never zero.
    pub(crate) silence: Duration,
    /// So many bytes a second there have to be; zero: any number.
    pub(crate) rate: u64,
}

/// Why a client is not waited for any longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TooSlow {
    /// Nothing moved for too long.
    #[error("the client has been silent for too long")]
    Silent,
    /// Too little has moved, all in all.
    #[error("the client is slower than allowed")]
    Slow,
}

impl From<TooSlow> for io::Error {
    fn from(slow: TooSlow) -> Self {
        Self::new(io::ErrorKind::TimedOut, slow)
    }
}

impl TooSlow {
    /// What stands in an error, if it is one of these.
    pub(crate) fn in_error(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// Bytes that the other end has acknowledged since the connection began, where the kernel knows (RFC 4898,
/// `tcpEStatsAppHCThruOctetsAcked`).
pub(crate) fn acknowledged(socket: Option<&SocketDigest>) -> Option<u64> {
    Some(socket?.tcp_info()?.tcpi_bytes_acked)
}

/// What a client has used of its patience for one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    patience: Patience,
    bytes: u64,
    waited: Duration,
    /// Since when it is waited for, or was looked at last.
    since: Option<Instant>,
    /// What was acknowledged then. Where that is known nothing else counts.
    mark: Option<u64>,
}

impl Pace {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, bytes: 0, waited: Duration::ZERO, since: None, mark: None }
    }

    /// For the next body.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Bytes have moved, as far as we see.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if self.mark.is_none() {
            self.bytes = self.bytes.saturating_add(bytes as u64);
        }
    }

    /// The client is waited for from now on, unless it is already. Until when, if it goes on as it does.
    pub(crate) fn wait(&mut self, acknowledged: impl FnOnce() -> Option<u64>) -> Instant {
        let since = match self.since {
            Some(since) => since,
            None => {
                let now = Instant::now();
                self.since = Some(now);
                self.note(acknowledged());
                now
            }
        };
        let wait = self.patience.silence.min(self.left().unwrap_or(Duration::MAX));
        // Far enough for whoever wrote a longer time.
        since.checked_add(wait).unwrap_or_else(|| since + Duration::from_secs(1 << 30))
    }

    /// The time that [`Pace::wait`] said has passed.
    ///
    /// # Errors
    ///
    /// If that was long enough; otherwise the wait goes on.
    pub(crate) fn passed(&mut self, acknowledged: impl FnOnce() -> Option<u64>) -> Result<(), TooSlow> {
        let Some(since) = self.since else { return Ok(()) };
        let time = since.elapsed();
        self.since = Some(since + time);
        self.waited = self.waited.saturating_add(time);
        let moved = self.note(acknowledged());
        match self.left() {
            _ if !moved && time >= self.patience.silence => Err(TooSlow::Silent),
            Some(left) if left.is_zero() => Err(TooSlow::Slow),
            Some(_) | None => Ok(()),
        }
    }

    /// Something has moved: the wait is over, if there was one.
    pub(crate) fn over(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
    }

    /// What the rate leaves of all waits; `None`: it bounds nothing.
    fn left(&self) -> Option<Duration> {
        let millis = self.bytes.saturating_mul(1000).checked_div(self.patience.rate)?;
        Some(self.patience.silence.saturating_add(Duration::from_millis(millis)).saturating_sub(self.waited))
    }

    /// Counts what was acknowledged since the last look; whether there was something.
    fn note(&mut self, acknowledged: Option<u64>) -> bool {
        let Some(now) = acknowledged else { return false };
        match self.mark.replace(now) {
            Some(before) => {
                let more = now.saturating_sub(before);
                self.bytes = self.bytes.saturating_add(more);
                more > 0
            }
            None => {
                // What the socket took before says nothing.
                self.bytes = 0;
                false
            }
        }
    }
}

/// Does `work`, which waits for a client, as long as its pace lets it. Tells whether it had to be waited for.
///
/// # Errors
///
/// Why it was not waited for any longer.
pub(crate) async fn keeping<T>(
    pace: &mut Pace,
    acknowledged: impl Fn() -> Option<u64>,
    work: impl Future<Output = T>,
) -> Result<(T, bool), TooSlow> {
    let mut work = std::pin::pin!(work);
    // Nearly always it is done at once, and no deadline is wanted, nor the clock for it.
    if let Poll::Ready(done) = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        return Ok((done, false));
    }
    loop {
        match timeout_at(pace.wait(&acknowledged), work.as_mut()).await {
            Ok(done) => {
                pace.over();
                return Ok((done, true));
            }
            Err(_) => pace.passed(&acknowledged)?,
        }
    }
}

/// Minds a stream whose reads or writes somebody else polls.
#[derive(Debug)]
pub(crate) struct Minded {
    pace: Pace,
    /// There while it is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Minded {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { pace: Pace::new(patience), timer: None }
    }

    /// Notes that so many bytes have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.pace.over();
        self.pace.moved(bytes);
        self.timer = None;
    }

    /// Notes that nothing moves now. Ready when that has lasted too long.
    pub(crate) fn poll_too_slow(
        &mut self,
        acknowledged: impl Fn() -> Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<TooSlow> {
        let mut due = self.pace.wait(&acknowledged);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(context).is_ready() {
            if let Err(slow) = self.pace.passed(&acknowledged) {
                return Poll::Ready(slow);
            }
            due = self.pace.wait(&acknowledged);
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(silence: u64, rate: u64) -> Pace {
        Pace::new(Patience { silence: seconds(silence), rate })
    }

    /// Waits for so long if it may; otherwise to the end.
    async fn wait(pace: &mut Pace, time: Duration, acknowledged: Option<u64>) -> Result<(), TooSlow> {
        let end = Instant::now() + time;
        loop {
            let due = pace.wait(|| acknowledged);
            if due > end {
                advance(end - Instant::now()).await;
                pace.over();
                return Ok(());
            }
            advance(due - Instant::now()).await;
            pace.passed(|| acknowledged)?;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_as_long_as_the_bytes_take_and_a_silence_more() {
        let mut pace = pace(30, 100);
        let start = Instant::now();
        // A byte a second: it is over after 30 s and what the bytes take.
        let slow = loop {
            match wait(&mut pace, seconds(1), None).await {
                Ok(()) => pace.moved(1),
                Err(slow) => break slow,
            }
        };
        assert_eq!((slow, start.elapsed().as_millis()), (TooSlow::Slow, 30_300));
        // Who was quick before may be silent, but no longer than that.
        pace.begin_anew();
        pace.moved(100_000);
        for _ in 0..10 {
            assert_eq!(wait(&mut pace, seconds(29), None).await, Ok(()));
        }
        assert_eq!(wait(&mut pace, seconds(31), None).await, Err(TooSlow::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_acknowledged_counts_and_not_what_the_socket_took() {
        let mut slow = pace(30, 100);
        slow.moved(1_000_000);
        // Nothing arrives of it.
        assert_eq!(wait(&mut slow, seconds(31), Some(5)).await, Err(TooSlow::Silent));
        // It arrives at twice the rate, while the socket takes nothing.
        let mut steady = pace(30, 100);
        let due = steady.wait(|| Some(0));
        assert_eq!(due, Instant::now() + seconds(30));
        for step in 1..100 {
            advance(steady.wait(|| None) - Instant::now()).await;
            assert_eq!(steady.passed(|| Some(step * 6000)), Ok(()), "step {step}");
        }
        // At a tenth of it.
        let mut meagre = pace(30, 100);
        let start = Instant::now();
        let mut verdict = Ok(());
        while verdict.is_ok() {
            advance(meagre.wait(|| Some(0)) - Instant::now()).await;
            verdict = meagre.passed(|| Some(start.elapsed().as_secs() * 10));
        }
        assert_eq!(verdict, Err(TooSlow::Slow));
        assert!((30..40).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_only_silence_counts() {
        let mut pace = pace(30, 0);
        for _ in 0..1000 {
            assert_eq!(wait(&mut pace, seconds(29), None).await, Ok(()));
        }
        assert_eq!(wait(&mut pace, seconds(30), None).await, Err(TooSlow::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_that_are_too_large_do_no_harm() {
        let mut pace = Pace::new(Patience { silence: Duration::MAX, rate: 1 });
        pace.moved(usize::MAX);
        pace.moved(usize::MAX);
        assert_eq!(wait(&mut pace, seconds(1), Some(u64::MAX)).await, Ok(()));
        assert_eq!(wait(&mut pace, seconds(1), Some(0)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_minded_is_cut_in_time() {
        let mut minded = Minded::new(Patience { silence: seconds(5), rate: 10 });
        let start = Instant::now();
        let slow = loop {
            let waiting = poll_fn(|context| minded.poll_too_slow(|| None, context));
            match timeout(seconds(1), waiting).await {
                Ok(slow) => break slow,
                Err(_) => minded.moved(5),
            }
        };
        // Each second brings half a second more.
        assert_eq!((slow, start.elapsed().as_secs()), (TooSlow::Slow, 9));
        let mut minded = Minded::new(Patience { silence: seconds(5), rate: 10 });
        minded.moved(1000);
        assert_eq!(poll_fn(|context| minded.poll_too_slow(|| None, context)).await, TooSlow::Silent);
        assert_eq!(start.elapsed().as_secs(), 14);
    }
}
