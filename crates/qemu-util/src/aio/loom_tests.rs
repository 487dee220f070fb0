//! The loop under loom: the shipped `poll`, with a model of the eventfd.

pub(crate) mod bh;
pub(crate) mod fd;
mod shut_down;
pub(crate) mod timer;
pub(crate) mod wake;

use std::time::Duration;

use super::{AioContext, PollParams};
use crate::model::{explore, explore_bounded};
use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::{Arc, thread};

// Ordering: Relaxed for all data in these models; the loop under test orders it.
pub(crate) const RELAXED: Ordering = Ordering::Relaxed;

/// A context that does not spin before it sleeps.
pub(crate) fn context() -> AioContext {
    let ctx = AioContext::new().unwrap();
    ctx.set_poll_params(PollParams { max: Duration::ZERO, grow: 0, shrink: 0 });
    ctx
}

pub(crate) fn number() -> Arc<AtomicU32> {
    Arc::new(AtomicU32::new(0))
}

#[test]
pub(crate) fn a_bottom_half_wakes_the_sleeping_loop() {
    explore(|| {
        let ctx = context();
        let called = number();
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
    explore_bounded(3, || {
        let ctx = context();
        let (data, seen) = (number(), number());
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
