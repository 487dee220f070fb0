//! Where everything goes in a new image.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::PreallocMode;

use super::options::Settings;
use crate::encryption::EncryptionSettings;
use crate::limits::HOST_OFFSET_END;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// The layout of a new image: header, refcount table, refcount blocks, L1 table, encryption header, L2 tables, data;
/// each part follows the one before. The last two are empty without preallocation, and there is no data with an external
/// data file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    pub(super) reftable: HostCluster,
    pub(super) reftable_clusters: u32,
    pub(super) refblocks: HostCluster,
    pub(super) refblock_clusters: ClusterCount,
    pub(super) l1: HostCluster,
    pub(super) l1_entries: u32,
    /// The LUKS header with its key slots.
    pub(super) encryption: HostCluster,
    pub(super) encryption_clusters: ClusterCount,
    pub(super) l2_tables: HostCluster,
    pub(super) data: HostCluster,
    /// Clusters that the L2 tables map.
    pub(super) mapped_clusters: ClusterCount,
    /// Whether those are in another file.
    pub(super) has_data_file: bool,
    /// Whether that file can be read by itself.
    pub(super) is_raw: bool,
    pub(super) total: ClusterCount,
}

impl Layout {
    /// Plans an image.
    ///
    /// # Errors
    /// When the tables for the virtual disk would exceed the limits of the format.
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        Self::compute(settings).filter(Self::is_within_limits).ok_or_else(too_large)
    }

    /// Plans an image with so many L2 tables and clusters of data, for some of the virtual disk.
    ///
    /// # Errors
    /// As [`Layout::new`].
    pub(super) fn streamed(settings: &Settings, l2_tables: ClusterCount, data: ClusterCount) -> Result<Self> {
        Self::with_tables(settings, l2_tables, data).filter(Self::is_within_limits).ok_or_else(too_large)
    }

    /// The layout; none when a number does not fit its type.
    fn compute(settings: &Settings) -> Option<Self> {
        let geometry = settings.geometry;
        let (l2_clusters, mapped_clusters) = if settings.preallocation == PreallocMode::Off {
            (ClusterCount::ZERO, ClusterCount::ZERO)
        } else {
            (ClusterCount::new(geometry.l1_entries_for(settings.size)), geometry.size_to_clusters(settings.size))
        };
        Self::with_tables(settings, l2_clusters, mapped_clusters)
    }

    /// The layout with so many L2 tables and clusters of data; none when a number does not fit its type.
    fn with_tables(settings: &Settings, l2_clusters: ClusterCount, mapped_clusters: ClusterCount) -> Option<Self> {
        let geometry = settings.geometry;
        if settings.size > geometry.virtual_size_max() {
            return None;
        }
        let l1_entries = geometry.l1_entries_for(settings.size);
        let l1_clusters = geometry.table_clusters(l1_entries);
        let has_data_file = settings.data_file.is_some();
        let data_clusters = if has_data_file { ClusterCount::ZERO } else { mapped_clusters };
        let encryption_len = settings.encryption.as_ref().map_or(0, EncryptionSettings::header_len);
        let encryption_clusters = geometry.size_to_clusters(encryption_len);
        let counted = ClusterCount::ONE.checked_add(l1_clusters)?.checked_add(encryption_clusters)?;
        let counted = counted.checked_add(l2_clusters)?.checked_add(data_clusters)?;
        let refcounts = Refcounts::that_cover(geometry, counted)?;
        let reftable = HostCluster::ZERO.next();
        let refblocks = reftable.checked_add(refcounts.table)?;
        let l1 = refblocks.checked_add(refcounts.blocks)?;
        let encryption = l1.checked_add(l1_clusters)?;
        let l2_tables = encryption.checked_add(encryption_clusters)?;
        let data = l2_tables.checked_add(l2_clusters)?;
        Some(Self {
            geometry,
            reftable,
            reftable_clusters: u32::try_from(refcounts.table.get()).ok()?,
            refblocks,
            refblock_clusters: refcounts.blocks,
            l1,
            l1_entries: u32::try_from(l1_entries).ok()?,
            encryption,
            encryption_clusters,
            l2_tables,
            data,
            mapped_clusters,
            has_data_file,
            is_raw: settings.data_file_raw,
            total: data.checked_add(data_clusters)?.clusters_since(HostCluster::ZERO)?,
        })
    }

    fn is_within_limits(&self) -> bool {
        let table = u64::from(self.reftable_clusters) <= self.geometry.reftable_clusters_max();
        let mapped = self.geometry.clusters_to_size(self.mapped_clusters).is_some_and(|end| end <= HOST_OFFSET_END);
        table && mapped && self.geometry.clusters_to_size(self.total).is_some_and(|end| end <= HOST_OFFSET_END)
    }

    /// First byte of a cluster.
    pub(super) fn start_of(&self, cluster: HostCluster) -> HostOffset {
        self.geometry.host_start(cluster)
    }

    /// The cluster `index` after the first one of a part of this layout.
    pub(super) fn nth(&self, first: HostCluster, index: u64) -> HostCluster {
        first.checked_add(ClusterCount::new(index)).expect("the layout's clusters are within its total")
    }

    /// Where the data of the `index`-th guest cluster is.
    pub(super) fn data_of(&self, index: u64) -> HostOffset {
        let first = if self.has_data_file { HostCluster::ZERO } else { self.data };
        self.start_of(self.nth(first, index))
    }

    /// What the header says about the start of the L1 table: nothing when there is none.
    pub(super) fn l1_offset(&self) -> HostOffset {
        if self.l1_entries == 0 { HostOffset::ZERO } else { self.start_of(self.l1) }
    }

    /// Where files without preallocation end: after the encryption header, or the L1 table's last entry.
    pub(super) fn l1_end(&self) -> u64 {
        if !self.encryption_clusters.is_zero() {
            return self.start_of(self.l2_tables).get();
        }
        self.start_of(self.l1).get() + u64::from(self.l1_entries) * 8
    }

    /// Where the encryption header starts.
    pub(super) fn encryption_offset(&self) -> HostOffset {
        self.start_of(self.encryption)
    }

    /// Offset just past the metadata.
    pub(super) fn metadata_end(&self) -> u64 {
        self.start_of(self.data).get()
    }

    /// Offset just past everything.
    pub(super) fn end(&self) -> u64 {
        self.start_of(self.nth(HostCluster::ZERO, self.total.get())).get()
    }
}

