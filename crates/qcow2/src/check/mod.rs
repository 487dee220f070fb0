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
//! QEMU: `qcow2_check_refcounts` (block/qcow2-refcount.c). Beyond it, a table that the end of the file cuts off is
//! corruption, and so is a compressed cluster.

mod bitmaps;
mod copied;
mod counts;
mod findings;
mod refcounts;
mod regions;
mod snapshots;
mod storage;
mod tables;

use std::collections::BTreeMap;

use qemu_block::error::Result;
use qemu_block::node::Node;
use qemu_block::types::CheckReport;

use crate::format::header::{Header, Version};
use crate::format::l2::L2Layout;
use crate::limits::L1_BYTES_MAX;
use crate::units::HostCluster;
use counts::Counts;
use findings::Findings;
use storage::Storage;
use tables::L2Refs;

/// Checks an image whose caches have been written back; `file` stores it. Nothing is changed.
///
/// # Errors
/// When the check itself is impossible. Metadata that cannot be read is counted in the report.
pub(crate) async fn check(file: &Node, header: &Header) -> Result<CheckReport> {
    Checker::new(file, header).run().await
}

/// A check in progress.
struct Checker<'a> {
    header: &'a Header,
    layout: L2Layout,
    storage: Storage<'a>,
    findings: Findings,
    /// How often clusters are used that are inside the file, or begin less than a cluster after its end.
    counts: Counts,
    /// The same for clusters further out, of which only the stored refcount matters.
    beyond: Counts,
    /// The L2 tables that L1 entries name.
    l2_refs: L2Refs,
    /// Stored refcounts of used clusters where they differ from the counted ones.
    differing: BTreeMap<HostCluster, u64>,
    /// The last cluster that is used or has a refcount.
    highest: HostCluster,
}

impl<'a> Checker<'a> {
    fn new(file: &'a Node, header: &'a Header) -> Self {
        Self {
            header,
            layout: L2Layout::new(header.geometry, header.version >= Version::V3),
            storage: Storage::new(file),
            findings: Findings::default(),
            counts: Counts::default(),
            beyond: Counts::default(),
            l2_refs: L2Refs::default(),
            differing: BTreeMap::new(),
            highest: HostCluster::ZERO,
        }
    }

    async fn run(mut self) -> Result<CheckReport> {
        let geometry = self.header.geometry;
        self.count_region(regions::Region::header(geometry), 1);
        let active = self.header.l1;
        if u64::from(active.count) <= L1_BYTES_MAX / 8 {
            self.count_l1(regions::Region::active_l1(active), tables::L1Use::active()).await;
        }
        self.count_snapshots().await;
        self.count_l2_tables().await;
        self.count_bitmaps().await;
        self.count_refcount_structures().await;
        self.compare_refcounts().await;
        self.check_copied_flags().await;
        let report = &mut self.findings.report;
        report.total_clusters = geometry.size_to_clusters(self.header.virtual_size).get();
        report.image_end_offset = geometry.host_start(self.highest.next()).get();
        Ok(self.findings.finish())
    }
}
