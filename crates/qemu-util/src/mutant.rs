//! Orderings that are necessary, by name, so that a test can take one of them away.
//!
//! A comment that says "this fence is necessary" is only worth something when leaving the fence out makes a test fail.
//! So each such fence, acquire, release or order of steps has a *mutant*: a variant of [`Mutant`], named after the
//! defect. The code asks for its ordering through this module; with the mutant on it gets the weaker one.
//!
//! | build | what these functions are |
//! |---|---|
//! | as shipped | constants: no mutant can be on, and nothing is left of this module in the machine code |
//! | cfg `qemu_loom` | the mutant that the environment variable `QEMU_UTIL_MUTANT` names is on, for the whole process |
//! | feature `mutants` | the same, on real threads; and `QEMU_UTIL_PRESSURE` adds pauses, see below |
//!
//! The table that says which model fails with which mutant is in docs/memory-ordering.md; a test runs each of them.
//!
//! # Pressure
//!
//! The places that have mutants are also those where a badly timed interruption could open a window. With the feature
//! `mutants` and `QEMU_UTIL_PRESSURE=<seed>` each of them now and then yields, spins or sleeps for up to a millisecond,
//! before and after, as a generator says that is seeded by the number and the thread.

use crate::primitive::atomic::{Ordering, fence};

