//! Clusters of guest data: in the image file they are counted, in an external data file each guest cluster has its place.

use qemu_block::error::{BlockError, Result};

use super::{Reserved, Run};
use crate::error::FormatError;
use crate::format::l2::L2Mapping;
use crate::limits::HOST_OFFSET_END;
use crate::map::MapRun;
use crate::meta::Meta;
use crate::overlap::Region;
use crate::units::{ClusterCount, GuestCluster, HostCluster, HostOffset};

impl Meta {
    /// Whether guest data is in another file than metadata.
    pub(crate) fn has_data_file(&self) -> bool {
        self.header.has_data_file()
    }

    /// Reserves at least one and at most `wanted` host clusters that follow one another, for the guest clusters from
    /// `first` on.
    ///
    /// # Errors
    /// As [`Meta::allocate`].
    pub(crate) async fn reserve_data(&mut self, first: GuestCluster, wanted: ClusterCount) -> Result<Reserved> {
        if !self.has_data_file() {
            return self.allocate(wanted).await;
        }
        let run = Run { start: HostCluster::new(first.get()), count: wanted };
        if self.geo.host_start(run.end()).get() > HOST_OFFSET_END {
            return Err(BlockError::from_errno(libc::EFBIG, "qcow2: the data file has reached its largest size"));
        }
        // Whatever the file has there, the disk did not show it.
        Ok(Reserved { run, fresh: false })
    }

    /// As [`Meta::unreserve`], for what [`Meta::reserve_data`] reserved.
    pub(crate) async fn unreserve_data(&mut self, run: Run) -> Result<()> {
        if self.has_data_file() { Ok(()) } else { self.unreserve(run).await }
    }

    /// As [`Meta::release_bytes`], for clusters with data.
    pub(crate) fn release_data(&mut self, start: HostOffset, end: HostOffset) {
        if !self.has_data_file() {
            self.release_bytes(start, end);
        }
    }

    /// The metadata that a write of data would hit (rule R15).
    pub(crate) fn metadata_at_data(&self, host: HostOffset, len: u64) -> Option<Region> {
        if self.has_data_file() { None } else { self.regions.hit(host, len, None) }
    }

    /// Fails if a run is not where data of its guest offset can be.
    pub(crate) fn check_data_place(&self, run: &MapRun) -> Result<()> {
        let host = match run.mapping {
            L2Mapping::Compressed(extent) => Some(extent.host),
            mapping => mapping.host(),
        };
        let (true, Some(host)) = (self.has_data_file(), host) else { return Ok(()) };
        let guest = self.geo.guest_start(run.start).get();
        let is_compressed = matches!(run.mapping, L2Mapping::Compressed(_));
        if is_compressed || host.get() != guest {
            return Err(FormatError::DataFilePlace { guest, host: host.get(), is_compressed }.into());
        }
        Ok(())
    }
}
