//! Writing zeros. QEMU: `bdrv_co_pwrite_zeroes`, `bdrv_co_do_pwrite_zeroes` (block/io.c).

use std::ops::Range;
use std::sync::LazyLock;

use qemu_util::buf::{IoBuf, IoBytes, IoVec};

use super::align::narrow;
use super::range_lock::RangeMode;
use super::request::{len_u64, len_usize};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::types::{WriteFlags, ZeroFlags};

/// Length of the buffer that zeros are written from, in bytes.
const ZERO_BUFFER_LEN: usize = 1 << 20;

/// The one buffer of zeros that all nodes write from.
static ZEROS: LazyLock<IoBytes> = LazyLock::new(|| IoBuf::zeroed(ZERO_BUFFER_LEN).freeze());

impl Node {
    /// Makes a range read as zeros, by the cheapest means that the driver has, and by writing zeros where it has none.
    ///
    /// With [`ZeroFlags::NO_FALLBACK`] only the unaligned edges are ever written.
    ///
    /// # Errors
    /// As [`Node::write`]; `Unsupported` if the driver has no cheap means and `NO_FALLBACK` forbids the other one.
    pub async fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let range = self.range_to_write(offset, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let limits = self.limits();
        let inner = narrow(&range, u64::from(limits.zero_alignment.max(limits.request_alignment).max(1)));
        match self.zero_aligned(inner.clone(), flags).await {
            Ok(()) => {
                self.write_zero_buffers(range.start..inner.start.min(range.end)).await?;
                self.write_zero_buffers(inner.end.max(range.start).min(range.end)..range.end).await
            }
            Err(error) if error.kind() == ErrorKind::Unsupported && !flags.contains(ZeroFlags::NO_FALLBACK) => {
                self.write_zero_buffers(range).await
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the driver make an aligned range zero.
    async fn zero_aligned(&self, range: Range<u64>, flags: ZeroFlags) -> Result<()> {
        if range.is_empty() {
            return Err(BlockError::new(ErrorKind::Unsupported, "The range is too short to be zeroed at once"));
        }
        let _shared = self.writes.lock(range.clone(), RangeMode::Shared).await;
        self.ops().write_zeroes(range.start, range.end - range.start, flags.difference(ZeroFlags::NO_FALLBACK)).await
    }

    async fn write_zero_buffers(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / len_u64(ZERO_BUFFER_LEN) + 1) * len_u64(ZERO_BUFFER_LEN));
            let zeros = IoVec::from(ZEROS.slice(0..len_usize(end - at)));
            self.write(at, zeros, WriteFlags::empty()).await?;
            at = end;
        }
        Ok(())
    }
}
