//! An open export as a node of the block graph.
//!
//! QEMU: block/nbd.c.

use qemu_block::aio::CopySource;
use qemu_block::compressed::CompressedRun;
use qemu_block::driver::{BlockOps, FileIdentity, IoFuture};
use qemu_block::error::{BlockError, ErrorKind, Result, errno_text};
use qemu_block::manage::{AmendOps, BitmapOps, SnapshotOps};
use qemu_block::node::Edge;
use qemu_block::types::{
    BlockLimits, BlockStatus, CheckFixes, CheckReport, DriverInfo, OpenFlags, Perm, PreallocMode, StatusFlags,
    WriteFlags, ZeroFlags,
};
use qemu_util::buf::{IoVec, IoVecMut};

use crate::client::Client;
use crate::order::{Answer, Body, Order};
use crate::protocol::{Command, CommandFlags, ExportFlags, PAYLOAD_MAX, Request};

/// Bytes of a sector, the smallest unit that servers without block sizes are trusted with.
const SECTOR: u32 = 512;
/// Longest discard and longest question about the status, in bytes.
const SPAN_MAX: u32 = (1 << 31) - 1;

/// An open export.
#[derive(Debug)]
pub(crate) struct NbdNode {
    client: Client,
    limits: BlockLimits,
    /// Flushes do nothing.
    no_flush: bool,
}

impl NbdNode {
    /// The node of an export that was opened with `flags`.
    pub(crate) fn new(client: Client, flags: OpenFlags) -> Self {
        let limits = limits_of(&client);
        Self { client, limits, no_flush: flags.contains(OpenFlags::NO_FLUSH) }
    }

    fn can(&self, flag: ExportFlags) -> bool {
        self.client.export().flags.contains(flag)
    }

    fn size(&self) -> u64 {
        self.client.export().size
    }

    async fn run(&self, order: Order) -> Result<Answer> {
        let answer = self.client.run(order).await?;
        match answer.error {
            0 => Ok(answer),
            error => {
                let errno = system_errno(error);
                Err(BlockError::from_errno(errno, errno_text(errno)))
            }
        }
    }

    async fn read_range(&self, offset: u64, mut buf: IoVecMut) -> Result<IoVecMut> {
        // What lies between the end of the export and that of its last sector reads as zeros.
        let there = self.size().saturating_sub(offset).min(len_u64(buf.len()));
        let mut beyond = buf.split_off(usize::try_from(there).unwrap_or(usize::MAX));
        beyond.fill_zero();
        if !buf.is_empty() {
            let request = Request { command: Command::Read, flags: CommandFlags::empty(), offset, len: short(there)? };
            let answer = self.run(Order { request, body: Body::Read(buf) }).await?;
            let Body::Read(filled) = answer.body else { return Err(BlockError::from_errno(libc::EIO, "No data")) };
            buf = filled;
        }
        buf.append(beyond);
        Ok(buf)
    }

    async fn write_range(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let durable = flags.contains(WriteFlags::FUA);
        let mut command = CommandFlags::empty();
        command.set(CommandFlags::FUA, durable && self.can(ExportFlags::FUA));
        let len = short(len_u64(data.len()))?;
        let request = Request { command: Command::Write, flags: command, offset, len };
        self.run(Order { request, body: Body::Write(data) }).await?;
        if durable && !self.can(ExportFlags::FUA) {
            self.flush_all().await?;
        }
        Ok(())
    }

    async fn zero_range(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let fast_only = flags.contains(ZeroFlags::NO_FALLBACK);
        let block = u64::from(self.limits.request_alignment);
        let in_blocks = offset.is_multiple_of(block) && len.is_multiple_of(block);
        if !in_blocks || !self.can(ExportFlags::WRITE_ZEROES) || (fast_only && !self.can(ExportFlags::FAST_ZERO)) {
            return Err(unsupported());
        }
        let mut command = CommandFlags::empty();
        command.set(CommandFlags::NO_HOLE, !flags.contains(ZeroFlags::MAY_UNMAP));
        command.set(CommandFlags::FAST_ZERO, fast_only);
        let longest = self.limits.transfer_max;
        self.in_pieces(Command::WriteZeroes, command, offset, len, longest).await
    }

    /// One request after the other, none longer than `longest`.
    async fn in_pieces(
        &self,
        command: Command,
        flags: CommandFlags,
        mut offset: u64,
        mut len: u64,
        longest: u64,
    ) -> Result<()> {
        while len > 0 {
            let piece = len.min(longest);
            self.run(Order::plain(command, flags, offset, short(piece)?)).await?;
            offset += piece;
            len -= piece;
        }
        Ok(())
    }

    async fn flush_all(&self) -> Result<()> {
        if self.no_flush || !self.can(ExportFlags::FLUSH) {
            return Ok(());
        }
        self.run(Order::plain(Command::Flush, CommandFlags::empty(), 0, 0)).await.map(drop)
    }

