//! The options of `amend`: names, values, and what can be changed.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::{CreateOption, OptionKind, Options};

use crate::encryption::SlotChange;
use crate::format::header::{Header, Version};

const fn option(name: &'static str, kind: OptionKind, help: &'static str) -> CreateOption {
    CreateOption { name, help, kind, default: None }
}

/// The options of `amend -f qcow2 -o`. QEMU: `qcow2_amend_opts` (block/qcow2.c).
pub(crate) const AMEND_OPTIONS: &[CreateOption] = &[
    option("backing_file", OptionKind::Text, "File name of a base image"),
    option("backing_fmt", OptionKind::Text, "Image format of the base image"),
    option("encrypt.state", OptionKind::Text, "Select new state of affected keyslots (active/inactive)"),
    option("encrypt.new-secret", OptionKind::Text, "New secret to set in the matching keyslots. Empty string to erase"),
    option("encrypt.old-secret", OptionKind::Text, "Select all keyslots that match this password"),
    option("encrypt.keyslot", OptionKind::Number, "Select a single keyslot to modify explicitly"),
    option("encrypt.iter-time", OptionKind::Number, "Time to spend in PBKDF in milliseconds"),
    option("lazy_refcounts", OptionKind::Bool, "Postpone refcount updates"),
];

/// What the options ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) lazy_refcounts: Option<bool>,
    pub(super) key_slots: Option<SlotChange>,
    backing_file: Option<String>,
    backing_format: Option<String>,
}

impl Changes {
    /// Takes our options out of `options`.
    ///
    /// # Errors
    /// When a value is malformed.
    pub(super) fn take(mut options: Options) -> Result<Self> {
        Ok(Self {
            lazy_refcounts: options.take_bool("lazy_refcounts")?,
            key_slots: SlotChange::take(&mut options)?,
            backing_file: options.take_str("backing_file"),
            backing_format: options.take_str("backing_fmt"),
        })
    }

    /// Fails if the image with this header cannot be changed like that.
    pub(super) fn check(&self, header: &Header) -> Result<()> {
        self.check_backing(header)?;
        if self.lazy_refcounts == Some(true) && header.version < Version::V3 {
            return Err(invalid(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)",
            ));
        }
        Ok(())
    }

    /// The backing file may be named, but it must be what it is.
    fn check_backing(&self, header: &Header) -> Result<()> {
        if self.backing_file.is_none() && self.backing_format.is_none() {
            return Ok(());
        }
        let is_same = self.backing_file.as_deref() == header.backing_name_text()?
            && self.backing_format == header.backing_format();
        // The second line is a hint in the reference; it reaches the user behind the error as well.
        let text = "Cannot amend the backing file\nYou can use 'qemu-img rebase' instead.";
        if is_same { Ok(()) } else { Err(invalid(text)) }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
