//! Raw deflate streams, which the format calls zlib.
//!
//! The streams use the full window of 32 KiB; the reference writes 4 KiB windows but reads any.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor, Decompressor};

use super::Level;
use crate::error::FormatError;

/// libdeflate's balanced level: smaller output than the reference's in less than half the time.
const LEVEL: i32 = 6;

thread_local! {
    /// The state of one level; an image is compressed with one.
    static COMPRESSOR: RefCell<(i32, Compressor)> = RefCell::new((LEVEL, compressor(LEVEL)));
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

fn compressor(level: i32) -> Compressor {
    Compressor::new(CompressionLvl::new(level).unwrap_or_default())
}

/// Compresses into `out`; none when it does not fit.
pub(super) fn compress(level: Level, cluster: &[u8], out: &mut [u8]) -> Option<usize> {
    let level = level.or(LEVEL);
    COMPRESSOR.with_borrow_mut(|(made_for, codec)| {
        if *made_for != level {
            (*made_for, *codec) = (level, compressor(level));
        }
        codec.deflate_compress(cluster, out).ok()
    })
}

/// Fills `cluster` from a stream that may be followed by anything.
pub(super) fn decompress(input: &[u8], cluster: &mut [u8]) -> Result<(), FormatError> {
    match DECOMPRESSOR.with_borrow_mut(|codec| codec.deflate_decompress(input, cluster)) {
        Ok(len) if len == cluster.len() => Ok(()),
        _ => Err(FormatError::Decompress),
    }
}
