//! New images. QEMU: `block_crypto_co_create_opts_luks` (block/crypto.c).

use std::sync::Arc;

use qemu_block::crypt::LuksCreateOptions;
use qemu_block::driver::CreateRequest;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::options::{CreateOption, OptionKind, Options};
use qemu_block::types::{OpenFlags, PreallocMode};
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::error::CryptoError;
use qemu_crypto::luks::{CreateOptions, LuksHeader, NewLuks};
use qemu_util::buf::IoBuf;

use crate::area;
use crate::driver::option;

/// The options of `create -f luks`.
pub(crate) static CREATE_OPTIONS: [CreateOption; 9] = [
    option("size", OptionKind::Size, "Virtual disk size"),
    option("key-secret", OptionKind::Text, "ID of the secret that provides the keyslot passphrase"),
    option("cipher-alg", OptionKind::Text, "Name of encryption cipher algorithm"),
    option("cipher-mode", OptionKind::Text, "Name of encryption cipher mode"),
    option("ivgen-alg", OptionKind::Text, "Name of IV generator algorithm"),
    option("ivgen-hash-alg", OptionKind::Text, "Name of IV generator hash algorithm"),
    option("hash-alg", OptionKind::Text, "Name of encryption hash algorithm"),
    option("iter-time", OptionKind::Number, "Time to spend in PBKDF in milliseconds"),
    option("detached-header", OptionKind::Bool, "Create a detached LUKS header"),
];

const SECTOR_LEN: u64 = 512;

/// What the options ask for.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Length of the disk as it was given.
    pub(crate) size: u64,
    pub(crate) luks: CreateOptions,
    /// Where the payload will start.
    pub(crate) payload_offset: u64,
    pub(crate) key_secret: String,
    preallocation: PreallocMode,
}

impl Settings {
    /// Takes the options out of `options`.
    ///
    /// # Errors
    /// With the reference's text, when values are wrong or do not go together.
    pub(crate) fn take(options: &mut Options) -> Result<Self> {
        let size = options.take_size("size")?.unwrap_or(0);
        let preallocation = options.take_enum("preallocation", PreallocMode::parse)?.unwrap_or_default();
        let luks = LuksCreateOptions::take(options, "Parameter 'iter-time' expects a number")?.parse()?;
        if options.take("detached-header").is_some() {
            // The reference lists the option, and makes such headers through its monitor only.
            return Err(invalid("Parameter 'detached-header' is unexpected"));
        }
        let key_secret = options.take_str("key-secret").ok_or(CryptoError::KeySecretMissing { prefix: "" })?;
        let payload_offset = luks.payload_offset()?;
        Ok(Self { size, luks, payload_offset, key_secret, preallocation })
    }

    /// Length of the file.
    fn file_len(&self) -> Result<u64> {
        let too_large = || BlockError::from_errno(libc::EFBIG, "The requested file size is too large");
        let payload = self.size.checked_next_multiple_of(SECTOR_LEN);
        let len = payload.and_then(|len| len.checked_add(self.payload_offset));
        len.filter(|len| i64::try_from(*len).is_ok()).ok_or_else(too_large)
    }
}

/// Creates an image.
///
/// # Errors
/// With the reference's text when options are wrong, before anything is touched. Otherwise what creating, writing and
/// closing the file report; the file is removed then.
pub(crate) async fn create(request: CreateRequest) -> Result<()> {
    let CreateRequest { filename, mut options, context } = request;
    let settings = Settings::take(&mut options)?;
    let len = settings.file_len()?;
    let passphrase = context.secrets().passphrase(&settings.key_secret)?;
    let new = make(settings.luks.clone(), passphrase, context.services()).await?;
    options.set("size", 0u64);
    context.create_storage(&filename, options).await?;
    let file = context.open_protocol(&filename, Options::new(), OpenFlags::WRITE | OpenFlags::RESIZE).await?;
    let written = write(&file, &new, len, settings.preallocation).await;
    let closed = file.close().await;
    let result = written.and(closed);
    if result.is_err() {
        remove(&file);
    }
    result
}

/// Makes keys, which takes long.
async fn make(
    options: CreateOptions,
    passphrase: SecretBytes,
    services: &qemu_block::aio::Services,
) -> Result<NewLuks> {
    Ok(services.cpu.run(move || LuksHeader::create(&options, passphrase.as_ref())).await?)
}

/// Writes the header last: it says that the key slot is good.
async fn write(file: &Arc<Node>, new: &NewLuks, len: u64, preallocation: PreallocMode) -> Result<()> {
    // There is no metadata besides the header, so there is none to allocate.
    let mode = if preallocation == PreallocMode::Metadata { PreallocMode::Off } else { preallocation };
    file.truncate(len, mode).await?;
    area::write(file, new.material.offset, IoBuf::copy_of(&new.material.bytes)).await?;
    area::write(file, 0, IoBuf::copy_of(&new.header.serialize())).await?;
    file.flush().await
}

/// Removes the regular file that was just created; failing to is no further news to the user.
fn remove(file: &Arc<Node>) {
    let path = file.filename();
    if file.driver().name() == "file" && std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        drop(std::fs::remove_file(path));
    }
}

fn invalid(text: &str) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
