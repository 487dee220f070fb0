//! The one place where tasks wait to be admitted: mutex, read-write lock and semaphore differ only in their [`Policy`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::{Polled, Ticket, WaitList, WakeBatch, wake_all};
use crate::mutant::{Mutant, either, is_on};
use crate::primitive::Mutex;

/// Who may be inside at the same time.
pub(super) trait Policy {
    /// What one asks for when entering.
    type Request: Copy + fmt::Debug;

    /// Lets one in if that is possible now, and keeps account of it.
    fn admit(&mut self, request: Self::Request) -> bool;

    /// Keeps account of one that leaves.
    fn leave(&mut self, request: Self::Request);
}

/// A policy and its line, under the internal mutex.
///
/// Invariant whenever the mutex is free: if somebody waits, the policy does not admit the first in the line. Everything
/// that can make the policy admit more, or change who is first, therefore ends with [`Inside::admit_waiting`].
pub(super) struct Gate<P: Policy> {
    inside: Mutex<Inside<P>>,
}

struct Inside<P: Policy> {
    policy: P,
    waiting: WaitList<P::Request>,
}

impl<P: Policy> Gate<P> {
    pub(super) fn new(policy: P) -> Self {
        Self { inside: Mutex::new(Inside { policy, waiting: WaitList::new() }) }
    }

    /// Enters at once or not at all; never overtakes the line.
    pub(super) fn try_enter(&self, request: P::Request) -> bool {
        self.inside.lock().try_enter(request)
    }

    /// Enters as soon as everybody who came before has.
    ///
    /// The caller of a future that has completed is inside, and leaves with [`leave`](Self::leave).
    pub(super) fn enter(&self, request: P::Request) -> Enter<'_, P> {
        Enter { gate: self, request, progress: Progress::Outside }
    }

    /// Leaves, and admits whoever may enter now.
    pub(super) fn leave(&self, request: P::Request) {
        self.update(|policy| policy.leave(request));
    }

    /// Changes the account by hand, and admits whoever may enter now.
    pub(super) fn update(&self, change: impl FnOnce(&mut P)) {
        let wake = {
            let mut inside = self.inside.lock();
            change(&mut inside.policy);
            inside.admit_waiting()
        };
        wake_all(wake);
    }

    /// Reads the account.
    pub(super) fn inspect<T>(&self, read: impl FnOnce(&P) -> T) -> T {
        read(&self.inside.lock().policy)
    }
}

impl<P: Policy> fmt::Debug for Gate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<P: Policy> Inside<P> {
    fn try_enter(&mut self, request: P::Request) -> bool {
        let nobody_waits = self.waiting.is_empty() || is_on(Mutant::GateOvertakesTheLine);
        nobody_waits && self.policy.admit(request)
    }

    fn admit_waiting(&mut self) -> WakeBatch {
        let mut wake = WakeBatch::new();
        while let Some(request) = self.waiting.first() {
            if !self.policy.admit(request) {
                break;
            }
            self.waiting.give_turn(&mut wake);
        }
        wake
    }
}

/// The future of [`Gate::enter`].
#[must_use = "futures do nothing unless polled"]
pub(super) struct Enter<'a, P: Policy> {
    gate: &'a Gate<P>,
    request: P::Request,
    progress: Progress,
}

/// How far an [`Enter`] has come.
#[derive(Clone, Copy, Debug)]
enum Progress {
    /// Not polled yet; nothing to undo.
    Outside,
    /// In the line, or admitted from it without knowing.
    Waiting(Ticket),
    /// Completed; the caller is responsible for leaving.
    Inside,
}

// The future holds references and plain values only: moving it is harmless.
impl<P: Policy> Unpin for Enter<'_, P> {}

impl<P: Policy> Enter<'_, P> {
    fn poll_outside(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.gate.try_enter(self.request) {
            self.progress = Progress::Inside;
            return Poll::Ready(());
        }
        // Cloned before the mutex is taken, and declared before its guard, so that foreign code runs outside of it.
        let waker = context.waker().clone();
        let mut inside = self.gate.inside.lock();
        // Again, under the mutex under which the line is joined: there may be room by now, and nobody left to notice.
        if !is_on(Mutant::GateJoinsWithoutLook) && inside.try_enter(self.request) {
            self.progress = Progress::Inside;
            return Poll::Ready(());
        }
        self.progress = Progress::Waiting(inside.waiting.join(self.request, Some(waker)));
        Poll::Pending
    }

    fn poll_waiting(&mut self, ticket: Ticket, context: &Context<'_>) -> Poll<()> {
        // The waker is cloned before the mutex is taken. The guard is a temporary of the next statement, which a waker
        // that is left over outlives.
        let waker = context.waker().clone();
        let polled = self.gate.inside.lock().waiting.poll(ticket, waker);
        match polled {
            Polled::Turn { unused } => {
                drop(unused);
                self.progress = Progress::Inside;
                Poll::Ready(())
            }
            Polled::Waiting { stale } => {
                drop(stale);
                Poll::Pending
            }
        }
    }
}

impl<P: Policy> Future for Enter<'_, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.progress {
            Progress::Outside => self.poll_outside(context),
            Progress::Waiting(ticket) => self.poll_waiting(ticket, context),
            Progress::Inside => {
                unreachable!("only the async functions of this module poll, and they do not poll twice")
            }
        }
    }
}

impl<P: Policy> Drop for Enter<'_, P> {
    fn drop(&mut self) {
        let Progress::Waiting(ticket) = self.progress else { return };
        let (left, wake) = {
            let mut inside = self.gate.inside.lock();
            let left = inside.waiting.cancel(ticket);
            if left.is_none() && !is_on(Mutant::GateDropKeepsTurn) {
                inside.policy.leave(self.request);
            }
            // Also after leaving the line: whoever comes next may ask for less.
            (left, either(Mutant::GateDropAdmitsNobody, || inside.admit_waiting(), WakeBatch::new))
        };
        wake_all(wake);
        drop(left);
    }
}
