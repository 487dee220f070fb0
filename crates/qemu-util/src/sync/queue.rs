//! Waiting for a condition.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::mutex::{CoMutex, CoMutexGuard};
use super::waiters::{Polled, Ticket, WaitList, WakeBatch, wake_all};
use crate::mutant::{Mutant, is_on};
use crate::primitive::Mutex;

/// A line of tasks that wait until something has changed, woken in the order of their arrival.
///
/// It is to tasks what a condition variable is to threads, with the same use: what is waited for is protected by a lock,
/// is looked at under that lock, and the waiter joins the line *before* the lock is released, so that no change slips
/// through in between. The queue remembers nothing: a wake-up without waiters has no effect.
///
/// Look at the condition in a loop. A woken task has to lock again and others may come first; and when a woken task is
/// dropped before it could act, its wake-up goes to the next in the line.
///
/// ```
/// use qemu_util::sync::{CoMutex, CoQueue};
///
/// /// Waits until a number is there, and takes it.
/// async fn take(slot: &CoMutex<Option<u32>>, filled: &CoQueue) -> u32 {
///     let mut slot = slot.lock().await;
///     loop {
///         match slot.take() {
///             Some(number) => return number,
///             None => slot = filled.wait(slot).await,
///         }
///     }
/// }
///
/// let (slot, filled) = (CoMutex::new(None), CoQueue::new());
/// let mut taking = std::pin::pin!(take(&slot, &filled));
/// let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// assert!(taking.as_mut().poll(&mut context).is_pending());
/// *slot.try_lock().expect("released while waiting") = Some(7);
/// filled.wake_one();
/// assert_eq!(taking.as_mut().poll(&mut context), std::task::Poll::Ready(7));
/// ```
///
/// QEMU: `CoQueue` (util/qemu-coroutine-lock.c)
pub struct CoQueue {
    line: Mutex<Line>,
}

struct Line {
    waiting: WaitList<()>,
    /// Everybody with a lower ticket was woken by `wake_all` at the latest: what they leave unused need not go on.
    all_woken_below: Ticket,
}

impl CoQueue {
    /// A queue in which nobody waits.
    #[must_use]
    pub fn new() -> Self {
        let waiting = WaitList::new();
        let all_woken_below = waiting.next_ticket();
        Self { line: Mutex::new(Line { waiting, all_woken_below }) }
    }

