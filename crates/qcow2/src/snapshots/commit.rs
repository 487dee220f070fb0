//! Making a change of the snapshots durable, and true by one write of the header. See [`crate::alloc`]'s second view of
//! the refcounts.

use qemu_block::error::Result;

use super::Snapshots;
use crate::alloc::Switch;
use crate::cache::entry_table::EntryTable;
use crate::format::header::TablePlace;
use crate::limits::L1_BYTES_MAX;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::HostOffset;

/// What the image is to be.
pub(super) struct Plan {
    pub(super) virtual_size: u64,
    /// The active L1 table, if it is another one than before. It belongs to nobody yet, and its clusters read as zeros.
    pub(super) l1: Option<EntryTable>,
    /// Whether the active L1 table that there was now belongs to a snapshot.
    pub(super) l1_is_kept: bool,
    /// All snapshots; those that the table on disk has if nothing changes about them.
    pub(super) snapshots: Snapshots,
    pub(super) table_changes: bool,
}

impl Meta {
    /// Clusters for a new L1 table, which read as zeros.
    pub(super) async fn place_for_l1(&mut self, n_entries: usize) -> Result<HostOffset> {
        if n_entries == 0 {
            return Ok(HostOffset::ZERO);
        }
        let run = self.allocate_exactly(self.geo.table_clusters(n_entries as u64)).await?;
        let offset = self.geo.host_start(run.start);
        let bytes = self.geo.clusters_to_size(run.count).unwrap_or(u64::MAX);
        self.storage.write_zeroes(offset.get(), bytes).await?;
        Ok(offset)
    }

    /// Carries the plan out. When this fails the caller abandons the new view.
    pub(super) async fn commit_snapshots(&mut self, plan: Plan) -> Result<()> {
        let old_l1 = self.header.l1;
        let snapshots = if plan.table_changes {
            if let Some(run) =
                self.run_of_bytes(HostOffset::new(plan.snapshots.place.start), place_len(&plan.snapshots))
            {
                self.drop_after_switch(run);
            }
            self.write_snapshot_table(&plan.snapshots.entries, plan.virtual_size).await?
        } else {
            self.header.snapshots
        };
        let l1 = match &plan.l1 {
            Some(l1) => {
                if let (false, Some(run)) =
                    (plan.l1_is_kept, self.run_of_bytes(old_l1.offset, u64::from(old_l1.count) * 8))
                {
                    self.drop_after_switch(run);
                }
                TablePlace { offset: l1.offset(), count: u32::try_from(l1.n_entries()).expect("at most 4 Mi entries") }
            }
            None => old_l1,
        };
        self.move_regions(l1, snapshots, &plan.snapshots)?;
        let old = plan.l1.map(|l1| std::mem::replace(&mut self.l1, l1));
        let switched = self.switch_to_shadow(Switch { virtual_size: plan.virtual_size, l1, snapshots }).await;
        // The L2 tables of both states were clean, and some are not the active state's any more.
        self.l2.clear();
        if switched.is_err()
            && let Some(old) = old
        {
            self.l1 = old;
        }
        switched
    }

    /// Notes where the tables that exist once are going to be, and those of the snapshots.
    fn move_regions(&mut self, l1: TablePlace, table: TablePlace, snapshots: &Snapshots) -> Result<()> {
        self.regions.move_fixed(Region::L1Table, l1.offset, u64::from(l1.count) * 8);
        let reftable_bytes = (self.reftable.n_entries() * 8) as u64;
        self.regions.move_fixed(Region::RefcountTable, self.reftable.offset(), reftable_bytes);
        let inactive = snapshots.entries.iter().filter_map(|entry| {
            let bytes = u64::from(entry.l1_entries) * 8;
            let start = entry.l1_offset.get();
            // No program writes larger ones; one that is must not make the whole file look like metadata.
            (bytes <= L1_BYTES_MAX).then(|| start..start.saturating_add(bytes))
        });
        let inactive = inactive.collect();
        self.regions.move_fixed(Region::SnapshotTable, table.offset, u64::from(table.count.min(1)));
        self.regions.add_snapshots(0..0, inactive)
    }
}

fn place_len(snapshots: &Snapshots) -> u64 {
    snapshots.place.end - snapshots.place.start
}
