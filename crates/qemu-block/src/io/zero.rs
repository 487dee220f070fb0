//! Writing zeros. QEMU: `bdrv_co_pwrite_zeroes`, `bdrv_co_do_pwrite_zeroes` (block/io.c).

use std::ops::Range;
use std::sync::LazyLock;

use qemu_util::buf::{IoBuf, IoBytes, IoVec};

use super::align::narrow;
use super::range_lock::RangeMode;
use super::request::{len_u64, len_usize};
use crate::debug::DebugEvent;
use crate::error::{ErrorKind, Result};
use crate::node::Node;
use crate::types::{OpenFlags, WriteFlags, ZeroFlags};

/// Length of the buffer that zeros are written from, in bytes.
const ZERO_BUFFER_LEN: usize = 1 << 20;

/// The one buffer of zeros that all nodes write from.
static ZEROS: LazyLock<IoBytes> = LazyLock::new(|| IoBuf::zeroed(ZERO_BUFFER_LEN).freeze());

impl Node {
    /// Makes a range read as zeros, by the cheapest means that the driver has, and by writing zeros where it has none.
    ///
    /// The driver is asked three times if the range begins and ends between its units: for the whole units and for the
    /// edges, about which it may know that there is nothing to do. The end of the device counts as aligned. With
    /// [`ZeroFlags::NO_FALLBACK`] only the edges are ever written. [`ZeroFlags::MAY_UNMAP`] counts only if the node was
    /// opened with [`OpenFlags::UNMAP`].
    ///
    /// # Errors
    /// As [`Node::write`]; `Unsupported` if the driver has no cheap means and `NO_FALLBACK` forbids the other one.
    pub async fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        tracing::trace!(
            name: "bdrv_co_pwrite_zeroes",
            bs = format_args!("{self:p}"),
            offset,
            bytes = len,
            flags = format_args!("{:#x}", flags.bits()),
        );
        let range = self.range_to_write(offset, len)?;
        if range.is_empty() {
            return Ok(());
        }
        let cheap_only = flags.contains(ZeroFlags::NO_FALLBACK);
        let inner = self.zero_units(&range);
        // The units come first: if they cannot be zeroed cheaply and must not be written, nothing has been changed.
        if inner.is_empty() && cheap_only {
            return self.zero_by_driver(range, flags).await;
        }
        for (part, may_write) in
            [(inner.clone(), !cheap_only), (range.start..inner.start, true), (inner.end..range.end, true)]
        {
            match self.zero_by_driver(part.clone(), flags).await {
                Err(error) if may_write && error.kind() == ErrorKind::Unsupported => {
                    self.write_zero_buffers(part).await?;
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// The part of `range` that consists of whole units of the driver; empty but inside of `range` if there is none.
    fn zero_units(&self, range: &Range<u64>) -> Range<u64> {
        let limits = self.limits();
        let mut inner = narrow(range, u64::from(limits.zero_alignment.max(limits.request_alignment).max(1)));
        if range.end == self.len() && inner.start < range.end {
            inner.end = range.end;
        }
        if inner.is_empty() { range.end..range.end } else { inner }
    }

    /// Lets the driver make a range zero.
    async fn zero_by_driver(&self, range: Range<u64>, flags: ZeroFlags) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut flags = flags;
        if !self.flags().contains(OpenFlags::UNMAP) {
            flags.remove(ZeroFlags::MAY_UNMAP);
        }
        let _shared = self.writes.lock(range.clone(), RangeMode::Shared).await;
        self.debug_event(DebugEvent::PwritevZero).await;
        let zeroed = self.ops().write_zeroes(range.start, range.end - range.start, flags).await;
        self.debug_event(DebugEvent::PwritevDone).await;
        zeroed
    }

    async fn write_zero_buffers(&self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / len_u64(ZERO_BUFFER_LEN) + 1) * len_u64(ZERO_BUFFER_LEN));
            let zeros = IoVec::from(ZEROS.slice(0..len_usize(end - at)));
            self.write_data(at..end, zeros, WriteFlags::empty()).await?;
            at = end;
        }
        Ok(())
    }
}
