//! What models look with: data that tells when it was accessed without an order, and marks that were reached.

use crate::primitive::atomic::Ordering;
use crate::primitive::{Arc, OnceLock, UnsafeCell};

/// For the data in models: the code under test orders it.
pub(crate) const RELAXED: Ordering = Ordering::Relaxed;

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