/// Declares the mutants, their names in the environment, and the list of all.
macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A defect that can be switched on; see the [module](self).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Mutant {
            $($(#[$doc])* $variant,)*
        }

        impl Mutant {
            /// All mutants, in the order of the code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// What the environment calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

mutants! {
    // futex
    /// The model of the kernel compares the word before it takes the lock of its queue.
    FutexComparesTooEarly = "futex-compares-too-early",

    // event
    /// The setter looks at the state before its condition is visible.
    EventSetWithoutStoreLoad = "event-set-without-store-load",
    /// The setter does not publish what it wrote before.
    EventSetWithoutRelease = "event-set-without-release",
    /// The setter replaces the state by a load and a store.
    EventSetInTwoSteps = "event-set-in-two-steps",
    /// The waiter looks at its condition before the reset is visible.
    EventResetWithoutStoreLoad = "event-reset-without-store-load",
    /// The reset forgets that somebody sleeps.
    EventResetForgetsSleepers = "event-reset-forgets-sleepers",
    /// A waiter that finds the event set does not see what was written before.
    EventWaitWithoutAcquire = "event-wait-without-acquire",
    /// A waiter that finds the event set while it marks it does not see what was written before.
    EventMarkWithoutAcquire = "event-mark-without-acquire",
    /// The waiter marks the event by a plain store.
    EventMarkByStore = "event-mark-by-store",
    /// The waiter sleeps without having marked the event.
    EventSleepsUnmarked = "event-sleeps-unmarked",
    /// Whoever only asks does not see what was written before the event was set.
    EventIsSetWithoutAcquire = "event-is-set-without-acquire",

    // rcu::reader
    /// A section begins without a fence between the slot and its first read.
    RcuEnterWithoutFence = "rcu-enter-without-fence",
    /// A section ends without a fence between the slot and the look at `waiting`.
    RcuLeaveWithoutFence = "rcu-leave-without-fence",
    /// The end of a section does not release its reads.
    RcuLeaveWithoutRelease = "rcu-leave-without-release",
    /// The writer reads slots relaxed, as QEMU does: a data race that arm64 hides.
    RcuScanWithoutAcquire = "rcu-scan-without-acquire",
    /// The reader wakes the writer first and takes `waiting` back afterwards.
    RcuWakesBeforeClearing = "rcu-wakes-before-clearing",

    // rcu::grace
    /// The writer counts on without a fence after the caller's new pointer.
    RcuCountsWithoutFence = "rcu-counts-without-fence",
    /// The writer looks at the slots without a fence after `waiting`.
    RcuScanWithoutFence = "rcu-scan-without-fence",
    /// The writer says that it waits after it has looked at the slots.
    RcuWaitsAfterScan = "rcu-waits-after-scan",
    /// The writer resets its event after it has looked at the slots.
    RcuResetsAfterScan = "rcu-resets-after-scan",
    /// The counter stays as it is: a section that begins during a grace period looks like an old one.
    RcuCountsNothing = "rcu-counts-nothing",

    // rcu::callback
    /// The queue is told of a function before that is in it.
    RcuSetsBeforeQueueing = "rcu-sets-before-queueing",
    /// The server resets its event after it has looked at the queue.
    RcuServerResetsAfterLook = "rcu-server-resets-after-look",
    /// Functions are called without a grace period.
    RcuCallsAtOnce = "rcu-calls-at-once",
    /// Functions that come during a grace period are called at its end.
    RcuCallsLatecomers = "rcu-calls-latecomers",
    /// Two threads call functions at the same time.
    RcuCallsWithoutLock = "rcu-calls-without-lock",

    // rcu::cell
    /// The reader does not see what is behind the pointer.
    RcuReadWithoutAcquire = "rcu-read-without-acquire",
    /// The writer does not publish what is behind the pointer.
    RcuReplaceWithoutRelease = "rcu-replace-without-release",
    /// The writer does not see what is behind the pointer that it takes out.
    RcuReplaceWithoutAcquire = "rcu-replace-without-acquire",

    // push_list
    /// A push does not release the node.
    ListPushWithoutRelease = "list-push-without-release",
    /// A push overwrites what was pushed since it looked.
    ListPushInTwoSteps = "list-push-in-two-steps",
    /// The consumer does not see what is in the nodes that it takes.
    ListTakeWithoutAcquire = "list-take-without-acquire",
    /// Whoever closes the list does not see what is in the nodes that it takes.
    ListCloseWithoutAcquire = "list-close-without-acquire",
    /// The consumer does not see what is in the nodes that it looks at.
    ListAnyWithoutAcquire = "list-any-without-acquire",

    // aio::home
    /// Who becomes the home thread does not see what its predecessor did.
    HomeBindWithoutAcquire = "home-bind-without-acquire",
    /// Who leaves the loop does not release what it did.
    HomeLeaveWithoutRelease = "home-leave-without-release",
    /// A thread enters the loop although another has become the home thread since it looked.
    HomeEntersInTwoSteps = "home-enters-in-two-steps",
    /// Another thread becomes the home thread while this one is in the loop.
    HomeBindsWhileEntered = "home-binds-while-entered",

    // aio::notify
    /// The waker looks at `notify_me` without a fence after publishing its work.
    NotifyWithoutFence = "notify-without-fence",
    /// The sleeper looks for work without a fence after raising `notify_me`.
    AnnounceWithoutFence = "announce-without-fence",
    /// The historical defect (Launchpad 1805256): a SeqCst read-modify-write instead of store and fence.
    AnnounceByReadModifyWrite = "announce-by-read-modify-write",
    /// The waker never writes the eventfd.
    NotifyNeverWrites = "notify-never-writes",
    /// An announcement inside another one does not count: its end makes the outer one look as if it were over.
    AnnounceDoesNotCount = "announce-does-not-count",
    /// The flag is cleared before the eventfd is drained.
    AcceptClearsBeforeDraining = "accept-clears-before-draining",
    // aio::poll
    /// The sleeper relies on what it saw before it announced itself.
    LookBeforeAnnounce = "look-before-announce",
    /// A poll that does not block takes the eventfd's signal, and leaves the flag.
    PollWithoutBlockingDrains = "poll-without-blocking-drains",
    // aio::core
    /// The loop is told before there is something to find.
    NotifyBeforePublish = "notify-before-publish",
    /// A kick does not release what its thread wrote.
    KickWithoutRelease = "kick-without-release",
    /// The loop does not acquire what the thread that kicked it wrote.
    TakeKickWithoutAcquire = "take-kick-without-acquire",
    /// A kick is a store, which ends the release sequence of the kick before it.
    KickByStore = "kick-by-store",
    // aio::bh
    /// Scheduling does not release what its thread wrote.
    BhScheduleWithoutRelease = "bh-schedule-without-release",
    /// Scheduling does not acquire that the node is off the list.
    BhScheduleWithoutAcquire = "bh-schedule-without-acquire",
    /// Taking a node off the list does not release that it is.
    BhDequeueWithoutRelease = "bh-dequeue-without-release",
    /// Taking a node off the list does not acquire what those wrote who scheduled it again.
    BhDequeueWithoutAcquire = "bh-dequeue-without-acquire",
    /// The node is on the list before it is marked as scheduled.
    BhScheduledAfterPush = "bh-scheduled-after-push",
    /// Who finds the node on the list does not notify.
    BhNotifiesOnlyAfterPush = "bh-notifies-only-after-push",
    /// Deleting marks the node, and leaves the function where it is.
    BhDeleteKeepsFunction = "bh-delete-keeps-function",
    // aio::timer
    /// The loop is told before the timer is armed.
    TimerKicksBeforeArming = "timer-kicks-before-arming",
    // aio::fd
    /// The number of the list does not release the list.
    GenerationWithoutRelease = "generation-without-release",
    /// The reader of the number does not acquire the list.
    GenerationWithoutAcquire = "generation-without-acquire",
    /// The number changes before the list.
    GenerationBeforeList = "generation-before-list",
    /// The loop is told before the handler is on the list.
    FdKicksBeforeAdding = "fd-kicks-before-adding",
    // task::state
    /// A waker does not release what its thread wrote.
    TaskWakeWithoutRelease = "task-wake-without-release",
    /// A waker does not acquire that the task is off the list.
    TaskWakeWithoutAcquire = "task-wake-without-acquire",
    /// The poll does not acquire what the wakers wrote.
    TaskBeginWithoutAcquire = "task-begin-without-acquire",
    /// The end of a poll does not release that the task is off the list.
    TaskPendingWithoutRelease = "task-pending-without-release",
    /// The mark that the task was woken is removed after its poll, not before.
    TaskBeginKeepsScheduled = "task-begin-keeps-scheduled",
    // task::join
    /// Who joins is woken before the result is there.
    JoinWakesBeforeResult = "join-wakes-before-result",
    // task::block_on
    /// A waker does not release what its thread wrote.
    WokenWithoutRelease = "woken-without-release",
    /// The caller does not acquire what the wakers wrote.
    TakeWokenWithoutAcquire = "take-woken-without-acquire",
    /// A wake-up is a store, which ends the release sequence of the one before it.
    WokenByStore = "woken-by-store",
    /// The loop is kicked before the flag is set.
    KickBeforeWoken = "kick-before-woken",
    // qemu_block::aio::pool
    /// A worker whose time has run out exits without looking at the queue once more.
    PoolTimeOutWithoutLook = "pool-time-out-without-look",
    /// A worker looks at the queue in one critical section and uncounts itself in the next.
    PoolUncountsLater = "pool-uncounts-later",
    /// A submitter relies on any sleeper, however many jobs are queued already.
    PoolTrustsIdle = "pool-trusts-idle",
    /// A submitter whose thread did not start leaves the queue to nobody.
    PoolForgetsFailedStart = "pool-forgets-failed-start",
    /// Closing the pool wakes one sleeper.
    PoolClosesQuietly = "pool-closes-quietly",
    /// A job does not say that it was the last one to run inline.
    PoolEndsQuietly = "pool-ends-quietly",
    /// Who awaits the job is woken before the result is there.
    PoolWakesBeforeResult = "pool-wakes-before-result",

    // sync::waiters
    /// A waiter that is polled again with another waker is woken through the first.
    WaitersKeepFirstWaker = "waiters-keep-first-waker",

    // sync::gate
    /// Whoever joins the line has looked whether there is room before it took the internal mutex, and not again.
    GateJoinsWithoutLook = "gate-joins-without-look",
    /// Whoever finds room enters although others wait.
    GateOvertakesTheLine = "gate-overtakes-the-line",
    /// A waiter that is dropped keeps what it was given.
    GateDropKeepsTurn = "gate-drop-keeps-turn",
    /// When a waiter has left the line nobody looks at those behind.
    GateDropAdmitsNobody = "gate-drop-admits-nobody",

    // sync::queue
    /// The guard is dropped before the place in the line is taken.
    QueueReleasesBeforeJoining = "queue-releases-before-joining",
    /// A waiter that is dropped keeps its wake-up.
    QueueDropKeepsWakeUp = "queue-drop-keeps-wake-up",
    /// A waiter that is dropped while it locks again keeps its wake-up.
    QueueLockKeepsWakeUp = "queue-lock-keeps-wake-up",

    // sync::oneshot
    /// A sender that is dropped tells nobody.
    OneshotDropTellsNobody = "oneshot-drop-tells-nobody",
    /// A receiver that is polled again with another waker is woken through the first.
    OneshotKeepsFirstWaker = "oneshot-keeps-first-waker",
}

/// Whether `mutant` is on. Always false in a shipped build.
#[inline(always)]
pub fn is_on(mutant: Mutant) -> bool {
    imp::is_on(mutant)
}

/// A full fence, unless `mutant` is on.
///
/// Memory ordering: `fence(SeqCst)`.
#[inline(always)]
pub fn fence_unless(mutant: Mutant) {
    imp::pause();
    if !imp::is_on(mutant) {
        // Ordering: SeqCst fence; the caller says why.
        fence(Ordering::SeqCst);
    }
    imp::pause();
}

/// The `necessary` ordering, or the `weaker` one if `mutant` is on.
#[inline(always)]
pub fn unless(mutant: Mutant, necessary: Ordering, weaker: Ordering) -> Ordering {
    imp::pause();
    if imp::is_on(mutant) { weaker } else { necessary }
}

/// Does what is `necessary`, or what is `weaker` if `mutant` is on: for the order of steps, and steps that must be one.
#[inline(always)]
pub fn either<T>(mutant: Mutant, necessary: impl FnOnce() -> T, weaker: impl FnOnce() -> T) -> T {
    imp::pause();
    let result = if imp::is_on(mutant) { weaker() } else { necessary() };
    imp::pause();
    result
}

#[cfg(not(any(qemu_loom, feature = "mutants")))]
mod imp {
    #[inline(always)]
    pub(super) const fn is_on(_: super::Mutant) -> bool {
        false
    }

    #[inline(always)]
    pub(super) const fn pause() {}
}

/// The variable that names the mutant.
#[cfg(any(qemu_loom, feature = "mutants"))]
pub(crate) const VARIABLE: &str = "QEMU_UTIL_MUTANT";

#[cfg(any(qemu_loom, feature = "mutants"))]
mod imp {
    use super::{Mutant, VARIABLE};
    use crate::primitive::OnceLock;

    pub(super) fn is_on(mutant: Mutant) -> bool {
        static ACTIVE: OnceLock<Option<Mutant>> = OnceLock::new();
        *ACTIVE.get_or_init(named) == Some(mutant)
    }

    /// The mutant that the environment names. A name that is not known must not pass for "no mutant".
    fn named() -> Option<Mutant> {
        let name = std::env::var(VARIABLE).ok()?;
        let known = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
        Some(known.unwrap_or_else(|| panic!("{VARIABLE}: no mutant is called '{name}'")))
    }

    #[cfg(qemu_loom)]
    pub(super) const fn pause() {}

    #[cfg(not(qemu_loom))]
    pub(super) use super::pressure::pause;
}

#[cfg(all(feature = "mutants", not(qemu_loom)))]
mod pressure {
    use std::cell::Cell;
    use std::time::Duration;

    use crate::primitive::{OnceLock, hint, thread};

    /// The variable that holds the seed.
    const VARIABLE: &str = "QEMU_UTIL_PRESSURE";

    std::thread_local! {
        /// The state of the thread's generator; 0 before its first use.
        static STATE: Cell<u64> = const { Cell::new(0) };
    }

    fn seed() -> Option<u64> {
        static SEED: OnceLock<Option<u64>> = OnceLock::new();
        *SEED.get_or_init(|| {
            let text = std::env::var(VARIABLE).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("{VARIABLE}: '{text}' is not a number")))
        })
    }

    /// One step of xorshift64.
    fn next(state: u64) -> u64 {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        state ^ (state << 17)
    }

    /// Now and then gives other threads time to come in between.
    pub(super) fn pause() {
        let Some(seed) = seed() else { return };
        let number = STATE.try_with(|state| {
            let old =
                if state.get() == 0 { seed.wrapping_mul(2).wrapping_add(thread::token()) | 1 } else { state.get() };
            state.set(next(old));
            state.get() >> 16
        });
        // While the thread's locals are destroyed there is no generator any more.
        let Ok(number) = number else { return };
        match number % 64 {
            0..4 => thread::yield_now(),
            4..8 => (0..number >> 8 & 0x3ff).for_each(|_| hint::spin_loop()),
            8 => std::thread::sleep(Duration::from_micros(number >> 8 & 0x3ff)),
            _ => {}
        }
    }
}

#[cfg(all(test, qemu_loom))]
mod loom_tests;
