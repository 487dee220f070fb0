//! The locks for tasks at a size that no exhaustive model reaches: many tasks that lock, wait, wake and give up, under
//! random schedules.
//!
//! | environment | meaning | default |
//! |---|---|---|
//! | `QEMU_SHUTTLE_SEED` | the seed of all schedules and of all that the tasks choose | 1 |
//! | `QEMU_SHUTTLE_ITERATIONS` | schedules for each test, half of them random, half PCT | 1000 |
//! | `QEMU_SHUTTLE_SCHEDULE` | one schedule, as a failed test has printed it: only that is run | |

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner, future, thread};

use super::{CoMutex, CoQueue, CoRwLock, Semaphore, oneshot};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};

// Ordering: Relaxed for all counters here; shuttle runs one thread at a time.
const RELAXED: Ordering = Ordering::Relaxed;

const N_TASKS: usize = 6;
const N_ROUNDS: usize = 4;
/// How many places with a change of thread PCT chooses.
const PCT_DEPTH: usize = 5;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "the seed of a failure is shown with its report")]
fn explore(check: impl Fn() + Send + Sync + 'static) {
    if let Ok(schedule) = std::env::var("QEMU_SHUTTLE_SCHEDULE") {
        return shuttle::replay(check, &schedule);
    }
    let (seed, n) = (number("QEMU_SHUTTLE_SEED", 1), number("QEMU_SHUTTLE_ITERATIONS", 1000));
    println!("QEMU_SHUTTLE_SEED={seed} QEMU_SHUTTLE_ITERATIONS={n}");
    let half = usize::try_from(n / 2).unwrap();
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::Print;
    let check = Arc::new(check);
    let again = Arc::clone(&check);
    Runner::new(RandomScheduler::new_from_seed(seed, half), config.clone()).run(move || check());
    Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, half), config).run(move || again());
}

/// Runs `task` in each of many threads and waits for all.
fn in_many_threads<F: Future<Output = ()>>(task: impl Fn(usize) -> F + Send + Sync + 'static) {
    let task = Arc::new(task);
    let threads: Vec<_> = (0..N_TASKS)
        .map(|index| {
            let task = Arc::clone(&task);
            thread::spawn(move || future::block_on(task(index)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Polls `future` a few times, until it is ready or is given up: dropped, wherever it is by then.
async fn with_little_patience<F: Future>(future: F) -> Option<F::Output> {
    let mut patience = thread_rng().gen_range(0..5);
    let mut future = pin!(future);
    poll_fn(|context| {
        // Only now, so that others have run since it was polled: they may have given it what it waits for.
        if patience == 0 {
            return Poll::Ready(None);
        }
        patience -= 1;
        let polled = future.as_mut().poll(context).map(Some);
        if polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    })
    .await
}

/// Waits for `future`, or gives it up, as chance has it.
async fn perhaps<F: Future>(future: F) -> Option<F::Output> {
    if thread_rng().gen_bool(0.5) { with_little_patience(future).await } else { Some(future.await) }
}

#[test]
fn a_mutex_has_one_owner() {
    explore(|| {
        let mutex = Arc::new(CoMutex::new(0));
        let n_locked = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&mutex), Arc::clone(&n_locked));
        in_many_threads(move |_| {
            let (mutex, n_locked) = (Arc::clone(&shared), Arc::clone(&count));
            async move {
                for _ in 0..N_ROUNDS {
                    let Some(mut guard) = perhaps(mutex.lock()).await else { continue };
                    let before = *guard;
                    future::yield_now().await;
                    *guard = before + 1;
                    n_locked.fetch_add(1, RELAXED);
                }
            }
        });
        assert_eq!(*mutex.try_lock().unwrap(), n_locked.load(RELAXED));
    });
}

#[test]
fn readers_and_writers_exclude_each_other() {
    explore(|| {
        let lock = Arc::new(CoRwLock::new((0, 0)));
        let n_written = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&lock), Arc::clone(&n_written));
        in_many_threads(move |index| {
            let (lock, n_written) = (Arc::clone(&shared), Arc::clone(&count));
            async move {
                for round in 0..N_ROUNDS {
                    if (index + round) % 3 == 0 {
                        let Some(mut guard) = perhaps(lock.write()).await else { continue };
                        guard.0 += 1;
                        future::yield_now().await;
                        guard.1 += 1;
                        n_written.fetch_add(1, RELAXED);
                    } else {
                        let Some(guard) = perhaps(lock.read()).await else { continue };
                        assert_eq!(guard.0, guard.1);
                        let before = *guard;
                        future::yield_now().await;
                        assert_eq!(*guard, before);
                    }
                }
            }
        });
        assert_eq!(lock.try_write().unwrap().1, n_written.load(RELAXED));
    });
}

#[test]
fn permits_are_bounded_and_come_back() {
    const N_PERMITS: usize = 4;
    explore(|| {
        let shared = Arc::new((Semaphore::new(N_PERMITS), AtomicUsize::new(0)));
        let other = Arc::clone(&shared);
        in_many_threads(move |_| {
            let shared = Arc::clone(&other);
            async move {
                let (semaphore, n_taken) = &*shared;
                for _ in 0..N_ROUNDS {
                    let n_permits = thread_rng().gen_range(0..=N_PERMITS);
                    let Some(permit) = perhaps(semaphore.acquire(n_permits)).await else { continue };
                    assert!(n_taken.fetch_add(n_permits, RELAXED) + n_permits <= N_PERMITS);
                    future::yield_now().await;
                    n_taken.fetch_sub(n_permits, RELAXED);
                    drop(permit);
                }
            }
        });
        assert_eq!(shared.0.available(), N_PERMITS);
    });
}

/// Some produce, some consume what they need, some give up: with nobody's wake-up. There is enough for all.
#[test]
fn a_queue_loses_no_wake_up() {
    struct Store {
        items: CoMutex<usize>,
        filled: CoQueue,
    }
    impl Store {
        async fn take(&self) {
            let mut items = self.items.lock().await;
            while *items == 0 {
                items = self.filled.wait(items).await;
            }
            *items -= 1;
        }
    }
    explore(|| {
        let store = Arc::new(Store { items: CoMutex::new(0), filled: CoQueue::new() });
        let n_taken = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&store), Arc::clone(&n_taken));
        in_many_threads(move |index| {
            let (store, n_taken) = (Arc::clone(&shared), Arc::clone(&count));
            async move {
                match index % 3 {
                    0 => {
                        for _ in 0..N_ROUNDS {
                            *store.items.lock().await += 1;
                            store.filled.wake_one();
                        }
                    }
                    1 => {
                        for _ in 1..N_ROUNDS {
                            store.take().await;
                            n_taken.fetch_add(1, RELAXED);
                        }
                    }
                    _ => {
                        let taken = with_little_patience(store.take()).await;
                        n_taken.fetch_add(usize::from(taken.is_some()), RELAXED);
                    }
                }
            }
        });
        let n_made = N_TASKS / 3 * N_ROUNDS;
        assert_eq!(*store.items.try_lock().unwrap(), n_made - n_taken.load(RELAXED));
        assert!(store.filled.is_empty());
    });
}

