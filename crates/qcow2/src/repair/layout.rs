//! Where new refcount structures go: a plan, made without I/O.
//!
//! They take clusters that nothing uses, not even the structures that they replace, the first ones of the file first.
//! Only what does not fit there makes the file larger. A block is needed for each range with a used cluster, the new
//! structures included, so that the plan is repeated until it covers itself.

use std::collections::{BTreeMap, BTreeSet};

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;

use crate::alloc::Run;
use crate::check::Checker;
use crate::check::counts::Counts;
use crate::limits::HOST_OFFSET_END;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// New structures may take this many bytes in any case (rule R10).
const BYTES_MAX: u64 = 1 << 30;
/// Beyond that, they may take this part of what they count: more than that is only needed where a few clusters are
/// strewn over a huge sparse file.
const SHARE_MAX: u64 = 8;

/// The plan.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The block for each index in the refcount table that needs one.
    pub(super) blocks: BTreeMap<u64, HostCluster>,
    /// The refcount table.
    pub(super) table: Option<Run>,
    /// The clusters of blocks and table.
    pub(super) clusters: Counts,
    n_clusters: u64,
    n_used: u64,
}

/// What the plan has to respect.
struct Space<'a> {
    geometry: Geometry,
    used: &'a Counts,
    /// The structures that are to be replaced.
    old: &'a Counts,
    /// What entries name outside of the file.
    outside: &'a Counts,
    /// No cluster from here on can be used.
    limit: HostCluster,
}

impl Layout {
    /// Plans structures for everything that `checker` has counted in `file`.
    ///
    /// # Errors
    /// `NoSpace` when they do not fit, and when they would be out of all proportion.
    pub(super) fn plan(file: &Node, checker: &Checker<'_>) -> Result<Self> {
        let geometry = checker.header.geometry;
        let end = if file.limits().growable { HOST_OFFSET_END } else { file.len().min(HOST_OFFSET_END) };
        let limit = geometry.host_cluster(HostOffset::new(end));
        let (used, old, outside) = (&checker.counts, &checker.own, &checker.beyond);
        Self::plan_in(&Space { geometry, used, old, outside, limit })
    }

    fn plan_in(space: &Space<'_>) -> Result<Self> {
        let mut layout = Self::default();
        let mut missing = BTreeSet::new();
        let mut at = HostCluster::ZERO;
        while let Some(cluster) = space.used.next_used(at) {
            missing.insert(space.block_of(cluster));
            layout.n_used += 1;
            at = cluster.next();
            layout.check_proportion(space, missing.len())?;
        }
        loop {
            while let Some(index) = missing.pop_first() {
                let cluster = layout.find(space, ClusterCount::ONE)?;
                layout.take(cluster);
                layout.blocks.insert(index, cluster);
                layout.need_block(space, cluster, &mut missing);
                layout.check_proportion(space, missing.len())?;
            }
            let n_entries = layout.blocks.last_key_value().map_or(0, |(index, _)| index + 1);
            let count = space.geometry.table_clusters(n_entries);
            if count.get() > space.geometry.reftable_clusters_max() {
                return Err(too_large("the refcount table would be too large"));
            }
            let start = layout.find(space, count)?;
            let run = Run { start, count };
            let mut cluster = start;
            while cluster < run.end() {
                layout.need_block(space, cluster, &mut missing);
                cluster = cluster.next();
            }
            if missing.is_empty() {
                (start.get()..run.end().get()).for_each(|cluster| layout.take(HostCluster::new(cluster)));
                layout.table = Some(run);
                return Ok(layout);
            }
        }
    }

    fn need_block(&self, space: &Space<'_>, cluster: HostCluster, missing: &mut BTreeSet<u64>) {
        let index = space.block_of(cluster);
        if !self.blocks.contains_key(&index) {
            missing.insert(index);
        }
    }

    fn take(&mut self, cluster: HostCluster) {
        self.clusters.add(cluster, 1);
        self.n_clusters += 1;
    }

