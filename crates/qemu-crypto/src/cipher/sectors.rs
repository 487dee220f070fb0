//! Runs of sectors, encrypted and decrypted.

use std::fmt;

use aes::Block;

use super::aes::Aes;
use super::ivgen::IvGen;
use super::{CipherMode, CipherSpec, modes};
use crate::error::{CryptoError, Result};

/// Bytes of a sector: what one initialization vector is for.
pub const SECTOR_BYTES: usize = 512;

/// Sectors that are prepared together.
pub(super) const BATCH_SECTORS: usize = 8;

/// A cipher with its key: encrypts and decrypts runs of sectors, on any thread.
///
/// QEMU: `QCryptoBlock` (include/crypto/block.h)
pub struct SectorCipher {
    mode: Mode,
    ivgen: IvGen,
}

enum Mode {
    Ecb(Aes),
    Cbc(Aes),
    Ctr(Aes),
    Xts { data: Aes, tweak: Box<Aes> },
}

impl SectorCipher {
    /// A cipher that works with `key`.
    ///
    /// # Errors
    /// The key has the wrong length, or the parts of `spec` do not go together.
    pub fn new(spec: &CipherSpec, key: &[u8]) -> Result<Self> {
        spec.check()?;
        let wrong_len = || CryptoError::CipherKeyNotSupported {
            name: spec.alg.header_name().to_owned(),
            key_bytes: u32::try_from(key.len()).unwrap_or(u32::MAX),
        };
        if key.len() != spec.key_len() {
            return Err(wrong_len());
        }
        let aes = |key: &[u8]| Aes::new(key).ok_or_else(wrong_len);
        let mode = match spec.mode {
            CipherMode::Ecb => Mode::Ecb(aes(key)?),
            CipherMode::Cbc => Mode::Cbc(aes(key)?),
            CipherMode::Ctr => Mode::Ctr(aes(key)?),
            CipherMode::Xts => {
                let (data, tweak) = key.split_at(key.len() / 2);
                Mode::Xts { data: aes(data)?, tweak: Box::new(aes(tweak)?) }
            }
        };
        Ok(Self { mode, ivgen: IvGen::new(spec.ivgen, spec.ivgen_hash, key)? })
    }

    /// Qcow2's old AES: the first 16 bytes of the passphrase are the key, zeros if there are none left.
    ///
    /// # Errors
    /// As [`SectorCipher::new`].
    pub fn legacy_aes(passphrase: &[u8]) -> Result<Self> {
        let mut key = zeroize::Zeroizing::new([0; 16]);
        for (key, byte) in key.iter_mut().zip(passphrase) {
            *key = *byte;
        }
        Self::new(&CipherSpec::LEGACY_AES, &*key)
    }

    /// Encrypts `data`, which are whole sectors from number `first` on.
    ///
    /// # Panics
    /// When they are not.
    pub fn encrypt(&self, first: u64, data: &mut [u8]) {
        self.for_batches(first, data, |mode, ivs, sectors| match mode {
            Mode::Ecb(aes) => modes::ecb_encrypt(aes, sectors),
            Mode::Cbc(aes) => modes::cbc_encrypt(aes, ivs, sectors),
            Mode::Ctr(aes) => each_sector(ivs, sectors, |iv, sector| modes::ctr_apply(aes, iv, sector)),
            Mode::Xts { data, tweak } => {
                tweak.encrypt(ivs);
                each_sector(ivs, sectors, |iv, sector| modes::xts_apply(iv, sector, |blocks| data.encrypt(blocks)));
            }
        });
    }

    /// Decrypts `data`, which are whole sectors from number `first` on.
    ///
    /// # Panics
    /// When they are not.
    pub fn decrypt(&self, first: u64, data: &mut [u8]) {
        self.for_batches(first, data, |mode, ivs, sectors| match mode {
            Mode::Ecb(aes) => modes::ecb_decrypt(aes, sectors),
            Mode::Cbc(aes) => each_sector(ivs, sectors, |iv, sector| modes::cbc_decrypt(aes, iv, sector)),
            Mode::Ctr(aes) => each_sector(ivs, sectors, |iv, sector| modes::ctr_apply(aes, iv, sector)),
            Mode::Xts { data, tweak } => {
                tweak.encrypt(ivs);
                each_sector(ivs, sectors, |iv, sector| modes::xts_apply(iv, sector, |blocks| data.decrypt(blocks)));
            }
        });
    }

