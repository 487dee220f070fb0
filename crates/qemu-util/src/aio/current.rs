//! Which context's loop the calling thread is in.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::AioContext;
use crate::primitive::thread_local;

thread_local! {
    static CURRENT: RefCell<Option<AioContext>> = RefCell::default();
}

/// Restores the previous context when it is dropped.
#[must_use]
pub(super) struct Restore {
    /// None: nothing was changed.
    previous: Option<Option<AioContext>>,
    /// Not `Send`: it belongs to the thread.
    _thread: PhantomData<*const ()>,
}

fn replace(ctx: Option<AioContext>) -> Option<AioContext> {
    CURRENT.try_with(|current| current.replace(ctx)).ok().flatten()
}

/// Makes `ctx` the current one.
pub(super) fn set(ctx: &AioContext) -> Restore {
    let is_current =
        CURRENT.try_with(|current| current.borrow().as_ref().is_some_and(|current| current == ctx)).unwrap_or(true);
    let previous = if is_current { None } else { Some(replace(Some(ctx.clone()))) };
    Restore { previous, _thread: PhantomData }
}

pub(super) fn get() -> Option<AioContext> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(previous) = self.previous.take() {
            // Dropped after the cell is free again: it may be the last handle.
            drop(replace(previous));
        }
    }
}
