//! The header: bytes to validated values and back.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::slots::{SLOTS, SlotIndex};
use super::{FIRST_SLOT_OFFSET, ITERATIONS_MAX, STRIPES};
use crate::cipher::{CipherAlg, CipherMode, CipherSpec, IvGenAlg, SECTOR_BYTES};
use crate::error::{CryptoError, Result};
use crate::hash::HashAlg;

const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
const VERSION: u16 = 1;
const SLOT_ENABLED: u32 = 0x00ac_71f3;
const SLOT_DISABLED: u32 = 0x0000_dead;
const SECTOR: u64 = 512;
const _: () = assert!(SECTOR_BYTES == 512);

/// The header's length on disk, in bytes.
pub const HEADER_BYTES: usize = 592;

/// Bytes of a salt.
pub(super) const SALT_BYTES: usize = 32;
/// Bytes of the master key's digest.
pub(super) const DIGEST_BYTES: usize = 20;

/// The header exactly as on disk.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 6],
    version: U16,
    cipher_name: [u8; 32],
    cipher_mode: [u8; 32],
    hash_spec: [u8; 32],
    payload_sector: U32,
    key_bytes: U32,
    digest: [u8; DIGEST_BYTES],
    salt: [u8; SALT_BYTES],
    iterations: U32,
    uuid: [u8; 40],
    slots: [RawSlot; SLOTS],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSlot {
    state: U32,
    iterations: U32,
    salt: [u8; SALT_BYTES],
    material_sector: U32,
    stripes: U32,
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// A key slot as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// Whether it holds the master key.
    pub active: bool,
    /// Iterations of the key derivation.
    pub iterations: u32,
    /// Salt of the key derivation.
    pub(super) salt: [u8; SALT_BYTES],
    /// Where its key material is, in sectors.
    pub(super) material_sector: u32,
}

impl KeySlot {
    /// Where its key material is, in bytes from the start of the header.
    #[must_use]
    pub fn material_offset(&self) -> u64 {
        u64::from(self.material_sector) * SECTOR
    }
}

/// A validated header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuksHeader {
    pub(super) cipher: CipherSpec,
    pub(super) hash: HashAlg,
    /// The cipher mode as stored: more than is known about it may be there.
    pub(super) mode_text: String,
    pub(super) payload_sector: u32,
    pub(super) digest: [u8; DIGEST_BYTES],
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) iterations: u32,
    pub(super) uuid: [u8; 40],
    pub(super) slots: [KeySlot; SLOTS],
}

/// Whether `head`, the start of a file, looks like this format.
#[must_use]
pub fn probe(head: &[u8]) -> bool {
    head.starts_with(&MAGIC) && head.get(6..8) == Some(&VERSION.to_be_bytes())
}

impl LuksHeader {
    /// Parses and checks a header. Bytes after [`HEADER_BYTES`] are ignored.
    ///
    /// # Errors
    /// Anything is out of its range, or overlaps.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_before(bytes, false)
    }

    /// As [`LuksHeader::parse`], for a header in a file of its own, which no payload follows.
    ///
    /// # Errors
    /// As [`LuksHeader::parse`].
    pub fn parse_detached(bytes: &[u8]) -> Result<Self> {
        Self::parse_before(bytes, true)
    }

    fn parse_before(bytes: &[u8], is_detached: bool) -> Result<Self> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else { return Err(CryptoError::LuksTruncated) };
        raw.check(is_detached)?;
        raw.check_slots(is_detached)?;
        let mode_text = text("cipher mode", &raw.cipher_mode)?;
        let hash_name = text("hash spec", &raw.hash_spec)?;
        let cipher = parse_cipher(text("cipher name", &raw.cipher_name)?, mode_text, raw.key_bytes.get())?;
        Ok(Self {
            cipher,
            hash: HashAlg::from_header(hash_name)?,
            mode_text: mode_text.to_owned(),
            payload_sector: raw.payload_sector.get(),
            digest: raw.digest,
            salt: raw.salt,
            iterations: raw.iterations.get(),
            uuid: raw.uuid,
            slots: raw.slots.map(|slot| slot.parsed()),
        })
    }

    /// The header as it is stored.
    #[must_use]
    pub fn serialize(&self) -> [u8; HEADER_BYTES] {
        let raw = RawHeader {
            magic: MAGIC,
            version: U16::new(VERSION),
            cipher_name: padded(self.cipher.alg.header_name()),
            cipher_mode: padded(&self.mode_text),
            hash_spec: padded(self.hash.name()),
            payload_sector: U32::new(self.payload_sector),
            key_bytes: U32::new(u32::try_from(self.key_len()).unwrap_or(u32::MAX)),
            digest: self.digest,
            salt: self.salt,
            iterations: U32::new(self.iterations),
            uuid: self.uuid,
            slots: self.slots.each_ref().map(RawSlot::of),
        };
        zerocopy::transmute!(raw)
    }

    /// The cipher of payload and key material.
    #[must_use]
    pub fn cipher(&self) -> CipherSpec {
        self.cipher
    }

    /// The hash of key derivation and splitter.
    #[must_use]
    pub fn hash(&self) -> HashAlg {
        self.hash
    }

    /// The UUID as text, up to the first byte that is not printable.
    #[must_use]
    pub fn uuid(&self) -> String {
        self.uuid.iter().take_while(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect()
    }

    /// Where the payload starts, in bytes.
    #[must_use]
    pub fn payload_offset(&self) -> u64 {
        u64::from(self.payload_sector) * SECTOR
    }

    /// Iterations of the master key's digest.
    #[must_use]
    pub fn master_key_iterations(&self) -> u32 {
        self.iterations
    }

    /// The key slots.
    #[must_use]
    pub fn slots(&self) -> &[KeySlot; SLOTS] {
        &self.slots
    }

    /// The slots that hold the master key.
    pub fn active_slots(&self) -> impl Iterator<Item = SlotIndex> + use<> {
        let active = self.slots.each_ref().map(|slot| slot.active);
        SlotIndex::all().filter(move |slot| active[slot.get()])
    }

    /// Bytes of the master key.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.cipher.key_len()
    }
}

