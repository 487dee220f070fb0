//! One round of the loop, in this order: busy polling, sleep, bottom halves, tasks, file descriptors, timers.
//!
//! QEMU: `aio_poll` (util/aio-posix.c)

use std::time::Duration;

use smallvec::SmallVec;

use super::core::Core;
use super::fd::Ready;
use super::home::Entered;
use crate::mutant::{Mutant, is_on};
use crate::primitive::clock::Instant;
use crate::primitive::hint;
use crate::rcu::read_lock;

/// Looks at the clock only once in so many spins; a model would be none the wiser for more than one.
const SPINS_PER_LOOK_AT_THE_CLOCK: u32 = if cfg!(qemu_loom) { 1 } else { 16 };

type ReadyList = SmallVec<[Ready; 4]>;

impl Core {
    /// One round. Says whether something was done: a bottom half that is not idle, a task, a handler or a timer.
    ///
    /// `entered` is the proof that this is the home thread. A context that was shut down never blocks.
    pub(super) fn poll(&self, entered: &Entered<'_>, blocking: bool) -> bool {
        let blocking = blocking && !self.is_closed();
        let ready = if blocking { self.wait_for_work(entered) } else { self.look_at_handlers() };
        self.take_kick();
        let mut progress = self.bhs.dispatch();
        progress |= self.tasks.run_woken();
        for handler in ready {
            progress |= self.dispatch_handler(&handler);
        }
        progress |= self.timers.run();
        progress
    }

    /// How long the loop may sleep; none means for ever. Zero as long as anything is left to do, also what a nested poll
    /// finds in the hands of the outer one, and what an unwinding one has left behind.
    fn timeout(&self, _entered: &Entered<'_>) -> Option<Duration> {
        if self.is_kicked() || self.tasks.has_work() {
            return Some(Duration::ZERO);
        }
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
        if is_on(Mutant::PollWithoutBlockingDrains) {
            self.notifier.eventfd().drain();
        }
        // A round without handlers needs no system call.
        if self.handlers.read(&read_lock()).is_empty() {
            return ReadyList::new();
        }
        self.monitor.wait(self.notifier.eventfd(), &self.handlers, Some(Duration::ZERO)).ready
    }

    /// Returns when there is something to do: spins for a moment, then sleeps.
    fn wait_for_work(&self, entered: &Entered<'_>) -> ReadyList {
        let timeout = self.timeout(entered);
        if timeout == Some(Duration::ZERO) {
            return self.look_at_handlers();
        }
        let start = self.polling.is_on().then(Instant::now);
        // Spinning past the deadline of a timer would make it late.
        let spin = self.polling.time().min(timeout.unwrap_or(Duration::MAX));
        let ready = start.and_then(|start| self.busy_poll(entered, start, spin));
        let ready = ready.unwrap_or_else(|| self.sleep(entered));
        if let Some(start) = start {
            self.polling.adjust(start.elapsed());
        }
        ready
    }

    /// Spins while there is nothing to do, for `time` from `start`; none when there was no work.
    ///
    /// `notify_me` is not set meanwhile, so that wakers do not write the eventfd.
    fn busy_poll(&self, entered: &Entered<'_>, start: Instant, time: Duration) -> Option<ReadyList> {
        // Idle bottom halves are there to be slept over: they would end the spinning again and again.
        if time.is_zero() || self.bhs.has_pushed() {
            return None;
        }
        // One section around all of it, as entering one costs more than looking.
        let guard = read_lock();
        loop {
            for _ in 0..SPINS_PER_LOOK_AT_THE_CLOCK {
                if self.bhs.has_pushed() || self.tasks.has_woken() || self.is_kicked() {
                    drop(guard);
                    let is_urgent = self.timeout(entered) == Some(Duration::ZERO);
                    return is_urgent.then(|| self.look_at_handlers());
                }
                // Not in a model, where it would let every other thread go on until it blocks: what happens when the
                // time is over first would never be seen.
                if cfg!(not(qemu_loom)) {
                    hint::spin_loop();
                }
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
        let seen_before = is_on(Mutant::LookBeforeAnnounce).then(|| self.timeout(entered));
        let announced = self.notifier.announce();
        // The look at everything that a waker may have published: after the fence of `announce`.
        let timeout = seen_before.unwrap_or_else(|| self.timeout(entered));
        let outcome = self.monitor.wait(self.notifier.eventfd(), &self.handlers, timeout);
        drop(announced);
        self.notifier.accept(outcome.notified);
        outcome.ready
    }
}
