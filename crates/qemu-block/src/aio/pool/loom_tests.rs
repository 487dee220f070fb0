//! The worker pool under loom. Wakers of the futures kick the loop of a context, which is model-checked itself; here it
//! is enough that a thread sleeps until its waker is called.
//!
//! Workers are detached: an execution ends when the last handle of the pool is gone and they have all exited, so that a
//! worker which sleeps on for ever fails the model.

use std::pin::pin;

use qemu_util::model::{explore, explore_bounded};
use qemu_util::primitive::atomic::{AtomicU32, Ordering};

use super::*;

// Ordering: Relaxed for all data in these models; the pool orders it.
const RELAXED: Ordering = Ordering::Relaxed;

fn pool(threads_max: usize) -> WorkerPool {
    WorkerPool::new("model", threads_max, Duration::ZERO)
}

/// Whether the waker was called since the last look.
#[derive(Default)]
struct Called {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl std::task::Wake for Called {
    fn wake(self: Arc<Self>) {
        *self.flag.lock() = true;
        self.changed.notify_all();
    }
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let called = Arc::new(Called::default());
    let waker = Waker::from(Arc::clone(&called));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut flag = called.flag.lock();
        while !*flag {
            flag = called.changed.wait(flag);
        }
        *flag = false;
    }
}

/// At any one point the time of whoever waits for work runs out.
fn let_time_run_out(pool: &WorkerPool) -> thread::JoinHandle<()> {
    let shared = Arc::clone(&pool.handle.shared);
    thread::spawn(move || shared.work.run_out_of_time())
}

#[test]
pub(crate) fn submit_against_completion() {
    explore(|| {
        let pool = pool(1);
        assert_eq!(block_on(pool.run(|| 7)), 7);
    });
}

/// The second job meets a worker that sleeps, one whose time is just running out, or none any more.
#[test]
pub(crate) fn submit_against_idle_exit() {
    explore_bounded(3, || {
        let pool = pool(1);
        let clock = let_time_run_out(&pool);
        assert_eq!(block_on(pool.run(|| 1)), 1);
        assert_eq!(block_on(pool.run(|| 2)), 2);
        clock.join().unwrap();
    });
}

#[test]
pub(crate) fn two_submitters_of_one_worker() {
    explore_bounded(3, || {
        let pool = pool(1);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || block_on(pool.run(|| 1)))
        };
        assert_eq!(block_on(pool.run(|| 2)), 2);
        assert_eq!(other.join().unwrap(), 1);
    });
}

/// The first job waits for the second one: as long as there may be more threads, no job waits for a busy worker. The
/// first worker sleeps when both come.
#[test]
pub(crate) fn each_of_two_jobs_gets_a_thread() {
    explore_bounded(3, || {
        let pool = pool(2);
        block_on(pool.run(|| ()));
        let called = Arc::new(Called::default());
        let waits = Arc::clone(&called);
        let first = pool.run(move || {
            let mut flag = waits.flag.lock();
            while !*flag {
                flag = waits.changed.wait(flag);
            }
        });
        let second = pool.run(move || std::task::Wake::wake(called));
        block_on(first);
        block_on(second);
    });
}

/// The job is run by a worker that finishes the queue, or by its submitter; when both have returned it has been run.
#[test]
pub(crate) fn submit_against_shutdown() {
    explore_bounded(3, || {
        let pool = pool(1);
        let ran = Arc::new(AtomicU32::new(0));
        let submitter = {
            let (pool, ran) = (pool.clone(), Arc::clone(&ran));
            thread::spawn(move || block_on(pool.run(move || ran.fetch_add(1, RELAXED))))
        };
        pool.shutdown();
        let queue = pool.handle.shared.queue.lock();
        assert!(queue.jobs.is_empty() && queue.threads == 0, "nothing is left behind");
        drop(queue);
        assert_eq!(submitter.join().unwrap(), 0);
        assert_eq!(ran.load(RELAXED), 1);
    });
}

