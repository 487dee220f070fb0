//! Waiting for a descriptor, for some time, unless somebody has had enough.
//!
//! Whoever connects to a server does so on a thread of its own, which the user of the node cannot reach. The thread
//! therefore never waits in a system call that only the server can end: it waits here, for the server, for a deadline,
//! and for [`Cancel::fire`], whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Something that ends all waits, from then on.
#[derive(Debug)]
pub(crate) struct Cancel {
    /// Never read, so that it stays readable once it was fired.
    event: EventFd,
}

impl Cancel {
    /// One that has not been fired.
    ///
    /// # Errors
    /// The system lacks descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { event: EventFd::from_value_and_flags(0, flags)? })
    }

    /// Ends all waits, those under way and those to come.
    pub(crate) fn fire(&self) {
        // A counter that is full is as readable as one that was added to.
        let _full = self.event.write(1);
    }

    /// Waits until the time comes.
    ///
    /// # Errors
    /// `ECANCELED` when it was fired before.
    pub(crate) fn wait_until(&self, until: Instant) -> io::Result<()> {
        match self.wait(None, until) {
            Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
            other => other,
        }
    }

    /// Waits until `fd` is ready for one of `events`, or has failed.
    ///
    /// # Errors
    /// `ECANCELED` when it was fired before, `ETIMEDOUT` when the time has come.
    pub(crate) fn wait_for(&self, fd: BorrowedFd<'_>, events: PollFlags, until: Instant) -> io::Result<()> {
        self.wait(Some((fd, events)), until)
    }

    fn wait(&self, other: Option<(BorrowedFd<'_>, PollFlags)>, until: Instant) -> io::Result<()> {
        loop {
            let mut fds = vec![PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
            fds.extend(other.map(|(fd, events)| PollFd::new(fd, events)));
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond is not spent in a loop.
            let millis = left.as_nanos().div_ceil(1_000_000).min(60_000);
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
            if fds.first().is_some_and(is_ready) {
                return Err(Errno::ECANCELED.into());
            }
            if fds.get(1).is_some_and(is_ready) {
                return Ok(());
            }
            if left.is_zero() {
                return Err(Errno::ETIMEDOUT.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn errno(result: io::Result<()>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn a_wait_ends_in_one_of_three_ways() {
        let cancel = Cancel::new().expect("descriptors");
        let (ours, theirs) = UnixStream::pair().expect("descriptors");
        let far = Instant::now() + Duration::from_secs(3600);
        let readable = |until| cancel.wait_for(ours.as_fd(), PollFlags::POLLIN, until);
        assert_eq!(errno(readable(Instant::now())), Some(libc::ETIMEDOUT));
        cancel.wait_until(Instant::now()).expect("the time has come");
        drop(theirs);
        readable(far).expect("the end of a stream is something to read");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| errno(cancel.wait_until(far)));
            cancel.fire();
            assert_eq!(waiting.join().expect("no panic"), Some(libc::ECANCELED));
        });
        assert_eq!(errno(readable(far)), Some(libc::ECANCELED), "for good");
    }
}
