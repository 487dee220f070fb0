//! Forgetting a snapshot. What only it refers to is given back once the header does not lead there any more.

use qemu_block::error::Result;
use qemu_block::manage::SnapshotSelector;

use super::commit::Plan;
use super::refcounts::tables_of;
use super::{Snapshots, refuse_data_file};
use crate::error::TableKind;
use crate::meta::Meta;

impl Meta {
    /// Deletes a snapshot; see [`qemu_block::manage::SnapshotOps::delete`].
    ///
    /// The active state may now be the only one that refers to clusters, and its tables have to say so.
    pub(super) async fn delete_snapshot(&mut self, which: &SnapshotSelector) -> Result<()> {
        refuse_data_file(self)?;
        let mut snapshots = Snapshots::read(self).await?;
        let index = snapshots.find(which)?;
        let entry = snapshots.entries.remove(index);
        let gone = self.snapshot_l1(&entry).await?;
        let gone_tables = tables_of(&gone, TableKind::SnapshotL1, self.layout)?;
        let active = self.active_tables().await?;
        let n_entries = self.l1.n_entries();
        let l1_clusters = self.geo.table_clusters(n_entries as u64).get();
        let table_clusters = self.geo.size_to_clusters(snapshots.table_bytes_max()).get();
        self.begin_shadow(active.len() as u64 + l1_clusters + table_clusters).await?;
        self.drop_tree(&gone_tables).await?;
        if let Some(run) = self.run_of_bytes(entry.l1_offset, u64::from(entry.l1_entries) * 8) {
            self.drop_references_of(run, 1).await?;
        }
        active.keys().for_each(|table| self.regions.remove_table(*table));
        let successors = self.renew_flags(&active).await?;
        let place = self.place_for_l1(n_entries).await?;
        let l1 = self.l1.moved_with(place, n_entries, |_, raw| successors.entry_for(raw));
        let virtual_size = self.header.virtual_size;
        let plan = Plan { virtual_size, l1: Some(l1), l1_is_kept: false, snapshots, table_changes: true };
        self.commit_snapshots(plan).await
    }
}
