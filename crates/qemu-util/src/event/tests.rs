//! `QemuEvent` on real threads.

use std::thread;
use std::time::{Duration, Instant};

use super::QemuEvent;
use crate::primitive::atomic::{AtomicU32, AtomicU64, Ordering};

#[test]
fn states() {
    let event = QemuEvent::new(false);
    assert!(!event.is_set());
    event.reset();
    assert!(!event.wait_timeout(Duration::from_millis(1)));
    event.set();
    event.set();
    event.wait();
    assert!(event.wait_timeout(Duration::ZERO));
    event.reset();
    assert!(!event.wait_timeout(Duration::ZERO));
    assert!(QemuEvent::new(true).is_set());
}

#[test]
fn a_reset_does_not_hide_a_waiter() {
    let event = QemuEvent::new(false);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| event.wait());
        // Both with and without the waiter asleep already.
        for _ in 0..100 {
            event.reset();
            thread::yield_now();
        }
        event.set();
        waiter.join().unwrap();
    });
}

#[test]
fn ping_pong() {
    const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let (ping, pong) = (QemuEvent::new(false), QemuEvent::new(false));
    // Ordering: Relaxed throughout; the events order the turns.
    let turn = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                ping.wait();
                ping.reset();
                assert_eq!(turn.swap(2 * round + 2, Ordering::Relaxed), 2 * round + 1);
                pong.set();
            }
        });
        for round in 0..ROUNDS {
            assert_eq!(turn.swap(2 * round + 1, Ordering::Relaxed), 2 * round);
            ping.set();
            pong.wait();
            pong.reset();
        }
    });
}

#[test]
fn several_setters_and_waiters_lose_nothing() {
    const PER_THREAD: u64 = if cfg!(miri) { 50 } else { 20_000 };
    const PRODUCERS: u64 = 3;
    let event = QemuEvent::new(false);
    let all_done = QemuEvent::new(false);
    // Ordering: Relaxed on both; each is the condition that the event announces.
    let (produced, consumed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                for _ in 0..PER_THREAD {
                    produced.fetch_add(1, Ordering::Relaxed);
                    event.set();
                }
            });
        }
        scope.spawn(|| {
            let mut seen = 0;
            while seen < PRODUCERS * PER_THREAD {
                event.reset();
                let now = produced.load(Ordering::Relaxed);
                if now == seen {
                    event.wait();
                    continue;
                }
                seen = now;
            }
            consumed.store(seen, Ordering::Relaxed);
            all_done.set();
        });
        for _ in 0..2 {
            scope.spawn(|| {
                all_done.wait();
                assert_eq!(consumed.load(Ordering::Relaxed), PRODUCERS * PER_THREAD);
            });
        }
    });
}

#[test]
fn a_timed_wait_ends_in_time_and_early_when_set() {
    let event = QemuEvent::new(false);
    let start = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(20)));
    assert!(start.elapsed() >= Duration::from_millis(20));
    thread::scope(|scope| {
        scope.spawn(|| event.set());
        assert!(event.wait_timeout(Duration::MAX));
    });
}
