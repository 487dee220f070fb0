//! Reading and writing the snapshot table.

use std::ops::Range;

use qemu_block::error::{BlockError, Result};
use qemu_block::node::Node;
use qemu_util::buf::IoBuf;

use crate::error::FormatError;
use crate::format::header::{Header, TablePlace};
use crate::format::snapshot::SnapshotEntry;
use crate::limits::{SNAPSHOT_TABLE_BYTES_MAX, SNAPSHOTS_MAX};
use crate::meta::Meta;
use crate::units::HostOffset;

/// How much of the table is read at once, in bytes.
const READ_BYTES: u64 = 256 << 10;

/// All internal snapshots of the image that `storage` holds, in the order of the table.
pub(crate) async fn read_snapshots(storage: &Node, header: &Header) -> Result<Vec<SnapshotEntry>> {
    Ok(read_snapshot_table(storage, header).await?.0)
}

/// As [`read_snapshots`], with the bytes of the image file that the table occupies.
pub(crate) async fn read_snapshot_table(storage: &Node, header: &Header) -> Result<(Vec<SnapshotEntry>, Range<u64>)> {
    let mut snapshots = Vec::new();
    let start = header.snapshots.offset.get();
    let end = start.saturating_add(SNAPSHOT_TABLE_BYTES_MAX).min(storage.len());
    let mut read_to = start;
    // The bytes read and not dropped yet, and how many of them are parsed.
    let mut bytes: Vec<u8> = Vec::new();
    let mut parsed = 0;
    for index in 0..header.snapshots.count {
        loop {
            if let Some((entry, len)) = SnapshotEntry::parse(&bytes[parsed..], index)? {
                snapshots.push(entry);
                parsed += len;
                break;
            }
            let n = end.saturating_sub(read_to).min(READ_BYTES);
            if n == 0 {
                return Err(FormatError::SnapshotTruncated { index }.into());
            }
            // Once a read, so that each byte is moved a bounded number of times.
            drop(bytes.drain(..parsed));
            parsed = 0;
            let n_bytes = usize::try_from(n).expect("at most a quarter of a MiB");
            bytes.extend_from_slice(&storage.read_bytes(read_to, n_bytes).await?);
            read_to += n;
        }
    }
    let unparsed = (bytes.len() - parsed) as u64;
    Ok((snapshots, start..read_to - unparsed))
}

impl Meta {
    /// Writes a new snapshot table into clusters of its own; returns what the header has to say about it. Entries that do
    /// not record the size of the disk get `virtual_size`, which such images cannot change.
    pub(super) async fn write_snapshot_table(
        &mut self,
        entries: &[SnapshotEntry],
        virtual_size: u64,
    ) -> Result<TablePlace> {
        let Some(count) = u32::try_from(entries.len()).ok().filter(|count| *count <= SNAPSHOTS_MAX) else {
            return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the image has too many snapshots"));
        };
        if count == 0 {
            return Ok(TablePlace { offset: HostOffset::ZERO, count });
        }
        let mut bytes = Vec::new();
        for (index, entry) in (0..).zip(entries) {
            let disk_size = Some(entry.disk_size.unwrap_or(virtual_size));
            SnapshotEntry { disk_size, ..entry.clone() }.serialize(index, &mut bytes)?;
        }
        let len = bytes.len() as u64;
        if len > SNAPSHOT_TABLE_BYTES_MAX {
            return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the snapshot table would become too large"));
        }
        let run = self.allocate_exactly(self.geo.size_to_clusters(len)).await?;
        let offset = self.geo.host_start(run.start);
        self.storage.write(offset.get(), IoBuf::copy_of(&bytes)).await?;
        Ok(TablePlace { offset, count })
    }
}
