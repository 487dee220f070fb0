//! Tasks under loom: waking, in all its variants. How tasks end is in `end`.

pub(crate) mod end;

use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::aio::AioContext;
use crate::aio::loom_tests::{RELAXED, context, number};
use crate::model::{explore, explore_bounded};
use crate::primitive::atomic::AtomicU32;
use crate::primitive::{Arc, Mutex, thread};
use crate::task::JoinHandle;

/// A task that ends when the number has reached `end`, and its waker, known before any other thread exists: so that no
/// lock between the waker and the future orders what the task itself has to order.
fn waiting_task(ctx: &AioContext, data: &Arc<AtomicU32>, end: u32) -> (JoinHandle<()>, Waker) {
    let known = Arc::new(Mutex::new(None));
    let (data, tell) = (Arc::clone(data), Arc::clone(&known));
    let mut is_first = true;
    let task = ctx.spawn(poll_fn(move |cx| {
        if std::mem::take(&mut is_first) {
            *tell.lock() = Some(cx.waker().clone());
        }
        if data.load(RELAXED) == end { Poll::Ready(()) } else { Poll::Pending }
    }));
    ctx.poll(false);
    let waker = known.lock().take().unwrap();
    (task, waker)
}

/// One thread wakes twice: the second time the task is idle, on the list, or running.
#[test]
pub(crate) fn wake_against_poll() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let (task, waker) = waiting_task(&ctx, &data, 2);
        let other = thread::spawn(move || {
            for n in 1..=2 {
                data.store(n, RELAXED);
                waker.wake_by_ref();
            }
        });
        while !task.is_finished() {
            ctx.poll(true);
        }
        other.join().unwrap();
    });
}

/// The window in which one waker has marked the task and not pushed it: the other one's wake-up is late, not lost.
#[test]
fn two_wakers_of_one_task() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let (task, waker) = waiting_task(&ctx, &data, 2);
        let wakers = [(); 2].map(|()| {
            let (data, waker) = (Arc::clone(&data), waker.clone());
            thread::spawn(move || {
                data.fetch_add(1, RELAXED);
                waker.wake();
            })
        });
        while !task.is_finished() {
            ctx.poll(true);
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// As soon as both wakers have returned, a single round that does not block runs the task, which sees what both wrote.
#[test]
fn the_task_is_run_when_both_wakers_have_returned() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let (task, waker) = waiting_task(&ctx, &data, 2);
        let wakers = [(); 2].map(|()| {
            let (data, waker) = (Arc::clone(&data), waker.clone());
            thread::spawn(move || {
                data.fetch_add(1, RELAXED);
                waker.wake();
            })
        });
        ctx.poll(false);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        ctx.poll(false);
        assert!(task.is_finished());
    });
}

/// The waker is handed over under a lock, as most futures do.
#[test]
fn a_task_is_woken_from_another_thread() {
    explore(|| {
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

/// One thread wakes twice, while the caller polls, runs the loop or sleeps in it.
#[test]
pub(crate) fn block_on_is_woken() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let mut other = None;
        ctx.block_on(poll_fn(|cx| {
            if other.is_none() {
                let (data, waker) = (Arc::clone(&data), cx.waker().clone());
                other = Some(thread::spawn(move || {
                    for n in 1..=2 {
                        data.store(n, RELAXED);
                        waker.wake_by_ref();
                    }
                }));
            }
            if data.load(RELAXED) == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        other.unwrap().join().unwrap();
    });
}

#[test]
pub(crate) fn two_wakers_of_one_block_on() {
    explore_bounded(3, || {
        let ctx = context();
        let data = number();
        let mut wakers = None;
        ctx.block_on(poll_fn(|cx| {
            wakers.get_or_insert_with(|| {
                [(); 2].map(|()| {
                    let (data, waker) = (Arc::clone(&data), cx.waker().clone());
                    thread::spawn(move || {
                        data.fetch_add(1, RELAXED);
                        waker.wake();
                    })
                })
            });
            if data.load(RELAXED) == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        wakers.unwrap().into_iter().for_each(|waker| waker.join().unwrap());
    });
}
