//! The operations of an engine and their results.

use std::fs::File;
use std::io;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::primitive::atomic::{AtomicBool, Ordering};
use qemu_util::primitive::{Arc, Mutex};

/// An open file and what an engine has to know about it. An operation keeps it open until it is done.
#[derive(Debug)]
pub struct AioFile {
    file: File,
    direct: bool,
    read_only: bool,
    /// Whether reads that must not wait are worth a try. Statistics of a kind: any thread may clear it at any time.
    nowait: AtomicBool,
    /// The errno of the first flush that failed. Held while one runs.
    sync_failed: Mutex<Option<i32>>,
}

impl AioFile {
    /// Wraps a descriptor; `direct` says that it was opened with `O_DIRECT`.
    pub fn new(file: File, direct: bool) -> Self {
        let flags = fcntl(&file, FcntlArg::F_GETFL).map_or(OFlag::O_RDWR, OFlag::from_bits_truncate);
        let read_only = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        Self { file, direct, read_only, nowait: AtomicBool::new(!direct), sync_failed: Mutex::new(None) }
    }

    /// The descriptor.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether it bypasses the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether nothing is written through it.
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The descriptor alone, to be closed.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Makes completed writes durable; with `data_only` without the metadata that reading the data back does not need.
    ///
    /// After a failure the kernel may have marked pages clean that never reached the disk, and the next flush would
    /// succeed without them. So the first failure is the answer from then on, as in QEMU, and flushes of one file run one
    /// after the other: of two at the same time only one would be told. The failure is noted here, in the thread that
    /// flushes, so that it also counts when nobody waits for this flush any more. Direct writes do not pass through those
    /// pages.
    ///
    /// # Errors
    /// What the system call, or an earlier one, has reported.
    ///
    /// QEMU: `handle_aiocb_flush` (block/file-posix.c)
    pub(super) fn sync(&self, data_only: bool) -> io::Result<()> {
        let mut failed = self.sync_failed.lock();
        if let Some(errno) = *failed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let synced = if data_only { self.file.sync_data() } else { self.file.sync_all() };
        if let Err(error) = &synced
            && !self.direct
        {
            *failed = error.raw_os_error();
        }
        synced
    }

    pub(super) fn can_nowait(&self) -> bool {
        // Relaxed: a stale answer costs one system call.
        self.nowait.load(Ordering::Relaxed)
    }

    pub(super) fn forget_nowait(&self) {
        // Relaxed: see `can_nowait`.
        self.nowait.store(false, Ordering::Relaxed);
    }
}

/// Where bytes to be copied are stored.
#[derive(Clone, Debug)]
pub struct CopySource {
    /// The file.
    pub file: Arc<AioFile>,
    /// Offset of the first byte.
    pub offset: u64,
}

/// One operation on a file. It owns its buffers and keeps its files open. Offsets and lengths are bytes.
#[derive(Debug)]
pub enum AioOp {
    /// Fills `buf` from `offset` on, up to the end of the file.
    Read {
        /// What to read.
        file: Arc<AioFile>,
        /// Where to begin.
        offset: u64,
        /// Where to put the bytes.
        buf: IoVecMut,
    },
    /// Writes all of `data`.
    Write {
        /// What to write to.
        file: Arc<AioFile>,
        /// Where to begin.
        offset: u64,
        /// What to write.
        data: IoVec,
    },
    /// Makes completed writes durable.
    Sync {
        /// Which file.
        file: Arc<AioFile>,
        /// Whether metadata that is not needed to read the data back may be left out (`fdatasync`).
        data_only: bool,
    },
    /// Changes how a range is stored.
    Range {
        /// Which file.
        file: Arc<AioFile>,
        /// What to do.
        action: RangeAction,
        /// Where to begin.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Sets the length.
    Truncate {
        /// Which file.
        file: Arc<AioFile>,
        /// The new length.
        len: u64,
    },
    /// Copies inside the kernel.
    CopyRange {
        /// What to read.
        from: CopySource,
        /// What to write to.
        file: Arc<AioFile>,
        /// Where to write.
        offset: u64,
        /// How much.
        len: u64,
    },
    /// Asks whether `offset` lies in data or in a hole.
    Extent {
        /// Which file.
        file: Arc<AioFile>,
        /// Where to look.
        offset: u64,
    },
}

/// What [`AioOp::Range`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAction {
    /// Makes a hole that reads as zeros; the length of the file stays.
    PunchHole,
    /// Makes the range read as zeros and keeps its space; the file grows when the range lies beyond its end.
    ZeroRange,
    /// As [`ZeroRange`](Self::ZeroRange), but the length of the file stays.
    ZeroRangeKeepSize,
    /// Reserves space without changing what is there; the file grows when the range lies beyond its end.
    Allocate,
    /// Makes the range of a block device read as zeros.
    DeviceZero,
    /// Tells a block device that the content of the range is not needed any more.
    DeviceDiscard,
}

/// What an operation yields.
#[derive(Debug)]
pub enum AioResult {
    /// Of [`AioOp::Read`].
    Read {
        /// The buffers of the operation.
        buf: IoVecMut,
        /// How many bytes were read. It is less than the buffers hold only if the file ends there; what the rest of
        /// the buffers holds is unspecified.
        filled: usize,
    },
    /// Of [`AioOp::Extent`].
    Extent(FileExtent),
    /// Of all others.
    Done,
}

/// What a file system says about the place it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileExtent {
    /// Data up to `end`.
    Data {
        /// Offset just past the data.
        end: u64,
    },
    /// A hole up to `end`, where data begins.
    Hole {
        /// Offset of the next data.
        end: u64,
    },
    /// There is no data from here on; the place may also lie past the end of the file.
    NoMoreData,
    /// The file system cannot tell.
    Unknown,
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn the_first_failed_flush_is_the_answer_from_then_on() {
        // A pipe cannot be flushed.
        let pipe = || File::from(OwnedFd::from(io::pipe().unwrap().1));
        let einval = Some(libc::EINVAL);
        let cached = AioFile::new(pipe(), false);
        assert_eq!(cached.sync(true).unwrap_err().raw_os_error(), einval);
        assert_eq!(*cached.sync_failed.lock(), einval);
        *cached.sync_failed.lock() = Some(libc::EIO);
        assert_eq!(cached.sync(false).unwrap_err().raw_os_error(), Some(libc::EIO));
        let direct = AioFile::new(pipe(), true);
        assert_eq!(direct.sync(true).unwrap_err().raw_os_error(), einval);
        assert_eq!(*direct.sync_failed.lock(), None);
    }
}
