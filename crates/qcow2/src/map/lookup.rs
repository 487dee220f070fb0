//! What guest clusters map to.

use qemu_block::error::Result;
use smallvec::SmallVec;

use super::table::TableRef;
use crate::error::{EntryFlaw, TableKind};
use crate::format::l2::{L2Layout, L2Mapping};
use crate::format::subclusters::Subclusters;
use crate::meta::Meta;
use crate::units::{GuestCluster, HostOffset};

/// A run ends after this many slices or holes of the L1 table, so that one look-up does a bounded amount of work.
const STEPS_MAX: usize = 4096;
/// Runs that are changed under one hold of the lock.
const BATCH_RUNS_MAX: usize = 1024;

/// Neighbouring guest clusters of one kind; clusters with a host offset follow one another on the host, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapRun {
    /// First guest cluster.
    pub(crate) start: GuestCluster,
    /// How many.
    pub(crate) n_clusters: u64,
    /// What the first one maps to. Compressed clusters stand alone, and so do those whose subclusters differ.
    pub(crate) mapping: L2Mapping,
}

impl MapRun {
    /// The cluster after the last one.
    pub(crate) fn end(&self) -> GuestCluster {
        GuestCluster::new(self.start.get() + self.n_clusters)
    }

    /// Whether a cluster with `next` right behind this run belongs to it.
    fn continues(&self, next: L2Mapping, cluster_size: u64) -> bool {
        let adjacent = |a: HostOffset, b: HostOffset| a.get() + self.n_clusters * cluster_size == b.get();
        match (self.mapping, next) {
            (L2Mapping::Unallocated, L2Mapping::Unallocated)
            | (L2Mapping::Zero { host: None, .. }, L2Mapping::Zero { host: None, .. }) => true,
            (L2Mapping::Zero { host: Some(a), copied: x }, L2Mapping::Zero { host: Some(b), copied: y })
            | (L2Mapping::Standard { host: a, copied: x }, L2Mapping::Standard { host: b, copied: y }) => {
                x == y && adjacent(a, b)
            }
            // Clusters that are preallocated and not written yet.
            (
                L2Mapping::Mixed { host: Some(a), copied: x, subclusters: Subclusters::NONE },
                L2Mapping::Mixed { host: Some(b), copied: y, subclusters: Subclusters::NONE },
            ) => x == y && adjacent(a, b),
            _ => false,
        }
    }
}

/// The runs of a request, in order.
pub(crate) type MapRuns = SmallVec<[MapRun; 4]>;

impl Meta {
    /// What the clusters from `first` to before `end` map to, all of them.
    pub(crate) async fn lookup(&mut self, first: GuestCluster, end: GuestCluster) -> Result<MapRuns> {
        let mut runs = MapRuns::new();
        let mut at = first;
        while at < end {
            let run = self.lookup_run(at, end).await?;
            at = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    /// As [`Meta::lookup`], for somebody who may write to what is mapped: afterwards all metadata is known, so that
    /// nothing of it is overwritten.
    pub(crate) async fn lookup_to_write(&mut self, first: GuestCluster, end: GuestCluster) -> Result<MapRuns> {
        self.know_metadata().await?;
        self.lookup(first, end).await
    }

    /// As [`Meta::lookup`], but stops after a number of runs that is worth one hold of the metadata lock.
    pub(crate) async fn lookup_batch(&mut self, first: GuestCluster, end: GuestCluster) -> Result<MapRuns> {
        let mut runs = MapRuns::new();
        let mut at = first;
        while at < end && runs.len() < BATCH_RUNS_MAX {
            let run = self.lookup_run(at, end).await?;
            at = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    /// What `first` and the clusters after it map to, as far as they are of one kind, but not to `end` or beyond.
    pub(crate) async fn lookup_run(&mut self, first: GuestCluster, end: GuestCluster) -> Result<MapRun> {
        let mut run: Option<MapRun> = None;
        let mut at = first;
        for _ in 0..STEPS_MAX {
            let before = at;
            at = self.extend_run(&mut run, at, end).await?;
            if at == before || at >= end {
                break;
            }
        }
        let run = run.expect("the range is not empty, so its first cluster was looked at");
        self.check_data_place(&run)?;
        Ok(run)
    }

    /// Looks at the clusters from `at` on that one L2 slice, or a hole in the L1 table, describes; returns the first one
    /// that does not belong to the run.
    async fn extend_run(
        &mut self,
        run: &mut Option<MapRun>,
        at: GuestCluster,
        end: GuestCluster,
    ) -> Result<GuestCluster> {
        let position = self.geo.split(self.geo.guest_start(at));
        let left = end.get() - at.get();
        let Some(table) = self.l2_table(position.l1_index).await? else {
            let per_table = self.geo.l2_entries() as u64;
            let n_wanted = (position.l2_index as u64 + left).div_ceil(per_table);
            let n_wanted = usize::try_from(n_wanted).unwrap_or(usize::MAX);
            let n_tables = self.l1.zero_run(position.l1_index, n_wanted).max(1) as u64;
            let n = n_tables * per_table - position.l2_index as u64;
            return Ok(append(run, at, L2Mapping::Unallocated, n.min(left), self.geo.cluster_size()));
        };
        let (slice, byte) = self.slice_of(table.offset, self.geo.l2_entry_start(position.l2_index));
        let slot = self.l2_slot(slice).await?;
        let bytes = &self.l2.bytes(slot)[byte..];
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        // The length of an entry is a constant in both loops, which are the hot part of every look-up.
        let scanned = if self.geo.is_extended_l2() {
            scan(self.layout, table, bytes.as_chunks::<16>().0, left, run, at)
        } else {
            scan(self.layout, table, bytes.as_chunks::<8>().0, left, run, at)
        };
        scanned.map_err(|(flaw, i, raw)| flaw.at(TableKind::L2, table.offset.get(), position.l2_index + i, raw).into())
    }
}

/// Adds the clusters from `at` on, which `entries` describe, to the run as far as they belong to it; returns the first
/// one that does not. What was found before a damaged entry is still good; otherwise its flaw, place and value.
fn scan<const LEN: usize>(
    layout: L2Layout,
    table: TableRef,
    entries: &[[u8; LEN]],
    max: usize,
    run: &mut Option<MapRun>,
    mut at: GuestCluster,
) -> std::result::Result<GuestCluster, (EntryFlaw, usize, u64)> {
    for (i, bytes) in entries.iter().take(max).enumerate() {
        let entry = layout.load(bytes).unwrap_or_default();
        let mapping = match entry.decode(layout) {
            Ok(mapping) => table.shared_or(mapping),
            Err(_) if run.is_some() => break,
            Err(flaw) => return Err((flaw, i, entry.raw())),
        };
        let next = append(run, at, mapping, 1, layout.geometry().cluster_size());
        if next == at {
            break;
        }
        at = next;
    }
    Ok(at)
}

/// Adds `n` clusters at `at` to the run if they belong to it; returns the cluster behind the run.
fn append(run: &mut Option<MapRun>, at: GuestCluster, mapping: L2Mapping, n: u64, cluster_size: u64) -> GuestCluster {
    match run {
        None => *run = Some(MapRun { start: at, n_clusters: n, mapping }),
        Some(run) if run.continues(mapping, cluster_size) => run.n_clusters += n,
        Some(_) => return at,
    }
    GuestCluster::new(at.get() + n)
}
