//! Writing.

use std::ops::Range;

use futures_util::future::join_all;
use qemu_block::error::{BlockError, Result};
use qemu_block::io::RangeMode;
use qemu_block::types::WriteFlags;
use qemu_util::buf::IoVec;

use super::copy::Payload;
use super::data::Place;
use super::fill::Fill;
use crate::alloc::{Reserved, Run, overlap_error};
use crate::format::l2::L2Mapping;
use crate::image::Image;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::units::{ClusterCount, Geometry, GuestCluster, HostOffset};

/// Where a part of a write goes.
pub(super) struct Target {
    /// First guest cluster.
    pub(super) start: GuestCluster,
    pub(super) n_clusters: u64,
    /// Where its data starts on the host.
    pub(super) host: HostOffset,
    pub(super) kind: TargetKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetKind {
    /// The clusters are mapped and ours alone: only the bytes of the write change.
    InPlace,
    /// The clusters were reserved for this write, which must fill all of them.
    Reserved {
        /// They read as zeros, as far as the file extends.
        fresh: bool,
    },
    /// The clusters are mapped, but what they hold does not count yet, so the write must fill them, too.
    Preallocated,
}

/// Where all of a write goes, and what it fills.
struct Plan {
    targets: Vec<Target>,
    fill: Fill,
}

impl Image {
    /// Writes guest data.
    pub(crate) async fn write_guest(&self, offset: u64, data: IoVec, flags: WriteFlags) -> Result<()> {
        let len = data.len() as u64;
        tracing::trace!(name: "qcow2_writev_start_req", offset = format_args!("{offset:#x}"), bytes = len);
        let written = self.write_payload(offset, len, &Payload::Data(data)).await;
        let ret = written.as_ref().map_or_else(|error| -error.errno(), |()| 0);
        tracing::trace!(name: "qcow2_writev_done_req", ret);
        written?;
        if flags.contains(WriteFlags::FUA) {
            self.flush_guest().await?;
        }
        Ok(())
    }

    /// Writes `payload` over the `len` bytes from `offset` on.
    pub(super) async fn write_payload(&self, offset: u64, len: u64, payload: &Payload) -> Result<()> {
        self.check_writable()?;
        let range = self.cluster_range(offset, len);
        {
            let _range = self.ranges.lock(range.clone(), RangeMode::Shared).await;
            let (first, end) = self.clusters_of(offset, len);
            let mut meta = self.meta.lock().await;
            let runs = match meta.lookup_to_write(first, end).await {
                Ok(runs) => runs,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            };
            let request = offset..offset + len;
            let in_place: Option<Vec<Target>> =
                runs.iter().map(|run| in_place_target(self.geo, run, &request)).collect();
            if let Some(targets) = in_place {
                if let Err(error) = check_targets(&meta, &targets) {
                    return Err(self.note_failure(&mut meta, error).await);
                }
                drop(meta);
                let write = self.health.begin_data_write();
                // Nothing has to be filled around the request.
                let done = self.write_targets(&targets, &request, offset, len, payload).await;
                write.finish();
                return done;
            }
        }
        let _range = self.ranges.lock(range, RangeMode::Exclusive).await;
        self.write_allocating(offset, len, payload).await
    }

    /// Writes where clusters must be reserved first. The caller holds the range exclusively.
    pub(super) async fn write_allocating(&self, offset: u64, len: u64, payload: &Payload) -> Result<()> {
        let Plan { targets, fill } = {
            let mut meta = self.meta.lock().await;
            match self.plan_write(&mut meta, offset, len).await {
                Ok(plan) => plan,
                Err(error) => return Err(self.note_failure(&mut meta, error).await),
            }
        };
        let write = self.health.begin_data_write();
        let written = self.write_targets(&targets, &fill.range, offset, len, payload).await;
        write.finish();
        let mut meta = self.meta.lock().await;
        match written {
            Ok(()) => self.link_targets(&mut meta, &targets, &fill).await,
            Err(error) => {
                // Nothing refers to the reserved clusters. Should giving them back fail, too, they leak.
                let _leaked = self.unreserve_targets(&mut meta, &targets).await;
                Err(error)
            }
        }
    }

