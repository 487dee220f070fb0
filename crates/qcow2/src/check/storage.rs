//! Reads of what the metadata names, clipped at the end of the file.

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_util::buf::IoBuf;

/// The file under check.
pub(super) struct Storage<'a> {
    file: &'a Node,
    len: u64,
}

impl<'a> Storage<'a> {
    pub(super) fn new(file: &'a Node) -> Self {
        Self { file, len: file.len() }
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on: `len` of them, or as many as the file has.
    pub(super) async fn read_available(&self, offset: u64, len: u64) -> Result<IoBuf> {
        let available = self.len.saturating_sub(offset).min(len);
        let available = usize::try_from(available).unwrap_or(usize::MAX);
        if available == 0 {
            return Ok(IoBuf::zeroed(0));
        }
        self.file.read_bytes(offset, available).await
    }

    /// The extent of zeros at `offset`, at most `len` long, that the file's own map of holes knows; zero when there is
    /// none. What cannot be found out is taken for data.
    pub(super) async fn zeros_at(&self, offset: u64, len: u64) -> u64 {
        if offset >= self.len {
            return len;
        }
        match self.file.block_status(offset, len).await {
            Ok(status) if status.is_zero() => status.len,
            _ => 0,
        }
    }
}

/// The big-endian numbers in a table, without those that are zero or cut off, and their indices.
pub(super) fn entries(table: &[u8]) -> impl Iterator<Item = (usize, u64)> + '_ {
    let number = |entry: &[u8]| entry.try_into().map_or(0, u64::from_be_bytes);
    table.chunks_exact(8).map(number).enumerate().filter(|(_, entry)| *entry != 0)
}
