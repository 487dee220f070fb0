//! The image that commands work on: how it was opened, and how it is opened again with other options.
//!
//! QEMU: `openfile` (qemu-io.c), `reopen_f` (qemu-io-cmds.c)

use std::sync::Arc;

use qemu_block::backend::BlockBackend;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::Options;
use qemu_block::registry::OpenSpec;
use qemu_block::types::{CacheMode, OpenFlags, Perm};

use super::overlay::Overlay;
use super::shell::{Done, Failed, Shell};
use crate::cli::common::permissions;
use crate::output::messages;
use crate::session::Session;

/// How an image is to be opened.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Its name; none when the options say everything.
    pub(super) filename: Option<String>,
    /// Options of its node and of those below.
    pub(super) options: Options,
    /// Access, discards, cache mode.
    pub(super) flags: OpenFlags,
    /// Whether requests are to use the kernel's own interface for direct I/O.
    pub(super) native_aio: bool,
    /// Whether what is read from a backing file is to be copied.
    pub(super) copy_on_read: bool,
    /// Whether all changes go to a temporary file.
    pub(super) snapshot: bool,
}

/// The open image.
#[derive(Debug)]
pub(super) struct Image {
    recipe: Recipe,
    backend: Arc<BlockBackend>,
    perm: Perm,
    /// Where the changes go, if not into the image; the file goes with this value.
    _overlay: Option<Overlay>,
}

impl Recipe {
    /// Read-write and write-through, as the program opens images unless it is told otherwise.
    pub(super) fn new() -> Self {
        Self {
            filename: None,
            options: Options::new(),
            flags: OpenFlags::WRITE | OpenFlags::UNMAP | OpenFlags::WRITE_THROUGH,
            native_aio: false,
            copy_on_read: false,
            snapshot: false,
        }
    }

    /// Sets the cache mode.
    pub(super) fn set_cache(&mut self, mode: CacheMode) {
        self.flags.remove(OpenFlags::DIRECT | OpenFlags::NO_FLUSH | OpenFlags::WRITE_THROUGH);
        self.flags |= mode.open_flags();
    }

    /// Sets the cache mode of `-n`: the host's cache is bypassed, and writes are not flushed one by one.
    pub(super) fn set_no_cache(&mut self) {
        self.flags.insert(OpenFlags::DIRECT);
        self.flags.remove(OpenFlags::WRITE_THROUGH);
    }

    /// Sets whether discards reach the image; false if there is no such mode.
    pub(super) fn set_discard(&mut self, mode: &str) -> bool {
        let unmap = match mode {
            "ignore" | "off" => false,
            "unmap" | "on" => true,
            _ => return false,
        };
        self.flags.set(OpenFlags::UNMAP, unmap);
        true
    }

    /// Sets how requests are made; false if there is no such way. All of them end up with the same engine.
    pub(super) fn set_aio(&mut self, mode: &str) -> bool {
        self.native_aio = mode == "native";
        matches!(mode, "threads" | "native" | "io_uring")
    }

    /// Opens the image.
    ///
    /// # Errors
    /// Those of the block layer; options that contradict each other.
    pub(super) async fn open(self, session: &Session) -> Result<Image> {
        self.check()?;
        let overlay = if self.snapshot { Some(Overlay::new(&self, session).await?) } else { None };
        let spec = overlay.as_ref().map_or_else(|| self.spec(), |overlay| overlay.spec(&self));
        let perm = spec.perm;
        let node = session.context().open(spec).await?;
        if node.is_probed_raw() && !node.is_read_only() {
            messages::warn_probed_raw(node.filename());
        }
        Ok(Image { recipe: self, backend: Arc::new(BlockBackend::new(node)), perm, _overlay: overlay })
    }

    /// The image itself.
    pub(super) fn spec(&self) -> OpenSpec {
        OpenSpec {
            filename: self.filename.clone(),
            driver: None,
            options: self.options.clone(),
            flags: self.flags,
            perm: permissions(self.flags).0,
            shared: Perm::all(),
        }
    }

