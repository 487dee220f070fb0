//! Everything that threads share, from one place: std's in a shipped build, loom's models under the cfg `qemu_loom`.
//!
//! No other module of the workspace names `std::sync::atomic`, `std::cell::UnsafeCell`, `std::sync::Mutex`,
//! `std::sync::Condvar` or `std::thread` for code that a model shall cover, so that the code that is model-checked is
//! the code that ships. The cfg is our own because a global `--cfg loom` would also switch every dependency.
//!
//! | item | std | loom |
//! |---|---|---|
//! | [`atomic`] | `core::sync::atomic` | `loom::sync::atomic` |
//! | [`UnsafeCell`] | a zero-cost wrapper | detects concurrent access |
//! | [`Mutex`], [`Condvar`] | without poisoning | without poisoning; the model says when a wait times out |
//! | [`thread`], [`hint`] | `std` | `loom`; a spin hint yields |
//! | [`clock`] | `std` | each look at the clock takes a fixed time |
//! | [`Arc`], [`Weak`], [`OnceLock`] | `std` | `std`: reference counts are not part of any model |
//!
//! The cfg `qemu_shuttle` replaces the locks alone, by shuttle's: the locks for tasks, which need nothing else, are tested
//! with it under many random schedules. Shuttle knows sequentially consistent schedules only, so that it says nothing
//! about memory orderings.
//!
//! Store→load ordering is always written with `fence(SeqCst)`: loom treats `SeqCst` accesses as `AcqRel`, but models
//! the fence.

pub use std::sync::{Arc, OnceLock, Weak};

/// Atomic integers, pointers and fences.
pub mod atomic {
    #[cfg(qemu_loom)]
    pub use loom::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    #[cfg(not(qemu_loom))]
    pub use std::sync::atomic::{
        AtomicBool, AtomicI64, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
    };
}

/// Hints to the processor.
pub mod hint {
    #[cfg(qemu_loom)]
    pub use loom::hint::spin_loop;
    #[cfg(not(qemu_loom))]
    pub use std::hint::spin_loop;
}

/// The time, for code that waits for it to pass.
pub mod clock {
    #[cfg(qemu_loom)]
    pub use model::Instant;
    #[cfg(not(qemu_loom))]
    pub use std::time::Instant;

    #[cfg(qemu_loom)]
    mod model {
        use std::cell::Cell;
        use std::time::Duration;

        /// How long a look at the clock takes.
        const LOOK: Duration = Duration::from_micros(3);

        loom::thread_local! {
            /// How often the thread has looked: the time, which is thereby the same whenever an execution is repeated.
            static LOOKS: Cell<u32> = Cell::new(0);
        }

        /// A point in the time of one thread.
        #[derive(Clone, Copy, Debug)]
        pub struct Instant(u32);

        impl Instant {
            /// The present.
            pub fn now() -> Self {
                LOOKS.with(|looks| {
                    looks.set(looks.get() + 1);
                    Self(looks.get())
                })
            }

            /// How long ago this was.
            pub fn elapsed(&self) -> Duration {
                LOOK * (Self::now().0 - self.0)
            }
        }
    }
}

/// A number that nobody else in the process has got from here; never 0. Not part of any model.
pub fn unique_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Ordering: Relaxed; only uniqueness matters, and the read-modify-write alone gives it.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Threads.
pub mod thread {
    #[cfg(qemu_loom)]
    pub use loom::thread::{Builder, JoinHandle, ThreadId, current, spawn, yield_now};
    #[cfg(not(qemu_loom))]
    pub use std::thread::{Builder, JoinHandle, ThreadId, current, spawn, yield_now};

    /// A number that no other thread of the process has or had; never 0.
    ///
    /// It can be asked for even while the thread's locals are being destroyed.
    #[cfg(not(qemu_loom))]
    #[inline]
    pub fn token() -> u64 {
        std::thread_local! {
            static TOKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
        }
        TOKEN.with(|token| match token.get() {
            0 => {
                token.set(fresh_token());
                token.get()
            }
            known => known,
        })
    }

