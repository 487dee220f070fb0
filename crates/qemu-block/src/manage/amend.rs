//! Changing properties of an image that exists.

use std::fmt;
use std::sync::Arc;

use crate::driver::IoFuture;
use crate::options::Options;

/// Changes of an open image's own properties. QEMU: `bdrv_amend_options`, `bdrv_change_backing_file` (block.c).
pub trait AmendOps: Send + Sync {
    /// Changes what the options say and leaves the rest. What was done is durable when it completes.
    ///
    /// # Errors
    /// When an option is unknown or cannot be changed; then nothing was. Else those of metadata I/O: changes made before
    /// the failure stay, and the image is consistent.
    fn amend(&self, request: AmendRequest) -> IoFuture<'_, ()>;

    /// Writes another backing file into the image, or none. What the disk shows is the caller's business, and the
    /// backing file that is open stays open.
    ///
    /// # Errors
    /// When the name does not fit into the image, else those of metadata I/O.
    fn change_backing(&self, backing: Option<BackingLink>) -> IoFuture<'_, ()>;

    /// Gives up all data of the image, so that the disk shows what its backing file has. QEMU: `bdrv_make_empty`.
    ///
    /// # Errors
    /// Those of metadata I/O; then some of the data may be given up already.
    fn make_empty(&self) -> IoFuture<'_, ()>;
}

/// What [`AmendOps::amend`] is to do.
#[derive(Clone, Debug, Default)]
pub struct AmendRequest {
    /// The options to change, as checked against the driver's list.
    pub options: Options,
    /// Do it even if it makes data inaccessible (`--force`).
    pub force: bool,
    /// Who wants to know how far it is.
    pub progress: Progress,
}

/// A backing file as an image names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingLink {
    /// The name, relative to the image's folder if it is a relative path.
    pub name: String,
    /// The format, if known.
    pub format: Option<String>,
}

/// Tells how much of a long operation is done. Clones tell the same listener.
#[derive(Clone, Default)]
pub struct Progress {
    listener: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>,
}

impl Progress {
    /// Calls `listener` with the work done and the work in all, both in units of the operation's choice.
    pub fn new(listener: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self { listener: Some(Arc::new(listener)) }
    }

    /// Tells how far the work is.
    pub fn report(&self, done: u64, total: u64) {
        if let Some(listener) = &self.listener {
            listener(done, total);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("has_listener", &self.listener.is_some()).finish()
    }
}
