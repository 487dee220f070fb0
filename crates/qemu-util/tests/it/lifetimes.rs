//! Contexts come and go while others notify them.

use std::sync::mpsc;
use std::task::Waker;
use std::thread;

use qemu_util::aio::{AioContext, Bh};
use qemu_util::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use qemu_util::primitive::{Arc, Mutex};

/// How many contexts come and go.
const N_CONTEXTS: usize = 500;

/// How many functions may wait to be called or dropped: who only schedules is faster than who also serves.
const BACKLOG_MAX: usize = 100;

/// What other threads know of the context that is there now. All of it stays harmless when the context is gone.
#[derive(Clone)]
struct Known {
    ctx: Option<AioContext>,
    bh: Bh,
    waker: Waker,
}

/// Every function that was handed out is called or dropped, and is counted either way.
struct Counted {
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        // Ordering: Relaxed, here and below; whoever compares has joined all threads.
        alive.fetch_add(1, Ordering::Relaxed);
        Self { alive: Arc::clone(alive) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A waker that belongs to a task of the context.
fn waker_of_a_task(ctx: &AioContext) -> Waker {
    let (sender, receiver) = mpsc::channel();
    drop(ctx.spawn(std::future::poll_fn(move |cx| {
        sender.send(cx.waker().clone()).ok();
        std::task::Poll::<()>::Pending
    })));
    ctx.poll(true);
    receiver.recv().unwrap()
}

/// Does all that another thread may do, without waiting for it.
fn disturb(known: &Known, alive: &Arc<AtomicUsize>) {
    known.bh.schedule();
    known.waker.wake_by_ref();
    known.bh.schedule_idle();
    if let Some(ctx) = &known.ctx {
        ctx.notify();
    }
    if let Some(ctx) = known.ctx.as_ref().filter(|_| alive.load(Ordering::Relaxed) < BACKLOG_MAX) {
        let counted = Counted::new(alive);
        ctx.schedule_oneshot(move || drop(counted));
        let counted = Counted::new(alive);
        drop(ctx.spawn(async move { drop(counted) }));
    }
    known.bh.cancel();
}

#[test]
fn contexts_come_and_go_while_other_threads_notify_them() {
    let known: Mutex<Option<Known>> = Mutex::new(None);
    let over = AtomicBool::new(false);
    let alive = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // Ordering: Relaxed; it only ends the loop.
                while !over.load(Ordering::Relaxed) {
                    let now = known.lock().clone();
                    now.iter().for_each(|known| disturb(known, &alive));
                    // So that the owner comes to the lock.
                    thread::yield_now();
                }
            });
        }
        for n in 0..N_CONTEXTS {
            let ctx = AioContext::new().unwrap();
            let counted = Counted::new(&alive);
            let bh = ctx.bh(move || {
                let _owned = &counted;
            });
            // Every other time the other threads may be the last to hold the context, and end it.
            let handle = n.is_multiple_of(2).then(|| ctx.clone());
            *known.lock() = Some(Known { ctx: handle, bh, waker: waker_of_a_task(&ctx) });
            // The others are there: without them this would sleep for ever.
            for _ in 0..n % 8 {
                ctx.poll(true);
            }
            if n.is_multiple_of(3) {
                ctx.shut_down().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    drop(known.lock().take());
    assert_eq!(alive.load(Ordering::Relaxed), 0, "each function was called or dropped");
}
