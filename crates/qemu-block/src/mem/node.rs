//! A node over a [`MemDisk`].

use crate::manage::{AmendOps, BitmapOps, SnapshotOps};
use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::primitive::atomic::{AtomicBool, Ordering};

use super::record::Track;
use super::{Fault, LogEntry, MemDisk, MemOp};
use crate::aio::CopySource;
use crate::compressed::CompressedRun;
use crate::driver::{BlockOps, FileIdentity, IoFuture};
use crate::error::{BlockError, Result, errno_text};
use crate::node::Edge;
use crate::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, Perm, PreallocMode, StatusFlags, WriteFlags,
    ZeroFlags,
};

#[derive(Debug)]
pub(super) struct MemNode {
    disk: MemDisk,
    closed: AtomicBool,
}

impl MemNode {
    pub(super) fn new(disk: MemDisk) -> Self {
        Self { disk, closed: AtomicBool::new(false) }
    }

    async fn enter(&self, op: MemOp, offset: u64, len: u64) -> Result<()> {
        match self.pass(op, offset, len).await? {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    /// As [`MemNode::enter`], for requests that can fail halfway.
    async fn pass(&self, op: MemOp, offset: u64, len: u64) -> Result<Option<Fault>> {
        // Relaxed: requests after a close are a mistake of one thread, not a race.
        if self.closed.load(Ordering::Relaxed) {
            return Err(BlockError::from_errno(libc::EBADF, "the disk was closed"));
        }
        Ok(self.disk.control().pass(op, offset..offset.saturating_add(len)).await)
    }

    /// Checks that a change which ends at `end` is possible.
    fn check_end(&self, end: u64) -> Result<()> {
        let grows = end > self.disk.len();
        if grows && !self.disk.shared.growable {
            return Err(BlockError::from_errno(libc::ENOSPC, errno_text(libc::ENOSPC)));
        }
        Ok(())
    }

    async fn read_into(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        self.enter(MemOp::Read, offset, buf.len() as u64).await?;
        let store = self.disk.shared.store.lock();
        let mut at = offset;
        for part in buf.parts_mut() {
            store.read(at, part);
            at += part.len() as u64;
        }
        Ok(buf)
    }

    async fn write_from(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let fault = self.pass(MemOp::Write, offset, data.len() as u64).await?;
        let data = match fault {
            Some(Fault::Short { bytes, .. }) => data.slice(0..data.len().min(as_len(bytes))),
            Some(fault) => return Err(fault.error()),
            None => data,
        };
        self.check_end(offset.saturating_add(data.len() as u64))?;
        if !data.is_empty() {
            let mut store = self.disk.shared.store.lock();
            let mut at = offset;
            for part in data.parts() {
                store.write(at, part);
                at += part.len() as u64;
            }
            store.log(|| LogEntry::Write { offset, data: data.to_vec() });
        }
        match fault {
            Some(fault) => Err(fault.error()),
            None if flags.contains(WriteFlags::FUA) => self.sync().await,
            None => Ok(()),
        }
    }

    async fn clear(&self, op: MemOp, offset: u64, len: u64) -> Result<()> {
        let fault = self.pass(op, offset, len).await?;
        let len = match fault {
            Some(Fault::Short { bytes, .. }) => len.min(bytes),
            Some(fault) => return Err(fault.error()),
            None => len,
        };
        self.check_end(offset.saturating_add(len))?;
        if len > 0 {
            let mut store = self.disk.shared.store.lock();
            store.zero(offset, len);
            store.log(|| LogEntry::Zero { offset, len });
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    async fn sync(&self) -> Result<()> {
        // A flush covers what is there when it begins; requests may overtake it.
        let flush = self.disk.shared.store.lock().track().map(Track::flush_started);
        self.enter(MemOp::Flush, 0, u64::MAX).await?;
        let mut store = self.disk.shared.store.lock();
        store.log(|| LogEntry::Flush);
        if let (Some(track), Some(flush)) = (store.track(), flush) {
            track.flush_done(flush);
        }
        Ok(())
    }

    async fn resize(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.enter(MemOp::Truncate, 0, u64::MAX).await?;
        if !self.disk.shared.growable {
            return Err(BlockError::from_errno(libc::ENOTSUP, "Cannot resize this disk"));
        }
        if prealloc != PreallocMode::Off {
            let message = format!("Unsupported preallocation mode: {}", prealloc.name());
            return Err(BlockError::from_errno(libc::ENOTSUP, message));
        }
        let mut store = self.disk.shared.store.lock();
        store.truncate(len);
        store.log(|| LogEntry::Truncate { len });
        Ok(())
    }

    async fn status_at(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        self.enter(MemOp::Status, offset, len).await?;
        let (len, written) = self.disk.shared.store.lock().extent(offset, len);
        let content = if written { StatusFlags::DATA } else { StatusFlags::ZERO };
        Ok(BlockStatus { len, flags: content | StatusFlags::ALLOCATED, host_offset: Some(offset) })
    }
}

/// A length for which there is memory, as a length of memory.
fn as_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn unsupported<T: Send + 'static>() -> IoFuture<'static, T> {
    let error = BlockError::from_errno(libc::ENOTSUP, errno_text(libc::ENOTSUP));
    Box::pin(std::future::ready(Err(error)))
}

fn ready<T: Send + 'static>(value: T) -> IoFuture<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl BlockOps for MemNode {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { growable: self.disk.shared.growable, ..BlockLimits::UNLIMITED }
    }

    fn children(&self) -> Vec<Edge> {
        Vec::new()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        let allocated_bytes = Some(self.disk.allocated_bytes());
        ready(DriverInfo { allocated_bytes, zero_init: true, ..DriverInfo::default() })
    }

    fn set_perm(&self, _perm: Perm, _shared: Perm) -> IoFuture<'_, ()> {
        ready(())
    }

    fn identity(&self) -> Option<FileIdentity> {
        Some(self.disk.shared.identity)
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_into(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.write_from(offset, data, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, _flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.clear(MemOp::Zero, offset, len))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.clear(MemOp::Discard, offset, len))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(self.sync())
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(self.status_at(offset, len))
    }

    fn truncate(&self, len: u64, prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(self.resize(len, prealloc))
    }

    fn copy_source(&self, _offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        unsupported()
    }

    fn copy_range(&self, _offset: u64, _source: CopySource, _len: u64) -> IoFuture<'_, ()> {
        unsupported()
    }

    fn compress(&self, _offset: u64, _data: IoVec) -> IoFuture<'_, CompressedRun> {
        unsupported()
    }

    fn write_compressed(&self, _run: CompressedRun) -> IoFuture<'_, ()> {
        unsupported()
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        unsupported()
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
        // Relaxed: see `pass`.
        self.closed.store(true, Ordering::Relaxed);
        Box::pin(self.disk.control().enter(MemOp::Close, 0..u64::MAX))
    }
}
