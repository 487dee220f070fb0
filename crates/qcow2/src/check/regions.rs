//! Counting the clusters of a structure.

use super::Checker;
use super::findings::Class;
use crate::error::TableKind;
use crate::format::encryption::Encryption;
use crate::format::header::TablePlace;
use crate::units::{Geometry, HostOffset};

/// A run of bytes in the image file that a structure occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First byte.
    pub(super) offset: HostOffset,
    /// Length in bytes.
    pub(super) len: u64,
    /// The table that it is. Tables must end inside the file; data may end in the file's last, partial cluster.
    pub(super) table: Option<TableKind>,
}

impl Region {
    /// The first cluster.
    pub(super) fn header(geometry: Geometry) -> Self {
        Self::data(HostOffset::ZERO, geometry.cluster_size())
    }

    /// Guest data, or anything else that may be cut off inside a cluster.
    pub(super) fn data(offset: HostOffset, len: u64) -> Self {
        Self { offset, len, table: None }
    }

    /// A table.
    pub(super) fn table(table: TableKind, offset: HostOffset, len: u64) -> Self {
        Self { offset, len, table: Some(table) }
    }

    /// The last byte of a region that has any; saturates.
    pub(super) fn last(self) -> HostOffset {
        HostOffset::new(self.offset.get().saturating_add(self.len.saturating_sub(1)))
    }

    /// The active L1 table.
    pub(super) fn active_l1(place: TablePlace) -> Self {
        Self::table(TableKind::ActiveL1, place.offset, u64::from(place.count) * 8)
    }
}

impl Checker<'_> {
    /// Counts the clusters of the LUKS header and its key slots.
    pub(super) fn count_encryption(&mut self) {
        if let Some(Encryption::Luks(place)) = self.header.encryption {
            self.count_region(Region::data(place.offset, place.len), 1);
        }
    }

    /// Counts every cluster that `region` touches `times` more times.
    ///
    /// QEMU: `qcow2_inc_refcounts_imrt`.
    pub(super) fn count_region(&mut self, region: Region, times: u64) {
        if region.len == 0 {
            return;
        }
        let is_own = matches!(region.table, Some(TableKind::Refcount | TableKind::RefcountBlock));
        let is_single =
            matches!(region.table, Some(TableKind::SnapshotL1 | TableKind::Snapshots | TableKind::BitmapDirectory))
                || region.offset == HostOffset::ZERO;
        let geometry = self.header.geometry;
        let file_len = self.storage.len();
        let (offset, len) = (region.offset.get(), region.len);
        let end = offset.saturating_add(len);
        let is_outside = end.saturating_sub(file_len) >= geometry.cluster_size();
        if is_outside {
            self.findings.add(Class::Region, super::findings::Severity::Corruption, times, || {
                format!(
                    "ERROR: counting reference for region exceeding the end of the file by one cluster or more: \
                     offset {offset:#x} size {len:#x}"
                )
            });
            self.needs_rebuild |= is_own;
            self.beyond.add(geometry.host_cluster(region.offset), times);
            return;
        }
        if let Some(table) = region.table.filter(|_| end > file_len) {
            self.needs_rebuild |= is_own;
            self.findings.corruption(Class::Region, || {
                format!(
                    "ERROR: {table} at offset {offset:#x} is cut off: it ends at {end:#x}, the file at {file_len:#x}"
                )
            });
        }
        let mut cluster = geometry.host_cluster(region.offset);
        let last = geometry.host_cluster(HostOffset::new(end - 1));
        while cluster <= last {
            let (into, other) = if is_own { (&mut self.own, &self.counts) } else { (&mut self.counts, &self.own) };
            if is_single {
                self.metadata.add(cluster, 1);
            }
            let count = into.add(cluster, times).saturating_add(other.get(cluster));
            if count > geometry.refcount_max() && count - times <= geometry.refcount_max() {
                let start = geometry.host_start(cluster).get();
                self.findings.corruption(Class::Refcount, || {
                    format!(
                        "ERROR: overflow cluster offset={start:#x}\n\
                         Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a \
                         clean copy if the image cannot be opened for writing"
                    )
                });
            }
            cluster = cluster.next();
        }
    }
}
