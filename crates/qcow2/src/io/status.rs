//! Block status.

use qemu_block::error::Result;
use qemu_block::types::{BlockStatus, StatusFlags};

use super::data::Place;
use crate::format::l2::L2Mapping;
use crate::image::Image;
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
        let len = self.geo.guest_start(run.end()).get().min(offset + len) - offset;
        let (flags, host_offset) = match run.mapping {
            L2Mapping::Unallocated => (StatusFlags::empty(), None),
            L2Mapping::Zero { host, .. } => {
                let host = host.map(|host| host.get() + (offset - run_start));
                (StatusFlags::ZERO | StatusFlags::ALLOCATED, host)
            }
            L2Mapping::Compressed(_) => (StatusFlags::DATA | StatusFlags::ALLOCATED | StatusFlags::COMPRESSED, None),
            L2Mapping::Standard { host, .. } => {
                let host = HostOffset::new(host.get() + (offset - run_start));
                // Holes past the end of a truncated file must not pass for zeros.
                let place = Place { host, guest: offset };
                self.data.check_inside(place, len.min(self.size().saturating_sub(offset)))?;
                let recurse = if self.sparse_storage { StatusFlags::RECURSE } else { StatusFlags::empty() };
                (StatusFlags::DATA | StatusFlags::ALLOCATED | recurse, Some(host.get()))
            }
        };
        Ok(BlockStatus { len, flags, host_offset })
    }
}

/// Compressed clusters that one answer covers at most.
const COMPRESSED_CLUSTERS_MAX: u64 = 4096;
