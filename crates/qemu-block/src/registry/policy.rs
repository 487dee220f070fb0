//! What is opened because a name says so: the policy that every name passes before anything of it is touched.
//!
//! An image may name other files: a backing file, a data file, in a `json:` text anything at all. Whoever opens images
//! from strangers must not follow such names; CVE-2024-4467 and CVE-2024-32498 are what happens otherwise. QEMU has no
//! such policy, so without one everything is followed.

use std::fmt;

use crate::error::Result;

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller of [`OpenContext::open`](super::OpenContext::open) named it.
    Caller,
    /// An image names it as its backing file, or the backing file's name leads there.
    Backing,
    /// An image names it as the file of its guest data.
    DataFile,
}

impl Origin {
    /// Whether the content of an image says so, which may come from anybody.
    pub fn is_image(self) -> bool {
        self != Self::Caller
    }
}

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A file or device of this machine, by its path; relative ones are meant from the working directory.
    Path(&'a str),
    /// A `json:` text, which may describe any graph. Whatever it names is asked about, too.
    Json,
    /// Storage that has no path, by the protocol before the colon or the name of the driver.
    Protocol(&'a str),
    /// A driver that interprets other nodes, by its name: a format or a filter.
    Format(&'a str),
}

/// A name that is about to be followed.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Who says so.
    pub origin: Origin,
    /// What it refers to.
    pub target: Target<'a>,
    /// The name itself, for messages; paths from an image are resolved against the image's folder.
    pub name: &'a str,
}

/// Decides which names are followed. One policy serves all images that are opened through a context.
///
/// It is asked before anything of the reference is opened, looked up, or even known to exist.
///
/// ```
/// use std::sync::Arc;
///
/// use qemu_block::aio::Services;
/// use qemu_block::registry::{AllowList, OpenContext, Registry};
///
/// // Follows no name from inside an image, except into one folder.
/// let policy = AllowList::new(["/srv/templates/"])?;
/// let context = OpenContext::new(Arc::new(Registry::new(Services::new()))).with_policy(Arc::new(policy));
/// # drop(context);
/// # Ok::<(), qemu_block::error::BlockError>(())
/// ```
pub trait OpenPolicy: fmt::Debug + Send + Sync {
    /// Fails if the reference is not to be followed. The error is what the user sees, below "Could not open".
    ///
    /// # Errors
    /// The refusal.
    fn check(&self, reference: &Reference<'_>) -> Result<()>;

    /// Whether the format of what a name from there refers to may be guessed when nobody says it.
    ///
    /// Who controls the content of a raw image controls the guess.
    fn may_probe(&self, origin: Origin) -> bool;
}
