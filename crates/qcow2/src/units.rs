//! Offsets, cluster indices and counts as types of their own, and [`Geometry`], the only place that shifts.
//!
//! None of these types has operators or a `From<u64>`: mixing guest and host, or bytes and clusters, does not compile.
//! Arithmetic is named, and checked wherever a value from an image could overflow it.

use std::ops::Range;

use crate::limits::{
    CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, L1_BYTES_MAX, REFCOUNT_ORDER_MAX, REFTABLE_BYTES_MAX, VIRTUAL_SIZE_MAX,
};

macro_rules! unit {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The first one.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number that is known to mean this.
            #[inline]
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number.
            #[inline]
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }
    };
}

unit! {
    /// A position on the virtual disk, in bytes.
    GuestOffset
}
unit! {
    /// A position in the image file, in bytes.
    HostOffset
}
unit! {
    /// Index of a cluster of the virtual disk; never a byte offset.
    GuestCluster
}
unit! {
    /// Index of a cluster of the image file; never a byte offset.
    HostCluster
}
unit! {
    /// How many clusters; never an index and never bytes.
    ClusterCount
}

macro_rules! offset_arithmetic {
    ($name:ident) => {
        impl $name {
            /// The position `bytes` further on, unless that overflows.
            #[inline]
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Bytes from `earlier` to here, unless `earlier` is the later one.
            #[inline]
            #[must_use]
            pub const fn bytes_since(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }
        }
    };
}

offset_arithmetic!(GuestOffset);
offset_arithmetic!(HostOffset);

