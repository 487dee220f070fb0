//! Standard input and output as streams of bytes that tasks wait for.
//!
//! Reading a pipe may take as long as whoever writes it likes, so it happens on a thread of its own and not on those
//! that files and computations use.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qemu_block::aio::WorkerPool;
use qemu_block::error::{BlockError, Result, errno_text};
use qemu_util::buf::{IoBuf, IoBytes};
use qemu_util::primitive::Arc;
use qemu_util::units::MIB;

use crate::failure::{Code, Failure};

/// How many zeros are written with one job, in bytes.
const ZEROS_AT_ONCE: u64 = MIB;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How long the thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

/// One of the standard streams.
#[derive(Clone)]
pub(super) struct StdStream {
    pool: WorkerPool,
    file: Arc<File>,
}

impl StdStream {
    /// Standard input.
    ///
    /// # Errors
    /// It is closed, or a terminal: nobody types an image.
    pub(super) fn stdin() -> std::result::Result<Self, Failure> {
        let stdin = io::stdin();
        refuse_terminal(stdin.is_terminal(), "from")?;
        stdin.as_fd().try_clone_to_owned().map(|fd| Self::new(fd.into())).map_err(|error| closed("input", &error))
    }

    /// Standard output.
    ///
    /// # Errors
    /// As [`StdStream::stdin`].
    pub(super) fn stdout() -> std::result::Result<Self, Failure> {
        let stdout = io::stdout();
        refuse_terminal(stdout.is_terminal(), "to")?;
        stdout.as_fd().try_clone_to_owned().map(|fd| Self::new(fd.into())).map_err(|error| closed("output", &error))
    }

    pub(super) fn new(file: File) -> Self {
        Self { pool: WorkerPool::new("stdio", 1, IDLE), file: Arc::new(file) }
    }

    /// Fills `buf` and gives it back with the number of bytes that came: fewer than it holds only at the end.
    ///
    /// # Errors
    /// What reading fails with.
    pub(super) async fn read(&self, mut buf: IoBuf) -> Result<(IoBuf, usize)> {
        let file = Arc::clone(&self.file);
        let job = move || read_full(&file, &mut buf).map(|len| (buf, len));
        self.pool.run(job).await.map_err(|error| block_error(&error))
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write(&self, data: IoBytes) -> Result<()> {
        let file = Arc::clone(&self.file);
        self.pool.run(move || write_full(&file, &data)).await.map_err(|error| block_error(&error))
    }

    /// Writes `len` zeros.
    ///
    /// # Errors
    /// What writing fails with.
    pub(super) async fn write_zeroes(&self, mut len: u64) -> Result<()> {
        while len > 0 {
            let now = len.min(ZEROS_AT_ONCE);
            let file = Arc::clone(&self.file);
            self.pool.run(move || write_zeroes(&file, now)).await.map_err(|error| block_error(&error))?;
            len -= now;
        }
        Ok(())
    }
}

impl fmt::Debug for StdStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdStream").field("file", &self.file).finish_non_exhaustive()
    }
}

fn refuse_terminal(is_terminal: bool, from_or_to: &str) -> std::result::Result<(), Failure> {
    if is_terminal {
        let text = format!("Refusing to transfer an image {from_or_to} a terminal; './-' names a file");
        return Err(Failure::new(text).with_code(Code::InvalidArgument));
    }
    Ok(())
}

fn closed(which: &str, error: &io::Error) -> Failure {
    Failure::block(format!("Could not use standard {which}"), &block_error(error))
}

fn block_error(error: &io::Error) -> BlockError {
    let errno = error.raw_os_error().unwrap_or(nix::errno::Errno::EIO as i32);
    BlockError::from_errno(errno, errno_text(errno))
}

fn read_full(mut file: &File, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read(&mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) => wait_after(file, error, PollFlags::POLLIN)?,
        }
    }
    Ok(done)
}

fn write_full(mut file: &File, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match file.write(data) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => data = &data[n..],
            Err(error) => wait_after(file, error, PollFlags::POLLOUT)?,
        }
    }
    Ok(())
}

fn write_zeroes(file: &File, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let n = usize::try_from(len).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
        write_full(file, &ZEROS[..n])?;
        len -= n as u64;
    }
    Ok(())
}

/// Returns when it is worth trying again: whoever shares the other end may have made it non-blocking.
fn wait_after(file: &File, error: io::Error, events: PollFlags) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => {
            poll(&mut [PollFd::new(file.as_fd(), events)], PollTimeout::NONE)?;
            Ok(())
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use qemu_util::aio::AioContext;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_the_end_is_seen() {
        let aio = AioContext::new().expect("a loop");
        let (reader, writer) = io::pipe().expect("a pipe");
        let (from, to) = (StdStream::new(OwnedFd::from(reader).into()), StdStream::new(OwnedFd::from(writer).into()));
        let sending = async {
            to.write(IoBuf::copy_of(&[7; 100_000]).freeze()).await.expect("written");
            to.write_zeroes(2 * MIB + 5).await.expect("written");
            // The other end sees the end once nobody can write any more.
            drop(to);
        };
        let receiving = async {
            let (first, len) = from.read(IoBuf::zeroed(100_000)).await.expect("read");
            assert!(len == 100_000 && first.iter().all(|&byte| byte == 7));
            let (rest, len) = from.read(IoBuf::zeroed(3 << 20)).await.expect("read");
            assert_eq!((len, rest[..len].iter().any(|&byte| byte != 0)), ((2 << 20) + 5, false));
            assert_eq!(from.read(IoBuf::zeroed(10)).await.expect("read").1, 0);
        };
        aio.block_on(futures_util::future::join(sending, receiving));
    }

    #[test]
    fn a_reader_that_went_away_is_an_error() {
        let aio = AioContext::new().expect("a loop");
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let to = StdStream::new(OwnedFd::from(writer).into());
        let error = aio.block_on(to.write(IoBuf::copy_of(b"x").freeze())).expect_err("nobody reads");
        assert_eq!(error.errno(), nix::errno::Errno::EPIPE as i32);
    }
}
