//! Compressed writes, in two steps so that the first can run on all processors at once.

use qemu_util::buf::IoVec;

use super::request::len_u64;
use crate::compressed::CompressedRun;
use crate::error::Result;
use crate::node::Node;

impl Node {
    /// Compresses whole clusters on the worker threads, without touching the image. May run out of order.
    ///
    /// # Errors
    /// `Unsupported` if the format cannot store compressed data; otherwise as [`Node::write`].
    pub async fn compress(&self, offset: u64, data: IoVec) -> Result<CompressedRun> {
        self.range_to_write(offset, len_u64(data.len()))?;
        self.ops().compress(offset, data).await
    }

    /// Stores what [`Node::compress`] made.
    ///
    /// # Errors
    /// As [`Node::compress`].
    pub async fn write_compressed(&self, run: CompressedRun) -> Result<()> {
        self.range_to_write(run.offset, 0)?;
        self.ops().write_compressed(run).await
    }
}
