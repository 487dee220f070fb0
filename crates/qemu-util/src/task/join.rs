//! Waiting for a task: the place where its result is left, and the handle that takes it.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::run::Task;
use crate::mutant::{Mutant, is_on};
use crate::primitive::{Arc, Mutex};

/// Why a task has no result.
#[derive(thiserror::Error)]
pub enum JoinError {
    /// It was aborted, or its context was shut down.
    #[error("the task was cancelled")]
    Cancelled,
    /// It panicked; the value is the payload of the panic.
    #[error("the task panicked: {}", panic_message(.0.as_ref()))]
    Panicked(Box<dyn Any + Send>),
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("with a value that is no text")
}

impl JoinError {
    /// Goes on with the panic of the task; returns when it was cancelled.
    pub fn resume_panic(self) {
        if let Self::Panicked(payload) = self {
            std::panic::resume_unwind(payload);
        }
    }
}

impl std::fmt::Debug for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Panicked(payload) => f.debug_tuple("Panicked").field(&panic_message(payload.as_ref())).finish(),
        }
    }
}

enum Outcome<T> {
    /// The task has not ended; somebody may wait.
    Awaited(Option<Waker>),
    /// The task has ended.
    Ready(Result<T, JoinError>),
    /// The result was taken, or nobody will.
    Taken,
}

/// Shared by a task and its handle.
pub(super) struct JoinCell<T>(Mutex<Outcome<T>>);

impl<T> JoinCell<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Outcome::Awaited(None)))
    }

    /// Leaves the result; the first one counts.
    pub(super) fn put(&self, result: Result<T, JoinError>) {
        let mut outcome = self.0.lock();
        if let Outcome::Awaited(waker) = &mut *outcome {
            let mut waker = waker.take();
            if is_on(Mutant::JoinWakesBeforeResult) {
                drop(outcome);
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
                outcome = self.0.lock();
            }
            *outcome = Outcome::Ready(result);
            drop(outcome);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        // Cloned before the mutex is taken, and whatever is left over dropped after it is released: both may run
        // foreign code.
        let waker = cx.waker().clone();
        let mut outcome = self.0.lock();
        let (polled, left_over) = match std::mem::replace(&mut *outcome, Outcome::Taken) {
            Outcome::Ready(result) => (Poll::Ready(result), Some(waker)),
            Outcome::Awaited(stale) => {
                *outcome = Outcome::Awaited(Some(waker));
                (Poll::Pending, stale)
            }
            // As a future that is polled after completion: it never becomes ready again.
            Outcome::Taken => (Poll::Pending, Some(waker)),
        };
        drop(outcome);
        drop(left_over);
        polled
    }
}

/// The part of a [`JoinCell`] that does not depend on the type of the result.
pub(super) trait Fail: Send + Sync {
    fn fail(&self, error: JoinError);
}

impl<T: Send> Fail for JoinCell<T> {
    fn fail(&self, error: JoinError) {
        self.put(Err(error));
    }
}

/// A future of the result of a task; may be awaited in any executor. Dropping it detaches the task.
#[must_use = "dropping the handle detaches the task; say so with `drop`"]
pub struct JoinHandle<T> {
    cell: Arc<JoinCell<T>>,
    /// None: the context was shut down before.
    task: Option<Arc<Task>>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(cell: Arc<JoinCell<T>>, task: Option<Arc<Task>>) -> Self {
        Self { cell, task }
    }

    /// Has the task's future dropped in the home thread instead of polled again; joining then yields
    /// [`JoinError::Cancelled`], unless the task was faster.
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.cell.0.lock(), Outcome::Awaited(_))
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.cell.poll_take(cx)
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}