    /// A number that no other thread of the model has or had; never 0.
    #[cfg(qemu_loom)]
    pub fn token() -> u64 {
        loom::thread_local! {
            static TOKEN: u64 = fresh_token();
        }
        TOKEN.with(|token| *token)
    }

    #[cold]
    fn fresh_token() -> u64 {
        super::unique_number()
    }
}

#[cfg(qemu_loom)]
pub use loom::thread_local;
#[cfg(not(qemu_loom))]
pub use std::thread_local;

/// The guard of a [`Mutex`].
pub type MutexGuard<'a, T> = imp::MutexGuard<'a, T>;

#[cfg(qemu_loom)]
use loom::sync as imp;
#[cfg(qemu_shuttle)]
use shuttle::sync as imp;
#[cfg(not(any(qemu_loom, qemu_shuttle)))]
use std::sync as imp;

/// A mutual exclusion lock that does not poison: a panic under the lock leaves the data as it is.
///
/// Every critical section in this workspace keeps its data consistent at each point where it can panic.
#[derive(Debug, Default)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A new, unlocked mutex.
    #[cfg(not(qemu_loom))]
    pub const fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// A new, unlocked mutex.
    #[cfg(qemu_loom)]
    pub fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    /// Blocks the thread until the lock is held.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(imp_poison)
    }

    /// The lock, if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// The value; no lock is needed because the borrow is exclusive.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(imp_poison)
    }
}

fn imp_poison<G>(poisoned: std::sync::PoisonError<G>) -> G {
    poisoned.into_inner()
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(
    imp::Condvar,
    /// Somebody's time has run out, and nobody has reported it yet.
    #[cfg(qemu_loom)]
    atomic::AtomicBool,
);

impl Condvar {
    /// A condition variable without waiters.
    #[cfg(not(qemu_loom))]
    pub const fn new() -> Self {
        Self(imp::Condvar::new())
    }

    /// A condition variable without waiters.
    #[cfg(qemu_loom)]
    pub fn new() -> Self {
        Self(imp::Condvar::new(), atomic::AtomicBool::new(false))
    }

    /// Releases the lock, waits for a notification and takes the lock again; may return without a reason.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(imp_poison)
    }

    /// As [`wait`](Self::wait), for `timeout` at most; the flag says whether the time ran out.
    #[cfg(not(qemu_loom))]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: std::time::Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, result) = self.0.wait_timeout(guard, timeout).unwrap_or_else(imp_poison);
        (guard, result.timed_out())
    }

    /// As [`wait`](Self::wait), until [`run_out_of_time`](Self::run_out_of_time) is called at most.
    #[cfg(qemu_loom)]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: std::time::Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let guard = self.wait(guard);
        // Ordering: Relaxed; time orders nothing.
        (guard, self.1.swap(false, atomic::Ordering::Relaxed))
    }

    /// The time of the waiters has run out. A model calls this from a thread of its own, so that it happens at any point.
    ///
    /// One of those who wait says so when it returns, the others return without a reason. If nobody waits now it is the
    /// next one to return: a notification that comes at the same moment as the end of the time may go unnoticed.
    #[cfg(qemu_loom)]
    pub fn run_out_of_time(&self) {
        // Ordering: Relaxed; time orders nothing.
        self.1.store(true, atomic::Ordering::Relaxed);
        self.notify_all();
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Interior mutability whose exclusion is proven by the code around it; loom checks the proof.
#[cfg(not(qemu_loom))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(qemu_loom))]
impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Lends a pointer for reading. Dereferencing it is sound while nobody writes.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Lends a pointer for writing. Dereferencing it is sound while nobody else reads or writes.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

#[cfg(qemu_loom)]
pub use loom::cell::UnsafeCell;

/// A value on cache lines of its own, so that its writers do not slow down the readers of its neighbours.
///
/// 128 bytes: two lines of x86 (its prefetcher fetches pairs) and one line of the larger arm64 cores.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CachePadded<T>(pub T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
