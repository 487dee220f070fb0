//! Changing properties of an image that exists. QEMU: `qcow2_amend_options` (block/qcow2.c).
//!
//! Options are checked before anything is changed; what cannot be known before is found out in the order of the
//! reference. Each step is durable before the next one begins and leaves an image that is consistent by itself, so a
//! failure or a power cut leaves some of the changes, never half of one.

mod backing;
mod options;
mod version;

use qemu_block::driver::IoFuture;
use qemu_block::error::Result;
use qemu_block::manage::{AmendOps, AmendRequest, BackingLink, Progress};
use qemu_block::types::PreallocMode;

use crate::format::extension::MAGIC_DATA_FILE;
use crate::format::features::{Autoclear, Compatible};
use crate::image::Image;
pub(crate) use options::AMEND_OPTIONS;
use options::Changes;

impl AmendOps for Image {
    fn amend(&self, request: AmendRequest) -> IoFuture<'_, ()> {
        Box::pin(self.amend_image(request))
    }

    fn change_backing(&self, backing: Option<BackingLink>) -> IoFuture<'_, ()> {
        Box::pin(self.change_backing_link(backing))
    }

    fn make_empty(&self) -> IoFuture<'_, ()> {
        Box::pin(self.empty_image())
    }
}

impl Image {
    async fn amend_image(&self, request: AmendRequest) -> Result<()> {
        self.check_writable()?;
        let mut changes = Changes::take(request.options)?;
        let old = self.meta.lock().await.header.clone();
        changes.check(&old)?;
        // Some features need version 3, so that comes first, and its opposite last.
        if changes.version.is_some_and(|version| version > old.version) {
            self.upgrade().await?;
        }
        if let Some(change) = changes.key_slots.take() {
            self.amend_key_slots(change, request.force).await?;
        }
        if let Some(order) = changes.refcount_order {
            self.change_refcount_order(order, &request.progress).await?;
        }
        self.change_header(&changes).await?;
        if let Some(size) = changes.size {
            self.truncate_guest(size, PreallocMode::Off).await?;
        }
        if changes.version.is_some_and(|version| version < old.version) {
            self.downgrade().await?;
        }
        Ok(())
    }

    async fn change_refcount_order(&self, order: u32, progress: &Progress) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let geo = meta.geo.with_refcount_order(order).expect("checked when the options were");
        if geo == meta.geo {
            return Ok(());
        }
        match meta.change_refcount_width(geo, progress).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut meta, error).await),
        }
    }

    /// What is a matter of the header alone.
    async fn change_header(&self, changes: &Changes) -> Result<()> {
        let mut meta = self.meta.lock().await;
        let mut new = meta.header.clone();
        if let Some(name) = &changes.data_file {
            new.set_extension(MAGIC_DATA_FILE, (!name.is_empty()).then(|| name.clone().into_bytes()));
        }
        if let Some(raw) = changes.data_file_raw {
            new.autoclear.set(Autoclear::DATA_FILE_RAW, raw);
        }
        if let Some(lazy) = changes.lazy_refcounts {
            new.compatible.set(Compatible::LAZY_REFCOUNTS, lazy);
        }
        if new == meta.header {
            return Ok(());
        }
        meta.flush().await?;
        meta.keep_promise().await?;
        new.incompatible = meta.header.incompatible;
        meta.rewrite_header(|header| *header = new).await?;
        if let Some(lazy) = changes.lazy_refcounts {
            meta.lazy_refcounts = lazy;
        }
        Ok(())
    }
}
