//! The result of compressing clusters, on its way from the worker threads into an image.

use qemu_util::buf::{IoBytes, IoVec};

/// A run of neighbouring clusters, compressed but not yet stored.
#[derive(Debug)]
pub struct CompressedRun {
    /// Guest offset of the first cluster, in bytes.
    pub offset: u64,
    /// The clusters in order. All but the last cover a whole cluster of guest data.
    pub clusters: Vec<CompressedCluster>,
}

/// One cluster of a [`CompressedRun`].
#[derive(Debug)]
pub enum CompressedCluster {
    /// The compressed bytes.
    Compressed(IoBytes),
    /// The data does not shrink: it is stored as it is.
    Plain(IoVec),
    /// The data is all zeros.
    Zero,
}
