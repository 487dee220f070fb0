//! Showing a snapshot in place of the active state.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::SnapshotSelector;
use qemu_block::types::OpenFlags;

use super::Snapshots;
use crate::image::Image;
use crate::overlap::MetadataRegions;

impl Image {
    /// Reads go through the snapshot's tables from now on. The disk keeps its size, as with the reference: what the
    /// snapshot had beyond it is cut off, and what it lacks is read from the backing file or as zeros.
    pub(super) async fn load_snapshot(&self, which: &SnapshotSelector) -> Result<()> {
        self.check_open()?;
        if self.flags.contains(OpenFlags::WRITE) {
            let text = "qcow2: a snapshot can be shown only by an image that is read-only";
            return Err(BlockError::new(ErrorKind::BadRequest, text));
        }
        let mut meta = self.meta.lock().await;
        let snapshots = Snapshots::read(&meta).await?;
        let l1 = meta.snapshot_l1(&snapshots.entries[snapshots.find(which)?]).await?;
        // The tables of the state that is left are no obstacle to those of the one that is shown.
        meta.regions = MetadataRegions::new(&meta.header, meta.geo);
        meta.l2.clear();
        meta.l1 = l1;
        Ok(())
    }
}
