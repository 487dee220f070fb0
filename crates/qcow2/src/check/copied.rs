//! The flags in the active tables that say "the refcount is exactly one".

use qemu_block::error::Result;

use super::Checker;
use super::findings::{Class, Severity};
use super::regions::Region;
use crate::format::l1::L1Entry;
use crate::repair::Fixer;
use crate::units::HostOffset;

impl Checker<'_> {
    /// Compares the flags with the stored refcounts. QEMU: `check_oflag_copied`.
    ///
    /// With a fixer those that are wrong are written.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) async fn check_copied_flags(&mut self, fixer: Option<&Fixer<'_>>) -> Result<()> {
        let region = Region::active_l1(self.header.l1);
        let wrong = self.check_active_l1(region, fixer.is_some()).await;
        if let Some(fixer) = fixer
            && !wrong.is_empty()
        {
            if self.active_l1_overlaps() {
                return self.give_up_flags(wrong.len());
            }
            fixer.write_entries(region.offset, &wrong).await?;
        }
        for (offset, times) in self.active_l2_tables() {
            if offset == HostOffset::ZERO {
                continue;
            }
            let wrong = self.check_active_l2(offset, times, fixer.is_some()).await;
            if let Some(fixer) = fixer
                && !wrong.is_empty()
            {
                if self.overlaps_metadata(offset) {
                    return self.give_up_flags(wrong.len());
                }
                fixer.write_entries(offset, &wrong).await?;
            }
        }
        Ok(())
    }

    /// A table that must not be written: what was announced as repaired is not.
    fn give_up_flags(&mut self, n_flags: usize) -> Result<()> {
        let report = &mut self.findings.report;
        let n_flags = u64::try_from(n_flags).unwrap_or(u64::MAX);
        report.corruptions_fixed = report.corruptions_fixed.saturating_sub(n_flags);
        report.corruptions = report.corruptions.saturating_add(n_flags);
        self.findings.add(Class::Repair, Severity::CheckError, 1, || {
            "ERROR: Could not write L2 table; metadata overlap check failed: Input/output error".to_owned()
        });
        Ok(())
    }

    async fn check_active_l1(&mut self, region: Region, is_repair: bool) -> Vec<(u64, u64)> {
        let geometry = self.header.geometry;
        let (word, severity) = wording(is_repair);
        let mut wrong = Vec::new();
        for (index, raw) in self.table_entries(region, "the active L1 table").await {
            let entry = L1Entry::from_raw(raw);
            let offset = entry.offset_bits();
            if offset == HostOffset::ZERO {
                continue;
            }
            let refcount = self.stored_refcount(geometry.host_cluster(offset));
            if (refcount == 1) != entry.is_copied() {
                self.findings.add(Class::Copied, severity, 1, || {
                    format!("{word} OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={raw:x} refcount={refcount}")
                });
                wrong.push((index, entry.with_copied(refcount == 1).raw()));
            }
        }
        wrong
    }

    async fn check_active_l2(&mut self, offset: HostOffset, times: u64, is_repair: bool) -> Vec<(u64, u64)> {
        let geometry = self.header.geometry;
        let mut wrong = Vec::new();
        let table = match self.storage.read_available(offset.get(), geometry.cluster_size()).await {
            Ok(table) => table,
            Err(error) => {
                self.findings.unreadable("an L2 table", &error);
                return wrong;
            }
        };
        let (word, severity) = wording(is_repair);
        // What is repaired is not found again through the next entry that names this table.
        let times = if is_repair { 1 } else { times };
        for (index, entry) in self.layout.entries(&table).enumerate() {
            let raw = entry.raw();
            let host = entry.offset_bits();
            if entry.is_compressed() || host == HostOffset::ZERO {
                continue;
            }
            // In another file every cluster is used once.
            let counted = !self.header.has_data_file();
            let refcount = if counted { self.stored_refcount(geometry.host_cluster(host)) } else { 1 };
            if (refcount == 1) != entry.is_copied() {
                self.findings.add(Class::Copied, severity, times, || {
                    format!("{word} OFLAG_COPIED data cluster: l2_entry={raw:x} refcount={refcount}")
                });
                // Extended entries are two numbers each, of which this is the first.
                let number = u64::try_from(index * self.layout.entry_bytes() / 8).unwrap_or(u64::MAX);
                wrong.push((number, entry.with_copied(refcount == 1).raw()));
            }
        }
        wrong
    }
}

/// What a finding is called, and how it counts.
fn wording(is_repair: bool) -> (&'static str, Severity) {
    if is_repair { ("Repairing", Severity::RepairedCorruption) } else { ("ERROR", Severity::Corruption) }
}
