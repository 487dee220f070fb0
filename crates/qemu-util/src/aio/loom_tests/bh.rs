//! Bottom halves: scheduling against running, cancelling and deleting.

use super::{RELAXED, context, number};
use crate::model::{explore, explore_bounded};
use crate::primitive::atomic::AtomicU32;
use crate::primitive::{Arc, thread};

/// Counts how often it is dropped; an access after that is an error.
pub(super) struct Owned {
    drops: Arc<AtomicU32>,
}

impl Owned {
    pub(super) fn new(drops: &Arc<AtomicU32>) -> Self {
        Self { drops: Arc::clone(drops) }
    }

    pub(super) fn access(&self) {
        assert_eq!(self.drops.load(RELAXED), 0, "it was dropped");
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        assert_eq!(self.drops.fetch_add(1, RELAXED), 0, "it is dropped once");
    }
}

/// One thread schedules twice: the second time finds the node on the list, or off it and pushes it again.
#[test]
pub(crate) fn schedule_against_run() {
    explore_bounded(3, || {
        let ctx = context();
        let (data, seen) = (number(), number());
        let bh = {
            let (data, seen) = (Arc::clone(&data), Arc::clone(&seen));
            ctx.bh(move || seen.store(data.load(RELAXED), RELAXED))
        };
        let scheduler = thread::spawn(move || {
            for n in 1..=2 {
                data.store(n, RELAXED);
                bh.schedule();
            }
        });
        while seen.load(RELAXED) < 2 {
            ctx.poll(true);
        }
        scheduler.join().unwrap();
    });
}

/// The window in which one scheduler has marked the node and not pushed it: the other one's call is late, not lost. As
/// soon as both have returned, a single round that does not even block makes the call, which sees what both wrote.
#[test]
fn the_call_is_there_when_both_schedulers_have_returned() {
    explore_bounded(3, || {
        let ctx = context();
        let (data, seen) = (number(), number());
        let bh = {
            let (data, seen) = (Arc::clone(&data), Arc::clone(&seen));
            ctx.bh(move || seen.store(data.load(RELAXED), RELAXED))
        };
        let schedulers = [(); 2].map(|()| {
            let (bh, data) = (bh.clone(), Arc::clone(&data));
            thread::spawn(move || {
                data.fetch_add(1, RELAXED);
                bh.schedule();
            })
        });
        ctx.poll(false);
        schedulers.into_iter().for_each(|scheduler| scheduler.join().unwrap());
        ctx.poll(false);
        assert_eq!(seen.load(RELAXED), 2);
    });
}

/// The loop may sleep with a cancelled node on its list, which is then scheduled again.
#[test]
pub(crate) fn scheduling_after_cancelling_runs() {
    explore_bounded(3, || {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let bh = ctx.bh(move || call.store(1, RELAXED));
        let (written, write) = (number(), number());
        let done = Arc::clone(&written);
        let scheduler = thread::spawn(move || {
            bh.schedule();
            bh.cancel();
            write.store(1, RELAXED);
            bh.schedule();
            done.store(1, RELAXED);
        });
        while called.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        scheduler.join().unwrap();
        assert_eq!(written.load(RELAXED), 1);
    });
}

/// A call that is cancelled may happen, or not; what is certain is that no other one is lost or made up.
#[test]
fn schedule_against_cancel() {
    explore(|| {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let bh = ctx.bh(move || {
            call.fetch_add(1, RELAXED);
        });
        let canceller = {
            let bh = bh.clone();
            thread::spawn(move || bh.cancel())
        };
        bh.schedule();
        ctx.poll(false);
        canceller.join().unwrap();
        let calls = called.load(RELAXED);
        assert!(calls <= 1);
        // Cancelled or called, it is off the list: the next call is certain.
        bh.schedule();
        assert!(ctx.poll(true));
        assert_eq!(called.load(RELAXED), calls + 1);
        assert!(!ctx.poll(false));
    });
}

/// After the home thread has deleted it, the function is gone and never called, whoever schedules.
#[test]
pub(crate) fn schedule_against_delete() {
    explore_bounded(4, || {
        let ctx = context();
        let (called, drops) = (number(), number());
        let bh = {
            let (called, owned) = (Arc::clone(&called), Owned::new(&drops));
            ctx.bh(move || {
                owned.access();
                called.fetch_add(1, RELAXED);
            })
        };
        let scheduler = {
            let bh = bh.clone();
            thread::spawn(move || {
                bh.schedule();
                bh.schedule();
            })
        };
        ctx.poll(false);
        bh.delete();
        let calls = called.load(RELAXED);
        assert_eq!(drops.load(RELAXED), 1, "nobody is inside it");
        ctx.poll(false);
        scheduler.join().unwrap();
        ctx.poll(false);
        assert_eq!(called.load(RELAXED), calls);
    });
}

/// Deleted by another thread: the function may just be running, and is dropped once all the same, after it has returned.
#[test]
fn run_against_delete_by_another_thread() {
    explore(|| {
        let ctx = context();
        let (called, drops) = (number(), number());
        let bh = {
            let (called, owned) = (Arc::clone(&called), Owned::new(&drops));
            ctx.bh(move || {
                called.fetch_add(1, RELAXED);
                owned.access();
            })
        };
        bh.schedule();
        let deleter = {
            let bh = bh.clone();
            thread::spawn(move || bh.delete())
        };
        ctx.poll(false);
        deleter.join().unwrap();
        let calls = called.load(RELAXED);
        assert!(calls <= 1);
        assert_eq!(drops.load(RELAXED), 1);
        bh.schedule();
        ctx.poll(false);
        assert_eq!(called.load(RELAXED), calls);
    });
}

#[test]
fn a_function_that_is_called_once() {
    explore(|| {
        let ctx = context();
        let (called, drops) = (number(), number());
        let scheduler = {
            let (ctx, call, owned) = (ctx.clone(), Arc::clone(&called), Owned::new(&drops));
            thread::spawn(move || {
                ctx.schedule_oneshot(move || {
                    owned.access();
                    call.fetch_add(1, RELAXED);
                });
            })
        };
        while called.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        assert_eq!(drops.load(RELAXED), 1);
        scheduler.join().unwrap();
        assert!(!ctx.poll(false));
        assert_eq!(called.load(RELAXED), 1);
    });
}

/// Idle is no progress; what is wanted at once meanwhile is, whether the idle call has been made or not.
#[test]
fn an_idle_one_becomes_urgent() {
    explore_bounded(3, || {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let bh = ctx.bh(move || {
            call.fetch_add(1, RELAXED);
        });
        let scheduler = thread::spawn(move || {
            bh.schedule_idle();
            bh.schedule();
        });
        while !ctx.poll(true) {}
        scheduler.join().unwrap();
        assert!((1..=2).contains(&called.load(RELAXED)));
        assert!(!ctx.poll(false));
    });
}
