//! The blocking system calls behind the operations: short transfers, `EINTR` and the ends of files are dealt with here
//! and nowhere else.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::uio::{preadv, pwritev};
use nix::unistd::{Whence, lseek};
use qemu_util::buf::{IoVec, IoVecMut};
use smallvec::SmallVec;

use super::op::{AioFile, AioOp, AioResult, CopySource, FileExtent, RangeAction};
use crate::error::Result;

/// The kernel takes this many pieces in one call (`UIO_MAXIOV`).
const PIECES_MAX: usize = libc::UIO_MAXIOV as usize;

/// Bytes that one call to `copy_file_range` is asked for, so that a worker comes back from it in reasonable time.
const COPY_STEP: usize = 1 << 30;

/// No device needs direct requests to be aligned to more than this many bytes.
const DIRECT_ALIGNMENT: u64 = 4096;

type Sys<T> = std::result::Result<T, Errno>;

/// Does `op`; `filled` bytes of a read are there already.
pub(super) fn execute(op: AioOp, filled: usize) -> Result<AioResult> {
    Ok(match op {
        AioOp::Read { file, offset, mut buf } => {
            let filled = read(&file, offset, &mut buf, filled)?;
            AioResult::Read { buf, filled }
        }
        AioOp::Extent { file, offset } => AioResult::Extent(find_extent(&file, offset)),
        other => {
            execute_plain(other)?;
            AioResult::Done
        }
    })
}

fn execute_plain(op: AioOp) -> Sys<()> {
    match op {
        AioOp::Write { file, offset, data } => write(&file, offset, &data),
        AioOp::Sync { file, data_only } => from_io(file.sync(data_only)),
        AioOp::Range { file, action, offset, len } => change_range(&file, action, offset, len),
        AioOp::Truncate { file, len } => {
            off(len)?;
            from_io(file.file().set_len(len))
        }
        AioOp::CopyRange { from, file, offset, len } => copy(&from, &file, offset, len),
        AioOp::Read { .. } | AioOp::Extent { .. } => unreachable!("they have results of their own"),
    }
}

/// Reads what the page cache holds of the range, without waiting; returns how much of `buf` was filled from its start.
pub(super) fn read_cached(file: &AioFile, offset: u64, buf: &mut IoVecMut) -> usize {
    let Ok(start) = off(offset) else { return 0 };
    let mut pieces = pieces_mut(buf, 0);
    let Ok(count) = libc::c_int::try_from(pieces.len()) else { return 0 };
    let first = pieces.as_mut_ptr().cast::<libc::iovec>();
    // SAFETY:
    // - `first` points to `count` values of `IoSliceMut`, which has the layout of `iovec` on Unix;
    // - each of them borrows its memory exclusively until `pieces` is dropped, after the call.
    let n = unsafe { libc::preadv2(file.file().as_raw_fd(), first, count, start, libc::RWF_NOWAIT) };
    match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => {
            if matches!(Errno::last(), Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) {
                file.forget_nowait();
            }
            0
        }
    }
}

