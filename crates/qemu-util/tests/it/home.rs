//! A loop belongs to one thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use qemu_util::aio::{AioContext, NotHomeThread};
use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicUsize, Ordering};

/// What `poll` says outside the home thread, or how it panics.
fn poll_elsewhere(ctx: &AioContext, blocking: bool) -> Result<bool, String> {
    thread::scope(|scope| {
        let there = scope.spawn(|| catch_unwind(AssertUnwindSafe(|| ctx.poll(blocking))));
        there.join().unwrap().map_err(|payload| (*payload.downcast_ref::<&str>().unwrap()).to_owned())
    })
}

#[test]
fn polling_outside_the_home_thread_panics_in_debug_builds_and_is_refused_in_release_builds() {
    let ctx = AioContext::new().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // Ordering: Relaxed, here and below; all of it happens in this thread, or is joined.
    ctx.schedule_oneshot(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    for blocking in [false, true] {
        let polled = poll_elsewhere(&ctx, blocking);
        if cfg!(debug_assertions) {
            assert_eq!(polled.unwrap_err(), "AioContext::poll outside the home thread of the context");
        } else {
            assert!(!polled.unwrap(), "nothing was done");
        }
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(ctx.try_poll(blocking), Err(NotHomeThread)));
        });
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0, "nothing runs outside the home thread");
    assert!(ctx.poll(true), "the home thread finds everything as it was");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[test]
fn a_refused_poll_does_no_harm_to_the_loop_that_sleeps_in_its_home_thread() {
    const N: usize = 1000;
    let ctx = AioContext::new().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..N {
                assert_eq!(ctx.try_poll(true), Err(NotHomeThread));
                let counted = Arc::clone(&calls);
                // Ordering: Relaxed; both are only looked at in the home thread, after the call.
                ctx.schedule_oneshot(move || {
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        while calls.load(Ordering::Relaxed) < N {
            ctx.poll(true);
        }
    });
}
