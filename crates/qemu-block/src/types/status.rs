//! Where the data of a range is. QEMU: `bdrv_co_block_status` and `BDRV_BLOCK_*` (include/block/block-common.h).

use bitflags::bitflags;

bitflags! {
    /// What is known about an extent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StatusFlags: u32 {
        /// Reads of this range get data that is stored at this level.
        const DATA = 1 << 0;
        /// The range reads as zeros.
        const ZERO = 1 << 1;
        /// This level decides what the range reads as; without it the backing file does.
        const ALLOCATED = 1 << 2;
        /// The data is compressed.
        const COMPRESSED = 1 << 3;
        /// The storage below may know holes inside the range.
        const RECURSE = 1 << 4;
        /// The status is that of the node below, and complete: nothing of this node is to be added. QEMU: `BDRV_BLOCK_RAW`.
        const PASSED_ON = 1 << 5;
    }
}

/// The status of the extent that starts where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStatus {
    /// Length in bytes: at least one, at most what was asked for. The whole extent has this status.
    pub len: u64,
    /// What is known.
    pub flags: StatusFlags,
    /// The offset, in the node that stores the data, of the extent's first byte, when data is stored there verbatim.
    pub host_offset: Option<u64>,
}

impl BlockStatus {
    /// Whether the range is stored data that does not read as zeros.
    pub fn is_data(&self) -> bool {
        self.flags.contains(StatusFlags::DATA) && !self.is_zero()
    }

    /// Whether the range reads as zeros.
    pub fn is_zero(&self) -> bool {
        self.flags.contains(StatusFlags::ZERO)
    }

    /// Whether this level decides the content.
    pub fn is_allocated(&self) -> bool {
        self.flags.contains(StatusFlags::ALLOCATED)
    }
}
