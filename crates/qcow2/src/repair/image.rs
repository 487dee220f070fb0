//! Checking and repairing an image that is open.

use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::io::RangeMode;
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags};

use super::repair;
use crate::cache::file::MetaFile;
use crate::format::header::Header;
use crate::health::Health;
use crate::image::Image;
use crate::meta::Meta;

impl Image {
    /// Checks the metadata as it is on disk, and repairs it.
    ///
    /// # Errors
    /// `PermissionDenied` for a repair of an image that is open for reading only; those of reading and writing.
    pub(crate) async fn check_guest(&self, fixes: CheckFixes) -> Result<CheckReport> {
        self.check_open()?;
        let is_writable = self.flags.contains(OpenFlags::WRITE);
        if fixes == CheckFixes::Nothing {
            // What is still in memory would look like damage. A corrupt image is checked as it is on disk.
            if is_writable && !self.health.is_corrupt() {
                self.settle_guest().await?;
            }
            return crate::check::check(&self.storage, &self.meta.lock().await.header).await;
        }
        if !is_writable {
            return Err(BlockError::new(ErrorKind::PermissionDenied, "qcow2: the image is read-only"));
        }
        // Nobody reads or writes while the tables are changed under them.
        let everything = self.ranges.lock(0..u64::MAX, RangeMode::Exclusive).await;
        self.settle_guest().await?;
        let mut meta = self.meta.lock().await;
        let file = meta.storage.clone();
        let change = file.begin_change();
        let mut header = meta.header.clone();
        let repaired = repair(&file, &mut header, fixes).await;
        // What was in memory is that of before.
        let (lazy_refcounts, caches) = (meta.lazy_refcounts, meta.caches);
        *meta = Meta::new(file, header, caches);
        meta.lazy_refcounts = lazy_refcounts;
        change.finish();
        drop(meta);
        drop(everything);
        repaired
    }
}

/// Repairs an image that was not closed, before it is written again. What cannot be repaired does not keep anybody from
/// writing, as long as everything could be checked.
///
/// # Errors
/// `Could not repair dirty image: …`
pub(crate) async fn repair_dirty(storage: &Arc<qemu_block::node::Node>, header: &mut Header) -> Result<()> {
    let context = "Could not repair dirty image";
    let file = MetaFile::new(Arc::clone(storage), None, Arc::new(Health::default()));
    let report = repair(&file, header, CheckFixes::All).await.map_err(|error| error.context(context))?;
    if report.check_errors > 0 {
        return Err(BlockError::from_errno(libc::EIO, "Input/output error").context(context));
    }
    Ok(())
}