/// How many clusters the refcounts of an image need.
struct Refcounts {
    table: ClusterCount,
    blocks: ClusterCount,
}

impl Refcounts {
    /// Refcounts for `others` clusters and for themselves: the smallest numbers that cover each other.
    fn that_cover(geometry: Geometry, others: ClusterCount) -> Option<Self> {
        let mut blocks = ClusterCount::ONE;
        loop {
            let table = geometry.reftable_clusters_for(blocks);
            let needed = geometry.refblocks_for(others.checked_add(table)?.checked_add(blocks)?);
            if needed <= blocks {
                return Some(Self { table, blocks });
            }
            blocks = needed;
        }
    }
}

fn too_large() -> BlockError {
    let message = "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
    BlockError::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn refcounts_cover_themselves_and_no_more(bits in 9u32..=21, order in 0u32..=6, others in 1u64..1 << 30) {
            let geometry = Geometry::new(bits, order).expect("valid");
            let Refcounts { table, blocks } =
                Refcounts::that_cover(geometry, ClusterCount::new(others)).expect("small");
            let total = others + table.get() + blocks.get();
            prop_assert!(total <= blocks.get() * geometry.refblock_entries() as u64);
            prop_assert!(blocks.get() <= table.get() * geometry.l2_entries() as u64);
            prop_assert!((blocks.get() - 1) * (geometry.refblock_entries() as u64) < total);
        }
    }
}
