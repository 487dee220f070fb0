//! How large an image will be.

use crate::error::{BlockError, ErrorKind};

/// What an image will take on the host, in bytes. QEMU: `BlockMeasureInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// Once the data of the source is in it.
    pub required: u64,
    /// Once everything is allocated.
    pub fully_allocated: u64,
    /// More than that for the source's bitmaps, if the format can hold them and the source has a notion of them.
    pub bitmaps: Option<u64>,
}

/// The error of drivers that cannot tell.
pub fn cannot_measure(driver: &str) -> BlockError {
    BlockError::new(ErrorKind::Unsupported, format!("Block driver '{driver}' does not support size measurement"))
}
