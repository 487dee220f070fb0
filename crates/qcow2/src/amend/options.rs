//! The options of `amend`: names, values, and what can be changed.

use qemu_block::crypt::SlotChange;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::{CreateOption, OptionKind, Options};

use crate::encryption::take_slot_change;
use crate::format::features::Compatible;
use crate::format::header::{Header, Version};
use crate::limits::{REFCOUNT_ORDER_MAX, REFCOUNT_ORDER_V2};

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
    option("compat", OptionKind::Text, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    option("data_file", OptionKind::Text, "File name of an external data file"),
    option("data_file_raw", OptionKind::Bool, "The external data file must stay valid as a raw image"),
    option("lazy_refcounts", OptionKind::Bool, "Postpone refcount updates"),
    option("refcount_bits", OptionKind::Number, "Width of a reference count entry in bits"),
    option("size", OptionKind::Size, "Virtual disk size"),
];

/// What the options ask for.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) version: Option<Version>,
    pub(super) refcount_order: Option<u32>,
    /// The name of the data file; an empty one removes it.
    pub(super) data_file: Option<String>,
    pub(super) data_file_raw: Option<bool>,
    pub(super) lazy_refcounts: Option<bool>,
    pub(super) key_slots: Option<SlotChange>,
    /// Size of the virtual disk in bytes.
    pub(super) size: Option<u64>,
    backing_file: Option<String>,
    backing_format: Option<String>,
}

impl Changes {
    /// Takes our options out of `options`.
    ///
    /// # Errors
    /// When a value is malformed.
    pub(super) fn take(mut options: Options) -> Result<Self> {
        let version = options
            .take_str("compat")
            .map(|text| parse_version(&text).ok_or_else(|| invalid(format!("Unknown compatibility level {text}"))));
        Ok(Self {
            version: version.transpose()?,
            refcount_order: options.take_number("refcount_bits")?.map(refcount_order).transpose()?,
            data_file: options.take_str("data_file"),
            data_file_raw: options.take_bool("data_file_raw")?,
            size: options.take_size("size")?.filter(|size| *size != 0),
            lazy_refcounts: options.take_bool("lazy_refcounts")?,
            key_slots: take_slot_change(&mut options)?,
            backing_file: options.take_str("backing_file"),
            backing_format: options.take_str("backing_fmt"),
        })
    }

    /// Fails if the image with this header cannot be changed like that.
    pub(super) fn check(&self, header: &Header) -> Result<()> {
        if self.data_file.is_some() && !header.has_data_file() {
            return Err(invalid("data-file can only be set for images that use an external data file"));
        }
        if self.data_file_raw == Some(true) && !header.is_data_file_raw() {
            return Err(invalid("data-file-raw cannot be set on existing images"));
        }
        let version = self.version.unwrap_or(header.version);
        if version < Version::V3
            && self
                .refcount_order
                .is_some_and(|order| order != header.geometry.refcount_order() && order != REFCOUNT_ORDER_V2)
        {
            return Err(invalid(
                "Refcount widths other than 16 bits require compatibility level 1.1 or above \
                 (use compat=1.1 or greater)",
            ));
        }
        if self.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Err(invalid("Image size cannot be negative"));
        }
        self.check_backing(header)?;
        let was_lazy = header.compatible.contains(Compatible::LAZY_REFCOUNTS);
        if self.lazy_refcounts == Some(true) && !was_lazy && version < Version::V3 {
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

fn parse_version(text: &str) -> Option<Version> {
    match text {
        "0.10" | "v2" => Some(Version::V2),
        "1.1" | "v3" => Some(Version::V3),
        _ => None,
    }
}

fn refcount_order(bits: u64) -> Result<u32> {
    let order = bits.is_power_of_two().then(|| bits.trailing_zeros()).filter(|order| *order <= REFCOUNT_ORDER_MAX);
    order.ok_or_else(|| invalid("Refcount width must be a power of two and may not exceed 64 bits"))
}

pub(super) fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
