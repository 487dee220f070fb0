//! Which parts of the image are metadata, so that no data is ever written there (rule R15).
//!
//! A damaged image may have a mapping that points at its own tables, or refcounts of zero for clusters in use. Every
//! write is therefore checked against what is known to be metadata, and before the first one everything that the
//! header, the active L1 table, the refcount table and the snapshots name is known. The L2 tables of snapshots are
//! not: finding them takes a walk over all of them. QEMU: `qcow2_pre_write_overlap_check`.
//!
//! A table that two entries name, or that lies inside another one, is corruption, too: changing one would change both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use qemu_block::error::{BlockError, ErrorKind, Result};

use crate::format::encryption::Encryption;
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
    InactiveL1Table,
    BitmapDirectory,
    EncryptionHeader,
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
            Self::InactiveL1Table => "inactive L1 table",
            Self::BitmapDirectory => "bitmap directory",
            Self::EncryptionHeader => "encryption header",
        }
    }
}

/// The known metadata: a few fixed ranges, and the clusters of tables that entries in memory point to.
#[derive(Clone, Debug)]
pub(crate) struct MetadataRegions {
    geo: Geometry,
    fixed: Vec<(Range<u64>, Region)>,
    /// The L1 tables of snapshots: sorted, and neighbours merged, because there may be many.
    inactive_l1: Vec<Range<u64>>,
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
            // Entries have no fixed length; the rest is known once they are read.
            fixed.push((range(header.snapshots.offset, 1), Region::SnapshotTable));
        }
        if let Some(bitmaps) = &header.bitmaps {
            fixed.push((range(bitmaps.directory_offset, bitmaps.directory_len), Region::BitmapDirectory));
        }
        if let Some(Encryption::Luks(place)) = header.encryption {
            fixed.push((range(place.offset, place.len), Region::EncryptionHeader));
        }
        fixed.retain(|(range, _)| !range.is_empty());
        Self { geo, fixed, inactive_l1: Vec::new(), tables: HashMap::new() }
    }

    /// Replaces the range of a table that exists once.
    pub(crate) fn move_fixed(&mut self, region: Region, offset: HostOffset, bytes: u64) {
        self.fixed.retain(|(_, kind)| *kind != region);
        self.fixed.push((offset.get()..offset.get().saturating_add(bytes), region));
    }

    /// Adds the snapshot table and the L1 tables that it names.
    ///
    /// # Errors
    /// When tables overlap that must not.
    pub(crate) fn add_snapshots(&mut self, table: Range<u64>, mut inactive_l1: Vec<Range<u64>>) -> Result<()> {
        if !table.is_empty() {
            self.move_fixed(Region::SnapshotTable, HostOffset::new(table.start), table.end - table.start);
        }
        inactive_l1.retain(|range| !range.is_empty());
        inactive_l1.sort_unstable_by_key(|range| range.start);
        self.inactive_l1.clear();
        for range in inactive_l1 {
            match self.inactive_l1.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => self.inactive_l1.push(range),
            }
        }
        self.check_disjoint()
    }

    /// Fails if the known structures overlap one another.
    fn check_disjoint(&self) -> Result<()> {
        for (i, (range, region)) in self.fixed.iter().enumerate() {
            let other = self.fixed[i + 1..].iter().find(|(other, _)| overlaps(range, other));
            let other = other.map(|(_, other)| *other);
            if let Some(other) = other.or_else(|| self.hit_inactive(range)) {
                return Err(doubly_used(HostOffset::new(range.start), *region, other));
            }
        }
        for (cluster, region) in &self.tables {
            let start = self.geo.host_start(*cluster).get();
            if let Some(other) = self.hit_fixed(&(start..start.saturating_add(self.geo.cluster_size())), None) {
                return Err(doubly_used(HostOffset::new(start), *region, other));
            }
        }
        Ok(())
    }

    /// Notes that an entry in memory names `table`, which must not be known yet.
    ///
    /// # Errors
    /// `Corrupt` when another entry names it, too, or it lies inside other metadata.
    pub(crate) fn add_table(&mut self, table: HostOffset, region: Region) -> Result<()> {
        let start = table.get();
        if let Some(other) = self.hit_fixed(&(start..start.saturating_add(self.geo.cluster_size())), None) {
            return Err(doubly_used(table, region, other));
        }
        match self.tables.entry(self.geo.host_cluster(table)) {
            Entry::Occupied(known) => Err(doubly_used(table, region, *known.get())),
            Entry::Vacant(place) => {
                place.insert(region);
                Ok(())
            }
        }
    }

    /// Adds all of `tables`, or none.
    ///
    /// # Errors
    /// As [`MetadataRegions::add_table`].
    pub(crate) fn add_tables(&mut self, tables: impl Iterator<Item = HostOffset>, region: Region) -> Result<()> {
        let mut added = Vec::new();
        for table in tables {
            if let Err(error) = self.add_table(table, region) {
                added.into_iter().for_each(|table| self.remove_table(table));
                return Err(error);
            }
            added.push(table);
        }
        Ok(())
    }

    /// Forgets a table that no entry names any more.
    pub(crate) fn remove_table(&mut self, table: HostOffset) {
        self.tables.remove(&self.geo.host_cluster(table));
    }

    /// The metadata that a write of `len` bytes at `offset` would hit, other than `own`.
    pub(crate) fn hit(&self, offset: HostOffset, len: u64, own: Option<Region>) -> Option<Region> {
        let range = offset.get()..offset.get().saturating_add(len);
        if let Some(region) = self.hit_fixed(&range, own) {
            return Some(region);
        }
        let mut cluster = self.geo.host_cluster(offset);
        while self.geo.host_start(cluster).get() < range.end {
            if let Some(region) = self.tables.get(&cluster).filter(|region| Some(**region) != own) {
                return Some(*region);
            }
            cluster = cluster.next();
        }
        None
    }

    fn hit_fixed(&self, range: &Range<u64>, own: Option<Region>) -> Option<Region> {
        let hit = self.fixed.iter().find(|(fixed, region)| Some(*region) != own && overlaps(fixed, range));
        hit.map(|(_, region)| *region).or_else(|| self.hit_inactive(range))
    }

    fn hit_inactive(&self, range: &Range<u64>) -> Option<Region> {
        let next = self.inactive_l1.partition_point(|table| table.end <= range.start);
        let hit = self.inactive_l1.get(next).is_some_and(|table| overlaps(table, range));
        hit.then_some(Region::InactiveL1Table)
    }
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn doubly_used(offset: HostOffset, region: Region, other: Region) -> BlockError {
    let text = if region == other {
        format!("qcow2: two entries name the {} at host offset {:#x}", region.name(), offset.get())
    } else {
        format!("qcow2: the {} at host offset {:#x} overlaps with {}", region.name(), offset.get(), other.name())
    };
    BlockError::new(ErrorKind::Corrupt, text)
}