/// Reads until `buf` is full or the file ends; the first `filled` bytes are there already.
fn read(file: &AioFile, offset: u64, buf: &mut IoVecMut, filled: usize) -> Sys<usize> {
    let mut done = filled;
    while done < buf.len() {
        let at = offset + done as u64;
        match preadv(file.file(), &mut pieces_mut(buf, done), off(at)?) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            // The kernel took the first part, so it is the offset that it refuses now: a direct read stops at an odd
            // offset only where the file ends. The length proves nothing, the file may have grown since.
            Err(Errno::EINVAL) if file.is_direct() && done > 0 && !at.is_multiple_of(DIRECT_ALIGNMENT) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn write(file: &AioFile, offset: u64, data: &IoVec) -> Sys<()> {
    let mut done = 0;
    while done < data.len() {
        match pwritev(file.file(), &pieces(data, done), off(offset + done as u64)?) {
            // A write that makes no progress and names no reason would be tried for ever.
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn change_range(file: &AioFile, action: RangeAction, offset: u64, len: u64) -> Sys<()> {
    let mode = match action {
        RangeAction::PunchHole => FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        RangeAction::ZeroRange => FallocateFlags::FALLOC_FL_ZERO_RANGE,
        RangeAction::ZeroRangeKeepSize => FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        RangeAction::Allocate => FallocateFlags::empty(),
        RangeAction::DeviceZero => return device_range(file, blk::zero_out, offset, len),
        RangeAction::DeviceDiscard => return device_range(file, blk::discard, offset, len),
    };
    let (offset, len) = (off(offset)?, off(len)?);
    retry(|| fallocate(file.file(), mode, offset, len)).map_err(unsupported)
}

type RangeIoctl = unsafe fn(libc::c_int, *const [u64; 2]) -> nix::Result<libc::c_int>;

fn device_range(file: &AioFile, ioctl: RangeIoctl, offset: u64, len: u64) -> Sys<()> {
    let range = [offset, len];
    // SAFETY: the descriptor is open, and the kernel reads the two numbers that live until the call returns.
    retry(|| unsafe { ioctl(file.file().as_raw_fd(), &raw const range) }).map(drop).map_err(unsupported)
}

/// Requests to block devices that the C library's headers do not name.
mod blk {
    use nix::{ioctl_write_ptr_bad, request_code_none};

    ioctl_write_ptr_bad!(zero_out, request_code_none!(0x12, 127), [u64; 2]);
    ioctl_write_ptr_bad!(discard, request_code_none!(0x12, 119), [u64; 2]);
}

fn copy(from: &CopySource, to: &AioFile, offset: u64, len: u64) -> Sys<()> {
    let (mut source, mut target) = (off(from.offset)?, off(offset)?);
    let mut left = len;
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(COPY_STEP).min(COPY_STEP);
        match copy_step(&from.file, &mut source, to, &mut target, step) {
            // The source ends here: the caller's idea of it is out of date, and ordinary reads sort that out.
            Ok(0) => return Err(Errno::EOPNOTSUPP),
            Ok(n) => left -= n as u64,
            Err(Errno::EINTR) => {}
            // Different file systems, the same file with overlap, a kind of file that cannot do it.
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EBADF) if left == len => return Err(Errno::EOPNOTSUPP),
            Err(errno) => return Err(unsupported(errno)),
        }
    }
    Ok(())
}

/// One call to `copy_file_range`; it moves both offsets on.
fn copy_step(from: &AioFile, source: &mut i64, to: &AioFile, target: &mut i64, len: usize) -> Sys<usize> {
    let (from, to) = (from.file().as_raw_fd(), to.file().as_raw_fd());
    // SAFETY: both descriptors are open, and the offsets are valid for writing until the call returns.
    let n = unsafe { libc::copy_file_range(from, source, to, target, len, 0) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Where the data or the hole at `offset` ends. QEMU: `find_allocation` (block/file-posix.c).
pub(super) fn find_extent(file: &AioFile, offset: u64) -> FileExtent {
    let Ok(start) = off(offset) else { return FileExtent::Unknown };
    match seek(file, start, Whence::SeekData) {
        Err(Errno::ENXIO) => FileExtent::NoMoreData,
        Ok(data) if data > offset => FileExtent::Hole { end: data },
        Ok(data) if data == offset => match seek(file, start, Whence::SeekHole) {
            // No progress means that a hole was made between the two calls; then nothing is known.
            Ok(hole) if hole > offset => FileExtent::Data { end: hole },
            Err(Errno::ENXIO) => FileExtent::NoMoreData,
            _ => FileExtent::Unknown,
        },
        _ => FileExtent::Unknown,
    }
}

/// `lseek` for data and holes. It moves the file position, which nothing else here uses.
fn seek(file: &AioFile, offset: i64, whence: Whence) -> Sys<u64> {
    let found = lseek(file.file(), offset, whence)?;
    u64::try_from(found).map_err(|_| Errno::EIO)
}

fn pieces_mut(buf: &mut IoVecMut, skip: usize) -> SmallVec<[IoSliceMut<'_>; 4]> {
    let mut skip = skip;
    let mut result = SmallVec::new();
    for part in buf.parts_mut() {
        let skipped = skip.min(part.len());
        skip -= skipped;
        if skipped < part.len() && result.len() < PIECES_MAX {
            result.push(IoSliceMut::new(&mut part[skipped..]));
        }
    }
    result
}

fn pieces(data: &IoVec, skip: usize) -> SmallVec<[IoSlice<'_>; 4]> {
    let mut skip = skip;
    let mut result = SmallVec::new();
    for part in data.parts() {
        let skipped = skip.min(part.len());
        skip -= skipped;
        if skipped < part.len() && result.len() < PIECES_MAX {
            result.push(IoSlice::new(&part[skipped..]));
        }
    }
    result
}

/// Offsets beyond what the kernel can express are beyond what any file can hold.
fn off(value: u64) -> Sys<i64> {
    i64::try_from(value).map_err(|_| Errno::EFBIG)
}

fn from_io<T>(result: std::io::Result<T>) -> Sys<T> {
    result.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn retry<T>(mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// The several ways to say "not supported" in one.
fn unsupported(errno: Errno) -> Errno {
    match errno {
        Errno::ENODEV | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ENOTTY => Errno::EOPNOTSUPP,
        other => other,
    }
}
