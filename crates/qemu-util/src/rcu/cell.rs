//! A value that readers read in place while writers replace it.

use std::marker::PhantomData;

use super::{RcuGuard, call_rcu, synchronize};
use crate::mutant::{Mutant, unless};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicPtr, Ordering};

/// A value behind a pointer that is replaced as a whole. Reading costs one load.
///
/// Writers that derive the new value from the old one take a lock of their own.
///
/// QEMU: `qatomic_rcu_read`, `qatomic_rcu_set` (include/qemu/atomic.h)
pub struct RcuCell<T> {
    /// From `Box::into_raw`; never null.
    value: AtomicPtr<T>,
    /// Shared by readers, and sent to whoever drops it: `Send` and `Sync` as an `Arc` is.
    _shared: PhantomData<Arc<T>>,
}

impl<T> RcuCell<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self { value: AtomicPtr::new(Box::into_raw(Box::new(value))), _shared: PhantomData }
    }

    /// The value; it stays as long as the guard lives.
    ///
    /// QEMU: `qatomic_rcu_read` (include/qemu/atomic.h)
    #[inline]
    pub fn read<'a>(&'a self, _guard: &'a RcuGuard) -> &'a T {
        // Ordering: Acquire; what the writer put behind the pointer is visible. [pair: rcu.publish-read]
        let acquire = unless(Mutant::RcuReadWithoutAcquire, Ordering::Acquire, Ordering::Relaxed);
        let value = self.value.load(acquire);
        // SAFETY: the pointer comes from `Box::into_raw`.
        // - it is freed only a grace period after it was replaced, and the guard's section began before that is over,
        //   or by `drop`, which the borrow of the cell excludes;
        // - nobody writes through it meanwhile.
        unsafe { &*value }
    }

    /// Puts `value` in, and returns the old one's address, which readers may still be using.
    fn publish(&self, value: T) -> *mut T {
        let new = Box::into_raw(Box::new(value));
        // Ordering: AcqRel; Release: the new value before its pointer; Acquire: the old value, which another thread
        // may have put in, is going to be dropped by us. [pair: rcu.publish-read]
        let ordering = unless(Mutant::RcuReplaceWithoutRelease, Ordering::AcqRel, Ordering::Acquire);
        self.value.swap(new, unless(Mutant::RcuReplaceWithoutAcquire, ordering, Ordering::Release))
    }

    /// Puts `value` in and returns the old one, after waiting until no reader uses it.
    ///
    /// # Panics
    /// As [`synchronize`]; the value is put in, and the old one is leaked.
    pub fn replace_and_wait(&self, value: T) -> T {
        let old = self.publish(value);
        synchronize();
        // SAFETY: the pointer comes from `Box::into_raw`; the swap made it ours alone, and the grace period has ended
        // all sections in which it was read.
        let old = unsafe { Box::from_raw(old) };
        *old
    }
}

impl<T: Send + Sync + 'static> RcuCell<T> {
    /// Puts `value` in and has the old one dropped, on another thread, when no reader uses it any more. Never blocks for
    /// that.
    pub fn replace(&self, value: T) {
        call_rcu(retire(self, value));
    }
}

/// Puts `value` in; the function, to be called after a grace period, frees the old one.
pub(crate) fn retire<T: Send + Sync + 'static>(cell: &RcuCell<T>, value: T) -> impl FnOnce() + Send + use<T> {
    let old = Retired(cell.publish(value));
    move || {
        // SAFETY: the only caller is `call_rcu`, after a grace period.
        unsafe { old.free() }
    }
}

/// A value that was taken out of its cell, to be freed after a grace period.
///
/// It has no destructor: when the function that holds it is dropped instead of called, by an unwinding queue for
/// instance, readers may still use the value, and leaking it is all that is sound.
struct Retired<T>(*mut T);

// SAFETY: it is the only owner of a value that may itself be sent.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Retired<T> {
    /// Frees the value.
    ///
    /// # Safety
    /// A grace period has passed since the value was replaced.
    unsafe fn free(self) {
        // SAFETY: the pointer comes from `Box::into_raw`, the swap made it ours alone, and that no reader is left is
        // the caller's promise.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl<T> Drop for RcuCell<T> {
    fn drop(&mut self) {
        // Ordering: Relaxed; the borrow is exclusive, whatever made it so has ordered the last swap.
        let value = self.value.load(Ordering::Relaxed);
        // SAFETY: the pointer comes from `Box::into_raw`, and no reader's borrow of the cell is alive.
        drop(unsafe { Box::from_raw(value) });
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for RcuCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RcuCell").field(self.read(&super::read_lock())).finish()
    }
}
