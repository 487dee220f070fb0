//! Shared or exclusive access between tasks.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use super::gate::{Gate, Policy};
use crate::primitive::UnsafeCell;

/// A lock that many readers or one writer hold, with the data that it protects.
///
/// It is fair: readers and writers are admitted in the order of their arrival, so that neither kind starves the other.
/// A reader that comes while a writer waits therefore waits too; a task that already reads must not read again, or it
/// may wait for itself. A panic under the lock releases it and does not poison it.
///
/// ```
/// use qemu_util::sync::{CoRwLock, CoRwLockWriteGuard};
///
/// let lock = CoRwLock::new(1);
/// {
///     let (first, second) = (lock.try_read().expect("free"), lock.try_read().expect("shared"));
///     assert_eq!(*first + *second, 2);
///     assert!(lock.try_write().is_none());
/// }
/// let mut writer = lock.try_write().expect("free");
/// *writer = 2;
/// let reader = CoRwLockWriteGuard::downgrade(writer);
/// assert_eq!(*reader, 2);
/// assert!(lock.try_read().is_some());
/// ```
///
/// QEMU: `CoRwlock` (util/qemu-coroutine-lock.c)
pub struct CoRwLock<T> {
    gate: Gate<Owners>,
    data: UnsafeCell<T>,
}

/// The right to read the data of a [`CoRwLock`].
#[must_use = "the lock is released when the guard is dropped"]
pub struct CoRwLockReadGuard<'a, T> {
    lock: &'a CoRwLock<T>,
    /// The guard is as good as a shared reference, also for `Send` and `Sync`.
    data: PhantomData<&'a T>,
}

/// The right to read and write the data of a [`CoRwLock`].
#[must_use = "the lock is released when the guard is dropped"]
pub struct CoRwLockWriteGuard<'a, T> {
    lock: &'a CoRwLock<T>,
    /// The guard is as good as an exclusive reference, also for `Send` and `Sync`.
    data: PhantomData<&'a mut T>,
}

/// Who is inside: readers and a writer exclude each other.
#[derive(Debug)]
struct Owners {
    n_readers: usize,
    writer: bool,
}

#[derive(Clone, Copy, Debug)]
enum Access {
    Read,
    Write,
}

impl Policy for Owners {
    type Request = Access;

    fn admit(&mut self, access: Access) -> bool {
        match access {
            Access::Read if !self.writer => {
                // Leaking guards is safe: a count that wrapped would let the writer in. Such a reader waits.
                let Some(n_readers) = self.n_readers.checked_add(1) else { return false };
                self.n_readers = n_readers;
            }
            Access::Write if !self.writer && self.n_readers == 0 => self.writer = true,
            Access::Read | Access::Write => return false,
        }
        true
    }

    fn leave(&mut self, access: Access) {
        match access {
            Access::Read => self.n_readers -= 1,
            Access::Write => self.writer = false,
        }
    }
}

// SAFETY: a shared lock gives out `&mut T` to one task at a time, on whichever thread (`T: Send`), and `&T` to many
// threads at once (`T: Sync`).
unsafe impl<T: Send + Sync> Sync for CoRwLock<T> {}

impl<T> CoRwLock<T> {
    /// A new, unlocked lock.
    pub fn new(data: T) -> Self {
        Self { gate: Gate::new(Owners { n_readers: 0, writer: false }), data: UnsafeCell::new(data) }
    }

    /// Waits for the turn and enters as a reader. Dropping the future gives the place or the lock to those behind.
    pub async fn read(&self) -> CoRwLockReadGuard<'_, T> {
        self.gate.enter(Access::Read).await;
        CoRwLockReadGuard { lock: self, data: PhantomData }
    }

    /// Waits for the turn and enters as the writer. Dropping the future gives the place or the lock to those behind.
    pub async fn write(&self) -> CoRwLockWriteGuard<'_, T> {
        self.gate.enter(Access::Write).await;
        CoRwLockWriteGuard { lock: self, data: PhantomData }
    }

    /// Enters as a reader if there is no writer and nobody waits.
    pub fn try_read(&self) -> Option<CoRwLockReadGuard<'_, T>> {
        self.gate.try_enter(Access::Read).then(|| CoRwLockReadGuard { lock: self, data: PhantomData })
    }

    /// Enters as the writer if nobody is inside or waits.
    pub fn try_write(&self) -> Option<CoRwLockWriteGuard<'_, T>> {
        self.gate.try_enter(Access::Write).then(|| CoRwLockWriteGuard { lock: self, data: PhantomData })
    }

    /// The data; the exclusive borrow proves that nobody is inside.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: `&mut self` excludes every guard, and the reference borrows it.
        self.data.with_mut(|data| unsafe { &mut *data })
    }

    /// Unwraps the data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: Default> Default for CoRwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for CoRwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_readers, writer) = self.gate.inspect(|owners| (owners.n_readers, owners.writer));
        f.debug_struct("CoRwLock").field("n_readers", &n_readers).field("writer", &writer).finish_non_exhaustive()
    }
}

impl<'a, T> CoRwLockWriteGuard<'a, T> {
    /// Turns the writer into a reader, with nobody in between; readers at the head of the line come in as well.
    ///
    /// Call it as `CoRwLockWriteGuard::downgrade(guard)`, so that it hides no method of the data.
    ///
    /// QEMU: `qemu_co_rwlock_downgrade` (util/qemu-coroutine-lock.c)
    pub fn downgrade(this: Self) -> CoRwLockReadGuard<'a, T> {
        // The writer does not leave, it changes its role: its destructor must not run.
        let lock = ManuallyDrop::new(this).lock;
        lock.gate.update(|owners| *owners = Owners { n_readers: 1, writer: false });
        CoRwLockReadGuard { lock, data: PhantomData }
    }
}

impl<T> Deref for CoRwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while a reader is inside, which keeps writers out; the reference borrows it.
        self.lock.data.with(|data| unsafe { &*data })
    }
}

impl<T> Deref for CoRwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists only while the writer is inside, alone; the reference borrows it.
        self.lock.data.with(|data| unsafe { &*data })
    }
}

impl<T> DerefMut for CoRwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; the exclusive borrow of the guard excludes other references to the data.
        self.lock.data.with_mut(|data| unsafe { &mut *data })
    }
}

impl<T> Drop for CoRwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.gate.leave(Access::Read);
    }
}

impl<T> Drop for CoRwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.gate.leave(Access::Write);
    }
}

impl<T: fmt::Debug> fmt::Debug for CoRwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for CoRwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_readers_does_not_wrap() {
        let mut owners = Owners { n_readers: usize::MAX - 1, writer: false };
        assert!(owners.admit(Access::Read));
        assert!(!owners.admit(Access::Read));
        assert!(!owners.admit(Access::Write));
        owners.leave(Access::Read);
        assert!(owners.admit(Access::Read));
    }
}
