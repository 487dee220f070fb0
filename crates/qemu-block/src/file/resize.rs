//! Truncation and preallocation. QEMU: `raw_co_truncate`, `handle_aiocb_truncate`.

use qemu_util::buf::IoBytes;
use qemu_util::primitive::Arc;

use super::FileKind;
use super::node::FileNode;
use crate::aio::{AioFile, AioOp, RangeAction, Services};
use crate::error::{BlockError, ErrorKind, Result};
use crate::io::RangeMode;
use crate::types::PreallocMode;

/// Zeros written with one request, in bytes.
const ZERO_CHUNK: usize = 1 << 20;

/// The first block that is allocated for the sake of later probes, in bytes. QEMU: `MAX_BLOCKSIZE`.
const FIRST_BLOCK: u64 = 4096;

impl FileNode {
    pub(super) async fn resize(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        let file = self.file()?;
        if self.kind == FileKind::Device {
            return self.resize_device(len, prealloc);
        }
        // No write that makes the file grow is under way from here on: the two would undo each other.
        let _growing = self.growth.lock(0..1, RangeMode::Exclusive).await;
        self.data_cache.invalidate(0..u64::MAX);
        let old = file.file().metadata().map_err(|error| BlockError::from(error).context("Could not stat file"))?.len();
        let done = resize_file(&self.services, &file, old, len, prealloc).await;
        if done.is_ok() {
            self.set_len(len);
        }
        done
    }

    fn resize_device(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        if prealloc != PreallocMode::Off {
            let message = format!("Preallocation mode '{}' unsupported for this non-regular file", prealloc.name());
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
        // A device stays as long as it is; using only its beginning is fine.
        if len > self.len_now() {
            return Err(BlockError::new(ErrorKind::InvalidArgument, "Cannot grow device files"));
        }
        Ok(())
    }

    /// Makes the file at least `end` bytes long without touching data.
    pub(super) async fn grow_to(&self, file: &Arc<AioFile>, end: u64) -> Result<()> {
        if end <= self.len_now() {
            return Ok(());
        }
        let _growing = self.growth.lock(0..1, RangeMode::Exclusive).await;
        if end > self.len_now() {
            set_len(&self.services, file, end).await?;
            self.changed(end);
        }
        Ok(())
    }
}

/// Sets the length of a regular file that is `old` bytes long.
///
/// # Errors
/// The file has its old length again, if that was possible.
pub(super) async fn resize_file(
    services: &Services,
    file: &Arc<AioFile>,
    old: u64,
    len: u64,
    prealloc: PreallocMode,
) -> Result<()> {
    if len < old && prealloc != PreallocMode::Off {
        return Err(BlockError::new(ErrorKind::Unsupported, "Cannot use preallocation for shrinking files"));
    }
    let done = match prealloc {
        PreallocMode::Off => set_len(services, file, len).await,
        PreallocMode::Falloc if len == old => Ok(()),
        PreallocMode::Falloc => reserve(services, file, old, len).await,
        PreallocMode::Full => fill(services, file, old, len).await,
        PreallocMode::Metadata => {
            let message = format!("Unsupported preallocation mode: {}", prealloc.name());
            return Err(BlockError::new(ErrorKind::Unsupported, message));
        }
    };
    match done {
        Ok(()) if old == 0 && len > 0 && prealloc != PreallocMode::Full => {
            allocate_first_block(services, file, len).await;
            Ok(())
        }
        Err(error) if prealloc != PreallocMode::Off => {
            // The first error is the one to report; this is only cleaning up.
            drop(set_len(services, file, old).await);
            Err(error)
        }
        done => done,
    }
}

async fn set_len(services: &Services, file: &Arc<AioFile>, len: u64) -> Result<()> {
    let op = AioOp::Truncate { file: Arc::clone(file), len };
    services.engine.submit(op).await.map(drop).map_err(|error| error.context("Could not resize file"))
}

/// Reserves space; where the file system cannot, writing zeros does it.
async fn reserve(services: &Services, file: &Arc<AioFile>, old: u64, len: u64) -> Result<()> {
    let op = AioOp::Range { file: Arc::clone(file), action: RangeAction::Allocate, offset: old, len: len - old };
    match services.engine.submit(op).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Unsupported => fill(services, file, old, len).await,
        Err(error) => Err(error.context("Could not preallocate new data")),
    }
}

/// Writes zeros from `old` to `len` and makes them durable.
async fn fill(services: &Services, file: &Arc<AioFile>, old: u64, len: u64) -> Result<()> {
    // With the final length from the start the file system can lay the file out in one piece.
    set_len(services, file, len).await?;
    let zeros = services.buffers.take_zeroed(ZERO_CHUNK).freeze();
    let mut at = old;
    if file.is_direct() && !at.is_multiple_of(FIRST_BLOCK) {
        // Direct writes need aligned offsets. What the file system just added reads as zeros, so only the space of
        // less than one block is left to chance.
        at = at.next_multiple_of(FIRST_BLOCK).min(len);
    }
    while at < len {
        at += write_zeros(services, file, at, len - at, &zeros)
            .await
            .map_err(|error| error.context("Could not write zeros for preallocation"))?;
    }
    // Direct writes were padded to whole blocks.
    set_len(services, file, len).await?;
    let sync = AioOp::Sync { file: Arc::clone(file), data_only: false };
    services.engine.submit(sync).await.map(drop).map_err(|error| error.context("Could not flush file to disk"))
}

async fn write_zeros(services: &Services, file: &Arc<AioFile>, offset: u64, left: u64, zeros: &IoBytes) -> Result<u64> {
    let step = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
    let padded = if file.is_direct() { step.next_multiple_of(4096) } else { step };
    let data = zeros.slice(0..padded).into();
    services.engine.submit(AioOp::Write { file: Arc::clone(file), offset, data }).await?;
    Ok(step as u64)
}

/// Writes zeros to the first block of a file that was empty, so that later probes of `O_DIRECT` do not meet a hole, whose
/// answer proves nothing. The reference does the same, which shows in the disk usage of new images. Only a favour:
/// failures do not matter.
async fn allocate_first_block(services: &Services, file: &Arc<AioFile>, len: u64) {
    let size = if len < FIRST_BLOCK { 512 } else { FIRST_BLOCK };
    if len < size {
        return;
    }
    let zeros = services.buffers.take_zeroed(ZERO_CHUNK).freeze();
    drop(write_zeros(services, file, 0, size, &zeros).await);
}
