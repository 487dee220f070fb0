//! The loop on real threads.

use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::{AioContext, PollParams};
use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};
use crate::task::{JoinError, yield_now};

// Ordering: Relaxed for all counters in these tests; joins and the loop under test order them.
const RELAXED: Ordering = Ordering::Relaxed;

fn context() -> AioContext {
    AioContext::new().unwrap()
}

fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + Clone + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    (count, move || {
        counted.fetch_add(1, RELAXED);
    })
}

#[test]
fn a_bottom_half_runs_once_however_often_it_is_scheduled() {
    let ctx = context();
    let (count, count_up) = counter();
    let bh = ctx.bh(count_up);
    assert!(!ctx.poll(false));
    bh.schedule();
    bh.schedule();
    assert!(ctx.poll(true));
    assert!(!ctx.poll(false));
    assert_eq!(count.load(RELAXED), 1);
    bh.schedule();
    bh.cancel();
    assert!(!ctx.poll(false));
    bh.schedule();
    assert!(ctx.poll(false));
    bh.schedule();
    bh.delete();
    bh.schedule();
    assert!(!ctx.poll(false));
    assert_eq!(count.load(RELAXED), 2);
}

#[test]
fn deleting_drops_the_function_even_from_inside() {
    let ctx = context();
    let owned = Arc::new(());
    let own = Arc::clone(&owned);
    let slot = Arc::new(Mutex::new(None::<super::Bh>));
    let inner = Arc::clone(&slot);
    let bh = ctx.bh(move || {
        inner.lock().as_ref().unwrap().delete();
        assert_eq!(Arc::strong_count(&own), 2);
    });
    *slot.lock() = Some(bh.clone());
    bh.schedule();
    assert!(ctx.poll(false));
    assert_eq!(Arc::strong_count(&owned), 1);
}

#[test]
fn idle_bottom_halves_are_no_progress_and_do_not_wait_for_ever() {
    let ctx = context();
    let (count, count_up) = counter();
    let bh = ctx.bh(count_up);
    bh.schedule_idle();
    let start = Instant::now();
    assert!(!ctx.poll(true));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(count.load(RELAXED), 1);
    bh.schedule_idle();
    bh.schedule();
    assert!(ctx.poll(false));
    bh.schedule();
    bh.schedule_idle();
    assert!(ctx.poll(true));
    assert_eq!(count.load(RELAXED), 3);
}

#[test]
fn oneshots_run_in_order() {
    let ctx = context();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..10 {
        let seen = Arc::clone(&seen);
        ctx.schedule_oneshot(move || seen.lock().push(n));
    }
    assert!(ctx.poll(true));
    assert_eq!(*seen.lock(), (0..10).collect::<Vec<_>>());
}

#[test]
fn notify_ends_a_blocking_poll() {
    let ctx = context();
    ctx.notify();
    assert!(!ctx.poll(true));
    thread::scope(|scope| {
        for _ in 0..1000 {
            scope.spawn(|| ctx.notify()).join().unwrap();
            assert!(!ctx.poll(true));
        }
    });
}

#[test]
fn the_loop_sleeps_until_it_is_told() {
    for max in [Duration::ZERO, Duration::from_micros(32)] {
        let ctx = context();
        ctx.set_poll_params(PollParams { max, ..PollParams::for_this_machine() });
        let (count, count_up) = counter();
        let bh = ctx.bh(count_up);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=5_000 {
                    bh.schedule();
                    while count.load(RELAXED) < n {
                        thread::yield_now();
                    }
                }
            });
            while count.load(RELAXED) < 5_000 {
                ctx.poll(true);
            }
        });
    }
}

