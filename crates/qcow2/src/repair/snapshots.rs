//! Writing the snapshot table anew, with everything that version 3 demands of its entries.

use qemu_block::error::Result;
use qemu_block::options::Options;
use qemu_util::buf::IoBuf;

use crate::cache::file::MetaFile;
use crate::cache::sizes::CacheSizes;
use crate::format::header::{Header, TablePlace};
use crate::meta::Meta;
use crate::snapshots::read_snapshot_table;
use crate::units::HostOffset;

/// Where the header keeps the number of snapshots (4 bytes) and the offset of their table (8 bytes).
const HEADER_SNAPSHOT_FIELDS: u64 = 60;

/// Writes the table to free space, lets the header point there, and gives up the old one. The refcounts are right.
///
/// # Errors
/// Those of reading, allocating and writing; the old table is in place then.
///
/// QEMU: `qcow2_check_fix_snapshot_table` (block/qcow2-snapshot.c).
pub(super) async fn rewrite(file: &MetaFile, header: &mut Header) -> Result<()> {
    let (mut entries, old) = read_snapshot_table(file.node(), header).await?;
    let mut table = Vec::new();
    for (index, entry) in (0..).zip(&mut entries) {
        entry.disk_size.get_or_insert(header.virtual_size);
        entry.serialize(index, &mut table)?;
    }
    let caches = CacheSizes::take(&mut Options::new(), header.geometry, header.virtual_size)?;
    let mut meta = Meta::new(file.clone(), header.clone(), caches);
    // The refcounts are what has just been repaired: they are not to be written late.
    meta.lazy_refcounts = false;
    let count = header.geometry.size_to_clusters(table.len() as u64);
    let run = meta.allocate_exactly(count).await?;
    let offset = header.geometry.host_start(run.start);
    file.write(offset.get(), IoBuf::copy_of(&table)).await?;
    meta.flush().await?;
    let mut fields = [0; 12];
    fields[..4].copy_from_slice(&header.snapshots.count.to_be_bytes());
    fields[4..].copy_from_slice(&offset.get().to_be_bytes());
    file.commit_header(HEADER_SNAPSHOT_FIELDS, &fields).await?;
    header.snapshots = TablePlace { offset, count: header.snapshots.count };
    header.reftable = meta.header.reftable;
    meta.release_bytes(HostOffset::new(old.start), HostOffset::new(old.end));
    meta.flush().await?;
    meta.keep_promise().await
}
