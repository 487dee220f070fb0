//! Clusters that nothing in memory refers to any more, though the disk may.
//!
//! A cluster whose mapping was dropped keeps its count until the tables without that mapping are durable. Were it used
//! again earlier, a power cut could leave the old mapping pointing at somebody else's data. QEMU lowers the count at
//! once, and loses flushed data that way.

use qemu_block::error::Result;

use qemu_util::primitive::atomic::Ordering;

use crate::meta::Meta;
use crate::units::{ClusterCount, HostCluster, HostOffset};

use super::Run;

/// When this many clusters wait, the next write that drops one flushes first, so that a long run of overwrites without
/// a flush does not grow the file without bound.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// References to be dropped, in the order in which they were given up.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    waiting: Vec<Run>,
    n_clusters: u64,
}

impl Releases {
    /// Gives up one reference to each cluster of `run`.
    pub(crate) fn push(&mut self, run: Run) {
        self.n_clusters += run.count.get();
        match self.waiting.last_mut() {
            Some(last) if last.end() == run.start => {
                last.count = ClusterCount::new(last.count.get() + run.count.get());
            }
            _ => self.waiting.push(run),
        }
    }
}

impl Meta {
    /// Gives up a standard cluster.
    pub(crate) fn release_cluster(&mut self, host: HostOffset) {
        let start = self.geo.host_cluster(host);
        self.releases.push(Run { start, count: ClusterCount::ONE });
    }

    /// Gives up the clusters that the bytes from `start` to before `end` touch, once each.
    pub(crate) fn release_bytes(&mut self, start: HostOffset, end: HostOffset) {
        let first = self.geo.host_cluster(start);
        let last = self.geo.host_cluster(HostOffset::new(end.get() - 1));
        let count = ClusterCount::new(last.get() - first.get() + 1);
        self.releases.push(Run { start: first, count });
    }

    /// Whether so much waits that it should be made durable and used again.
    pub(crate) fn too_much_released(&self) -> bool {
        self.releases.n_clusters.saturating_mul(self.geo.cluster_size()) > WAITING_BYTES_MAX
    }

    /// Lowers the counts of everything given up; the caller has made sure that nothing durable refers to it.
    pub(crate) async fn apply_releases(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.releases);
        // Ordering: relaxed; whoever gives a write up does so before it can start anything else.
        if self.abandoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        for run in waiting.waiting {
            self.drop_references(run).await?;
        }
        Ok(())
    }

    async fn drop_references(&mut self, run: Run) -> Result<()> {
        let mut at = run.start;
        while at < run.end() {
            if self.decrement(at).await? == 0 {
                self.now_free(at);
            }
            at = at.next();
        }
        Ok(())
    }

    /// Gives back at once clusters that were reserved and never referred to.
    pub(crate) async fn unreserve(&mut self, run: Run) -> Result<()> {
        self.drop_references(run).await
    }

    fn now_free(&mut self, cluster: HostCluster) {
        self.alloc.hint = self.alloc.hint.min(cluster);
        let partial_gone = self.alloc.partial.is_some_and(|at| self.geo.host_cluster(at) == cluster);
        if partial_gone {
            self.alloc.partial = None;
        }
    }
}
