//! The loop among functions that panic, wakers that come back, contexts that are gone, and clocks without end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::{AioContext, FdCallbacks, PollParams};
use crate::panics::tests::panic_with_bomb;
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};

// Ordering: Relaxed for all counters in these tests; joins and the loop under test order them.
const RELAXED: Ordering = Ordering::Relaxed;
const LONG: Duration = Duration::from_secs(3600);

fn context() -> AioContext {
    AioContext::new().unwrap()
}

/// A waker that panics, with a payload that panics.
struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        panic_with_bomb();
    }
}

#[test]
fn a_panicking_waker_strands_no_task() {
    let ctx = context();
    let count = Arc::new(AtomicUsize::new(0));
    let bad = Waker::from(Arc::new(BadWaker));
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let count = Arc::clone(&count);
            let mut task = ctx.spawn(async move { count.fetch_add(1, RELAXED) });
            assert!(pin!(&mut task).poll(&mut Context::from_waker(&bad)).is_pending());
            // One whose future is cancelled joins from outside the future's own panic net.
            let mut aborted = ctx.spawn(std::future::pending::<()>());
            assert!(pin!(&mut aborted).poll(&mut Context::from_waker(&bad)).is_pending());
            aborted.abort();
            (task, aborted)
        })
        .collect();
    assert!(ctx.poll(true));
    assert_eq!(count.load(RELAXED), 3);
    assert!(tasks.iter().all(|(task, aborted)| task.is_finished() && aborted.is_finished()));
    assert!(!ctx.poll(false));
}

#[test]
fn a_panicking_waker_does_not_stop_a_shutdown() {
    let ctx = context();
    let bad = Waker::from(Arc::new(BadWaker));
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let mut task = ctx.spawn(std::future::pending::<()>());
            assert!(pin!(&mut task).poll(&mut Context::from_waker(&bad)).is_pending());
            task
        })
        .collect();
    ctx.shut_down().unwrap();
    assert!(tasks.iter().all(super::JoinHandle::is_finished));
}

#[test]
fn what_an_unwinding_poll_has_left_is_done_by_the_next_one() {
    for nested in [false, true] {
        let ctx = context();
        let inner = ctx.clone();
        ctx.schedule_oneshot(move || {
            if nested {
                inner.schedule_oneshot(|| std::panic::resume_unwind(Box::new(())));
                inner.poll(true);
            }
            std::panic::resume_unwind(Box::new(()));
        });
        let count = Arc::new(AtomicUsize::new(0));
        let (from_bh, from_task) = (Arc::clone(&count), Arc::clone(&count));
        ctx.schedule_oneshot(move || {
            from_bh.fetch_add(1, RELAXED);
        });
        drop(ctx.spawn(async move { from_task.fetch_add(1, RELAXED) }));
        assert!(catch_unwind(AssertUnwindSafe(|| ctx.poll(true))).is_err());
        while count.load(RELAXED) < 2 {
            assert!(ctx.poll(true));
        }
    }
}

#[test]
fn a_task_may_poll_and_run_the_others() {
    let ctx = context();
    let count = Arc::new(AtomicUsize::new(0));
    let (inner, seen) = (ctx.clone(), Arc::clone(&count));
    let first = ctx.spawn(async move {
        assert!(inner.poll(true));
        seen.load(RELAXED)
    });
    let counted = Arc::clone(&count);
    drop(ctx.spawn(async move { counted.fetch_add(1, RELAXED) }));
    assert_eq!(ctx.block_on(first).unwrap(), 1);
}

#[test]
fn a_timer_that_arms_itself_in_the_past_goes_off_once_a_round() {
    let ctx = context();
    let past = Instant::now();
    thread::sleep(Duration::from_millis(1));
    let count = Arc::new(AtomicUsize::new(0));
    let slot = Arc::new(std::sync::OnceLock::<super::Timer>::new());
    let (counted, itself) = (Arc::clone(&count), Arc::downgrade(&slot));
    let timer = ctx.timer(move || {
        counted.fetch_add(1, RELAXED);
        itself.upgrade().unwrap().get().unwrap().arm(past);
    });
    slot.get_or_init(|| timer).arm(past);
    let later = Arc::clone(&count);
    let other = ctx.timer(move || {
        later.fetch_add(100, RELAXED);
    });
    other.arm(Instant::now());
    for round in 1..=5 {
        assert!(ctx.poll(true));
        assert_eq!(count.load(RELAXED), 100 + round);
    }
}

