//! Making ranges zero and giving ranges up. QEMU: `handle_aiocb_write_zeroes` and `handle_aiocb_discard`.

use qemu_util::primitive::Arc;
use qemu_util::primitive::atomic::{AtomicBool, Ordering};

use super::FileKind;
use super::node::FileNode;
use crate::aio::{AioFile, AioOp, RangeAction};
use crate::driver::BlockOps;
use crate::error::{BlockError, ErrorKind, Result};
use crate::types::{OpenFlags, ZeroFlags};

/// What this file was found not to support; a method that failed once is not tried again.
///
/// All accesses are relaxed: a stale value costs one system call.
#[derive(Debug, Default)]
pub(super) struct Missing {
    punch: AtomicBool,
    zero: AtomicBool,
    allocate: AtomicBool,
}

impl FileNode {
    pub(super) async fn make_zero(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let file = self.file()?;
        self.data_cache.invalidate(offset..offset.saturating_add(len));
        if self.kind == FileKind::Device && !self.is_whole_blocks(offset, len) {
            return Err(unsupported());
        }
        let unmap = flags.contains(ZeroFlags::MAY_UNMAP) && self.flags.contains(OpenFlags::UNMAP);
        match self.kind {
            FileKind::Device => self.zero_device(&file, offset, len, unmap, flags).await,
            FileKind::Regular => self.zero_regular(&file, offset, len, unmap).await,
        }
    }

    /// Whether a device can treat the range at once. Files know no blocks here, their file system does the rest.
    fn is_whole_blocks(&self, offset: u64, len: u64) -> bool {
        let block = u64::from(self.limits().zero_alignment.max(1));
        offset.is_multiple_of(block) && len.is_multiple_of(block)
    }

    async fn zero_regular(&self, file: &Arc<AioFile>, offset: u64, len: u64, unmap: bool) -> Result<()> {
        if unmap {
            match self.attempt(file, &self.missing.punch, RangeAction::PunchHole, offset, len).await {
                // The hole left the length alone.
                Ok(()) => return self.grow_to(file, offset.saturating_add(len)).await,
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match self.attempt(file, &self.missing.zero, RangeAction::ZeroRange, offset, len).await {
            Err(error) if is_refusal(&error) => {}
            done => return done,
        }
        // A hole that is filled up again keeps the space reserved. What lies past the end needs no hole.
        if offset < self.len_now() {
            self.attempt(file, &self.missing.punch, RangeAction::PunchHole, offset, len).await.map_err(soften)?;
        }
        self.attempt(file, &self.missing.allocate, RangeAction::Allocate, offset, len).await.map_err(soften)
    }

    async fn zero_device(
        &self,
        file: &Arc<AioFile>,
        offset: u64,
        len: u64,
        unmap: bool,
        flags: ZeroFlags,
    ) -> Result<()> {
        if unmap {
            match self.attempt(file, &self.missing.punch, RangeAction::PunchHole, offset, len).await {
                Err(error) if is_refusal(&error) => {}
                done => return done,
            }
        }
        // The kernel may write zeros one by one here, which is what this flag forbids.
        if flags.contains(ZeroFlags::NO_FALLBACK) {
            return Err(unsupported());
        }
        self.attempt(file, &self.missing.zero, RangeAction::DeviceZero, offset, len).await.map_err(soften)
    }

    pub(super) async fn give_up(&self, offset: u64, len: u64) -> Result<()> {
        let file = self.file()?;
        if !self.flags.contains(OpenFlags::UNMAP) {
            return Ok(());
        }
        self.data_cache.invalidate(offset..offset.saturating_add(len));
        let action = match self.kind {
            FileKind::Device => RangeAction::DeviceDiscard,
            FileKind::Regular => RangeAction::PunchHole,
        };
        self.attempt(&file, &self.missing.punch, action, offset, len).await.map_err(soften)
    }

    /// Does one thing to a range, unless it is known not to work on this file.
    async fn attempt(
        &self,
        file: &Arc<AioFile>,
        missing: &AtomicBool,
        action: RangeAction,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        if missing.load(Ordering::Relaxed) {
            return Err(unsupported());
        }
        let grows = matches!(action, RangeAction::ZeroRange | RangeAction::Allocate);
        let end = offset.saturating_add(len);
        let guard = if grows { self.growing(end).await } else { None };
        let op = AioOp::Range { file: Arc::clone(file), action, offset, len };
        let done = self.services.engine.submit(op).await.map(drop);
        if matches!(&done, Err(error) if error.kind() == ErrorKind::Unsupported) {
            missing.store(true, Ordering::Relaxed);
        }
        if done.is_ok() {
            self.changed(if grows { end } else { 0 });
        }
        drop(guard);
        done
    }
}

fn unsupported() -> BlockError {
    BlockError::from_errno(libc::EOPNOTSUPP, crate::error::errno_text(libc::EOPNOTSUPP))
}

/// Whether another method may do better: not supported, or not for this range. Some file systems refuse ranges that
/// do not suit their blocks, and files that are in use by others.
fn is_refusal(error: &BlockError) -> bool {
    error.kind() == ErrorKind::Unsupported || matches!(error.errno(), libc::EINVAL | libc::EBUSY)
}

/// The node writes zeros itself when the last method was refused too.
fn soften(error: BlockError) -> BlockError {
    if is_refusal(&error) { unsupported() } else { error }
}
