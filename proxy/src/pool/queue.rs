//! The bounded queue before full nodes: who waits, and who is called next.
//!
//! A place given back calls exactly one waiter, the one that came first. A call is a hint, not a hand-over: the waiter
//! chooses again, since the nodes may have changed meanwhile, and goes back to its old place in the line if it finds
//! nothing. A call that its waiter cannot use (it tried that node before), or did not live to use, goes on to the next
//! one behind.
//!
//! One lock guards the line; it is held for a few moves and never while anything is awaited. A place given back while
//! nobody waits costs one atomic read.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// The line of waiters, first come, first called.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    // Length of the line, readable without the lock. Sequentially consistent beside the nodes' in-flight counts: who
    // joins first announces itself and then looks for a place; who gives a place back first does so and then looks for
    // waiters. One of the two sees the other, so no call is lost.
    length: AtomicUsize,
    line: Mutex<Line>,
}

/// Invariant: `length` of the queue is `waiters.len()`, and `pending` counts the waiters that are `called` or `busy`.
#[derive(Debug, Default)]
struct Line {
    next_ticket: u64,
    waiters: BTreeMap<u64, Waiter>,
    pending: usize,
}

/// One in the line.
#[derive(Debug, Default)]
struct Waiter {
    // Has a call that it has not answered.
    called: bool,
    // Is choosing because of a call. A further call meanwhile sets `called` again and is not lost.
    busy: bool,
    // Has chosen at least once, so that whatever was free when it came is known not to fit.
    looked: bool,
    waker: Option<Waker>,
}

impl Waiter {
    fn is_pending(&self) -> bool {
        self.called || self.busy
    }
}

impl Line {
    /// Calls the first waiter from `ticket` on that has no call yet; tells whom to wake.
    fn call_from(&mut self, ticket: u64) -> Option<Waker> {
        let (_, waiter) = self.waiters.range_mut(ticket..).find(|(_, waiter)| !waiter.called)?;
        self.pending += usize::from(!waiter.is_pending());
        waiter.called = true;
        waiter.waker.take()
    }

    /// Lets the first newcomer look, once nobody before it is about to take what is free.
    fn settle(&mut self) -> Option<Waker> {
        if self.pending > 0 {
            return None;
        }
        let (_, newcomer) = self.waiters.iter_mut().find(|(_, waiter)| !waiter.looked)?;
        newcomer.called = true;
        self.pending += 1;
        newcomer.waker.take()
    }
}

impl Queue {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// Joins the end of the line, unless it is `limit` long already. The first call comes at once if nobody before is
    /// about to choose.
    pub(crate) fn join(&self, limit: usize) -> Option<Place<'_>> {
        let mut line = self.line.lock();
        if line.waiters.len() >= limit {
            return None;
        }
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        line.waiters.insert(ticket, Waiter::default());
        self.length.store(line.waiters.len(), Ordering::SeqCst);
        let waker = line.settle();
        drop(line);
        wake(waker);
        Some(Place { queue: self, ticket })
    }

    /// A place at a node was given back: calls one waiter.
    pub(crate) fn call_one(&self) {
        if self.len() == 0 {
            return;
        }
        let waker = self.line.lock().call_from(0);
        wake(waker);
    }

    /// The nodes changed: calls everybody.
    pub(crate) fn call_all(&self) {
        if self.len() == 0 {
            return;
        }
        let mut wakers = Vec::new();
        let mut line = self.line.lock();
        for waiter in line.waiters.values_mut() {
            waiter.called = true;
            wakers.extend(waiter.waker.take());
        }
        line.pending = line.waiters.len();
        drop(line);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One waiter's place in the line. Dropping it, served or not, leaves the line and passes an unused call on.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    ticket: u64,
}

