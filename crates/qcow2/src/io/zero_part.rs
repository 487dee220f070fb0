//! Zeros in a part of a cluster, by the bitmap of its subclusters.

use std::ops::Range;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::ZeroFlags;

use super::zero::replace;
use crate::format::l2::{L2Entry, L2Mapping};
use crate::format::subclusters::{Subcluster, Subclusters};
use crate::image::Image;
use crate::meta::Meta;
use crate::units::{GuestCluster, GuestOffset};

impl Image {
    /// Makes whole subclusters read as zeros that lie in one cluster (`range` in guest bytes). The caller holds the
    /// range.
    pub(super) async fn zero_subclusters(&self, range: Range<u64>, flags: ZeroFlags) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let cluster = self.geo.guest_cluster(GuestOffset::new(range.start));
        match self.zero_part(&mut meta, cluster, &range, flags).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }

    async fn zero_part(
        &self,
        meta: &mut Meta,
        cluster: GuestCluster,
        range: &Range<u64>,
        flags: ZeroFlags,
    ) -> Result<()> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let run = meta.lookup_run(cluster, cluster.next()).await?;
        let may_unmap = flags.contains(ZeroFlags::MAY_UNMAP);
        let (host, copied, before) = match run.mapping {
            L2Mapping::Unallocated => (None, false, Subclusters::NONE),
            L2Mapping::Zero { host, copied } => (host, copied, Subclusters::ALL_ZERO),
            L2Mapping::Standard { host, copied } => (Some(host), copied, Subclusters::ALL_DATA),
            L2Mapping::Mixed { host, copied, subclusters } => (host, copied, subclusters),
            L2Mapping::Compressed(_) => {
                let text = "qcow2: a part of a compressed cluster has to be written";
                return Err(BlockError::new(ErrorKind::Unsupported, text));
            }
        };
        let after = before.with(self.geo.subclusters_in(cluster, range), Subcluster::Zero);
        // What shows no data where no backing file is below is zeros already.
        let is_zero = before == after || self.has_zeros(&run, range);
        let host_after = host.filter(|_| !may_unmap || after.data() != 0);
        if is_zero && host_after == host {
            return Ok(());
        }
        let entry = host_after.map_or(L2Entry::UNALLOCATED, |host| L2Entry::standard(host, copied));
        let after = if after == Subclusters::ALL_ZERO && host_after.is_none() {
            self.no_data_entry(meta.layout).subclusters()
        } else {
            after
        };
        replace(meta, cluster, 1, |_| entry.with_subclusters(after)).await
    }
}
