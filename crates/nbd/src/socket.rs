//! A stream socket to a server, in its two lives.
//!
//! While the two sides negotiate, every wait has a deadline and can be cancelled ([`Handshake`]). Afterwards one thread
//! blocks in reads and another in writes; [`Socket::shut_down`] ends both, from any thread.
//!
//! QEMU: `QIOChannelSocket` (io/channel-socket.c), util/qemu-sockets.c.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrLike, connect, getsockopt, recv, sendmsg,
    setsockopt, shutdown, socket, sockopt,
};

use crate::cancel::Cancel;

/// Parts that one system call sends, at most.
const PARTS_MAX: usize = 64;

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Connects to `address`. The socket does not block yet.
    ///
    /// # Errors
    /// What the system reports; `ETIMEDOUT` when `until` has come, `ECANCELED` when `cancel` was fired.
    pub(crate) fn connect(
        family: AddressFamily,
        address: &dyn SockaddrLike,
        until: Instant,
        cancel: &Cancel,
    ) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Stream, flags, None)?;
        loop {
            match connect(fd.as_raw_fd(), address) {
                Ok(()) | Err(Errno::EISCONN) => return Ok(Self { fd }),
                // The queue of a Unix socket is full. Nothing tells when it is not: try again in a while.
                Err(Errno::EAGAIN) => {
                    let pause = Instant::now() + QUEUE_PAUSE;
                    cancel.wait_until(pause.min(until))?;
                    if pause > until {
                        return Err(Errno::ETIMEDOUT.into());
                    }
                }
                // It goes on without us, even after a signal.
                Err(Errno::EINPROGRESS | Errno::EINTR | Errno::EALREADY) => {
                    cancel.wait_for(fd.as_fd(), PollFlags::POLLOUT, until)?;
                    return match getsockopt(&fd, sockopt::SocketError)? {
                        0 => Ok(Self { fd }),
                        errno => Err(io::Error::from_raw_os_error(errno)),
                    };
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Makes requests leave at once, and the kernel notice when the other machine has vanished. Both are favours.
    pub(crate) fn tune_for_network(&self, keep_alive: bool) {
        let _favour = setsockopt(&self.fd, sockopt::TcpNoDelay, &true);
        if keep_alive {
            let _favour = setsockopt(&self.fd, sockopt::KeepAlive, &true);
            let _favour = setsockopt(&self.fd, sockopt::TcpKeepIdle, &60);
            let _favour = setsockopt(&self.fd, sockopt::TcpKeepInterval, &15);
            let _favour = setsockopt(&self.fd, sockopt::TcpKeepCount, &6);
        }
    }

    /// From now on reads and writes block.
    ///
    /// # Errors
    /// What the system reports.
    pub(crate) fn set_blocking(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.fd, FcntlArg::F_GETFL)?);
        fcntl(&self.fd, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
        Ok(())
    }

    /// Fills `buf`, blocking.
    ///
    /// # Errors
    /// What the system reports; `UnexpectedEof` at the end of the stream.
    pub(crate) fn receive(&self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match recv(self.fd.as_raw_fd(), buf, MsgFlags::MSG_WAITALL) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => buf = &mut buf[len..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Sends all parts, blocking.
    ///
    /// # Errors
    /// What the system reports.
    pub(crate) fn send(&self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let some = &parts[..parts.len().min(PARTS_MAX)];
            match sendmsg::<()>(self.fd.as_raw_fd(), some, &[], MsgFlags::MSG_NOSIGNAL, None) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => IoSlice::advance_slices(&mut parts, len),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Sends as much of `bytes` as there is room for right now, which may be nothing.
    pub(crate) fn send_now(&self, bytes: &[u8]) -> usize {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        // An error will meet whoever sends the rest.
        nix::sys::socket::send(self.fd.as_raw_fd(), bytes, flags).unwrap_or(0)
    }

    /// Ends the stream in both directions: blocked reads and writes return, and later ones fail.
    pub(crate) fn shut_down(&self) {
        // Fails only if the other side was faster.
        let _late = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }
}

/// How long to wait for a place in the queue of a Unix socket before asking again.
const QUEUE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// A socket during the negotiation: reads and writes wait until a deadline at most.
#[derive(Debug)]
pub(crate) struct Handshake<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) until: Instant,
    pub(crate) cancel: &'a Cancel,
}

impl Handshake<'_> {
    fn when_ready(&self, events: PollFlags, call: &mut dyn FnMut() -> nix::Result<usize>) -> io::Result<usize> {
        loop {
            match call() {
                Err(Errno::EAGAIN) => self.cancel.wait_for(self.socket.fd.as_fd(), events, self.until)?,
                Err(Errno::EINTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl Read for Handshake<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.socket.fd.as_raw_fd();
        self.when_ready(PollFlags::POLLIN, &mut || recv(fd, buf, MsgFlags::MSG_DONTWAIT))
    }
}

impl Write for Handshake<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let fd = self.socket.fd.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.when_ready(PollFlags::POLLOUT, &mut || nix::sys::socket::send(fd, buf, flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
