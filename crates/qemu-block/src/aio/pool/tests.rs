//! Tests of the worker pool.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::aio::test_support::block_on;

const LONG: Duration = Duration::from_secs(600);

fn threads(pool: &WorkerPool) -> usize {
    pool.handle.shared.queue.lock().threads
}

#[test]
fn results_come_back() {
    let pool = WorkerPool::new("test", 3, LONG);
    let futures: Vec<_> = (0..100).map(|i| pool.run(move || i * 2)).collect();
    let results: Vec<i32> = futures.into_iter().map(block_on).collect();
    assert_eq!(results, (0..200).step_by(2).collect::<Vec<_>>());
    assert!((1..=3).contains(&threads(&pool)));
}

#[test]
fn workers_take_no_signals() {
    use nix::sys::signal::{SigSet, Signal};

    let pool = WorkerPool::new("test", 1, LONG);
    let before = SigSet::thread_get_mask().unwrap();
    let mask = block_on(pool.run(|| SigSet::thread_get_mask().unwrap()));
    assert!(mask.contains(Signal::SIGTERM) && !mask.contains(Signal::SIGSEGV));
    assert_eq!(SigSet::thread_get_mask().unwrap(), before);
}

#[test]
fn as_many_threads_as_needed_but_no_more() {
    let pool = WorkerPool::new("test", 4, LONG);
    let barrier = Arc::new(Barrier::new(4));
    let job = || {
        let barrier = Arc::clone(&barrier);
        pool.run(move || barrier.wait().is_leader())
    };
    let futures: Vec<_> = std::iter::repeat_with(job).take(4).collect();
    // The barrier opens only when four threads run at the same time.
    let leaders = futures.into_iter().map(block_on).filter(|leader| *leader).count();
    assert_eq!((leaders, threads(&pool)), (1, 4));
    let more: Vec<_> = (0..50).map(|_| pool.run(|| ())).collect();
    more.into_iter().for_each(block_on);
    assert_eq!(threads(&pool), 4);
}

#[test]
fn one_after_the_other_needs_one_thread() {
    let pool = WorkerPool::new("test", 8, LONG);
    for i in 0..200 {
        // Wait until the worker sleeps again: only then is one thread enough for certain.
        while i > 0 && pool.handle.shared.queue.lock().idle == 0 {
            std::thread::yield_now();
        }
        assert_eq!(block_on(pool.run(move || i)), i);
    }
    assert_eq!(threads(&pool), 1);
}

#[test]
fn idle_threads_exit_and_come_back() {
    let pool = WorkerPool::new("test", 2, Duration::ZERO);
    for round in 0..500 {
        assert_eq!(block_on(pool.run(move || round)), round);
    }
    while threads(&pool) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(block_on(pool.run(|| 7)), 7);
}

#[test]
fn a_panic_reaches_the_waiter_and_spares_the_worker() {
    let pool = WorkerPool::new("test", 1, LONG);
    let future = pool.run(|| -> u32 { std::panic::resume_unwind(Box::new("oops")) });
    let payload = catch_unwind(AssertUnwindSafe(|| block_on(future))).expect_err("it panicked");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"oops"));
    assert_eq!(block_on(pool.run(|| 1)), 1);
}

#[test]
fn a_detached_job_runs() {
    let pool = WorkerPool::new("test", 1, LONG);
    let (sender, receiver) = mpsc::channel();
    drop(pool.run(move || sender.send(5).expect("the receiver waits")));
    assert_eq!(receiver.recv(), Ok(5));
}

#[test]
fn the_last_handle_leaves_nothing_unrun() {
    let count = Arc::new(AtomicUsize::new(0));
    let pool = WorkerPool::new("test", 2, LONG);
    let job = || {
        let count = Arc::clone(&count);
        pool.run(move || count.fetch_add(1, Ordering::Relaxed))
    };
    let futures: Vec<_> = std::iter::repeat_with(job).take(300).collect();
    drop(pool);
    futures.into_iter().for_each(|future| assert!(block_on(future) < 300));
    assert_eq!(count.load(Ordering::Relaxed), 300);
}

