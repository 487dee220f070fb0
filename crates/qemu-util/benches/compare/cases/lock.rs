//! The locks for tasks beside tokio's, async-lock's and those of futures.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use qemu_util::sync::{CoMutex, CoRwLock, Semaphore, oneshot};
use qemu_util::task::yield_now;

use super::task::context;
use super::{Group, Stopwatch, repeat};

/// How many tasks want the lock at the same time where there is contention.
const N_TASKS: u64 = 4;

/// The output of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nobody else is there"),
    }
}

/// Some tasks take turns: each holds the lock while the others get to run. The executor is the same for all locks.
fn contended<L, F, Fut>(n: u64, lock: L, hold: F) -> Duration
where
    L: Send + Sync + 'static,
    F: Fn(Arc<L>) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let ctx = context();
    let lock = Arc::new(lock);
    ctx.block_on(async {
        let start = Stopwatch::start();
        let tasks: Vec<_> = (0..N_TASKS)
            .map(|_| {
                let (lock, hold) = (Arc::clone(&lock), hold.clone());
                ctx.spawn(async move {
                    for _ in 0..n.div_ceil(N_TASKS) {
                        hold(Arc::clone(&lock)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("it ends");
        }
        start.elapsed()
    })
}

fn mutex_contended() -> Group {
    Group::new("lock/mutex-contended", "lock, yield, unlock: four tasks in one thread")
        .ours("CoMutex", |n| {
            contended(n, CoMutex::new(0), |lock: Arc<CoMutex<u64>>| async move {
                let mut guard = lock.lock().await;
                yield_now().await;
                *guard += 1;
            })
        })
        .rival("tokio Mutex", |n| {
            contended(n, tokio::sync::Mutex::new(0), |lock: Arc<tokio::sync::Mutex<u64>>| async move {
                let mut guard = lock.lock().await;
                yield_now().await;
                *guard += 1;
            })
        })
        .rival("async_lock Mutex", |n| {
            contended(n, async_lock::Mutex::new(0), |lock: Arc<async_lock::Mutex<u64>>| async move {
                let mut guard = lock.lock().await;
                yield_now().await;
                *guard += 1;
            })
        })
}

fn mutex_free() -> Group {
    let ours = CoMutex::new(0_u64);
    let tokio = tokio::sync::Mutex::new(0_u64);
    let async_lock = async_lock::Mutex::new(0_u64);
    Group::new("lock/mutex", "lock and unlock, nobody else there")
        .ours("CoMutex", move |n| repeat(n, || *now(ours.lock()) += 1))
        .rival("tokio Mutex", move |n| repeat(n, || *now(tokio.lock()) += 1))
        .rival("async_lock Mutex", move |n| repeat(n, || *now(async_lock.lock()) += 1))
}

fn rwlock_free() -> Group {
    let ours = CoRwLock::new(1_u64);
    let tokio = tokio::sync::RwLock::new(1_u64);
    let async_lock = async_lock::RwLock::new(1_u64);
    Group::new("lock/rwlock-read", "enter as a reader and leave, nobody else there")
        .ours("CoRwLock", move |n| repeat(n, || *now(ours.read())))
        .rival("tokio RwLock", move |n| repeat(n, || *now(tokio.read())))
        .rival("async_lock RwLock", move |n| repeat(n, || *now(async_lock.read())))
}

fn semaphore_free() -> Group {
    let ours = Semaphore::new(4);
    let tokio = tokio::sync::Semaphore::new(4);
    let async_lock = async_lock::Semaphore::new(4);
    Group::new("lock/semaphore", "take a permit and give it back, nobody else there")
        .ours("Semaphore", move |n| repeat(n, || drop(now(ours.acquire(1)))))
        .rival("tokio Semaphore", move |n| repeat(n, || drop(now(tokio.acquire()).expect("it is open"))))
        .rival("async_lock Semaphore", move |n| repeat(n, || drop(now(async_lock.acquire()))))
}

fn oneshot_ours(n: u64) -> Duration {
    repeat(n, || {
        let (sender, receiver) = oneshot::channel();
        sender.send(1_u64).expect("the receiver is there");
        now(receiver).expect("it was sent")
    })
}

fn oneshot_tokio(n: u64) -> Duration {
    repeat(n, || {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        sender.send(1_u64).expect("the receiver is there");
        now(receiver).expect("it was sent")
    })
}

pub(super) fn groups() -> Vec<Group> {
    vec![
        mutex_free(),
        mutex_contended(),
        rwlock_free(),
        semaphore_free(),
        Group::new("lock/oneshot", "make a channel, send and receive")
            .ours("sync::oneshot", oneshot_ours)
            .rival("tokio oneshot", oneshot_tokio),
    ]
}
