//! Padding and bounce buffers. QEMU: `bdrv_pad_request`, `bdrv_qiov_is_aligned` (block/io.c).

use std::ops::Range;
use std::sync::LazyLock;

use qemu_util::buf::{BufPool, IoBuf, IoVec, IoVecMut};

use crate::types::BlockLimits;

/// Where padding and bounce buffers come from.
static BUFFERS: LazyLock<BufPool> = LazyLock::new(BufPool::new);

/// A buffer with unspecified contents.
pub(super) fn buffer(len: usize) -> IoBuf {
    BUFFERS.take(len)
}

/// `range` widened to multiples of `align`. The ends stay below 2^64 because ranges end below 2^63.
pub(super) fn widen(range: &Range<u64>, align: u64) -> Range<u64> {
    range.start / align * align..range.end.next_multiple_of(align)
}

/// `range` narrowed to multiples of `align`; empty if it holds none.
pub(super) fn narrow(range: &Range<u64>, align: u64) -> Range<u64> {
    let start = range.start.next_multiple_of(align);
    start..(range.end / align * align).max(start)
}

/// Where the first piece of `range` ends, if it is too long for the driver once it is widened to whole blocks.
///
/// All pieces but the first start at a block, and all but the last end at one: only the edges need padding.
pub(super) fn piece_end(range: &Range<u64>, limits: &BlockLimits) -> u64 {
    let align = u64::from(limits.request_alignment.max(1));
    let len_max = (limits.transfer_max / align * align).max(align);
    range.end.min((range.start / align * align).saturating_add(len_max))
}

/// Whether a driver can read straight into `buf`.
pub(super) fn memory_fits_read(buf: &IoVecMut, limits: &BlockLimits) -> bool {
    limits.memory_alignment <= 1 || buf.parts().iter().all(|part| part_fits(part, limits))
}

/// Whether a driver can write straight from `data`.
pub(super) fn memory_fits_write(data: &IoVec, limits: &BlockLimits) -> bool {
    limits.memory_alignment <= 1 || data.parts().iter().all(|part| part_fits(part, limits))
}

/// Both the address and the length count: the next part starts where this one ends.
fn part_fits(part: &[u8], limits: &BlockLimits) -> bool {
    let align = usize::try_from(limits.memory_alignment).unwrap_or(usize::MAX);
    part.as_ptr().addr().is_multiple_of(align) && part.len().is_multiple_of(align)
}
