//! An open file or device.

use crate::manage::{AmendOps, BitmapOps, SnapshotOps};
use std::fmt;
use std::os::unix::fs::MetadataExt;

use qemu_util::buf::{IoBuf, IoVec, IoVecMut};
use qemu_util::primitive::atomic::{AtomicU64, Ordering};
use qemu_util::primitive::{Arc, Mutex};

use super::FileKind;
use super::extent::{self, DataCache};
use super::lock::ImageLocks;
use super::probe::Alignment;
use super::zero::Missing;
use crate::aio::{AioFile, AioOp, AioResult, CopySource, FileExtent, Services};
use crate::compressed::CompressedRun;
use crate::driver::{BlockOps, FileIdentity, IoFuture};
use crate::error::{BlockError, Result, errno_text};
use crate::io::{RangeGuard, RangeLock, RangeMode};
use crate::node::Edge;
use crate::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, FormatSpecific, OpenFlags, Perm, PreallocMode,
    StatusFlags, WriteFlags, ZeroFlags,
};

/// What a node is made of.
pub(super) struct Parts {
    pub(super) file: AioFile,
    pub(super) kind: FileKind,
    pub(super) filename: String,
    pub(super) flags: OpenFlags,
    pub(super) services: Services,
    pub(super) identity: FileIdentity,
    pub(super) alignment: Alignment,
    /// The unit of a device's zero and discard requests, in bytes.
    pub(super) block_size: u32,
    pub(super) len: u64,
}

/// The node. QEMU: `BDRVRawState`.
pub(super) struct FileNode {
    /// `None` once closed. Requests hold a clone, so the descriptor stays open until the last one is done.
    file: Mutex<Option<Arc<AioFile>>>,
    /// `None` when images are not locked.
    locks: Option<Mutex<ImageLocks>>,
    pub(super) kind: FileKind,
    filename: String,
    pub(super) flags: OpenFlags,
    pub(super) services: Services,
    identity: FileIdentity,
    alignment: Alignment,
    block_size: u32,
    /// Length in bytes. Grows with completed requests, so it is never ahead of the file.
    len: AtomicU64,
    /// Held shared by requests that make the file longer, exclusively by those that set its length: a truncation that
    /// was decided before such a request must not cut off what that request wrote. Only the range 0..1 is used.
    pub(super) growth: RangeLock,
    pub(super) data_cache: DataCache,
    pub(super) missing: Missing,
    /// Number of completed changes.
    changes: AtomicU64,
    /// How many of them are durable.
    flushed: AtomicU64,
}

impl FileNode {
    pub(super) fn new(parts: Parts, lock: bool) -> Self {
        let Parts { file, kind, filename, flags, services, identity, alignment, block_size, len } = parts;
        Self {
            file: Mutex::new(Some(Arc::new(file))),
            locks: lock.then(|| Mutex::new(ImageLocks::new())),
            kind,
            filename,
            flags,
            services,
            identity,
            alignment,
            block_size,
            len: AtomicU64::new(len),
            growth: RangeLock::new(),
            data_cache: DataCache::default(),
            missing: Missing::default(),
            changes: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        }
    }

    /// The open file.
    pub(super) fn file(&self) -> Result<Arc<AioFile>> {
        let closed = || BlockError::from_errno(libc::EBADF, format!("'{}' was closed", self.filename));
        self.file.lock().clone().ok_or_else(closed)
    }

