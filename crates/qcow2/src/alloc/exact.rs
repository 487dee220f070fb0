//! Runs of an exact length, for tables that have to be in one piece.

use qemu_block::error::Result;

use super::Run;
use crate::meta::Meta;
use crate::units::{ClusterCount, HostCluster};

/// Free runs that are looked at, and found too short, before the run is put behind everything that is counted.
const ATTEMPTS_MAX: usize = 64;

impl Meta {
    /// Reserves exactly `count` clusters that follow one another.
    ///
    /// # Errors
    /// As [`Meta::allocate`].
    pub(crate) async fn allocate_exactly(&mut self, count: ClusterCount) -> Result<Run> {
        let mut too_short = Vec::new();
        let found = self.search_exactly(count, &mut too_short).await;
        // The pieces that were too short are free again; the search had to hold them so as not to find them twice.
        for run in too_short {
            self.unreserve(run).await?;
        }
        match found? {
            Some(run) => Ok(run),
            None => self.allocate_behind_all(count).await,
        }
    }

    async fn search_exactly(&mut self, count: ClusterCount, too_short: &mut Vec<Run>) -> Result<Option<Run>> {
        // Each missing block takes the first cluster of its range, so longer runs are only found by accident.
        if count.get() >= self.geo.refblock_entries() as u64 {
            return Ok(None);
        }
        for _ in 0..ATTEMPTS_MAX {
            let reserved = self.allocate(count).await?;
            if reserved.run.count == count {
                return Ok(Some(reserved.run));
            }
            too_short.push(reserved.run);
        }
        Ok(None)
    }

    /// Reserves the run behind the last refcount block's range, with new blocks, which count it and themselves, in front.
    async fn allocate_behind_all(&mut self, count: ClusterCount) -> Result<Run> {
        self.know_metadata().await?;
        let per_block = self.geo.refblock_entries() as u64;
        // Each block brings room for `per_block` clusters and takes one itself.
        let n_blocks = count.get().div_ceil(per_block - 1);
        loop {
            let index = self.reftable.loaded_entries().map(|(index, _)| index + 1).max().unwrap_or(0);
            let end = index + usize::try_from(n_blocks).expect("blocks for a table are few");
            if end > self.reftable.n_entries() {
                // The larger table comes with blocks of its own, so that the last one is another one afterwards.
                self.grow_reftable(end - 1).await?;
                continue;
            }
            let used = Run { start: self.geo.refblock_first(index), count: ClusterCount::new(n_blocks + count.get()) };
            self.add_refblocks(index, ClusterCount::new(n_blocks), used).await?;
            let run = Run { start: HostCluster::new(used.start.get() + n_blocks), count };
            let _all_are_zeroed_anyway = self.alloc.claim(run);
            return Ok(run);
        }
    }
}
