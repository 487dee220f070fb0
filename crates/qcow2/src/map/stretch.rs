//! The parts of a run that differ: nothing to do for most images, whose runs are all of one kind.

use std::ops::Range;

use super::MapRun;
use crate::format::l2::L2Mapping;
use crate::format::subclusters::{Subcluster, Subclusters};
use crate::units::{Geometry, HostOffset};

/// Neighbouring subclusters of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Guest bytes.
    pub(crate) range: Range<u64>,
    pub(crate) kind: Subcluster,
    /// Where the bytes are on the host, or would be.
    pub(crate) host: Option<HostOffset>,
}

impl MapRun {
    /// What the subclusters of this run are that `range` (guest bytes) touches: the parts of the run inside of it.
    ///
    /// Only runs of [`L2Mapping::Mixed`] have any; those of other mappings are of one kind, which the mapping tells.
    pub(crate) fn stretches(&self, geo: Geometry, range: &Range<u64>) -> impl Iterator<Item = Stretch> + use<> {
        let run_start = geo.guest_start(self.start).get();
        let run_end = geo.guest_start(self.end()).get();
        let (host, subclusters) = match self.mapping {
            L2Mapping::Mixed { host, subclusters, .. } => (host, Some(subclusters)),
            _ => (None, None),
        };
        let wanted = range.clone();
        let grain = geo.subcluster_size();
        let stretch = move |(part, kind): (Range<u32>, Subcluster)| {
            let end = run_start + u64::from(part.end) * grain;
            // A run of several clusters has nothing but the one stretch.
            let end = if subclusters == Some(Subclusters::NONE) { run_end } else { end };
            let start = (run_start + u64::from(part.start) * grain).max(wanted.start);
            let end = end.min(wanted.end);
            let host = host.map(|host| HostOffset::new(host.get().saturating_add(start.saturating_sub(run_start))));
            (start < end).then_some(Stretch { range: start..end, kind, host })
        };
        subclusters.into_iter().flat_map(Subclusters::runs).filter_map(stretch)
    }
}
