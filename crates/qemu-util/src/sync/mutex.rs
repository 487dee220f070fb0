//! Mutual exclusion between tasks.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::gate::{Gate, Policy};
use crate::primitive::UnsafeCell;

/// A lock that one task holds at a time, with the data that it protects; waiters get it in the order of their arrival.
///
/// It may be held across an `await`, on any thread. It is not recursive: a task that locks it twice waits for itself.
/// A panic under the lock releases it and does not poison it.
///
/// ```
/// use qemu_util::sync::CoMutex;
///
/// async fn count(total: &CoMutex<u64>) -> u64 {
///     let mut total = total.lock().await;
///     *total += 1;
///     *total
/// }
///
/// let total = CoMutex::new(41);
/// let mut counting = std::pin::pin!(count(&total));
/// let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// assert_eq!(counting.as_mut().poll(&mut context), std::task::Poll::Ready(42));
/// assert_eq!(*total.try_lock().expect("nobody holds it"), 42);
/// ```
///
/// QEMU: `CoMutex` (util/qemu-coroutine-lock.c)
pub struct CoMutex<T> {
    gate: Gate<Exclusive>,
    data: UnsafeCell<T>,
}

/// The right to use the data of a [`CoMutex`]; dropping it hands the lock to the next waiter.
#[must_use = "the lock is released when the guard is dropped"]
pub struct CoMutexGuard<'a, T> {
    mutex: &'a CoMutex<T>,
    /// The guard is as good as an exclusive reference, also for `Send` and `Sync`.
    data: PhantomData<&'a mut T>,
}

/// One at a time; the flag is whether somebody is inside.
struct Exclusive(bool);

impl Policy for Exclusive {
    type Request = ();

    fn admit(&mut self, (): ()) -> bool {
        !std::mem::replace(&mut self.0, true)
    }

    fn leave(&mut self, (): ()) {
        debug_assert!(self.0, "only the one inside leaves");
        self.0 = false;
    }
}

// SAFETY: a shared mutex gives out `&mut T` to one task at a time, on whichever thread: that is sending `T`, never
// sharing it.
unsafe impl<T: Send> Sync for CoMutex<T> {}

impl<T> CoMutex<T> {
    /// A new, unlocked mutex.
    pub fn new(data: T) -> Self {
        Self { gate: Gate::new(Exclusive(false)), data: UnsafeCell::new(data) }
    }

    /// Waits for the turn and takes the lock.
    ///
    /// The place in the line is taken by the first poll. Dropping the future gives the place, or the lock itself if it
    /// has been handed over in the meantime, to those behind.
    pub async fn lock(&self) -> CoMutexGuard<'_, T> {
        self.gate.enter(()).await;
        CoMutexGuard { mutex: self, data: PhantomData }
    }

    /// Takes the lock if nobody holds it or waits for it.
    pub fn try_lock(&self) -> Option<CoMutexGuard<'_, T>> {
        self.gate.try_enter(()).then(|| CoMutexGuard { mutex: self, data: PhantomData })
    }

    /// The data; the exclusive borrow proves that nobody holds the lock.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` excludes every guard, and the reference borrows it.
        self.data.with_mut(|data| unsafe { &mut *data })
    }

    /// Unwraps the data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: Default> Default for CoMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for CoMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locked = self.gate.inspect(|exclusive| exclusive.0);
        f.debug_struct("CoMutex").field("locked", &locked).finish_non_exhaustive()
    }
}

impl<'a, T> CoMutexGuard<'a, T> {
    /// The mutex that is locked. Call it as `CoMutexGuard::mutex(&guard)`, so that it hides no method of the data.
    #[must_use]
    pub fn mutex(this: &Self) -> &'a CoMutex<T> {
        this.mutex
    }
}

impl<T> Deref for CoMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while its owner is inside the gate, alone, and the reference borrows the guard.
        self.mutex.data.with(|data| unsafe { &*data })
    }
}

impl<T> DerefMut for CoMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; the exclusive borrow of the guard excludes other references to the data.
        self.mutex.data.with_mut(|data| unsafe { &mut *data })
    }
}

impl<T> Drop for CoMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.gate.leave(());
    }
}

impl<T: fmt::Debug> fmt::Debug for CoMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
