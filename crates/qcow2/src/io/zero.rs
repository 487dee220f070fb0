//! Writing zeros without writing them: the zero flag of version 3, or no mapping at all.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;
use qemu_block::types::ZeroFlags;

use crate::format::header::Version;
use crate::format::l2::{L2Entry, L2Mapping};
use crate::image::Image;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::units::{GuestCluster, HostOffset};

impl Image {
    /// Makes a guest range read as zeros by changing mappings only.
    pub(crate) async fn write_zeroes_guest(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        self.check_writable()?;
        let _range = self.ranges.lock(self.cluster_range(offset, len), RangeMode::Exclusive).await;
        self.zero_clusters(offset, len, flags).await
    }

    /// As [`Image::write_zeroes_guest`], for a caller that holds the range exclusively.
    pub(super) async fn zero_clusters(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let range = self.cluster_range(offset, len);
        // The end of the disk may lie inside a cluster whose rest nobody sees.
        let whole = range.start == offset && (range.end == offset + len || offset + len >= self.size());
        let change = whole && self.can_zero_clusters();
        let (mut at, end) = self.clusters_of(offset, len);
        while at < end {
            let mut meta = self.meta.lock().await;
            at = match self.zero_batch(&mut meta, at, end, flags, change).await {
                Ok(at) => at,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            };
        }
        Ok(())
    }

    /// Zeros as many clusters from `first` on as is worth one hold of the lock; returns the first one that is left.
    ///
    /// Without `change` all of them must be zeros already.
    async fn zero_batch(
        &self,
        meta: &mut Meta,
        first: GuestCluster,
        end: GuestCluster,
        flags: ZeroFlags,
        change: bool,
    ) -> Result<GuestCluster> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let runs = meta.lookup_batch(first, end).await?;
        for run in &runs {
            if self.reads_as_zeros(run) && (!flags.contains(ZeroFlags::MAY_UNMAP) || holds_nothing(run)) {
                continue;
            }
            if !change {
                let text = "qcow2: zeros here have to be written";
                return Err(BlockError::new(ErrorKind::Unsupported, text));
            }
            self.zero_run(meta, run, flags).await?;
        }
        Ok(runs.last().map_or(end, MapRun::end))
    }

    /// Whether a mapping can say "zeros" where the backing file has, or could have, data.
    fn can_zero_clusters(&self) -> bool {
        self.version == Version::V3 || !self.may_have_backing()
    }

    fn reads_as_zeros(&self, run: &MapRun) -> bool {
        match run.mapping {
            L2Mapping::Zero { .. } => true,
            L2Mapping::Unallocated => self.backing_len() <= self.geo.guest_start(run.start).get(),
            L2Mapping::Standard { .. } | L2Mapping::Compressed(_) => false,
        }
    }

    /// Replaces the mapping of a run by one that reads as zeros.
    async fn zero_run(&self, meta: &mut Meta, run: &MapRun, flags: ZeroFlags) -> Result<()> {
        let keep = !flags.contains(ZeroFlags::MAY_UNMAP) && self.version == Version::V3;
        let cluster_size = self.geo.cluster_size();
        match run.mapping {
            L2Mapping::Standard { host, copied: true } if keep => {
                let entry = |i: u64| L2Entry::zero_allocated(HostOffset::new(host.get() + i * cluster_size), true);
                replace(meta, run.start, run.n_clusters, entry).await
            }
            _ => {
                let entry = self.no_data_entry();
                replace(meta, run.start, run.n_clusters, |_| entry).await
            }
        }
    }

    /// The entry of a cluster that reads as zeros and has no space on the host.
    pub(super) fn no_data_entry(&self) -> L2Entry {
        if self.may_have_backing() { L2Entry::ZERO_PLAIN } else { L2Entry::UNALLOCATED }
    }
}

fn holds_nothing(run: &MapRun) -> bool {
    matches!(run.mapping, L2Mapping::Unallocated | L2Mapping::Zero { host: None, .. })
}

/// Replaces mappings that need no cluster of their own.
pub(super) async fn replace(
    meta: &mut Meta,
    first: GuestCluster,
    n_clusters: u64,
    entry_of: impl Fn(u64) -> L2Entry,
) -> Result<()> {
    meta.link(first, n_clusters, entry_of).await.map_err(|(error, _)| error)
}
