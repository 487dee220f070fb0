//! Tasks that do random things one after the other, are joined, aborted or left alone.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use qemu_util::aio::AioContext;
use qemu_util::primitive::Arc;
use qemu_util::task::{JoinHandle, yield_now};

use super::{Worker, disk, locks};
use crate::counts::Op;
use crate::ledger::Token;
use crate::promise::{block_on, promise};
use crate::rng::Rng;
use crate::world::World;

/// How deep tasks spawn tasks.
const DEPTH_MAX: u32 = 3;

/// Starts a task in one of the contexts; what it yields is still alive then.
fn spawn(world: &Arc<World>, rng: &mut Rng, depth: u32) -> Option<JoinHandle<Token>> {
    let context = world.context(rng)?;
    let (world, mut rng) = (Arc::clone(world), rng.fork());
    Some(context.spawn(async move {
        let token = Token::new();
        for _ in 0..1 + rng.below(4) {
            step(&world, &mut rng, depth).await;
        }
        token
    }))
}

/// A task ends, or is gone with its context.
pub(super) fn join(worker: &mut Worker, rng: &mut Rng) {
    let tasks: Vec<_> = (0..1 + rng.below(4)).filter_map(|_| spawn(&worker.world, rng, 0)).collect();
    for task in tasks {
        drop(block_on(task));
        worker.actor.beat();
    }
}

/// A task is aborted wherever it is, by us or by somebody in another context, and joined.
pub(super) fn abort(worker: &mut Worker, rng: &mut Rng) {
    let Some(task) = spawn(&worker.world, rng, 0) else { return };
    rng.dawdle(20_000);
    let task = Arc::new(task);
    if rng.one_in(2)
        && let Some(context) = worker.context(rng)
    {
        let (theirs, (promise, answer)) = (Arc::clone(&task), promise());
        context.schedule_oneshot(move || {
            theirs.abort();
            drop(theirs);
            promise.keep();
        });
        drop(context);
        answer.wait();
    }
    task.abort();
    let task = Arc::into_inner(task);
    drop(block_on(task.expect("the other one is dropped before it answers")));
}

/// Nobody waits for the task.
pub(super) fn detach(worker: &mut Worker, rng: &mut Rng) {
    drop(spawn(&worker.world, rng, 0));
}

/// One thing that a task does.
fn step<'a>(world: &'a Arc<World>, rng: &'a mut Rng, depth: u32) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    let here = || AioContext::current().expect("a task runs in its loop");
    Box::pin(async move {
        match rng.below(11) {
            0 | 1 => {
                yield_now().await;
                Op::Yield.count();
            }
            2 => {
                let sleep = here().sleep(Duration::from_micros(rng.below(300)));
                sleep.await;
                Op::Sleep.count();
            }
            3 => locks::mutex(world, rng).await,
            4 => locks::read(world, rng).await,
            5 => locks::write(world, rng).await,
            6 => locks::permits(world, rng).await,
            7 if depth < DEPTH_MAX => {
                if let Some(task) = spawn(world, rng, depth + 1) {
                    drop(task.await);
                    Op::Hop.count();
                }
            }
            8 => {
                here().poll(false);
                Op::Nested.count();
            }
            9 => nested_block(&here(), rng),
            _ => {
                let pool = world.pool.lock().clone();
                let mut theirs = rng.fork();
                pool.run(move || theirs.dawdle(3000)).await;
                disk::look(world, rng).await;
            }
        }
    })
}

/// Waits, inside a task, for another task of the same context.
fn nested_block(here: &AioContext, rng: &mut Rng) {
    let mut theirs = rng.fork();
    let token = Token::new();
    let task = here.spawn(async move {
        for _ in 0..theirs.below(3) {
            yield_now().await;
        }
        token
    });
    // Others may end our own context meanwhile only after we have returned to it: it is joined.
    assert!(here.block_on(task).is_ok(), "a task of the context that we are in was dropped");
    Op::NestedBlock.count();
}
