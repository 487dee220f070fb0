//! Reads. QEMU: `bdrv_co_preadv_part`, `bdrv_aligned_preadv` (block/io.c).

use std::ops::Range;

use qemu_util::buf::{IoBuf, IoVecMut};

use super::align::{buffer, memory_fits_read, piece_end, widen};
use super::request::{len_u64, len_usize};
use crate::error::Result;
use crate::node::Node;
use crate::types::BlockLimits;

impl Node {
    /// Fills `buf` with the bytes from `offset` on and gives it back. Any offset and length inside the device will do.
    ///
    /// # Errors
    /// `BadRequest` for a range that is not inside the device; otherwise what the driver reports.
    pub async fn read(&self, offset: u64, buf: IoVecMut) -> Result<IoVecMut> {
        self.check_open()?;
        let bytes = len_u64(buf.len());
        tracing::trace!(name: "bdrv_co_preadv_part", bs = format_args!("{self:p}"), offset, bytes, flags = %"0x0");
        let range = self.range_inside(offset, bytes)?;
        let limits = self.limits();
        if buf.is_empty() {
            return Ok(buf);
        }
        if piece_end(&range, &limits) == range.end {
            return self.read_piece(range, buf, &limits).await;
        }
        self.read_pieces(range, buf, &limits).await
    }

    /// Reads `len` bytes into a new buffer.
    ///
    /// # Errors
    /// As [`Node::read`].
    pub async fn read_bytes(&self, offset: u64, len: usize) -> Result<IoBuf> {
        // Checked here as well, so that a length from an image cannot make us allocate what the device does not have.
        self.range_inside(offset, len_u64(len))?;
        if len == 0 {
            return Ok(IoBuf::zeroed(0));
        }
        let filled = self.read(offset, buffer(len).into()).await?;
        Ok(filled.into_single().unwrap_or_else(|parts| IoBuf::copy_of(&parts.to_vec())))
    }

    async fn read_pieces(&self, mut range: Range<u64>, mut buf: IoVecMut, limits: &BlockLimits) -> Result<IoVecMut> {
        let mut filled = IoVecMut::default();
        while !range.is_empty() {
            let end = piece_end(&range, limits);
            let rest = buf.split_off(len_usize(end - range.start));
            filled.append(self.read_piece(range.start..end, buf, limits).await?);
            buf = rest;
            range.start = end;
        }
        Ok(filled)
    }

    async fn read_piece(&self, range: Range<u64>, mut buf: IoVecMut, limits: &BlockLimits) -> Result<IoVecMut> {
        let wide = widen(&range, u64::from(limits.request_alignment.max(1)));
        if wide == range && memory_fits_read(&buf, limits) {
            return self.ops().read(range.start, buf).await;
        }
        let bounce = buffer(len_usize(wide.end - wide.start));
        let bounce = self.ops().read(wide.start, bounce.into()).await?;
        let mut at = len_usize(range.start - wide.start);
        let bytes = bounce.freeze();
        for part in buf.parts_mut() {
            bytes.copy_out(at, part);
            at += part.len();
        }
        Ok(buf)
    }
}