/// As many wake-ups as waiters that need one; the others give up, or hand on what they got.
#[test]
fn a_dropped_waiter_hands_its_wake_up_on() {
    const N_PATIENT: usize = N_TASKS / 2;
    #[derive(Default)]
    struct Line {
        mutex: CoMutex<()>,
        queue: CoQueue,
        /// The patient: those that have joined the line, and those that were woken.
        n_joined: AtomicUsize,
        n_done: AtomicUsize,
    }
    impl Line {
        async fn wait(&self, joined: &AtomicUsize) {
            if thread_rng().gen_bool(0.5) {
                let wait = self.queue.wait_unlocked(());
                joined.fetch_add(1, RELAXED);
                wait.await;
            } else {
                let wait = self.queue.wait(self.mutex.lock().await);
                joined.fetch_add(1, RELAXED);
                drop(wait.await);
            }
        }
        /// Wakes one, as soon as there is one that waits.
        fn wake_one(&self) {
            while self.n_done.load(RELAXED) < N_PATIENT && !self.queue.wake_one() {
                thread::yield_now();
            }
        }
    }
    explore(|| {
        let line = Arc::new(Line::default());
        let waker = Arc::clone(&line);
        let waking = thread::spawn(move || {
            // A wake-up that finds nobody in the line is nobody's.
            while waker.n_joined.load(RELAXED) < N_PATIENT {
                thread::yield_now();
            }
            (0..N_PATIENT).for_each(|_| waker.wake_one());
        });
        in_many_threads(move |index| {
            let line = Arc::clone(&line);
            async move {
                if index < N_PATIENT {
                    line.wait(&line.n_joined).await;
                    line.n_done.fetch_add(1, RELAXED);
                } else if with_little_patience(line.wait(&AtomicUsize::new(0))).await.is_some() {
                    line.wake_one();
                }
            }
        });
        waking.join().unwrap();
    });
}

/// Receives or gives up, perhaps after another task has shown interest.
fn receive<T>(mut receiver: oneshot::Receiver<T>) -> Option<Result<T, oneshot::Cancelled>> {
    if thread_rng().gen_bool(0.5)
        && let Poll::Ready(result) = Pin::new(&mut receiver).poll(&mut Context::from_waker(Waker::noop()))
    {
        return Some(result);
    }
    future::block_on(perhaps(receiver))
}

/// Every value is received, comes back, or goes down with the channel.
#[test]
fn a_value_has_one_end() {
    explore(|| {
        let value = Arc::new(());
        let pairs: Vec<_> = (0..N_TASKS / 2)
            .map(|_| {
                let (sender, receiver) = oneshot::channel();
                let sent = Arc::clone(&value);
                let sending = thread::spawn(move || thread_rng().gen_bool(0.7) && sender.send(sent).is_ok());
                (sending, thread::spawn(move || receive(receiver)))
            })
            .collect();
        for (sending, receiving) in pairs {
            let (is_sent, received) = (sending.join().unwrap(), receiving.join().unwrap());
            match received {
                Some(Ok(_)) => assert!(is_sent),
                Some(Err(oneshot::Cancelled)) => assert!(!is_sent),
                None => {}
            }
        }
        assert_eq!(Arc::strong_count(&value), 1);
    });
}