    /// Calls `apply` with a few sectors at a time, and their initialization vectors.
    fn for_batches(&self, first: u64, data: &mut [u8], apply: impl Fn(&Mode, &mut [Block], &mut [u8])) {
        assert!(data.len().is_multiple_of(SECTOR_BYTES), "whole sectors");
        let mut sector = first;
        for sectors in data.chunks_mut(BATCH_SECTORS * SECTOR_BYTES) {
            let mut ivs = [Block::default(); BATCH_SECTORS];
            let ivs = &mut ivs[..sectors.len() / SECTOR_BYTES];
            self.ivgen.fill(sector, ivs);
            apply(&self.mode, ivs, sectors);
            // A batch is never longer than a few sectors.
            sector = sector.wrapping_add(u64::try_from(ivs.len()).unwrap_or_default());
        }
    }
}

fn each_sector(ivs: &[Block], sectors: &mut [u8], apply: impl Fn(Block, &mut [u8])) {
    for (iv, sector) in ivs.iter().zip(sectors.chunks_exact_mut(SECTOR_BYTES)) {
        apply(*iv, sector);
    }
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SectorCipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CipherAlg, IvGenAlg};
    use super::*;
    use crate::hash::HashAlg;

    fn all_specs() -> impl Iterator<Item = CipherSpec> {
        CipherAlg::ALL.into_iter().flat_map(|alg| {
            CipherMode::ALL.into_iter().flat_map(move |mode| {
                IvGenAlg::ALL.into_iter().map(move |ivgen| {
                    let ivgen_hash = (ivgen == IvGenAlg::Essiv).then_some(HashAlg::Sha256);
                    CipherSpec { alg, mode, ivgen, ivgen_hash }
                })
            })
        })
    }

    fn key(spec: &CipherSpec) -> Vec<u8> {
        (0..spec.key_len()).map(|byte| u8::try_from(byte * 3).expect("small")).collect()
    }

    #[test]
    fn any_split_of_a_run_gives_the_same() {
        for spec in all_specs() {
            let cipher = SectorCipher::new(&spec, &key(&spec)).expect("valid");
            let plain: Vec<u8> = (0..21 * SECTOR_BYTES).map(|at| u8::try_from(at % 251).expect("small")).collect();
            let mut whole = plain.clone();
            cipher.encrypt(5, &mut whole);
            let mut parts = plain.clone();
            for (sector, bytes) in (5..).zip(parts.chunks_mut(SECTOR_BYTES)) {
                cipher.encrypt(sector, bytes);
                assert_ne!(bytes, &plain[..SECTOR_BYTES]);
            }
            assert_eq!(whole, parts, "{spec:?}");
            let (start, end) = whole.split_at_mut(9 * SECTOR_BYTES);
            cipher.decrypt(5, start);
            cipher.decrypt(14, end);
            assert_eq!(whole, plain, "{spec:?}");
        }
    }

    #[test]
    fn xts_is_that_of_ieee_1619() {
        // Vector 4 of the standard: 256 bits of key, sector 0, the bytes 0 to 255 twice.
        let key = "27182818284590452353602874713526 31415926535897932384626433832795";
        let key: Vec<u8> =
            key.split(' ').flat_map(|half| u128::from_str_radix(half, 16).expect("hex").to_be_bytes()).collect();
        let spec = CipherSpec { mode: CipherMode::Xts, ..CipherSpec::LEGACY_AES };
        let cipher = SectorCipher::new(&spec, &key).expect("valid");
        let mut data: Vec<u8> = (0..=255).chain(0..=255).collect();
        cipher.encrypt(0, &mut data);
        assert_eq!(data[..8], [0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76]);
    }

    #[test]
    fn keys_of_other_lengths_are_refused() {
        for spec in all_specs() {
            for len in [0, 1, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65] {
                let made = SectorCipher::new(&spec, &vec![0; len]);
                assert_eq!(made.is_ok(), len == spec.key_len(), "{spec:?} {len}");
            }
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let cipher = SectorCipher::legacy_aes(b"pw").expect("valid");
        assert_eq!(format!("{cipher:?}"), "SectorCipher(…)");
    }
}
