//! Changing key slots: a passphrase more, or a passphrase less.

use std::ops::Range;

use super::header::{HEADER_BYTES, LuksHeader, SALT_BYTES};
use super::slots::{SLOTS, SlotIndex};
use super::{DEFAULT_ITER_TIME_MS, ERASE_ROUNDS};
use crate::bytes::SecretBytes;
use crate::error::{CryptoError, Result};
use crate::secret::SecretStore;

/// What slots shall become. QEMU: `QCryptoBlockLUKSKeyslotState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// One shall hold the master key.
    Active,
    /// They shall be erased.
    Inactive,
}

impl SlotState {
    /// The value of the option `state`.
    ///
    /// # Errors
    /// There is no such state.
    pub fn from_option(name: &str) -> Result<Self> {
        match name {
            "active" => Ok(Self::Active),
            "inactive" => Ok(Self::Inactive),
            _ => Err(CryptoError::OptionValue { option: "state", value: name.to_owned() }),
        }
    }
}

/// What shall change. QEMU: `QCryptoBlockAmendOptionsLUKS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmendOptions {
    /// `state`.
    pub state: SlotState,
    /// `new-secret`: the secret with the passphrase to add.
    pub new_secret: Option<String>,
    /// `old-secret`: the secret with the passphrase to erase.
    pub old_secret: Option<String>,
    /// `keyslot`: a slot's number.
    pub keyslot: Option<i64>,
    /// `iter-time`, in milliseconds.
    pub iter_time_ms: Option<u64>,
    /// `secret`: the secret with a passphrase that is there already.
    pub secret: Option<String>,
}

/// The key material of the slots that are active, as read from the image.
#[derive(Clone, Debug, Default)]
pub struct Materials {
    slots: [Vec<u8>; SLOTS],
}

impl Materials {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the material of a slot: what is stored in [`LuksHeader::material_range`].
    pub fn insert(&mut self, slot: SlotIndex, bytes: Vec<u8>) {
        self.slots[slot.get()] = bytes;
    }

    fn get(&self, slot: SlotIndex) -> &[u8] {
        &self.slots[slot.get()]
    }
}

/// A step of a change; the caller does them in order.
#[derive(Clone, Debug)]
pub enum AmendStep {
    /// Write `bytes` at `offset` from the start of the header.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Fill this range with new random bytes.
    Scramble(Range<u64>),
    /// Everything before has to be durable before anything that follows.
    Flush,
}

impl LuksHeader {
    /// Where the key material of a slot is, in bytes from the start of the header.
    #[must_use]
    pub fn material_range(&self, slot: SlotIndex) -> Range<u64> {
        let start = self.slot(slot).material_offset();
        start..start + u64::try_from(self.material_len()).unwrap_or(u64::MAX)
    }

    /// Takes the master key out of any slot that `passphrase` fits.
    ///
    /// # Errors
    /// It fits none.
    pub fn unlock(&self, materials: &Materials, passphrase: &[u8]) -> Result<SecretBytes> {
        for slot in self.active_slots() {
            if let Some(key) = self.unlock_slot(slot, materials.get(slot), passphrase)? {
                return Ok(key);
            }
        }
        Err(CryptoError::WrongPassphrase)
    }

    /// Changes slots in memory, and returns how to change the image. `opened_with` is the secret that the image was
    /// opened with; `force` allows what destroys the data for good. Deriving keys takes long.
    ///
    /// # Errors
    /// The options make no sense, a passphrase is wrong, or the last passphrase would be lost.
    pub fn amend(
        &mut self,
        materials: &Materials,
        options: &AmendOptions,
        secrets: &SecretStore,
        opened_with: Option<&str>,
        force: bool,
    ) -> Result<Vec<AmendStep>> {
        let change = Change { materials, options, secrets, force };
        match options.state {
            SlotState::Active => self.add(change, opened_with),
            SlotState::Inactive => self.erase(change),
        }
    }

