//! Waking the loop: spinning, nesting, the accept, kicks.

use std::time::Duration;

use super::super::PollParams;
use super::super::notify::Notifier;
use super::{RELAXED, context, number};
use crate::model::{explore, explore_bounded};
use crate::primitive::{Arc, thread};

#[test]
pub(crate) fn adaptive_polling() {
    explore(|| {
        let ctx = context();
        ctx.set_poll_params(PollParams { max: Duration::from_micros(30), grow: 0, shrink: 0 });
        // As if the sleep before had been a short one: the loop spins from the first time on.
        ctx.core().polling.adjust(Duration::from_nanos(1));
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

/// One waker for the outer loop and one for the loop inside the bottom half.
#[test]
fn a_bottom_half_polls() {
    explore_bounded(3, || {
        let ctx = context();
        let (outer, inner) = (number(), number());
        let bh_inner = {
            let inner = Arc::clone(&inner);
            ctx.bh(move || inner.store(1, RELAXED))
        };
        let bh_outer = {
            let (outer, nested) = (Arc::clone(&outer), ctx.clone());
            ctx.bh(move || {
                while inner.load(RELAXED) == 0 {
                    nested.poll(true);
                }
                outer.store(1, RELAXED);
            })
        };
        let wakers = [bh_outer, bh_inner].map(|bh| thread::spawn(move || bh.schedule()));
        while outer.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// The same with one waker: for the inner loop first, or for the outer one, whose bottom half then waits inside.
#[test]
fn a_bottom_half_polls_and_one_thread_wakes_both() {
    explore_bounded(3, || {
        let ctx = context();
        let (outer, inner) = (number(), number());
        let bh_inner = {
            let inner = Arc::clone(&inner);
            ctx.bh(move || inner.store(1, RELAXED))
        };
        let bh_outer = {
            let (outer, nested) = (Arc::clone(&outer), ctx.clone());
            ctx.bh(move || {
                while inner.load(RELAXED) == 0 {
                    nested.poll(true);
                }
                outer.store(1, RELAXED);
            })
        };
        let waker = thread::spawn(move || [bh_outer, bh_inner].iter().for_each(|bh| bh.schedule()));
        while outer.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        waker.join().unwrap();
    });
}

/// The sleeper's side of the protocol alone, with two wakers: either of them may rely on the other one's signal.
#[test]
fn two_wakers_of_one_sleeper() {
    explore_bounded(3, || {
        let notifier = Arc::new(Notifier::new().unwrap());
        let work = [number(), number()];
        let wakers = work.each_ref().map(|work| {
            let (notifier, work) = (Arc::clone(&notifier), Arc::clone(work));
            thread::spawn(move || {
                work.store(1, RELAXED);
                notifier.notify();
            })
        });
        let mut is_done = false;
        while !is_done {
            let announced = notifier.announce();
            is_done = work.iter().all(|work| work.load(RELAXED) == 1);
            if !is_done {
                notifier.eventfd().wait();
            }
            drop(announced);
            notifier.accept(notifier.eventfd().is_readable());
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// What a function does that is dropped inside the sleep, and polls: two announcements at once.
#[test]
pub(crate) fn nested_announcements_count() {
    explore(|| {
        let notifier = Arc::new(Notifier::new().unwrap());
        let work = number();
        let waker = {
            let (notifier, work) = (Arc::clone(&notifier), Arc::clone(&work));
            thread::spawn(move || {
                work.store(1, RELAXED);
                notifier.notify();
            })
        };
        let outer = notifier.announce();
        if work.load(RELAXED) == 0 {
            drop(notifier.announce());
            notifier.eventfd().wait();
            assert_eq!(work.load(RELAXED), 1);
        }
        drop(outer);
        notifier.accept(notifier.eventfd().is_readable());
        waker.join().unwrap();
    });
}

/// Three notifications: one that ends a sleep, one that meets the accept, and one that has to end the next sleep.
#[test]
pub(crate) fn no_wake_up_is_lost_in_the_accept() {
    explore_bounded(5, || {
        let notifier = Arc::new(Notifier::new().unwrap());
        let work = number();
        let waker = {
            let (notifier, work) = (Arc::clone(&notifier), Arc::clone(&work));
            thread::spawn(move || {
                for n in 1..=3 {
                    work.store(n, RELAXED);
                    notifier.notify();
                }
            })
        };
        loop {
            let announced = notifier.announce();
            let is_done = work.load(RELAXED) == 3;
            if !is_done {
                notifier.eventfd().wait();
            }
            drop(announced);
            if is_done {
                break;
            }
            notifier.accept(true);
        }
        waker.join().unwrap();
    });
}

/// A waker came so late that it has signalled a loop that was awake again; a poll that does not block follows.
#[test]
pub(crate) fn a_poll_that_does_not_block_loses_nothing() {
    explore_bounded(4, || {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let bh = ctx.bh(move || call.store(1, RELAXED));
        let late = ctx.core().notifier.announce();
        ctx.core().notifier.notify();
        drop(late);
        let waker = thread::spawn(move || bh.schedule());
        ctx.poll(false);
        while called.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        waker.join().unwrap();
    });
}

#[test]
pub(crate) fn a_kick_carries_its_writes() {
    explore(|| {
        let ctx = context();
        let data = number();
        let kicker = {
            let (ctx, data) = (ctx.clone(), Arc::clone(&data));
            thread::spawn(move || {
                data.store(1, RELAXED);
                ctx.notify();
            })
        };
        ctx.poll(true);
        assert_eq!(data.load(RELAXED), 1);
        kicker.join().unwrap();
    });
}

/// One round may take both kicks; it then shows what both have written.
#[test]
pub(crate) fn two_kicks_carry_their_writes() {
    explore_bounded(3, || {
        let ctx = context();
        let data = [number(), number()];
        let kickers = data.each_ref().map(|data| {
            let (ctx, data) = (ctx.clone(), Arc::clone(data));
            thread::spawn(move || {
                data.store(1, RELAXED);
                ctx.notify();
            })
        });
        while data.iter().any(|data| data.load(RELAXED) == 0) {
            ctx.poll(true);
        }
        kickers.into_iter().for_each(|kicker| kicker.join().unwrap());
    });
}
