//! Worker pools that lose their threads all the time.

use super::Worker;
use crate::ledger::Token;
use crate::promise::{block_on, promise};
use crate::rng::Rng;

/// A job is run, whether its future is awaited or not.
pub(super) fn job(worker: &mut Worker, rng: &mut Rng) {
    let pool = worker.world.pool.lock().clone();
    let (promise, answer) = promise();
    let mut theirs = rng.fork();
    let future = pool.run(move || {
        theirs.dawdle(5000);
        promise.keep();
        Token::new()
    });
    if rng.one_in(3) {
        drop(future);
    } else {
        drop(block_on(future));
    }
    assert!(answer.wait(), "the pool has dropped a job");
}

/// The pool finishes what it has, and there is another one.
pub(super) fn shut_down(worker: &mut Worker, rng: &mut Rng) {
    let old = worker.world.replace_pool(rng);
    if rng.one_in(2) {
        old.shutdown();
    }
}
