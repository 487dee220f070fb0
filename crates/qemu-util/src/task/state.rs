//! The state of a task, in one word.
//!
//! # Bits
//!
//! | bit | meaning |
//! |---|---|
//! | `SCHEDULED` | the task is on its context's list (or about to be pushed), or was woken while it runs |
//! | `RUNNING` | somebody, normally the home thread, has exclusive access to the future |
//! | `COMPLETE` | the future is gone, for ever |
//! | `CANCELLED` | the future shall be dropped instead of polled |
//!
//! # Transitions, each one read-modify-write
//!
//! | method | by | change | result |
//! |---|---|---|---|
//! | [`State::wake`] | any thread | `+SCHEDULED` | whoever adds it to an idle task pushes the task |
//! | [`State::abort`] | any thread | `+CANCELLED +SCHEDULED` | as `wake` |
//! | [`State::begin`] | home, task off the list | `-SCHEDULED +RUNNING` | poll, or drop, or nothing when complete |
//! | [`State::pending`] | who runs it | `-RUNNING` | idle; or push again; or, `CANCELLED`, drop (`RUNNING` stays) |
//! | [`State::seize`] | shutdown | `+CANCELLED`, and `+RUNNING` unless it runs or is complete | drop, or leave it to who runs it |
//! | [`State::complete`] | who runs it | `= COMPLETE` | |
//!
//! A waker that finds `SCHEDULED` set does nothing, also when the one who has set it has not pushed the task yet. The
//! wake-up is not lost: that thread, wherever it has been interrupted, has nothing left to do but push and notify, takes
//! no lock and runs no foreign code on the way, and the poll that follows acquires both wakers' writes by this word.
//!
//! The future is accessed by the one who has set `RUNNING`, until that one clears it. A waker that is called after
//! completion, however late, changes a bit that nobody looks at any more.

use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::atomic::{AtomicU32, Ordering};

const SCHEDULED: u32 = 1 << 0;
const RUNNING: u32 = 1 << 1;
const COMPLETE: u32 = 1 << 2;
const CANCELLED: u32 = 1 << 3;

/// The word; see the module head.
#[derive(Debug)]
pub(super) struct State(AtomicU32);

/// What the waker has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Wake {
    /// Push the task on the list of its context.
    Push,
    /// It is there, or runs and will be pushed again, or is complete.
    Nothing,
}

/// What the home thread has to do with a task that it took off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Begin {
    /// Poll the future; exclusive access is granted.
    Poll,
    /// Drop the future; exclusive access is granted.
    Cancel,
    /// Nothing: it is complete, or somebody else is about to drop it.
    Gone,
}

/// What to do with a task whose future is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Pending {
    /// Nothing: a waker will push it.
    Idle,
    /// Push it: it was woken while it ran.
    Push,
    /// Drop the future; exclusive access is kept.
    Cancel,
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing: it waits for a waker, or is complete.
    Idle,
    /// It is on the list of its context, or about to be pushed.
    Scheduled,
    /// It runs, or is just being dropped.
    Running,
}

impl State {
    /// For information, from any thread.
    pub(super) fn activity(&self) -> Activity {
        // Ordering: Relaxed; for information only.
        match self.0.load(Ordering::Relaxed) {
            word if word & RUNNING != 0 => Activity::Running,
            word if word & (SCHEDULED | COMPLETE) == SCHEDULED => Activity::Scheduled,
            _ => Activity::Idle,
        }
    }

    /// A task that is about to be pushed for the first time.
    pub(super) fn scheduled() -> Self {
        Self(AtomicU32::new(SCHEDULED))
    }

    fn add(&self, bits: u32) -> Wake {
        // Ordering: AcqRel; Release: what the waker wrote is visible to the poll that follows; Acquire: the home thread
        // has the task off the list (its `pending`) before it is pushed again. [pair: task.wake-run]
        let acq_rel = unless(Mutant::TaskWakeWithoutRelease, Ordering::AcqRel, Ordering::Acquire);
        let acq_rel = unless(Mutant::TaskWakeWithoutAcquire, acq_rel, Ordering::Release);
        let old = self.0.fetch_or(bits, acq_rel);
        if old & (SCHEDULED | RUNNING | COMPLETE) == 0 { Wake::Push } else { Wake::Nothing }
    }

    pub(super) fn wake(&self) -> Wake {
        self.add(SCHEDULED)
    }

