//! `QemuEvent`: a flag that one side sets and the other sides wait for, without a lock.
//!
//! # States
//!
//! | state | meaning |
//! |---|---|
//! | `SET` (0) | the event has happened; waiting returns at once |
//! | `FREE` (1) | it has not happened, and nobody waits |
//! | `BUSY` (all ones) | it has not happened, and somebody may be asleep on the futex |
//!
//! # Transitions
//!
//! | from | to | by | ordering |
//! |---|---|---|---|
//! | `FREE` | `SET` | [`QemuEvent::set`] | full fence before the state is read |
//! | `BUSY` | `SET` | [`QemuEvent::set`], which then wakes everybody | as above |
//! | `SET` | `FREE` | [`QemuEvent::reset`] | full fence after it |
//! | `FREE` | `BUSY` | [`QemuEvent::wait`] | none needed: too early a `BUSY` costs a wake-up |
//!
//! `BUSY` to `FREE` cannot happen: `reset` ORs `FREE` in, and `BUSY | FREE` is `BUSY`. A waiter that leaves because its
//! time ran out leaves `BUSY` behind, which costs the next `set` one system call.
//!
//! # Use
//!
//! One side makes its condition true and then calls `set`. The other side loops: `reset`, look at the condition, `wait`
//! when it does not hold. The two fences make sure that either `set` sees the reset (and sets the event again) or the
//! waiter sees the condition.

use std::time::{Duration, Instant};

use crate::futex::{Futex, Woken};
use crate::mutant::{Mutant, either, is_on, unless};
use crate::primitive::atomic::{Ordering, fence};

const SET: u32 = 0;
const FREE: u32 = 1;
const BUSY: u32 = u32::MAX;

/// What the word of an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
    /// The event has happened.
    Set,
    /// It has not happened, and nobody waits.
    Free,
    /// It has not happened, and somebody may be asleep on the futex.
    Busy,
}

impl std::fmt::Display for EventState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Free => "free",
            Self::Busy => "busy",
        })
    }
}

/// An event on a futex; any number of threads may set it, reset it and wait for it.
///
/// ```
/// let event = qemu_util::event::QemuEvent::new(false);
/// std::thread::scope(|scope| {
///     scope.spawn(|| event.set());
///     event.wait();
/// });
/// ```
///
/// QEMU: `QemuEvent` (util/event.c)
#[derive(Debug)]
pub struct QemuEvent {
    state: Futex,
}

impl QemuEvent {
    /// An event that has already happened (`set`) or has not.
    #[cfg(not(qemu_loom))]
    pub const fn new(set: bool) -> Self {
        Self { state: Futex::new(if set { SET } else { FREE }) }
    }

    /// An event that has already happened (`set`) or has not.
    #[cfg(qemu_loom)]
    pub fn new(set: bool) -> Self {
        Self { state: Futex::new(if set { SET } else { FREE }) }
    }

    /// Sets the event and wakes everybody who waits for it. Costs no system call when nobody waits.
    ///
    /// Memory ordering: what the caller wrote before is visible to whoever returns from [`wait`](Self::wait) because
    /// of this call, and to whoever looks after a [`reset`](Self::reset) that this call did not undo.
    ///
    /// QEMU: `qemu_event_set` (util/event.c)
    pub fn set(&self) {
        // Ordering: SeqCst fence; the caller's store to its condition must not pass the load of the state below: were
        // the state still seen as SET although a waiter has reset it, the waiter would sleep with the condition true.
        // It also is the release that the acquire loads of `wait` synchronise with. [pair: event.set-reset]
        // [pair: event.set-wait]
        let ordering = unless(Mutant::EventSetWithoutStoreLoad, Ordering::SeqCst, Ordering::AcqRel);
        fence(unless(Mutant::EventSetWithoutRelease, ordering, Ordering::Acquire));
        // Ordering: Relaxed; ordered by the fence above.
        if self.state.word().load(Ordering::Relaxed) == SET {
            return;
        }
        // Ordering: Relaxed; the fence above releases, and FUTEX_WAKE below is a full barrier against the comparison
        // inside FUTEX_WAIT. One step, so that no BUSY is overwritten unseen. [pair: event.futex]
        let swap = || self.state.word().swap(SET, Ordering::Relaxed);
        if either(Mutant::EventSetInTwoSteps, swap, || self.replace_in_two_steps(SET)) == BUSY {
            self.state.wake_all();
        }
    }

