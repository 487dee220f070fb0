//! The file descriptor that wakes a sleeping loop; under loom a flag with a condition variable.

#[cfg(not(qemu_loom))]
mod imp {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::eventfd::{EfdFlags, EventFd as NixEventFd};

    /// An eventfd: readable from a [`signal`](Self::signal) until a [`drain`](Self::drain).
    ///
    /// QEMU: `EventNotifier` (util/event_notifier-posix.c)
    #[derive(Debug)]
    pub(crate) struct EventFd(NixEventFd);

    impl EventFd {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(NixEventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
        }

        /// Makes the descriptor readable.
        pub(crate) fn signal(&self) {
            // The only possible failure is a counter at its maximum, and then the descriptor is readable anyway.
            let _full = self.0.write(1);
        }

        /// Takes back all signals so far. Does not block.
        pub(crate) fn drain(&self) {
            // Nothing to read is fine: the signal may have been drained already.
            let _empty = self.0.read();
        }

        /// Whether the descriptor is readable now. Takes nothing, does not block.
        pub(crate) fn is_readable(&self) -> bool {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n_ready| n_ready > 0)
        }
    }

    impl AsFd for EventFd {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(qemu_loom)]
mod imp {
    use std::io;

    use crate::primitive::{Condvar, Mutex};

    /// The model: what the kernel promises is that a signal makes a present or later wait return.
    #[derive(Debug, Default)]
    pub(crate) struct EventFd {
        readable: Mutex<bool>,
        signalled: Condvar,
    }

    impl EventFd {
        #[expect(clippy::unnecessary_wraps, reason = "the signature of the real one")]
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        pub(crate) fn signal(&self) {
            *self.readable.lock() = true;
            self.signalled.notify_all();
        }

        pub(crate) fn drain(&self) {
            *self.readable.lock() = false;
        }

        /// Blocks until the descriptor is readable.
        pub(crate) fn wait(&self) {
            let mut readable = self.readable.lock();
            while !*readable {
                readable = self.signalled.wait(readable);
            }
        }

        /// Whether the descriptor is readable now.
        pub(crate) fn is_readable(&self) -> bool {
            *self.readable.lock()
        }
    }
}

pub(crate) use imp::EventFd;
