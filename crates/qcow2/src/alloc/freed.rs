//! Clusters that became free behind the allocator's frontier: a short sorted list, tried before anything is scanned.
//!
//! Without it, one freed cluster near the start of the file would make the allocator look at every count from there on
//! again.

use std::collections::BTreeMap;

use super::Run;
use crate::units::{ClusterCount, HostCluster};

/// Runs that are remembered at most. When there are more, the counts have to be scanned again once these are used up.
const RUNS_MAX: usize = 4096;

/// Free runs, none of which touches another.
#[derive(Clone, Debug, Default)]
pub(super) struct FreedRuns {
    /// First cluster and length.
    runs: BTreeMap<HostCluster, u64>,
    /// The first cluster for which there was no room.
    forgotten: Option<HostCluster>,
}

impl FreedRuns {
    /// Adds a cluster that is free now.
    pub(super) fn insert(&mut self, cluster: HostCluster) {
        let mut run = Run { start: cluster, count: ClusterCount::ONE };
        let before = self.runs.range(..=cluster).next_back().map(|(start, count)| run_of(*start, *count));
        if before.is_some_and(|before| cluster < before.end()) {
            return;
        }
        if let Some(before) = before.filter(|before| before.end() == cluster) {
            run = run_of(before.start, before.count.get() + 1);
        } else if self.runs.len() >= RUNS_MAX {
            self.forgotten = Some(self.forgotten.map_or(cluster, |first| first.min(cluster)));
            return;
        }
        if let Some(after) = self.runs.remove(&run.end()) {
            run = run_of(run.start, run.count.get() + after);
        }
        self.runs.insert(run.start, run.count.get());
    }

    /// Removes the clusters of `used` that are in the list.
    pub(super) fn remove(&mut self, used: Run) {
        while let Some((start, count)) = self.runs.range(..used.end()).next_back() {
            let run = run_of(*start, *count);
            if run.end() <= used.start {
                return;
            }
            self.runs.remove(&run.start);
            if used.end() < run.end() {
                self.runs.insert(used.end(), run.end().get() - used.end().get());
            }
            if run.start < used.start {
                self.runs.insert(run.start, used.start.get() - run.start.get());
            }
        }
    }

    /// The first run, at most `wanted` of it.
    pub(super) fn first(&self, wanted: ClusterCount) -> Option<Run> {
        let (start, count) = self.runs.first_key_value()?;
        Some(run_of(*start, (*count).min(wanted.get())))
    }

    /// Where to scan from when the list is empty, if there was ever too little room in it. Asked once.
    pub(super) fn take_forgotten(&mut self) -> Option<HostCluster> {
        self.forgotten.take()
    }
}

fn run_of(start: HostCluster, count: u64) -> Run {
    Run { start, count: ClusterCount::new(count) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_list_is_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..64, 1u64..9), 0..200)) {
            let mut freed = FreedRuns::default();
            let mut model = BTreeSet::new();
            for (is_insert, start, count) in steps {
                if is_insert {
                    (start..start + count).for_each(|cluster| freed.insert(HostCluster::new(cluster)));
                    model.extend(start..start + count);
                } else {
                    freed.remove(run_of(HostCluster::new(start), count));
                    model.retain(|cluster| !(start..start + count).contains(cluster));
                }
                let listed: Vec<u64> =
                    freed.runs.iter().flat_map(|(start, count)| start.get()..start.get() + count).collect();
                prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
                let ends: BTreeSet<u64> = freed.runs.iter().map(|(start, count)| start.get() + count).collect();
                prop_assert!(freed.runs.keys().all(|start| !ends.contains(&start.get())), "neighbours are merged");
            }
        }
    }

    #[test]
    fn what_has_no_room_is_not_lost() {
        let mut freed = FreedRuns::default();
        (0..RUNS_MAX as u64 + 5).for_each(|i| freed.insert(HostCluster::new(1000 + 2 * i)));
        assert_eq!(freed.runs.len(), RUNS_MAX);
        assert_eq!(freed.take_forgotten(), Some(HostCluster::new(1000 + 2 * RUNS_MAX as u64)));
        assert_eq!(freed.take_forgotten(), None);
    }
}
