//! Block status.

use std::ops::Range;

use qemu_block::error::Result;
use qemu_block::types::{BlockStatus, StatusFlags};

use super::data::Place;
use crate::format::l2::L2Mapping;
use crate::format::subclusters::Subcluster;
use crate::image::Image;
use crate::map::Stretch;
use crate::units::HostOffset;

impl Image {
    /// Where the data of the extent at `offset` is.
    pub(crate) async fn status_guest(&self, offset: u64, len: u64) -> Result<BlockStatus> {
        self.check_open()?;
        let (first, end) = self.clusters_of(offset, len);
        let run = {
            let mut meta = self.meta.lock().await;
            let mut run = meta.lookup_run(first, end).await?;
            // Compressed neighbours are separate runs, but one extent to everybody else.
            while let (L2Mapping::Compressed(_), true) = (run.mapping, run.end() < end) {
                let next = meta.lookup_run(run.end(), end).await?;
                if !matches!(next.mapping, L2Mapping::Compressed(_)) || run.n_clusters >= COMPRESSED_CLUSTERS_MAX {
                    break;
                }
                run.n_clusters += 1;
            }
            run
        };
        let run_start = self.geo.guest_start(run.start).get();
        let end = self.geo.guest_start(run.end()).get().min(offset + len);
        if let Some(stretch) = run.stretches(self.geo, &(offset..end)).next() {
            return self.status_of(&stretch);
        }
        let len = end - offset;
        let (flags, host_offset) = match run.mapping {
            // Of subclusters some stretch was found.
            L2Mapping::Unallocated | L2Mapping::Mixed { .. } => (StatusFlags::empty(), None),
            L2Mapping::Zero { host, .. } => {
                let host = host.map(|host| HostOffset::new(host.get() + (offset - run_start)));
                (StatusFlags::ZERO | StatusFlags::ALLOCATED, self.shown(host))
            }
            L2Mapping::Compressed(_) => (StatusFlags::DATA | StatusFlags::ALLOCATED | StatusFlags::COMPRESSED, None),
            L2Mapping::Standard { host, .. } => {
                let host = HostOffset::new(host.get() + (offset - run_start));
                (self.data_flags(Place { host, guest: offset }, len)?, self.shown(Some(host)))
            }
        };
        Ok(BlockStatus { len, flags, host_offset })
    }

    /// The status of some subclusters.
    fn status_of(&self, stretch: &Stretch) -> Result<BlockStatus> {
        let Range { start, end } = stretch.range;
        let len = end - start;
        let flags = match (stretch.kind, stretch.host) {
            (Subcluster::Data, Some(host)) => self.data_flags(Place { host, guest: start }, len)?,
            (Subcluster::Zero, _) => StatusFlags::ZERO | StatusFlags::ALLOCATED,
            (Subcluster::Unallocated | Subcluster::Data, _) => StatusFlags::empty(),
        };
        Ok(BlockStatus { len, flags, host_offset: self.shown(stretch.host) })
    }

    /// Where data is, for others. What is encrypted there is not what the guest sees, so nobody may read it in our place.
    fn shown(&self, host: Option<HostOffset>) -> Option<u64> {
        host.filter(|_| !self.data.is_encrypted()).map(HostOffset::get)
    }

    /// The flags of data that is stored verbatim. Holes past the end of a truncated file must not pass for zeros.
    fn data_flags(&self, place: Place, len: u64) -> Result<StatusFlags> {
        self.data.check_inside(place, len.min(self.size().saturating_sub(place.guest)))?;
        let recurse = self.sparse_storage && !self.data.is_encrypted();
        let recurse = if recurse { StatusFlags::RECURSE } else { StatusFlags::empty() };
        Ok(StatusFlags::DATA | StatusFlags::ALLOCATED | recurse)
    }
}

/// Compressed clusters that one answer covers at most.
const COMPRESSED_CLUSTERS_MAX: u64 = 4096;
