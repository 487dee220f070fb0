//! A temporary file that takes all changes to an image, so that the image stays as it is.
//!
//! QEMU: `bdrv_append_temp_snapshot` (block.c)

use std::path::{Path, absolute};

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;
use qemu_block::registry::{OpenSpec, path_has_protocol};
use qemu_block::types::OpenFlags;
use tempfile::NamedTempFile;

use super::image::Recipe;
use crate::cli::common::permissions;
use crate::session::Session;

/// Where the reference puts such files, unless the environment says otherwise: they may become too large for memory.
const FOLDER: &str = "/var/tmp";

/// The temporary file. It is removed with this value.
#[derive(Debug)]
pub(super) struct Overlay {
    file: NamedTempFile,
}

impl Overlay {
    /// An image without data over the one that `recipe` describes.
    ///
    /// # Errors
    /// That image cannot be opened, or there is no place for the file.
    pub(super) async fn new(recipe: &Recipe, session: &Session) -> Result<Self> {
        let mut spec = recipe.spec();
        spec.flags.remove(OpenFlags::WRITE | OpenFlags::WRITE_THROUGH);
        spec.perm = permissions(spec.flags).0;
        let node = session.context().open(spec).await?;
        let len = node.len();
        node.close().await?;
        let folder = std::env::var_os("TMPDIR").unwrap_or_else(|| FOLDER.into());
        let file = tempfile::Builder::new().prefix("qemu-io.").tempfile_in(folder)?;
        let mut options = Options::new();
        options.set("size", len);
        if let Some(name) = &recipe.filename {
            options.set("backing_file", absolute_name(name)?);
        }
        if let Some(format) = recipe.options.get_str("driver") {
            options.set("backing_fmt", format);
        }
        session.context().create("qcow2", path_text(file.path())?, options).await?;
        Ok(Self { file })
    }

    /// How to open the file, with the options of `recipe` for the image below it.
    pub(super) fn spec(&self, recipe: &Recipe) -> OpenSpec {
        let mut options = Options::new();
        options.set("driver", "qcow2");
        options.set("file.driver", "file");
        options.set("file.filename", self.file.path().to_string_lossy().into_owned());
        for (key, value) in recipe.options.iter() {
            options.set(format!("backing.{key}"), value.clone());
        }
        // The file is nobody's once the program has ended, so that nothing in it has to be durable.
        let flags = recipe.flags.difference(OpenFlags::WRITE_THROUGH) | OpenFlags::WRITE | OpenFlags::NO_FLUSH;
        let (perm, shared) = permissions(flags);
        OpenSpec { filename: None, driver: None, options, flags, perm, shared }
    }
}

/// A name that means the same in another folder.
fn absolute_name(name: &str) -> Result<String> {
    if path_has_protocol(name) {
        return Ok(name.to_owned());
    }
    path_text(&absolute(name)?).map(str::to_owned)
}

fn path_text(path: &Path) -> Result<&str> {
    let complain = || BlockError::new(ErrorKind::InvalidArgument, "The name of a folder is not valid UTF-8");
    path.to_str().ok_or_else(complain)
}
