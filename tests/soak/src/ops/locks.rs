//! Locks of tasks, entered by the steps of tasks, and the queue.

use qemu_util::primitive::Arc;
use qemu_util::task::{JoinHandle, yield_now};

use super::Worker;
use crate::counts::Op;
use crate::ledger::Token;
use crate::promise::block_on;
use crate::rng::Rng;
use crate::world::{PERMITS, World};

/// Somebody waits for an item in one context, another one brings it in another context. As there are never fewer items
/// than waiters in the end, each of them is served.
pub(super) fn queue(worker: &mut Worker, rng: &mut Rng) {
    let Some(context) = worker.context(rng) else { return };
    let (world, token) = (Arc::clone(&worker.world), Token::new());
    let taken = context.spawn(async move {
        let _token = token;
        let mut items = world.items.lock().await;
        while *items == 0 {
            items = world.filled.wait(items).await;
        }
        *items -= 1;
    });
    drop(context);
    if rng.one_in(4) {
        rng.dawdle(3000);
        taken.abort();
    }
    while !produce(worker, rng) {
        worker.actor.beat();
        std::thread::yield_now();
    }
    // Served, aborted, or gone with its context.
    drop(block_on(taken));
}

/// Brings an item; says whether it has arrived.
fn produce(worker: &Worker, rng: &mut Rng) -> bool {
    let Some(context) = worker.context(rng) else { return false };
    let world = Arc::clone(&worker.world);
    let all = rng.one_in(3);
    let task: JoinHandle<()> = context.spawn(async move {
        *world.items.lock().await += 1;
        if all {
            world.filled.wake_all();
        } else {
            world.filled.wake_one();
        }
    });
    drop(context);
    block_on(task).is_ok()
}

/// Alone under the mutex.
pub(super) async fn mutex(world: &World, rng: &mut Rng) {
    let guard = world.mutex.lock().await;
    let visit = guard.enter(true);
    stay(rng).await;
    drop(visit);
    drop(guard);
    Op::Mutex.count();
}

/// Among readers.
pub(super) async fn read(world: &World, rng: &mut Rng) {
    let guard = world.rwlock.read().await;
    let visit = guard.enter(false);
    stay(rng).await;
    drop(visit);
    drop(guard);
    Op::Read.count();
}

/// Alone under the lock that others share.
pub(super) async fn write(world: &World, rng: &mut Rng) {
    let guard = world.rwlock.write().await;
    let visit = guard.enter(true);
    stay(rng).await;
    drop(visit);
    drop(guard);
    Op::Write.count();
}

/// Permits that are in use; given back before the semaphore gets them.
struct InUse<'a>(&'a World, u64);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.permits.subtract(self.1);
    }
}

/// Never more than there are permits.
pub(super) async fn permits(world: &World, rng: &mut Rng) {
    let n_permits = 1 + rng.below(PERMITS);
    let permit = world.semaphore.acquire(usize::try_from(n_permits).expect("a small number")).await;
    let in_use = InUse(world, n_permits);
    let before = world.permits.add(n_permits);
    assert!(before + n_permits <= PERMITS, "{before} permits were in use, and {n_permits} more were given");
    stay(rng).await;
    drop(in_use);
    drop(permit);
    Op::Permits.count();
}

/// Lets others come to the lock meanwhile.
async fn stay(rng: &mut Rng) {
    for _ in 0..rng.below(4) {
        yield_now().await;
        rng.dawdle(500);
    }
}
