//! A bounded pool of worker threads. QEMU: `ThreadPool` (util/thread-pool.c).
//!
//! # Protocol
//!
//! Everything is decided under one mutex, which is never held while a job runs or a thread is started:
//!
//! | who | does, under the mutex |
//! |---|---|
//! | submitter | pushes the job; with a sleeper for every queued job it notifies one, else it counts a new thread |
//! | worker | takes a job, or counts itself idle and waits |
//! | worker whose wait ran out | takes a job if there is one; only with an empty queue it uncounts itself and exits |
//! | submitter whose thread failed to start | uncounts it; when no thread is left it empties the queue itself |
//! | last handle | sets `closed`; workers exit when the queue is empty instead of waiting |
//!
//! A thread that is counted will look at the queue once more before it is uncounted, and "look and uncount" is one
//! critical section. So a queued job always has a counted thread, or a submitter, that will run it. In particular a
//! worker that times out just as a submitter relies on it finds the job, and a notification that hits nobody because
//! all sleepers are timing out is harmless for the same reason.
//!
//! A job that has no thread to run on is run by its submitter, which is counted as such meanwhile, so that a shutdown
//! waits for it as well.
//!
//! No job is ever dropped unrun: each future resolves, also when the pool is shut down.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use qemu_util::mutant::{Mutant, is_on};
use qemu_util::primitive::{Arc, Condvar, Mutex, MutexGuard, thread};
use qemu_util::signals::Blocked;

pub use observer::{PoolObserver, PoolState};

/// Stack of a worker in bytes. Jobs are shallow; small stacks keep a full pool cheap under `RLIMIT_AS`.
const STACK_BYTES: usize = 512 << 10;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to a pool; clones refer to the same one.
///
/// When the last handle is dropped the workers finish what is queued and exit; nobody waits for them.
#[derive(Clone)]
pub struct WorkerPool {
    handle: Arc<Handle>,
}

impl WorkerPool {
    /// A pool without threads yet. At most `threads_max` (at least one) are started, each when a job finds all others
    /// busy; one that had nothing to do for `idle_timeout` exits.
    pub fn new(name: &'static str, threads_max: usize, idle_timeout: Duration) -> Self {
        let config = Config { name, threads_max: threads_max.max(1), idle_timeout, spawn: spawn_thread };
        Self::with_config(config)
    }

    fn with_config(config: Config) -> Self {
        let shared = Shared { config, queue: Mutex::default(), work: Condvar::new(), exited: Condvar::new() };
        Self { handle: Arc::new(Handle { shared: Arc::new(shared) }) }
    }

    /// Runs `job` on a worker. Dropping the future detaches the job, which runs all the same.
    ///
    /// When no thread can be started at all, or after [`shutdown`](Self::shutdown), the job runs before this returns.
    ///
    /// # Panics
    /// A panic of the job is resumed where the future is awaited.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JobFuture<T> {
        let slot = Arc::new(Slot { state: Mutex::new(SlotState::Pending(None)) });
        let theirs = Arc::clone(&slot);
        let job = move || theirs.complete(catch_unwind(AssertUnwindSafe(job)));
        self.handle.shared.submit(Box::new(job));
        JobFuture { slot }
    }

    /// Most threads that work at the same time.
    pub fn threads_max(&self) -> usize {
        self.handle.shared.config.threads_max
    }

    /// Something that can look at the pool from any thread without keeping it open.
    pub fn observer(&self) -> PoolObserver {
        PoolObserver { shared: Arc::downgrade(&self.handle.shared) }
    }

    /// Lets the workers finish all queued jobs and waits until every thread has left the pool, and every submitter that
    /// runs a job itself has finished it.
    ///
    /// Must not be called from a job, which would wait for itself.
    pub fn shutdown(&self) {
        let shared = &self.handle.shared;
        shared.close();
        let mut queue = shared.queue.lock();
        while queue.is_busy() {
            queue = shared.exited.wait(queue);
        }
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.handle.shared.config;
        f.debug_struct("WorkerPool").field("name", &config.name).field("threads_max", &config.threads_max).finish()
    }
}

/// What the clones of a [`WorkerPool`] share. Workers do not hold it, so its drop is the end of the last handle.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

struct Config {
    name: &'static str,
    threads_max: usize,
    idle_timeout: Duration,
    /// Starts a worker; replaced by tests that make it fail.
    spawn: fn(&Arc<Shared>) -> std::io::Result<()>,
}

fn spawn_thread(shared: &Arc<Shared>) -> std::io::Result<()> {
    let theirs = Arc::clone(shared);
    let builder = thread::Builder::new().name(shared.config.name.to_owned()).stack_size(STACK_BYTES);
    // The program's signals are not for its workers.
    let _blocked = Blocked::here();
    builder.spawn(move || theirs.work()).map(drop)
}

struct Shared {
    config: Config,
    queue: Mutex<Queue>,
    /// Signalled when a sleeping worker shall look at the queue.
    work: Condvar,
    /// Signalled when the last thread exits, and when the last submitter has run a job itself.
    exited: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that run or are being started.
    threads: usize,
    /// Threads that wait for work, including those already notified.
    idle: usize,
    /// Submitters that run a job themselves.
    inline: usize,
    closed: bool,
}

