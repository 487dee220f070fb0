//! Encrypted images: unlocking them, and what there is to tell and to change about their keys.
//!
//! What happens to guest data is in [`io::crypt`](crate::io::crypt); the ciphers, and LUKS itself, are in
//! [`qemu_crypto`]. Compressed clusters and all metadata, bitmaps included, are not encrypted.

mod amend;
mod area;
mod create;
mod info;
mod open;

use std::sync::Arc;

use qemu_block::aio::Services;
use qemu_crypto::luks::LuksHeader;
use qemu_crypto::secret::SecretStore;
use qemu_util::sync::CoMutex;

use crate::format::encryption::LuksPlace;
pub(crate) use amend::take_slot_change;
pub(crate) use create::{EncryptionSettings, NewEncryption};
pub(crate) use open::open;

/// How an open image is encrypted.
#[derive(Debug)]
pub(crate) struct Encryption {
    method: Method,
    /// Where amending finds passphrases.
    secrets: Arc<SecretStore>,
    /// The secret that the image was opened with; none if it was opened without its key.
    key_secret: Option<String>,
    services: Services,
}

#[derive(Debug)]
enum Method {
    Aes,
    Luks {
        place: LuksPlace,
        /// As it is on disk. The lock is held while key slots are changed.
        header: Box<CoMutex<LuksHeader>>,
    },
}
