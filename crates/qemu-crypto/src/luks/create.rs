//! Making a header.

use super::header::{DIGEST_BYTES, KeySlot, LuksHeader, SALT_BYTES, material_sectors};
use super::slots::{Material, SLOTS, SlotIndex};
use super::{DEFAULT_ITER_TIME_MS, FIRST_SLOT_OFFSET, ITERATIONS_MIN};
use crate::bytes::{SecretBytes, fill_random};
use crate::cipher::{CipherAlg, CipherMode, CipherSpec, IvGenAlg, SECTOR_BYTES};
use crate::error::Result;
use crate::hash::HashAlg;
use crate::pbkdf;

/// What a new header shall be like. QEMU: `QCryptoBlockCreateOptionsLUKS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// `cipher-alg`.
    pub cipher_alg: CipherAlg,
    /// `cipher-mode`.
    pub cipher_mode: CipherMode,
    /// `ivgen-alg`.
    pub ivgen_alg: IvGenAlg,
    /// `ivgen-hash-alg`.
    pub ivgen_hash_alg: Option<HashAlg>,
    /// `hash-alg`.
    pub hash_alg: HashAlg,
    /// `iter-time`: how long deriving a key shall take, in milliseconds.
    pub iter_time_ms: u64,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            cipher_alg: CipherAlg::Aes256,
            cipher_mode: CipherMode::Xts,
            ivgen_alg: IvGenAlg::Plain64,
            ivgen_hash_alg: None,
            hash_alg: HashAlg::Sha256,
            iter_time_ms: DEFAULT_ITER_TIME_MS,
        }
    }
}

impl CreateOptions {
    /// The options as users write them: each has its name and perhaps a value.
    ///
    /// # Errors
    /// A value is unknown, or stands for what there is not here.
    pub fn parse<'a>(iter_time_ms: Option<u64>, value: impl Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let default = Self::default();
        // In the order in which the reference looks at them.
        let hash = value("hash-alg").map(|name| HashAlg::from_option("hash-alg", name)).transpose()?;
        let alg = value("cipher-alg").map(CipherAlg::from_option).transpose()?;
        let mode = value("cipher-mode").map(CipherMode::from_option).transpose()?;
        let ivgen = value("ivgen-alg").map(IvGenAlg::from_option).transpose()?;
        let ivgen_hash =
            value("ivgen-hash-alg").map(|name| HashAlg::from_option("ivgen-hash-alg", name)).transpose()?;
        Ok(Self {
            cipher_alg: alg.unwrap_or(default.cipher_alg),
            cipher_mode: mode.unwrap_or(default.cipher_mode),
            ivgen_alg: ivgen.unwrap_or(default.ivgen_alg),
            ivgen_hash_alg: ivgen_hash,
            hash_alg: hash.unwrap_or(default.hash_alg),
            iter_time_ms: iter_time_ms.unwrap_or(default.iter_time_ms),
        })
    }

    /// The cipher that they describe.
    ///
    /// # Errors
    /// The parts do not go together.
    pub fn cipher(&self) -> Result<CipherSpec> {
        let default = (self.ivgen_alg == IvGenAlg::Essiv).then_some(HashAlg::Sha256);
        let ivgen_hash = self.ivgen_hash_alg.or(default);
        let cipher = CipherSpec { alg: self.cipher_alg, mode: self.cipher_mode, ivgen: self.ivgen_alg, ivgen_hash };
        cipher.check()?;
        Ok(cipher)
    }

    /// Bytes that header and key slots take: where the payload starts.
    ///
    /// # Errors
    /// As [`CreateOptions::cipher`].
    pub fn payload_offset(&self) -> Result<u64> {
        let layout = Layout::new(&self.cipher()?);
        Ok(u64::from(layout.payload_sector) * SECTOR)
    }
}

const SECTOR: u64 = 512;
const _: () = assert!(SECTOR_BYTES == 512);

/// A new header and what belongs to it.
#[derive(Clone, Debug)]
pub struct NewLuks {
    /// The header, whose first slot is active.
    pub header: LuksHeader,
    /// The first slot's key material.
    pub material: Material,
    /// The master key.
    pub key: SecretBytes,
}

/// Where everything is, in sectors.
struct Layout {
    material_sectors: u32,
    payload_sector: u32,
}

const FIRST_SLOT_SECTOR: u32 = 8;
const _: () = assert!(FIRST_SLOT_OFFSET == 8 * SECTOR);

impl Layout {
    fn new(cipher: &CipherSpec) -> Self {
        let key_bytes = u64::try_from(cipher.key_len()).unwrap_or(u64::MAX);
        let material_sectors = u32::try_from(material_sectors(key_bytes)).expect("a key has at most 64 bytes");
        Self { material_sectors, payload_sector: FIRST_SLOT_SECTOR + 8 * material_sectors }
    }
}

impl LuksHeader {
    /// Makes a header with a new master key, which `passphrase` unlocks. This takes a multiple of the time that deriving
    /// a key shall take.
    ///
    /// # Errors
    /// The options do not go together, or there is no randomness.
    pub fn create(options: &CreateOptions, passphrase: &[u8]) -> Result<NewLuks> {
        let cipher = options.cipher()?;
        let hash = options.hash_alg;
        let layout = Layout::new(&cipher);
        let key = SecretBytes::random(cipher.key_len())?;
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        let mut sector = FIRST_SLOT_SECTOR;
        let slots: [KeySlot; SLOTS] = std::array::from_fn(|_| {
            let slot = KeySlot { active: false, iterations: 0, salt: [0; SALT_BYTES], material_sector: sector };
            sector += layout.material_sectors;
            slot
        });
        // As in cryptsetup: checking all slots' keys shall not take longer than deriving one.
        let rate = pbkdf::iterations_per_second(hash, DIGEST_BYTES);
        let iterations = pbkdf::scale(rate, options.iter_time_ms, 8, ITERATIONS_MIN)?;
        let mut header = Self {
            cipher,
            hash,
            mode_text: mode_text(&cipher),
            payload_sector: layout.payload_sector,
            digest: [0; DIGEST_BYTES],
            salt,
            iterations,
            uuid: new_uuid()?,
            slots,
        };
        header.digest = header.digest_of(&key);
        let material = header.fill_slot(SlotIndex::FIRST, &key, passphrase, options.iter_time_ms)?;
        Ok(NewLuks { header, material, key })
    }
}

/// `cbc-essiv:sha256` and the like.
fn mode_text(cipher: &CipherSpec) -> String {
    let (mode, ivgen) = (cipher.mode.name(), cipher.ivgen.name());
    match cipher.ivgen_hash {
        None => format!("{mode}-{ivgen}"),
        Some(hash) => format!("{mode}-{ivgen}:{}", hash.name()),
    }
}

/// A random UUID as text.
fn new_uuid() -> Result<[u8; 40]> {
    let mut random = [0; 16];
    fill_random(&mut random)?;
    // Version 4, variant 1.
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(random));
    let groups: [&str; 5] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    let mut uuid = [0; 40];
    for (to, from) in uuid.iter_mut().zip(groups.join("-").bytes()) {
        *to = from;
    }
    Ok(uuid)
}
