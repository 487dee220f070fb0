//! Flushing and closing.

use qemu_block::error::Result;
use qemu_block::types::OpenFlags;

use crate::image::Image;

impl Image {
    /// Makes everything completed so far durable, as far as the cache mode wants that.
    pub(crate) async fn flush_guest(&self) -> Result<()> {
        self.check_open()?;
        if !self.flags.contains(OpenFlags::WRITE) || self.is_corrupt() {
            return self.storage.flush().await;
        }
        self.meta.lock().await.flush().await
    }

    /// Writes everything back and closes the nodes below, all of them even if something fails.
    pub(crate) async fn close_guest(&self) -> Result<()> {
        if !self.mark_closed() {
            return Ok(());
        }
        let mut result = Ok(());
        if self.flags.contains(OpenFlags::WRITE) && !self.is_corrupt() {
            result = self.meta.lock().await.settle().await;
        }
        let storage = self.storage.close().await;
        let backing = match &self.backing {
            Some(backing) => backing.close().await,
            None => Ok(()),
        };
        result.and(storage).and(backing)
    }
}