#[test]
fn idle_bottom_halves_do_not_keep_the_processor_busy() {
    let ctx = context();
    ctx.set_poll_params(PollParams { max: Duration::from_millis(1), grow: 0, shrink: 1 });
    let slot = Arc::new(std::sync::OnceLock::<super::Bh>::new());
    let itself = Arc::downgrade(&slot);
    slot.get_or_init(|| ctx.bh(move || itself.upgrade().unwrap().get().unwrap().schedule_idle())).schedule_idle();
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_millis(100) {
        ctx.poll(true);
        rounds += 1;
    }
    // Ten milliseconds each.
    assert!(rounds <= 15, "{rounds} rounds");
}

#[test]
fn spinning_ends_at_the_deadline_of_a_timer() {
    let ctx = context();
    ctx.set_poll_params(PollParams { max: LONG, grow: 1000, shrink: 1 });
    let timer = ctx.timer(|| ());
    let delay = Duration::from_millis(5);
    let late = || {
        let deadline = Instant::now() + delay;
        timer.arm(deadline);
        while !ctx.poll(true) {}
        deadline.elapsed()
    };
    // The first rounds teach the loop to spin for seconds.
    while ctx.core().polling.time() < Duration::from_secs(2) {
        late();
    }
    let late = late();
    assert!(late < Duration::from_secs(1), "{late:?}");
}

#[test]
fn a_time_out_may_be_longer_than_the_kernel_can_express() {
    let ctx = context();
    let core = ctx.core();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(10));
            core.notifier.eventfd().signal();
        });
        assert!(core.monitor.wait(core.notifier.eventfd(), &core.handlers, Some(Duration::MAX)).notified);
    });
}

#[test]
fn a_shutdown_wakes_who_sleeps_elsewhere() {
    for duration in [LONG, Duration::MAX] {
        let ctx = context();
        let (bad, good) = (ctx.sleep(duration), ctx.sleep(duration));
        let mut bad = pin!(bad);
        let panics = Waker::from(Arc::new(BadWaker));
        assert!(bad.as_mut().poll(&mut Context::from_waker(&panics)).is_pending());
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| context().block_on(good));
            while ctx.core().timers.len() < 2 {
                thread::yield_now();
            }
            ctx.shut_down().unwrap();
            sleeper.join().unwrap();
        });
        assert!(bad.as_mut().poll(&mut Context::from_waker(&panics)).is_ready());
        context().block_on(ctx.sleep(duration));
    }
}

#[test]
fn a_closed_context_takes_no_timers_and_no_descriptors() {
    let ctx = context();
    ctx.shut_down().unwrap();
    let timer = ctx.timer(|| unreachable!("never called"));
    timer.arm_after(Duration::ZERO);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    let fd = Arc::new(reader.into());
    let handler = ctx.add_fd(Arc::clone(&fd), FdCallbacks::on_readable(|| unreachable!("never called")));
    for blocking in [false, true] {
        assert!(!ctx.poll(blocking));
    }
    assert_eq!(ctx.core().timers.len(), 0);
    drop(handler);
    assert_eq!(Arc::strong_count(&fd), 1);
}

/// A waker that arms a timer when it is dropped.
struct Curious(AioContext);

impl Wake for Curious {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.0.timer(|| ()).arm_after(LONG);
    }
}

#[test]
fn wakers_are_dropped_with_no_lock_held() {
    let ctx = context();
    let mut sleep = pin!(ctx.sleep(LONG));
    let mut task = pin!(ctx.spawn(std::future::pending::<()>()));
    for _ in 0..3 {
        let waker = Waker::from(Arc::new(Curious(ctx.clone())));
        assert!(matches!(sleep.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    ctx.shut_down().unwrap();
}
