//! Doing without zero clusters, for a version that has none. QEMU: `qcow2_expand_zero_clusters` (block/qcow2-cluster.c).

use qemu_block::error::Result;

use super::copy::Payload;
use crate::format::l2::{L2Entry, L2Mapping};
use crate::image::Image;
use crate::units::GuestCluster;

impl Image {
    /// Replaces clusters that read as zeros by ones that are not mapped or, if a backing file would show through, by
    /// ones with zeros. The caller holds the whole disk exclusively.
    pub(crate) async fn expand_zeros(&self) -> Result<()> {
        let (mut at, end) = self.clusters_of(0, self.size());
        while at < end && self.size() != 0 {
            let run = {
                let mut meta = self.meta.lock().await;
                let run = meta.lookup_run(at, end).await?;
                if matches!(run.mapping, L2Mapping::Zero { .. }) && !self.may_have_backing() {
                    let unmapped = meta.link(run.start, run.n_clusters, |_| L2Entry::UNALLOCATED).await;
                    if let Err((error, _)) = unmapped {
                        return Err(self.note_failure(&mut meta, error).await);
                    }
                }
                run
            };
            if matches!(run.mapping, L2Mapping::Zero { .. }) && self.may_have_backing() {
                self.write_zero_clusters(run.start, run.end()).await?;
            }
            at = run.end();
        }
        Ok(())
    }

    async fn write_zero_clusters(&self, first: GuestCluster, end: GuestCluster) -> Result<()> {
        let end = self.geo.guest_start(end).get().min(self.size());
        let mut offset = self.geo.guest_start(first).get();
        while offset < end {
            let len = self.geo.cluster_size().min(end - offset);
            self.write_allocating(offset, len, &Payload::Data(self.zero_vec(len))).await?;
            offset += len;
        }
        Ok(())
    }
}