    /// Joins the line and releases the mutex, both now; the future waits for a wake-up and locks again.
    ///
    /// Dropping the future leaves the line. If it had been woken already, its wake-up goes to the next one.
    ///
    /// QEMU: `qemu_co_queue_wait`
    pub fn wait<'q, 'm, T>(
        &'q self,
        guard: CoMutexGuard<'m, T>,
    ) -> impl Future<Output = CoMutexGuard<'m, T>> + use<'q, 'm, T> {
        let mutex: &'m CoMutex<T> = CoMutexGuard::mutex(&guard);
        let ticket = self.join(guard);
        let wait = QueueWait { queue: self, ticket: Some(ticket) };
        async move {
            wait.await;
            // A wake-up is a turn until the lock is held: a future dropped in between hands it on.
            let turn = Turn { queue: self, ticket };
            let guard = mutex.lock().await;
            mem::forget(turn);
            guard
        }
    }

    /// Joins the line, drops `guard`, and gives back a future that waits for a wake-up without locking anything again.
    ///
    /// For conditions under a lock whose guard cannot be held across an `await`, such as a `std` mutex:
    ///
    /// ```
    /// # use qemu_util::sync::CoQueue;
    /// # use std::sync::{Mutex, PoisonError};
    /// async fn wait_until_idle(n_busy: &Mutex<usize>, finished: &CoQueue) {
    ///     loop {
    ///         let wait = {
    ///             let guard = n_busy.lock().unwrap_or_else(PoisonError::into_inner);
    ///             if *guard == 0 {
    ///                 return;
    ///             }
    ///             finished.wait_unlocked(guard)
    ///         };
    ///         wait.await;
    ///     }
    /// }
    /// # let (n_busy, finished) = (Mutex::new(1), CoQueue::new());
    /// # let mut waiting = std::pin::pin!(wait_until_idle(&n_busy, &finished));
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(waiting.as_mut().poll(&mut context).is_pending());
    /// # *n_busy.lock().unwrap() = 0;
    /// # assert!(finished.wake_one());
    /// # assert!(waiting.as_mut().poll(&mut context).is_ready());
    /// ```
    pub fn wait_unlocked<G>(&self, guard: G) -> QueueWait<'_> {
        QueueWait { queue: self, ticket: Some(self.join(guard)) }
    }

    /// Wakes the one who has waited longest; `false` if nobody waits.
    ///
    /// QEMU: `qemu_co_queue_next`, `qemu_co_enter_next`
    pub fn wake_one(&self) -> bool {
        let mut wake = WakeBatch::new();
        let woken = self.line.lock().waiting.give_turn(&mut wake);
        wake_all(wake);
        woken
    }

    /// Wakes everybody who waits now, in the order of their arrival.
    ///
    /// QEMU: `qemu_co_queue_restart_all`, `qemu_co_enter_all`
    pub fn wake_all(&self) {
        let mut wake = WakeBatch::new();
        {
            let mut line = self.line.lock();
            line.all_woken_below = line.waiting.next_ticket();
            while line.waiting.give_turn(&mut wake) {}
        }
        wake_all(wake);
    }

    /// Whether nobody waits; who has been woken no longer does.
    ///
    /// QEMU: `qemu_co_queue_empty`
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.lock().waiting.is_empty()
    }

    /// Takes a place first, and drops the guard second: whoever then locks and changes something finds the place taken.
    fn join<G>(&self, guard: G) -> Ticket {
        if is_on(Mutant::QueueReleasesBeforeJoining) {
            drop(guard);
            return self.line.lock().waiting.join((), None);
        }
        let ticket = self.line.lock().waiting.join((), None);
        drop(guard);
        ticket
    }
}

impl Line {
    /// Passes on the turn of a ticket that was woken and will not act.
    fn hand_on(&mut self, ticket: Ticket, wake: &mut WakeBatch) {
        if self.all_woken_below <= ticket {
            self.waiting.give_turn(wake);
        }
    }
}

impl Default for CoQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoQueue").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

/// A place in a [`CoQueue`], taken when it was made; the future completes when it is woken.
///
/// Dropping it leaves the line. If it had been woken already, its wake-up goes to the next one.
#[must_use = "dropping it leaves the line"]
pub struct QueueWait<'a> {
    queue: &'a CoQueue,
    /// `None` once the future has completed.
    ticket: Option<Ticket>,
}

impl Future for QueueWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(ticket) = self.ticket else { return Poll::Ready(()) };
        // The waker is cloned before the mutex is taken. The guard is a temporary of the next statement, which a waker
        // that is left over outlives.
        let waker = context.waker().clone();
        let polled = self.queue.line.lock().waiting.poll(ticket, waker);
        match polled {
            Polled::Turn { unused } => {
                drop(unused);
                self.ticket = None;
                Poll::Ready(())
            }
            Polled::Waiting { stale } => {
                drop(stale);
                Poll::Pending
            }
        }
    }
}

impl Drop for QueueWait<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut wake = WakeBatch::new();
        let left = {
            let mut line = self.queue.line.lock();
            let left = line.waiting.cancel(ticket);
            if left.is_none() && !is_on(Mutant::QueueDropKeepsWakeUp) {
                line.hand_on(ticket, &mut wake);
            }
            left
        };
        wake_all(wake);
        drop(left);
    }
}

impl fmt::Debug for QueueWait<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueWait").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// A wake-up that was received and not used yet; forgotten when it is.
struct Turn<'a> {
    queue: &'a CoQueue,
    ticket: Ticket,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if is_on(Mutant::QueueLockKeepsWakeUp) {
            return;
        }
        let mut wake = WakeBatch::new();
        self.queue.line.lock().hand_on(self.ticket, &mut wake);
        wake_all(wake);
    }
}
