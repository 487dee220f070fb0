//! The end of a context while other threads still use it.

use super::bh::Owned;
use super::{RELAXED, context, number};
use crate::model::explore;
use crate::primitive::{Arc, thread};

/// The function is called, or dropped uncalled; in any case it is gone when both sides have returned.
#[test]
fn shut_down_against_schedule() {
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
        ctx.poll(false);
        ctx.shut_down().unwrap();
        let calls = called.load(RELAXED);
        scheduler.join().unwrap();
        assert_eq!(drops.load(RELAXED), 1);
        assert!(!ctx.poll(true), "it does not sleep");
        assert_eq!(called.load(RELAXED), calls);
    });
}

/// A bottom half outlives its context: scheduling it is harmless.
#[test]
fn the_last_handle_goes_while_a_bottom_half_is_scheduled() {
    explore(|| {
        let ctx = context();
        let drops = number();
        let bh = {
            let owned = Owned::new(&drops);
            ctx.bh(move || owned.access())
        };
        let scheduler = thread::spawn(move || bh.schedule());
        drop(ctx);
        scheduler.join().unwrap();
        assert_eq!(drops.load(RELAXED), 1);
    });
}
