//! Several threads on one lock. A lost wake-up shows as a hang, a broken exclusion as a wrong sum.

use super::*;
use crate::sync::{CoMutex, CoQueue, CoRwLock, Semaphore};

const N_THREADS: usize = 4;
const N_ROUNDS: usize = if cfg!(miri) { 20 } else { 5000 };

/// Runs the closure on several threads, with the number of each.
fn on_threads(run: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for number in 0..N_THREADS {
            let run = &run;
            scope.spawn(move || run(number));
        }
    });
}

/// Polls `n_polls` times at most and gives up.
fn poll_and_drop<T>(n_polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    (0..n_polls).find_map(|_| {
        thread::yield_now();
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    })
}

#[test]
fn mutex_with_waiters_that_give_up() {
    let mutex = CoMutex::new(0);
    let n_locked = AtomicUsize::new(0);
    on_threads(|number| {
        for round in 0..N_ROUNDS {
            let guard = if (round + number) % 3 == 0 {
                poll_and_drop(1 + round % 2, mutex.lock())
            } else {
                Some(block_on(mutex.lock()))
            };
            if let Some(mut guard) = guard {
                *guard += 1;
                n_locked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(mutex.into_inner(), n_locked.into_inner());
}

#[test]
fn readers_never_see_half_a_write() {
    let lock = CoRwLock::new((0, 0));
    on_threads(|number| {
        for round in 0..N_ROUNDS {
            match (round + number) % 4 {
                0 => {
                    let mut writer = block_on(lock.write());
                    writer.0 += 1;
                    writer.1 += 1;
                }
                1 => drop(poll_and_drop(1, lock.write())),
                _ => {
                    let reader = block_on(lock.read());
                    assert_eq!(reader.0, reader.1);
                }
            }
        }
    });
    assert_eq!(lock.into_inner().0, N_THREADS * N_ROUNDS / 4);
}

#[test]
fn the_semaphore_bounds_and_loses_nothing() {
    let semaphore = Semaphore::new(3);
    let n_inside = AtomicUsize::new(0);
    on_threads(|number| {
        for round in 0..N_ROUNDS {
            let n_permits = 1 + (round + number) % 3;
            let permit = if round % 5 == 0 {
                poll_and_drop(2, semaphore.acquire(n_permits))
            } else {
                Some(block_on(semaphore.acquire(n_permits)))
            };
            if let Some(permit) = permit {
                let before = n_inside.fetch_add(n_permits, Ordering::Relaxed);
                assert!(before + n_permits <= 3);
                n_inside.fetch_sub(n_permits, Ordering::Relaxed);
                drop(permit);
            }
        }
    });
    assert_eq!(semaphore.available(), 3);
}

/// Half of the threads produce, half consume, through a buffer of one; some consumers give up while they wait.
#[test]
fn the_queue_loses_no_wake_up() {
    let slot = CoMutex::new(None);
    let (filled, emptied) = (CoQueue::new(), CoQueue::new());
    let put = async |value: usize| {
        let mut guard = slot.lock().await;
        while guard.is_some() {
            guard = emptied.wait(guard).await;
        }
        *guard = Some(value);
        filled.wake_one();
    };
    let take = async || {
        let mut guard = slot.lock().await;
        loop {
            match guard.take() {
                Some(value) => {
                    emptied.wake_one();
                    return value;
                }
                None => guard = filled.wait(guard).await,
            }
        }
    };
    let sum = AtomicUsize::new(0);
    on_threads(|number| {
        for round in 0..N_ROUNDS {
            if number % 2 == 0 {
                block_on(put(round));
            } else {
                let early = if round % 3 == 0 { poll_and_drop(2, take()) } else { None };
                let value = early.unwrap_or_else(|| block_on(take()));
                sum.fetch_add(value, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(sum.into_inner(), N_THREADS / 2 * (N_ROUNDS * (N_ROUNDS - 1) / 2));
}
