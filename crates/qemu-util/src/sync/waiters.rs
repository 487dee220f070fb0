//! The line of waiters that every lock here keeps under its internal mutex.

use std::collections::VecDeque;
use std::task::Waker;

use smallvec::SmallVec;

use crate::mutant::{Mutant, is_on};
use crate::panics::contain;

/// Names a place in one line, for ever: tickets are given out in rising order and not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Wakers to be woken once the internal mutex is released.
pub(super) type WakeBatch = SmallVec<[Waker; 4]>;

/// Waiters in the order of their arrival, each with what it asks for.
///
/// A ticket that is not in the line any more *has had its turn*; that is how a future learns it. Tickets rise along the
/// line, so that one is found by bisection. Only leaving from the middle, a cancellation, moves other entries.
#[derive(Debug)]
pub(super) struct WaitList<R> {
    next_ticket: Ticket,
    waiters: VecDeque<Waiter<R>>,
}

/// One place in the line.
#[derive(Debug)]
pub(super) struct Waiter<R> {
    ticket: Ticket,
    request: R,
    /// `None` until the future is polled for the first time.
    waker: Option<Waker>,
}

/// What a polled ticket finds.
#[derive(Debug)]
#[must_use = "the waker that is left over is dropped after the internal mutex is released"]
pub(super) enum Polled {
    /// The turn has come; the waker is not needed.
    Turn { unused: Waker },
    /// Still in the line; the waker that was registered before.
    Waiting { stale: Option<Waker> },
}

impl<R: Copy> WaitList<R> {
    /// An empty line; allocates nothing.
    pub(super) fn new() -> Self {
        Self { next_ticket: Ticket(0), waiters: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// The ticket that the next waiter will get: all others are below it.
    pub(super) fn next_ticket(&self) -> Ticket {
        self.next_ticket
    }

    /// Joins the end of the line.
    pub(super) fn join(&mut self, request: R, waker: Option<Waker>) -> Ticket {
        let ticket = self.next_ticket;
        // 2^64 tickets are not used up in the life of a machine.
        self.next_ticket = Ticket(ticket.0 + 1);
        self.waiters.push_back(Waiter { ticket, request, waker });
        ticket
    }

    /// What the first in the line asks for.
    pub(super) fn first(&self) -> Option<R> {
        self.waiters.front().map(|waiter| waiter.request)
    }

    /// Gives the first in the line its turn and notes its waker in `wake`; `false` if nobody waits.
    pub(super) fn give_turn(&mut self, wake: &mut WakeBatch) -> bool {
        let Some(waiter) = self.waiters.pop_front() else { return false };
        // Without a waker the future has not been polled yet; its first poll will find the turn.
        wake.extend(waiter.waker);
        true
    }

    /// Whether the turn has come; if not, `waker` is the one to wake from now on.
    ///
    /// The caller has cloned it before the internal mutex was taken: cloning runs foreign code.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: Waker) -> Polled {
        match self.find(ticket) {
            Ok(_) if is_on(Mutant::WaitersKeepFirstWaker) => Polled::Waiting { stale: Some(waker) },
            Ok(index) => Polled::Waiting { stale: self.waiters[index].waker.replace(waker) },
            Err(_) => Polled::Turn { unused: waker },
        }
    }

    /// Takes back a ticket whose future is dropped: the place that it left, to be dropped after the internal mutex is
    /// released, or `None` when it has had its turn, which the caller must hand on.
    #[must_use]
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<Waiter<R>> {
        self.find(ticket).ok().and_then(|index| self.waiters.remove(index))
    }

    fn find(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket)
    }
}

/// Wakes in order; call it with no lock held. One that panics does not cost the others their turn.
#[inline]
pub(super) fn wake_all(batch: WakeBatch) {
    // The usual case, and the only one that is worth a place in the caller: nobody waits.
    if !batch.is_empty() {
        wake_each(batch);
    }
}

#[inline(never)]
fn wake_each(batch: WakeBatch) {
    for waker in batch {
        contain(|| waker.wake());
    }
}