/// Two workers sleep when the pool is closed.
#[test]
pub(crate) fn shutdown_wakes_all_workers() {
    explore_bounded(3, || {
        let pool = pool(2);
        let jobs = [pool.run(|| 1), pool.run(|| 2)];
        pool.shutdown();
        assert_eq!(jobs.map(block_on), [1, 2]);
    });
}

fn no_thread(_: &Arc<Shared>) -> std::io::Result<()> {
    Err(std::io::Error::from_raw_os_error(libc::EAGAIN))
}

/// No thread can be started: two submitters run both jobs, one of them perhaps both, and a shutdown waits for them.
#[test]
pub(crate) fn spawn_failure() {
    explore_bounded(3, || {
        let config = Config { name: "model", threads_max: 1, idle_timeout: Duration::ZERO, spawn: no_thread };
        let pool = WorkerPool::with_config(config);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || block_on(pool.run(|| 1)))
        };
        assert_eq!(block_on(pool.run(|| 2)), 2);
        pool.shutdown();
        assert_eq!(other.join().unwrap(), 1);
    });
}

/// The pool is closed, so that a job runs in its submitter: another shutdown waits for that.
#[test]
pub(crate) fn shutdown_waits_for_an_inline_job() {
    explore(|| {
        let pool = pool(1);
        pool.shutdown();
        let (begun, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let submitter = {
            let (pool, begun, ended) = (pool.clone(), Arc::clone(&begun), Arc::clone(&ended));
            thread::spawn(move || {
                let inside = pool.clone();
                block_on(pool.run(move || {
                    // Under the lock, so that whoever sees it finds the job counted.
                    let queue = inside.handle.shared.queue.lock();
                    begun.store(1, RELAXED);
                    drop(queue);
                    ended.store(1, RELAXED);
                }));
            })
        };
        let queue = pool.handle.shared.queue.lock();
        let has_begun = begun.load(RELAXED) == 1;
        drop(queue);
        pool.shutdown();
        assert!(!has_begun || ended.load(RELAXED) == 1);
        submitter.join().unwrap();
    });
}

/// The futures outlive the last handle, and resolve.
#[test]
fn the_last_handle_goes() {
    explore_bounded(3, || {
        let pool = pool(1);
        let jobs = [pool.run(|| 1), pool.run(|| 2)];
        let other = {
            let pool = pool.clone();
            thread::spawn(move || drop(pool))
        };
        drop(pool);
        assert_eq!(jobs.map(block_on), [1, 2]);
        other.join().unwrap();
    });
}

/// The result is dropped once, by the worker or by the future.
#[test]
fn completion_against_drop_of_the_future() {
    struct Owned(Arc<AtomicU32>);
    impl Drop for Owned {
        fn drop(&mut self) {
            self.0.fetch_add(1, RELAXED);
        }
    }
    explore(|| {
        let pool = pool(1);
        let drops = Arc::new(AtomicU32::new(0));
        let owned = Owned(Arc::clone(&drops));
        let mut future = pool.run(move || owned);
        let waker = Waker::from(Arc::new(Called::default()));
        let polled = Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        drop((future, polled));
        pool.shutdown();
        assert_eq!(drops.load(RELAXED), 1);
    });
}

qemu_util::killed_by! {
    all: |mutant| mutant.name().starts_with("pool-");

    time_out_without_look: PoolTimeOutWithoutLook => crate::aio::pool::loom_tests::submit_against_idle_exit,
    uncounts_later: PoolUncountsLater => crate::aio::pool::loom_tests::submit_against_idle_exit,
    trusts_idle: PoolTrustsIdle => crate::aio::pool::loom_tests::each_of_two_jobs_gets_a_thread,
    forgets_failed_start: PoolForgetsFailedStart => crate::aio::pool::loom_tests::spawn_failure,
    closes_quietly: PoolClosesQuietly => crate::aio::pool::loom_tests::shutdown_wakes_all_workers,
    ends_quietly: PoolEndsQuietly => crate::aio::pool::loom_tests::shutdown_waits_for_an_inline_job,
    wakes_before_result: PoolWakesBeforeResult => crate::aio::pool::loom_tests::submit_against_completion,
}
