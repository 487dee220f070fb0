//! Copying inside the kernel. QEMU: `bdrv_co_copy_range` (block/io.c).

use super::range_lock::RangeMode;
use super::request::len_u64;
use crate::aio::CopySource;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::registry::PROBE_LEN;

impl Node {
    /// Copies `len` bytes of this node to `dst` without moving them through this process.
    ///
    /// # Errors
    /// `Unsupported` when either side cannot do that, for this range or at all; the caller then reads and writes. What
    /// had been copied before stays copied. Otherwise as [`Node::read`] and [`Node::write`].
    pub async fn copy_range(&self, src_offset: u64, dst: &Node, dst_offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            self.range_inside(src_offset, 0)?;
            return dst.range_to_write(dst_offset, 0).map(drop);
        }
        let source = self.copy_source(src_offset, len).await?;
        dst.copy_from(dst_offset, source, len).await
    }

    /// Where the bytes of a range are stored verbatim. For drivers that pass requests on.
    ///
    /// # Errors
    /// `Unsupported` if nowhere, as for an empty range; otherwise as [`Node::read`].
    pub async fn copy_source(&self, offset: u64, len: u64) -> Result<CopySource> {
        self.check_open()?;
        self.range_inside(offset, len)?;
        if len == 0 {
            return Err(BlockError::new(ErrorKind::Unsupported, "An empty range is stored nowhere"));
        }
        self.ops().copy_source(offset, len).await
    }

    /// Copies `len` bytes from `source` to `offset`. For drivers that pass requests on.
    ///
    /// # Errors
    /// As [`Node::copy_range`].
    pub async fn copy_from(&self, offset: u64, source: CopySource, len: u64) -> Result<()> {
        let range = self.range_to_write(offset, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let align = u64::from(self.limits().request_alignment.max(1));
        let aligned = range.start.is_multiple_of(align) && range.end.is_multiple_of(align);
        // Data that moves past us cannot be looked at, so the first sector of an image probed as raw is not copied.
        let guarded = self.guard().is_some() && range.start < len_u64(PROBE_LEN);
        if !aligned || guarded {
            return Err(BlockError::new(ErrorKind::Unsupported, "This range cannot be copied by the kernel"));
        }
        let _shared = self.writes.lock(range, RangeMode::Shared).await;
        self.ops().copy_range(offset, source, len).await
    }
}
