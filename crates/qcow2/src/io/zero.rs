//! Writing zeros without writing them: the zero flag of version 3, or no mapping at all.

use std::ops::Range;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;
use qemu_block::types::ZeroFlags;

use crate::format::header::Version;
use crate::format::l2::{L2Entry, L2Layout, L2Mapping};
use crate::format::subclusters::Subcluster;
use crate::image::Image;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::units::{GuestCluster, HostOffset};

impl Image {
    /// Makes a guest range read as zeros by changing mappings only.
    pub(crate) async fn write_zeroes_guest(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        tracing::trace!(name: "qcow2_pwrite_zeroes_start_req", offset = format_args!("{offset:#x}"), bytes = len);
        self.check_writable()?;
        let _range = self.ranges.lock(self.cluster_range(offset, len), RangeMode::Exclusive).await;
        self.zero_data_file(offset..offset + len, flags).await?;
        match self.zero_clusters(offset, len, flags).await {
            // What is mapped are zeros now, and so was the rest.
            Err(error) if self.data.is_raw() && error.kind() == ErrorKind::Unsupported => Ok(()),
            other => other,
        }
    }

    /// As [`Image::write_zeroes_guest`], for a caller that holds the range exclusively.
    pub(super) async fn zero_clusters(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        let grain = self.geo.subcluster_size();
        // The end of the disk may lie inside a cluster whose rest nobody sees.
        let at_end = offset + len >= self.size();
        let whole = offset.is_multiple_of(grain) && (at_end || (offset + len).is_multiple_of(grain));
        let change = whole && self.can_zero_clusters();
        if !change || !self.geo.is_extended_l2() {
            return self.zero_whole(offset..offset + len, flags, change).await;
        }
        let end = if at_end { self.cluster_range(offset, len).end } else { offset + len };
        let first_whole = self.geo.round_up(offset).unwrap_or(u64::MAX);
        let last_whole = self.geo.round_down(end);
        if first_whole > last_whole {
            return self.zero_subclusters(offset..end, flags).await;
        }
        if offset < first_whole {
            self.zero_subclusters(offset..first_whole, flags).await?;
        }
        if first_whole < last_whole {
            self.zero_whole(first_whole..last_whole, flags, true).await?;
        }
        if last_whole < end { self.zero_subclusters(last_whole..end, flags).await } else { Ok(()) }
    }

    /// Zeros whole clusters or, without `change`, finds out whether `range` is zeros already.
    async fn zero_whole(&self, range: Range<u64>, flags: ZeroFlags, change: bool) -> Result<()> {
        let (mut at, end) = self.clusters_of(range.start, range.end - range.start);
        while at < end {
            let mut kept = Vec::new();
            {
                let mut meta = self.meta.lock().await;
                at = match self.zero_batch(&mut meta, at..end, &range, flags, change, &mut kept).await {
                    Ok(at) => at,
                    Err(error) => return Err(self.note_failure(&mut meta, error).await),
                };
            }
            self.discard_kept(kept).await;
        }
        Ok(())
    }

    /// Zeros as many of `clusters` as is worth one hold of the lock; returns the first one that is left.
    ///
    /// Without `change` all bytes of `range` in them must be zeros already. Clusters behind the end of the backing file
    /// are, and are made to stay that.
    async fn zero_batch(
        &self,
        meta: &mut Meta,
        clusters: Range<GuestCluster>,
        range: &Range<u64>,
        flags: ZeroFlags,
        change: bool,
        kept: &mut Vec<(HostOffset, u64)>,
    ) -> Result<GuestCluster> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let runs = meta.lookup_batch(clusters.start, clusters.end).await?;
        for run in &runs {
            if self.has_zeros(run, range) && (!flags.contains(ZeroFlags::MAY_UNMAP) || holds_nothing(run)) {
                continue;
            }
            if !change && !self.is_behind_backing(run) {
                let text = "qcow2: zeros here have to be written";
                return Err(BlockError::new(ErrorKind::Unsupported, text));
            }
            self.zero_run(meta, run, flags).await?;
            if flags.contains(ZeroFlags::MAY_UNMAP) {
                kept.extend(self.stays_reserved(run).map(|host| (host, run.n_clusters)));
            }
        }
        Ok(runs.last().map_or(clusters.end, MapRun::end))
    }

    /// Whether a mapping can say "zeros" where the backing file has, or could have, data.
    fn can_zero_clusters(&self) -> bool {
        self.version() == Version::V3 || !self.may_have_backing()
    }

    /// Whether the image itself says that the part of a run that lies in `range` (guest bytes) reads as zeros.
    ///
    /// What lies behind the end of the backing file shows zeros, too, but only for as long as that file does not grow and
    /// no other one takes its place: who writes zeros there wants them to stay.
    pub(super) fn has_zeros(&self, run: &MapRun, range: &Range<u64>) -> bool {
        let is_alone = !self.may_have_backing();
        match run.mapping {
            L2Mapping::Zero { .. } => true,
            L2Mapping::Unallocated => is_alone,
            L2Mapping::Standard { .. } | L2Mapping::Compressed(_) => false,
            L2Mapping::Mixed { .. } => run.stretches(self.geo, range).all(|stretch| match stretch.kind {
                Subcluster::Data => false,
                Subcluster::Zero => true,
                Subcluster::Unallocated => is_alone,
            }),
        }
    }

    /// Whether the whole of a run shows zeros because the backing file ends before it, and can be made to say so.
    fn is_behind_backing(&self, run: &MapRun) -> bool {
        matches!(run.mapping, L2Mapping::Unallocated)
            && self.can_zero_clusters()
            && self.backing_len() <= self.geo.guest_start(run.start).get()
    }

    /// Replaces the mapping of a run by one that reads as zeros.
    async fn zero_run(&self, meta: &mut Meta, run: &MapRun, flags: ZeroFlags) -> Result<()> {
        let may_unmap = flags.contains(ZeroFlags::MAY_UNMAP) && self.stays_reserved(run).is_none();
        let keep = !may_unmap && self.version() == Version::V3;
        let (cluster_size, layout) = (self.geo.cluster_size(), meta.layout);
        match run.mapping {
            L2Mapping::Standard { host, copied: true }
            | L2Mapping::Zero { host: Some(host), copied: true }
            | L2Mapping::Mixed { host: Some(host), copied: true, .. }
                if keep =>
            {
                let entry = |i: u64| layout.zero_allocated(HostOffset::new(host.get() + i * cluster_size), true);
                replace(meta, run.start, run.n_clusters, entry).await
            }
            _ => {
                let entry = self.no_data_entry(layout);
                replace(meta, run.start, run.n_clusters, |_| entry).await
            }
        }
    }

    /// The entry of a cluster that reads as zeros and has no space on the host.
    pub(super) fn no_data_entry(&self, layout: L2Layout) -> L2Entry {
        if self.may_have_backing() { layout.zero_plain() } else { L2Entry::UNALLOCATED }
    }
}

fn holds_nothing(run: &MapRun) -> bool {
    run.mapping.host().is_none() && !matches!(run.mapping, L2Mapping::Compressed(_))
}

/// Replaces mappings that need no cluster of their own.
pub(in crate::io) async fn replace(
    meta: &mut Meta,
    first: GuestCluster,
    n_clusters: u64,
    entry_of: impl Fn(u64) -> L2Entry,
) -> Result<()> {
    meta.link(first, n_clusters, entry_of).await.map_err(|(error, _)| error)
}
