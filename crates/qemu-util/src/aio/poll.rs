//! One round of the loop, in this order: busy polling, sleep, bottom halves, file descriptors, timers.
//!
//! QEMU: `aio_poll` (util/aio-posix.c)

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::core::Core;
use super::fd::Ready;
use super::home::Entered;
use crate::primitive::hint;
use crate::rcu::read_lock;

/// Looks at the clock only once in so many spins.
const SPINS_PER_LOOK_AT_THE_CLOCK: u32 = 16;

type ReadyList = SmallVec<[Ready; 4]>;

impl Core {
    /// One round. Says whether something was done: a bottom half that is not idle, a task, a handler or a timer.
    ///
    /// `entered` is the proof that this is the home thread. A context that was shut down never blocks.
    pub(super) fn poll(&self, entered: &Entered<'_>, blocking: bool) -> bool {
        // A nested poll first goes on with what the outer one has left.
        let mut progress = !entered.is_outermost() && self.tasks.run_ready();
        let blocking = blocking && !progress && !self.is_closed();
        let ready = if blocking { self.wait_for_work(entered) } else { self.look_at_handlers() };
        progress |= self.bhs.dispatch(self);
        for (handler, found) in ready {
            progress |= handler.dispatch(found);
        }
        progress |= self.timers.run();
        progress
    }

    /// How long the loop may sleep; none means for ever.
    fn timeout(&self, _entered: &Entered<'_>) -> Option<Duration> {
        // SAFETY: `_entered` says that this is the home thread, inside the loop.
        let bhs = unsafe { self.bhs.timeout() };
        if bhs == Some(Duration::ZERO) {
            return bhs;
        }
        match (bhs, self.timers.timeout()) {
            (Some(bhs), Some(timers)) => Some(bhs.min(timers)),
            (bhs, timers) => bhs.or(timers),
        }
    }

    /// Which handlers are ready, without waiting. Does not accept notifications: nobody sleeps.
    fn look_at_handlers(&self) -> ReadyList {
        // A round without handlers needs no system call.
        if self.handlers.read(&read_lock()).is_empty() {
            return ReadyList::new();
        }
        self.monitor.wait(self.notifier.eventfd(), &self.handlers, Some(Duration::ZERO)).ready
    }

    /// Returns when there is something to do: spins for a moment, then sleeps.
    fn wait_for_work(&self, entered: &Entered<'_>) -> ReadyList {
        if self.timeout(entered) == Some(Duration::ZERO) {
            return self.look_at_handlers();
        }
        let start = self.polling.is_on().then(Instant::now);
        let ready = start.and_then(|start| self.busy_poll(start)).unwrap_or_else(|| self.sleep(entered));
        if let Some(start) = start {
            self.polling.adjust(start.elapsed());
        }
        ready
    }

    /// Spins while there is nothing to do, for the time that experience recommends; none when there was no work.
    ///
    /// `notify_me` is not set meanwhile, so that wakers do not write the eventfd.
    fn busy_poll(&self, start: Instant) -> Option<ReadyList> {
        let time = self.polling.time();
        if time.is_zero() {
            return None;
        }
        // One section around all of it, as entering one costs more than looking.
        let guard = read_lock();
        loop {
            for _ in 0..SPINS_PER_LOOK_AT_THE_CLOCK {
                if self.bhs.has_pushed() {
                    drop(guard);
                    return Some(self.look_at_handlers());
                }
                hint::spin_loop();
            }
            let ready = self.check_handlers(&guard)?;
            if !ready.is_empty() {
                return Some(ready);
            }
            if start.elapsed() >= time {
                return None;
            }
        }
    }

    /// The sleeper's side of the protocol that `notify` describes.
    fn sleep(&self, entered: &Entered<'_>) -> ReadyList {
        let announced = self.notifier.announce();
        // The look at everything that a waker may have published: after the fence of `announce`.
        let timeout = self.timeout(entered);
        let outcome = self.monitor.wait(self.notifier.eventfd(), &self.handlers, timeout);
        drop(announced);
        self.notifier.accept(outcome.notified);
        outcome.ready
    }
}
