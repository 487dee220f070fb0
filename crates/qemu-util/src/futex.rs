//! A word that threads can sleep on; nothing else in the workspace calls the `futex` system call.
//!
//! Under loom the kernel's queue becomes a mutex and a condition variable. What the model keeps is what the protocols
//! rely on: the comparison and the enqueueing are one step with respect to [`Futex::wake_all`], and both sides order
//! memory as a full barrier would. Time is a thread of its own: it runs out at any point, or after everything else.

#[cfg(not(qemu_loom))]
use std::time::Duration;

use crate::primitive::atomic::AtomicU32;

/// Why [`Futex::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A wake-up, a signal, a value that differed from the expected one, or no reason at all: look again.
    Maybe,
    /// The time ran out.
    TimedOut,
}

/// A 32-bit word with the kernel's wait queue behind it.
///
/// ```
/// use qemu_util::futex::Futex;
/// use std::sync::atomic::Ordering;
///
/// let futex = Futex::new(0);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         futex.word().store(1, Ordering::Release);
///         futex.wake_all();
///     });
///     while futex.word().load(Ordering::Acquire) == 0 {
///         futex.wait(0, None);
///     }
/// });
/// ```
///
/// QEMU: `qemu_futex_wait`, `qemu_futex_wake_all` (include/qemu/futex.h)
#[derive(Debug)]
pub struct Futex {
    word: AtomicU32,
    #[cfg(qemu_loom)]
    queue: model::Queue,
}

impl Futex {
    /// A futex that holds `value`.
    #[cfg(not(qemu_loom))]
    pub const fn new(value: u32) -> Self {
        Self { word: AtomicU32::new(value) }
    }

    /// A futex that holds `value`.
    #[cfg(qemu_loom)]
    pub fn new(value: u32) -> Self {
        Self { word: AtomicU32::new(value), queue: model::Queue::default() }
    }

    /// The word itself; its users choose and justify the orderings.
    #[inline]
    pub fn word(&self) -> &AtomicU32 {
        &self.word
    }
}

#[cfg(not(qemu_loom))]
impl Futex {
    /// Sleeps while the word holds `expected`, for `timeout` at most.
    ///
    /// Memory ordering: the kernel reads the word after a full barrier and under the lock of its queue, so that a
    /// change of the word followed by [`wake_all`](Self::wake_all) is either seen here or wakes us.
    pub fn wait(&self, expected: u32, timeout: Option<Duration>) -> Woken {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        });
        let timeout_ptr = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: FUTEX_WAIT reads the 32-bit word and the timespec.
        // - the word is borrowed for the whole call and is aligned as AtomicU32 is;
        // - the timespec is null or points to a local that outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                expected,
                timeout_ptr,
            )
        };
        if result == -1 && nix::errno::Errno::last() == nix::errno::Errno::ETIMEDOUT {
            Woken::TimedOut
        } else {
            Woken::Maybe
        }
    }

    /// Wakes every thread that sleeps in [`wait`](Self::wait).
    ///
    /// Memory ordering: a full barrier before the queue is looked at.
    pub fn wake_all(&self) {
        // SAFETY: FUTEX_WAKE uses the address as a key only and does not access memory through it.
        let _woken = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                libc::c_int::MAX,
            )
        };
    }
}

#[cfg(qemu_loom)]
mod model;

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use super::*;
    use crate::primitive::atomic::Ordering;

    #[test]
    fn a_different_value_does_not_sleep() {
        assert_eq!(Futex::new(1).wait(2, None), Woken::Maybe);
    }

    #[test]
    fn time_runs_out() {
        assert_eq!(Futex::new(1).wait(1, Some(Duration::from_millis(1))), Woken::TimedOut);
    }

    #[test]
    fn a_change_followed_by_a_wake_is_never_missed() {
        let futex = Futex::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Ordering: Relaxed in this test; the futex itself orders the word.
                while futex.word().load(Ordering::Relaxed) == 0 {
                    futex.wait(0, None);
                }
            });
            futex.word().store(1, Ordering::Relaxed);
            futex.wake_all();
        });
    }
}