impl RawHeader {
    fn check(&self, is_detached: bool) -> Result<()> {
        if self.magic != MAGIC {
            return Err(CryptoError::NotLuks);
        }
        if self.version.get() != VERSION {
            return Err(CryptoError::LuksVersion { version: self.version.get() });
        }
        for (field, bytes) in
            [("cipher name", &self.cipher_name), ("cipher mode", &self.cipher_mode), ("hash spec", &self.hash_spec)]
        {
            if !bytes.contains(&0) {
                return Err(CryptoError::LuksText { field });
            }
        }
        if !is_detached && u64::from(self.payload_sector.get()) * SECTOR < FIRST_SLOT_OFFSET {
            return Err(CryptoError::LuksPayloadInHeader);
        }
        match self.iterations.get() {
            0 => Err(CryptoError::LuksNoIterations),
            iterations if iterations > ITERATIONS_MAX => {
                Err(CryptoError::LuksIterations { iterations, most: ITERATIONS_MAX })
            }
            _ => Ok(()),
        }
    }

    /// Checks each slot, and that none overlaps with anything.
    fn check_slots(&self, is_detached: bool) -> Result<()> {
        let sectors = material_sectors(u64::from(self.key_bytes.get()));
        for (index, slot) in self.slots.iter().enumerate() {
            slot.check(index)?;
            let start = u64::from(slot.material_sector.get());
            if start * SECTOR < FIRST_SLOT_OFFSET {
                return Err(CryptoError::SlotInHeader { slot: index });
            }
            if !is_detached && start + sectors > u64::from(self.payload_sector.get()) {
                return Err(CryptoError::SlotInPayload { slot: index });
            }
            for (other, slot) in self.slots.iter().enumerate().skip(index + 1) {
                if start.abs_diff(u64::from(slot.material_sector.get())) < sectors {
                    return Err(CryptoError::SlotsOverlap { slot: index, other });
                }
            }
        }
        Ok(())
    }
}

impl RawSlot {
    fn check(&self, slot: usize) -> Result<()> {
        let stripes = self.stripes.get();
        if usize::try_from(stripes) != Ok(STRIPES) {
            return Err(CryptoError::SlotStripes { slot, stripes });
        }
        if self.state.get() != SLOT_ENABLED && self.state.get() != SLOT_DISABLED {
            return Err(CryptoError::SlotState { slot });
        }
        if self.state.get() == SLOT_DISABLED {
            return Ok(());
        }
        match self.iterations.get() {
            0 => Err(CryptoError::SlotNoIterations { slot }),
            iterations if iterations > ITERATIONS_MAX => {
                Err(CryptoError::SlotIterations { slot, iterations, most: ITERATIONS_MAX })
            }
            _ => Ok(()),
        }
    }

    fn parsed(self) -> KeySlot {
        KeySlot {
            active: self.state.get() == SLOT_ENABLED,
            iterations: self.iterations.get(),
            salt: self.salt,
            material_sector: self.material_sector.get(),
        }
    }

    fn of(slot: &KeySlot) -> Self {
        Self {
            state: U32::new(if slot.active { SLOT_ENABLED } else { SLOT_DISABLED }),
            iterations: U32::new(slot.iterations),
            salt: slot.salt,
            material_sector: U32::new(slot.material_sector),
            stripes: U32::new(u32::try_from(STRIPES).unwrap_or(u32::MAX)),
        }
    }
}

/// Sectors between the starts of two slots: the key material, rounded up to the place of the header.
pub(super) fn material_sectors(key_bytes: u64) -> u64 {
    let stripes = u64::try_from(STRIPES).unwrap_or(u64::MAX);
    (key_bytes * stripes).div_ceil(SECTOR).next_multiple_of(FIRST_SLOT_OFFSET / SECTOR)
}

/// Parses `cbc-essiv:sha256` and the like.
fn parse_cipher(name: &str, mode_text: &str, key_bytes: u32) -> Result<CipherSpec> {
    let unexpected = || CryptoError::LuksModeFormat { mode: mode_text.to_owned() };
    let (mode, ivgen) = mode_text.split_once('-').ok_or_else(unexpected)?;
    let (ivgen, ivgen_hash) = match ivgen.split_once(':') {
        None => (ivgen, None),
        Some((ivgen, hash)) => (ivgen, Some(HashAlg::from_header(hash)?)),
    };
    let mode = CipherMode::from_header(mode)?;
    let alg = CipherAlg::from_header(name, mode, key_bytes)?;
    let cipher = CipherSpec { alg, mode, ivgen: IvGenAlg::from_header(ivgen)?, ivgen_hash };
    cipher.check()?;
    Ok(cipher)
}

/// The text of a field, up to its NUL.
fn text<'a>(field: &'static str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => Ok(text),
        _ => Err(CryptoError::LuksTextEncoding { field }),
    }
}

/// `text` with zeros after it.
fn padded(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    for (out, byte) in out.iter_mut().zip(text.bytes()) {
        *out = byte;
    }
    out
}

#[cfg(test)]
mod tests;
