//! Zstandard frames.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, DCtx, find_frame_compressed_size};

use super::Level;
use crate::error::FormatError;

/// The library's default level, which the reference uses.
const LEVEL: i32 = zstd::DEFAULT_COMPRESSION_LEVEL;

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Compresses into `out`; none when it does not fit.
pub(super) fn compress(level: Level, cluster: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|codec| codec.compress(out, cluster, level.or(LEVEL))).ok()
}

/// Fills `cluster` from frames that may be followed by anything.
///
/// Whole frames are decoded straight into the cluster. The streaming decoder would allocate the window that a frame
/// asks for, up to 128 MiB for a hostile one.
pub(super) fn decompress(input: &[u8], cluster: &mut [u8]) -> Result<(), FormatError> {
    let mut input = input;
    let mut room = cluster;
    while !room.is_empty() {
        let frame_len = find_frame_compressed_size(input).map_err(|_| FormatError::Decompress)?;
        // An empty frame length would never end; the library does not return one.
        let (frame, rest) = input.split_at_checked(frame_len.max(1)).ok_or(FormatError::Decompress)?;
        let decoded = DECOMPRESSOR.with_borrow_mut(|codec| codec.decompress(room, frame));
        let decoded = decoded.map_err(|_| FormatError::Decompress)?;
        room = room.split_at_mut_checked(decoded).ok_or(FormatError::Decompress)?.1;
        input = rest;
    }
    Ok(())
}
