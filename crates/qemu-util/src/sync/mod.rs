//! Locks for tasks: waiting suspends the future, never the thread.
//!
//! | type | for | QEMU |
//! |---|---|---|
//! | [`CoMutex`] | one owner at a time, data inside | `CoMutex` |
//! | [`CoRwLock`] | many readers or one writer, data inside | `CoRwlock` |
//! | [`Semaphore`] | a bounded number of permits | `CoMutex` and a counter by hand |
//! | [`CoQueue`] | waiting for a condition that a lock protects | `CoQueue` |
//! | [`oneshot`] | one value from one task or thread to another | a field and `aio_co_wake` |
//!
//! They know wakers and nothing else, so that they work in any executor and between executors; all of them and their
//! futures are `Send` and `Sync` when what they protect allows it.
//!
//! # The hand-off protocol
//!
//! Each object keeps its state and its line of waiters under one internal mutex. These rules hold everywhere:
//!
//! 1. *First come, first served.* Whoever is not admitted at once joins the end of the line; nobody overtakes the line,
//!    not even `try_lock`.
//! 2. *Hand-off.* Whoever releases something admits the waiters that now may enter: it takes them out of the line and
//!    changes the state on their behalf, under the internal mutex. A waiter that is no longer in the line *owns* what it
//!    asked for, before it runs again. Hence the lock is never seen free while somebody waits for it.
//! 3. *Dropped waiters hand on.* A future that is dropped while in the line leaves it, and those behind it are looked at
//!    again; one that was admitted without noticing releases what it owns. No turn is lost.
//! 4. *No foreign code under the internal mutex.* Wakers are cloned before it is taken; they are woken, and stale
//!    ones dropped, after it is released: either may run an executor, or drop a task that holds or awaits this very
//!    lock. A waker that panics is contained, so that the others of its batch are woken all the same.
//! 5. *No lost wake-up.* A waiter joins the line, or replaces its waker, under the internal mutex, and is admitted
//!    under it: an admission either precedes the poll, which then sees it, or finds the waker of that poll.
//!
//! What one owner wrote is visible to the next: the internal mutex is released by the one who hands over and acquired
//! by the one who receives.
//!
//! # Why a blocking mutex inside
//!
//! It is held for some dozen instructions, never across I/O, a wake-up or user code, so that a thread blocks only as
//! long as another thread needs to change a few words. In exchange there is no lock-free list and no memory ordering
//! to prove here, cancellation in the middle of the line is simple, and the path without contention allocates nothing.
//!
//! # Lock order
//!
//! The internal mutexes are leaves: while one is held no other lock is taken, so that they cannot take part in a
//! deadlock. The order of the locks themselves is up to their users.

mod gate;
mod mutex;
pub mod oneshot;
mod queue;
mod rwlock;
mod semaphore;
mod waiters;

pub use mutex::{CoMutex, CoMutexGuard};
pub use queue::{CoQueue, QueueWait};
pub use rwlock::{CoRwLock, CoRwLockReadGuard, CoRwLockWriteGuard};
pub use semaphore::{Semaphore, SemaphorePermit};

#[cfg(all(test, qemu_loom))]
pub(crate) mod loom_tests;
#[cfg(all(test, qemu_shuttle))]
mod shuttle_tests;
#[cfg(all(test, not(any(qemu_loom, qemu_shuttle))))]
mod tests;
