//! Going back to a snapshot: the disk becomes what it was, its size included.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::SnapshotSelector;

use super::commit::Plan;
use super::refcounts::tables_of;
use super::{Snapshots, refuse_data_file};
use crate::error::TableKind;
use crate::limits::L1_BYTES_MAX;
use crate::meta::Meta;

impl Meta {
    /// Makes the active state that of a snapshot; see [`qemu_block::manage::SnapshotOps::apply`].
    ///
    /// The active L1 table never becomes shorter, because behind the disk there may be the state of a machine.
    pub(super) async fn apply_snapshot(&mut self, which: &SnapshotSelector) -> Result<()> {
        refuse_data_file(self)?;
        if self.header.bitmaps.is_some() {
            // They would not know what has changed.
            let text = "Device has active dirty bitmaps";
            return Err(BlockError::new(ErrorKind::Unsupported, text).with_errno(libc::EBUSY));
        }
        let snapshots = Snapshots::read(self).await?;
        let index = snapshots.find(which)?;
        let entry = &snapshots.entries[index];
        let virtual_size = entry.disk_size.unwrap_or(self.header.virtual_size);
        let needed = self.geo.l1_entries_for(virtual_size);
        if virtual_size > self.geo.virtual_size_max() || needed > L1_BYTES_MAX / 8 {
            let text = format!("qcow2: the snapshot says that its disk has {virtual_size} bytes, which is too large");
            return Err(BlockError::new(ErrorKind::Corrupt, text));
        }
        let source = self.snapshot_l1(entry).await?;
        let inherits = tables_of(&source, TableKind::SnapshotL1, self.layout)?;
        let gives_up = self.active_tables().await?;
        let n_entries = source.n_entries().max(self.l1.n_entries());
        let n_entries = n_entries.max(usize::try_from(needed).unwrap_or(usize::MAX));
        let l1_clusters = self.geo.table_clusters(n_entries as u64).get();
        self.begin_shadow(inherits.len() as u64 + l1_clusters).await?;
        gives_up.keys().for_each(|table| self.regions.remove_table(*table));
        // Counts that are narrow may not hold both states at once.
        self.drop_tree(&gives_up).await?;
        let successors = self.inherit_tree(&inherits).await?;
        if inherits.values().any(|times| *times > 1) {
            let text = "qcow2: two entries of the snapshot's L1 table name the same L2 table";
            return Err(BlockError::new(ErrorKind::Corrupt, text));
        }
        let place = self.place_for_l1(n_entries).await?;
        let l1 = source.moved_with(place, n_entries, |_, raw| successors.entry_for(raw));
        let plan = Plan { virtual_size, l1: Some(l1), l1_is_kept: false, snapshots, table_changes: false };
        self.commit_snapshots(plan).await
    }
}
