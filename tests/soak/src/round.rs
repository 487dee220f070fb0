//! A round in which everything is mixed: from nothing to nothing, and all accounts come out even.

use std::thread;

use qemu_util::primitive::Arc;
use qemu_util::rcu;

use crate::board::Actor;
use crate::rng::Rng;
use crate::world::{Plan, World};
use crate::{home, ledger, ops};

/// Runs the round; panics when an invariant does not hold.
pub(crate) fn run(seed: u64, round: u64) {
    let mut rng = Rng::of(seed, round, 0);
    let plan = Plan::draw(&mut rng);
    let world = Arc::new(World::new(&plan, &mut rng));
    thread::scope(|scope| {
        let homes: Vec<_> = (0..plan.n_homes)
            .map(|index| {
                let (world, rng) = (Arc::clone(&world), Rng::of(seed, round, 1000 + index as u64));
                spawn(scope, format!("home {index}"), move || home::live(&world.slots[index], rng))
            })
            .collect();
        let workers: Vec<_> = (0..plan.n_workers)
            .map(|index| {
                let name = format!("round {round} worker {index}");
                let rng = Rng::of(seed, round, 2000 + index as u64);
                let mut worker = ops::Worker::new(Arc::clone(&world), index, rng, Actor::new(name));
                let n_steps = plan.n_steps;
                spawn(scope, format!("worker {index}"), move || (0..n_steps).for_each(|_| worker.step()))
            })
            .collect();
        let closing = Actor::new(format!("round {round} end"));
        // The workers are watched one by one; this one only waits for them.
        for worker in workers {
            while !worker.is_finished() {
                closing.beat();
                thread::park_timeout(std::time::Duration::from_millis(5));
            }
        }
        closing.does("waits for the event loops to end");
        world.slots.iter().for_each(crate::world::Slot::close);
        homes.into_iter().for_each(|home| home.join().expect("a panic ends the process"));
    });
    settle(&world, round);
    // Futures that were dropped with their context, and handlers that RCU keeps a little longer, own handles as well.
    assert_eq!(Arc::strong_count(&world), 1, "somebody still owns the world");
    drop(world);
    rcu::drain_call_rcu();
    ledger::check();
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: String,
    body: impl FnOnce() + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, ()> {
    thread::Builder::new().name(name).spawn_scoped(scope, body).expect("the kernel has threads")
}

/// Ends what runs by itself, and compares what is counted in pairs.
fn settle(world: &World, round: u64) {
    let actor = Actor::new(format!("round {round} settles"));
    actor.does("shuts the pool down");
    world.pool.lock().shutdown();
    actor.does("drains RCU");
    world.bhs.lock().clear();
    rcu::drain_call_rcu();
    assert_eq!(world.permits.get(), 0, "permits are in use and nobody has them");
    assert_eq!(world.semaphore.available() as u64, crate::world::PERMITS, "permits were lost or found");
    assert!(world.mutex.try_lock().is_some(), "a mutex is held by nobody");
    assert!(world.rwlock.try_write().is_some(), "a lock is held by nobody");
    let (scheduled, called) = (world.bhs_scheduled.get(), world.bhs_called.get());
    assert!(called <= scheduled, "{called} calls of bottom halves that were scheduled {scheduled} times");
}