    /// The first `count` clusters in a row that nothing uses.
    fn find(&self, space: &Space<'_>, count: ClusterCount) -> Result<HostCluster> {
        let mut at = HostCluster::ZERO.next();
        loop {
            let next = [space.used, space.old, space.outside, &self.clusters].map(|counts| counts.next_used(at));
            let next = next.into_iter().flatten().min();
            let end = at.checked_add(count).filter(|end| *end <= space.limit);
            let Some(end) = end else { return Err(too_large("there is no room for them")) };
            match next {
                Some(used) if used < end => at = used.next(),
                _ => return Ok(at),
            }
        }
    }

    /// Fails when the structures would take far more than what they are about.
    fn check_proportion(&self, space: &Space<'_>, n_missing: usize) -> Result<()> {
        let n_planned = self.n_clusters.saturating_add(u64::try_from(n_missing).unwrap_or(u64::MAX));
        let bytes = n_planned.saturating_mul(space.geometry.cluster_size());
        if bytes > BYTES_MAX && n_planned > self.n_used / SHARE_MAX {
            return Err(too_large("they would be larger than what they count justifies"));
        }
        Ok(())
    }
}

impl Space<'_> {
    /// The index in the refcount table of the block that counts `cluster`.
    fn block_of(&self, cluster: HostCluster) -> u64 {
        u64::try_from(self.geometry.refcount_position(cluster).table_index).unwrap_or(u64::MAX)
    }
}

fn too_large(why: &str) -> BlockError {
    BlockError::new(ErrorKind::NoSpace, format!("the refcount structures cannot be rebuilt: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(clusters: impl IntoIterator<Item = u64>) -> Counts {
        let mut counts = Counts::default();
        clusters.into_iter().for_each(|cluster| {
            counts.add(HostCluster::new(cluster), 1);
        });
        counts
    }

    fn plan(bits: u32, used: &Counts, old: &Counts, limit: u64) -> Result<Layout> {
        let geometry = Geometry::new(bits, 6).expect("valid");
        let outside = &Counts::default();
        Layout::plan_in(&Space { geometry, used, old, outside, limit: HostCluster::new(limit) })
    }

    proptest! {
        #[test]
        fn everything_is_counted_and_nothing_is_hit(
            used in proptest::collection::btree_set(1u64..3000, 0..400),
            old in proptest::collection::btree_set(1u64..3000, 0..40),
        ) {
            let mut used = used;
            used.insert(0);
            let (used_counts, old_counts) = (counts(used.iter().copied()), counts(old.iter().copied()));
            let layout = plan(9, &used_counts, &old_counts, 1 << 40).expect("there is room");
            let table = layout.table.expect("planned");
            let mut new: Vec<u64> = layout.blocks.values().map(|cluster| cluster.get()).collect();
            new.extend(table.start.get()..table.end().get());
            new.sort_unstable();
            prop_assert!(new.windows(2).all(|pair| pair[0] < pair[1]), "each cluster is taken once");
            prop_assert!(new.iter().all(|cluster| !used.contains(cluster) && !old.contains(cluster)));
            // 64 counts a block, 64 entries a cluster of the table.
            for cluster in new.iter().chain(&used) {
                prop_assert!(layout.blocks.contains_key(&(cluster / 64)));
                prop_assert!(cluster / 64 < table.count.get() * 64);
            }
        }
    }

    #[test]
    fn files_that_cannot_grow_bound_the_plan() {
        let used = counts(0..62);
        assert!(plan(9, &used, &Counts::default(), 64).is_ok());
        let used = counts(0..63);
        assert_eq!(plan(9, &used, &Counts::default(), 64).expect_err("full").kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn strewn_references_are_no_reason_for_a_huge_file() {
        let per_block = (1 << 21) / 8;
        let used = counts((0..600).map(|i| i * per_block));
        let error = plan(21, &used, &Counts::default(), 1 << 40).expect_err("out of proportion");
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        let used = counts((0..60).map(|i| i * per_block));
        assert!(plan(21, &used, &Counts::default(), 1 << 40).is_ok());
    }
}