    fn check(&self) -> Result<()> {
        let invalid = |text: &str| Err(BlockError::new(ErrorKind::InvalidArgument, text));
        let is_read_only = !self.flags.contains(OpenFlags::WRITE);
        if self.flags.contains(OpenFlags::FORCE_SHARE) && !is_read_only {
            return invalid("force-share=on can only be used with read-only images");
        }
        if self.copy_on_read && is_read_only {
            return invalid("Can't use copy-on-read on read-only device");
        }
        if self.native_aio && !self.flags.contains(OpenFlags::DIRECT) {
            return invalid("aio=native was specified, but it requires cache.direct=on, which was not specified.");
        }
        Ok(())
    }
}

impl Image {
    /// The handle for requests.
    pub(super) fn backend(&self) -> Arc<BlockBackend> {
        Arc::clone(&self.backend)
    }

    /// The node.
    pub(super) fn node(&self) -> &Arc<Node> {
        self.backend.node()
    }

    /// How it was opened.
    pub(super) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Adds to what the image is used for.
    ///
    /// # Errors
    /// It is read-only, or others use it in a way that excludes this.
    pub(super) async fn take_permission(&mut self, perm: Perm) -> Result<()> {
        if self.perm.contains(perm) {
            return Ok(());
        }
        if self.node().is_read_only() {
            return Err(BlockError::new(ErrorKind::PermissionDenied, "Block node is read-only"));
        }
        self.backend.set_perm(self.perm | perm, Perm::all()).await?;
        self.perm |= perm;
        Ok(())
    }

    /// Flushes and closes it. No request may be under way.
    ///
    /// # Errors
    /// What was written may be incomplete.
    pub(super) async fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.backend) {
            Ok(backend) => backend.close().await,
            // Somebody still holds the handle: what it does from now on fails.
            Err(backend) => {
                let flushed = backend.flush().await;
                flushed.and(backend.node().close().await)
            }
        }
    }
}

impl Shell {
    /// Opens an image.
    ///
    /// # Errors
    /// One is open already, or this one cannot be opened.
    pub(super) fn open(&mut self, recipe: Recipe) -> Done {
        if self.image.is_some() {
            return Err(self.report_error("file open already, try 'help close'"));
        }
        let is_shared = recipe.flags.contains(OpenFlags::FORCE_SHARE);
        if is_shared && recipe.options.get_str("force-share").is_some_and(|value| value != "on") {
            return Err(self.report_error("-U conflicts with image options"));
        }
        let device = recipe.filename.as_ref().map(|name| format!(" device {name}")).unwrap_or_default();
        match self.session.block_on(recipe.open(&self.session)) {
            Ok(image) => {
                self.image = Some(image);
                Ok(())
            }
            Err(error) => Err(self.report_error(format!("can't open{device}: {}", error.chain()))),
        }
    }

    /// Closes the image if one is open. The reference does not look whether that succeeds, but what is lost then is what
    /// the user believes to be written.
    ///
    /// # Errors
    /// What was written may be incomplete.
    pub(super) fn close(&mut self) -> Done {
        let Some(image) = self.image.take() else { return Ok(()) };
        let closed = self.session.block_on(image.close());
        closed.map_err(|error| self.report_error(error.chain()))
    }

    /// Closes the image and opens it again as `change` says; as it was, if that cannot be.
    ///
    /// # Errors
    /// It cannot be opened so.
    pub(super) fn reopen(&mut self, change: impl FnOnce(&mut Recipe)) -> Done {
        self.finish();
        let Some(before) = self.image.as_ref().map(|image| image.recipe().clone()) else { return Err(Failed) };
        let mut wanted = before.clone();
        change(&mut wanted);
        self.close()?;
        let error = match self.session.block_on(wanted.open(&self.session)) {
            Ok(image) => {
                self.image = Some(image);
                return Ok(());
            }
            Err(error) => error,
        };
        self.image = self.session.block_on(before.open(&self.session)).ok();
        Err(self.report_error(unchangeable(&error)))
    }
}

/// The complaint about options that a reopen cannot set.
fn unchangeable(error: &BlockError) -> String {
    let text = error.chain();
    match text.split_once("does not support the option '").or_else(|| text.split_once("doesn't support the option '")) {
        Some((_, option)) => format!("Cannot change the option '{option}"),
        None => text,
    }
}
