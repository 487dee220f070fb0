//! Initialization vectors: what makes equal sectors look different.
//!
//! QEMU: crypto/ivgen*.c

use aes::Block;

use super::CipherAlg;
use super::aes::Aes;
use crate::error::{CryptoError, Result};
use crate::hash::HashAlg;

/// Where initialization vectors come from. QEMU: `QCryptoIVGenAlgo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IvGenAlg {
    /// The lower 32 bits of the sector number.
    Plain,
    /// The sector number.
    Plain64,
    /// The sector number, encrypted with a hash of the key.
    Essiv,
}

impl IvGenAlg {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Plain64, Self::Essiv];

    /// QEMU's name, and the one in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Plain64 => "plain64",
            Self::Essiv => "essiv",
        }
    }

    /// The value of the option `ivgen-alg`.
    ///
    /// # Errors
    /// There is no such generator.
    pub fn from_option(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|alg| alg.name() == name);
        found.ok_or_else(|| CryptoError::OptionValue { option: "ivgen-alg", value: name.to_owned() })
    }

    /// The generator that a header names.
    ///
    /// # Errors
    /// There is none here.
    pub fn from_header(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|alg| alg.name() == name);
        found.ok_or_else(|| CryptoError::IvGenNotSupported { name: name.to_owned() })
    }
}

/// A generator with its key, if it has one.
pub(super) enum IvGen {
    Plain,
    Plain64,
    Essiv(Box<Aes>),
}

impl IvGen {
    /// The generator for data that is encrypted with `key`.
    pub(super) fn new(alg: IvGenAlg, hash: Option<HashAlg>, key: &[u8]) -> Result<Self> {
        match alg {
            IvGenAlg::Plain => Ok(Self::Plain),
            IvGenAlg::Plain64 => Ok(Self::Plain64),
            IvGenAlg::Essiv => {
                let hash = hash.ok_or(CryptoError::LuksIvHashMissing)?;
                let key_len = CipherAlg::for_essiv(hash)?.key_len();
                let mut salt = zeroize::Zeroizing::new([0; 64]);
                hash.digest(&[key], &mut *salt);
                let aes = Aes::new(&salt[..key_len]);
                aes.map(|aes| Self::Essiv(Box::new(aes))).ok_or(CryptoError::EssivKeySize { bytes: key_len })
            }
        }
    }

    /// The vectors of the sectors from `first` on, one each.
    pub(super) fn fill(&self, first: u64, ivs: &mut [Block]) {
        let mut sector = first;
        for iv in &mut *ivs {
            let number = if matches!(self, Self::Plain) { sector & u64::from(u32::MAX) } else { sector };
            *iv = u128::from(number).to_le_bytes().into();
            sector = sector.wrapping_add(1);
        }
        if let Self::Essiv(aes) = self {
            aes.encrypt(ivs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_cut_and_plain64_is_not() {
        let mut ivs = [Block::default(); 2];
        IvGen::Plain.fill(0xffff_ffff, &mut ivs);
        assert_eq!(ivs[0][..6], [0xff, 0xff, 0xff, 0xff, 0, 0]);
        assert_eq!(ivs[1][..6], [0; 6]);
        IvGen::Plain64.fill(0xffff_ffff, &mut ivs);
        assert_eq!(ivs[1][..6], [0, 0, 0, 0, 1, 0]);
    }
}
