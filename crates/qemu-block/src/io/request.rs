//! The checks that every request passes first.

use std::ops::Range;

use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;

/// No device is longer than this, and no request ends beyond it: file offsets are signed 64-bit numbers.
///
/// QEMU: `BDRV_MAX_LENGTH`.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;

impl Node {
    /// The range of a request that must lie inside the device.
    pub(super) fn range_inside(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        let range = range_of(offset, len)?;
        if range.end > self.len() {
            return Err(out_of_range(offset, len));
        }
        Ok(range)
    }

    /// The range of a write: inside the device, or beyond its end if writes make it grow.
    pub(super) fn range_to_write(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        self.check_writable()?;
        let range = range_of(offset, len)?;
        if range.end > self.len() && !self.limits().growable {
            return Err(out_of_range(offset, len));
        }
        Ok(range)
    }

    /// Refuses writes to closed and to read-only nodes.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.is_read_only() {
            let error = BlockError::new(ErrorKind::PermissionDenied, "Block node is read-only");
            return Err(error.with_errno(libc::EPERM));
        }
        Ok(())
    }
}

fn range_of(offset: u64, len: u64) -> Result<Range<u64>> {
    match offset.checked_add(len) {
        Some(end) if end <= OFFSET_MAX => Ok(offset..end),
        _ => Err(out_of_range(offset, len)),
    }
}

fn out_of_range(offset: u64, len: u64) -> BlockError {
    let message = format!("Request of {len} bytes at offset {offset} is out of range");
    BlockError::new(ErrorKind::BadRequest, message)
}

/// A buffer length as an offset. Buffers are never longer than `u64` can tell.
pub(super) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length that is known not to exceed that of a buffer.
pub(super) fn len_usize(len: u64) -> usize {
    usize::try_from(len).expect("lengths of parts of buffers fit")
}
