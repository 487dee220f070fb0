//! The kernel's side under loom.

use std::time::Duration;

use super::{Futex, Woken};
use crate::mutant::{Mutant, is_on};
use crate::primitive::atomic::Ordering;
use crate::primitive::{Arc, Condvar, Mutex, thread};

/// The queue behind a word. Shared with the clocks, which are threads and may outlive the futex.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(Arc<Sleepers>);

#[derive(Debug, Default)]
struct Sleepers {
    /// The number of time-outs that are over.
    n_expired: Mutex<u32>,
    woken: Condvar,
}

impl Futex {
    /// Sleeps while the word holds `expected`. A time-out is over when the scheduler says so, however long it is.
    pub fn wait(&self, expected: u32, timeout: Option<Duration>) -> Woken {
        if is_on(Mutant::FutexComparesTooEarly) && self.holds(expected) {
            let n_expired = self.queue.0.n_expired.lock();
            drop(self.queue.0.woken.wait(n_expired));
            return Woken::Maybe;
        }
        let n_expired = self.queue.0.n_expired.lock();
        if !self.holds(expected) {
            return Woken::Maybe;
        }
        let before = *n_expired;
        if timeout.is_some() {
            self.queue.clone().start_clock();
        }
        let n_expired = self.queue.0.woken.wait(n_expired);
        if timeout.is_some() && *n_expired != before { Woken::TimedOut } else { Woken::Maybe }
    }

    /// Wakes every thread that sleeps in [`wait`](Self::wait).
    pub fn wake_all(&self) {
        let _n_expired = self.queue.0.n_expired.lock();
        self.queue.0.woken.notify_all();
    }

    fn holds(&self, expected: u32) -> bool {
        // Ordering: Relaxed; the lock orders this read against whoever changed the word and then woke.
        self.word.load(Ordering::Relaxed) == expected
    }
}

impl Queue {
    /// A thread that ends the waiting at any point that the scheduler likes.
    fn start_clock(self) {
        thread::spawn(move || {
            // The lock is held by the sleeper until it sleeps.
            *self.0.n_expired.lock() += 1;
            self.0.woken.notify_all();
        });
    }
}
