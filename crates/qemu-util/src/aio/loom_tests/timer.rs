//! Timers: armed by another thread while the loop sleeps.

use std::time::Instant;

use super::{RELAXED, context, number};
use crate::model::{explore, explore_bounded};
use crate::primitive::{Arc, thread};

#[test]
pub(crate) fn a_timer_armed_elsewhere() {
    explore_bounded(4, || {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let timer = ctx.timer(move || call.store(1, RELAXED));
        let armer = thread::spawn(move || {
            // A point that is past by the time it is looked at.
            timer.arm(Instant::now());
            timer
        });
        while called.load(RELAXED) == 0 {
            ctx.poll(true);
        }
        drop(armer.join().unwrap());
    });
}

/// Either the timer goes off or it is taken back; afterwards the loop holds nothing of it.
#[test]
fn run_against_disarm() {
    explore(|| {
        let ctx = context();
        let called = number();
        let call = Arc::clone(&called);
        let timer = ctx.timer(move || {
            call.fetch_add(1, RELAXED);
        });
        timer.arm(Instant::now());
        let disarmer = thread::spawn(move || drop(timer));
        ctx.poll(false);
        disarmer.join().unwrap();
        let calls = called.load(RELAXED);
        assert!(calls <= 1);
        ctx.poll(false);
        assert_eq!(called.load(RELAXED), calls);
        assert!(ctx.core().timers.timeout().is_none());
    });
}