impl Place<'_> {
    /// Waits for a call. Cancel safe: a call that comes meanwhile is kept or passed on.
    pub(crate) async fn called(&self) {
        poll_fn(|context| {
            let mut line = self.queue.line.lock();
            let Some(waiter) = line.waiters.get_mut(&self.ticket) else { return Poll::Ready(()) };
            if !waiter.called {
                waiter.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            waiter.called = false;
            waiter.busy = true;
            waiter.looked = true;
            Poll::Ready(())
        })
        .await;
    }

    /// The call led to nothing: back to waiting at the same place, the call goes to the next one behind.
    pub(crate) fn wait_on(&self) {
        let mut line = self.queue.line.lock();
        let Some(waiter) = line.waiters.get_mut(&self.ticket) else { return };
        if !std::mem::replace(&mut waiter.busy, false) {
            return;
        }
        // Called once more while choosing: that call stands, this one goes on.
        let called_again = waiter.called;
        line.pending -= usize::from(!called_again);
        let next = line.call_from(self.ticket + 1);
        let newcomer = line.settle();
        drop(line);
        wake(next);
        wake(newcomer);
    }

    /// The call led to a place at a node: leaves the line.
    pub(crate) fn served(self) {
        let mut line = self.queue.line.lock();
        if let Some(waiter) = line.waiters.get_mut(&self.ticket)
            && waiter.busy
        {
            // Spends the call, so that dropping passes on only a further one.
            waiter.busy = false;
            let called_again = waiter.called;
            line.pending -= usize::from(!called_again);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.line.lock();
        let Some(waiter) = line.waiters.remove(&self.ticket) else { return };
        self.queue.length.store(line.waiters.len(), Ordering::SeqCst);
        line.pending -= usize::from(waiter.is_pending());
        let first = if waiter.called { line.call_from(self.ticket + 1) } else { None };
        let second = if waiter.busy { line.call_from(self.ticket + 1) } else { None };
        let newcomer = line.settle();
        drop(line);
        wake(first);
        wake(second);
        wake(newcomer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    /// Whether `place` has a call, taking it.
    fn is_called(place: &Place<'_>) -> bool {
        pin!(place.called()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A waiter that has looked around once in vain.
    fn joined(queue: &Queue) -> Place<'_> {
        let place = queue.join(100).unwrap();
        assert!(is_called(&place));
        place.wait_on();
        place
    }

    #[test]
    fn one_place_given_back_calls_one_waiter_in_order() {
        let queue = Queue::default();
        let (a, b, c) = (joined(&queue), joined(&queue), joined(&queue));
        queue.call_one();
        queue.call_one();
        assert!(is_called(&a) && is_called(&b) && !is_called(&c));
        a.served();
        b.served();
        assert!(!is_called(&c), "a call was spent twice");
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn the_line_is_bounded() {
        let queue = Queue::default();
        let first = queue.join(1).unwrap();
        assert!(queue.join(1).is_none());
        assert!(queue.join(0).is_none());
        drop(first);
        assert!(queue.join(1).is_some());
    }

    #[test]
    fn a_call_its_waiter_cannot_use_goes_on_and_the_waiter_keeps_its_place() {
        let queue = Queue::default();
        let (a, b) = (joined(&queue), joined(&queue));
        queue.call_one();
        assert!(is_called(&a));
        a.wait_on();
        assert!(is_called(&b));
        b.wait_on();
        queue.call_one();
        assert!(is_called(&a) && !is_called(&b));
    }

    #[test]
    fn a_waiter_that_leaves_passes_its_call_on() {
        let queue = Queue::default();
        let (a, b, c) = (joined(&queue), joined(&queue), joined(&queue));
        queue.call_one();
        drop(a);
        assert!(is_called(&b), "called but never looked");
        drop(b);
        assert!(is_called(&c), "left while choosing");
    }

    #[test]
    fn a_call_while_choosing_in_vain_is_not_lost() {
        let queue = Queue::default();
        let a = joined(&queue);
        queue.call_one();
        assert!(is_called(&a));
        queue.call_one();
        a.wait_on();
        assert!(is_called(&a), "the second call was lost");
        a.wait_on();
        assert!(!is_called(&a));
    }

    #[test]
    fn a_spare_call_of_a_served_waiter_goes_on() {
        let queue = Queue::default();
        let a = joined(&queue);
        queue.call_one();
        assert!(is_called(&a));
        queue.call_one();
        let b = queue.join(100).unwrap();
        assert!(!is_called(&b), "overtook a waiter that is choosing");
        a.served();
        assert!(is_called(&b));
    }

    #[test]
    fn a_newcomer_looks_once_nobody_before_it_is_choosing() {
        let queue = Queue::default();
        let a = joined(&queue);
        queue.call_one();
        let (b, c) = (queue.join(100).unwrap(), queue.join(100).unwrap());
        assert!(!is_called(&b) && !is_called(&c));
        assert!(is_called(&a));
        a.served();
        assert!(is_called(&b) && !is_called(&c));
        b.served();
        assert!(is_called(&c));
    }

    #[test]
    fn everybody_is_called_when_nodes_change() {
        let queue = Queue::default();
        let (a, b) = (joined(&queue), joined(&queue));
        queue.call_all();
        assert!(is_called(&a) && is_called(&b));
        a.wait_on();
        b.wait_on();
        assert!(!is_called(&a) || !is_called(&b), "calls went round for ever");
    }

    #[test]
    fn any_course_of_events_keeps_the_books() {
        let mut random = fastrand::Rng::with_seed(7);
        let queue = Queue::default();
        let mut places: Vec<(Place<'_>, bool)> = Vec::new();
        for _ in 0..50_000 {
            match random.u8(0..6) {
                0 => places.extend(queue.join(8).map(|place| (place, false))),
                1 => queue.call_one(),
                2 if random.u8(0..20) == 0 => queue.call_all(),
                2 | 3 if !places.is_empty() => drop(places.swap_remove(random.usize(0..places.len()))),
                2 | 3 => {}
                4 | 5 if !places.is_empty() => {
                    let index = random.usize(0..places.len());
                    match places[index].1 {
                        false => places[index].1 = is_called(&places[index].0),
                        true if random.bool() => places.swap_remove(index).0.served(),
                        true => {
                            places[index].0.wait_on();
                            places[index].1 = false;
                        }
                    }
                }
                _ => {}
            }
            let line = queue.line.lock();
            assert_eq!(line.waiters.len(), places.len());
            assert_eq!(queue.len(), places.len());
            assert_eq!(line.pending, line.waiters.values().filter(|waiter| waiter.is_pending()).count());
            assert!(
                line.pending > 0 || line.waiters.values().all(|waiter| waiter.looked),
                "a newcomer forgotten"
            );
        }
    }
}