    /// Finds or reserves the place of every cluster of the request.
    async fn plan_write(&self, meta: &mut Meta, offset: u64, len: u64) -> Result<Plan> {
        if meta.too_much_released() {
            meta.flush().await?;
        }
        let (first, end) = self.clusters_of(offset, len);
        meta.prepare_tables(first, end).await?;
        let runs = meta.lookup(first, end).await?;
        let request = offset..offset + len;
        let fill = Fill::new(self.geo, &runs, request.clone(), self.cluster_range(offset, len));
        let mut targets = Vec::with_capacity(runs.len());
        let mut missing: Option<(GuestCluster, u64)> = None;
        for run in &runs {
            if let Some(target) = in_place_target(self.geo, run, &request).or_else(|| preallocated_target(run)) {
                self.reserve_missing(meta, &mut targets, missing.take()).await?;
                targets.push(target);
            } else {
                let (_, n_clusters) = missing.get_or_insert((run.start, 0));
                *n_clusters += run.n_clusters;
            }
        }
        self.reserve_missing(meta, &mut targets, missing).await?;
        if let Err(error) = check_targets(meta, &targets) {
            self.unreserve_targets(meta, &targets).await?;
            return Err(error);
        }
        Ok(Plan { targets, fill })
    }

    /// Reserves clusters for guest clusters that have none of their own, in as few pieces as possible.
    async fn reserve_missing(
        &self,
        meta: &mut Meta,
        targets: &mut Vec<Target>,
        missing: Option<(GuestCluster, u64)>,
    ) -> Result<()> {
        let Some((mut start, mut left)) = missing else { return Ok(()) };
        while left > 0 {
            let reserved = match meta.reserve_data(start, ClusterCount::new(left)).await {
                Ok(reserved) => reserved,
                Err(error) => {
                    let _leaked = self.unreserve_targets(meta, targets).await;
                    return Err(error);
                }
            };
            let Reserved { run, fresh } = reserved;
            let n_clusters = run.count.get();
            let host = self.geo.host_start(run.start);
            targets.push(Target { start, n_clusters, host, kind: TargetKind::Reserved { fresh } });
            start = GuestCluster::new(start.get() + n_clusters);
            left -= n_clusters;
        }
        Ok(())
    }

    /// Does the data I/O of all targets at once, and waits for all of it even if some fails.
    async fn write_targets(
        &self,
        targets: &[Target],
        fill: &Range<u64>,
        offset: u64,
        len: u64,
        payload: &Payload,
    ) -> Result<()> {
        if let [target] = targets {
            return self.write_target(target, fill, offset, len, payload).await;
        }
        let writes = targets.iter().map(|target| self.write_target(target, fill, offset, len, payload));
        join_all(writes).await.into_iter().collect()
    }

    /// Writes the part of the request, and of the padding around it, that goes to one target.
    async fn write_target(
        &self,
        target: &Target,
        fill: &Range<u64>,
        offset: u64,
        len: u64,
        payload: &Payload,
    ) -> Result<()> {
        let target_start = self.geo.guest_start(target.start).get();
        let target_end = target_start + target.n_clusters * self.geo.cluster_size();
        let start = target_start.max(offset);
        let end = target_end.min(offset + len);
        let target_end = self.data.padding_end(target_end, self.size(), end);
        let place = self.place_of(target).plus(start - target_start);
        let payload = payload.slice(start - offset, end - start);
        match target.kind {
            TargetKind::InPlace => {
                self.data.check_inside(place, end - start)?;
                payload.write_to(&self.data, place).await
            }
            TargetKind::Reserved { .. } | TargetKind::Preallocated => {
                if target.kind == TargetKind::Preallocated {
                    // The file need not extend over subclusters that were never written.
                    let there = if self.geo.is_extended_l2() { 1 } else { target_end - target_start };
                    self.data.check_inside(self.place_of(target), there)?;
                }
                let head = target_start.max(fill.start)..start;
                let tail = end..target_end.min(fill.end);
                let head_place = self.place_of(target).plus(head.start - target_start);
                let fresh = target.kind == (TargetKind::Reserved { fresh: true });
                self.write_with_padding(head_place, fresh, head, payload, tail).await
            }
        }
    }

