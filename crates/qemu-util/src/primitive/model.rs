//! How the models of this crate are run.
//!
//! | environment | effect |
//! |---|---|
//! | `LOOM_MAX_PREEMPTIONS=n` | every model is bounded by `n` preemptions |
//! | `QEMU_LOOM_FULL=1` | the bounded models get two preemptions more |
//! | `LOOM_MAX_BRANCHES=n` | how long one execution may be before it counts as an endless loop |
//!
//! A model is worth what it can fail at, so that each is run with mutants. One thing to know when it passes with one:
//! of the accesses to an object loom remembers the last, and turns round only that one and the next. In "A loads; B
//! loads; B stores" it does not see that A's load could come last. In the first execution, where the first thread runs
//! until it has to wait, that thread should therefore be the one that stores.

use super::atomic::Ordering;
use super::{Arc, OnceLock, UnsafeCell};

/// For the data in models: the code under test orders it.
pub(crate) const RELAXED: Ordering = Ordering::Relaxed;

/// Branches of one execution; loom's own limit is too small for models in which three threads sleep and wake.
const MAX_BRANCHES: usize = 5_000;

/// Explores every execution of `check`: for models of two threads, and the smaller ones of three.
pub(crate) fn model(check: impl Fn() + Sync + Send + 'static) {
    explore(None, check);
}

/// Explores the executions of `check` in which at most `preemptions` times a thread is stopped that could go on.
///
/// 3 is enough for every defect that is known here, and 2 is not.
pub(crate) fn bounded_model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let more = if std::env::var_os("QEMU_LOOM_FULL").is_some_and(|full| full == "1") { 2 } else { 0 };
    explore(Some(preemptions + more), check);
}

fn explore(preemptions: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = MAX_BRANCHES;
    }
    builder.check(check);
}

/// Remembers, across all executions, that one of them came to some point: a model that never gets there shows nothing.
#[derive(Clone)]
pub(crate) struct Reached(Arc<OnceLock<()>>);

pub(crate) fn reached() -> Reached {
    Reached(Arc::new(OnceLock::new()))
}

impl Reached {
    pub(crate) fn note(&self) {
        self.0.get_or_init(|| ());
    }

    pub(crate) fn was_noted(&self) -> bool {
        self.0.get().is_some()
    }
}

/// A value whose accesses loom checks: two threads that come together at it without an order between them are reported,
/// also when one of them drops it.
pub(crate) struct Checked(UnsafeCell<u32>);

// SAFETY: the models access the cell as the code under test permits, and loom reports when that was too much.
unsafe impl Send for Checked {}
// SAFETY: as for `Send`.
unsafe impl Sync for Checked {}

impl Checked {
    pub(crate) fn new(value: u32) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: loom ends the execution when somebody else may write.
        self.0.with(|value| unsafe { *value })
    }

    pub(crate) fn set(&self, new: u32) {
        // SAFETY: loom ends the execution when somebody else may read or write.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        // The end of the value counts as a write. While a failed execution is unwound there is nothing to check.
        if !std::thread::panicking() {
            self.set(u32::MAX);
        }
    }
}
