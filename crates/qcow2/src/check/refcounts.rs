//! The refcount structures: counting them, and comparing what they say with what was counted.

use std::collections::HashSet;

use qemu_util::buf::IoBuf;

use super::Checker;
use super::findings::{Class, Severity};
use super::regions::Region;
use crate::error::TableKind;
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::units::{HostCluster, HostOffset};

impl Checker<'_> {
    fn reftable_region(&self) -> Region {
        let place = self.header.reftable;
        let len = u64::from(place.count) * self.header.geometry.cluster_size();
        Region::table(TableKind::Refcount, place.offset, len)
    }

    /// Clusters that the file has, the last one possibly in part.
    fn file_clusters(&self) -> u64 {
        self.header.geometry.size_to_clusters(self.storage.len()).get()
    }

    /// Counts the refcount table and the refcount blocks. QEMU: `check_refblocks`.
    pub(super) async fn count_refcount_structures(&mut self) {
        let region = self.reftable_region();
        self.count_region(region, 1);
        let geometry = self.header.geometry;
        for (index, raw) in self.table_entries(region, "the refcount table").await {
            let entry = ReftableEntry::from_raw(raw);
            let offset = entry.offset_bits();
            let cluster = geometry.host_cluster(offset);
            let problem = if entry.has_reserved_bits() {
                Some(format!("ERROR refcount table entry {index} has reserved bits set"))
            } else if !geometry.is_aligned(offset) {
                Some(format!("ERROR refcount block {index} is not cluster aligned; refcount table entry corrupted"))
            } else if cluster.get() >= self.file_clusters() {
                Some(format!("ERROR refcount block {index} is outside image"))
            } else {
                self.count_region(Region::table(TableKind::RefcountBlock, offset, geometry.cluster_size()), 1);
                let count = self.counts.get(cluster);
                (count != 1).then(|| format!("ERROR refcount block {index} refcount={count}"))
            };
            if let Some(problem) = problem {
                self.findings.corruption(Class::RefcountTable, || problem);
            }
        }
    }

    /// Compares stored and counted refcounts of all clusters. QEMU: `compare_refcounts`.
    pub(super) async fn compare_refcounts(&mut self) {
        let geometry = self.header.geometry;
        let per_block = u64::try_from(geometry.refblock_entries()).unwrap_or(u64::MAX);
        // Clusters before this one have been compared.
        let mut done = 0;
        let mut seen = HashSet::new();
        for (index, raw) in self.table_entries(self.reftable_region(), "the refcount table").await {
            // Reserved bits have been reported; the reference looks at the block nevertheless.
            let offset = ReftableEntry::from_raw(raw).offset_bits();
            let first = index.saturating_mul(per_block);
            self.compare_missing(done, first);
            if geometry.is_aligned(offset) && i64::try_from(offset.get()).is_ok() {
                self.compare_block(offset, first, per_block, seen.insert(offset)).await;
            } else {
                self.note_unknown(first, first.saturating_add(per_block));
            }
            done = first.saturating_add(per_block);
        }
        self.compare_missing(done, u64::MAX);
    }

    /// Clusters without a refcount block: their stored refcount is zero.
    fn compare_missing(&mut self, first: u64, end: u64) {
        let used: Vec<_> = self.counts.range(first, end).collect();
        for (cluster, count) in used {
            self.compare(cluster, 0, count);
        }
        let beyond: Vec<_> = self.beyond.range(first, end).map(|(cluster, _)| cluster).collect();
        self.differing.extend(beyond.into_iter().map(|cluster| (cluster, 0)));
    }

    /// Clusters whose refcount block cannot be read: nothing is known about them.
    fn note_unknown(&mut self, first: u64, end: u64) {
        let end = end.min(self.file_clusters());
        if first >= end {
            return;
        }
        self.findings.add(Class::Unreadable, Severity::CheckError, end - first, || {
            format!("Can't get refcount for clusters {first} to {}: Input/output error", end - 1)
        });
        if let Some((cluster, _)) = self.counts.range(first, end).last() {
            self.highest = self.highest.max(cluster);
        }
    }

    /// Clusters whose refcounts are in the block at `offset`. A block that another entry of the table has named
    /// before is damage, reported as such; its counts are not looked at again, or a small file could keep us busy
    /// for hours.
    async fn compare_block(&mut self, offset: HostOffset, first: u64, per_block: u64, is_new: bool) {
        let read = if is_new {
            self.storage.read_available(offset.get(), self.header.geometry.cluster_size()).await
        } else {
            Ok(IoBuf::zeroed(0))
        };
        let block = match read {
            Ok(block) => block,
            Err(error) => return self.findings.unreadable("a refcount block", &error),
        };
        if block.iter().all(|byte| *byte == 0) {
            return self.compare_missing(first, first.saturating_add(per_block));
        }
        let width = RefcountWidth::new(self.header.geometry);
        let file_clusters = self.file_clusters();
        for index in 0..self.header.geometry.refblock_entries() {
            let cluster = HostCluster::new(first.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)));
            let stored = width.get(&block, index).unwrap_or(0);
            let counted = self.counts.get(cluster);
            if cluster.get() < file_clusters || counted != 0 {
                self.compare(cluster, stored, counted);
            }
            if self.beyond.get(cluster) != 0 {
                self.differing.insert(cluster, stored);
            }
        }
    }

    fn compare(&mut self, cluster: HostCluster, stored: u64, counted: u64) {
        // What is counted saturates at what can be stored; the overflow has been reported.
        let counted = counted.min(self.header.geometry.refcount_max());
        if stored != 0 || counted != 0 {
            self.highest = self.highest.max(cluster);
        }
        if stored == counted {
            return;
        }
        if counted != 0 {
            self.differing.insert(cluster, stored);
        }
        let (class, severity, word) = if stored < counted {
            (Class::Refcount, Severity::Corruption, "ERROR")
        } else {
            (Class::Leak, Severity::Leak, "Leaked")
        };
        self.findings.add(class, severity, 1, || {
            format!("{word} cluster {} refcount={stored} reference={counted}", cluster.get())
        });
    }

    /// The refcount that is stored for a cluster that some entry names.
    pub(super) fn stored_refcount(&self, cluster: HostCluster) -> u64 {
        let counted = || self.counts.get(cluster).min(self.header.geometry.refcount_max());
        self.differing.get(&cluster).copied().unwrap_or_else(counted)
    }
}
