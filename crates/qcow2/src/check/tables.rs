//! L1 and L2 tables: which clusters the virtual disk and its snapshots use.

use std::collections::HashMap;

use super::Checker;
use super::findings::{Class, Severity};
use super::regions::Region;
use super::storage::entries;
use crate::compress::decompress;
use crate::error::TableKind;
use crate::format::l1::L1Entry;
use crate::format::l2::{CompressedExtent, L2Entry, L2Layout};
use crate::format::subclusters::Subclusters;
use crate::limits::TABLE_CHUNK_BYTES;
use crate::units::HostOffset;

/// How many L1 tables of each sort stand behind a reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct L1Use {
    /// Active ones: one or none.
    pub(super) active: u64,
    /// Those of snapshots.
    pub(super) snapshots: u64,
}

impl L1Use {
    pub(super) fn active() -> Self {
        Self { active: 1, snapshots: 0 }
    }

    pub(super) fn snapshots(count: u64) -> Self {
        Self { active: 0, snapshots: count }
    }

    pub(super) fn total(self) -> u64 {
        self.active.saturating_add(self.snapshots)
    }
}

/// The L2 tables that are referenced, in the order in which they were found, each with its references.
#[derive(Debug, Default)]
pub(super) struct L2Refs {
    tables: Vec<(HostOffset, L1Use)>,
    places: HashMap<HostOffset, usize>,
}

impl L2Refs {
    /// Whether an L1 entry names a table at `offset`.
    pub(super) fn has(&self, offset: HostOffset) -> bool {
        self.places.contains_key(&offset)
    }

    fn add(&mut self, offset: HostOffset, by: L1Use) {
        let place = *self.places.entry(offset).or_insert_with(|| {
            self.tables.push((offset, L1Use::default()));
            self.tables.len() - 1
        });
        let uses = &mut self.tables[place].1;
        uses.active = uses.active.saturating_add(by.active);
        uses.snapshots = uses.snapshots.saturating_add(by.snapshots);
    }
}