    /// Takes the event back. Does nothing when it is not set.
    ///
    /// Memory ordering: the caller's next look at its condition happens after the reset.
    ///
    /// QEMU: `qemu_event_reset` (util/event.c)
    pub fn reset(&self) {
        // BUSY | FREE is BUSY: a thread that waits already is left alone.
        // Ordering: Relaxed; ordered by the fence below.
        let or_free = || self.state.word().fetch_or(FREE, Ordering::Relaxed);
        either(Mutant::EventResetForgetsSleepers, or_free, || self.state.word().swap(FREE, Ordering::Relaxed));
        // Ordering: SeqCst fence; the state must be reset before the caller looks at its condition, so that a `set`
        // which comes too late for that look finds the event reset. [pair: event.set-reset]
        fence(unless(Mutant::EventResetWithoutStoreLoad, Ordering::SeqCst, Ordering::AcqRel));
    }

    /// Blocks the thread until the event is set.
    ///
    /// Memory ordering: acquire; pairs with [`set`](Self::set).
    ///
    /// QEMU: `qemu_event_wait` (util/event.c)
    pub fn wait(&self) {
        while !self.is_set_else_mark_busy() {
            self.sleep(None);
        }
    }

    /// Blocks the thread until the event is set, for `timeout` at most; says whether it was set.
    ///
    /// Memory ordering: as [`wait`](Self::wait) when it returns true, none otherwise.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // A deadline beyond what the clock can express never comes.
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.is_set_else_mark_busy() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) || self.sleep(left) == Woken::TimedOut {
                return self.is_set();
            }
        }
    }

    /// Whether the event is set.
    ///
    /// Memory ordering: acquire when it is; pairs with [`set`](Self::set).
    pub fn is_set(&self) -> bool {
        // Ordering: Acquire; what was written before `set` is visible to a caller that goes on without sleeping.
        // [pair: event.set-wait]
        let acquire = unless(Mutant::EventIsSetWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        self.state.word().load(acquire) == SET
    }

    /// The state now, from any thread; for information.
    ///
    /// Memory ordering: none.
    pub fn state(&self) -> EventState {
        // Ordering: Relaxed; for information only.
        match self.state.word().load(Ordering::Relaxed) {
            SET => EventState::Set,
            FREE => EventState::Free,
            _ => EventState::Busy,
        }
    }

    /// Whether the event is set; if it is not, the next `set` will wake the futex.
    fn is_set_else_mark_busy(&self) -> bool {
        // Ordering: Acquire; as in `is_set`. [pair: event.set-wait]
        let acquire = unless(Mutant::EventWaitWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        match self.state.word().load(acquire) {
            SET => true,
            FREE if is_on(Mutant::EventSleepsUnmarked) => false,
            FREE => {
                // No retry: nothing turns BUSY into FREE, so that afterwards the state is BUSY or SET.
                let marked = either(Mutant::EventMarkByStore, || self.mark(), || Ok(self.replace_in_two_steps(BUSY)));
                // The last check against a concurrent `set` is the comparison inside FUTEX_WAIT. [pair: event.futex]
                marked == Err(SET)
            }
            _ => false,
        }
    }

    /// Sleeps while the event is marked: whoever sets it afterwards sees the mark. [pair: event.futex]
    fn sleep(&self, timeout: Option<Duration>) -> Woken {
        let expected = if is_on(Mutant::EventSleepsUnmarked) { FREE } else { BUSY };
        self.state.wait(expected, timeout)
    }

    /// Turns `FREE` into `BUSY`; the state if it is something else.
    fn mark(&self) -> Result<u32, u32> {
        // Ordering: Relaxed on success: marking too early costs a wake-up and nothing else. Acquire on failure, which
        // may have seen SET. [pair: event.set-wait]
        let acquire = unless(Mutant::EventMarkWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        self.state.word().compare_exchange(FREE, BUSY, Ordering::Relaxed, acquire)
    }

    /// What the mutants do who take it that nobody comes in between.
    fn replace_in_two_steps(&self, new: u32) -> u32 {
        // Ordering: Relaxed; as what it stands for.
        let previous = self.state.word().load(Ordering::Relaxed);
        self.state.word().store(new, Ordering::Relaxed);
        previous
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests;

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
