//! The body of a page while it is put together: in order, as its pieces come, all that is missing fetched at the same time.
//!
//! Each fragment that is missing has a task of its own, which ends with the page: a visitor who leaves leaves them all, and
//! what becomes of their fetches is for the rules of abandoned fetches. What is waited for is always the next piece; a task has its time from
//! its start, so a page that waits for all of its fragments waits no longer than one of them may take (and its alternative).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use clearcoat_cache::budget::Charge;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::fragment::{came, walk};
use super::page::{Fragment, Missing, Page, Sheet, Trial};
use super::serving::Rest;
use crate::admin::{EsiTrouble, Limit};
use crate::fetch::Reader;
use crate::front::Front;

/// The body of a page. See the module's page.
pub(crate) struct Assembly {
    queue: VecDeque<Running>,
    /// Where anything is missing.
    rest: Option<(Arc<Front>, Arc<Rest>)>,
}

/// A piece of a page on its way out.
pub(super) enum Running {
    Ready(Bytes),
    /// A fragment that streams, until its time is over.
    Body {
        reader: Reader,
        until: Instant,
    },
    Task(Task),
    Trial(Box<RunningTrial>),
    /// What was read is on the account of bodies on their way until the page is here.
    Account {
        _charge: Charge,
    },
}

/// A try that is decided when all of its attempt is known.
pub(super) struct RunningTrial {
    attempt: VecDeque<Running>,
    trial: Trial,
}

/// What came of a fragment.
pub(super) struct Came {
    pub(super) queue: VecDeque<Running>,
    /// It did not fail, or that does not matter.
    pub(super) well: bool,
}

/// Ends with whoever waits for it.
pub(super) struct Task(JoinHandle<Came>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    fn start(front: &Arc<Front>, rest: &Arc<Rest>, fragment: Fragment) -> Self {
        // Named as a type, since what it does starts others of its kind.
        let came: Pin<Box<dyn Future<Output = Came> + Send>> =
            Box::pin(came(front.clone(), rest.clone(), fragment));
        Self(tokio::spawn(came))
    }

    async fn wait(&mut self) -> Came {
        // It has panicked, or the runtime goes down.
        (&mut self.0).await.unwrap_or(Came { queue: VecDeque::new(), well: false })
    }
}

/// The pieces of a page in order, with the fetches of those that are missing begun.
pub(super) fn started(front: &Arc<Front>, rest: &Arc<Rest>, page: Page) -> VecDeque<Running> {
    let Page { ready, gaps, charge, .. } = page;
    let mut queue = VecDeque::with_capacity(ready.len() + gaps.len() + 1);
    let mut ready = ready.into_iter().enumerate().peekable();
    for gap in gaps {
        while let Some((_, piece)) = ready.next_if(|(at, _)| *at < gap.at) {
            queue.push_back(Running::Ready(piece));
        }
        queue.push_back(match gap.what {
            Missing::Fragment(fragment) => Running::Task(Task::start(front, rest, *fragment)),
            Missing::Trial(mut trial) => {
                let attempt = started(front, rest, std::mem::take(&mut trial.attempt));
                Running::Trial(Box::new(RunningTrial { attempt, trial: *trial }))
            }
        });
    }
    queue.extend(ready.map(|(_, piece)| Running::Ready(piece)));
    queue.extend(charge.map(|_charge| Running::Account { _charge }));
    queue
}

impl Assembly {
    pub(super) fn start(front: &Arc<Front>, rest: Option<&Arc<Rest>>, page: Page) -> Self {
        match rest {
            Some(rest) => {
                Self { queue: started(front, rest, page), rest: Some((front.clone(), rest.clone())) }
            }
            None => Self { queue: page.ready.into_iter().map(Running::Ready).collect(), rest: None },
        }
    }

    /// Whether the next piece may not be there yet.
    pub(crate) fn has_to_wait(&self) -> bool {
        !matches!(self.queue.front(), None | Some(Running::Ready(_)))
    }

    /// Waits for the next pieces and appends them to `into`, at most about `limit` bytes. `false` at the end, with
    /// nothing appended. Cancel safe.
    pub(crate) async fn read(&mut self, into: &mut Vec<Bytes>, limit: usize) -> bool {
        let mut taken = 0;
        loop {
            match self.queue.front_mut() {
                Some(Running::Ready(piece)) if taken == 0 || taken + piece.len() <= limit => {
                    taken += piece.len();
                    into.push(std::mem::take(piece));
                    self.queue.pop_front();
                }
                Some(Running::Account { .. }) => drop(self.queue.pop_front()),
                // What is there goes out before anything is waited for.
                Some(_) if taken > 0 => return true,
                Some(Running::Ready(_)) => return true,
                Some(Running::Task(task)) => {
                    let Came { queue, .. } = task.wait().await;
                    self.queue.pop_front();
                    self.put_first(queue);
                }
                Some(Running::Trial(running)) => {
                    let Some((front, rest)) = self.rest.clone() else { return false };
                    let queue = running.decided(&front, &rest).await;
                    self.queue.pop_front();
                    self.put_first(queue);
                }
                Some(Running::Body { reader, until }) => {
                    let Some((front, rest)) = &self.rest else { return false };
                    let from = into.len();
                    let read = timeout_at(*until, reader.read(into, limit)).await;
                    let bytes: usize = into[from..].iter().map(Bytes::len).sum();
                    match read {
                        Ok(Ok(true)) if rest.allowance.take_bytes(front, bytes) => return true,
                        // What is over the limit is left out, and the page goes on.
                        Ok(Ok(true)) => into.truncate(from),
                        Ok(Ok(false)) => {}
                        // Its beginning is out, so nothing can stand in its place.
                        Ok(Err(_)) => front.counters.esi(EsiTrouble::Broken, 1),
                        Err(_) => front.counters.limit(Limit::EsiTimeout),
                    }
                    self.queue.pop_front();
                }
                None => return taken > 0,
            }
        }
    }

    fn put_first(&mut self, mut pieces: VecDeque<Running>) {
        while let Some(piece) = pieces.pop_back() {
            self.queue.push_front(piece);
        }
    }
}

impl RunningTrial {
    /// The attempt, once all of its fragments have come, or what stands for it.
    async fn decided(&mut self, front: &Arc<Front>, rest: &Arc<Rest>) -> VecDeque<Running> {
        let mut at = 0;
        while let Some(piece) = self.attempt.get_mut(at) {
            let came = match piece {
                Running::Ready(_) | Running::Body { .. } | Running::Trial(_) | Running::Account { .. } => {
                    at += 1;
                    continue;
                }
                Running::Task(task) => task.wait().await,
            };
            if !came.well {
                let mut page = Page::default();
                let Trial { block, body, place, .. } = &self.trial;
                walk(front, rest, |walk| walk.parts(Sheet::of(body, place), &block.except, &mut page));
                return started(front, rest, page);
            }
            // What the fragment is made of is its own affair: its failures are not the attempt's.
            let after = self.attempt.split_off(at + 1);
            self.attempt.pop_back();
            self.attempt.extend(came.queue);
            at = self.attempt.len();
            self.attempt.extend(after);
        }
        std::mem::take(&mut self.attempt)
    }
}
