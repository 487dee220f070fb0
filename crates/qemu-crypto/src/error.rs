//! What can be wrong. The texts are the reference's where it has one.

use thiserror::Error;

/// Short for a result with a [`CryptoError`].
pub type Result<T> = std::result::Result<T, CryptoError>;

/// What class an error belongs to, for those who have classes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// What the user asked for makes no sense.
    Argument,
    /// What the image wants does not exist here.
    Unsupported,
    /// The image is damaged.
    Damaged,
    /// The passphrase is wrong, or an operation was refused to protect data.
    Refused,
    /// The system failed.
    System,
}

/// An error of this crate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CryptoError {
    #[error("Unable to read random bytes: {reason}")]
    Random { reason: String },

    // Options.
    #[error("Parameter '{option}' does not accept value '{value}'")]
    OptionValue { option: &'static str, value: String },
    #[error("Parameter '{prefix}key-secret' is required for cipher")]
    KeySecretMissing { prefix: &'static str },
    #[error("Algorithm '{name}' not supported")]
    CipherNotSupported { name: String },
    #[error("Algorithm '{name}' with key size {key_bytes} bytes not supported")]
    CipherKeyNotSupported { name: String, key_bytes: u32 },
    #[error("Cipher mode '{name}' not supported")]
    ModeNotSupported { name: String },
    #[error("Hash algorithm '{name}' not supported")]
    HashNotSupported { name: String },
    #[error("IV generator '{name}' not supported")]
    IvGenNotSupported { name: String },
    #[error("No AES cipher with key size {bytes} available")]
    EssivKeySize { bytes: usize },
    #[error("PBKDF iterations {iterations} too large to scale: Numerical result out of range")]
    IterationsScale { iterations: u64 },
    #[error("PBKDF iterations {iterations} larger than 4294967295: Numerical result out of range")]
    IterationsTooMany { iterations: u64 },

    // Secrets.
    #[error("Either 'file' or 'data' must be provided")]
    SecretWithoutData,
    #[error("'file' and 'data' are mutually exclusive")]
    SecretDataTwice,
    #[error("Unable to read {file}: Failed to open file “{file}”: {reason}")]
    SecretFile { file: String, reason: String },
    #[error("attempt to add duplicate property '{id}' to object (type 'container')")]
    SecretDuplicate { id: String },
    #[error("No secret with id '{id}'")]
    SecretUnknown { id: String },
    #[error("Data from secret {id} is not valid UTF-8")]
    SecretNotText { id: String },
    #[error("Key should be 32 bytes in length")]
    SecretKeyLen,
    #[error("IV is required to decrypt secret")]
    SecretIvMissing,
    #[error("IV should be 16 bytes in length not {len}")]
    SecretIvLen { len: usize },
    #[error("Length {len} must be a multiple of block size 16")]
    SecretDataLen { len: usize },
    #[error("Incorrect number of padding bytes ({count}) found on decrypted data")]
    SecretPadding { count: u8 },
    #[error("Base64 data contains invalid characters")]
    Base64,

    // The LUKS header.
    #[error("Volume is not in LUKS format")]
    NotLuks,
    #[error("LUKS version {version} is not supported")]
    LuksVersion { version: u16 },
    #[error("LUKS header is truncated")]
    LuksTruncated,
    #[error("LUKS header {field} is not NUL terminated")]
    LuksText { field: &'static str },
    #[error("LUKS header {field} is not text")]
    LuksTextEncoding { field: &'static str },
    #[error("Unexpected cipher mode string format '{mode}'")]
    LuksModeFormat { mode: String },
    #[error("Missing IV generator hash specification")]
    LuksIvHashMissing,
    #[error("LUKS payload is overlapping with the header")]
    LuksPayloadInHeader,
    #[error("LUKS key iteration count is zero")]
    LuksNoIterations,
    #[error("LUKS key iteration count {iterations} is larger than {most}")]
    LuksIterations { iterations: u32, most: u32 },
    #[error("Keyslot {slot} is corrupted (stripes {stripes} != 4000)")]
    SlotStripes { slot: usize, stripes: u32 },
    #[error("Keyslot {slot} state (active/disable) is corrupted")]
    SlotState { slot: usize },
    #[error("Keyslot {slot} iteration count is zero")]
    SlotNoIterations { slot: usize },
    #[error("Keyslot {slot} iteration count {iterations} is larger than {most}")]
    SlotIterations { slot: usize, iterations: u32, most: u32 },
    #[error("Keyslot {slot} is overlapping with the LUKS header")]
    SlotInHeader { slot: usize },
    #[error("Keyslot {slot} is overlapping with the encrypted payload")]
    SlotInPayload { slot: usize },
    #[error("Keyslots {slot} and {other} are overlapping in the header")]
    SlotsOverlap { slot: usize, other: usize },
    #[error("Keyslot {slot} is truncated")]
    SlotTruncated { slot: usize },
    #[error("Invalid password, cannot unlock any keyslot")]
    WrongPassphrase,

    // Changing key slots.
    #[error("'new-secret' is required to activate a keyslot")]
    NewSecretMissing,
    #[error("'{name}' must not be given when {when} keyslots")]
    AmendUnexpected { name: &'static str, when: &'static str },
    #[error("Invalid keyslot {slot} specified, must be between 0 and 7")]
    AmendSlot { slot: i64 },
    #[error("Can't add a keyslot - all keyslots are in use")]
    AmendFull,
    #[error("Refusing to overwrite active keyslot {slot} - please erase it first")]
    AmendActive { slot: usize },
    #[error("Given keyslot {slot} doesn't contain the given old password for erase operation")]
    EraseOtherPassphrase { slot: usize },
    #[error("Given keyslot {slot} is already erased (inactive) ")]
    EraseInactive { slot: usize },
    #[error(
        "Attempt to erase the only active keyslot {slot} which will erase all the data in the image irreversibly - \
         refusing operation"
    )]
    EraseLast { slot: usize },
    #[error("No keyslots match given (old) password for erase operation")]
    EraseNoMatch,
    #[error(
        "All the active keyslots match the (old) password that was given and erasing them will erase all the data in \
         the image irreversibly - refusing operation"
    )]
    EraseAll,
    #[error(
        "To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be given"
    )]
    EraseNothing,
}