macro_rules! index_arithmetic {
    ($name:ident) => {
        impl $name {
            /// The cluster `count` further on, unless that overflows.
            #[inline]
            #[must_use]
            pub const fn checked_add(self, count: ClusterCount) -> Option<Self> {
                match self.0.checked_add(count.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Clusters from `earlier` to here, unless `earlier` is the later one.
            #[inline]
            #[must_use]
            pub const fn clusters_since(self, earlier: Self) -> Option<ClusterCount> {
                match self.0.checked_sub(earlier.0) {
                    Some(difference) => Some(ClusterCount(difference)),
                    None => None,
                }
            }

            /// The next cluster; the last representable one has none and stays itself.
            #[inline]
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

index_arithmetic!(GuestCluster);
index_arithmetic!(HostCluster);

impl ClusterCount {
    /// A single cluster.
    pub const ONE: Self = Self(1);

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, unless it overflows.
    #[inline]
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, unless `other` is larger.
    #[inline]
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }
}

/// Where the mapping of a guest offset is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPosition {
    /// Index into the L1 table.
    pub l1_index: usize,
    /// Index into the L2 table.
    pub l2_index: usize,
    /// Bytes from the start of the cluster.
    pub in_cluster: u64,
}

/// Where the refcount of a host cluster is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefcountPosition {
    /// Index into the refcount table.
    pub table_index: usize,
    /// Index into the refcount block, in counts.
    pub block_index: usize,
}

/// Everything that follows from the sizes of clusters and refcounts: the image's shifts and masks.
///
/// Checked when it is made, so that none of its methods can shift out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    cluster_bits: u32,
    l2_bits: u32,
    refcount_order: u32,
    refblock_bits: u32,
}

/// log2 of the size of an entry of the L1 table, the refcount table, and of L2 tables that are not extended, in bytes.
const ENTRY_BITS: u32 = 3;

/// log2 of the number of subclusters in a cluster, where L2 entries are extended. Specification.
const SUBCLUSTERS_BITS: u32 = 5;

impl Geometry {
    /// The geometry of an image, unless one of the two is out of range.
    #[must_use]
    pub const fn new(cluster_bits: u32, refcount_order: u32) -> Option<Self> {
        if cluster_bits < CLUSTER_BITS_MIN || CLUSTER_BITS_MAX < cluster_bits || REFCOUNT_ORDER_MAX < refcount_order {
            return None;
        }
        // A refcount block is one cluster of counts that are 2^refcount_order bits wide.
        let refblock_bits = cluster_bits + 3 - refcount_order;
        Some(Self { cluster_bits, l2_bits: cluster_bits - ENTRY_BITS, refcount_order, refblock_bits })
    }

    /// The same with L2 entries that describe subclusters, and are twice as long; none when the clusters are too small.
    #[must_use]
    pub const fn with_extended_l2(self) -> Option<Self> {
        if self.cluster_bits < CLUSTER_BITS_MIN + SUBCLUSTERS_BITS {
            return None;
        }
        Some(Self { l2_bits: self.cluster_bits - ENTRY_BITS - 1, ..self })
    }

    /// Whether L2 entries describe subclusters.
    #[inline]
    #[must_use]
    pub const fn is_extended_l2(self) -> bool {
        self.l2_bits != self.table_bits()
    }

    /// log2 of the entries in a cluster of eight-byte entries.
    #[inline]
    const fn table_bits(self) -> u32 {
        self.cluster_bits - ENTRY_BITS
    }

    /// Size of an L2 entry in bytes.
    #[inline]
    #[must_use]
    pub const fn l2_entry_len(self) -> usize {
        1 << (self.cluster_bits - self.l2_bits)
    }

    /// Bytes from the start of an L2 table to entry `index`.
    #[inline]
    #[must_use]
    pub const fn l2_entry_start(self, index: usize) -> u64 {
        (index as u64) << (self.cluster_bits - self.l2_bits)
    }

    /// Bytes that are mapped on their own: subclusters if L2 entries are extended, else clusters.
    #[inline]
    #[must_use]
    pub const fn subcluster_size(self) -> u64 {
        if self.is_extended_l2() { self.cluster_size() >> SUBCLUSTERS_BITS } else { self.cluster_size() }
    }

    /// The same with counts of another width; none when that is out of range.
    #[must_use]
    pub const fn with_refcount_order(self, refcount_order: u32) -> Option<Self> {
        if REFCOUNT_ORDER_MAX < refcount_order {
            return None;
        }
        Some(Self { refcount_order, refblock_bits: self.cluster_bits + 3 - refcount_order, ..self })
    }

    /// log2 of the cluster size in bytes.
    #[inline]
    #[must_use]
    pub const fn cluster_bits(self) -> u32 {
        self.cluster_bits
    }

    /// Cluster size in bytes.
    #[inline]
    #[must_use]
    pub const fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Cluster size in bytes, as a length in memory.
    #[inline]
    #[must_use]
    pub const fn cluster_len(self) -> usize {
        1 << self.cluster_bits
    }

    /// log2 of the width of a refcount in bits.
    #[inline]
    #[must_use]
    pub const fn refcount_order(self) -> u32 {
        self.refcount_order
    }

    /// Width of a refcount in bits.
    #[inline]
    #[must_use]
    pub const fn refcount_bits(self) -> u32 {
        1 << self.refcount_order
    }

    /// Largest value of a refcount.
    #[inline]
    #[must_use]
    pub const fn refcount_max(self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }

    /// Entries in an L2 table.
    #[inline]
    #[must_use]
    pub const fn l2_entries(self) -> usize {
        1 << self.l2_bits
    }

    /// Guest bytes that one L2 table, so one L1 entry, covers.
    #[inline]
    #[must_use]
    pub const fn l2_coverage(self) -> u64 {
        1 << (self.l2_bits + self.cluster_bits)
    }

    /// Counts in a refcount block.
    #[inline]
    #[must_use]
    pub const fn refblock_entries(self) -> usize {
        1 << self.refblock_bits
    }

    /// Host bytes that one refcount block covers.
    #[inline]
    #[must_use]
    pub const fn refblock_coverage(self) -> u64 {
        1 << (self.refblock_bits + self.cluster_bits)
    }

    /// Bytes from the start of the cluster to `offset`, which may be a guest or a host position.
    #[inline]
    const fn within(self, offset: u64) -> u64 {
        offset & (self.cluster_size() - 1)
    }
}

/// The guest's side.
impl Geometry {
    /// Where the mapping of `at` is found.
    #[inline]
    #[must_use]
    pub fn split(self, at: GuestOffset) -> GuestPosition {
        let l2_index = (at.0 >> self.cluster_bits) & ((1 << self.l2_bits) - 1);
        GuestPosition {
            l1_index: to_index(at.0 >> (self.cluster_bits + self.l2_bits)),
            l2_index: to_index(l2_index),
            in_cluster: self.within(at.0),
        }
    }

    /// The guest offset whose mapping is in that place; saturates for indices that no disk reaches, and every later
    /// range check refuses such an offset.
    #[inline]
    #[must_use]
    pub fn join(self, l1_index: usize, l2_index: usize) -> GuestOffset {
        let clusters = (l1_index as u64).saturating_mul(1 << self.l2_bits).saturating_add(l2_index as u64);
        self.guest_start(GuestCluster(clusters))
    }

    /// The cluster that holds `at`.
    #[inline]
    #[must_use]
    pub const fn guest_cluster(self, at: GuestOffset) -> GuestCluster {
        GuestCluster(at.0 >> self.cluster_bits)
    }

    /// Bytes from the start of its cluster to `at`.
    #[inline]
    #[must_use]
    pub const fn in_guest_cluster(self, at: GuestOffset) -> u64 {
        self.within(at.0)
    }

    /// First byte of a guest cluster; saturates as [`Geometry::join`].
    #[inline]
    #[must_use]
    pub const fn guest_start(self, cluster: GuestCluster) -> GuestOffset {
        GuestOffset(cluster.0.saturating_mul(self.cluster_size()))
    }

    /// The subclusters of `cluster` that the guest bytes of `range`, which touches it, touch.
    #[must_use]
    pub fn subclusters_in(self, cluster: GuestCluster, range: &Range<u64>) -> Range<u32> {
        let start = self.guest_start(cluster).0;
        let in_cluster = |offset: u64| offset.saturating_sub(start).min(self.cluster_size());
        let grain = self.subcluster_size();
        let index = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        index(in_cluster(range.start) / grain)..index(in_cluster(range.end).div_ceil(grain))
    }

    /// Entries that the L1 table of a virtual disk of `size` bytes needs.
    #[inline]
    #[must_use]
    pub const fn l1_entries_for(self, size: u64) -> u64 {
        size.div_ceil(self.l2_coverage())
    }

    /// The largest virtual disk in bytes whose L1 table is within bounds.
    #[must_use]
    pub fn virtual_size_max(self) -> u64 {
        (L1_BYTES_MAX >> ENTRY_BITS).saturating_mul(self.l2_coverage()).min(VIRTUAL_SIZE_MAX)
    }
}

/// The host's side.
impl Geometry {
    /// The cluster that starts at `at`; none when `at` is not the start of a cluster.
    #[inline]
    #[must_use]
    pub const fn checked_cluster(self, at: HostOffset) -> Option<HostCluster> {
        if self.within(at.0) != 0 {
            return None;
        }
        Some(HostCluster(at.0 >> self.cluster_bits))
    }

    /// The cluster that holds `at`.
    #[inline]
    #[must_use]
    pub const fn host_cluster(self, at: HostOffset) -> HostCluster {
        HostCluster(at.0 >> self.cluster_bits)
    }

    /// Bytes from the start of its cluster to `at`.
    #[inline]
    #[must_use]
    pub const fn in_host_cluster(self, at: HostOffset) -> u64 {
        self.within(at.0)
    }

    /// Whether a cluster starts at `at`.
    #[inline]
    #[must_use]
    pub const fn is_aligned(self, at: HostOffset) -> bool {
        self.within(at.0) == 0
    }

    /// First byte of a host cluster; saturates, and every later range check refuses such an offset.
    #[inline]
    #[must_use]
    pub const fn host_start(self, cluster: HostCluster) -> HostOffset {
        HostOffset(cluster.0.saturating_mul(self.cluster_size()))
    }

    /// Where the refcount of `cluster` is found.
    #[inline]
    #[must_use]
    pub fn refcount_position(self, cluster: HostCluster) -> RefcountPosition {
        RefcountPosition {
            table_index: to_index(cluster.0 >> self.refblock_bits),
            block_index: to_index(cluster.0 & ((1 << self.refblock_bits) - 1)),
        }
    }

    /// The first cluster whose refcount is in the block that this refcount table entry names; saturates.
    #[inline]
    #[must_use]
    pub fn refblock_first(self, table_index: usize) -> HostCluster {
        HostCluster((table_index as u64).saturating_mul(1 << self.refblock_bits))
    }

    /// Refcount blocks that are needed to count `clusters` clusters from the start of the file on.
    #[inline]
    #[must_use]
    pub const fn refblocks_for(self, clusters: ClusterCount) -> ClusterCount {
        ClusterCount(clusters.0.div_ceil(1 << self.refblock_bits))
    }

    /// Clusters that a refcount table of `blocks` entries occupies.
    #[inline]
    #[must_use]
    pub const fn reftable_clusters_for(self, blocks: ClusterCount) -> ClusterCount {
        ClusterCount(blocks.0.div_ceil(1 << self.table_bits()))
    }

    /// Entries of a refcount table of `clusters` clusters; saturates.
    #[inline]
    #[must_use]
    pub const fn reftable_entries(self, clusters: u32) -> u64 {
        (clusters as u64) << self.table_bits()
    }

    /// Most clusters that a refcount table may occupy.
    #[must_use]
    pub const fn reftable_clusters_max(self) -> u64 {
        REFTABLE_BYTES_MAX >> self.cluster_bits
    }
}

/// Bytes and counts.
impl Geometry {
    /// Clusters that `bytes` bytes occupy, the last one possibly in part.
    #[inline]
    #[must_use]
    pub const fn size_to_clusters(self, bytes: u64) -> ClusterCount {
        ClusterCount(bytes.div_ceil(self.cluster_size()))
    }

    /// Bytes in `count` clusters, unless that overflows.
    #[inline]
    #[must_use]
    pub const fn clusters_to_size(self, count: ClusterCount) -> Option<u64> {
        count.0.checked_mul(self.cluster_size())
    }

    /// Clusters that a table of `entries` eight-byte entries occupies.
    #[inline]
    #[must_use]
    pub const fn table_clusters(self, entries: u64) -> ClusterCount {
        ClusterCount(entries.div_ceil(1 << self.table_bits()))
    }

    /// `bytes` rounded up to whole clusters, unless that overflows.
    #[inline]
    #[must_use]
    pub const fn round_up(self, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(self.cluster_size())
    }

    /// `bytes` rounded down to whole clusters.
    #[inline]
    #[must_use]
    pub const fn round_down(self, bytes: u64) -> u64 {
        bytes - self.within(bytes)
    }
}

/// An index in memory; a value that does not fit becomes one that no table has.
#[inline]
fn to_index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn out_of_range_geometries_are_refused() {
        assert!(Geometry::new(8, 4).is_none());
        assert!(Geometry::new(22, 4).is_none());
        assert!(Geometry::new(16, 7).is_none());
        assert!(Geometry::new(u32::MAX, u32::MAX).is_none());
    }

    #[test]
    fn the_usual_geometry() {
        let geometry = Geometry::new(16, 4).expect("valid");
        assert_eq!((geometry.l2_entries(), geometry.refblock_entries()), (8192, 32768));
        assert_eq!((geometry.l2_coverage(), geometry.refblock_coverage()), (512 << 20, 2 << 30));
        assert_eq!(geometry.refcount_max(), 0xffff);
        assert_eq!(geometry.virtual_size_max(), 2 << 50);
        assert_eq!(geometry.checked_cluster(HostOffset::new(0x1_0200)), None);
        assert_eq!(geometry.l1_entries_for((512 << 20) + 1), 2);
    }

    #[test]
    fn extended_entries_are_twice_as_long() {
        assert!(Geometry::new(13, 4).expect("valid").with_extended_l2().is_none(), "subclusters of 256 bytes");
        let plain = Geometry::new(16, 4).expect("valid");
        let extended = plain.with_extended_l2().expect("large enough");
        assert_eq!((plain.l2_entry_len(), plain.subcluster_size()), (8, 64 << 10));
        assert_eq!((extended.l2_entry_len(), extended.subcluster_size()), (16, 2 << 10));
        assert_eq!((extended.l2_entries(), extended.l2_coverage()), (4096, 256 << 20));
        assert_eq!((plain.l2_entry_start(3), extended.l2_entry_start(3)), (24, 48));
        assert_eq!(extended.reftable_entries(1), plain.reftable_entries(1));
        assert_eq!(extended.table_clusters(8193), plain.table_clusters(8193));
    }

    proptest! {
        #[test]
        fn split_and_join_agree(
            cluster_bits in 9u32..=21,
            order in 0u32..=6,
            offset in 0u64..1 << 62,
            extended: bool,
        ) {
            let geometry = Geometry::new(cluster_bits, order).expect("valid");
            let geometry = geometry.with_extended_l2().filter(|_| extended).unwrap_or(geometry);
            let at = GuestOffset::new(offset);
            let position = geometry.split(at);
            prop_assert!(position.l2_index < geometry.l2_entries());
            let joined = geometry.join(position.l1_index, position.l2_index);
            prop_assert_eq!(joined.checked_add(position.in_cluster), Some(at));
        }

        #[test]
        fn refcount_positions_agree(cluster_bits in 9u32..=21, order in 0u32..=6, cluster in 0u64..1 << 40) {
            let geometry = Geometry::new(cluster_bits, order).expect("valid");
            let position = geometry.refcount_position(HostCluster::new(cluster));
            prop_assert!(position.block_index < geometry.refblock_entries());
            let first = geometry.refblock_first(position.table_index);
            prop_assert_eq!(first.get() + position.block_index as u64, cluster);
        }
    }
}
