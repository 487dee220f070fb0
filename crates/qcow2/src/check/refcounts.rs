//! The refcount structures: counting them, and comparing what they say with what was counted.

use std::collections::HashSet;

use qemu_block::error::Result;
use qemu_block::types::CheckFixes;
use qemu_util::buf::IoBuf;

use super::Checker;
use super::findings::{Class, Severity};
use super::regions::Region;
use crate::error::TableKind;
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::repair::Fixer;
use crate::units::{HostCluster, HostOffset};

impl Checker<'_> {
    fn reftable_region(&self) -> Region {
        let place = self.header.reftable;
        let len = u64::from(place.count) * self.header.geometry.cluster_size();
        Region::table(TableKind::Refcount, place.offset, len)
    }

    /// Clusters that the file has, the last one possibly in part.
    pub(crate) fn file_clusters(&self) -> u64 {
        self.header.geometry.size_to_clusters(self.storage.len()).get()
    }

    /// Counts the refcount table and the refcount blocks. QEMU: `check_refblocks`.
    pub(crate) async fn count_refcount_structures(&mut self) {
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
                Some(format!("{} refcount block {index} is outside image", self.corruption_word()))
            } else {
                self.count_region(Region::table(TableKind::RefcountBlock, offset, geometry.cluster_size()), 1);
                let count = self.uses(cluster);
                (count != 1).then(|| format!("ERROR refcount block {index} refcount={count}"))
            };
            if let Some(problem) = problem {
                self.needs_rebuild = true;
                self.findings.corruption(Class::RefcountTable, || problem);
            }
        }
    }

    /// Compares stored and counted refcounts of all clusters. QEMU: `compare_refcounts`.
    ///
    /// With a fixer, whose repair the refcount structures are fit for, what differs is written.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) async fn compare_refcounts(&mut self, fixer: Option<&Fixer<'_>>) -> Result<()> {
        self.differing.clear();
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
                self.compare_block(offset, first, seen.insert(offset), fixer).await?;
            } else {
                self.note_unknown(first, first.saturating_add(per_block));
            }
            done = first.saturating_add(per_block);
        }
        self.compare_missing(done, u64::MAX);
        Ok(())
    }

    /// Clusters without a refcount block: their stored refcount is zero.
    fn compare_missing(&mut self, first: u64, end: u64) {
        let used = self.counts.range(first, end).map(|(cluster, _)| cluster);
        let own = self.own.range(first, end).map(|(cluster, _)| cluster);
        let mut used: Vec<HostCluster> = used.chain(own.filter(|cluster| self.counts.get(*cluster) == 0)).collect();
        used.sort_unstable();
        for cluster in used {
            self.compare(cluster, 0, CheckFixes::Nothing);
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
        let last = [&self.counts, &self.own].map(|counts| counts.range(first, end).last());
        for (cluster, _) in last.into_iter().flatten() {
            self.highest = self.highest.max(cluster);
        }
    }

    /// Clusters whose refcounts are in the block at `offset`. A block that another entry of the table has named
    /// before is damage, reported as such; its counts are not looked at again, or a small file could keep us busy
    /// for hours.
    async fn compare_block(
        &mut self,
        offset: HostOffset,
        first: u64,
        is_new: bool,
        fixer: Option<&Fixer<'_>>,
    ) -> Result<()> {
        let read = if is_new {
            self.storage.read_available(offset.get(), self.header.geometry.cluster_size()).await
        } else {
            Ok(IoBuf::zeroed(0))
        };
        let mut block = match read {
            Ok(block) => block,
            Err(error) => {
                self.findings.unreadable("a refcount block", &error);
                return Ok(());
            }
        };
        let n_counts = self.header.geometry.refblock_entries();
        if block.iter().all(|byte| *byte == 0) {
            self.compare_missing(first, first.saturating_add(u64::try_from(n_counts).unwrap_or(u64::MAX)));
            return Ok(());
        }
        let fixes = fixer.map_or(CheckFixes::Nothing, |fixer| fixer.fixes);
        let width = RefcountWidth::new(self.header.geometry);
        let file_clusters = self.file_clusters();
        let mut changed = false;
        for index in 0..n_counts {
            let cluster = HostCluster::new(first.saturating_add(u64::try_from(index).unwrap_or(u64::MAX)));
            let stored = width.get(&block, index).unwrap_or(0);
            if (cluster.get() < file_clusters || self.uses(cluster) != 0)
                && let Some(right) = self.compare(cluster, stored, fixes)
            {
                width.set(&mut block, index, right)?;
                changed = true;
            }
            if self.beyond.get(cluster) != 0 {
                self.differing.insert(cluster, stored);
            }
        }
        match fixer {
            Some(fixer) if changed => fixer.write(offset, block).await,
            _ => Ok(()),
        }
    }

    /// Compares one refcount; returns what to store instead if that is repaired.
    fn compare(&mut self, cluster: HostCluster, stored: u64, fixes: CheckFixes) -> Option<u64> {
        // What is counted saturates at what can be stored; the overflow has been reported.
        let counted = self.uses(cluster).min(self.header.geometry.refcount_max());
        if stored != 0 || counted != 0 {
            self.highest = self.highest.max(cluster);
        }
        if stored == counted {
            return None;
        }
        // A zero for a used cluster means that the refcounts are those of another time, or no refcounts at all.
        self.needs_rebuild |= stored == 0;
        let is_leak = stored > counted;
        let is_fixed = match fixes {
            CheckFixes::Nothing => false,
            CheckFixes::Leaks => is_leak,
            CheckFixes::All => stored != 0,
        };
        if counted != 0 && !is_fixed {
            self.differing.insert(cluster, stored);
        }
        let (class, severity, word) = match (is_fixed, is_leak) {
            (false, false) => (Class::Refcount, Severity::Corruption, "ERROR"),
            (false, true) => (Class::Leak, Severity::Leak, "Leaked"),
            (true, false) => (Class::RefcountRepair, Severity::RepairedCorruption, "Repairing"),
            (true, true) => (Class::RefcountRepair, Severity::RepairedLeak, "Repairing"),
        };
        self.findings.add(class, severity, 1, || {
            format!("{word} cluster {} refcount={stored} reference={counted}", cluster.get())
        });
        is_fixed.then_some(counted)
    }

    /// The refcount that is stored for a cluster that some entry names.
    pub(super) fn stored_refcount(&self, cluster: HostCluster) -> u64 {
        let counted = || self.uses(cluster).min(self.header.geometry.refcount_max());
        self.differing.get(&cluster).copied().unwrap_or_else(counted)
    }

    /// Forgets what differed, because the refcount structures have been made anew.
    pub(crate) fn refcounts_are_right(&mut self) {
        self.differing.clear();
        self.needs_rebuild = false;
    }
}
