//! A task: a future, its state, and the way back to its context.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Wake as WakeTrait, Waker};

use super::join::{Fail, JoinError};
use super::state::{Activity, Begin, Pending, State, Wake};
use crate::aio::core::Core;
use crate::primitive::{Arc, UnsafeCell};
use crate::push_list::{Link, Linked};

type BoxedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A spawned task.
///
/// | field | who may touch it |
/// |---|---|
/// | `state` | everybody, by its methods |
/// | `future` | who was granted exclusive access by `state` |
/// | `link` | the list of the context |
/// | the rest | never changes |
pub(crate) struct Task {
    state: State,
    link: Link<Task>,
    future: UnsafeCell<Option<BoxedFuture>>,
    core: Arc<Core>,
    join: Arc<dyn Fail>,
    /// The place in the context's register of live tasks.
    slot: usize,
}

// SAFETY: one field, used by the list only.
unsafe impl Linked for Task {
    fn link(&self) -> &Link<Task> {
        &self.link
    }
}

// SAFETY: `future` is the only field that is not `Sync` by itself. It is `Send`, and it is accessed by one thread at a
// time: the one to which `state` has granted exclusive access, with acquire and release between two of them.
unsafe impl Sync for Task {}

impl Task {
    pub(super) fn new(core: Arc<Core>, future: BoxedFuture, join: Arc<dyn Fail>, slot: usize) -> Self {
        Self { state: State::scheduled(), link: Link::new(), future: UnsafeCell::new(Some(future)), core, join, slot }
    }

    /// Pushes the task on its context's list. `SCHEDULED` was set by the caller, or at creation.
    pub(super) fn push(self: Arc<Self>) {
        let core = Arc::clone(&self.core);
        core.tasks.push(&core, self);
    }

    pub(super) fn abort(self: &Arc<Self>) {
        if self.state.abort() == Wake::Push {
            Arc::clone(self).push();
        }
    }

    /// Runs a task that was taken off the list, until its next await that is not ready.
    pub(super) fn run(self: Arc<Self>) {
        match self.state.begin() {
            Begin::Gone => {}
            Begin::Cancel => self.finish(Some(JoinError::Cancelled)),
            Begin::Poll => {
                let waker = Waker::from(Arc::clone(&self));
                let polled = catch_unwind(AssertUnwindSafe(|| self.poll_future(&mut Context::from_waker(&waker))));
                match polled {
                    Ok(Poll::Ready(())) => self.finish(None),
                    Err(payload) => self.finish(Some(JoinError::Panicked(payload))),
                    Ok(Poll::Pending) => match self.state.pending() {
                        Pending::Idle => {}
                        Pending::Push => self.push(),
                        Pending::Cancel => self.finish(Some(JoinError::Cancelled)),
                    },
                }
            }
        }
    }

    fn poll_future(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.future.with_mut(|future| {
            // SAFETY: `begin` has granted exclusive access, and the borrow ends with this call.
            let future = unsafe { &mut *future };
            future.as_mut().map_or(Poll::Ready(()), |future| future.as_mut().poll(cx))
        })
    }

    /// What the task is doing; for information, from any thread.
    pub(super) fn activity(&self) -> Activity {
        self.state.activity()
    }

    /// Cancels the task on behalf of its context, which goes; false when the task is running and will do it itself.
    pub(super) fn cancel(&self) {
        if self.state.seize() {
            self.finish(Some(JoinError::Cancelled));
        }
    }

    /// Ends the task. The caller has exclusive access.
    fn finish(&self, error: Option<JoinError>) {
        let future = self.future.with_mut(|future| {
            // SAFETY: exclusive access is the caller's, and the borrow ends with this call.
            let future = unsafe { &mut *future };
            future.take()
        });
        // What the future owns may panic when it is dropped; that is the end of the future all the same.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.state.complete();
        self.core.tasks.forget(self.slot);
        match (error, dropped) {
            (Some(error), dropped) => {
                // Not dropped: the payload of a panic may panic in turn. The hook has reported it.
                std::mem::forget(dropped);
                self.join.fail(error);
            }
            (None, Err(payload)) => self.join.fail(JoinError::Panicked(payload)),
            (None, Ok(())) => {}
        }
    }
}

impl WakeTrait for Task {
    fn wake(self: Arc<Self>) {
        if self.state.wake() == Wake::Push {
            self.push();
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.wake() == Wake::Push {
            Arc::clone(self).push();
        }
    }
}
