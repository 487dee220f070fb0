//! The tasks of one context: those that were woken, and all that live.

use std::collections::VecDeque;

use super::run::Task;
use crate::aio::bh::{Node, Urgency};
use crate::aio::core::Core;
use crate::primitive::{Arc, Mutex};
use crate::push_list::{PushList, Pushed};

/// See the module head.
pub(crate) struct TaskQueue {
    /// Any thread pushes woken tasks, the home thread takes them.
    woken: PushList<Task>,
    /// Taken off `woken` and not run yet; a nested poll goes on with what the outer one has left.
    ready: Mutex<VecDeque<Arc<Task>>>,
    /// The bottom half that runs the tasks.
    bh: Arc<Node>,
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
        Self {
            woken: PushList::new(),
            ready: Mutex::new(VecDeque::new()),
            bh: Node::tasks(),
            live: Mutex::new(Live::default()),
        }
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
            Pushed::First => core.schedule(&self.bh, Urgency::Now),
            // Whoever pushed the first one schedules the bottom half, or has done so and the loop has not come to it.
            Pushed::Behind => {}
            // The context is shut down; the future was dropped, or is just about to be.
            Pushed::Refused => {}
        }
    }

    /// Runs the tasks that were woken so far; says whether there were any.
    ///
    /// Tasks that are woken meanwhile wait for the next round. Called by the home thread, inside the loop.
    pub(crate) fn run_woken(&self) -> bool {
        let woken = self.woken.take_all();
        self.ready.lock().extend(woken);
        self.run_ready()
    }

    /// Runs what an outer round has taken and not run yet; says whether there was anything.
    pub(crate) fn run_ready(&self) -> bool {
        let mut progress = false;
        loop {
            // A statement of its own: the lock is not held while the task runs.
            let next = self.ready.lock().pop_front();
            let Some(task) = next else { return progress };
            task.run();
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
            task.cancel();
        }
        drop(ready);
        drop(refused);
    }
}