#[test]
fn bottom_halves_from_many_threads_with_cancel_and_delete() {
    let ctx = context();
    let (count, count_up) = counter();
    let bhs: Vec<_> = (0..4).map(|_| ctx.bh(count_up.clone())).collect();
    let finished = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..20_000_usize {
                    let bh = &bhs[round % bhs.len()];
                    match round % 7 {
                        0 => bh.cancel(),
                        1 => bh.schedule_idle(),
                        _ => bh.schedule(),
                    }
                    if round == 15_000 {
                        bhs[0].delete();
                    }
                }
                finished.fetch_add(1, RELAXED);
                ctx.notify();
            });
        }
        while finished.load(RELAXED) < 3 {
            ctx.poll(true);
        }
    });
    let before = count.load(RELAXED);
    bhs.iter().for_each(super::Bh::schedule);
    while ctx.poll(false) {}
    assert_eq!(count.load(RELAXED), before + 3);
}

#[test]
fn nested_polling_runs_what_the_outer_round_has_taken() {
    let ctx = context();
    let (count, count_up) = counter();
    let inner = ctx.clone();
    let seen = Arc::clone(&count);
    ctx.schedule_oneshot(move || {
        while seen.load(RELAXED) == 0 {
            inner.poll(true);
        }
    });
    ctx.schedule_oneshot(count_up);
    assert!(ctx.poll(true));
    assert_eq!(count.load(RELAXED), 1);
}

#[test]
fn a_task_may_block_on_another_one() {
    let ctx = context();
    let inner = ctx.clone();
    let (sender, receiver) = mpsc::channel();
    let outer = ctx.spawn(async move {
        let other: crate::task::JoinHandle<u32> = receiver.recv().unwrap();
        inner.block_on(other).unwrap() + 1
    });
    sender
        .send(ctx.spawn(async {
            yield_now().await;
            1
        }))
        .unwrap();
    assert_eq!(ctx.block_on(outer).unwrap(), 2);
}

#[test]
fn a_future_that_yields_in_block_on_lets_the_tasks_run() {
    let ctx = context();
    let (count, count_up) = counter();
    drop(ctx.spawn(async move { count_up() }));
    ctx.block_on(async {
        while count.load(RELAXED) == 0 {
            yield_now().await;
        }
    });
}

#[test]
fn outside_the_home_thread_polling_is_refused() {
    let ctx = context();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!ctx.is_home_thread());
            assert_eq!(ctx.try_poll(false), Err(super::NotHomeThread));
            assert!(ctx.shut_down().is_err());
            let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ctx.poll(false)));
            if cfg!(debug_assertions) {
                assert!(polled.unwrap_err().downcast_ref::<&str>().unwrap().contains("home thread"));
            } else {
                assert!(!polled.unwrap());
            }
        });
    });
}

#[test]
fn the_home_can_move_while_nobody_is_inside() {
    let ctx = context();
    let inner = ctx.clone();
    ctx.schedule_oneshot(move || {
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(inner.bind_home(), Err(super::HomeIsBusy)));
        });
    });
    assert!(ctx.poll(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            ctx.bind_home().unwrap();
            assert_eq!(ctx.block_on(ctx.spawn(async { 5 })).unwrap(), 5);
        });
    });
    assert!(ctx.try_poll(false).is_err());
    ctx.bind_home().unwrap();
    assert!(!ctx.poll(false));
}

#[test]
fn the_current_context_is_known_inside_the_loop() {
    let (outer, inner) = (context(), context());
    assert!(AioContext::current().is_none());
    let (expect_outer, expect_inner) = (outer.clone(), inner.clone());
    outer.block_on(async {
        assert_eq!(AioContext::current(), Some(expect_outer.clone()));
        inner.block_on(async { assert_eq!(AioContext::current(), Some(expect_inner.clone())) });
        assert_eq!(AioContext::current(), Some(expect_outer.clone()));
    });
    assert!(AioContext::current().is_none());
}

#[test]
fn timers_go_off_in_the_order_of_their_deadlines() {
    let ctx = context();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let now = Instant::now();
    let timers: Vec<_> = [30, 10, 20, 10]
        .into_iter()
        .enumerate()
        .map(|(n, after)| {
            let seen = Arc::clone(&seen);
            let timer = ctx.timer(move || seen.lock().push(n));
            timer.arm(now + Duration::from_millis(after));
            timer
        })
        .collect();
    timers[2].disarm();
    while seen.lock().len() < 3 {
        ctx.poll(true);
    }
    assert_eq!(*seen.lock(), [1, 3, 0]);
    assert!(now.elapsed() >= Duration::from_millis(30));
    timers[2].arm_after(Duration::ZERO);
    timers[0].arm_after(Duration::from_secs(3600));
    timers[0].arm_after(Duration::MAX);
    assert!(ctx.poll(true));
    assert_eq!(seen.lock().len(), 4);
}

