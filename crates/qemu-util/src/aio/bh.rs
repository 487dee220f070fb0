//! Bottom halves: functions that the loop calls soon, scheduled from any thread.
//!
//! # Flags
//!
//! | bit | meaning |
//! |---|---|
//! | `PENDING` | the node is on the list, or about to be pushed by whoever set the bit |
//! | `SCHEDULED` | call the function when the node is taken off the list |
//! | `DELETED` | never call it again |
//! | `ONESHOT` | delete after the call |
//! | `IDLE` | need not be called at once: the loop may sleep for up to 10 ms first |
//!
//! # Transitions, each one read-modify-write
//!
//! | method | change | ordering |
//! |---|---|---|
//! | [`Flags::schedule`] | `+PENDING +SCHEDULED`, `IDLE` as asked; the one who adds `PENDING` pushes | AcqRel |
//! | [`Flags::cancel`] | `-SCHEDULED` | Relaxed |
//! | [`Flags::delete`] | `+DELETED` | Relaxed |
//! | [`Flags::dequeue`] | `-PENDING -SCHEDULED -IDLE`, home thread, node off the list | AcqRel |
//!
//! QEMU: `QEMUBH`, `aio_bh_poll` (util/async.c)

use std::collections::VecDeque;
use std::time::Duration;

use super::core::Core;
use crate::mutant::{Mutant, is_on, unless};
use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::{Arc, Mutex};
use crate::push_list::{Link, Linked, ListState, PushList, Pushed};

const PENDING: u32 = 1 << 0;
const SCHEDULED: u32 = 1 << 1;
const DELETED: u32 = 1 << 2;
const ONESHOT: u32 = 1 << 3;
const IDLE: u32 = 1 << 4;

/// How long idle bottom halves let the loop sleep.
const IDLE_INTERVAL: Duration = Duration::from_millis(10);

/// When a scheduled bottom half shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Now,
    Idle,
}

/// What the one who scheduled has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Enqueue {
    Push,
    OnTheList,
}

/// What to do with a node that was taken off the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Dequeued {
    Call(Urgency),
    Skip,
}

/// The state word; see the module head.
struct Flags(AtomicU32);

impl Flags {
    fn schedule(&self, urgency: Urgency) -> Enqueue {
        let scheduled = |old: u32| {
            let wanted = old | PENDING | if is_on(Mutant::BhScheduledAfterPush) { 0 } else { SCHEDULED };
            match urgency {
                Urgency::Now => wanted & !IDLE,
                // Whoever wanted it at once still gets it at once.
                Urgency::Idle if old & SCHEDULED != 0 => wanted,
                Urgency::Idle => wanted | IDLE,
            }
        };
        // Ordering: AcqRel; Acquire: the previous dequeue is over before the node is pushed again; Release: when the
        // node is on the list already, what the caller wrote is visible to the call. Relaxed for the first look.
        // [pair: bh.schedule-dequeue]
        let acq_rel = unless(Mutant::BhScheduleWithoutRelease, Ordering::AcqRel, Ordering::Acquire);
        let acq_rel = unless(Mutant::BhScheduleWithoutAcquire, acq_rel, Ordering::Release);
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            match self.0.compare_exchange_weak(old, scheduled(old), acq_rel, Ordering::Relaxed) {
                Ok(_) if old & PENDING == 0 => return Enqueue::Push,
                Ok(_) => return Enqueue::OnTheList,
                Err(now) => old = now,
            }
        }
    }

    fn cancel(&self) {
        // Ordering: Relaxed; a call that has begun is not undone, and nothing is published by a call that does not
        // happen.
        self.0.fetch_and(!SCHEDULED, Ordering::Relaxed);
    }

    fn delete(&self) {
        // Ordering: Relaxed; as for `cancel`. The function itself is dropped under a lock.
        self.0.fetch_or(DELETED, Ordering::Relaxed);
    }

    fn dequeue(&self) -> Dequeued {
        // Ordering: AcqRel; Acquire: what was written before the node was scheduled, by whomever, is visible to the
        // call; Release: the node is off the list before somebody else may push it. [pair: bh.schedule-dequeue]
        let acq_rel = unless(Mutant::BhDequeueWithoutRelease, Ordering::AcqRel, Ordering::Acquire);
        let acq_rel = unless(Mutant::BhDequeueWithoutAcquire, acq_rel, Ordering::Release);
        let old = self.0.fetch_and(!(PENDING | SCHEDULED | IDLE), acq_rel);
        if old & (SCHEDULED | DELETED) != SCHEDULED {
            return Dequeued::Skip;
        }
        Dequeued::Call(if old & IDLE == 0 { Urgency::Now } else { Urgency::Idle })
    }

    /// What the loop has to do about a node on the list before it sleeps.
    fn urgency(&self) -> Option<Urgency> {
        // Ordering: Relaxed; the fence of the sleeper precedes this look. [pair: aio.notify-sleep]
        let flags = self.0.load(Ordering::Relaxed);
        if flags & (SCHEDULED | DELETED) != SCHEDULED {
            return None;
        }
        Some(if flags & IDLE == 0 { Urgency::Now } else { Urgency::Idle })
    }
}