    pub(super) fn abort(&self) -> Wake {
        self.add(SCHEDULED | CANCELLED)
    }

    /// Replaces the word by `change` of it, which may refuse; returns the old word if it did not.
    fn update(&self, success: Ordering, change: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        // Ordering: Relaxed for looking, and when nothing changes: nothing is accessed then. On success as the caller
        // says; every change but the last is a read-modify-write, so that it carries on the releases before it.
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let new = change(old)?;
            match self.0.compare_exchange_weak(old, new, success, Ordering::Relaxed) {
                Ok(_) => return Some(old),
                Err(now) => old = now,
            }
        }
    }

    pub(super) fn begin(&self) -> Begin {
        // Ordering: Acquire; what wakers wrote is visible to the poll that follows, and what the previous runner did to
        // the future to this one. Nobody acquires anything from this change: while `RUNNING` is set nobody pushes the
        // task or touches the future. [pair: task.wake-run]
        let acquire = unless(Mutant::TaskBeginWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        let woken = if is_on(Mutant::TaskBeginKeepsScheduled) { 0 } else { SCHEDULED };
        let begun = self.update(acquire, |old| (old & (COMPLETE | RUNNING) == 0).then_some((old & !woken) | RUNNING));
        match begun {
            None => Begin::Gone,
            Some(old) if old & CANCELLED != 0 => Begin::Cancel,
            Some(_) => Begin::Poll,
        }
    }

    pub(super) fn pending(&self) -> Pending {
        // Ordering: Release; the task is off the list before a waker pushes it again, and the future has been polled
        // before somebody else touches it. What wakers wrote meanwhile is acquired by the next `begin`.
        // [pair: task.wake-run]
        let release = unless(Mutant::TaskPendingWithoutRelease, Ordering::Release, Ordering::Relaxed);
        let woken = if is_on(Mutant::TaskBeginKeepsScheduled) { SCHEDULED } else { 0 };
        let ended = self.update(release, |old| (old & CANCELLED == 0).then_some(old & !RUNNING & !woken));
        match ended {
            None => Pending::Cancel,
            Some(_) if is_on(Mutant::TaskBeginKeepsScheduled) => Pending::Idle,
            Some(old) if old & SCHEDULED != 0 => Pending::Push,
            Some(_) => Pending::Idle,
        }
    }

    /// Whether the caller has got exclusive access in order to drop the future.
    pub(super) fn seize(&self) -> bool {
        let free = |old: u32| old & (RUNNING | COMPLETE) == 0;
        // Ordering: Acquire; what the last poll did to the future happened before it is dropped. Nobody depends on it
        // today: the queue, which is the caller, has taken a lock that it also takes after each poll.
        // [pair: task.wake-run]
        let old = self.update(Ordering::Acquire, |old| Some(old | CANCELLED | if free(old) { RUNNING } else { 0 }));
        old.is_some_and(free)
    }

    pub(super) fn complete(&self) {
        // Ordering: Relaxed; whoever sees that it is complete does nothing. The result goes by the lock of the handle.
        self.0.store(COMPLETE, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_life() {
        let state = State::scheduled();
        assert_eq!(state.wake(), Wake::Nothing);
        assert_eq!(state.begin(), Begin::Poll);
        assert_eq!(state.pending(), Pending::Idle);
        assert_eq!(state.wake(), Wake::Push);
        assert_eq!(state.begin(), Begin::Poll);
        assert_eq!(state.wake(), Wake::Nothing);
        assert_eq!(state.pending(), Pending::Push);
        assert_eq!(state.begin(), Begin::Poll);
        state.complete();
        assert_eq!(state.wake(), Wake::Nothing);
        assert_eq!(state.begin(), Begin::Gone);
    }

    #[test]
    fn cancelling() {
        let state = State::scheduled();
        assert_eq!(state.abort(), Wake::Nothing);
        assert_eq!(state.begin(), Begin::Cancel);

        let running = State::scheduled();
        assert_eq!(running.begin(), Begin::Poll);
        assert!(!running.seize());
        assert_eq!(running.pending(), Pending::Cancel);
        running.complete();
        assert!(!running.seize());

        let idle = State::scheduled();
        assert_eq!(idle.begin(), Begin::Poll);
        assert_eq!(idle.pending(), Pending::Idle);
        assert!(idle.seize());
        assert_eq!(idle.wake(), Wake::Nothing);
        assert_eq!(idle.begin(), Begin::Gone);
    }
}
