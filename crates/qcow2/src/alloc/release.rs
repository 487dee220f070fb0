//! Clusters that nothing in memory refers to any more, though the disk may.
//!
//! A cluster whose mapping was dropped keeps its count until the tables without that mapping are durable. Were it used
//! again earlier, a power cut could leave the old mapping pointing at somebody else's data. QEMU lowers the count at
//! once, and loses flushed data that way.

use std::collections::VecDeque;

use qemu_block::debug::DebugEvent;
use qemu_block::error::Result;

use crate::meta::Meta;
use crate::units::{ClusterCount, HostCluster, HostOffset};

use super::Run;

/// When this many clusters wait, the next write that drops one flushes first, so that a long run of overwrites without
/// a flush does not grow the file without bound.
const WAITING_BYTES_MAX: u64 = 256 << 20;

/// A moment between two releases. See [`Releases::seal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// References to be dropped, in the order in which they were given up.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    waiting: VecDeque<Run>,
    n_clusters: u64,
    /// How many runs have left the queue so far, so that a mark stays valid when others take runs out.
    n_taken: u64,
    /// The latest mark, across which runs are not merged.
    sealed: Option<Mark>,
}

impl Releases {
    /// Gives up one reference to each cluster of `run`.
    pub(crate) fn push(&mut self, run: Run) {
        self.n_clusters += run.count.get();
        let is_sealed = self.sealed == Some(self.now());
        match self.waiting.back_mut() {
            Some(last) if !is_sealed && last.end() == run.start => {
                last.count = ClusterCount::new(last.count.get() + run.count.get());
            }
            _ => self.waiting.push_back(run),
        }
    }

    /// A mark after everything given up so far.
    pub(crate) fn seal(&mut self) -> Mark {
        let now = self.now();
        self.sealed = Some(now);
        now
    }

    fn now(&self) -> Mark {
        Mark(self.n_taken + self.waiting.len() as u64)
    }

    /// Takes out the oldest run if it was given up before the mark.
    fn take_before(&mut self, mark: Mark) -> Option<Run> {
        if self.n_taken >= mark.0 {
            return None;
        }
        let run = self.waiting.pop_front()?;
        self.n_taken += 1;
        self.n_clusters -= run.count.get();
        Some(run)
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

    /// Lowers the counts of everything given up before the mark; the caller has made sure that nothing durable refers
    /// to it. Clusters that are free then are discarded in the file below, if the image was opened to do that, before
    /// the lock is released and anybody can be given them.
    pub(crate) async fn apply_releases(&mut self, mark: Mark) -> Result<()> {
        let mut freed = Vec::new();
        let lowered = self.lower_before(mark, &mut freed).await;
        for run in freed {
            let len = self.geo.clusters_to_size(run.count).unwrap_or(u64::MAX);
            self.storage.discard(self.geo.host_start(run.start), len).await;
        }
        lowered
    }

    /// Lowers the counts, and gathers the runs that nobody uses any more.
    async fn lower_before(&mut self, mark: Mark, freed: &mut Vec<Run>) -> Result<()> {
        while let Some(run) = self.releases.take_before(mark) {
            // The I/O of a write that was given up may still hit these clusters: they leak.
            if !self.storage.health().is_abandoned() {
                self.drop_references(run, freed).await?;
            }
        }
        Ok(())
    }

    async fn drop_references(&mut self, run: Run, freed: &mut Vec<Run>) -> Result<()> {
        self.storage.event(DebugEvent::ClusterFree).await;
        let mut at = run.start;
        while at < run.end() {
            if self.decrement(at).await? == 0 {
                self.now_free(at);
                match freed.last_mut() {
                    Some(last) if last.end() == at => last.count = ClusterCount::new(last.count.get() + 1),
                    _ => freed.push(Run { start: at, count: ClusterCount::ONE }),
                }
            }
            at = at.next();
        }
        Ok(())
    }

    /// Gives back at once clusters that were reserved and never referred to.
    pub(crate) async fn unreserve(&mut self, run: Run) -> Result<()> {
        self.drop_references(run, &mut Vec::new()).await
    }

    /// Notes that clusters that were taken are free after all, as far as their counts can tell.
    pub(super) fn now_free_run(&mut self, run: Run) {
        let mut at = run.start;
        while at < run.end() {
            self.now_free(at);
            at = at.next();
        }
    }

    fn now_free(&mut self, cluster: HostCluster) {
        if cluster < self.alloc.frontier {
            self.alloc.freed.insert(cluster);
        }
        let partial_gone = self.alloc.partial.is_some_and(|at| self.geo.host_cluster(at) == cluster);
        if partial_gone {
            self.alloc.partial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, count: u64) -> Run {
        Run { start: HostCluster::new(start), count: ClusterCount::new(count) }
    }

    #[test]
    fn marks_separate_what_came_before_and_after() {
        let mut releases = Releases::default();
        releases.push(run(5, 1));
        releases.push(run(6, 1));
        let first = releases.seal();
        releases.push(run(7, 1));
        let second = releases.seal();
        releases.push(run(8, 1));
        assert_eq!(releases.take_before(first), Some(run(5, 2)));
        assert_eq!(releases.take_before(first), None);
        assert_eq!(releases.take_before(second), Some(run(7, 1)));
        assert_eq!(releases.take_before(second), None);
        assert_eq!(releases.take_before(first), None);
        assert_eq!(releases.n_clusters, 1);
    }
}
