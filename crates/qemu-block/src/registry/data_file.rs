//! Opening what an image names as the file of its guest data. QEMU: `bdrv_open_data_bs`, `qcow2_do_open` (block/qcow2.c).

use std::sync::Arc;

use super::common::{effective_shared, take_common};
use super::open::Plan;
use super::{OpenContext, Origin, Target, path_has_protocol};
use crate::driver::{DriverKind, FileIdentity};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::options::Options;
use crate::types::{OpenFlags, Perm};

impl OpenContext {
    /// Opens the file that holds the data of the image in `image`.
    ///
    /// `options` are the user's `data-file.*`; only without any of them counts `name`, which comes from the image. It is
    /// a plain path, never a protocol or `json:`, and relative to the working directory, as in the reference. `perm` and
    /// `shared` follow with [`Node::set_perm`].
    ///
    /// # Errors
    /// Those of opening, the refusal of the policy; `InvalidArgument` when neither options nor a name say what to open.
    pub async fn open_data_file(
        &self,
        image: Option<FileIdentity>,
        name: Option<&str>,
        mut options: Options,
        flags: OpenFlags,
    ) -> Result<Arc<Node>> {
        let name = name.filter(|name| !name.is_empty() && options.is_empty());
        let filename = name.map(plain_path).transpose()?;
        if filename.is_none() && options.is_empty() {
            return Err(invalid("'data-file' is required for this image"));
        }
        let context = self.below(image)?;
        let context = if filename.is_some() { context.on_behalf_of(Origin::DataFile) } else { context };
        if let Some(path) = &filename {
            context.check_policy(Target::Path(path), path)?;
        }
        let driver = match options.take_str("driver") {
            Some(driver) => self.find_driver(&driver)?,
            None => context.storage_driver(filename.as_deref(), &options)?,
        };
        let flags = take_common(&mut options, flags.for_storage())?;
        let shared = effective_shared(flags, Perm::all());
        let name = Some(driver.name().to_owned());
        let plan = Plan { filename, driver: name, options, flags, perm: Perm::empty(), shared };
        match driver.kind() {
            DriverKind::Protocol => context.open_leaf(driver, plan).await,
            DriverKind::Format | DriverKind::Filter { .. } => Box::pin(context.open_format(Some(driver), plan)).await,
        }
    }
}

/// The name as a path that nobody takes for anything else.
fn plain_path(name: &str) -> Result<String> {
    if name.contains('\0') {
        return Err(invalid("The file name contains a NUL byte"));
    }
    Ok(if path_has_protocol(name) { format!("./{name}") } else { name.to_owned() })
}

fn invalid(message: &str) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
