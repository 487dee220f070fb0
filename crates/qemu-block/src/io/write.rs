//! Writes. QEMU: `bdrv_co_pwritev_part`, `bdrv_padding_rmw_read` (block/io.c).

use std::ops::Range;

use qemu_util::buf::{IoBuf, IoVec};
use qemu_util::zero::is_zero;

use super::align::{buffer, memory_fits_write, piece_end, widen};
use super::range_lock::{RangeGuard, RangeMode};
use super::request::{len_u64, len_usize};
use crate::debug::DebugEvent;
use crate::error::Result;
use crate::node::Node;
use crate::registry::PROBE_LEN;
use crate::types::{BlockLimits, OpenFlags, PreallocMode, WriteFlags, ZeroFlags};

impl Node {
    /// Writes `data` at `offset`. Any offset and length will do; what the driver cannot take is padded by reading first.
    ///
    /// # Errors
    /// `PermissionDenied` for a read-only node and where the first sector of an image probed as raw would make it look
    /// like another format; `BadRequest` outside the device; otherwise what the driver reports.
    pub async fn write(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let bytes = len_u64(data.len());
        tracing::trace!(
            name: "bdrv_co_pwritev_part",
            bs = format_args!("{self:p}"),
            offset,
            bytes,
            flags = format_args!("{:#x}", flags.bits()),
        );
        let range = self.range_to_write(offset, bytes)?;
        if data.is_empty() {
            return Ok(());
        }
        let detects = self.flags().contains(OpenFlags::DETECT_ZEROES) && flags.is_empty();
        if detects && data.parts().iter().all(|part| is_zero(part)) {
            return self.write_zeroes(offset, bytes, ZeroFlags::MAY_UNMAP).await;
        }
        self.write_data(range, data, flags).await
    }

    /// Writes the data as it is.
    pub(super) async fn write_data(&self, range: Range<u64>, data: IoVec, flags: WriteFlags) -> Result<()> {
        let limits = self.limits();
        let mut left = range.clone();
        while !left.is_empty() {
            let end = piece_end(&left, &limits);
            let part = data.slice(len_usize(left.start - range.start)..len_usize(end - range.start));
            self.write_piece(left.start..end, part, flags, &limits).await?;
            left.start = end;
        }
        Ok(())
    }

    async fn write_piece(&self, range: Range<u64>, data: IoVec, flags: WriteFlags, limits: &BlockLimits) -> Result<()> {
        let wide = widen(&range, u64::from(limits.request_alignment.max(1)));
        let guarded = self.guard().is_some() && range.start < len_u64(PROBE_LEN);
        if wide != range || guarded {
            let locked = if guarded { 0..wide.end.max(len_u64(PROBE_LEN)) } else { wide.clone() };
            let _exclusive = self.lock_to_pad(locked, wide.end, limits).await;
            if guarded {
                self.check_first_sector(range.start, &data).await?;
            }
            return self.write_padded(range, wide, data, flags, limits).await;
        }
        let _shared = self.writes.lock(wide, RangeMode::Shared).await;
        self.write_aligned(range.start, data, flags, limits).await
    }

    /// Locks what a read-modify-write cycle up to `end` touches: `range`, and if the cycle makes the device longer
    /// also all that lies behind it. The cycle sets the length in the end, so nobody else may grow the device
    /// meanwhile; whoever wants to holds a range that ends past the device, which overlaps with this one.
    async fn lock_to_pad(&self, range: Range<u64>, end: u64, limits: &BlockLimits) -> RangeGuard<'_> {
        let grows = || limits.growable && end > self.len();
        if !grows() {
            let guard = self.writes.lock(range.clone(), RangeMode::Exclusive).await;
            // The device may have become shorter while we waited.
            if !grows() {
                return guard;
            }
        }
        self.writes.lock(range.start..u64::MAX, RangeMode::Exclusive).await
    }

    /// Writes `data` to `range` inside the aligned range `wide`, keeping the rest of `wide`.
    ///
    /// The caller holds what [`Node::lock_to_pad`] locks, so the length changes only here.
    async fn write_padded(
        &self,
        range: Range<u64>,
        wide: Range<u64>,
        data: IoVec,
        flags: WriteFlags,
        limits: &BlockLimits,
    ) -> Result<()> {
        if wide == range {
            return self.write_aligned(range.start, data, flags, limits).await;
        }
        let align = u64::from(limits.request_alignment.max(1));
        let mut padded = IoVec::default();
        if wide.start < range.start {
            self.debug_event(DebugEvent::PwritevRmwHead).await;
            let block = self.read_block(wide.start, align).await?;
            self.debug_event(DebugEvent::PwritevRmwAfterHead).await;
            padded.push(block.freeze().slice(0..len_usize(range.start - wide.start)));
        }
        padded.append(data);
        if range.end < wide.end {
            self.debug_event(DebugEvent::PwritevRmwTail).await;
            let block = self.read_block(wide.end - align, align).await?;
            self.debug_event(DebugEvent::PwritevRmwAfterTail).await;
            padded.push(block.freeze().slice(len_usize(align - (wide.end - range.end))..len_usize(align)));
        }
        let len_before = self.len();
        self.write_aligned(wide.start, padded, flags, limits).await?;
        // Padding must not become part of the device: a file that grew with it is cut to where the data ends.
        let len_wanted = len_before.max(range.end);
        if limits.growable && wide.end > len_wanted {
            self.ops().truncate(len_wanted, PreallocMode::Off).await?;
        }
        Ok(())
    }

    async fn write_aligned(&self, offset: u64, data: IoVec, flags: WriteFlags, limits: &BlockLimits) -> Result<()> {
        let data = if memory_fits_write(&data, limits) {
            data
        } else {
            let mut bounce = buffer(data.len());
            data.copy_out(0, &mut bounce);
            bounce.into()
        };
        self.debug_event(DebugEvent::Pwritev).await;
        let written = self.ops().write(offset, data, flags).await;
        self.debug_event(DebugEvent::PwritevDone).await;
        written
    }

    /// One aligned block as it is now; zeros where the device has none yet.
    async fn read_block(&self, offset: u64, align: u64) -> Result<IoBuf> {
        if offset >= self.len() {
            return Ok(IoBuf::zeroed(len_usize(align)));
        }
        let block = self.ops().read(offset, buffer(len_usize(align)).into()).await?;
        Ok(block.into_single().unwrap_or_else(|parts| IoBuf::copy_of(&parts.to_vec())))
    }

    /// Refuses a write that would make an image probed as raw look like another format. The caller holds the sector.
    async fn check_first_sector(&self, offset: u64, data: &IoVec) -> Result<()> {
        let Some(guard) = self.guard() else { return Ok(()) };
        let (start, old_len) = (len_usize(offset), len_usize(self.len().min(len_u64(PROBE_LEN))));
        let end = start.saturating_add(data.len()).min(PROBE_LEN);
        let mut head = vec![0; old_len.max(end)];
        head[..old_len].copy_from_slice(&self.read_bytes(0, old_len).await?);
        data.copy_out(0, &mut head[start..end]);
        guard.check(&head)
    }
}
