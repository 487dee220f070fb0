//! How large an image will be: header, key slots, and all of the disk, since noise has no holes.

use std::sync::Arc;

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::Options;

use crate::create::Settings;

/// How large an image created with `options` will be.
///
/// # Errors
/// As creating it; the image would be too large for any file.
pub(crate) fn measure(mut options: Options, source: Option<&Arc<Node>>) -> Result<Measurement> {
    let settings = Settings::take(&mut options)?;
    let size = source.map_or(settings.size, |source| source.len());
    let too_large = || BlockError::new(ErrorKind::InvalidArgument, "The image size is too large");
    let bytes = size.checked_add(settings.payload_offset).ok_or_else(too_large)?;
    Ok(Measurement { required: bytes, fully_allocated: bytes, bitmaps: None })
}
