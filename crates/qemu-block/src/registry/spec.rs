//! What a caller of [`OpenContext::open`](super::OpenContext::open) asks for.

use crate::error::Result;
use crate::options::Options;
use crate::types::{OpenFlags, Perm};

/// An image to open and how.
#[derive(Clone, Debug)]
pub struct OpenSpec {
    /// A path, `protocol:…`, or `json:{…}`; none when the options name everything.
    pub filename: Option<String>,
    /// The driver; probed when none is given here or in the options.
    pub driver: Option<String>,
    /// Options of the node and, with dotted keys, of the nodes below. They win over those in a `json:` filename.
    pub options: Options,
    /// How to open.
    pub flags: OpenFlags,
    /// What the node will be used for.
    pub perm: Perm,
    /// What others may do meanwhile.
    pub shared: Perm,
}

impl OpenSpec {
    /// Opens `filename` read-only, sharing everything. The format is probed.
    pub fn file(filename: impl Into<String>) -> Self {
        Self { filename: Some(filename.into()), ..Self::options(Options::new()) }
    }

    /// Opens what `options` describe, read-only, sharing everything.
    pub fn options(options: Options) -> Self {
        Self {
            filename: None,
            driver: None,
            options,
            flags: OpenFlags::empty(),
            perm: Perm::CONSISTENT_READ,
            shared: Perm::all(),
        }
    }

    /// Opens what the value of an argument under `--image-opts` describes. A bare first word is a node's name.
    ///
    /// # Errors
    /// As [`Options::parse_keyval`].
    pub fn image_opts(text: &str) -> Result<Self> {
        Ok(Self::options(Options::parse_keyval(text, Some("file"))?))
    }

    /// The same with a driver.
    #[must_use]
    pub fn with_driver(self, driver: Option<impl Into<String>>) -> Self {
        Self { driver: driver.map(Into::into), ..self }
    }

    /// The same with more flags. `WRITE` and `RESIZE` imply the permissions of those names.
    #[must_use]
    pub fn with_flags(mut self, flags: OpenFlags) -> Self {
        self.flags |= flags;
        self.perm.set(Perm::WRITE, self.flags.contains(OpenFlags::WRITE));
        self.perm.set(Perm::RESIZE, self.flags.contains(OpenFlags::RESIZE));
        self
    }
}
