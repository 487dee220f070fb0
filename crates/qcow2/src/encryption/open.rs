//! Unlocking an image when it is opened. QEMU: `qcow2_do_open` (block/qcow2.c).

use std::sync::Arc;

use qemu_block::crypt::try_slot;
use qemu_block::driver::OpenRequest;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::cipher::SectorCipher;
use qemu_crypto::error::CryptoError;
use qemu_crypto::luks::LuksHeader;
use qemu_util::sync::CoMutex;

use super::{Encryption, Method, area};
use crate::format::encryption::{Encryption as Stored, LuksPlace};
use crate::format::header::Header;
use crate::io::crypt::{Crypt, DataCipher, SectorNumbers};

/// Takes the options `encrypt.*` and unlocks the image, if it is encrypted. An image that is opened only to look at its
/// metadata stays locked, and needs no passphrase.
///
/// # Errors
/// The options do not fit the image, there is no passphrase, or it is wrong.
pub(crate) async fn open(
    request: &mut OpenRequest,
    storage: &Node,
    header: &Header,
) -> Result<(Option<Encryption>, DataCipher)> {
    let mut options = request.options.take_sub("encrypt");
    let format = options.take_str("format");
    let Some(stored) = header.encryption else {
        return match format {
            None => Ok((None, DataCipher::Plain)),
            Some(format) => {
                Err(invalid(format!("No encryption in image header, but options specified format '{format}'")))
            }
        };
    };
    let name = stored.name();
    if let Some(format) = format.filter(|format| format != name) {
        let text = format!("Header reported '{name}' encryption format but options specify '{format}'");
        return Err(invalid(text));
    }
    let key_secret = options.take_str("key-secret");
    if let Some(key) = options.keys().next() {
        return Err(invalid(format!("Parameter '{key}' is unexpected")));
    }
    let is_locked = request.flags.contains(OpenFlags::NO_IO);
    let passphrase = match &key_secret {
        _ if is_locked => None,
        None => return Err(CryptoError::KeySecretMissing { prefix: "encrypt." }.into()),
        Some(id) => Some(request.context.secrets().passphrase(id)?),
    };
    let services = request.context.services().clone();
    let unlocking = Unlocking { storage, passphrase, services: services.clone() };
    let (method, cipher) = match stored {
        Stored::Aes => unlocking.aes()?,
        Stored::Luks(place) => unlocking.luks(place).await?,
    };
    let secrets = Arc::clone(request.context.secrets());
    Ok((Some(Encryption { method, secrets, key_secret, services }), cipher))
}

struct Unlocking<'a> {
    storage: &'a Node,
    /// None if the image is to stay locked.
    passphrase: Option<SecretBytes>,
    services: qemu_block::aio::Services,
}

impl Unlocking<'_> {
    fn aes(self) -> Result<(Method, DataCipher)> {
        let Some(passphrase) = self.passphrase else { return Ok((Method::Aes, DataCipher::Locked)) };
        let cipher = SectorCipher::legacy_aes(passphrase.as_ref())?;
        let crypt = Crypt::new(cipher, SectorNumbers::Guest, self.services);
        Ok((Method::Aes, DataCipher::Key(crypt)))
    }

    async fn luks(mut self, place: LuksPlace) -> Result<(Method, DataCipher)> {
        let header = area::read_header(self.storage, place).await?;
        let cipher = match self.passphrase.take() {
            None => DataCipher::Locked,
            Some(passphrase) => {
                let cipher = self.luks_cipher(place, &header, passphrase).await?;
                DataCipher::Key(Crypt::new(cipher, SectorNumbers::Host, self.services))
            }
        };
        Ok((Method::Luks { place, header: Box::new(CoMutex::new(header)) }, cipher))
    }

    /// Tries all slots. Deriving keys takes long, so other requests go on meanwhile.
    async fn luks_cipher(
        &self,
        place: LuksPlace,
        header: &LuksHeader,
        passphrase: SecretBytes,
    ) -> Result<SectorCipher> {
        let shared = Arc::new((header.clone(), passphrase));
        for slot in header.active_slots() {
            let material = area::read_material(self.storage, place, header, slot).await?;
            if let Some(cipher) = try_slot(&self.services, &shared, slot, material).await? {
                return Ok(cipher);
            }
        }
        Err(CryptoError::WrongPassphrase.into())
    }
}

fn invalid(text: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, text)
}
