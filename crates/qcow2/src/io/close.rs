//! Flushing and closing.

use qemu_block::error::Result;
use qemu_block::types::OpenFlags;

use crate::image::Image;

impl Image {
    /// Makes everything completed so far durable, as far as the cache mode wants that.
    ///
    /// # Errors
    /// Those of the I/O, and always when the image is corrupt or poisoned: then metadata is left unwritten.
    pub(crate) async fn flush_guest(&self) -> Result<()> {
        self.check_open()?;
        if !self.flags.contains(OpenFlags::WRITE) {
            return self.flush_nodes().await;
        }
        if let Err(error) = self.health.check() {
            // Data in clusters that are mapped already can be made durable all the same.
            self.flush_nodes().await?;
            return Err(error);
        }
        self.or_note(self.flush_metadata().await).await
    }

    /// As [`Image::flush_guest`], and nothing is left to be written later.
    pub(crate) async fn settle_guest(&self) -> Result<()> {
        self.health.check()?;
        self.or_note(self.settle().await).await
    }

    /// Writes everything back and closes the nodes below, all of them even if something fails.
    pub(crate) async fn close_guest(&self) -> Result<()> {
        if !self.mark_closed() {
            return Ok(());
        }
        let result = if self.flags.contains(OpenFlags::WRITE) { self.settle_at_close().await } else { Ok(()) };
        let data = self.data.close_external().await;
        let storage = self.storage.close().await;
        let backing = match &self.backing {
            Some(backing) => backing.close().await,
            None => Ok(()),
        };
        result.and(data).and(storage).and(backing)
    }

    /// As [`Image::settle_guest`], with the bitmaps. Without those the image is whole, and they are marked as in use.
    async fn settle_at_close(&self) -> Result<()> {
        self.health.check()?;
        let stored = self.store_bitmaps().await;
        let settled = self.settle_guest().await;
        stored.and(settled)
    }

    /// Takes note of a failure.
    async fn or_note(&self, result: Result<()>) -> Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => Err(self.note_failure(&mut *self.meta.lock().await, error).await),
        }
    }
}
