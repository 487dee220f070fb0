//! Space for a part of the disk before anything is written there. QEMU: `preallocate_co` (block/qcow2.c).

use qemu_block::error::Result;
use qemu_block::io::RangeMode;
use qemu_block::types::PreallocMode;

use crate::alloc::{Reserved, Run};
use crate::format::header::Version;
use crate::format::l2::L2Entry;
use crate::image::Image;
use crate::io::data::Place;
use crate::units::{ClusterCount, GuestCluster, HostOffset};

/// Clusters that are reserved at once, in bytes: what one hold of the lock may cost.
const STEP_BYTES: u64 = 1 << 30;

impl Image {
    /// Maps the guest clusters from the first one after `old` to the end of a disk of `len` bytes, none of which is
    /// mapped, to clusters that read as zeros. `mode` says what the file below does with the space.
    pub(super) async fn preallocate(&self, old: u64, len: u64, mode: PreallocMode) -> Result<()> {
        let first = self.geo.round_up(old).unwrap_or(u64::MAX);
        if first >= len {
            return Ok(());
        }
        let _range = self.ranges.lock(self.cluster_range(first, len - first), RangeMode::Exclusive).await;
        let (mut at, end) = self.clusters_of(first, len - first);
        while at < end {
            let left = (end.get() - at.get()).min(STEP_BYTES / self.geo.cluster_size());
            let step_end = GuestCluster::new(at.get() + left);
            let reserved = {
                let mut meta = self.meta.lock().await;
                let reserved = match meta.prepare_tables(at, step_end).await {
                    Ok(()) => meta.reserve_data(at, ClusterCount::new(left)).await,
                    Err(error) => Err(error),
                };
                match reserved {
                    Ok(reserved) => reserved,
                    Err(error) => return Err(self.note_failure(&mut meta, error).await),
                }
            };
            let filled = self.fill_with_zeros(at, reserved, mode).await;
            let mut meta = self.meta.lock().await;
            let Reserved { run, .. } = reserved;
            if let Err(error) = filled {
                // Nothing refers to the clusters. Should giving them back fail, too, they leak.
                let _leaked = meta.unreserve_data(run).await;
                return Err(error);
            }
            let cluster_size = self.geo.cluster_size();
            let host = self.geo.host_start(run.start);
            let layout = meta.layout;
            let entry = |n: u64| {
                let host = HostOffset::new(host.get() + n * cluster_size);
                if self.zeros_need_a_mark() { layout.zero_allocated(host, true) } else { L2Entry::standard(host, true) }
            };
            if let Err((error, linked)) = meta.link(at, run.count.get(), entry).await {
                let start = run.start.checked_add(ClusterCount::new(linked)).unwrap_or(run.end());
                let rest = Run { start, count: ClusterCount::new(run.count.get() - linked) };
                let _leaked = meta.unreserve_data(rest).await;
                return Err(self.note_failure(&mut meta, error).await);
            }
            at = GuestCluster::new(at.get() + run.count.get());
        }
        Ok(())
    }

    /// Whether space that nobody has written shows zeros only if it is marked: what is on the host decrypts to noise.
    fn zeros_need_a_mark(&self) -> bool {
        self.data.is_encrypted() && self.version() == Version::V3
    }

    /// Makes clusters that were reserved read as zeros, with the space that `mode` wants.
    async fn fill_with_zeros(&self, at: GuestCluster, reserved: Reserved, mode: PreallocMode) -> Result<()> {
        if self.data.is_external() && !self.data.is_encrypted() {
            // The file grew to its new length before.
            return Ok(());
        }
        let Reserved { run, fresh } = reserved;
        let place = Place { host: self.geo.host_start(run.start), guest: self.geo.guest_start(at).get() };
        let len = self.geo.clusters_to_size(run.count).unwrap_or(u64::MAX);
        let end = place.host.get().saturating_add(len);
        // The file below allocates space only where it grows.
        if self.zeros_need_a_mark() {
            let mode = if mode == PreallocMode::Metadata { PreallocMode::Off } else { mode };
            return self.data.extend_to(end, mode).await;
        }
        // Version 2 has no mark for zeros, so they are encrypted and written.
        let fresh = fresh && !self.data.is_encrypted();
        if fresh && (mode == PreallocMode::Metadata || self.data.len() <= place.host.get()) {
            let mode = if mode == PreallocMode::Metadata { PreallocMode::Off } else { mode };
            return self.data.extend_to(end, mode).await;
        }
        self.data.write_zeroes(place, len).await
    }
}
