//! How much of the clusters that it allocates a write has to fill, and what their subclusters are afterwards.
//!
//! Where L2 entries are not extended that is whole clusters. Subclusters that a write does not touch stay what they are,
//! unless their data would be left behind in a cluster that snapshots share, or in a compressed one.

use std::ops::Range;

use crate::format::l2::{L2Entry, L2Mapping};
use crate::format::subclusters::{SUBCLUSTERS, Subcluster, Subclusters};
use crate::map::MapRun;
use crate::units::{Geometry, GuestCluster, HostOffset};

/// See the module's description.
#[derive(Clone, Debug)]
pub(super) struct Fill {
    /// The guest bytes that the write has to provide, itself or by copying.
    pub(super) range: Range<u64>,
    first: Edge,
    last: Edge,
}

/// The first or the last cluster of a write; those in between are filled as a whole.
#[derive(Clone, Copy, Debug)]
struct Edge {
    cluster: GuestCluster,
    /// What its subclusters are when the write is done.
    after: Subclusters,
}

impl Fill {
    /// What a write of `request` (guest bytes, at least one) to clusters with the mappings of `runs` has to fill.
    pub(super) fn new(geo: Geometry, runs: &[MapRun], request: Range<u64>, whole: Range<u64>) -> Self {
        let first = runs.first().map_or(GuestCluster::ZERO, |run| run.start);
        let last = runs.last().map_or(first, |run| GuestCluster::new(run.end().get().saturating_sub(1)));
        let edge = |cluster| Edge { cluster, after: Subclusters::ALL_DATA };
        let mut fill = Self { range: whole, first: edge(first), last: edge(last) };
        if !geo.is_extended_l2() {
            return fill;
        }
        let byte =
            |cluster, subcluster: u32| geo.guest_start(cluster).get() + u64::from(subcluster) * geo.subcluster_size();
        if let (Some(run), Some(last_run)) = (runs.first(), runs.last()) {
            let (filled, after) = fill_cluster(run.mapping, geo.subclusters_in(first, &request));
            fill.first.after = after;
            fill.range.start = byte(first, filled.start);
            let (filled, after) = fill_cluster(last_run.mapping, geo.subclusters_in(last, &request));
            fill.last.after = after;
            fill.range.end = byte(last, filled.end);
        }
        fill
    }

    /// The entry of `cluster`, whose data has come to be at `host`.
    pub(super) fn entry(&self, cluster: GuestCluster, host: HostOffset) -> L2Entry {
        let edge = [self.first, self.last].into_iter().find(|edge| edge.cluster == cluster);
        L2Entry::standard(host, true).with_subclusters(edge.map_or(Subclusters::ALL_DATA, |edge| edge.after))
    }
}

/// The subclusters that have to be filled in a cluster of which a write touches some, and what all of them are then.
fn fill_cluster(mapping: L2Mapping, touched: Range<u32>) -> (Range<u32>, Subclusters) {
    let (before, kept) = match mapping {
        L2Mapping::Unallocated => (Subclusters::NONE, true),
        L2Mapping::Zero { .. } => (Subclusters::ALL_ZERO, true),
        L2Mapping::Standard { copied, .. } => (Subclusters::ALL_DATA, copied),
        L2Mapping::Compressed(_) => (Subclusters::ALL_DATA, false),
        L2Mapping::Mixed { copied, subclusters, .. } => (subclusters, copied),
    };
    let left_behind = if kept { 0..0 } else { before.data_hull() };
    let filled = if left_behind.is_empty() {
        touched
    } else {
        touched.start.min(left_behind.start)..touched.end.max(left_behind.end)
    };
    debug_assert!(filled.end <= SUBCLUSTERS, "inside the cluster");
    (filled.clone(), before.with(filled, Subcluster::Data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Option<HostOffset> = Some(HostOffset::new(1 << 20));

    #[test]
    fn only_what_is_touched_is_filled() {
        let touched = 4..6;
        let bit = |bits: u64| Subclusters::from_raw(bits);
        assert_eq!(fill_cluster(L2Mapping::Unallocated, touched.clone()), (4..6, bit(0x30)));
        let zero = L2Mapping::Zero { host: None, copied: false };
        assert_eq!(fill_cluster(zero, touched.clone()), (4..6, bit(0xffff_ffcf_0000_0030)));
        let mixed = L2Mapping::Mixed { host: HOST, copied: true, subclusters: bit(0x300 | 1 << 63) };
        assert_eq!(fill_cluster(mixed, touched), (4..6, bit(0x330 | 1 << 63)));
    }

    #[test]
    fn data_of_shared_clusters_is_copied() {
        let bit = |bits: u64| Subclusters::from_raw(bits);
        let mixed = L2Mapping::Mixed { host: HOST, copied: false, subclusters: bit(0x300 | 1 << 63) };
        assert_eq!(fill_cluster(mixed, 4..6), (4..10, bit(0x3f0 | 1 << 63)));
        let standard = L2Mapping::Standard { host: HostOffset::new(1 << 20), copied: false };
        assert_eq!(fill_cluster(standard, 4..6), (0..32, Subclusters::ALL_DATA));
        let empty = L2Mapping::Mixed { host: HOST, copied: false, subclusters: bit(0) };
        assert_eq!(fill_cluster(empty, 4..6), (4..6, bit(0x30)));
    }
}