    async fn status_at(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        let host_offset = Some(offset);
        if self.client.export().context.is_none() {
            return Ok(BlockStatus { len, flags: StatusFlags::DATA, host_offset });
        }
        let there = self.size().saturating_sub(offset).min(len);
        if there == 0 {
            return Ok(BlockStatus { len, flags: StatusFlags::ZERO, host_offset: None });
        }
        let asked = there.min(self.longest_span());
        let order = Order::plain(Command::BlockStatus, CommandFlags::REQ_ONE, offset, short(asked)?);
        let found = self.run(order).await?.status;
        let found = found.ok_or_else(|| BlockError::from_errno(libc::EIO, errno_text(libc::EIO)))?;
        let mut flags = StatusFlags::empty();
        flags.set(StatusFlags::DATA, !found.hole);
        flags.set(StatusFlags::ZERO, found.zero);
        // A server that says more than it was asked for is not wrong, but what it says may lie behind the end.
        Ok(BlockStatus { len: u64::from(found.len).min(there), flags, host_offset })
    }

    fn longest_span(&self) -> u64 {
        let align = u64::from(self.limits.request_alignment);
        u64::from(SPAN_MAX) / align * align
    }

    fn resize(&self, len: u64) -> Result<()> {
        if len == self.size() {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::Unsupported, "Cannot resize NBD nodes"))
    }
}

/// QEMU: `nbd_refresh_limits`.
fn limits_of(client: &Client) -> BlockLimits {
    let export = client.export();
    // Servers that do not say anything about blocks take any byte if they describe extents or have a size that is not in
    // sectors. Others may be so old that they know sectors only.
    let any_byte = export.context.is_some() || !export.size.is_multiple_of(u64::from(SECTOR));
    let silent = if any_byte { 1 } else { SECTOR };
    let minimum = export.blocks.map_or(silent, |blocks| blocks.minimum);
    let maximum = export.blocks.map_or(PAYLOAD_MAX, |blocks| blocks.maximum.min(PAYLOAD_MAX));
    let transfer_max = u64::from((maximum / minimum * minimum).max(minimum));
    BlockLimits { request_alignment: minimum, transfer_max, ..BlockLimits::UNLIMITED }
}

/// The errno of this system for a number of the protocol. QEMU: `nbd_errno_to_system_errno`.
fn system_errno(error: u32) -> i32 {
    match error {
        1 => libc::EPERM,
        5 => libc::EIO,
        12 => libc::ENOMEM,
        28 => libc::ENOSPC,
        75 => libc::EOVERFLOW,
        95 => libc::ENOTSUP,
        108 => libc::ESHUTDOWN,
        _ => libc::EINVAL,
    }
}

/// A length as requests have it. The node above splits what is longer.
fn short(len: u64) -> Result<u32> {
    u32::try_from(len).map_err(|_| BlockError::new(ErrorKind::BadRequest, "The request is too long"))
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn unsupported() -> BlockError {
    BlockError::from_errno(libc::ENOTSUP, errno_text(libc::ENOTSUP))
}

fn refuse<T: Send + 'static>() -> IoFuture<'static, T> {
    Box::pin(std::future::ready(Err(unsupported())))
}

fn ready<T: Send + 'static>(value: T) -> IoFuture<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl BlockOps for NbdNode {
    fn len(&self) -> u64 {
        self.size()
    }

    fn limits(&self) -> BlockLimits {
        self.limits
    }

    fn children(&self) -> Vec<Edge> {
        Vec::new()
    }

    fn info(&self) -> IoFuture<'_, DriverInfo> {
        ready(DriverInfo::default())
    }

    fn set_perm(&self, _perm: Perm, _shared: Perm) -> IoFuture<'_, ()> {
        // Who else uses the export is the server's affair.
        ready(())
    }

    fn identity(&self) -> Option<FileIdentity> {
        None
    }

    fn read(&self, offset: u64, buf: IoVecMut) -> IoFuture<'_, IoVecMut> {
        Box::pin(self.read_range(offset, buf))
    }

    fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> IoFuture<'_, ()> {
        Box::pin(self.write_range(offset, data, flags))
    }

    fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> IoFuture<'_, ()> {
        Box::pin(self.zero_range(offset, len, flags))
    }

    fn discard(&self, offset: u64, len: u64) -> IoFuture<'_, ()> {
        if !self.can(ExportFlags::TRIM) {
            return ready(());
        }
        Box::pin(self.in_pieces(Command::Trim, CommandFlags::empty(), offset, len, self.longest_span()))
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(self.flush_all())
    }

    fn block_status(&self, offset: u64, len: u64) -> IoFuture<'_, BlockStatus> {
        Box::pin(self.status_at(offset, len))
    }

    fn truncate(&self, len: u64, _prealloc: PreallocMode) -> IoFuture<'_, ()> {
        Box::pin(std::future::ready(self.resize(len)))
    }

    fn copy_source(&self, _offset: u64, _len: u64) -> IoFuture<'_, CopySource> {
        refuse()
    }

    fn copy_range(&self, _offset: u64, _source: CopySource, _len: u64) -> IoFuture<'_, ()> {
        refuse()
    }

    fn compress(&self, _offset: u64, _data: IoVec) -> IoFuture<'_, CompressedRun> {
        refuse()
    }

    fn write_compressed(&self, _run: CompressedRun) -> IoFuture<'_, ()> {
        refuse()
    }

    fn check(&self, _fixes: CheckFixes) -> IoFuture<'_, CheckReport> {
        refuse()
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
        Box::pin(async {
            self.client.close().await;
            Ok(())
        })
    }
}