#[test]
fn shutdown_waits_and_later_jobs_run_inline() {
    let pool = WorkerPool::new("test", 4, LONG);
    let futures: Vec<_> = (0..40).map(|i| pool.run(move || i)).collect();
    pool.shutdown();
    assert_eq!(threads(&pool), 0);
    assert_eq!(futures.into_iter().map(block_on).sum::<i32>(), 780);
    let here = std::thread::current().id();
    assert_eq!(block_on(pool.run(move || std::thread::current().id())), here);
    pool.shutdown();
}

#[test]
fn without_any_thread_jobs_run_inline() {
    let spawn = |_: &Arc<Shared>| Err(std::io::Error::from_raw_os_error(libc::EAGAIN));
    let pool = WorkerPool::with_config(Config { name: "test", threads_max: 4, idle_timeout: LONG, spawn });
    let here = std::thread::current().id();
    for _ in 0..3 {
        assert_eq!(block_on(pool.run(move || std::thread::current().id())), here);
    }
    assert_eq!(threads(&pool), 0);
    pool.shutdown();
}

#[test]
fn with_fewer_threads_than_wanted_all_jobs_run() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let spawn = |shared: &Arc<Shared>| match STARTED.fetch_add(1, Ordering::Relaxed) {
        0 => spawn_thread(shared),
        _ => Err(std::io::Error::from_raw_os_error(libc::EAGAIN)),
    };
    let pool = WorkerPool::with_config(Config { name: "test", threads_max: 4, idle_timeout: LONG, spawn });
    let futures: Vec<_> = (0..100).map(|i| pool.run(move || i)).collect();
    assert_eq!(futures.into_iter().map(block_on).sum::<i32>(), 4950);
    assert_eq!(threads(&pool), 1);
}

#[test]
fn many_submitters_lose_nothing() {
    let pool = WorkerPool::new("test", 3, Duration::from_micros(50));
    let sums = std::thread::scope(|scope| {
        let submit = || (0..500_u64).map(|i| block_on(pool.run(move || i))).sum::<u64>();
        let handles: Vec<_> = (0..4).map(|_| scope.spawn(submit)).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).sum::<u64>()
    });
    assert_eq!(sums, 4 * 124_750);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload of a panic panics in turn");
    }
}

#[test]
fn a_payload_that_panics_spares_the_worker() {
    /// A waker that panics with it.
    struct BadWaker;
    impl std::task::Wake for BadWaker {
        fn wake(self: std::sync::Arc<Self>) {
            std::panic::panic_any(Bomb);
        }
    }
    let pool = WorkerPool::new("test", 1, LONG);
    let (sender, receiver) = mpsc::channel::<()>();
    let mut future = Box::pin(pool.run(move || receiver.recv().is_ok()));
    let waker = Waker::from(std::sync::Arc::new(BadWaker));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    sender.send(()).expect("the job waits");
    assert_eq!(block_on(pool.run(|| 1)), 1);
    assert!(block_on(future));
}

#[test]
fn shutdown_waits_for_jobs_that_run_inline() {
    let pool = WorkerPool::new("test", 1, LONG);
    pool.shutdown();
    let (started, begun) = mpsc::channel();
    let done = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (submitter, finished) = (pool.clone(), Arc::clone(&done));
        scope.spawn(move || {
            block_on(submitter.run(move || {
                started.send(()).expect("the receiver waits");
                std::thread::sleep(Duration::from_millis(20));
                finished.store(1, Ordering::Relaxed);
            }));
        });
        begun.recv().expect("the job starts");
        pool.shutdown();
        assert_eq!(done.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn wakers_are_cloned_and_dropped_with_no_lock_held() {
    /// Looks at the pool's slot whenever it is dropped; with the lock held that would be a deadlock.
    struct Curious(Arc<Slot<()>>);
    impl std::task::Wake for Curious {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    impl Drop for Curious {
        fn drop(&mut self) {
            drop(self.0.state.lock());
        }
    }
    let pool = WorkerPool::new("test", 1, LONG);
    let (sender, receiver) = mpsc::channel::<()>();
    let mut future = Box::pin(pool.run(move || receiver.recv().unwrap_or(())));
    for _ in 0..3 {
        let waker = Waker::from(std::sync::Arc::new(Curious(Arc::clone(&future.slot))));
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    sender.send(()).expect("the job waits");
    block_on(future);
}