impl Checker<'_> {
    /// Counts an L1 table and notes the L2 tables that it names. QEMU: `check_refcounts_l1`.
    pub(super) async fn count_l1(&mut self, region: Region, uses: L1Use) {
        self.count_region(region, uses.total());
        for (_, raw) in self.table_entries(region, "an L1 table").await {
            let entry = L1Entry::from_raw(raw);
            if entry.has_reserved_bits() {
                self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                    format!("ERROR found L1 entry with reserved bits set: {raw:x}")
                });
            }
            let offset = entry.offset_bits();
            self.l2_refs.add(offset, uses);
        }
    }

    /// The non-zero entries of a table of at most [`crate::limits::L1_BYTES_MAX`] bytes, read in chunks; holes are not
    /// read.
    pub(super) async fn table_entries(&mut self, region: Region, what: &str) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < region.len {
            let Some(offset) = region.offset.checked_add(at) else { break };
            let zeros = self.storage.zeros_at(offset.get(), region.len - at).await / 8 * 8;
            if zeros > 0 {
                at += zeros;
                continue;
            }
            let len = TABLE_CHUNK_BYTES.min(region.len - at);
            match self.storage.read_available(offset.get(), len).await {
                Ok(chunk) => {
                    let index = |index: usize| at / 8 + u64::try_from(index).unwrap_or(u64::MAX);
                    found.extend(entries(&chunk).map(|(place, entry)| (index(place), entry)));
                }
                Err(error) => self.findings.unreadable(what, &error),
            }
            at += len;
        }
        found
    }

    /// Walks every L2 table once.
    pub(super) async fn count_l2_tables(&mut self) {
        let tables = std::mem::take(&mut self.l2_refs.tables);
        for (offset, uses) in &tables {
            self.count_l2(*offset, *uses).await;
        }
        self.l2_refs.tables = tables;
    }

    /// Offsets of the L2 tables of the active state, and how many L1 entries name them.
    pub(super) fn active_l2_tables(&self) -> Vec<(HostOffset, u64)> {
        let active = self.l2_refs.tables.iter().filter(|(_, uses)| uses.active != 0);
        active.map(|(offset, uses)| (*offset, uses.active)).collect()
    }

    /// Counts an L2 table and what it maps. QEMU: `check_refcounts_l2`.
    async fn count_l2(&mut self, offset: HostOffset, uses: L1Use) {
        let geometry = self.header.geometry;
        self.count_region(Region::table(TableKind::L2, offset, geometry.cluster_size()), uses.total());
        if !geometry.is_aligned(offset) {
            self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted", offset.get())
            });
        }
        let table = match self.storage.read_available(offset.get(), geometry.cluster_size()).await {
            Ok(table) => table,
            Err(error) => return self.findings.unreadable("an L2 table", &error),
        };
        let is_whole = table.len() == geometry.cluster_len();
        let can_fix = self.repairs_corruption() && is_whole && geometry.is_aligned(offset);
        let mut needs_fix = false;
        // Where the next data cluster would continue the last one, for the count of fragments.
        let mut contiguous = None;
        for (index, entry) in self.layout.entries(&table).enumerate() {
            if entry == L2Entry::UNALLOCATED {
                continue;
            }
            let fixed = if can_fix { repaired_entry(entry, self.layout) } else { None };
            needs_fix |= fixed.is_some();
            if fixed.is_some() {
                let message = || repair_message(entry, self.layout);
                self.findings.add(Class::Mapping, Severity::RepairedCorruption, 1, message);
            }
            self.count_l2_entry(index, fixed.unwrap_or(entry), uses, &mut contiguous).await;
        }
        if needs_fix {
            self.repairable_l2.push(offset);
        }
    }

    async fn count_l2_entry(&mut self, index: usize, entry: L2Entry, uses: L1Use, contiguous: &mut Option<HostOffset>) {
        if entry.is_compressed() {
            return self.count_compressed(index, entry, uses).await;
        }
        let (raw, subclusters) = (entry.raw(), entry.subclusters());
        if entry.has_reserved_bits(self.layout) {
            self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR found l2 entry with reserved bits set: {raw:x}")
            });
        }
        let host = entry.offset_bits();
        let has_data_file = self.header.has_data_file();
        if host == HostOffset::ZERO && !(has_data_file && entry.is_copied()) {
            if subclusters.data() != 0 {
                self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                    "ERROR: Unallocated cluster has non-zero subcluster allocation map".to_owned()
                });
            }
            return;
        }
        let geometry = self.header.geometry;
        if !subclusters.is_consistent() {
            self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap", host.get())
            });
        }
        if !geometry.is_aligned(host) {
            let has_data = if geometry.is_extended_l2() { subclusters.data() != 0 } else { raw & 1 == 0 };
            let what = if has_data { "Data" } else { "Preallocated" };
            self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR offset={:x}: {what} cluster is not properly aligned; L2 entry corrupted.", host.get())
            });
        }
        let report = &mut self.findings.report;
        report.allocated_clusters = report.allocated_clusters.saturating_add(uses.active);
        if contiguous.is_some_and(|expected| expected != host) {
            report.fragmented_clusters = report.fragmented_clusters.saturating_add(uses.active);
        }
        *contiguous = host.checked_add(geometry.cluster_size());
        if has_data_file {
            // Another file has no counts.
            return;
        }
        self.count_region(Region::data(host, geometry.cluster_size()), uses.total());
    }

    async fn count_compressed(&mut self, index: usize, entry: L2Entry, uses: L1Use) {
        if self.header.has_data_file() {
            let raw = entry.raw();
            return self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR compressed cluster {index} with data file, entry=0x{raw:x}")
            });
        }
        // Reserved bits of the offset put the data outside any file, which is reported as such.
        let extent = entry.compressed_extent(self.layout);
        let start = extent.host.get();
        if entry.is_copied() {
            self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!("ERROR: coffset=0x{start:x}: copied flag must never be set for compressed clusters")
            });
        }
        if entry.subclusters() != Subclusters::NONE {
            // What such an entry means is not defined, so it counts as no reference.
            return self.findings.add(Class::Mapping, Severity::Corruption, uses.total(), || {
                format!(
                    "ERROR compressed cluster {index} with non-zero subcluster allocation bitmap, entry=0x{:x}",
                    entry.raw()
                )
            });
        }
        // Compressed clusters count as fragmented, wherever they are.
        let report = &mut self.findings.report;
        report.allocated_clusters = report.allocated_clusters.saturating_add(uses.active);
        report.compressed_clusters = report.compressed_clusters.saturating_add(uses.active);
        report.fragmented_clusters = report.fragmented_clusters.saturating_add(uses.active);
        self.count_region(Region::data(extent.host, extent.len_max), uses.total());
        self.check_cut_off(extent, uses).await;
    }

    /// A compressed cluster whose last sector is cut off may be whole, as data is not padded. Decompressing tells.
    async fn check_cut_off(&mut self, extent: CompressedExtent, uses: L1Use) {
        let (start, file_len) = (extent.host.get(), self.storage.len());
        let missing = extent.end().get().saturating_sub(file_len);
        // What is far out has been reported as any region is.
        if missing == 0 || missing >= self.header.geometry.cluster_size() {
            return;
        }
        let input = match self.storage.read_available(start, extent.len_max).await {
            Ok(input) => input,
            Err(error) => return self.findings.unreadable("a compressed cluster", &error),
        };
        let mut cluster = vec![0; self.header.geometry.cluster_len()];
        if decompress(self.header.compression, &input, &mut cluster).is_err() {
            self.findings.add(Class::Region, Severity::Corruption, uses.total(), || {
                format!("ERROR: compressed cluster at offset {start:#x} is cut off: the file ends at {file_len:#x}")
            });
        }
    }
}

/// What an entry has to be, if its damage can be repaired without a loss: zeros that need no cluster where the offset of
/// the reserved one is impossible, and compressed clusters without the flag of the others.
pub(crate) fn repaired_entry(entry: L2Entry, layout: L2Layout) -> Option<L2Entry> {
    if entry.is_compressed() {
        return entry.is_copied().then(|| entry.with_copied(false));
    }
    let geometry = layout.geometry();
    if geometry.is_aligned(entry.offset_bits()) {
        return None;
    }
    if geometry.is_extended_l2() {
        // What reads as zeros, or as the backing file, does so without a cluster.
        let subclusters = entry.subclusters();
        let has_data = subclusters.data() != 0;
        return (!has_data).then(|| L2Entry::UNALLOCATED.with_subclusters(subclusters));
    }
    let is_zero = entry.raw() & 1 != 0;
    is_zero.then(|| layout.zero_plain())
}

fn repair_message(entry: L2Entry, layout: L2Layout) -> String {
    if entry.is_compressed() {
        let start = entry.compressed_extent(layout).host.get();
        return format!("Repairing coffset=0x{start:x}: copied flag must never be set for compressed clusters");
    }
    let offset = entry.offset_bits().get();
    format!("Repairing offset={offset:x}: Preallocated cluster is not properly aligned; L2 entry corrupted.")
}
