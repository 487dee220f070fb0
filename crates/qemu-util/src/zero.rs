//! Finding zeros in buffers, as fast as the machine reads memory.
//!
//! Every copied byte passes through here once: a buffer that holds only zeros becomes a hole in the target. The scan is
//! written once, portably, in a shape that the compiler turns into vector instructions, and is compiled for each vector
//! width; the widest one that the processor has is chosen at run time. On aarch64 NEON, on x86-64 SSE2 are part of the
//! base, so that the portable build already uses them.
//!
//! ```
//! use qemu_util::zero::{is_zero, run_length};
//!
//! let mut buffer = vec![0; 16384];
//! assert!(is_zero(&buffer));
//!
//! buffer[9000] = 1;
//! assert!(!is_zero(&buffer));
//! assert_eq!(run_length(&buffer, 4096), (true, 8192));
//! assert_eq!(run_length(&buffer[8192..], 4096), (false, 4096));
//! ```
//!
//! QEMU: `buffer_is_zero` (util/bufferiszero.c)

/// Whether all of `bytes` are zero; an empty slice is.
///
/// Any length and alignment will do. Data is recognised early: the first, the middle and the last byte are looked at
/// before the scan starts, and the scan stops at the first block that holds something.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    match (bytes.first(), bytes.get(bytes.len() / 2), bytes.last()) {
        (Some(first), Some(middle), Some(last)) => (first | middle | last) == 0 && is_zero_dispatched(bytes),
        _ => true,
    }
}

/// The length of the run at the start of `bytes`, and whether it consists of zeros.
///
/// The slice is cut into pieces of `granule` bytes, of which the last may be shorter. A run is the longest sequence of
/// pieces from the start that are all zero (`true`) or all not zero (`false`); a piece counts as not zero when any of its
/// bytes is set. Hence the length is a multiple of `granule` or the whole slice. For an empty slice it is `(true, 0)`.
///
/// # Panics
///
/// If `granule` is zero.
///
/// QEMU: `is_allocated_sectors` (qemu-img.c)
#[must_use]
pub fn run_length(bytes: &[u8], granule: usize) -> (bool, usize) {
    let mut pieces = bytes.chunks(granule);
    let Some(first) = pieces.next() else { return (true, 0) };
    let zero = is_zero(first);
    let rest: usize = pieces.take_while(|piece| is_zero(piece) == zero).map(<[u8]>::len).sum();
    (zero, first.len() + rest)
}

/// Bytes per step of the scan: four of the widest registers, so that the loads of a step overlap.
const BLOCK: usize = 256;

/// Bytes per step where the slice, or what the blocks leave of it, is shorter than a block.
const WORD: usize = size_of::<u64>();

/// The scan itself, for the instruction set of the function it is inlined into.
///
/// The bytes of a block are combined without a branch between them, which is what lets the compiler use vectors.
#[inline(always)]
fn scan(bytes: &[u8]) -> bool {
    let (blocks, tail) = bytes.as_chunks::<BLOCK>();
    blocks.iter().all(|block| combined(block) == 0) && scan_short(tail)
}

#[inline(always)]
fn scan_short(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.as_chunks::<WORD>();
    combined(words.as_flattened()) == 0 && tail.iter().fold(0, |all, byte| all | byte) == 0
}

#[inline(always)]
fn combined(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<WORD>();
    words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word))
}

#[cfg(target_arch = "x86_64")]
fn is_zero_dispatched(bytes: &[u8]) -> bool {
    // The answers of the detection macro are cached by std; asking costs a load and a test.
    if bytes.len() < BLOCK {
        scan_short(bytes)
    } else if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
        // SAFETY: the features that the function is compiled for were detected on this processor.
        unsafe { scan_avx512(bytes) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature that the function is compiled for was detected on this processor.
        unsafe { scan_avx2(bytes) }
    } else {
        scan(bytes)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_zero_dispatched(bytes: &[u8]) -> bool {
    scan(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn scan_avx512(bytes: &[u8]) -> bool {
    scan(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn scan_avx2(bytes: &[u8]) -> bool {
    scan(bytes)
}

#[cfg(test)]
mod tests;
