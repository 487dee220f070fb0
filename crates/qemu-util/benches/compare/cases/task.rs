//! Tasks, bottom halves and timers in one thread, beside tokio's current-thread runtime.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use qemu_util::aio::AioContext;
use qemu_util::task::yield_now;
use tokio::runtime::{Builder, Runtime};

use super::{Group, Stopwatch, repeat};

/// How many tasks live at the same time where there are many.
const BATCH: u64 = 64;

pub(super) fn context() -> AioContext {
    AioContext::new().expect("there is an eventfd")
}

pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("there is a runtime")
}

fn spawn_ours(n: u64) -> Duration {
    let ctx = context();
    ctx.block_on(async {
        let start = Stopwatch::start();
        for i in 0..n {
            assert_eq!(ctx.spawn(async move { i }).await.expect("it ends"), i);
        }
        start.elapsed()
    })
}

fn spawn_tokio(n: u64) -> Duration {
    runtime().block_on(async {
        let start = Stopwatch::start();
        for i in 0..n {
            assert_eq!(tokio::spawn(async move { i }).await.expect("it ends"), i);
        }
        start.elapsed()
    })
}

fn spawn_batch_ours(n: u64) -> Duration {
    let ctx = context();
    ctx.block_on(async {
        let mut tasks = Vec::new();
        let start = Stopwatch::start();
        for _ in 0..n.div_ceil(BATCH) {
            tasks.extend((0..BATCH).map(|i| ctx.spawn(async move { i })));
            for task in tasks.drain(..) {
                std::hint::black_box(task.await.expect("it ends"));
            }
        }
        start.elapsed().mul_f64(n as f64 / (n.div_ceil(BATCH) * BATCH) as f64)
    })
}

fn spawn_batch_tokio(n: u64) -> Duration {
    runtime().block_on(async {
        let mut tasks = Vec::new();
        let start = Stopwatch::start();
        for _ in 0..n.div_ceil(BATCH) {
            tasks.extend((0..BATCH).map(|i| tokio::spawn(async move { i })));
            for task in tasks.drain(..) {
                std::hint::black_box(task.await.expect("it ends"));
            }
        }
        start.elapsed().mul_f64(n as f64 / (n.div_ceil(BATCH) * BATCH) as f64)
    })
}

fn yield_ours(n: u64) -> Duration {
    let ctx = context();
    let task = ctx.spawn(async move {
        let start = Stopwatch::start();
        for _ in 0..n {
            yield_now().await;
        }
        start.elapsed()
    });
    ctx.block_on(task).expect("it ends")
}

fn yield_tokio(n: u64) -> Duration {
    let runtime = runtime();
    let task = runtime.spawn(async move {
        let start = Stopwatch::start();
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        start.elapsed()
    });
    runtime.block_on(task).expect("it ends")
}

fn bottom_half(n: u64) -> Duration {
    let ctx = context();
    let bh = ctx.bh(|| ());
    repeat(n, || {
        bh.schedule();
        assert!(ctx.poll(false));
    })
}

/// A function that is called once, many at a time.
fn oneshot_ours(n: u64) -> Duration {
    let ctx = context();
    let elapsed = repeat(n.div_ceil(BATCH), || {
        for i in 0..BATCH {
            ctx.schedule_oneshot(move || {
                std::hint::black_box(i);
            });
        }
        assert!(ctx.poll(false));
    });
    elapsed.mul_f64(n as f64 / (n.div_ceil(BATCH) * BATCH) as f64)
}

/// The nearest thing to a function that the loop calls: a task that nobody joins.
fn oneshot_tokio(n: u64) -> Duration {
    let elapsed = runtime().block_on(async {
        let start = Stopwatch::start();
        for _ in 0..n.div_ceil(BATCH) {
            for i in 0..BATCH {
                drop(tokio::spawn(async move {
                    std::hint::black_box(i);
                }));
            }
            tokio::task::yield_now().await;
        }
        start.elapsed()
    });
    elapsed.mul_f64(n as f64 / (n.div_ceil(BATCH) * BATCH) as f64)
}

/// Polls a timer once, so that it is armed, and drops it.
fn arm_and_cancel(sleep: impl Future<Output = ()>) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::pin!(sleep).poll(&mut context).is_pending());
}

const FAR: Duration = Duration::from_secs(3600);

fn timer_ours(n: u64) -> Duration {
    let ctx = context();
    ctx.block_on(async { repeat(n, || arm_and_cancel(ctx.sleep(FAR))) })
}

fn timer_tokio(n: u64) -> Duration {
    runtime().block_on(async { repeat(n, || arm_and_cancel(tokio::time::sleep(FAR))) })
}

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group::new("task/spawn", "spawn a task and join it")
            .ours("AioContext::spawn", spawn_ours)
            .rival("tokio::spawn", spawn_tokio),
        Group::new("task/spawn-batch", "spawn a task and join it, 64 at a time")
            .ours("AioContext::spawn", spawn_batch_ours)
            .rival("tokio::spawn", spawn_batch_tokio),
        Group::new("task/yield", "one round of the loop for a task that yields")
            .ours("task::yield_now", yield_ours)
            .rival("tokio::task::yield_now", yield_tokio),
        Group::new("bh/schedule", "schedule a bottom half, one round of the loop").ours("Bh::schedule", bottom_half),
        Group::new("bh/oneshot", "have a function called, 64 at a time")
            .ours("schedule_oneshot", oneshot_ours)
            .rival("tokio::spawn, not joined", oneshot_tokio),
        Group::new("timer/arm", "arm a timer and take it back")
            .ours("AioContext::sleep", timer_ours)
            .rival("tokio::time::sleep", timer_tokio),
    ]
}
