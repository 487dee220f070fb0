//! Host clusters: which are free, which become used, which are given back.
//!
//! | module | what it does |
//! |---|---|
//! | here | finds runs of free clusters and reserves them |
//! | [`refcounts`] | reads and changes single counts |
//! | [`freed`] | remembers runs that became free, so that nothing is scanned twice |
//! | [`exact`] | reserves runs of an exact length, for tables |
//! | [`grow`] | makes refcount blocks and larger refcount tables |
//! | [`data`] | clusters of guest data, which may be in another file |
//! | [`bytes`] | packs compressed clusters at byte granularity |
//! | [`release`] | clusters that were dropped and wait until that is durable (rule R13) |
//! | [`shadow`] | a second view of all counts, for changes that have to become true at once |
//! | [`width`] | all counts anew, with another width |
//!
//! QEMU: block/qcow2-refcount.c.

mod bytes;
mod data;
mod exact;
mod freed;
mod grow;
mod refcounts;
mod release;
mod shadow;
mod width;

use qemu_block::debug::DebugEvent;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;

use freed::FreedRuns;
pub(crate) use grow::HEADER_REFTABLE_FIELDS;
pub(crate) use release::{Mark, Releases};
pub(crate) use shadow::{Shadow, Switch};

use crate::limits::HOST_OFFSET_END;
use crate::meta::Meta;
use crate::units::{ClusterCount, Geometry, HostCluster, HostOffset};

/// What the allocator remembers between allocations.
#[derive(Clone, Debug)]
pub(crate) struct AllocState {
    /// No cluster before this one is free, except those in `freed`.
    frontier: HostCluster,
    freed: FreedRuns,
    /// Clusters from here on have never been used, not by this process and not in the file as it was opened, so that
    /// they read as zeros once the file extends over them; none if the storage does not grow.
    fresh_from: Option<HostCluster>,
    /// No cluster from here on can be used: the end of storage that does not grow, or of what the format can express.
    limit: HostCluster,
    /// Where the next compressed cluster may go: inside a cluster that is used in part.
    partial: Option<HostOffset>,
}

impl AllocState {
    pub(crate) fn new(storage: &Node, geo: Geometry) -> Self {
        let end = HostCluster::new(geo.size_to_clusters(storage.len()).get());
        let growable = storage.limits().growable;
        let end_bytes = if growable { HOST_OFFSET_END } else { storage.len().min(HOST_OFFSET_END) };
        Self {
            frontier: HostCluster::ZERO,
            freed: FreedRuns::default(),
            fresh_from: growable.then_some(end),
            limit: geo.host_cluster(HostOffset::new(end_bytes)),
            partial: None,
        }
    }

    /// Notes that the clusters are used; tells whether all of them read as zeros.
    fn claim(&mut self, run: Run) -> bool {
        self.freed.remove(run);
        let Some(fresh_from) = self.fresh_from else { return false };
        let fresh = run.start >= fresh_from;
        self.fresh_from = Some(fresh_from.max(run.end()));
        fresh
    }

    /// Goes back to an earlier state in which more clusters were free. They have been written meanwhile.
    fn return_to(&mut self, earlier: Self) {
        let fresh_from = self.fresh_from;
        *self = Self { fresh_from, ..earlier };
    }

    /// Fails if clusters before `end` are out of reach.
    fn check_limit(&self, end: HostCluster) -> Result<()> {
        if end <= self.limit {
            return Ok(());
        }
        if self.fresh_from.is_some() {
            return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the image file has reached its largest size"));
        }
        Err(BlockError::from_errno(libc::ENOSPC, "qcow2: the device that holds the image is full"))
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
    /// `NoSpace` when the image file would become larger than it can or the format allows; `Corrupt` when metadata is in
    /// a cluster that counts as free, or overlaps other metadata; else those of metadata I/O.
    pub(crate) async fn allocate(&mut self, wanted: ClusterCount) -> Result<Reserved> {
        self.know_metadata().await?;
        self.storage.event(DebugEvent::ClusterAlloc).await;
        let run = self.pick_free(wanted).await?;
        self.reserve(run).await
    }

    /// A run of free clusters, which stays free.
    async fn pick_free(&mut self, wanted: ClusterCount) -> Result<Run> {
        if let Some(run) = self.alloc.freed.first(wanted) {
            return Ok(run);
        }
        if let Some(forgotten) = self.alloc.freed.take_forgotten() {
            self.alloc.frontier = self.alloc.frontier.min(forgotten);
        }
        self.find_free(wanted).await
    }

    /// Takes a free cluster that the caller is going to count.
    async fn take_free_cluster(&mut self) -> Result<HostCluster> {
        let run = self.pick_free(ClusterCount::ONE).await?;
        self.take(run)?;
        Ok(run.start)
    }

    /// Marks a run of free clusters as used.
    async fn reserve(&mut self, run: Run) -> Result<Reserved> {
        // Taken first, because counting it may need a cluster for the refcount block.
        let fresh = self.take(run)?;
        if let Err(error) = self.set_refcounts(run, 1).await {
            self.now_free_run(run);
            return Err(error);
        }
        Ok(Reserved { run, fresh })
    }

    /// Sees to it that nobody else picks the run; tells whether all of it reads as zeros.
    fn take(&mut self, run: Run) -> Result<bool> {
        self.check_not_metadata(run)?;
        if run.start == self.alloc.frontier {
            self.alloc.frontier = run.end();
        }
        Ok(self.alloc.claim(run))
    }

    /// A run of free clusters at or after the frontier, which moves up to it.
    async fn find_free(&mut self, wanted: ClusterCount) -> Result<Run> {
        let mut at = self.alloc.frontier;
        let mut found: Option<Run> = None;
        loop {
            let left = self.alloc.limit.get().saturating_sub(at.get()).min(wanted.get() - count_of(found));
            if let (Some(run), 0) = (found, left) {
                return Ok(run);
            }
            self.alloc.check_limit(at.next())?;
            if !self.has_refblock(at).await? {
                if let Some(run) = found {
                    return Ok(run);
                }
                self.add_refblock(at).await?;
                continue;
            }
            let (free, scanned) = self.scan_slice(at, found.is_some(), left).await?;
            match (&mut found, free) {
                (Some(run), Some((start, count))) if run.end() == start => {
                    run.count = ClusterCount::new(run.count.get() + count);
                }
                (Some(run), _) => return Ok(*run),
                (None, Some((start, count))) => found = Some(self.first_found(start, count)?),
                (None, None) => {}
            }
            at = HostCluster::new(at.get() + scanned);
            match found {
                Some(run) if run.count >= wanted || run.end() != at => return Ok(run),
                Some(_) => {}
                None => self.alloc.frontier = at,
            }
        }
    }

    /// The first free clusters at or after the frontier, as far as they can be used.
    fn first_found(&mut self, start: HostCluster, count: u64) -> Result<Run> {
        self.alloc.frontier = start;
        self.alloc.check_limit(start.next())?;
        let usable = self.alloc.limit.get() - start.get();
        Ok(Run { start, count: ClusterCount::new(count.min(usable)) })
    }

    /// Fails if a cluster that the refcounts call free is known to be metadata.
    fn check_not_metadata(&self, run: Run) -> Result<()> {
        let offset = self.geo.host_start(run.start);
        let len = self.geo.clusters_to_size(run.count).unwrap_or(u64::MAX);
        match self.regions.hit(offset, len, None) {
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
