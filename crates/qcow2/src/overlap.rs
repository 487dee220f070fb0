//! Which parts of the image are metadata, so that no data is ever written there (rule R15).
//!
//! A damaged image may have a mapping that points at its own tables, or refcounts of zero for clusters in use. Every
//! write is therefore checked against what is known to be metadata. QEMU: `qcow2_pre_write_overlap_check`.

use std::collections::HashMap;
use std::ops::Range;

use crate::format::header::Header;
use crate::units::{Geometry, HostCluster, HostOffset};

/// A kind of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    Header,
    L1Table,
    RefcountTable,
    RefcountBlock,
    L2Table,
    SnapshotTable,
}

impl Region {
    /// What errors call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Header => "qcow2_header",
            Self::L1Table => "active L1 table",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::L2Table => "active L2 table",
            Self::SnapshotTable => "snapshot table",
        }
    }
}

/// The known metadata: a few fixed ranges, and the clusters of tables that entries in memory point to.
#[derive(Debug)]
pub(crate) struct MetadataRegions {
    fixed: Vec<(Range<u64>, Region)>,
    tables: HashMap<HostCluster, Region>,
}

impl MetadataRegions {
    /// What the header alone tells.
    pub(crate) fn new(header: &Header, geo: Geometry) -> Self {
        let range = |offset: HostOffset, bytes: u64| offset.get()..offset.get().saturating_add(bytes);
        let reftable_bytes = u64::from(header.reftable.count) * geo.cluster_size();
        let mut fixed = vec![
            (0..geo.cluster_size(), Region::Header),
            (range(header.l1.offset, u64::from(header.l1.count) * 8), Region::L1Table),
            (range(header.reftable.offset, reftable_bytes), Region::RefcountTable),
        ];
        if header.snapshots.count > 0 {
            fixed.push((range(header.snapshots.offset, 1), Region::SnapshotTable));
        }
        Self { fixed, tables: HashMap::new() }
    }

    /// Replaces the range of a table that exists once.
    pub(crate) fn move_fixed(&mut self, region: Region, offset: HostOffset, bytes: u64) {
        self.fixed.retain(|(_, kind)| *kind != region);
        self.fixed.push((offset.get()..offset.get() + bytes, region));
    }

    pub(crate) fn add_l2_table(&mut self, table: HostOffset, geo: Geometry) {
        self.tables.insert(geo.host_cluster(table), Region::L2Table);
    }

    pub(crate) fn add_refblock(&mut self, block: HostOffset, geo: Geometry) {
        self.tables.insert(geo.host_cluster(block), Region::RefcountBlock);
    }

    /// The metadata that a write of `len` bytes at `offset` would hit, other than `own`.
    pub(crate) fn hit(&self, offset: HostOffset, len: u64, own: Option<Region>, geo: Geometry) -> Option<Region> {
        let (start, end) = (offset.get(), offset.get().saturating_add(len));
        let fixed = self.fixed.iter().find(|(range, region)| {
            Some(*region) != own && range.start < end && start < range.end
        });
        if let Some((_, region)) = fixed {
            return Some(*region);
        }
        let mut cluster = geo.host_cluster(offset);
        while geo.host_start(cluster).get() < end {
            if let Some(region) = self.tables.get(&cluster).filter(|region| Some(**region) != own) {
                return Some(*region);
            }
            cluster = cluster.next();
        }
        None
    }
}