    /// Where the first cluster of a target is.
    pub(super) fn place_of(&self, target: &Target) -> Place {
        Place { host: target.host, guest: self.geo.guest_start(target.start).get() }
    }

    /// Makes the new mappings visible.
    async fn link_targets(&self, meta: &mut Meta, targets: &[Target], fill: &Fill) -> Result<()> {
        let cluster_size = self.geo.cluster_size();
        for (i, target) in targets.iter().enumerate() {
            if target.kind == TargetKind::InPlace {
                continue;
            }
            let entry = |n: u64| {
                let host = HostOffset::new(target.host.get() + n * cluster_size);
                fill.entry(GuestCluster::new(target.start.get() + n), host)
            };
            if let Err((error, linked)) = meta.link(target.start, target.n_clusters, entry).await {
                let rest = Target {
                    start: GuestCluster::new(target.start.get() + linked),
                    n_clusters: target.n_clusters - linked,
                    host: HostOffset::new(target.host.get() + linked * cluster_size),
                    kind: target.kind,
                };
                let _leaked = self.unreserve_targets(meta, &[rest]).await;
                let _leaked = self.unreserve_targets(meta, &targets[i + 1..]).await;
                return Err(self.note_failure(meta, error).await);
            }
        }
        Ok(())
    }

    /// Gives back what was reserved and is not linked.
    async fn unreserve_targets(&self, meta: &mut Meta, targets: &[Target]) -> Result<()> {
        for target in targets.iter().filter(|target| matches!(target.kind, TargetKind::Reserved { .. })) {
            let start = self.geo.host_cluster(target.host);
            meta.unreserve_data(Run { start, count: ClusterCount::new(target.n_clusters) }).await?;
        }
        Ok(())
    }
}

/// The target of clusters that can be written where they are.
fn in_place_target(geo: Geometry, run: &MapRun, request: &Range<u64>) -> Option<Target> {
    match run.mapping {
        L2Mapping::Mixed { host: Some(host), copied: true, subclusters }
            if subclusters.has_data_in(&geo.subclusters_in(run.start, request)) =>
        {
            Some(Target { start: run.start, n_clusters: run.n_clusters, host, kind: TargetKind::InPlace })
        }
        L2Mapping::Standard { host, copied: true } => {
            Some(Target { start: run.start, n_clusters: run.n_clusters, host, kind: TargetKind::InPlace })
        }
        _ => None,
    }
}

/// The target of clusters that have space reserved on the host.
fn preallocated_target(run: &MapRun) -> Option<Target> {
    match run.mapping {
        L2Mapping::Zero { host: Some(host), copied: true }
        | L2Mapping::Mixed { host: Some(host), copied: true, .. } => {
            Some(Target { start: run.start, n_clusters: run.n_clusters, host, kind: TargetKind::Preallocated })
        }
        _ => None,
    }
}

/// Fails if a write to mapped clusters would hit metadata (rule R15).
fn check_targets(meta: &Meta, targets: &[Target]) -> Result<(), BlockError> {
    for target in targets {
        let len = target.n_clusters.saturating_mul(meta.geo.cluster_size());
        if let Some(region) = meta.metadata_at_data(target.host, len) {
            return Err(overlap_error(region.name(), target.host));
        }
    }
    Ok(())
}