impl Queue {
    /// Whether anybody runs jobs, or is going to.
    fn is_busy(&self) -> bool {
        self.threads > 0 || self.inline > 0
    }
}

impl Shared {
    fn submit(self: &Arc<Self>, job: Job) {
        let mut queue = self.queue.lock();
        if queue.closed {
            return drop(self.run_inline(queue, job));
        }
        queue.jobs.push_back(job);
        let trusts = is_on(Mutant::PoolTrustsIdle) && queue.idle > 0;
        if trusts || queue.jobs.len() <= queue.idle {
            drop(queue);
            self.work.notify_one();
        } else if queue.threads < self.config.threads_max {
            queue.threads += 1;
            drop(queue);
            self.start_thread();
        }
    }

    /// Starts the thread that the caller has counted.
    fn start_thread(self: &Arc<Self>) {
        if (self.config.spawn)(self).is_ok() {
            return;
        }
        let mut queue = self.queue.lock();
        queue.threads -= 1;
        // Threads that are left will look at the queue before they exit. Without any, it is on us.
        while queue.threads == 0 && !is_on(Mutant::PoolForgetsFailedStart) {
            let Some(job) = queue.jobs.pop_front() else { break };
            queue = self.run_inline(queue, job);
        }
        self.tell_whether_idle(&queue);
    }

    /// Runs a job on the thread of its submitter, with the lock released meanwhile.
    fn run_inline<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, job: Job) -> MutexGuard<'a, Queue> {
        queue.inline += 1;
        drop(queue);
        run_job(job);
        let mut queue = self.queue.lock();
        queue.inline -= 1;
        if !is_on(Mutant::PoolEndsQuietly) {
            self.tell_whether_idle(&queue);
        }
        queue
    }

    /// Tells whoever waits for the pool to come to rest.
    fn tell_whether_idle(&self, queue: &Queue) {
        if !queue.is_busy() {
            self.exited.notify_all();
        }
    }

    /// The life of a worker.
    fn work(&self) {
        let mut queue = self.queue.lock();
        let mut out_of_time = false;
        loop {
            if out_of_time && is_on(Mutant::PoolTimeOutWithoutLook) {
                break;
            }
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                run_job(job);
                queue = self.queue.lock();
                out_of_time = false;
                continue;
            }
            if queue.closed || out_of_time {
                break;
            }
            queue.idle += 1;
            (queue, out_of_time) = self.work.wait_timeout(queue, self.config.idle_timeout);
            queue.idle -= 1;
        }
        if is_on(Mutant::PoolUncountsLater) {
            drop(queue);
            queue = self.queue.lock();
        }
        queue.threads -= 1;
        self.tell_whether_idle(&queue);
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        if is_on(Mutant::PoolClosesQuietly) {
            return self.work.notify_one();
        }
        self.work.notify_all();
    }
}

/// Runs a job. Its own panic was caught inside; what is caught here comes from a waker or from dropping a result that
/// nobody waits for, and must not take the worker's bookkeeping with it. The panic hook has reported it.
fn run_job(job: Job) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
        // Leaked: its destructor may panic in turn.
        std::mem::forget(payload);
    }
}

/// Where a job leaves its result.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
}

enum SlotState<T> {
    Pending(Option<Waker>),
    Done(std::thread::Result<T>),
    /// The future has the result, or is gone.
    Closed,
}

impl<T> Slot<T> {
    fn complete(&self, result: std::thread::Result<T>) {
        let mut state = self.state.lock();
        let mut waker = match &mut *state {
            SlotState::Pending(waker) => waker.take(),
            // Nobody waits: the result is dropped after the lock is released.
            SlotState::Done(_) | SlotState::Closed => return,
        };
        if is_on(Mutant::PoolWakesBeforeResult) {
            drop(state);
            if let Some(waker) = waker.take() {
                waker.wake();
            }
            state = self.state.lock();
        }
        *state = SlotState::Done(result);
        drop(state);
        // The waker runs outside the mutex: it may poll the future at once.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The result of [`WorkerPool::run`].
#[must_use = "the result of the job comes out of the future"]
pub struct JobFuture<T> {
    slot: Arc<Slot<T>>,
}

impl<T> Future for JobFuture<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Cloned before the mutex is taken, and the stale one dropped after it is released: both may run foreign code.
        let new = cx.waker().clone();
        let mut state = self.slot.state.lock();
        if let SlotState::Pending(waker) = &mut *state {
            let stale = waker.replace(new);
            drop(state);
            drop(stale);
            return Poll::Pending;
        }
        let result = std::mem::replace(&mut *state, SlotState::Closed);
        drop(state);
        match result {
            SlotState::Done(Ok(value)) => Poll::Ready(value),
            SlotState::Done(Err(payload)) => resume_unwind(payload),
            SlotState::Pending(_) | SlotState::Closed => panic!("a future is not polled after it completed"),
        }
    }
}

impl<T> Drop for JobFuture<T> {
    fn drop(&mut self) {
        let old = std::mem::replace(&mut *self.slot.state.lock(), SlotState::Closed);
        drop(old);
    }
}

impl<T> fmt::Debug for JobFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobFuture").finish_non_exhaustive()
    }
}

mod observer;

#[cfg(all(test, not(qemu_loom)))]
mod tests;

#[cfg(all(test, qemu_loom))]
mod loom_tests;
