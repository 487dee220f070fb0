//! Sizes and alignments that the kernel wants to be respected.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use qemu_util::buf::{IoBuf, MEMORY_ALIGNMENT};

use crate::error::{BlockError, ErrorKind, Result};
use crate::file::FileKind;

/// Alignments of direct I/O in bytes: powers of two up to [`MEMORY_ALIGNMENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Of offsets and lengths.
    pub(super) request: u32,
    /// Of buffer addresses.
    pub(super) memory: u32,
}

impl Alignment {
    /// Byte-granular.
    pub(super) const NONE: Self = Self { request: 1, memory: 1 };
    /// What works everywhere.
    const SAFE: u32 = 4096;
}

/// Alignments that trial reads try, in this order.
const TRIALS: [u32; 5] = [1, 512, 1024, 2048, 4096];

/// What direct I/O on `file` needs. QEMU: `raw_probe_alignment`.
///
/// # Errors
/// `InvalidArgument` when nothing up to 4096 bytes works.
pub(super) fn direct_alignment(file: &File, kind: FileKind) -> Result<Alignment> {
    if let Some(known) = told_by_statx(file) {
        return Ok(known);
    }
    let request = match kind {
        FileKind::Device => logical_block_size(file),
        FileKind::Regular => None,
    };
    let request = request.or_else(|| try_requests(file));
    let memory = request.and_then(|request| try_memory(file, request));
    match (request, memory) {
        (Some(request), Some(memory)) => Ok(Alignment { request, memory }),
        _ => Err(BlockError::new(
            ErrorKind::InvalidArgument,
            "Could not find working O_DIRECT alignment\nTry cache.direct=off",
        )),
    }
}

/// Linux 6.1 and later know the answer for many file systems.
fn told_by_statx(file: &File) -> Option<Alignment> {
    let mut data = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY:
    // - the path is an empty C string, which with AT_EMPTY_PATH means the descriptor itself;
    // - the result has the type that the kernel fills in.
    let failed = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, data.as_mut_ptr())
    };
    // SAFETY: the structure is plain numbers and began as zeros, so it is initialised whatever the kernel did.
    let data = unsafe { data.assume_init() };
    let usable = |align: u32| align.is_power_of_two() && align as usize <= MEMORY_ALIGNMENT;
    let told = failed == 0 && data.stx_mask & libc::STATX_DIOALIGN != 0;
    // Some network file systems allow bytes; the page cache of another host then pays. Zeros mean "not at all".
    if !told || !usable(data.stx_dio_offset_align) || !usable(data.stx_dio_mem_align) {
        return None;
    }
    Some(Alignment { request: data.stx_dio_offset_align, memory: data.stx_dio_mem_align })
}

/// The smallest length that a direct read accepts. If one byte is fine, the file system did not look (there is a hole,
/// say), and the safe value is taken.
fn try_requests(file: &File) -> Option<u32> {
    let mut buf = IoBuf::zeroed(MEMORY_ALIGNMENT);
    let works = TRIALS.into_iter().find(|align| accepts(file, &mut buf[..*align as usize]))?;
    Some(if works == 1 { Alignment::SAFE } else { works })
}

/// The smallest alignment of memory that a direct read accepts, or that of requests if all are.
fn try_memory(file: &File, request: u32) -> Option<u32> {
    let len = MEMORY_ALIGNMENT;
    let mut buf = IoBuf::zeroed(2 * MEMORY_ALIGNMENT);
    let works = TRIALS.into_iter().find(|align| accepts(file, &mut buf[*align as usize..][..len]))?;
    Some(if works == 1 { request } else { works })
}

/// Only `EINVAL` tells about alignment; a disk that fails to read must not look misaligned.
fn accepts(file: &File, buf: &mut [u8]) -> bool {
    match file.read_at(buf, 0) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
    }
}

/// Bytes of the smallest unit that a device reads and writes.
pub(super) fn logical_block_size(file: &File) -> Option<u32> {
    let mut size: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel stores an `int`.
    unsafe { blk::logical_block_size(file.as_raw_fd(), &raw mut size) }.ok()?;
    u32::try_from(size).ok().filter(|size| size.is_power_of_two() && *size as usize <= MEMORY_ALIGNMENT)
}

/// Length of a block device in bytes.
pub(super) fn device_size(file: &File) -> Result<u64> {
    let mut size = 0;
    // SAFETY: the descriptor is open, and the kernel stores a 64-bit number.
    unsafe { blk::size_in_bytes(file.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// Whether a block device was declared read-only, which `open` does not look at.
pub(super) fn device_is_read_only(file: &File) -> Result<bool> {
    let mut read_only: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel stores an `int`.
    unsafe { blk::is_read_only(file.as_raw_fd(), &raw mut read_only) }?;
    Ok(read_only != 0)
}

/// Requests to block devices.
mod blk {
    use nix::{ioctl_read_bad, request_code_none, request_code_read};

    ioctl_read_bad!(is_read_only, request_code_none!(0x12, 94), libc::c_int);
    ioctl_read_bad!(logical_block_size, request_code_none!(0x12, 104), libc::c_int);
    // The request's number was made with the size of `size_t`, the kernel stores 64 bits all the same.
    ioctl_read_bad!(size_in_bytes, request_code_read!(0x12, 114, size_of::<libc::size_t>()), u64);
}
