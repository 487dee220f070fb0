//! Key slots: getting the master key out of one, and putting it into one.

use subtle::ConstantTimeEq;

use super::header::{DIGEST_BYTES, KeySlot, LuksHeader};
use super::{ITERATIONS_MIN, STRIPES};
use crate::afsplit;
use crate::bytes::{SecretBytes, fill_random};
use crate::cipher::{SECTOR_BYTES, SectorCipher};
use crate::error::{CryptoError, Result};
use crate::pbkdf;

/// Key slots of a header.
pub const SLOTS: usize = 8;

/// A key slot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotIndex(usize);

impl SlotIndex {
    /// Slot 0, which a new header uses.
    pub const FIRST: Self = Self(0);

    /// All of them in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// The slot of a number that somebody gave.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn parse(slot: i64) -> Result<Self> {
        let index = usize::try_from(slot).ok().filter(|index| *index < SLOTS);
        index.map(Self).ok_or(CryptoError::AmendSlot { slot })
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

/// Key material of a slot, to be written.
#[derive(Clone, Debug)]
pub struct Material {
    /// Where it belongs, in bytes from the start of the header.
    pub offset: u64,
    /// The bytes: split and encrypted.
    pub bytes: Vec<u8>,
}

impl LuksHeader {
    /// Length of every slot's key material, in whole sectors, in bytes.
    #[must_use]
    pub fn material_len(&self) -> usize {
        (self.key_len() * STRIPES).next_multiple_of(SECTOR_BYTES)
    }

    /// What the header says about a slot.
    #[must_use]
    pub fn slot(&self, slot: SlotIndex) -> &KeySlot {
        &self.slots[slot.get()]
    }

    /// Takes the master key out of an active slot, whose key material is `material`; nothing if the passphrase is not
    /// that slot's. This takes long: the slot's iterations say how long.
    ///
    /// # Errors
    /// There is less material than the slot has.
    pub fn unlock_slot(&self, slot: SlotIndex, material: &[u8], passphrase: &[u8]) -> Result<Option<SecretBytes>> {
        let info = self.slot(slot);
        if !info.active {
            return Ok(None);
        }
        let material = material.get(..self.material_len()).ok_or(CryptoError::SlotTruncated { slot: slot.get() })?;
        let mut split = SecretBytes::new(material.to_vec());
        self.slot_cipher(info, passphrase)?.decrypt(0, split.as_mut());
        let split = &split.as_ref()[..self.key_len() * STRIPES];
        let key = afsplit::merge(self.hash, split, self.key_len());
        Ok(self.is_master_key(&key).then_some(key))
    }

    /// Whether `key` is the master key.
    fn is_master_key(&self, key: &SecretBytes) -> bool {
        let digest = self.digest_of(key);
        digest.ct_eq(&self.digest).into()
    }

    /// The digest of a master key.
    pub(super) fn digest_of(&self, key: &SecretBytes) -> [u8; DIGEST_BYTES] {
        let mut digest = [0; DIGEST_BYTES];
        self.hash.pbkdf2(key.as_ref(), &self.salt, self.iterations, &mut digest);
        digest
    }

    /// The cipher of the payload.
    ///
    /// # Errors
    /// `key` is not from this header.
    pub fn sector_cipher(&self, key: &SecretBytes) -> Result<SectorCipher> {
        SectorCipher::new(&self.cipher, key.as_ref())
    }

    /// The cipher of a slot's key material.
    fn slot_cipher(&self, slot: &KeySlot, passphrase: &[u8]) -> Result<SectorCipher> {
        let mut key = SecretBytes::zeroed(self.key_len());
        self.hash.pbkdf2(passphrase, &slot.salt, slot.iterations, key.as_mut());
        SectorCipher::new(&self.cipher, key.as_ref())
    }

    /// Puts the master key into a slot, in memory; the caller writes the material, and then the header.
    ///
    /// # Errors
    /// There is no randomness, or the time asked for is too long.
    pub(super) fn fill_slot(
        &mut self,
        slot: SlotIndex,
        key: &SecretBytes,
        passphrase: &[u8],
        iter_time_ms: u64,
    ) -> Result<Material> {
        let rate = pbkdf::iterations_per_second(self.hash, self.key_len());
        let iterations = pbkdf::scale(rate, iter_time_ms, 1, ITERATIONS_MIN)?;
        let mut info = KeySlot { active: true, iterations, ..self.slot(slot).clone() };
        fill_random(&mut info.salt)?;
        let split = afsplit::split(self.hash, key.as_ref(), STRIPES)?;
        let mut bytes = SecretBytes::zeroed(self.material_len());
        for (to, from) in bytes.as_mut().iter_mut().zip(split.as_ref()) {
            *to = *from;
        }
        self.slot_cipher(&info, passphrase)?.encrypt(0, bytes.as_mut());
        let offset = info.material_offset();
        self.slots[slot.get()] = info;
        Ok(Material { offset, bytes: bytes.as_ref().to_vec() })
    }
}
