//! How tasks end: completed, aborted, or with their context; and who gets the result.

use std::future::poll_fn;
use std::task::Poll;

use super::waiting_task;
use crate::aio::loom_tests::{RELAXED, context, number};
use crate::model::{explore, explore_bounded};
use crate::primitive::atomic::AtomicU32;
use crate::primitive::{Arc, thread};
use crate::task::JoinError;

/// Counts how often it is dropped.
struct Owned(Arc<AtomicU32>);

impl Drop for Owned {
    fn drop(&mut self) {
        assert_eq!(self.0.fetch_add(1, RELAXED), 0, "it is dropped once");
    }
}

/// The second wake-up may find the task complete, and its future gone.
#[test]
fn wake_against_completion() {
    explore(|| {
        let ctx = context();
        let data = number();
        let (task, waker) = waiting_task(&ctx, &data, 1);
        let other = thread::spawn(move || {
            data.store(1, RELAXED);
            waker.wake_by_ref();
            waker.wake();
        });
        assert!(ctx.block_on(task).is_ok());
        other.join().unwrap();
        ctx.poll(false);
        assert!(!ctx.poll(false), "nothing is left on the list");
    });
}

/// A waker may outlive the context; the future is dropped once, and who joins hears of it.
#[test]
fn wake_against_shut_down() {
    explore(|| {
        let ctx = context();
        let (drops, waker) = (number(), Arc::new(crate::primitive::Mutex::new(None)));
        let task = {
            let (owned, waker) = (Owned(Arc::clone(&drops)), Arc::clone(&waker));
            ctx.spawn(poll_fn(move |cx| {
                let _used = &owned;
                *waker.lock() = Some(cx.waker().clone());
                Poll::<()>::Pending
            }))
        };
        ctx.poll(false);
        let taken = waker.lock().take().unwrap();
        let other = thread::spawn(move || taken.wake());
        ctx.poll(false);
        ctx.shut_down().unwrap();
        assert_eq!(drops.load(RELAXED), 1);
        assert!(task.is_finished());
        other.join().unwrap();
    });
}

/// The home thread runs the task once and gives up its handle; the last handle goes in another thread, which drops the
/// future.
#[test]
pub(crate) fn the_last_handle_goes_elsewhere() {
    explore(|| {
        let ctx = context();
        let drops = number();
        let task = {
            let owned = Owned(Arc::clone(&drops));
            ctx.spawn(poll_fn(move |_| {
                let _used = &owned;
                Poll::<()>::Pending
            }))
        };
        let other = {
            let ctx = ctx.clone();
            thread::spawn(move || drop(ctx))
        };
        ctx.poll(false);
        drop(ctx);
        other.join().unwrap();
        assert_eq!(drops.load(RELAXED), 1);
        assert!(task.is_finished());
    });
}

/// One thread wakes the task, which would end it, another one aborts it: one of the two it is.
#[test]
fn abort_against_wake_and_completion() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let (task, waker) = waiting_task(&ctx, &data, 1);
        let task = Arc::new(task);
        let aborter = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.abort())
        };
        let other = thread::spawn(move || {
            data.store(1, RELAXED);
            waker.wake();
        });
        while !task.is_finished() {
            ctx.poll(true);
        }
        aborter.join().unwrap();
        other.join().unwrap();
        let task = Arc::into_inner(task).unwrap();
        assert!(matches!(ctx.block_on(task), Ok(()) | Err(JoinError::Cancelled)));
    });
}

/// Aborting while the future is polled: it is dropped, once, by the home thread.
#[test]
fn abort_against_poll() {
    explore_bounded(4, || {
        let ctx = context();
        let drops = number();
        let task = {
            let owned = Owned(Arc::clone(&drops));
            ctx.spawn(poll_fn(move |_| {
                let _used = &owned;
                Poll::<()>::Pending
            }))
        };
        let task = Arc::new(task);
        let aborter = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.abort())
        };
        while !task.is_finished() {
            ctx.poll(true);
        }
        assert_eq!(drops.load(RELAXED), 1);
        aborter.join().unwrap();
        let task = Arc::into_inner(task).unwrap();
        assert!(matches!(ctx.block_on(task), Err(JoinError::Cancelled)));
    });
}

/// The task runs in one context, and is joined from another one.
#[test]
pub(crate) fn join_against_completion() {
    explore(|| {
        let ctx = context();
        let task = ctx.spawn(async { 7 });
        let other = thread::spawn(move || context().block_on(task).unwrap());
        ctx.poll(false);
        assert_eq!(other.join().unwrap(), 7);
    });
}

/// The result is dropped once, by the task or by the handle.
#[test]
fn completion_against_drop_of_the_handle() {
    explore(|| {
        let ctx = context();
        let drops = number();
        let owned = Owned(Arc::clone(&drops));
        let task = ctx.spawn(async { owned });
        let other = thread::spawn(move || drop(task));
        ctx.poll(false);
        other.join().unwrap();
        drop(ctx);
        assert_eq!(drops.load(RELAXED), 1);
    });
}
