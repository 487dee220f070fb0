//! Changing the size of the virtual disk.
//!
//! Nobody sees what lies past the end of the disk. So a disk that grows gets a new part that reads as zeros first, and the
//! new part shows only once that is durable; a disk that shrinks has its new size first, and then gives up what is mapped
//! past it.

mod grow;
mod preallocate;
mod shrink;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::types::PreallocMode;

use crate::format::header::Version;
use crate::image::Image;
use crate::meta::Meta;

impl Image {
    /// Sets the size of the disk. What is new reads as zeros, even where a backing file is longer than the old disk.
    pub(crate) async fn truncate_guest(&self, len: u64, prealloc: PreallocMode) -> Result<()> {
        self.check_writable()?;
        if !len.is_multiple_of(512) {
            return Err(BlockError::new(ErrorKind::InvalidArgument, "The new size must be a multiple of 512"));
        }
        let old = self.size();
        if len == old {
            return Ok(());
        }
        let meta = self.meta.lock().await;
        self.check_snapshots(&meta)?;
        drop(meta);
        if len > old {
            return self.grow(old, len, prealloc).await;
        }
        if prealloc != PreallocMode::Off {
            let text = "Preallocation can't be used for shrinking an image";
            return Err(BlockError::new(ErrorKind::InvalidArgument, text));
        }
        self.shrink(len).await
    }

    /// Version 2 snapshots do not record their size, so that of the disk must not change.
    fn check_snapshots(&self, meta: &Meta) -> Result<()> {
        if meta.header.snapshots.count > 0 && self.version() == Version::V2 {
            let text = "Can't resize a v2 image which has snapshots";
            return Err(BlockError::new(ErrorKind::Unsupported, text));
        }
        Ok(())
    }
}
