//! Changes of the length. QEMU: `bdrv_co_truncate` (block/io.c).

use super::range_lock::RangeMode;
use super::request::OFFSET_MAX;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::types::PreallocMode;

impl Node {
    /// Sets the length in bytes. New space reads as zeros; `prealloc` says what is allocated for it.
    ///
    /// # Errors
    /// `PermissionDenied` for a read-only node, `InvalidArgument` for an impossible length, and what the driver reports.
    pub async fn truncate(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.check_writable()?;
        if len > OFFSET_MAX {
            return Err(
                BlockError::new(ErrorKind::InvalidArgument, "Required too big image size").with_errno(libc::EFBIG)
            );
        }
        // Writes to what appears or disappears must not be under way.
        let _exclusive = self.writes.lock(len.min(self.len())..u64::MAX, RangeMode::Exclusive).await;
        self.ops().truncate(len, prealloc).await
    }
}
