//! What a node accepts in one request. QEMU: `BlockLimits` (include/block/block_int-common.h).

/// Sizes and alignments of requests, in bytes. Alignments are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Offset and length of reads and writes must be multiples of this; the node pads requests that are not.
    pub request_alignment: u32,
    /// Addresses of buffers must be multiples of this.
    pub memory_alignment: u32,
    /// A read or write is no longer than this; the node splits requests that are.
    pub transfer_max: u64,
    /// Write-zeroes is cheap at this grain.
    pub zero_alignment: u32,
    /// Discard does something at this grain.
    pub discard_alignment: u32,
    /// Whether a write past the end grows the device, as it does for regular files.
    pub growable: bool,
}

impl BlockLimits {
    /// No restriction: byte-granular requests up to 2 GiB less 64 KiB, a fixed size.
    pub const UNLIMITED: Self = Self {
        request_alignment: 1,
        memory_alignment: 1,
        transfer_max: (1 << 31) - (64 << 10),
        zero_alignment: 1,
        discard_alignment: 1,
        growable: false,
    };
}
