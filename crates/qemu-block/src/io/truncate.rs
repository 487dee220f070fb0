//! Changes of the length. QEMU: `bdrv_co_truncate` (block/io.c).

use super::range_lock::RangeMode;
use super::request::OFFSET_MAX;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::types::PreallocMode;

/// The longest node there can be: the largest multiple of 1 GiB that is an offset, so that sums of lengths and alignments
/// stay offsets. QEMU: `BDRV_MAX_LENGTH` (include/block/block-common.h).
const LENGTH_MAX: u64 = OFFSET_MAX & !((1 << 30) - 1);

impl Node {
    /// Sets the length in bytes. New space reads as zeros; `prealloc` says what is allocated for it.
    ///
    /// # Errors
    /// `PermissionDenied` for a read-only node, `InvalidArgument` for an impossible length, and what the driver reports.
    pub async fn truncate(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.check_writable()?;
        if len > LENGTH_MAX {
            let text = format!("offset({len}) exceeds maximum({LENGTH_MAX})");
            return Err(BlockError::new(ErrorKind::InvalidArgument, text).with_errno(libc::EIO));
        }
        // Writes to what appears or disappears must not be under way.
        let _exclusive = self.writes.lock(len.min(self.len())..u64::MAX, RangeMode::Exclusive).await;
        self.ops().truncate(len, prealloc).await
    }
}