/// Three tasks that sleep for different times; none when this thread was kept from getting them to sleep in time, so that
/// the order in which they were made, or started, could be the one in which they end.
fn sleepers_in_order(ctx: &AioContext) -> Option<Vec<u64>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let sleepers: Vec<_> = [15_u64, 5, 10]
        .map(|ms| {
            let (seen, sleep) = (Arc::clone(&seen), ctx.sleep(Duration::from_millis(ms)));
            ctx.spawn(async move {
                sleep.await;
                seen.lock().push(ms);
            })
        })
        .into();
    ctx.poll(false);
    let in_time = start.elapsed() < Duration::from_millis(5);
    ctx.block_on(async {
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
    });
    assert!(start.elapsed() >= Duration::from_millis(15));
    let seen = seen.lock().clone();
    in_time.then_some(seen)
}

#[test]
fn sleeping_tasks_wake_in_order_and_may_be_dropped() {
    let ctx = context();
    drop(ctx.sleep(Duration::ZERO));
    let never = ctx.spawn(ctx.sleep(Duration::MAX));
    let order = std::iter::repeat_with(|| sleepers_in_order(&ctx)).find_map(|order| order);
    assert_eq!(order.unwrap(), [5, 10, 15]);
    never.abort();
    assert!(matches!(ctx.block_on(never), Err(JoinError::Cancelled)));
}

#[test]
fn a_timer_from_another_thread_shortens_the_sleep() {
    let ctx = context();
    let (count, count_up) = counter();
    let timer = ctx.timer(count_up);
    timer.arm_after(Duration::from_secs(600));
    thread::scope(|scope| {
        scope.spawn(|| timer.arm_after(Duration::from_millis(1)));
        while count.load(RELAXED) == 0 {
            ctx.poll(true);
        }
    });
}

#[test]
fn a_panicking_task_harms_nobody() {
    let ctx = context();
    let bad = ctx.spawn(async {
        yield_now().await;
        panic!("on purpose");
    });
    let good = ctx.spawn(async { 1 });
    ctx.block_on(async {
        let error: JoinError = match bad.await {
            Err(error) => error,
            Ok(()) => unreachable!("the task panics"),
        };
        assert_eq!(error.to_string(), "the task panicked: on purpose");
        assert_eq!(good.await.unwrap(), 1);
    });
}

/// Counts its drops.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, RELAXED);
    }
}

#[test]
fn a_shutdown_drops_what_is_pending() {
    for explicit in [false, true] {
        let ctx = context();
        let drops = Arc::new(AtomicUsize::new(0));
        let token = || Dropped(Arc::clone(&drops));
        let stray = Arc::new(Mutex::new(None::<Waker>));

        let (a, b, c, d, e) = (token(), token(), token(), token(), token());
        ctx.schedule_oneshot(move || drop(a));
        let bh = ctx.bh(move || assert_eq!(Arc::strong_count(&b.0), 0, "never called"));
        bh.schedule();
        let unpolled = ctx.spawn(async move { drop(c) });
        let timer = ctx.timer(move || assert_eq!(Arc::strong_count(&d.0), 0, "never called"));
        timer.arm_after(Duration::from_secs(600));
        let (second, slot) = (context(), Arc::clone(&stray));
        let waiting = second.spawn({
            let inner = second.clone();
            async move {
                let _owned = (e, inner);
                std::future::poll_fn(|cx| {
                    *slot.lock() = Some(cx.waker().clone());
                    Poll::<()>::Pending
                })
                .await;
            }
        });
        while stray.lock().is_none() {
            second.poll(true);
        }
        if explicit {
            ctx.shut_down().unwrap();
            assert!(!ctx.poll(true));
            assert!(matches!(ctx.block_on(ctx.spawn(async {})), Err(JoinError::Cancelled)));
            ctx.notify();
        }
        drop(ctx);
        second.shut_down().unwrap();
        assert!(unpolled.is_finished() && waiting.is_finished());
        drop(second);
        bh.schedule();
        timer.arm_after(Duration::ZERO);
        stray.lock().as_ref().unwrap().wake_by_ref();
        drop(stray);
        bh.delete();
        drop(timer);
        assert_eq!(drops.load(RELAXED), 5);
    }
}

