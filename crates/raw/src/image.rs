//! An open raw image: every request goes to the storage, shifted.

use qemu_block::manage::{AmendOps, BitmapOps, SnapshotOps};
use std::sync::Arc;

use qemu_block::aio::CopySource;
use qemu_block::compressed::CompressedRun;
use qemu_block::debug::DebugEvent;
use qemu_block::driver::{BlockOps, FileIdentity, IoFuture};
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::{ChildRole, Edge, Node};
use qemu_block::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, Perm, PreallocMode, StatusFlags, WriteFlags,
    ZeroFlags,
};
use qemu_util::buf::{IoVec, IoVecMut};

use crate::window::Window;

/// An open raw image.
#[derive(Debug)]
pub(crate) struct RawImage {
    storage: Arc<Node>,
    window: Window,
}

impl RawImage {
    pub(crate) fn new(storage: Arc<Node>, window: Window) -> Self {
        Self { storage, window }
    }

    /// How many of the `len` bytes at `offset` in the storage are really there; the rest pads the last sector.
    fn stored(&self, offset: u64, len: u64) -> u64 {
        self.storage.len().saturating_sub(offset).min(len)
    }

    async fn read_shifted(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        let range = self.window.to_storage(offset, len_u64(buf.len()))?;
        let stored = self.stored(range.start, range.end - range.start);
        self.storage.debug_event(DebugEvent::ReadAio).await;
        if stored == range.end - range.start {
            return self.storage.read(range.start, buf).await;
        }
        let stored = usize::try_from(stored).expect("less than the buffer's length");
        let mut padding = buf.split_off(stored);
        padding.fill_zero();
        if buf.is_empty() {
            return Ok(padding);
        }
        let mut filled = self.storage.read(range.start, buf).await?;
        filled.append(padding);
        Ok(filled)
    }

    async fn status_shifted(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        let range = self.window.to_storage(offset, len)?;
        if self.stored(range.start, 1) == 0 {
            let flags = StatusFlags::ZERO | StatusFlags::ALLOCATED;
            return Ok(BlockStatus { len, flags, host_offset: Some(range.start) });
        }
        let below = self.storage.block_status(range.start, len).await?;
        // What the storage says is complete: offsets are those where it has the data, and it has looked for holes there.
        let flags = below.flags.difference(StatusFlags::RECURSE) | StatusFlags::PASSED_ON;
        Ok(BlockStatus { flags, ..below })
    }

    async fn discard_shifted(&self, offset: u64, len: u64) -> Result<()> {
        let range = self.window.to_storage(offset, len)?;
        let stored = self.stored(range.start, len);
        if stored == 0 { Ok(()) } else { self.storage.discard(range.start, stored).await }
    }

    async fn truncate_shifted(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        if self.window.size.is_some() {
            return Err(unsupported("Cannot resize fixed-size raw disks"));
        }
        let end = len.checked_add(self.window.offset).filter(|end| i64::try_from(*end).is_ok());
        let too_large = || BlockError::new(ErrorKind::InvalidArgument, "Disk size too large for the chosen offset");
        self.storage.truncate(end.ok_or_else(too_large)?, prealloc).await
    }

    /// What the storage is used for. With a window it must keep its size, and writing may need to extend it.
    ///
    /// QEMU: `raw_child_perm`, `bdrv_default_perms_for_storage`.
    fn perms_below(&self, perm: Perm, shared: Perm) -> (Perm, Perm) {
        let shared = shared | Perm::WRITE_UNCHANGED;
        if self.window.is_whole() { (perm, shared) } else { (perm, shared.difference(Perm::RESIZE)) }
    }
}

impl BlockOps for RawImage {
    fn len(&self) -> u64 {
        self.window.device_len(self.storage.len())
    }

    /// The storage's node aligns by itself, so nothing needs alignment here.
    fn limits(&self) -> BlockLimits {
        let below = self.storage.limits();
        BlockLimits {
            transfer_max: below.transfer_max,
            growable: below.growable && self.window.size.is_none(),
            ..BlockLimits::UNLIMITED
        }
    }

    fn children(&self) -> Vec<Edge> {
        vec![Edge { name: "file", role: ChildRole::Storage, node: Arc::clone(&self.storage) }]
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(async {
            let below = self.storage.info().await?;
            Ok(DriverInfo {
                cluster_size: below.cluster_size,
                dirty: below.dirty,
                zero_init: below.zero_init,
                ..DriverInfo::default()
            })
        })
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let (perm, shared) = self.perms_below(perm, shared);
            self.storage.set_perm(perm, shared).await
        })
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_shifted(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let range = self.window.to_storage(offset, len_u64(data.len()))?;
            self.storage.debug_event(DebugEvent::WriteAio).await;
            self.storage.write(range.start, data, flags).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let range = self.window.to_storage(offset, len)?;
            self.storage.write_zeroes(range.start, len, flags).await
        })
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.discard_shifted(offset, len))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.storage.debug_event(DebugEvent::FlushToDisk).await;
            self.storage.flush().await
        })
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(self.status_shifted(offset, len))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.truncate_shifted(len, prealloc))
    }

    fn copy_source(&self, offset: u64, len: u64) -> IoFuture<'_, CopySource> {
        Box::pin(async move {
            let range = self.window.to_storage(offset, len)?;
            if self.stored(range.start, len) < len {
                return Err(unsupported("The padding of the last sector is stored nowhere"));
            }
            self.storage.copy_source(range.start, len).await
        })
    }

    fn copy_range(&self, offset: u64, source: CopySource, len: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let range = self.window.to_storage(offset, len)?;
            self.storage.copy_from(range.start, source, len).await
        })
    }

    fn compress(&self, _offset: u64, _data: IoVec) -> IoFuture<'_, CompressedRun> {
        Box::pin(async { Err(unsupported("The raw format does not support compression")) })
    }

    fn write_compressed(&self, _run: CompressedRun) -> IoFuture<'_, ()> {
        Box::pin(async { Err(unsupported("The raw format does not support compression")) })
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        Box::pin(async { Err(unsupported("This image format does not support checks")) })
    }

    fn snapshots(&self) -> Option<&dyn SnapshotOps> {
        None
    }

    fn bitmaps(&self) -> Option<&dyn BitmapOps> {
        None
    }

    fn amending(&self) -> Option<&dyn AmendOps> {
        None
    }

    fn close(&self) -> IoFuture<'_, ()> {
        Box::pin(self.storage.close())
    }
}

fn unsupported(message: &str) -> BlockError {
    BlockError::new(ErrorKind::Unsupported, message)
}

/// A buffer length as an offset. Buffers are never longer than `u64` can tell.
fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
