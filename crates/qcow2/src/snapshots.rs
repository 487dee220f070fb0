//! Reading the snapshot table.

use qemu_block::error::Result;
use qemu_block::node::Node;

use crate::error::FormatError;
use crate::format::header::Header;
use crate::format::snapshot::SnapshotEntry;
use crate::limits::SNAPSHOT_TABLE_BYTES_MAX;

/// How much of the table is read at once, in bytes.
const READ_BYTES: u64 = 256 << 10;

/// All internal snapshots of the image that `storage` holds, in the order of the table.
pub(crate) async fn read_snapshots(storage: &Node, header: &Header) -> Result<Vec<SnapshotEntry>> {
    let mut snapshots = Vec::new();
    let start = header.snapshots.offset.get();
    let end = start.saturating_add(SNAPSHOT_TABLE_BYTES_MAX).min(storage.len());
    let mut read_to = start;
    let mut unparsed: Vec<u8> = Vec::new();
    for index in 0..header.snapshots.count {
        loop {
            if let Some((entry, len)) = SnapshotEntry::parse(&unparsed, index)? {
                snapshots.push(entry);
                unparsed.drain(..len);
                break;
            }
            let n = end.saturating_sub(read_to).min(READ_BYTES);
            if n == 0 {
                return Err(FormatError::SnapshotTruncated { index }.into());
            }
            let n_bytes = usize::try_from(n).expect("at most a quarter of a MiB");
            unparsed.extend_from_slice(&storage.read_bytes(read_to, n_bytes).await?);
            read_to += n;
        }
    }
    Ok(snapshots)
}
