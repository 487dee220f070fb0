//! Discarding: the mapping goes, the clusters are given back once that is durable.

use qemu_block::error::Result;
use qemu_block::io::RangeMode;

use super::zero::replace;
use crate::format::header::Version;
use crate::format::l2::L2Mapping;
use crate::image::Image;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::units::GuestCluster;

impl Image {
    /// Gives up the clusters that lie in the range as a whole. They read as zeros afterwards, except in version 2
    /// images with a backing file, which cannot express that and keep their data.
    pub(crate) async fn discard_guest(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        let start = offset.next_multiple_of(self.geo.cluster_size());
        // The last cluster of the disk may be partly outside of it.
        let at_end = offset + len == self.size();
        let end = if at_end { self.cluster_range(offset, len).end } else { self.geo.round_down(offset + len) };
        if start >= end || (self.version == Version::V2 && self.may_have_backing()) {
            return Ok(());
        }
        let _range = self.ranges.lock(start..end, RangeMode::Exclusive).await;
        let (mut at, end) = self.clusters_of(start, end - start);
        while at < end {
            let mut meta = self.meta.lock().await;
            at = match self.discard_batch(&mut meta, at, end).await {
                Ok(at) => at,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            };
        }
        Ok(())
    }

    /// Discards as many clusters from `first` on as is worth one hold of the lock; returns the first one that is left.
    async fn discard_batch(&self, meta: &mut Meta, first: GuestCluster, end: GuestCluster) -> Result<GuestCluster> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let runs = meta.lookup_batch(first, end).await?;
        let entry = self.no_data_entry(meta.layout);
        for run in &runs {
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
