//! What the image says about its backing file. QEMU: `qcow2_change_backing_file` (block/qcow2.c).

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::BackingLink;

use crate::format::extension::MAGIC_BACKING_FORMAT;
use crate::format::header::Header;
use crate::image::Image;
use crate::limits::{BACKING_FORMAT_BYTES_MAX, BACKING_NAME_BYTES_MAX};

impl Image {
    /// Writes another backing file, or none, into the header. What was written to the image is durable before, as it
    /// may be what makes the change safe.
    pub(super) async fn change_backing_link(&self, backing: Option<BackingLink>) -> Result<()> {
        self.check_writable()?;
        if let Some(backing) = &backing {
            check_length("name", &backing.name, BACKING_NAME_BYTES_MAX)?;
            check_length("format", backing.format.as_deref().unwrap_or_default(), BACKING_FORMAT_BYTES_MAX)?;
        }
        let has_name = backing.is_some();
        let mut meta = self.meta.lock().await;
        meta.flush().await?;
        meta.rewrite_header(|header| header.set_backing(backing)).await?;
        self.set_backing_name(has_name);
        Ok(())
    }
}

impl Header {
    fn set_backing(&mut self, backing: Option<BackingLink>) {
        let (name, format) = backing.map_or((None, None), |backing| (Some(backing.name), backing.format));
        self.backing_name = name.map(String::into_bytes);
        self.set_extension(MAGIC_BACKING_FORMAT, format.map(String::into_bytes));
    }
}

fn check_length(what: &str, text: &str, bytes_max: u32) -> Result<()> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > u64::from(bytes_max) {
        let message = format!("The {what} of the backing file is longer than {bytes_max} bytes");
        return Err(BlockError::new(ErrorKind::InvalidArgument, message));
    }
    Ok(())
}
