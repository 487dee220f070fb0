//! Changing properties of an image that exists. QEMU: `qcow2_amend_options` (block/qcow2.c).
//!
//! Options are checked before anything is changed; what cannot be known before is found out in the order of the
//! reference. Each step is durable before the next one begins and leaves an image that is consistent by itself, so a
//! failure or a power cut leaves some of the changes, never half of one.

mod backing;
mod options;

use qemu_block::driver::IoFuture;
use qemu_block::error::Result;
use qemu_block::manage::{AmendOps, AmendRequest, BackingLink};

use crate::format::features::Compatible;
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
}

impl Image {
    async fn amend_image(&self, request: AmendRequest) -> Result<()> {
        self.check_writable()?;
        let mut changes = Changes::take(request.options)?;
        changes.check(&self.meta.lock().await.header)?;
        if let Some(change) = changes.key_slots.take() {
            self.amend_key_slots(change, request.force).await?;
        }
        let mut meta = self.meta.lock().await;
        if let Some(lazy) = changes.lazy_refcounts {
            meta.flush().await?;
            meta.rewrite_header(|header| header.compatible.set(Compatible::LAZY_REFCOUNTS, lazy)).await?;
        }
        Ok(())
    }
}
