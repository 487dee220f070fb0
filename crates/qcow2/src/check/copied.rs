//! The flags in the active tables that say "the refcount is exactly one".

use super::Checker;
use super::findings::{Class, Severity};
use super::regions::Region;
use crate::format::l1::L1Entry;
use crate::units::HostOffset;

impl Checker<'_> {
    /// Compares the flags with the stored refcounts. QEMU: `check_oflag_copied`.
    pub(super) async fn check_copied_flags(&mut self) {
        let geometry = self.header.geometry;
        let region = Region::active_l1(self.header.l1);
        for (index, raw) in self.table_entries(region, "the active L1 table").await {
            let entry = L1Entry::from_raw(raw);
            let offset = entry.offset_bits();
            if offset == HostOffset::ZERO {
                continue;
            }
            let refcount = self.stored_refcount(geometry.host_cluster(offset));
            if (refcount == 1) != entry.is_copied() {
                self.findings.corruption(Class::Copied, || {
                    format!("ERROR OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={raw:x} refcount={refcount}")
                });
            }
        }
        for (offset, times) in self.active_l2_tables() {
            if offset != HostOffset::ZERO {
                self.check_copied_flags_in(offset, times).await;
            }
        }
    }

    async fn check_copied_flags_in(&mut self, offset: HostOffset, times: u64) {
        let geometry = self.header.geometry;
        let table = match self.storage.read_available(offset.get(), geometry.cluster_size()).await {
            Ok(table) => table,
            Err(error) => return self.findings.unreadable("an L2 table", &error),
        };
        for entry in self.layout.entries(&table) {
            let raw = entry.raw();
            let host = entry.offset_bits();
            if entry.is_compressed() || host == HostOffset::ZERO {
                continue;
            }
            let refcount = self.stored_refcount(geometry.host_cluster(host));
            if (refcount == 1) != entry.is_copied() {
                self.findings.add(Class::Copied, Severity::Corruption, times, || {
                    format!("ERROR OFLAG_COPIED data cluster: l2_entry={raw:x} refcount={refcount}")
                });
            }
        }
    }
}