impl CryptoError {
    /// The class of this error.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Random { .. } | Self::SecretFile { .. } => ErrorClass::System,
            Self::CipherNotSupported { .. }
            | Self::CipherKeyNotSupported { .. }
            | Self::ModeNotSupported { .. }
            | Self::HashNotSupported { .. }
            | Self::IvGenNotSupported { .. }
            | Self::EssivKeySize { .. }
            | Self::LuksVersion { .. } => ErrorClass::Unsupported,
            Self::WrongPassphrase
            | Self::AmendActive { .. }
            | Self::EraseOtherPassphrase { .. }
            | Self::EraseLast { .. }
            | Self::EraseAll
            | Self::EraseNoMatch => ErrorClass::Refused,
            Self::NotLuks
            | Self::LuksTruncated
            | Self::LuksText { .. }
            | Self::LuksTextEncoding { .. }
            | Self::LuksModeFormat { .. }
            | Self::LuksIvHashMissing
            | Self::LuksPayloadInHeader
            | Self::LuksNoIterations
            | Self::LuksIterations { .. }
            | Self::SlotStripes { .. }
            | Self::SlotState { .. }
            | Self::SlotNoIterations { .. }
            | Self::SlotIterations { .. }
            | Self::SlotInHeader { .. }
            | Self::SlotInPayload { .. }
            | Self::SlotsOverlap { .. }
            | Self::SlotTruncated { .. } => ErrorClass::Damaged,
            _ => ErrorClass::Argument,
        }
    }
}
