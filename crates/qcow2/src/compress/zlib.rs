//! Raw deflate streams, which the format calls zlib.
//!
//! The streams use the full window of 32 KiB; the reference writes 4 KiB windows but reads any.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor, Decompressor};

use crate::error::FormatError;

/// libdeflate's balanced level: smaller output than the reference's in less than half the time.
const LEVEL: i32 = 6;

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new(
        CompressionLvl::new(LEVEL).unwrap_or_default(),
    ));
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Compresses into `out`; none when it does not fit.
pub(super) fn compress(cluster: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|codec| codec.deflate_compress(cluster, out)).ok()
}

/// Fills `cluster` from a stream that may be followed by anything.
pub(super) fn decompress(input: &[u8], cluster: &mut [u8]) -> Result<(), FormatError> {
    match DECOMPRESSOR.with_borrow_mut(|codec| codec.deflate_decompress(input, cluster)) {
        Ok(len) if len == cluster.len() => Ok(()),
        _ => Err(FormatError::Decompress),
    }
}
