//! A device without memory. QEMU: block/null.c.

use crate::manage::{AmendOps, BitmapOps, Measurement, SnapshotOps, cannot_measure};
use std::sync::Arc;
use std::time::Duration;

use qemu_util::buf::{IoVec, IoVecMut};
use qemu_util::primitive::atomic::{AtomicU64, Ordering};

use crate::aio::{CopySource, Services};
use crate::compressed::CompressedRun;
use crate::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, FileIdentity, IoFuture, OpenRequest};
use crate::error::{BlockError, ErrorKind, Result, errno_text};
use crate::node::{Edge, Node};
use crate::options::{CreateOption, Options};
use crate::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm, PreallocMode, StatusFlags,
    WriteFlags, ZeroFlags,
};

/// The length when none is given, in bytes.
const SIZE_DEFAULT: u64 = 1 << 30;

/// The drivers `null-co` and `null-aio`, which differ in name only.
#[derive(Clone, Copy, Debug)]
pub struct NullDriver {
    name: &'static str,
}

impl NullDriver {
    /// The driver `null-co`.
    pub fn co() -> Self {
        Self { name: "null-co" }
    }

    /// The driver `null-aio`.
    pub fn aio() -> Self {
        Self { name: "null-aio" }
    }
}

fn open(driver: NullDriver, request: &mut OpenRequest) -> Result<Box<dyn BlockOps>> {
    let prefix = format!("{}://", driver.name);
    let rest = request.filename.strip_prefix(&prefix).unwrap_or(&request.filename);
    if !rest.is_empty() {
        let message = "The only allowed filename for this driver is ";
        return Err(BlockError::new(ErrorKind::InvalidArgument, format!("{message}'{prefix}'")));
    }
    request.filename = prefix;
    let size = request.options.take_size("size")?.unwrap_or(SIZE_DEFAULT);
    if i64::try_from(size).is_err() {
        return Err(BlockError::from_errno(libc::EFBIG, "The size is too large"));
    }
    let latency = request.options.take_number("latency-ns")?.unwrap_or(0);
    if i64::try_from(latency).is_err() {
        return Err(BlockError::new(ErrorKind::InvalidArgument, "latency-ns is invalid"));
    }
    Ok(Box::new(NullNode {
        len: AtomicU64::new(size),
        latency: Duration::from_nanos(latency),
        read_zeroes: request.options.take_bool("read-zeroes")?.unwrap_or(false),
        services: request.context.services().clone(),
    }))
}

impl BlockDriver for NullDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Protocol
    }

    fn probe(&self, _head: &[u8]) -> u8 {
        0
    }

    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(std::future::ready(open(*self, request)))
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, _options: Options, _source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async { Err(cannot_measure(self.name())) })
    }

    fn create(&self, _request: CreateRequest) -> IoFuture<'_, ()> {
        unsupported()
    }
}

#[derive(Debug)]
struct NullNode {
    len: AtomicU64,
    latency: Duration,
    /// Whether reads give zeros; without it buffers come back as they were, as in QEMU.
    read_zeroes: bool,
    services: Services,
}

impl NullNode {
    /// Takes as long as a request shall take. The wait is a job of the CPU pool: this is a device for measurements.
    async fn pass_time(&self) {
        if !self.latency.is_zero() {
            let latency = self.latency;
            self.services.cpu.run(move || std::thread::sleep(latency)).await;
        }
    }
}

fn unsupported<T: Send + 'static>() -> IoFuture<'static, T> {
    let error = BlockError::from_errno(libc::ENOTSUP, errno_text(libc::ENOTSUP));
    Box::pin(std::future::ready(Err(error)))
}

fn ready<T: Send + 'static>(value: T) -> IoFuture<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl BlockOps for NullNode {
    fn len(&self) -> u64 {
        // Relaxed: there is no data that the length could be ahead of.
        self.len.load(Ordering::Relaxed)
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::UNLIMITED
    }

    fn children(&self) -> Vec<Edge> {
        Vec::new()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        ready(DriverInfo { allocated_bytes: Some(0), zero_init: self.read_zeroes, ..DriverInfo::default() })
    }

    fn set_perm(&self, _perm: Perm, _shared: Perm) -> IoFuture<'_, ()> {
        ready(())
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, _offset: u64, mut buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(async move {
            self.pass_time().await;
            if self.read_zeroes {
                buf.fill_zero();
            }
            Ok(buf)
        })
    }

    fn write(&self, _offset: u64, _data: IoVec, _flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.pass_time().await;
            Ok(())
        })
    }

    fn write_zeroes(&self, _offset: u64, _len: u64, _flags: ZeroFlags) -> IoFuture<'_, ()> {
        unsupported()
    }

    fn discard(&self, _offset: u64, _len: u64) -> IoFuture<'_, ()> {
        unsupported()
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.pass_time().await;
            Ok(())
        })
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        // Without zeros nothing is known, not even that this level decides the content.
        let zeros = StatusFlags::ALLOCATED | StatusFlags::ZERO;
        let flags = if self.read_zeroes { zeros } else { StatusFlags::empty() };
        ready(BlockStatus { len, flags, host_offset: Some(offset) })
    }

    fn truncate(&self, _len: u64, _prealloc: PreallocMode) -> IoFuture<'_, ()> {
        unsupported()
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
        ready(())
    }
}
