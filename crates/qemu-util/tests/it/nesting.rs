//! A loop may be entered from inside itself.

use std::sync::mpsc;
use std::thread;

use qemu_util::aio::AioContext;
use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicUsize, Ordering};

/// Adds a bottom half that polls until the one after it, which is scheduled by another thread, has run: `depth` deep.
fn nest(depth: usize, ask: mpsc::Sender<usize>, reached: Arc<AtomicUsize>) {
    let ctx = AioContext::current().unwrap();
    // Ordering: Relaxed, here and below; it is used in the home thread alone.
    reached.fetch_add(1, Ordering::Relaxed);
    if depth == 0 {
        return;
    }
    let before = reached.load(Ordering::Relaxed);
    ask.send(depth - 1).unwrap();
    while reached.load(Ordering::Relaxed) == before {
        ctx.poll(true);
    }
}

#[test]
fn a_bottom_half_that_polls_is_woken_at_every_depth() {
    const DEPTH: usize = 20;
    const ROUNDS: usize = 50;
    let ctx = AioContext::new().unwrap();
    for _ in 0..ROUNDS {
        let reached = Arc::new(AtomicUsize::new(0));
        let (ask, asked) = mpsc::channel();
        let (there, counted) = (ctx.clone(), Arc::clone(&reached));
        let first = ask.clone();
        let helper = thread::spawn(move || {
            for depth in asked {
                let (ask, reached) = (ask.clone(), Arc::clone(&counted));
                there.schedule_oneshot(move || nest(depth, ask, reached));
                if depth == 0 {
                    break;
                }
            }
        });
        first.send(DEPTH).unwrap();
        while reached.load(Ordering::Relaxed) <= DEPTH {
            ctx.poll(true);
        }
        helper.join().unwrap();
        assert_eq!(reached.load(Ordering::Relaxed), DEPTH + 1);
    }
}

#[test]
fn a_nested_poll_that_does_not_block_takes_no_wake_up_from_the_outer_one() {
    const N: usize = 20_000;
    let ctx = AioContext::new().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // It runs once for each time that the other thread, which waits for that, schedules it.
    let (done, next) = mpsc::sync_channel(1);
    let bh = ctx.bh(move || {
        let here = AioContext::current().unwrap();
        while here.poll(false) {}
        // Ordering: Relaxed; it is used in the home thread alone.
        counted.fetch_add(1, Ordering::Relaxed);
        done.send(()).unwrap();
        while here.poll(false) {}
    });
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..N {
                bh.schedule();
                next.recv().unwrap();
            }
        });
        while calls.load(Ordering::Relaxed) < N {
            ctx.poll(true);
        }
    });
}
