//! What a new image needs to be encrypted. QEMU: `qcow2_set_up_encryption` (block/qcow2.c).

use qemu_block::aio::Services;
use qemu_block::crypt::LuksCreateOptions;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::options::Options;
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::error::CryptoError;
use qemu_crypto::luks::{CreateOptions, LuksHeader, NewLuks};
use qemu_crypto::secret::SecretStore;

use crate::format::encryption::{Encryption, LuksPlace};
use crate::units::HostOffset;

/// What the creation options `encrypt.*` and `encryption` ask for.
#[derive(Clone, Debug)]
pub(crate) enum EncryptionSettings {
    Aes,
    Luks { options: CreateOptions, passphrase: SecretBytes, len: u64 },
}

impl EncryptionSettings {
    /// Takes the options out of `options`.
    ///
    /// # Errors
    /// With the reference's text, when values are wrong or do not go together, or there is no passphrase.
    pub(crate) fn take(options: &mut Options, secrets: &SecretStore) -> Result<Option<Self>> {
        let is_aes_by_alias = options.take_bool("encryption")?.unwrap_or(false);
        let mut ours = options.take_sub("encrypt");
        let format = match ours.take_str("format") {
            Some(_) if is_aes_by_alias => {
                return Err(invalid("'encrypt.format' and its alias 'encryption' can't be used at the same time"));
            }
            None if is_aes_by_alias => "aes".to_owned(),
            Some(format) => format,
            None if ours.is_empty() => return Ok(None),
            None => return Err(invalid("Parameter 'encrypt.format' is missing")),
        };
        let luks = LuksCreateOptions::take(&mut ours, ITER_TIME)?;
        let key_secret = ours.take_str("key-secret");
        match format.as_str() {
            "aes" => {
                if let Some(name) = luks.first_given() {
                    return Err(invalid(format!("Parameter 'encrypt.{name}' is unexpected")));
                }
                // The key is the passphrase, so there is nothing to be made of it now; but it must be there.
                passphrase(key_secret, secrets).map(|_| Some(Self::Aes))
            }
            "luks" => {
                let options = luks.parse()?;
                let passphrase = passphrase(key_secret, secrets)?;
                let len = options.payload_offset()?;
                Ok(Some(Self::Luks { options, passphrase, len }))
            }
            _ => Err(invalid(format!("Parameter 'format' does not accept value '{format}'"))),
        }
    }

    /// Bytes of the encryption header.
    pub(crate) fn header_len(&self) -> u64 {
        match self {
            Self::Aes => 0,
            Self::Luks { len, .. } => *len,
        }
    }

    /// Makes keys, which takes long.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) async fn make(&self, services: &Services) -> Result<NewEncryption> {
        let Self::Luks { options, passphrase, .. } = self.clone() else { return Ok(NewEncryption::Aes) };
        let made = services.cpu.run(move || LuksHeader::create(&options, passphrase.as_ref())).await?;
        Ok(NewEncryption::Luks(Box::new(made)))
    }

    /// What the header of the image says; the encryption header starts at `offset`.
    pub(crate) fn stored(&self, offset: HostOffset) -> Encryption {
        match self {
            Self::Aes => Encryption::Aes,
            Self::Luks { len, .. } => Encryption::Luks(LuksPlace { offset, len: *len }),
        }
    }
}

const ITER_TIME: &str = "Parameter 'encrypt.iter-time' expects a number";

/// The encryption of a new image, ready to be written.
#[derive(Debug)]
pub(crate) enum NewEncryption {
    Aes,
    Luks(Box<NewLuks>),
}

impl NewEncryption {
    /// What to write, and where from the start of the encryption header.
    pub(crate) fn writes(&self) -> Vec<(u64, Vec<u8>)> {
        let Self::Luks(new) = self else { return Vec::new() };
        vec![(new.material.offset, new.material.bytes.clone()), (0, new.header.serialize().to_vec())]
    }
}

fn passphrase(key_secret: Option<String>, secrets: &SecretStore) -> Result<SecretBytes> {
    let id = key_secret.ok_or(CryptoError::KeySecretMissing { prefix: "encrypt." })?;
    Ok(secrets.passphrase(&id)?)
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
