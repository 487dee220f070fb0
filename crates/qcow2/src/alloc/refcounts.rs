//! Reading and changing refcounts.

use qemu_block::error::{BlockError, ErrorKind, Result};

use crate::error::TableKind;
use crate::format::refcount::{RefcountWidth, ReftableEntry};
use crate::meta::Meta;
use crate::units::{HostCluster, HostOffset};

use super::Run;

/// The piece of a refcount block that holds the counts of some clusters.
pub(super) struct Piece {
    pub(super) slot: usize,
    /// Index, within the slice, of the first cluster's count.
    pub(super) index: usize,
    /// Counts in the slice from there on.
    pub(super) n_counts: usize,
}

impl Meta {
    /// The refcount block for `cluster`, if there is one.
    async fn refblock_of(&mut self, cluster: HostCluster) -> Result<Option<HostOffset>> {
        let index = self.geo.refcount_position(cluster).table_index;
        if index >= self.reftable.n_entries() {
            return Ok(None);
        }
        self.load_reftable(index).await?;
        let entry = ReftableEntry::from_raw(self.reftable.entry(index));
        let at = |flaw: crate::error::EntryFlaw| {
            flaw.at(TableKind::Refcount, self.reftable.offset().get(), index, entry.raw()).into()
        };
        entry.decode(self.geo).map_err(at)
    }

    pub(super) async fn has_refblock(&mut self, cluster: HostCluster) -> Result<bool> {
        Ok(self.refblock_of(cluster).await?.is_some())
    }

    /// The piece with the count of `cluster`; none if no block counts it.
    pub(super) async fn piece_of(&mut self, cluster: HostCluster) -> Result<Option<Piece>> {
        let Some(block) = self.refblock_of(cluster).await? else { return Ok(None) };
        let per_slice = self.counts_per_slice();
        let block_index = self.geo.refcount_position(cluster).block_index;
        let slice = (block_index / per_slice * self.refblocks.slice_bytes()) as u64;
        let slot = self.refblock_slot(HostOffset::new(block.get() + slice)).await?;
        let index = block_index % per_slice;
        Ok(Some(Piece { slot, index, n_counts: per_slice - index }))
    }

    fn counts_per_slice(&self) -> usize {
        self.geo.refblock_entries() / (self.geo.cluster_len() / self.refblocks.slice_bytes())
    }

    /// How often `cluster` is referenced.
    pub(crate) async fn refcount(&mut self, cluster: HostCluster) -> Result<u64> {
        let width = RefcountWidth::new(self.geo);
        let Some(piece) = self.piece_of(cluster).await? else { return Ok(0) };
        Ok(width.get(self.refblocks.bytes(piece.slot), piece.index).unwrap_or(0))
    }

    /// Looks, in the slice with the count of `at`, for the first free cluster from there on and those that follow it,
    /// up to `wanted`. With `here_only` a free run must start at `at` itself.
    ///
    /// Returns the free run's start and length, if any, and how many counts need not be looked at again.
    pub(super) async fn scan_slice(
        &mut self,
        at: HostCluster,
        here_only: bool,
        wanted: u64,
    ) -> Result<(Option<(HostCluster, u64)>, u64)> {
        let width = RefcountWidth::new(self.geo);
        let Some(piece) = self.piece_of(at).await? else { return Ok((None, 0)) };
        let bytes = self.refblocks.bytes(piece.slot);
        let is_free = |i: usize| width.get(bytes, piece.index + i) == Some(0);
        let limit = if here_only { 1 } else { piece.n_counts };
        let Some(first) = (0..limit).find(|i| is_free(*i)) else { return Ok((None, piece.n_counts as u64)) };
        let count = (first..piece.n_counts).take(usize::try_from(wanted).unwrap_or(usize::MAX));
        let count = count.take_while(|i| is_free(*i)).count();
        let start = HostCluster::new(at.get() + first as u64);
        Ok((Some((start, count as u64)), (first + count) as u64))
    }

    /// Sets the counts of a run, all of whose clusters have refcount blocks.
    pub(super) async fn set_refcounts(&mut self, run: Run, value: u64) -> Result<()> {
        let width = RefcountWidth::new(self.geo);
        let mut at = run.start;
        while at < run.end() {
            self.own_refblock(self.geo.refcount_position(at).table_index).await?;
            let Some(piece) = self.piece_of(at).await? else { return Err(uncounted(at)) };
            let n = piece.n_counts.min(usize::try_from(run.end().get() - at.get()).unwrap_or(usize::MAX));
            let bytes = self.refblocks.bytes_mut(piece.slot);
            for i in 0..n {
                width.set(bytes, piece.index + i, value)?;
            }
            at = HostCluster::new(at.get() + n as u64);
        }
        Ok(())
    }

    /// Adds one reference to a cluster; false if its count is at its largest.
    pub(super) async fn increment(&mut self, cluster: HostCluster) -> Result<bool> {
        let count = self.refcount(cluster).await?;
        if count >= self.geo.refcount_max() {
            return Ok(false);
        }
        let one = crate::units::ClusterCount::ONE;
        self.set_refcounts(Run { start: cluster, count: one }, count + 1).await?;
        Ok(true)
    }

    /// Takes one reference from a cluster; returns what is left.
    pub(super) async fn decrement(&mut self, cluster: HostCluster) -> Result<u64> {
        let count = self.refcount(cluster).await?;
        let Some(left) = count.checked_sub(1) else { return Err(uncounted(cluster)) };
        let one = crate::units::ClusterCount::ONE;
        self.set_refcounts(Run { start: cluster, count: one }, left).await?;
        Ok(left)
    }
}

pub(super) fn uncounted(cluster: HostCluster) -> BlockError {
    let text = format!("qcow2: host cluster {} is in use but its refcount is zero", cluster.get());
    BlockError::new(ErrorKind::Corrupt, text)
}
