//! The driver: probing, permissions, opening.

use qemu_block::driver::{BlockDriver, BlockOps, CreateRequest, DriverKind, IoFuture, OpenRequest};
use qemu_block::error::{BlockError, ErrorKind};
use qemu_block::manage::Measurement;
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, Options};
use qemu_block::types::{OpenFlags, Perm};
use std::sync::Arc;

use crate::create::{CREATE_OPTIONS, create};
use crate::image::RawImage;
use crate::window::Window;

/// The driver of the raw format.
///
/// Options: `offset` and `size`, in bytes, name the part of the storage that is the image. With a `size` the image
/// cannot be resized.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawDriver;

impl BlockDriver for RawDriver {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn kind(&self) -> DriverKind {
        DriverKind::Format
    }

    /// Anything can be raw, so any other format that recognises an image is more likely.
    fn probe(&self, _head: &[u8]) -> u8 {
        1
    }

    /// There is no metadata, so the storage is used for exactly what the image is used for.
    fn storage_perms(&self, perm: Perm, shared: Perm, _flags: OpenFlags) -> (Perm, Perm) {
        (perm, shared | Perm::WRITE_UNCHANGED)
    }

    fn open<'a>(&'a self, request: &'a mut OpenRequest) -> IoFuture<'a, Box<dyn BlockOps>> {
        Box::pin(async move {
            let no_storage =
                || BlockError::new(ErrorKind::InvalidArgument, "A block device must be specified for \"file\"");
            let storage = request.storage.clone().ok_or_else(no_storage)?;
            let window = Window::take(&mut request.options, storage.len())?;
            Ok(Box::new(RawImage::new(storage, window)) as Box<dyn BlockOps>)
        })
    }

    fn create_options(&self) -> &'static [CreateOption] {
        &CREATE_OPTIONS
    }

    fn amend_options(&self) -> &'static [CreateOption] {
        &[]
    }

    fn measure<'a>(&'a self, mut options: Options, source: Option<&'a Arc<Node>>) -> IoFuture<'a, Measurement> {
        Box::pin(async move {
            let size = match source {
                Some(source) => source.len(),
                None => options.take_size("size")?.unwrap_or(0).checked_next_multiple_of(512).ok_or_else(too_large)?,
            };
            Ok(Measurement { required: size, fully_allocated: size, bitmaps: None })
        })
    }

    fn create(&self, request: CreateRequest) -> IoFuture<'_, ()> {
        Box::pin(create(request))
    }
}

fn too_large() -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, "The image size is too large")
}