#[test]
fn a_task_may_shut_its_context_down() {
    let ctx = context();
    let inner = ctx.clone();
    let handle = ctx.spawn(async move {
        inner.shut_down().unwrap();
        yield_now().await;
    });
    assert!(matches!(ctx.block_on(handle), Err(JoinError::Cancelled)));
}

#[test]
fn wakers_are_harmless_while_the_context_goes() {
    for _ in 0..200 {
        let ctx = context();
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let slot = Arc::clone(&waker);
        drop(ctx.spawn(std::future::poll_fn(move |cx| {
            *slot.lock() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        ctx.poll(true);
        let waker = waker.lock().take().unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(RELAXED) {
                    waker.wake_by_ref();
                }
            });
            ctx.poll(false);
            drop(ctx);
            stop.store(true, RELAXED);
        });
    }
}

/// A flag between two contexts that stores the waker of the side that waits.
#[derive(Default)]
struct Turn {
    number: AtomicU32,
    waiting: Mutex<Option<Waker>>,
}

impl Turn {
    fn advance(&self) {
        let mut waiting = self.waiting.lock();
        self.number.fetch_add(1, RELAXED);
        let waker = waiting.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn reaches(&self, wanted: u32) {
        std::future::poll_fn(|cx| {
            let mut waiting = self.waiting.lock();
            if self.number.load(RELAXED) >= wanted {
                return Poll::Ready(());
            }
            *waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn two_contexts_wake_each_other() {
    const ROUNDS: u32 = 10_000;
    for max in [Duration::ZERO, Duration::from_micros(32)] {
        let (ping, pong) = (Turn::default(), Turn::default());
        let params = PollParams { max, ..PollParams::for_this_machine() };
        thread::scope(|scope| {
            scope.spawn(|| {
                let ctx = context();
                ctx.set_poll_params(params);
                ctx.block_on(async {
                    for round in 1..=ROUNDS {
                        ping.reaches(round).await;
                        pong.advance();
                    }
                });
            });
            let ctx = context();
            ctx.set_poll_params(params);
            ctx.block_on(async {
                for round in 1..=ROUNDS {
                    ping.advance();
                    pong.reaches(round).await;
                }
            });
        });
    }
}

#[test]
fn many_tasks_woken_from_many_threads() {
    const TASKS: u32 = 1_000;
    const WAKES: u32 = 30;
    let ctx = context();
    let (sender, receiver) = mpsc::channel::<(Arc<Turn>, u32)>();
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let received = receiver.lock().recv();
                    let Ok((turn, _)) = received else { return };
                    turn.advance();
                }
            });
        }
        let tasks: Vec<_> = (0..TASKS)
            .map(|n| {
                let sender = sender.clone();
                ctx.spawn(async move {
                    let turn = Arc::new(Turn::default());
                    for round in 1..=WAKES {
                        sender.send((Arc::clone(&turn), n)).unwrap();
                        turn.reaches(round).await;
                    }
                })
            })
            .collect();
        drop(sender);
        ctx.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn a_hundred_thousand_tasks() {
    let ctx = context();
    let (count, count_up) = counter();
    let tasks: Vec<_> = (0..100_000)
        .map(|_| {
            let count_up = count_up.clone();
            ctx.spawn(async move {
                yield_now().await;
                count_up();
            })
        })
        .collect();
    ctx.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(count.load(RELAXED), 100_000);
}
