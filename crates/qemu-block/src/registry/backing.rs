//! Opening what an image names as its backing file. QEMU: `bdrv_open_backing_file` (block.c).

use std::sync::Arc;

use super::{OpenContext, OpenSpec, Origin, resolve_backing_name};
use crate::driver::FileIdentity;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::options::Options;
use crate::types::{OpenFlags, Perm};

impl OpenContext {
    /// Opens the backing file that an image names.
    ///
    /// `name` comes from the image and is resolved against `overlay_filename`; an empty one means that `options`, the
    /// user's `backing.*`, say everything. `overlay` identifies the file that holds the name, so that a chain which
    /// leads back to it is found. Without `format` it is probed, as in the reference. `flags` are those of the overlay;
    /// the backing file is opened for writing only
    /// if [`OpenContext::with_writable_backing`] says so.
    ///
    /// # Errors
    /// Those of opening, below "Could not open backing file"; the refusal of the policy, which is asked about `name`.
    pub async fn open_backing(
        &self,
        overlay_filename: &str,
        overlay: Option<FileIdentity>,
        name: &str,
        format: Option<&str>,
        options: Options,
        flags: OpenFlags,
    ) -> Result<Arc<Node>> {
        // What the user says goes before what the image says.
        let format = format.filter(|_| !options.contains("driver"));
        let name = if options.contains("file.filename") { "" } else { name };
        let writable = self.opens_backing_writable();
        let mut flags = flags.for_backing();
        let mut perm = Perm::CONSISTENT_READ;
        if writable {
            flags = flags.difference(OpenFlags::FORCE_SHARE) | OpenFlags::WRITE | OpenFlags::RESIZE;
            perm |= Perm::WRITE | Perm::RESIZE;
        }
        let spec = OpenSpec {
            filename: (!name.is_empty()).then(|| resolve_backing_name(overlay_filename, name)),
            driver: format.map(str::to_owned),
            options,
            flags,
            perm,
            shared: Perm::all(),
        };
        let opened = async {
            if name.contains('\0') {
                return Err(BlockError::new(ErrorKind::InvalidArgument, "The file name contains a NUL byte"));
            }
            let below = self.below(overlay)?;
            // Without a name the user's options say everything, as far as they are the user's.
            let below = if name.is_empty() { below } else { below.on_behalf_of(Origin::Backing) };
            below.open(spec).await
        };
        opened.await.map_err(|error| error.context("Could not open backing file"))
    }
}
