//! Discarding: the mapping goes, the clusters are given back once that is durable.

use qemu_block::error::Result;
use qemu_block::io::RangeMode;
use qemu_block::types::ZeroFlags;

use super::zero::replace;
use crate::format::header::Version;
use crate::format::l2::L2Mapping;
use crate::image::Image;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::units::{GuestCluster, HostOffset};

impl Image {
    /// Gives up the clusters that lie in the range as a whole. They read as zeros afterwards, except in version 2
    /// images with a backing file, which cannot express that and keep their data.
    pub(crate) async fn discard_guest(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let start = offset.next_multiple_of(self.geo.cluster_size());
        // The last cluster of the disk may be partly outside of it.
        let at_end = offset + len == self.size();
        let end = if at_end { self.cluster_range(offset, len).end } else { self.geo.round_down(offset + len) };
        if start >= end || (self.version() == Version::V2 && self.may_have_backing()) {
            return Ok(());
        }
        let _range = self.ranges.lock(start..end, RangeMode::Exclusive).await;
        self.zero_data_file(start..end.min(self.size()), ZeroFlags::MAY_UNMAP).await?;
        let (mut at, end) = self.clusters_of(start, end - start);
        while at < end {
            let mut kept = Vec::new();
            {
                let mut meta = self.meta.lock().await;
                at = match self.discard_batch(&mut meta, at, end, &mut kept).await {
                    Ok(at) => at,
                    Err(error) => return Err(self.note_failure(&mut meta, error).await),
                };
            }
            self.discard_kept(kept).await;
        }
        Ok(())
    }

    /// Lets the file below forget what clusters hold that stay reserved. The caller holds their guest range, so that
    /// nobody writes to them meanwhile.
    pub(super) async fn discard_kept(&self, kept: Vec<(HostOffset, u64)>) {
        for (host, n_clusters) in kept {
            let discard = self.health.begin_data_write();
            self.data.discard(host, n_clusters.saturating_mul(self.geo.cluster_size())).await;
            discard.finish();
        }
    }

    /// The clusters of a run that stay reserved when they are given up: where the first one is. Those that a snapshot has,
    /// too, are not ours to keep.
    pub(super) fn stays_reserved(&self, run: &MapRun) -> Option<HostOffset> {
        match run.mapping {
            L2Mapping::Standard { host, copied: true }
            | L2Mapping::Zero { host: Some(host), copied: true }
            | L2Mapping::Mixed { host: Some(host), copied: true, .. } => Some(host).filter(|_| self.discard_no_unref),
            _ => None,
        }
    }

    /// Discards as many clusters from `first` on as is worth one hold of the lock; returns the first one that is left.
    async fn discard_batch(
        &self,
        meta: &mut Meta,
        first: GuestCluster,
        end: GuestCluster,
        kept: &mut Vec<(HostOffset, u64)>,
    ) -> Result<GuestCluster> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let runs = meta.lookup_batch(first, end).await?;
        let (entry, layout, cluster_size) = (self.no_data_entry(meta.layout), meta.layout, self.geo.cluster_size());
        for run in &runs {
            if let Some(host) = self.stays_reserved(run) {
                let entry = |i: u64| layout.zero_allocated(HostOffset::new(host.get() + i * cluster_size), true);
                replace(meta, run.start, run.n_clusters, entry).await?;
                kept.push((host, run.n_clusters));
                continue;
            }
            let nothing_there = match run.mapping {
                L2Mapping::Unallocated => !self.may_have_backing(),
                L2Mapping::Zero { host, .. } => host.is_none(),
                L2Mapping::Standard { .. } | L2Mapping::Compressed(_) | L2Mapping::Mixed { .. } => false,
            };
            if !nothing_there {
                replace(meta, run.start, run.n_clusters, |_| entry).await?;
            }
        }
        Ok(runs.last().map_or(end, MapRun::end))
    }
}