    pub(super) fn len_now(&self) -> u64 {
        // Acquire: whoever sees a length also sees the write that made it. [pair: file.len]
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn set_len(&self, len: u64) {
        // Release: see `len_now`. [pair: file.len]
        self.len.store(len, Ordering::Release);
        self.changed(0);
    }

    /// Records a completed change that ended at `end`.
    pub(super) fn changed(&self, end: u64) {
        if end > self.len_now() {
            // Release: see `len_now`. [pair: file.len]
            self.len.fetch_max(end, Ordering::Release);
        }
        // Release: a flush that counts this change also covers it. [pair: file.changes]
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// What a request that ends at `end` holds while it makes the file longer.
    pub(super) async fn growing(&self, end: u64) -> Option<RangeGuard<'_>> {
        if self.kind == FileKind::Device || end <= self.len_now() {
            return None;
        }
        Some(self.growth.lock(0..1, RangeMode::Shared).await)
    }

    /// Whether direct I/O takes this memory as it is.
    fn is_aligned<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let mask = self.alignment.memory as usize - 1;
        let unit = self.alignment.request as usize - 1;
        mask | unit == 0 || parts.into_iter().all(|part| part.as_ptr().addr() & mask == 0 && part.len() & unit == 0)
    }

    async fn read_into(&self, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        let file = self.file()?;
        if self.is_aligned(buf.parts().iter().map(|part| &**part)) {
            return self.read_aligned(file, offset, buf).await;
        }
        let bounce = self.services.buffers.take(buf.len());
        let bounce = self.read_aligned(file, offset, bounce.into()).await?;
        let mut buf = buf;
        let mut at = 0;
        for part in bounce.parts() {
            buf.copy_in(at, part);
            at += part.len();
        }
        Ok(buf)
    }

    async fn read_aligned(&self, file: Arc<AioFile>, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        let AioResult::Read { mut buf, filled } =
            self.services.engine.submit(AioOp::Read { file, offset, buf }).await?
        else {
            unreachable!("reads yield buffers")
        };
        if filled < buf.len() {
            // Past the end of a file there are zeros, as in QEMU. Whether an image may end there is for the format to
            // judge, which knows the length of the file.
            let mut tail = buf.split_off(filled);
            tail.fill_zero();
            buf.append(tail);
        }
        Ok(buf)
    }

    async fn write_from(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let file = self.file()?;
        let end = offset.saturating_add(data.len() as u64);
        let data = if self.is_aligned(data.parts().iter().map(|part| &**part)) { data } else { self.bounced(&data) };
        let guard = self.growing(end).await;
        self.services.engine.submit(AioOp::Write { file, offset, data }).await?;
        self.changed(end);
        drop(guard);
        if flags.contains(WriteFlags::FUA) { self.sync().await } else { Ok(()) }
    }

    fn bounced(&self, data: &IoVec) -> IoVec {
        let mut bounce: IoBuf = self.services.buffers.take(data.len());
        data.copy_out(0, &mut bounce);
        bounce.into()
    }

    /// Makes all completed changes durable, if there are any.
    async fn sync(&self) -> Result<()> {
        if self.flags.contains(OpenFlags::NO_FLUSH) {
            return Ok(());
        }
        // Acquire: the changes counted here were completed before the system call. [pair: file.changes]
        let changes = self.changes.load(Ordering::Acquire);
        // Acquire: a flush known from here has completed. [pair: file.flushed]
        if self.flushed.load(Ordering::Acquire) >= changes {
            return Ok(());
        }
        self.services.engine.submit(AioOp::Sync { file: self.file()?, data_only: true }).await?;
        // Release: [pair: file.flushed]
        self.flushed.fetch_max(changes, Ordering::Release);
        Ok(())
    }

    async fn status_at(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        if self.kind == FileKind::Device {
            let flags = StatusFlags::DATA | StatusFlags::ALLOCATED;
            return Ok(BlockStatus { len, flags, host_offset: Some(offset) });
        }
        let extent = match self.data_cache.find(offset) {
            Some(end) => FileExtent::Data { end },
            None => self.find_extent(offset).await?,
        };
        Ok(extent::status(extent, offset, len, self.alignment.request.into()))
    }

    async fn find_extent(&self, offset: u64) -> Result<FileExtent> {
        let op = AioOp::Extent { file: self.file()?, offset };
        let AioResult::Extent(extent) = self.services.engine.submit(op).await? else {
            unreachable!("look-ups yield extents")
        };
        if let FileExtent::Data { end } = extent {
            self.data_cache.store(offset..end);
        }
        Ok(extent)
    }

