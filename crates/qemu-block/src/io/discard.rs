//! Discards. QEMU: `bdrv_co_pdiscard` (block/io.c).

use super::align::narrow;
use super::range_lock::RangeMode;
use crate::error::{ErrorKind, Result};
use crate::node::Node;
use crate::types::OpenFlags;

impl Node {
    /// Gives up the content of a range. This is a hint: parts that the driver cannot discard keep their content.
    ///
    /// Does nothing unless the node was opened with [`OpenFlags::UNMAP`]. The end of the device counts as aligned.
    ///
    /// # Errors
    /// `PermissionDenied` for a read-only node, `BadRequest` outside the device, and what the driver reports, except
    /// that it cannot discard.
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let range = self.range_inside(offset, len)?;
        if !self.flags().contains(OpenFlags::UNMAP) {
            return Ok(());
        }
        let limits = self.limits();
        let align = u64::from(limits.discard_alignment.max(limits.request_alignment).max(1));
        let mut inner = narrow(&range, align);
        if range.end == self.len() && inner.start < range.end {
            inner.end = range.end;
        }
        if inner.is_empty() {
            return Ok(());
        }
        let _shared = self.writes.lock(inner.clone(), RangeMode::Shared).await;
        match self.ops().discard(inner.start, inner.end - inner.start).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }
}
