//! Consistency check: counts how often every host cluster is used, and compares that with what the image says.
//!
//! | file | concept |
//! |---|---|
//! | `storage` | reads of what the metadata names, clipped at the end of the file |
//! | `counts` | how often each cluster is used: a sparse map |
//! | `findings` | messages, bounded per class, and the totals |
//! | `regions` | counting the clusters of a structure |
//! | `tables` | L1 and L2 tables |
//! | `refcounts` | refcount table and blocks, and the comparison |
//! | `copied` | the "refcount is exactly one" flags |
//! | `snapshots`, `bitmaps` | their directories |
//!
//! Work and memory follow the metadata that is really there: an L2 table that many L1 entries share is walked once and
//! counted many times, holes in tables are skipped, and the map of counts holds only what is used.
//!
//! The check itself changes nothing. With a repair in mind, it says "Repairing" of what [`crate::repair`] is going to
//! write, and counts that as repaired.
//!
//! QEMU: `qcow2_check_refcounts` (block/qcow2-refcount.c). Beyond it, a table that the end of the file cuts off is
//! corruption, and so is a compressed cluster.

mod bitmaps;
mod copied;
pub(crate) mod counts;
pub(crate) mod findings;
mod refcounts;
mod regions;
mod snapshots;
mod storage;
pub(crate) mod tables;

use std::collections::BTreeMap;

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, CheckReport};

use crate::format::header::{Header, Version};
use crate::format::l2::L2Layout;
use crate::limits::L1_BYTES_MAX;
use crate::units::{HostCluster, HostOffset};
use counts::Counts;
use findings::Findings;
use storage::Storage;
use tables::L2Refs;

/// Checks an image whose caches have been written back; `file` stores it. Nothing is changed.
///
/// # Errors
/// When the check itself is impossible. Metadata that cannot be read is counted in the report.
pub(crate) async fn check(file: &Node, header: &Header) -> Result<CheckReport> {
    let mut checker = Checker::new(file, header, CheckFixes::Nothing);
    checker.count_references().await;
    checker.count_refcount_structures().await;
    checker.compare_refcounts(None).await?;
    checker.check_copied_flags(None).await?;
    Ok(checker.finish())
}

/// A check in progress.
pub(crate) struct Checker<'a> {
    pub(crate) header: &'a Header,
    pub(crate) layout: L2Layout,
    storage: Storage<'a>,
    /// What is going to be repaired.
    fixes: CheckFixes,
    pub(crate) findings: Findings,
    /// How often clusters are used that are inside the file, or begin less than a cluster after its end; by everything
    /// but the refcount table and its blocks.
    pub(crate) counts: Counts,
    /// How often the refcount table and its blocks use clusters of the file.
    pub(crate) own: Counts,
    /// Clusters of the header, of snapshots' tables and of the bitmap directory, over which nothing is ever written.
    metadata: Counts,
    /// Uses of clusters further out, of which only the stored refcount matters.
    pub(crate) beyond: Counts,
    /// The L2 tables that L1 entries name.
    l2_refs: L2Refs,
    /// L2 tables with entries that can be repaired in place, each once.
    pub(crate) repairable_l2: Vec<HostOffset>,
    /// Entries of the snapshot table that lack something.
    pub(crate) snapshot_flaws: u64,
    /// Stored refcounts of used clusters where they differ from the counted ones.
    differing: BTreeMap<HostCluster, u64>,
    /// Whether the refcount structures cannot be repaired in place.
    pub(crate) needs_rebuild: bool,
    /// Whether something that uses clusters was not looked at, so that no refcount may be lowered.
    pub(crate) is_incomplete: bool,
    /// The last cluster that is used or has a refcount.
    highest: HostCluster,
}

impl<'a> Checker<'a> {
    /// A check of the image that `file` stores, worded for a repair of `fixes`.
    pub(crate) fn new(file: &'a Node, header: &'a Header, fixes: CheckFixes) -> Self {
        Self {
            header,
            layout: L2Layout::new(header.geometry, header.version >= Version::V3)
                .with_data_file(header.has_data_file()),
            storage: Storage::new(file),
            fixes,
            findings: Findings::default(),
            counts: Counts::default(),
            own: Counts::default(),
            metadata: Counts::default(),
            beyond: Counts::default(),
            l2_refs: L2Refs::default(),
            repairable_l2: Vec::new(),
            snapshot_flaws: 0,
            differing: BTreeMap::new(),
            needs_rebuild: false,
            is_incomplete: false,
            highest: HostCluster::ZERO,
        }
    }

    /// Counts all uses of clusters, but those by the refcount structures.
    pub(crate) async fn count_references(&mut self) {
        self.count_region(regions::Region::header(self.header.geometry), 1);
        let active = self.header.l1;
        if u64::from(active.count) <= L1_BYTES_MAX / 8 {
            self.count_l1(regions::Region::active_l1(active), tables::L1Use::active()).await;
        }
        self.count_snapshots().await;
        self.count_l2_tables().await;
        self.count_bitmaps().await;
        self.count_encryption();
    }

    /// Whether corruption is going to be repaired.
    pub(crate) fn repairs_corruption(&self) -> bool {
        self.fixes == CheckFixes::All
    }

    /// "Repairing" or "ERROR", for what only a repair of corruption cures.
    fn corruption_word(&self) -> &'static str {
        if self.repairs_corruption() { "Repairing" } else { "ERROR" }
    }

    /// Whether an L2 table at `offset` lies where other metadata does, so that it must not be written.
    /// QEMU: `qcow2_pre_write_overlap_check`.
    pub(crate) fn overlaps_metadata(&self, offset: HostOffset) -> bool {
        let geometry = self.header.geometry;
        let cluster = geometry.host_cluster(offset);
        let active = regions::Region::active_l1(self.header.l1);
        let first = geometry.host_cluster(active.offset);
        let is_l1 = active.len > 0 && first <= cluster && cluster <= geometry.host_cluster(active.last());
        is_l1 || self.is_single_metadata(cluster)
    }

    /// Whether the active L1 table lies where other metadata does.
    fn active_l1_overlaps(&self) -> bool {
        let geometry = self.header.geometry;
        let active = regions::Region::active_l1(self.header.l1);
        let mut cluster = geometry.host_cluster(active.offset);
        while active.len > 0 && cluster <= geometry.host_cluster(active.last()) {
            if self.is_single_metadata(cluster) || self.l2_refs.has(geometry.host_start(cluster)) {
                return true;
            }
            cluster = cluster.next();
        }
        false
    }

    fn is_single_metadata(&self, cluster: HostCluster) -> bool {
        self.metadata.get(cluster) != 0 || self.own.get(cluster) != 0
    }

    /// How often a cluster is used.
    fn uses(&self, cluster: HostCluster) -> u64 {
        self.counts.get(cluster).saturating_add(self.own.get(cluster))
    }

    /// The report.
    pub(crate) fn finish(mut self) -> CheckReport {
        let geometry = self.header.geometry;
        let report = &mut self.findings.report;
        report.total_clusters = geometry.size_to_clusters(self.header.virtual_size).get();
        report.image_end_offset = geometry.host_start(self.highest.next()).get();
        self.findings.finish()
    }
}
