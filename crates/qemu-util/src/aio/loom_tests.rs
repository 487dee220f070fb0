//! The loop under loom: the shipped `poll`, with a model of the eventfd.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{AioContext, PollParams};
use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::{Arc, Mutex, thread};

// Ordering: Relaxed for all data in these models; the loop under test orders it.
const RELAXED: Ordering = Ordering::Relaxed;

/// `LOOM_MAX_PREEMPTIONS` overrides the bound.
fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(check);
}

fn context() -> AioContext {
    let ctx = AioContext::new().unwrap();
    ctx.set_poll_params(PollParams { max: Duration::ZERO, grow: 0, shrink: 0 });
    ctx
}

#[test]
pub(crate) fn a_bottom_half_wakes_the_sleeping_loop() {
    model(3, || {
        let ctx = context();
        let called = Arc::new(AtomicU32::new(0));
        let call = Arc::clone(&called);
        let bh = ctx.bh(move || call.store(1, RELAXED));
        let waker = thread::spawn(move || bh.schedule());
        while called.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        waker.join().unwrap();
    });
}

#[test]
fn two_wakers_of_one_bottom_half() {
    // Three threads: bound 3 takes minutes.
    model(2, || {
        let ctx = context();
        let (data, seen) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let bh = {
            let (data, seen) = (Arc::clone(&data), Arc::clone(&seen));
            ctx.bh(move || seen.store(data.load(RELAXED), RELAXED))
        };
        let wakers = [(); 2].map(|()| {
            let (bh, data) = (bh.clone(), Arc::clone(&data));
            thread::spawn(move || {
                data.fetch_add(1, RELAXED);
                bh.schedule();
            })
        });
        while seen.load(RELAXED) < 2 {
            ctx.poll(true);
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

#[test]
fn a_task_is_woken_from_another_thread() {
    model(3, || {
        let ctx = context();
        let shared = Arc::new((AtomicU32::new(0), Mutex::new(None::<Waker>)));
        let waited = Arc::clone(&shared);
        let task = ctx.spawn(poll_fn(move |cx| {
            let mut slot = waited.1.lock();
            if waited.0.load(RELAXED) == 1 {
                return Poll::Ready(());
            }
            *slot = Some(cx.waker().clone());
            Poll::Pending
        }));
        let other = thread::spawn(move || {
            let mut slot = shared.1.lock();
            shared.0.store(1, RELAXED);
            let waker = slot.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        ctx.block_on(task).unwrap();
        other.join().unwrap();
    });
}

#[test]
fn two_wakers_of_one_block_on() {
    // Three threads: bound 3 takes minutes.
    model(2, || {
        let ctx = context();
        let shared = Arc::new((AtomicU32::new(0), Mutex::new(None::<Waker>)));
        let wakers = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.fetch_add(1, RELAXED);
                let waker = shared.1.lock().clone();
                if let Some(waker) = waker {
                    waker.wake();
                }
            })
        });
        ctx.block_on(poll_fn(|cx| {
            // The lock orders the number: a waker that finds no waker here has counted before.
            *shared.1.lock() = Some(cx.waker().clone());
            if shared.0.load(RELAXED) == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}
