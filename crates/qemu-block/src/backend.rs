//! A user's handle to a node. QEMU: `BlockBackend` (block/block-backend.c).

use std::sync::Arc;

use qemu_util::buf::{IoBuf, IoVec, IoVecMut};

use crate::compressed::CompressedRun;
use crate::error::{BlockError, ErrorKind, Result};
use crate::io::{ChainStatus, block_status_above};
use crate::node::Node;
use crate::types::{BlockStatus, OpenFlags, Perm, PreallocMode, WriteFlags, ZeroFlags};

/// A user's handle to a node: its cache mode, and a close that can fail.
///
/// Requests must lie inside the device, even where the node could grow. With [`OpenFlags::WRITE_THROUGH`] each change is
/// durable when its request completes.
#[derive(Debug)]
#[must_use = "a backend is closed by `close`, which can fail"]
pub struct BlockBackend {
    node: Arc<Node>,
    write_through: bool,
}

impl BlockBackend {
    /// A handle to `node`, in the cache mode that it was opened with.
    pub fn new(node: Arc<Node>) -> Self {
        let write_through = node.flags().contains(OpenFlags::WRITE_THROUGH);
        Self { node, write_through }
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Length of the device in bytes.
    pub fn len(&self) -> u64 {
        self.node.len()
    }

    /// Whether the device has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Node::set_perm`].
    ///
    /// # Errors
    /// As [`Node::set_perm`].
    pub async fn set_perm(&self, perm: Perm, shared: Perm) -> Result<()> {
        self.node.set_perm(perm, shared).await
    }

    /// As [`Node::read`].
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn read(&self, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        let bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        tracing::trace!(
            name: "blk_co_preadv",
            blk = format_args!("{self:p}"),
            bs = format_args!("{:p}", self.node),
            offset,
            bytes,
            flags = %"0x0",
        );
        self.node.read(offset, buf).await
    }

    /// As [`Node::read_bytes`].
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn read_bytes(&self, offset: u64, len: usize) -> Result<IoBuf> {
        self.node.read_bytes(offset, len).await
    }

    /// As [`Node::write`], inside the device.
    ///
    /// # Errors
    /// As [`Node::write`].
    pub async fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        tracing::trace!(
            name: "blk_co_pwritev",
            blk = format_args!("{self:p}"),
            bs = format_args!("{:p}", self.node),
            offset,
            bytes,
            flags = format_args!("{:#x}", flags.bits()),
        );
        self.check_inside(offset, bytes)?;
        self.node.write(offset, data, flags).await?;
        self.settle().await
    }

    /// As [`Node::write_zeroes`], inside the device.
    ///
    /// # Errors
    /// As [`Node::write_zeroes`].
    pub async fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        self.check_inside(offset, len)?;
        self.node.write_zeroes(offset, len, flags).await?;
        self.settle().await
    }

    /// As [`Node::discard`].
    ///
    /// # Errors
    /// As [`Node::discard`].
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.node.discard(offset, len).await
    }

    /// As [`Node::flush`].
    ///
    /// # Errors
    /// As [`Node::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.node.flush().await
    }

    /// As [`Node::truncate`].
    ///
    /// # Errors
    /// As [`Node::truncate`].
    pub async fn truncate(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.node.truncate(len, prealloc).await?;
        self.settle().await
    }

    /// As [`Node::block_status`].
    ///
    /// # Errors
    /// As [`Node::block_status`].
    pub async fn block_status(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        self.node.block_status(offset, len).await
    }

    /// As [`block_status_above`].
    ///
    /// # Errors
    /// As [`block_status_above`].
    pub async fn block_status_above(&self, base: Option<&Arc<Node>>, offset: u64, len: u64) -> Result<ChainStatus> {
        block_status_above(&self.node, base, offset, len).await
    }

    /// As [`Node::copy_range`], inside the device.
    ///
    /// # Errors
    /// As [`Node::copy_range`].
    pub async fn copy_range(&self, src_offset: u64, dst: &Self, dst_offset: u64, len: u64) -> Result<()> {
        dst.check_inside(dst_offset, len)?;
        self.node.copy_range(src_offset, &dst.node, dst_offset, len).await?;
        dst.settle().await
    }

    /// As [`Node::compress`].
    ///
    /// # Errors
    /// As [`Node::compress`].
    pub async fn compress(&self, offset: u64, data: IoVec) -> Result<CompressedRun> {
        self.node.compress(offset, data).await
    }

    /// As [`Node::write_compressed`].
    ///
    /// # Errors
    /// As [`Node::write_compressed`].
    pub async fn write_compressed(&self, run: CompressedRun) -> Result<()> {
        self.node.write_compressed(run).await?;
        self.settle().await
    }

    /// Flushes and closes the node and those below it.
    ///
    /// # Errors
    /// The first failure; what was written may then be incomplete. Everything is closed all the same.
    pub async fn close(self) -> Result<()> {
        let flushed = self.node.flush().await;
        let closed = self.node.close().await;
        flushed.and(closed)
    }

    /// What a write-through user expects of a completed change.
    async fn settle(&self) -> Result<()> {
        if self.write_through { self.node.flush().await } else { Ok(()) }
    }

    fn check_inside(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.len()) {
            return Ok(());
        }
        let message = format!("Request of {len} bytes at offset {offset} is out of range");
        Err(BlockError::new(ErrorKind::BadRequest, message))
    }
}