    async fn copy_from(&self, offset: u64, source: CopySource, len: u64) -> Result<()> {
        let file = self.file()?;
        let end = offset.saturating_add(len);
        self.data_cache.invalidate(offset..end);
        let guard = self.growing(end).await;
        let copied = self.services.engine.submit(AioOp::CopyRange { from: source, file, offset, len }).await;
        // A copy that failed half way has changed something too.
        self.changed(if copied.is_ok() { end } else { 0 });
        drop(guard);
        copied.map(drop)
    }

    fn facts(&self) -> Result<DriverInfo> {
        let file = self.file()?;
        let data = file.file().metadata()?;
        Ok(DriverInfo {
            allocated_bytes: Some(data.blocks().saturating_mul(512)),
            format_specific: Some(FormatSpecific { type_name: "file", fields: Vec::new() })
                .filter(|_| self.kind == FileKind::Regular),
            dirty: Some(false),
            zero_init: self.kind == FileKind::Regular,
            ..DriverInfo::default()
        })
    }

    fn change_perm(&self, perm: Perm, shared: Perm) -> Result<()> {
        let Some(locks) = &self.locks else { return Ok(()) };
        locks.lock().change(self.file()?.file(), &self.filename, perm, shared)
    }

    async fn finish(&self) -> Result<()> {
        if self.file.lock().is_none() {
            return Ok(());
        }
        let synced = self.sync().await;
        let Some(file) = self.file.lock().take() else { return synced };
        // Requests still under way keep the descriptor for a while, so the locks are released by hand.
        let released = match &self.locks {
            Some(locks) => locks.lock().release(file.file()),
            None => Ok(()),
        };
        let closed = Arc::into_inner(file).map_or(Ok(()), |file| close(file, &self.filename));
        synced.and(released).and(closed)
    }
}

/// Closes a descriptor and says what the kernel said. Network file systems report late write errors here.
fn close(file: AioFile, filename: &str) -> Result<()> {
    match nix::unistd::close(file.into_file()) {
        // The descriptor is gone on Linux, whatever interrupted the call.
        Ok(()) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(BlockError::from(errno).context(format!("Could not close '{filename}'"))),
    }
}

impl fmt::Debug for FileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileNode")
            .field("filename", &self.filename)
            .field("kind", &self.kind)
            .field("flags", &self.flags)
            .field("len", &self.len_now())
            .finish_non_exhaustive()
    }
}

fn unsupported<T: Send + 'static>() -> IoFuture<'static, T> {
    let error = BlockError::from_errno(libc::ENOTSUP, errno_text(libc::ENOTSUP));
    Box::pin(std::future::ready(Err(error)))
}

impl BlockOps for FileNode {
    fn len(&self) -> u64 {
        self.len_now()
    }

    fn limits(&self) -> BlockLimits {
        let Alignment { request, memory } = self.alignment;
        let block = self.block_size.max(request);
        BlockLimits {
            request_alignment: request,
            memory_alignment: memory,
            zero_alignment: block,
            discard_alignment: block,
            growable: self.kind == FileKind::Regular,
            ..BlockLimits::UNLIMITED
        }
    }

    fn children(&self) -> Vec<Edge> {
        Vec::new()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        Box::pin(std::future::ready(self.facts()))
    }

    fn set_perm(&self, perm: Perm, shared: Perm) -> IoFuture<'_, ()> {
        Box::pin(std::future::ready(self.change_perm(perm, shared)))
    }

    fn identity(&self) -> Option<FileIdentity> {
        Some(self.identity)
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_into(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.write_from(offset, data, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.make_zero(offset, len, flags))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.give_up(offset, len))
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

    fn copy_source(&self, offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        Box::pin(std::future::ready(self.file().map(|file| CopySource { file, offset })))
    }

    fn copy_range(&self, offset: u64, source: CopySource, len: u64) -> IoFuture<'_, ()> {
        Box::pin(self.copy_from(offset, source, len))
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
        Box::pin(self.finish())
    }
}