/// What a bottom half does.
enum Call {
    /// The user's function, until it is deleted. Called through a clone, so that it may delete or call itself.
    Many(Mutex<Option<Arc<dyn Fn() + Send + Sync>>>),
    /// The user's function, until it is called.
    Once(Mutex<Option<Box<dyn FnOnce() + Send>>>),
}

/// A bottom half; `Bh` is the public handle.
pub(crate) struct Node {
    flags: Flags,
    link: Link<Node>,
    call: Call,
}

// SAFETY: one field, used by the list only.
unsafe impl Linked for Node {
    fn link(&self) -> &Link<Node> {
        &self.link
    }
}

impl Node {
    fn new(flags: u32, call: Call) -> Arc<Self> {
        Arc::new(Self { flags: Flags(AtomicU32::new(flags)), link: Link::new(), call })
    }

    pub(crate) fn many(function: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Self::new(0, Call::Many(Mutex::new(Some(Arc::new(function)))))
    }

    pub(crate) fn once(function: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Self::new(ONESHOT, Call::Once(Mutex::new(Some(Box::new(function)))))
    }

    fn delete(&self) {
        self.flags.delete();
        if is_on(Mutant::BhDeleteKeepsFunction) {
            return;
        }
        if let Call::Many(function) = &self.call {
            let function = function.lock().take();
            // Outside the lock: the function may own handles whose drop comes back here.
            drop(function);
        }
    }

    /// Calls the function; says whether that counts as progress.
    fn call(&self) -> bool {
        match &self.call {
            Call::Many(function) => {
                let function = function.lock().clone();
                function.is_some_and(|function| {
                    function();
                    true
                })
            }
            Call::Once(function) => {
                let function = function.lock().take();
                function.is_some_and(|function| {
                    function();
                    true
                })
            }
        }
    }
}

/// The bottom halves of one context.
pub(crate) struct BhQueue {
    /// Any thread pushes, the home thread takes.
    pushed: PushList<Node>,
    /// Taken off `pushed` and not called yet; a nested poll goes on with what the outer one has left.
    taken: Mutex<VecDeque<Arc<Node>>>,
}

impl BhQueue {
    pub(crate) fn new() -> Self {
        Self { pushed: PushList::new(), taken: Mutex::new(VecDeque::new()) }
    }

    /// Schedules `node`. The caller notifies the loop afterwards, also when the node was on the list: it may have been
    /// cancelled there, or be idle, and the loop asleep all the same.
    pub(crate) fn schedule(&self, node: &Arc<Node>, urgency: Urgency) -> Enqueue {
        let enqueue = node.flags.schedule(urgency);
        if enqueue == Enqueue::Push {
            // SAFETY: PENDING, which we have just set, keeps everybody else from pushing the node, and the home thread
            // clears it after it has taken the node off the list.
            let pushed = unsafe { self.pushed.push(Arc::clone(node)) };
            // First or not, the caller notifies. When the context is shut down, PENDING stays, so that nobody tries
            // again.
            let (Pushed::First | Pushed::Behind | Pushed::Refused) = pushed;
        }
        // Else the node is on the list, or whoever has set PENDING is just about to push it. In that window the caller's
        // notification may find nothing, and the call waits for the other thread: it is late by as long as that thread
        // is interrupted, never lost, since that thread has nothing to do but push and notify, takes no lock and runs
        // no foreign code on the way.
        if is_on(Mutant::BhScheduledAfterPush) {
            // Ordering: Relaxed; a mutant.
            node.flags.0.fetch_or(SCHEDULED, Ordering::Relaxed);
        }
        enqueue
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pushed.is_closed()
    }

    /// A cheap look for the busy-polling loop.
    pub(crate) fn has_pushed(&self) -> bool {
        self.pushed.has_nodes()
    }

