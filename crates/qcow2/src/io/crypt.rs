//! What is done to guest data on its way to the storage and back, and how its sectors are numbered.
//!
//! Requests are widened to whole sectors before they come here ([`BlockLimits`](qemu_block::types::BlockLimits)).

use qemu_block::aio::Services;
use qemu_block::crypt::SectorCrypt;
use qemu_block::error::{BlockError, ErrorKind, Result};
use qemu_crypto::cipher::{SECTOR_BYTES, SectorCipher};
use qemu_util::buf::{IoVec, IoVecMut};

use super::data::Place;

/// Zeros that are encrypted and written at a time.
pub(super) const ZERO_CHUNK_BYTES: u64 = 1 << 20;

/// What is done to guest data.
#[derive(Debug)]
pub(crate) enum DataCipher {
    /// Nothing.
    Plain,
    /// It is encrypted.
    Key(Crypt),
    /// It is encrypted, and nobody asked for it when the image was opened.
    Locked,
}

/// What the sectors are numbered by. QEMU: `crypt_physical_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectorNumbers {
    /// Their place on the virtual disk: legacy AES.
    Guest,
    /// Their place in the image file: LUKS.
    Host,
}

/// A cipher with its key, and what it numbers sectors by.
#[derive(Debug)]
pub(crate) struct Crypt {
    sectors: SectorCrypt,
    numbers: SectorNumbers,
}

impl Crypt {
    pub(crate) fn new(cipher: SectorCipher, numbers: SectorNumbers, services: Services) -> Self {
        Self { sectors: SectorCrypt::new(cipher, services), numbers }
    }

    /// The number of the sector that begins at `place`.
    fn sector(&self, place: Place) -> Result<u64> {
        let offset = match self.numbers {
            SectorNumbers::Guest => place.guest,
            SectorNumbers::Host => place.host.get(),
        };
        if !offset.is_multiple_of(SECTOR_BYTES as u64) {
            let text = "qcow2: a request for encrypted data does not start at a sector";
            return Err(BlockError::new(ErrorKind::BadRequest, text));
        }
        Ok(offset / SECTOR_BYTES as u64)
    }

    /// Decrypts what was read from `place`: whole sectors.
    pub(super) async fn decrypt(&self, place: Place, buf: IoVecMut) -> Result<IoVecMut> {
        Ok(self.sectors.decrypt(self.sector(place)?, buf).await)
    }

    /// Encrypts a copy of `data` for `place`. What is missing in the last sector are zeros.
    pub(super) async fn encrypt(&self, place: Place, data: &IoVec) -> Result<IoVec> {
        Ok(self.sectors.encrypt(self.sector(place)?, data).await)
    }

    /// Zeros, encrypted for `place`.
    pub(super) async fn encrypted_zeros(&self, place: Place, len: usize) -> Result<IoVec> {
        Ok(self.sectors.encrypted_zeros(self.sector(place)?, len).await)
    }
}
