//! Host clusters: which are free, which become used, which are given back.
//!
//! | module | what it does |
//! |---|---|
//! | here | finds runs of free clusters and reserves them |
//! | [`refcounts`] | reads and changes single counts |
//! | [`grow`] | makes refcount blocks and larger refcount tables |
//! | [`bytes`] | packs compressed clusters at byte granularity |
//! | [`release`] | clusters that were dropped and wait until that is durable (rule R13) |
//!
//! QEMU: block/qcow2-refcount.c.

mod bytes;
mod grow;
mod refcounts;
mod release;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;

pub(crate) use release::Releases;

use crate::limits::HOST_OFFSET_END;
use crate::meta::Meta;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// What the allocator remembers between allocations.
#[derive(Debug)]
pub(crate) struct AllocState {
    /// No cluster before this one is free.
    hint: HostCluster,
    /// Clusters from here on have never been used, not by this process and not in the file as it was opened, so that
    /// they read as zeros once the file extends over them; none if the storage does not grow.
    fresh_from: Option<HostCluster>,
    /// Where the next compressed cluster may go: inside a cluster that is used in part.
    partial: Option<HostOffset>,
}

impl AllocState {
    pub(crate) fn new(storage: &Node, geo: Geometry) -> Self {
        let end = HostCluster::new(geo.size_to_clusters(storage.len()).get());
        let fresh_from = storage.limits().growable.then_some(end);
        Self { hint: HostCluster::ZERO, fresh_from, partial: None }
    }

    /// Notes that the clusters are used; tells whether all of them read as zeros.
    fn claim(&mut self, run: Run) -> bool {
        let Some(fresh_from) = self.fresh_from else { return false };
        let fresh = run.start >= fresh_from;
        self.fresh_from = Some(fresh_from.max(run.end()));
        fresh
    }
}

/// Clusters that follow one another in the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: HostCluster,
    pub(crate) count: ClusterCount,
}

impl Run {
    /// The cluster after the last one.
    pub(crate) fn end(self) -> HostCluster {
        HostCluster::new(self.start.get() + self.count.get())
    }
}

/// Clusters that were reserved for the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    pub(crate) run: Run,
    /// Whether they read as zeros, as far as the file extends.
    pub(crate) fresh: bool,
}

impl Meta {
    /// Reserves at least one and at most `wanted` clusters that follow one another: their refcount is one from now on.
    ///
    /// # Errors
    /// `NoSpace` when the image file would become larger than the format allows; else those of metadata I/O.
    pub(crate) async fn allocate(&mut self, wanted: ClusterCount) -> Result<Reserved> {
        let run = self.find_free(self.alloc.hint, wanted).await?;
        self.reserve(run).await
    }

    /// Marks a run of free clusters as used.
    async fn reserve(&mut self, run: Run) -> Result<Reserved> {
        self.check_not_metadata(run)?;
        self.set_refcounts(run, 1).await?;
        if run.start == self.alloc.hint {
            self.alloc.hint = run.end();
        }
        Ok(Reserved { run, fresh: self.alloc.claim(run) })
    }

    /// A run of free clusters at or after `from`.
    async fn find_free(&mut self, from: HostCluster, wanted: ClusterCount) -> Result<Run> {
        let mut at = from;
        let mut found: Option<Run> = None;
        loop {
            if self.geo.host_start(at).get() >= HOST_OFFSET_END {
                return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the image file has reached its largest size"));
            }
            if !self.has_refblock(at).await? {
                if let Some(run) = found {
                    return Ok(run);
                }
                self.add_refblock(at).await?;
                continue;
            }
            let (free, scanned) = self.scan_slice(at, found.is_some(), wanted.get() - count_of(found)).await?;
            match (&mut found, free) {
                (Some(run), Some((start, count))) if run.end() == start => {
                    run.count = ClusterCount::new(run.count.get() + count);
                }
                (Some(run), _) => return Ok(*run),
                (None, Some((start, count))) => {
                    found = Some(Run { start, count: ClusterCount::new(count) });
                    if from == self.alloc.hint {
                        self.alloc.hint = start;
                    }
                }
                (None, None) => {}
            }
            at = HostCluster::new(at.get() + scanned);
            if let Some(run) = found.filter(|run| run.count == wanted || run.end() != at) {
                return Ok(run);
            }
        }
    }

    /// Fails if a cluster that the refcounts call free is known to be metadata.
    fn check_not_metadata(&self, run: Run) -> Result<()> {
        let offset = self.geo.host_start(run.start);
        let len = self.geo.clusters_to_size(run.count).unwrap_or(u64::MAX);
        match self.regions.hit(offset, len, None, self.geo) {
            None => Ok(()),
            Some(region) => Err(overlap_error(region.name(), offset)),
        }
    }
}

fn count_of(run: Option<Run>) -> u64 {
    run.map_or(0, |run| run.count.get())
}

/// The error for a write that would hit metadata.
pub(crate) fn overlap_error(region: &str, offset: HostOffset) -> BlockError {
    let text = format!(
        "qcow2: Preventing invalid write on metadata (overlaps with {region}) at host offset {:#x}",
        offset.get()
    );
    BlockError::new(ErrorKind::Corrupt, text)
}
