//! What filters have in common: every request goes to the node below, unless the filter does it itself.
//!
//! A filter implements [`Filter`], whose methods all have a default that passes the request on, and puts itself into a
//! [`FilterNode`], which is the [`BlockOps`] of an open filter.

use std::sync::Arc;

use qemu_block::aio::CopySource;
use qemu_block::compressed::CompressedRun;
use qemu_block::debug::DebugOps;
use qemu_block::driver::{BlockOps, FileIdentity, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::{AmendOps, BitmapOps, Measurement, SnapshotOps};
use qemu_block::node::{ChildRole, Edge, Node};
use qemu_block::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, Perm, PreallocMode, StatusFlags, WriteFlags,
    ZeroFlags,
};
use qemu_util::buf::{IoVec, IoVecMut};

/// The length of every device is a multiple of this.
const SECTOR_LEN: u64 = 512;

/// A filter: what it does otherwise than the node below. The methods are those of [`BlockOps`].
#[expect(missing_docs, reason = "the methods are those of `BlockOps`, which documents them")]
#[expect(clippy::len_without_is_empty, reason = "filters say how long they are; `Node` has the convenience")]
pub trait Filter: std::fmt::Debug + Send + Sync {
    /// The node below.
    fn child(&self) -> &Arc<Node>;

    /// QEMU's name of the node below.
    fn child_name(&self) -> &'static str {
        "file"
    }

    fn len(&self) -> u64 {
        self.child().len()
    }

    /// The node below aligns by itself, so nothing needs alignment here.
    fn limits(&self) -> BlockLimits {
        pass_limits(self.child())
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(self.child().set_perm(perm, shared))
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.child().read(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.child().write(offset, data, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.child().write_zeroes(offset, len, flags))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.child().discard(offset, len))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(self.child().flush())
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(pass_status(self.child(), offset, len))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.child().truncate(len, prealloc))
    }

    fn compress(&self, offset: u64, data: IoVec) -> IoFuture<'_, CompressedRun> {
        Box::pin(self.child().compress(offset, data))
    }

    fn write_compressed(&self, run: CompressedRun) -> IoFuture<'_, ()> {
        Box::pin(self.child().write_compressed(run))
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(self.child().close())
    }

    fn debugging(&self) -> Option<&dyn DebugOps> {
        None
    }
}

/// The node below a filter that is being opened, or the complaint that there is none.
///
/// # Errors
/// There is none; the registry always opens one.
pub fn child_of(request: &OpenRequest, name: &str) -> Result<Arc<Node>> {
    let missing = || format!("A block device must be specified for \"{name}\"");
    request.storage.clone().ok_or_else(|| BlockError::new(ErrorKind::InvalidArgument, missing()))
}

/// The limits of a filter that takes any request.
pub fn pass_limits(child: &Arc<Node>) -> BlockLimits {
    let below = child.limits();
    BlockLimits { transfer_max: below.transfer_max, growable: below.growable, ..BlockLimits::UNLIMITED }
}

/// The status that the node below reports.
///
/// # Errors
/// Those of the node below.
pub async fn pass_status(child: &Arc<Node>, offset: u64, len: u64) -> Result<BlockStatus> {
    let mut status = child.block_status(offset, len).await?;
    // The node below has asked those below it already.
    status.flags.remove(StatusFlags::RECURSE);
    Ok(status)
}

