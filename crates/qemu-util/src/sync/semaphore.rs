//! A bounded number of permits.

use std::fmt;
use std::mem;

use super::gate::{Gate, Policy};

/// Permits that tasks take and give back, for instance to bound the requests or the bytes in flight.
///
/// It is fair: requests are served in the order of their arrival. One that asks for many permits is not overtaken by
/// later ones that ask for few; the permits that come back are kept for it. One that asks for more than there ever are
/// waits for ever, together with all behind it.
///
/// ```
/// use qemu_util::sync::Semaphore;
///
/// let semaphore = Semaphore::new(3);
/// let permit = semaphore.try_acquire(2).expect("two of three");
/// assert!(semaphore.try_acquire(2).is_none());
/// drop(permit);
/// assert_eq!(semaphore.available(), 3);
/// ```
pub struct Semaphore {
    gate: Gate<Permits>,
}

/// Permits that were taken together; dropping it gives them back.
#[must_use = "the permits are given back when this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    n_permits: usize,
}

/// The number of permits that nobody holds.
struct Permits(usize);

impl Policy for Permits {
    type Request = usize;

    fn admit(&mut self, n_permits: usize) -> bool {
        let left = self.0.checked_sub(n_permits);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    fn leave(&mut self, n_permits: usize) {
        self.0 = self.0.saturating_add(n_permits);
    }
}

impl Semaphore {
    /// A semaphore with this number of permits.
    #[must_use]
    pub fn new(n_permits: usize) -> Self {
        Self { gate: Gate::new(Permits(n_permits)) }
    }

    /// Waits for the turn and takes `n_permits` at once.
    ///
    /// The place in the line is taken by the first poll. Dropping the future gives the place, or the permits if they
    /// have been assigned in the meantime, to those behind. Even a request for nothing waits for those before it.
    pub async fn acquire(&self, n_permits: usize) -> SemaphorePermit<'_> {
        self.gate.enter(n_permits).await;
        SemaphorePermit { semaphore: self, n_permits }
    }

    /// Takes `n_permits` if there are enough and nobody waits.
    pub fn try_acquire(&self, n_permits: usize) -> Option<SemaphorePermit<'_>> {
        self.gate.try_enter(n_permits).then(|| SemaphorePermit { semaphore: self, n_permits })
    }

    /// Adds permits, up to `usize::MAX` in all, and serves whoever can be served now.
    pub fn add_permits(&self, n_permits: usize) {
        self.gate.leave(n_permits);
    }

    /// The number of permits that nobody holds. It may have changed by the time it is looked at.
    #[must_use]
    pub fn available(&self) -> usize {
        self.gate.inspect(|permits| permits.0)
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl SemaphorePermit<'_> {
    /// The number of permits held.
    #[must_use]
    pub fn n_permits(&self) -> usize {
        self.n_permits
    }

    /// Keeps the permits from coming back by themselves; [`Semaphore::add_permits`] may give them back later.
    ///
    /// For permits that travel with something that cannot borrow the semaphore.
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        self.semaphore.gate.leave(self.n_permits);
    }
}

impl fmt::Debug for SemaphorePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit").field("n_permits", &self.n_permits).finish_non_exhaustive()
    }
}