    /// How long the loop may sleep as far as bottom halves are concerned; none means for ever.
    ///
    /// # Safety
    /// The caller is the home thread, inside the loop.
    pub(crate) unsafe fn timeout(&self) -> Option<Duration> {
        let mut idle = false;
        let mut is_urgent = |node: &Node| {
            let urgency = node.flags.urgency();
            idle |= urgency == Some(Urgency::Idle);
            urgency == Some(Urgency::Now)
        };
        // SAFETY: the home thread is the consumer, and the predicate takes nothing.
        let urgent = unsafe { self.pushed.any(&mut is_urgent) } || self.taken.lock().iter().any(|node| is_urgent(node));
        match (urgent, idle) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(IDLE_INTERVAL),
            (false, false) => None,
        }
    }

    /// Calls everything that is scheduled; says whether that was progress.
    ///
    /// What is scheduled meanwhile waits for the next round, so that a bottom half that schedules itself does not keep
    /// the loop from its other work. Called by the home thread, inside the loop.
    pub(crate) fn dispatch(&self) -> bool {
        let batch = self.pushed.take_all();
        self.taken.lock().extend(batch);
        let mut progress = false;
        loop {
            // A statement of its own: the lock is not held during the call.
            let next = self.taken.lock().pop_front();
            let Some(node) = next else { return progress };
            if let Dequeued::Call(urgency) = node.flags.dequeue() {
                progress |= node.call() && urgency == Urgency::Now;
            }
        }
    }

    /// Drops everything that is scheduled and takes no more.
    pub(crate) fn close(&self) {
        let refused = self.pushed.close();
        let left = std::mem::take(&mut *self.taken.lock());
        // Outside the lock: closures that are dropped may come back here.
        drop(left);
        drop(refused);
    }
}

impl BhQueue {
    /// What is on the list that any thread pushes to; for information, from any thread.
    pub(super) fn pushed_state(&self) -> ListState {
        self.pushed.state()
    }

    /// The state words of what was taken off that list and not called yet; none when it is locked.
    pub(super) fn try_taken_flags(&self) -> Option<Vec<u32>> {
        // Ordering: Relaxed; for information only.
        let flags = |node: &Arc<Node>| node.flags.0.load(Ordering::Relaxed);
        self.taken.try_lock().map(|taken| taken.iter().map(flags).collect())
    }
}

/// A handle to a bottom half: a function that the home thread of its context calls after it has been scheduled.
///
/// All methods may be called from any thread, also from inside the function. Cloning gives another handle to the same
/// bottom half. Dropping the handles does not cancel a call that is scheduled; the function lives until the last handle
/// is gone and that call has been made, or until [`delete`](Self::delete).
///
/// ```
/// use qemu_util::aio::AioContext;
///
/// let ctx = AioContext::new()?;
/// let (sender, receiver) = std::sync::mpsc::sync_channel(2);
/// let bh = ctx.bh(move || sender.send("called").expect("there is room"));
/// bh.schedule();
/// bh.schedule();
/// assert!(ctx.poll(true));
/// assert_eq!(receiver.try_iter().count(), 1);
/// # std::io::Result::Ok(())
/// ```
///
/// QEMU: `QEMUBH` (include/block/aio.h)
#[derive(Clone)]
pub struct Bh {
    core: Arc<Core>,
    node: Arc<Node>,
}

impl Bh {
    pub(crate) fn new(core: Arc<Core>, node: Arc<Node>) -> Self {
        Self { core, node }
    }

    /// Has the function called once, soon. However often it is scheduled before that, it is one call.
    ///
    /// Memory ordering: what the caller wrote before is visible to the call.
    ///
    /// QEMU: `qemu_bh_schedule` (util/async.c)
    pub fn schedule(&self) {
        self.core.schedule(&self.node, Urgency::Now);
    }

    /// Has the function called when the loop goes round anyway, and within about 10 ms. Does not count as progress.
    ///
    /// QEMU: `qemu_bh_schedule_idle` (util/async.c)
    pub fn schedule_idle(&self) {
        self.core.schedule(&self.node, Urgency::Idle);
    }

    /// Takes a scheduled call back. A call that has begun in another thread is not waited for.
    ///
    /// QEMU: `qemu_bh_cancel` (util/async.c)
    pub fn cancel(&self) {
        self.node.flags.cancel();
    }

    /// Has the function never called again and drops it; when it is just running, after it has returned.
    ///
    /// QEMU: `qemu_bh_delete` (util/async.c)
    pub fn delete(&self) {
        self.node.delete();
    }
}

impl std::fmt::Debug for Bh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Ordering: Relaxed; for information only.
        f.debug_struct("Bh").field("flags", &self.node.flags.0.load(Ordering::Relaxed)).finish_non_exhaustive()
    }
}
