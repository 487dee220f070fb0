//! RCU: readers, writers and the thread that frees.

use std::hint::spin_loop;

use qemu_util::rcu;

use super::Worker;
use crate::ledger::Canary;
use crate::promise::promise;
use crate::rng::Rng;

/// What was read under a guard lives as long as the guard.
pub(super) fn read(worker: &mut Worker, rng: &mut Rng) {
    let outer = rcu::read_lock();
    let cell = &worker.world.cells[rng.index(worker.world.cells.len())];
    let seen = cell.read(&outer);
    for _ in 0..rng.below(20) {
        seen.check();
        let inner = rcu::read_lock();
        cell.read(&inner).check();
        (0..rng.below(500)).for_each(|_| spin_loop());
    }
    if rng.one_in(8) {
        // Long enough for others to run in between.
        std::thread::yield_now();
    }
    seen.check();
}

/// The value is replaced and freed by somebody else.
pub(super) fn replace(worker: &mut Worker, rng: &mut Rng) {
    worker.world.cells[rng.index(worker.world.cells.len())].replace(Canary::new());
}

/// The value is replaced and comes back when no reader uses it any more.
pub(super) fn wait(worker: &mut Worker, rng: &mut Rng) {
    if rng.one_in(2) {
        rcu::synchronize();
    } else {
        worker.world.cells[rng.index(worker.world.cells.len())].replace_and_wait(Canary::new()).check();
    }
}

/// A function is called after a grace period, by a thread that may be asleep.
pub(super) fn call(_: &mut Worker, rng: &mut Rng) {
    let (promise, answer) = promise();
    rcu::call_rcu(move || promise.keep());
    if rng.one_in(4) {
        assert!(answer.wait(), "call_rcu has dropped a function");
    }
}

/// All functions have been called.
pub(super) fn drain(_: &mut Worker, _: &mut Rng) {
    let (promise, answer) = promise();
    rcu::call_rcu(move || promise.keep());
    rcu::drain_call_rcu();
    assert!(answer.wait(), "drain_call_rcu has left a function behind");
}
