//! The creation options: names, values, and what goes together.

use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::{CreateOption, OptionKind, Options};
use qemu_block::registry::OpenContext;
use qemu_block::types::PreallocMode;

use crate::encryption::EncryptionSettings;
use crate::format::header::{CompressionType, Version};
use crate::limits::{BACKING_NAME_BYTES_MAX, REFCOUNT_ORDER_V2};
use crate::units::Geometry;

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    help: &'static str,
) -> CreateOption {
    CreateOption { name, help, kind, default }
}

/// The options of `create -f qcow2 -o`, in the order in which the reference lists their values when it creates an
/// image. QEMU: `qcow2_create_opts` (block/qcow2.c).
pub(crate) const CREATE_OPTIONS: &[CreateOption] = &[
    option(
        "encryption",
        OptionKind::Bool,
        None,
        "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ),
    option("encrypt.format", OptionKind::Text, None, "Encrypt the image, format choices: 'aes', 'luks'"),
    option("encrypt.key-secret", OptionKind::Text, None, "ID of secret providing qcow AES key or LUKS passphrase"),
    option("encrypt.cipher-alg", OptionKind::Text, None, "Name of encryption cipher algorithm"),
    option("encrypt.cipher-mode", OptionKind::Text, None, "Name of encryption cipher mode"),
    option("encrypt.ivgen-alg", OptionKind::Text, None, "Name of IV generator algorithm"),
    option("encrypt.ivgen-hash-alg", OptionKind::Text, None, "Name of IV generator hash algorithm"),
    option("encrypt.hash-alg", OptionKind::Text, None, "Name of encryption hash algorithm"),
    option("encrypt.iter-time", OptionKind::Number, None, "Time to spend in PBKDF in milliseconds"),
    option("cluster_size", OptionKind::Size, Some("65536"), "qcow2 cluster size"),
    option("extended_l2", OptionKind::Bool, Some("off"), "Extended L2 tables"),
    option("preallocation", OptionKind::Text, None, "Preallocation mode (allowed values: off, metadata, falloc, full)"),
    option("compression_type", OptionKind::Text, Some("zlib"), "Compression method used for image cluster compression"),
    option("size", OptionKind::Size, None, "Virtual disk size"),
    option("compat", OptionKind::Text, None, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    option("backing_file", OptionKind::Text, None, "File name of a base image"),
    option("backing_fmt", OptionKind::Text, None, "Image format of the base image"),
    option("data_file", OptionKind::Text, None, "File name of an external data file"),
    option("data_file_raw", OptionKind::Bool, None, "The external data file must stay valid as a raw image"),
    option("lazy_refcounts", OptionKind::Bool, Some("off"), "Postpone refcount updates"),
    option("refcount_bits", OptionKind::Number, Some("16"), "Width of a reference count entry in bits"),
];

/// What the options ask for, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Size of the virtual disk in bytes, a multiple of 512.
    pub(super) size: u64,
    pub(super) version: Version,
    pub(super) geometry: Geometry,
    pub(super) preallocation: PreallocMode,
    pub(super) compression: CompressionType,
    pub(super) lazy_refcounts: bool,
    /// The file for the guest's data, if that is to be another one.
    pub(super) data_file: Option<String>,
    pub(super) data_file_raw: bool,
    pub(super) backing: Option<BackingLink>,
    pub(super) encryption: Option<EncryptionSettings>,
}

/// What the new image says about its backing file.
#[derive(Clone, Debug)]
pub(super) struct BackingLink {
    pub(super) name: String,
    pub(super) format: Option<String>,
}

impl BackingLink {
    /// The error of an image that cannot say so.
    pub(super) fn error(&self, cause: BlockError) -> BlockError {
        let format = self.format.as_deref().unwrap_or("(null)");
        cause.context(format!("Could not assign backing file '{}' with format '{format}'", self.name))
    }
}

impl Settings {
    /// Takes our options out of `options`.
    ///
    /// # Errors
    /// With the reference's text, when values are wrong or do not go together.
    pub(super) fn take(options: &mut Options, context: &OpenContext) -> Result<Self> {
        let size = options.take_size("size")?.ok_or_else(|| invalid("Image creation needs a size parameter"))?;
        let version = options.take_str("compat").map_or(Ok(Version::V3), |text| parse_version(&text))?;
        let cluster_size = options.take_size("cluster_size")?.unwrap_or(65536);
        let extended_l2 = options.take_bool("extended_l2")?.unwrap_or(false);
        let refcount_bits = options.take_number("refcount_bits")?.unwrap_or(16);
        let preallocation = take_word(options, "preallocation", "preallocation", PreallocMode::parse)?;
        let compression = take_word(options, "compression_type", "compression-type", parse_compression)?;
        let lazy_refcounts = options.take_bool("lazy_refcounts")?.unwrap_or(false);
        let data_file = options.take_str("data_file");
        let data_file_raw = options.take_bool("data_file_raw")?.unwrap_or(false);
        let backing = take_backing(options, context)?;
        let encryption = EncryptionSettings::take(options, context.secrets())?;
        let settings = Self {
            size: size.checked_next_multiple_of(512).unwrap_or(u64::MAX),
            version,
            geometry: geometry(cluster_size, refcount_bits, extended_l2, version)?,
            preallocation: with_all_mapped(preallocation.unwrap_or_default(), data_file_raw),
            compression: compression.unwrap_or(CompressionType::Zlib),
            lazy_refcounts,
            data_file,
            data_file_raw,
            backing,
            encryption,
        };
        settings.check_combinations()?;
        Ok(settings)
    }

    fn check_data_file(&self) -> Result<()> {
        if self.data_file_raw && self.data_file.is_none() {
            return Err(invalid("data-file-raw requires data-file"));
        }
        if self.data_file_raw && self.backing.is_some() {
            return Err(invalid("Backing file and data-file-raw cannot be used at the same time"));
        }
        if self.version == Version::V2 && self.data_file.is_some() {
            return Err(invalid(
                "External data files are only supported with compatibility level 1.1 and above \
                 (use version=v3 or greater)",
            ));
        }
        Ok(())
    }

    fn check_combinations(&self) -> Result<()> {
        let is_v2 = self.version == Version::V2;
        let is_extended = self.geometry.is_extended_l2();
        if self.preallocation != PreallocMode::Off && self.backing.is_some() && !is_extended && !self.data_file_raw {
            return Err(invalid(
                "Backing file and preallocation can only be used at the same time if extended_l2 is on",
            ));
        }
        if is_v2 && self.lazy_refcounts {
            return Err(invalid(
                "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)",
            ));
        }
        if is_v2 && self.geometry.refcount_order() != REFCOUNT_ORDER_V2 {
            return Err(invalid(
                "Different refcount widths than 16 bits require compatibility level 1.1 or above \
                 (use version=v3 or greater)",
            ));
        }
        self.check_data_file()?;
        if is_v2 && self.compression != CompressionType::Zlib {
            return Err(invalid(
                "Non-zlib compression type is only supported with compatibility level 1.1 and above \
                 (use version=v3 or greater)",
            ));
        }
        if let Some(backing) = &self.backing
            && u64::try_from(backing.name.len()).unwrap_or(u64::MAX) > u64::from(BACKING_NAME_BYTES_MAX)
        {
            return Err(backing.error(invalid("Invalid argument")));
        }
        Ok(())
    }
}

/// The metadata of an image whose data file can be read by itself has to agree with that file, also where nothing was
/// written yet.
fn with_all_mapped(preallocation: PreallocMode, data_file_raw: bool) -> PreallocMode {
    if data_file_raw && preallocation == PreallocMode::Off { PreallocMode::Metadata } else { preallocation }
}

fn parse_version(text: &str) -> Result<Version> {
    match text {
        "0.10" | "v2" => Ok(Version::V2),
        "1.1" | "v3" => Ok(Version::V3),
        _ => Err(invalid(format!("Parameter 'version' does not accept value '{text}'"))),
    }
}

fn parse_compression(text: &str) -> Option<CompressionType> {
    [CompressionType::Zlib, CompressionType::Zstd].into_iter().find(|kind| kind.name() == text)
}

/// Takes a word; `shown` is what the reference calls the option when it refuses a value.
fn take_word<T>(
    options: &mut Options,
    name: &str,
    shown: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>> {
    let Some(text) = options.take_str(name) else { return Ok(None) };
    let refused = || invalid(format!("Parameter '{shown}' does not accept value '{text}'"));
    parse(&text).map(Some).ok_or_else(refused)
}

fn geometry(cluster_size: u64, refcount_bits: u64, extended_l2: bool, version: Version) -> Result<Geometry> {
    if extended_l2 && version < Version::V3 {
        return Err(invalid(
            "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)",
        ));
    }
    let log2 = |value: u64| value.is_power_of_two().then(|| value.trailing_zeros());
    let cluster_bits = log2(cluster_size).filter(|bits| Geometry::new(*bits, 0).is_some());
    let cluster_bits =
        cluster_bits.ok_or_else(|| invalid("Cluster size must be a power of two between 512 and 2048k"))?;
    if extended_l2 && Geometry::new(cluster_bits, 0).and_then(Geometry::with_extended_l2).is_none() {
        return Err(invalid("Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"));
    }
    let plain = log2(refcount_bits)
        .and_then(|order| Geometry::new(cluster_bits, order))
        .ok_or_else(|| invalid("Refcount width must be a power of two and may not exceed 64 bits"))?;
    Ok(plain.with_extended_l2().filter(|_| extended_l2).unwrap_or(plain))
}

fn take_backing(options: &mut Options, context: &OpenContext) -> Result<Option<BackingLink>> {
    let format = options.take_str("backing_fmt");
    if let Some(format) = &format
        && context.registry().driver(format).is_none()
    {
        return Err(invalid(format!("Parameter 'backing-fmt' does not accept value '{format}'")));
    }
    match options.take_str("backing_file") {
        Some(name) => Ok(Some(BackingLink { name, format })),
        None if format.is_some() => Err(invalid("Backing format cannot be used without backing file")),
        None => Ok(None),
    }
}

fn invalid(message: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
