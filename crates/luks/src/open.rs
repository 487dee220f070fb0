//! Finding header and payload, and unlocking. QEMU: `block_crypto_open_generic` (block/crypto.c).

use std::sync::Arc;

use qemu_block::crypt::{SectorCrypt, try_slot};
use qemu_block::driver::OpenRequest;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_block::node::Node;
use qemu_block::types::OpenFlags;
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::cipher::SectorCipher;
use qemu_crypto::error::CryptoError;
use qemu_crypto::luks::LuksHeader;
use qemu_util::sync::CoMutex;

use crate::area;
use crate::image::{Keys, LuksImage, SECTOR_LEN};

/// Opens an image. One that is opened only to look at its metadata stays locked, and needs no passphrase.
///
/// # Errors
/// There is no valid header, no passphrase, or it is wrong.
pub(crate) async fn open(request: &mut OpenRequest) -> Result<LuksImage> {
    let missing = || BlockError::new(ErrorKind::InvalidArgument, "A block device must be specified for \"file\"");
    let storage = request.storage.clone().ok_or_else(missing)?;
    let detached = open_header(request).await?;
    let opened = open_with(request, storage, detached.clone()).await;
    if let (Err(_), Some(header)) = (&opened, detached) {
        // Nothing was written.
        drop(header.close().await);
    }
    opened
}

/// Opens the file of a detached header, if the options name one.
async fn open_header(request: &mut OpenRequest) -> Result<Option<Arc<Node>>> {
    if let Some(name) = request.options.take_str("header") {
        let text = format!("Cannot find device='{name}' nor node-name='{name}'");
        return Err(BlockError::new(ErrorKind::NotFound, text));
    }
    let options = request.options.take_sub("header");
    if options.is_empty() {
        return Ok(None);
    }
    // Like a data file, this is a file besides the one that has the format's name. It has no names in it that could lead
    // back to here.
    let node = request.context.open_data_file(None, None, options, request.flags).await?;
    Ok(Some(node))
}

async fn open_with(request: &mut OpenRequest, storage: Arc<Node>, detached: Option<Arc<Node>>) -> Result<LuksImage> {
    let key_secret = request.options.take_str("key-secret");
    let is_locked = request.flags.contains(OpenFlags::NO_IO);
    let secrets = Arc::clone(request.context.secrets());
    let services = request.context.services().clone();
    let with_header = detached.as_ref().unwrap_or(&storage);
    let passphrase = match &key_secret {
        _ if is_locked => None,
        // The reference looks for the secret before it reads anything.
        None => return Err(CryptoError::KeySecretMissing { prefix: "" }.into()),
        Some(id) => Some(id),
    };
    let header = area::read_header(with_header, detached.is_some()).await?;
    let crypt = match passphrase {
        None => None,
        Some(id) => {
            let cipher = unlock(request, with_header, &header, secrets.passphrase(id)?).await?;
            Some(SectorCrypt::new(cipher, services.clone()))
        }
    };
    let payload_offset = header.payload_offset();
    if payload_offset > storage.len().next_multiple_of(SECTOR_LEN) {
        let text = "Could not refresh total sector count: Input/output error";
        return Err(BlockError::new(ErrorKind::Truncated, text));
    }
    let keys = Keys { header: CoMutex::new(header), secrets, key_secret, services };
    Ok(LuksImage::new(storage, detached, payload_offset, request.flags, keys, crypt))
}

/// Tries all slots. Deriving keys takes long, so other requests go on meanwhile.
async fn unlock(
    request: &OpenRequest,
    node: &Arc<Node>,
    header: &LuksHeader,
    passphrase: SecretBytes,
) -> Result<SectorCipher> {
    let lock = Arc::new((header.clone(), passphrase));
    for slot in header.active_slots() {
        let material = area::read_material(node, header, slot).await?;
        if let Some(cipher) = try_slot(request.context.services(), &lock, slot, material).await? {
            return Ok(cipher);
        }
    }
    Err(CryptoError::WrongPassphrase.into())
}
