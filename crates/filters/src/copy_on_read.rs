//! The filter `copy-on-read`: what is read from a backing file is kept in the image. QEMU: block/copy-on-read.c,
//! `bdrv_co_do_copy_on_readv` (block/io.c).

use std::ops::Range;
use std::sync::Arc;

use qemu_block::driver::{BlockOps, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::{RangeLock, RangeMode};
use qemu_block::node::Node;
use qemu_block::types::{Perm, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBuf, IoVec, IoVecMut};
use qemu_util::zero::is_zero;

use crate::driver::FilterKind;
use crate::pass::{Filter, FilterNode, child_of};

/// Copied at a time.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// The kind of the driver `copy-on-read`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOnRead;

impl FilterKind for CopyOnRead {
    const NAME: &'static str = "copy-on-read";

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move {
            let child = child_of(request, "file")?;
            if child.is_read_only() {
                let error = BlockError::new(ErrorKind::PermissionDenied, "Block node is read-only");
                return Err(error.with_errno(libc::EPERM));
            }
            if let Some(name) = request.options.take_str("bottom") {
                // Nodes have no names that could be looked up.
                let text = format!("Bottom node '{name}' not found");
                return Err(BlockError::new(ErrorKind::InvalidArgument, text));
            }
            let cluster_size = child.info().await?.cluster_size.unwrap_or(1).max(1);
            let open = OpenCopyOnRead { child, cluster_size, ranges: RangeLock::new() };
            Ok(Box::new(FilterNode::new(open)) as Box<dyn BlockOps>)
        })
    }

    /// What is kept was there before, as far as anybody can see.
    fn child_perms(&self, perm: Perm, shared: Perm) -> (Perm, Perm) {
        (perm | Perm::WRITE_UNCHANGED, shared | Perm::WRITE_UNCHANGED)
    }
}

#[derive(Debug)]
struct OpenCopyOnRead {
    child: Arc<Node>,
    /// The grain in which the image keeps data.
    cluster_size: u64,
    /// Held exclusively where data is being copied, shared by whoever writes.
    ranges: RangeLock,
}

impl OpenCopyOnRead {
    /// Copies what the image leaves to its backing file, then reads.
    async fn read_and_keep(&self, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let end = offset.saturating_add(len).min(self.child.len());
        let mut at = offset;
        while at < end {
            at = self.keep(at..end).await?;
        }
        self.child.read(offset, buf).await
    }

    /// Keeps the first part of `range`; returns where it ends.
    async fn keep(&self, range: Range<u64>) -> Result<u64> {
        let status = self.child.block_status(range.start, range.end - range.start).await?;
        let end = range.start.saturating_add(status.len.max(1));
        if status.is_allocated() {
            return Ok(end);
        }
        let start = range.start / self.cluster_size * self.cluster_size;
        let end = end.min(start.saturating_add(COPY_BYTES_MAX.max(self.cluster_size)));
        let end = end.checked_next_multiple_of(self.cluster_size).unwrap_or(end).min(self.child.len());
        let _alone = self.ranges.lock(start..end, RangeMode::Exclusive).await;
        self.copy(start..end).await?;
        Ok(end)
    }

    /// Copies what the image still leaves to its backing file. The caller holds the range.
    async fn copy(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            // Somebody may have written in the meantime.
            let status = self.child.block_status(at, range.end - at).await?;
            let len = status.len.clamp(1, range.end - at);
            if !status.is_allocated() {
                self.store(at, self.child.read_bytes(at, usize::try_from(len).unwrap_or(usize::MAX)).await?).await?;
            }
            at += len;
        }
        Ok(())
    }

    async fn store(&self, offset: u64, data: IoBuf) -> Result<()> {
        if is_zero(&data) {
            let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
            return self.child.write_zeroes(offset, len, ZeroFlags::empty()).await;
        }
        self.child.write(offset, data.into(), WriteFlags::empty()).await
    }
}

impl Filter for OpenCopyOnRead {
    fn child(&self) -> &Arc<Node> {
        &self.child
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        let (perm, shared) = CopyOnRead.child_perms(perm, shared);
        Box::pin(self.child.set_perm(perm, shared))
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_and_keep(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let _shared = self.ranges.lock(offset..offset.saturating_add(len), RangeMode::Shared).await;
            self.child.write(offset, data, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let _shared = self.ranges.lock(offset..offset.saturating_add(len), RangeMode::Shared).await;
            self.child.write_zeroes(offset, len, flags).await
        })
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let _shared = self.ranges.lock(offset..offset.saturating_add(len), RangeMode::Shared).await;
            self.child.discard(offset, len).await
        })
    }
}
