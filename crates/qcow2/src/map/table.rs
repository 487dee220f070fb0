//! L2 tables: finding the one for a guest cluster, making it, and copying one that a snapshot shares.

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};

use crate::alloc::overlap_error;
use crate::error::TableKind;
use crate::format::l1::L1Entry;
use crate::format::l2::L2Mapping;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, GuestCluster, HostOffset};

/// An L2 table of the active state.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableRef {
    pub(super) offset: HostOffset,
    /// Whether no snapshot shares the table, so that its entries may change in place.
    owned: bool,
}

impl TableRef {
    /// The mapping, with clusters counted as shared when the table itself is.
    #[inline]
    pub(super) fn shared_or(self, mapping: L2Mapping) -> L2Mapping {
        match mapping {
            L2Mapping::Standard { host, copied } => L2Mapping::Standard { host, copied: copied && self.owned },
            L2Mapping::Zero { host, copied } => L2Mapping::Zero { host, copied: copied && self.owned },
            L2Mapping::Mixed { host, copied, subclusters } => {
                L2Mapping::Mixed { host, copied: copied && self.owned, subclusters }
            }
            other => other,
        }
    }
}

impl Meta {
    /// The L2 table that entry `index` of the L1 table names, if there is one.
    pub(super) async fn l2_table(&mut self, index: usize) -> Result<Option<TableRef>> {
        self.load_l1(index).await?;
        let entry = L1Entry::from_raw(self.l1.entry(index));
        let table = entry.decode(self.geo).map_err(|flaw| {
            BlockError::from(flaw.at(TableKind::ActiveL1, self.l1.offset().get(), index, entry.raw()))
        })?;
        Ok(table.map(|offset| TableRef { offset, owned: entry.is_copied() }))
    }

    /// The L2 table for entry `index`, to change it: made or copied if need be.
    pub(super) async fn writable_table(&mut self, index: usize) -> Result<HostOffset> {
        match self.l2_table(index).await? {
            None => self.make_table(index).await,
            Some(table) if !table.owned => self.copy_table(index, table.offset).await,
            Some(table) => {
                let len = self.geo.cluster_size();
                match self.regions.hit(table.offset, len, Some(Region::L2Table)) {
                    None => Ok(table.offset),
                    Some(region) => Err(overlap_error(region.name(), table.offset)),
                }
            }
        }
    }

    /// Makes sure that all L2 tables for the clusters from `first` to before `end` are there and may be changed.
    ///
    /// Done before clusters are reserved for data, so that the tables do not come to lie in the middle of the data.
    pub(crate) async fn prepare_tables(&mut self, first: GuestCluster, end: GuestCluster) -> Result<()> {
        let mut at = first;
        while at < end {
            let index = self.geo.split(self.geo.guest_start(at)).l1_index;
            self.writable_table(index).await?;
            at = self.geo.guest_cluster(self.geo.join(index + 1, 0));
        }
        Ok(())
    }

    async fn make_table(&mut self, index: usize) -> Result<HostOffset> {
        if index >= self.l1.n_entries() {
            return Err(BlockError::new(ErrorKind::BadRequest, "qcow2: the request lies past the end of the L1 table"));
        }
        let reserved = self.allocate(ClusterCount::ONE).await?;
        self.storage.event(DebugEvent::L2AllocWrite).await;
        if let Err(error) = self.zero_table_cluster(reserved.run.start, reserved.fresh, Region::L2Table).await {
            self.unreserve(reserved.run).await?;
            return Err(error);
        }
        let offset = self.geo.host_start(reserved.run.start);
        self.regions.add_table(offset, Region::L2Table)?;
        self.l1.put(index, L1Entry::table(offset, true).raw());
        Ok(offset)
    }

    /// A private copy of the table at `shared`. The shared one cannot be dirty: nobody changes it in place.
    async fn copy_table(&mut self, index: usize, shared: HostOffset) -> Result<HostOffset> {
        let table_end = shared.get().saturating_add(self.geo.cluster_size());
        if table_end > self.storage.len() {
            let text = format!("qcow2: the L2 table at offset {:#x} lies past the end of the image file", shared.get());
            return Err(BlockError::new(ErrorKind::Truncated, text));
        }
        self.storage.event(DebugEvent::L2AllocCowRead).await;
        let entries = self.storage.read_bytes(shared.get(), self.geo.cluster_len()).await?;
        let reserved = self.allocate(ClusterCount::ONE).await?;
        let offset = self.geo.host_start(reserved.run.start);
        self.storage.event(DebugEvent::L2AllocWrite).await;
        if let Err(error) = self.storage.write(offset.get(), entries).await {
            self.unreserve(reserved.run).await?;
            return Err(error);
        }
        self.regions.add_table(offset, Region::L2Table)?;
        self.l1.put(index, L1Entry::table(offset, true).raw());
        self.release_cluster(shared);
        // The active state has no table there any more, and once it is freed the cluster may become anything.
        self.l2.forget(shared, self.geo.cluster_len());
        self.regions.remove_table(shared);
        Ok(offset)
    }
}