/// What filters answer when they are asked how large an image will be.
///
/// # Errors
/// Always.
pub fn no_measurement(driver: &'static str) -> IoFuture<'static, Measurement> {
    Box::pin(async move { Err(qemu_block::manage::cannot_measure(driver)) })
}

/// What filters answer when they are to create an image.
///
/// # Errors
/// Always.
pub fn no_creation(driver: &'static str) -> IoFuture<'static, ()> {
    Box::pin(async move { Err(unsupported(&format!("Format driver '{driver}' does not support image creation"))) })
}

/// An open filter.
#[derive(Debug)]
pub struct FilterNode<F> {
    filter: F,
}

impl<F: Filter> FilterNode<F> {
    /// The node of `filter`.
    pub fn new(filter: F) -> Self {
        Self { filter }
    }

    fn child(&self) -> &Arc<Node> {
        self.filter.child()
    }

    /// How many of the `len` bytes at `offset` are there below; the rest pads the last sector.
    fn stored(&self, offset: u64, len: u64) -> u64 {
        self.filter.len().saturating_sub(offset).min(len)
    }

    async fn read_padded(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let stored = self.stored(offset, len);
        if stored == len {
            return self.filter.read(offset, buf).await;
        }
        let mut padding = buf.split_off(usize::try_from(stored).unwrap_or(usize::MAX).min(buf.len()));
        padding.fill_zero();
        if buf.is_empty() {
            return Ok(padding);
        }
        let mut filled = self.filter.read(offset, buf).await?;
        filled.append(padding);
        Ok(filled)
    }

    async fn status_padded(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        if self.stored(offset, 1) == 0 {
            let flags = StatusFlags::ZERO | StatusFlags::ALLOCATED;
            return Ok(BlockStatus { len, flags, host_offset: Some(offset) });
        }
        self.filter.block_status(offset, len).await
    }

    async fn discard_padded(&self, offset: u64, len: u64) -> Result<()> {
        let stored = self.stored(offset, len);
        if stored == 0 { Ok(()) } else { self.filter.discard(offset, stored).await }
    }

    /// A filter is described by what it shows; the format and its specialities are those of the node below.
    async fn pass_info(&self) -> Result<DriverInfo> {
        let below = self.child().info().await?;
        Ok(DriverInfo {
            cluster_size: below.cluster_size,
            dirty: Some(below.dirty.unwrap_or(false)),
            zero_init: below.zero_init,
            snapshots: below.snapshots,
            ..DriverInfo::default()
        })
    }
}

impl<F: Filter> BlockOps for FilterNode<F> {
    fn len(&self) -> u64 {
        self.filter.len().checked_next_multiple_of(SECTOR_LEN).unwrap_or(u64::MAX)
    }

    fn limits(&self) -> BlockLimits {
        self.filter.limits()
    }

    fn children(&self) -> Vec<Edge> {
        vec![Edge { name: self.filter.child_name(), role: ChildRole::Storage, node: Arc::clone(self.child()) }]
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(self.pass_info())
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        self.filter.set_perm(perm, shared)
    }

    /// What is below is not another file, only another way to it.
    fn identity(&self) -> Option<FileIdentity> {
        self.child().identity()
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_padded(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        self.filter.write(offset, data, flags)
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        self.filter.write_zeroes(offset, len, flags)
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.discard_padded(offset, len))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        self.filter.flush()
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(self.status_padded(offset, len))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        self.filter.truncate(len, prealloc)
    }

    /// Data that the kernel copies passes the filter by.
    fn copy_source(&self, _offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        Box::pin(async { Err(unsupported("Data does not pass filters inside the kernel")) })
    }

    fn copy_range(&self, _offset: u64, _source: CopySource, _len: u64) -> IoFuture<'_, ()> {
        Box::pin(async { Err(unsupported("Data does not pass filters inside the kernel")) })
    }

    fn compress(&self, offset: u64, data: IoVec) -> IoFuture<'_, CompressedRun> {
        self.filter.compress(offset, data)
    }

    fn write_compressed(&self, run: CompressedRun) -> IoFuture<'_, ()> {
        self.filter.write_compressed(run)
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        Box::pin(async { Err(unsupported("This image format does not support checks")) })
    }

    fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        self.child().snapshots()
    }

    /// The reference stores bitmaps through formats only.
    fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        None
    }

    fn amending(&self) -> Option<&dyn AmendOps> {
        None
    }

    fn debugging(&self) -> Option<&dyn DebugOps> {
        self.filter.debugging()
    }

    fn close(&self) -> IoFuture<'_, ()> {
        self.filter.close()
    }
}

fn unsupported(message: &str) -> BlockError {
    BlockError::new(ErrorKind::Unsupported, message)
}
