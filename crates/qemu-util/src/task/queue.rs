//! The tasks of one context: those that were woken, and all that live.

use std::collections::VecDeque;

use super::run::Task;
use super::state::Activity;
use crate::aio::core::Core;
use crate::panics::contain;
use crate::primitive::{Arc, Mutex};
use crate::push_list::{ListState, PushList, Pushed};

/// See the module head.
pub(crate) struct TaskQueue {
    /// Any thread pushes woken tasks, the home thread takes them.
    woken: PushList<Task>,
    /// Taken off `woken` and not run yet; a nested poll goes on with what the outer one has left.
    ready: Mutex<VecDeque<Arc<Task>>>,
    /// All tasks that are not complete, so that a shutdown can drop their futures.
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    slots: Vec<Option<Arc<Task>>>,
    free: Vec<usize>,
    closed: bool,
}

impl TaskQueue {
    pub(crate) fn new() -> Self {
        Self { woken: PushList::new(), ready: Mutex::new(VecDeque::new()), live: Mutex::new(Live::default()) }
    }

    /// Makes a task with a slot in the register; none when the context is shut down.
    pub(super) fn register(&self, make: impl FnOnce(usize) -> Task) -> Option<Arc<Task>> {
        let mut live = self.live.lock();
        if live.closed {
            return None;
        }
        let slot = live.free.pop().unwrap_or_else(|| {
            live.slots.push(None);
            live.slots.len() - 1
        });
        let task = Arc::new(make(slot));
        live.slots[slot] = Some(Arc::clone(&task));
        Some(task)
    }

    /// Takes a complete task out of the register.
    pub(super) fn forget(&self, slot: usize) {
        let mut live = self.live.lock();
        let task = live.slots.get_mut(slot).and_then(Option::take);
        if task.is_some() {
            live.free.push(slot);
        }
    }

    /// Hands a woken task to the home thread; the caller has set its `SCHEDULED` bit.
    pub(super) fn push(&self, core: &Core, task: Arc<Task>) {
        // SAFETY: the `SCHEDULED` bit keeps everybody else from pushing the task until the home thread has taken it.
        match unsafe { self.woken.push(task) } {
            // Each one who pushes tells the loop itself, first or not: nobody waits for another thread to do it.
            Pushed::First | Pushed::Behind => core.notify(),
            // The context is shut down; the future was dropped, or is just about to be.
            Pushed::Refused => {}
        }
    }

    /// Whether a woken task is on the list: a cheap look for the busy-polling loop, and for the last look before a
    /// sleep, which follows the fence of `announce`. [pair: aio.notify-sleep]
    pub(crate) fn has_woken(&self) -> bool {
        self.woken.has_nodes()
    }

    /// Whether a task waits to be run. Called by the home thread.
    pub(crate) fn has_work(&self) -> bool {
        self.has_woken() || !self.ready.lock().is_empty()
    }

    /// Runs the tasks that were woken so far; says whether there were any.
    ///
    /// Tasks that are woken meanwhile wait for the next round; what an outer round has taken and not run yet belongs to
    /// this one. Called by the home thread, inside the loop.
    pub(crate) fn run_woken(&self) -> bool {
        let woken = self.woken.take_all();
        self.ready.lock().extend(woken);
        let mut progress = false;
        loop {
            // A statement of its own: the lock is not held while the task runs.
            let next = self.ready.lock().pop_front();
            let Some(task) = next else { return progress };
            // A panic of the future becomes its result. What is contained here comes from the waker of whoever joins,
            // or from dropping what is left, and is not to keep the other tasks from running.
            contain(|| task.run());
            progress = true;
        }
    }

    /// Drops the futures of all tasks that do not run, and takes no more.
    pub(crate) fn close(&self) {
        let refused = self.woken.close();
        let ready = std::mem::take(&mut *self.ready.lock());
        let tasks: Vec<_> = {
            let mut live = self.live.lock();
            live.closed = true;
            live.slots.iter().flatten().cloned().collect()
        };
        for task in tasks {
            contain(|| task.cancel());
        }
        drop(ready);
        drop(refused);
    }
}

/// How many tasks of a context are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskCounts {
    /// All that are not complete.
    pub live: usize,
    /// Those that were woken and have not begun to run since.
    pub scheduled: usize,
    /// Those that run.
    pub running: usize,
}

impl TaskCounts {
    /// Those that wait for a waker.
    pub fn idle(&self) -> usize {
        self.live.saturating_sub(self.scheduled + self.running)
    }
}

impl std::fmt::Display for TaskCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { live, scheduled, running } = self;
        write!(f, "live={live} scheduled={scheduled} running={running} idle={}", self.idle())
    }
}

/// For information, from any thread.
impl TaskQueue {
    /// What is on the list that wakers push to.
    pub(crate) fn woken_state(&self) -> ListState {
        self.woken.state()
    }

    /// How many tasks were taken off that list and have not run yet; none when they are locked.
    pub(crate) fn try_ready_len(&self) -> Option<usize> {
        self.ready.try_lock().map(|ready| ready.len())
    }

    /// How many tasks there are; none when the register is locked.
    pub(crate) fn try_counts(&self) -> Option<TaskCounts> {
        let live = self.live.try_lock()?;
        let mut counts = TaskCounts::default();
        for task in live.slots.iter().flatten() {
            counts.live += 1;
            match task.activity() {
                Activity::Running => counts.running += 1,
                Activity::Scheduled => counts.scheduled += 1,
                Activity::Idle => {}
            }
        }
        Some(counts)
    }
}
