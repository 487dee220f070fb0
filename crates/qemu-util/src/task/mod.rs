//! Tasks: futures that run in the home thread of a context.
//!
//! [`AioContext::spawn`](crate::aio::AioContext::spawn) makes one. Waking it, from any thread, pushes it on the lock-free
//! list of its context and notifies the loop, which looks at that list as it does at the bottom halves: there is no other
//! way for a wake-up to cross threads, so that there is one protocol to prove. The states of a task are in `state`.
//!
//! ```
//! use qemu_util::aio::AioContext;
//! use qemu_util::task::yield_now;
//!
//! let ctx = AioContext::new()?;
//! let task = ctx.spawn(async {
//!     yield_now().await;
//!     "done"
//! });
//! assert_eq!(ctx.block_on(task).expect("it does not panic"), "done");
//! # std::io::Result::Ok(())
//! ```
//!
//! A task ends with a result, by a panic, or because it is aborted; whoever joins it learns which.
//!
//! ```
//! use qemu_util::aio::AioContext;
//! use qemu_util::task::JoinError;
//!
//! let ctx = AioContext::new()?;
//! let task = ctx.spawn(std::future::pending::<()>());
//! assert!(!task.is_finished());
//! task.abort();
//! assert!(matches!(ctx.block_on(task), Err(JoinError::Cancelled)));
//!
//! let detached = ctx.spawn(async { std::thread::current().id() });
//! drop(detached); // It runs all the same, as soon as the loop does.
//! while ctx.poll(false) {}
//!
//! // The future of `block_on` itself is no task: it may borrow, and need not be `Send`.
//! let text = String::from("borrowed");
//! assert_eq!(ctx.block_on(async { text.len() }), 8);
//! # std::io::Result::Ok(())
//! ```
//!
//! QEMU: coroutines; `aio_co_schedule`, `aio_co_wake` (util/async.c)

mod block_on;
mod join;
mod queue;
mod run;
mod state;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use block_on::block_on;
pub use join::{JoinError, JoinHandle};
pub use queue::TaskCounts;
pub(crate) use queue::TaskQueue;

use self::join::{Fail, JoinCell};
use self::run::Task;
use crate::aio::core::Core;
use crate::primitive::Arc;

/// Makes a task of `future` and schedules it.
pub(crate) fn spawn<F>(core: &Arc<Core>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let cell = Arc::new(JoinCell::new());
    let result = Arc::clone(&cell);
    let boxed = Box::pin(async move { result.put(Ok(future.await)) });
    let join: Arc<dyn Fail> = cell.clone();
    let task = core.tasks.register(|slot| Task::new(Arc::clone(core), boxed, join, slot));
    match task {
        Some(task) => {
            Arc::clone(&task).push();
            JoinHandle::new(cell, Some(task))
        }
        None => {
            cell.put(Err(JoinError::Cancelled));
            JoinHandle::new(cell, None)
        }
    }
}

/// Lets the other tasks of the context run, once.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
