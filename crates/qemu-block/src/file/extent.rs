//! Where data and holes are. QEMU: `raw_co_block_status`, and the block-status cache of block.c.

use std::ops::Range;

use qemu_util::primitive::Mutex;

use crate::aio::FileExtent;
use crate::types::{BlockStatus, StatusFlags};

/// The data extent that was found last.
///
/// Walking a large extent in small steps would look it up again and again, which some file systems do page by page.
/// Only data is remembered: should it become a hole meanwhile, reading it is still right.
#[derive(Debug, Default)]
pub(super) struct DataCache {
    last: Mutex<Range<u64>>,
}

impl DataCache {
    /// The end of the data that is known to begin at or before `offset` and to contain it.
    pub(super) fn find(&self, offset: u64) -> Option<u64> {
        let last = self.last.lock();
        last.contains(&offset).then_some(last.end)
    }

    pub(super) fn store(&self, range: Range<u64>) {
        *self.last.lock() = range;
    }

    /// Forgets what may not be data any more.
    pub(super) fn invalidate(&self, range: Range<u64>) {
        let mut last = self.last.lock();
        if last.start < range.end && range.start < last.end {
            *last = 0..0;
        }
    }
}

/// What `extent` means for a request of `len` bytes at `offset`, in units of `align` bytes.
pub(super) fn status(extent: FileExtent, offset: u64, len: u64, align: u64) -> BlockStatus {
    let (available, zero) = match extent {
        FileExtent::Data { end } => ((end - offset).next_multiple_of(align), false),
        // A hole that ends inside of a unit counts as data from there on.
        FileExtent::Hole { end } => match (end - offset) / align * align {
            0 => (align, false),
            whole => (whole, true),
        },
        FileExtent::NoMoreData => (len, true),
        FileExtent::Unknown => (len, false),
    };
    let content = if zero { StatusFlags::ZERO } else { StatusFlags::DATA };
    BlockStatus { len: available.min(len), flags: content | StatusFlags::ALLOCATED, host_offset: Some(offset) }
}