    fn add(&mut self, change: Change<'_>, opened_with: Option<&str>) -> Result<Vec<AmendStep>> {
        let Change { materials, options, secrets, force } = change;
        let new_secret = options.new_secret.as_deref().ok_or(CryptoError::NewSecretMissing)?;
        if options.old_secret.is_some() {
            return Err(CryptoError::AmendUnexpected { name: "old-secret", when: "activating" });
        }
        let slot = match options.keyslot {
            Some(slot) => SlotIndex::parse(slot)?,
            None => SlotIndex::all().find(|slot| !self.slot(*slot).active).ok_or(CryptoError::AmendFull)?,
        };
        if !force && self.slot(slot).active {
            return Err(CryptoError::AmendActive { slot: slot.get() });
        }
        let secret = options.secret.as_deref().or(opened_with);
        let secret = secret.ok_or(CryptoError::KeySecretMissing { prefix: "" })?;
        let key = self.unlock(materials, secrets.passphrase(secret)?.as_ref())?;
        let new_passphrase = secrets.passphrase(new_secret)?;
        let iter_time = options.iter_time_ms.unwrap_or(DEFAULT_ITER_TIME_MS);
        let material = self.fill_slot(slot, &key, new_passphrase.as_ref(), iter_time)?;
        // The header says that the slot is good, so it comes after the slot.
        let write = AmendStep::Write { offset: material.offset, bytes: material.bytes };
        Ok(vec![write, AmendStep::Flush, self.write_step(), AmendStep::Flush])
    }

    fn erase(&mut self, change: Change<'_>) -> Result<Vec<AmendStep>> {
        let Change { materials, options, secrets, force } = change;
        let unexpected = [
            ("new-secret", options.new_secret.is_some()),
            ("iter-time", options.iter_time_ms.is_some()),
            ("secret", options.secret.is_some()),
        ];
        if let Some((name, _)) = unexpected.into_iter().find(|(_, given)| *given) {
            return Err(CryptoError::AmendUnexpected { name, when: "erasing" });
        }
        let old = options.old_secret.as_deref().map(|id| secrets.passphrase(id)).transpose()?;
        let old = old.as_ref().map(AsRef::as_ref);
        match (options.keyslot, old) {
            (Some(slot), old) => {
                let slot = SlotIndex::parse(slot)?;
                self.check_erase(slot, materials, old, force)?;
                Ok(self.erase_slots(&[slot]))
            }
            (None, Some(old)) => {
                let slots = self.slots_with(materials, old)?;
                if !force && slots.len() == self.active_slots().count() {
                    return Err(CryptoError::EraseAll);
                }
                Ok(self.erase_slots(&slots))
            }
            (None, None) => Err(CryptoError::EraseNothing),
        }
    }

    /// Whether a slot that the user named may be erased.
    fn check_erase(&self, slot: SlotIndex, materials: &Materials, old: Option<&[u8]>, force: bool) -> Result<()> {
        if let Some(old) = old
            && self.unlock_slot(slot, materials.get(slot), old)?.is_none()
        {
            return Err(CryptoError::EraseOtherPassphrase { slot: slot.get() });
        }
        if !force && !self.slot(slot).active {
            return Err(CryptoError::EraseInactive { slot: slot.get() });
        }
        if !force && self.active_slots().count() == 1 {
            return Err(CryptoError::EraseLast { slot: slot.get() });
        }
        Ok(())
    }

    /// The active slots that a passphrase unlocks.
    fn slots_with(&self, materials: &Materials, passphrase: &[u8]) -> Result<Vec<SlotIndex>> {
        let mut found = Vec::new();
        for slot in self.active_slots() {
            if self.unlock_slot(slot, materials.get(slot), passphrase)?.is_some() {
                found.push(slot);
            }
        }
        if found.is_empty() { Err(CryptoError::EraseNoMatch) } else { Ok(found) }
    }

    /// Erases slots in memory. In the image the header comes first: the material may be gone only when nothing refers
    /// to it any more. It is then overwritten many times, for disks that keep what was overwritten.
    fn erase_slots(&mut self, slots: &[SlotIndex]) -> Vec<AmendStep> {
        for slot in slots {
            let info = &mut self.slots[slot.get()];
            info.active = false;
            info.iterations = 0;
            info.salt = [0; SALT_BYTES];
        }
        let mut steps = vec![self.write_step(), AmendStep::Flush];
        for slot in slots {
            for _ in 0..ERASE_ROUNDS {
                steps.push(AmendStep::Scramble(self.material_range(*slot)));
                steps.push(AmendStep::Flush);
            }
        }
        steps
    }

    fn write_step(&self) -> AmendStep {
        let bytes: [u8; HEADER_BYTES] = self.serialize();
        AmendStep::Write { offset: 0, bytes: bytes.to_vec() }
    }
}

/// What a change is made of.
#[derive(Clone, Copy)]
struct Change<'a> {
    materials: &'a Materials,
    options: &'a AmendOptions,
    secrets: &'a SecretStore,
    force: bool,
}
