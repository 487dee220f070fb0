//! Sector ciphers: which there are, and runs of sectors encrypted with one.

mod aes;
mod ivgen;
mod modes;
mod sectors;

pub use self::ivgen::IvGenAlg;
pub use self::sectors::{SECTOR_BYTES, SectorCipher};

use self::aes::Aes;
use crate::error::{CryptoError, Result};
use crate::hash::HashAlg;

/// A block cipher with a key size. QEMU: `QCryptoCipherAlgo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherAlg {
    /// AES with a key of 128 bits.
    Aes128,
    /// AES with a key of 192 bits.
    Aes192,
    /// AES with a key of 256 bits.
    Aes256,
}

/// Names that QEMU knows and that stand for nothing here.
const OTHER_NAMES: [&str; 10] = [
    "des",
    "3des",
    "cast5-128",
    "serpent-128",
    "serpent-192",
    "serpent-256",
    "sm4",
    "twofish-128",
    "twofish-192",
    "twofish-256",
];

impl CipherAlg {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes128, Self::Aes192, Self::Aes256];

    /// QEMU's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "aes-128",
            Self::Aes192 => "aes-192",
            Self::Aes256 => "aes-256",
        }
    }

    /// The name in LUKS headers, which leaves out the key size.
    #[must_use]
    pub fn header_name(self) -> &'static str {
        "aes"
    }

    /// Length of a key in bytes.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// The value of the option `cipher-alg`.
    ///
    /// # Errors
    /// There is no such cipher, or none here.
    pub fn from_option(name: &str) -> Result<Self> {
        if let Some(alg) = Self::ALL.into_iter().find(|alg| alg.name() == name) {
            return Ok(alg);
        }
        if OTHER_NAMES.contains(&name) {
            return Err(CryptoError::CipherNotSupported { name: name.to_owned() });
        }
        Err(CryptoError::OptionValue { option: "cipher-alg", value: name.to_owned() })
    }

    /// The cipher that a header names, with the length of its key.
    ///
    /// # Errors
    /// There is none here.
    pub fn from_header(name: &str, mode: CipherMode, key_bytes: u32) -> Result<Self> {
        let each = if mode == CipherMode::Xts { key_bytes / 2 } else { key_bytes };
        let fits = |alg: &Self| alg.header_name() == name && Ok(mode.key_len(*alg)) == usize::try_from(key_bytes);
        let found = Self::ALL.into_iter().find(fits);
        found.ok_or_else(|| CryptoError::CipherKeyNotSupported { name: name.to_owned(), key_bytes: each })
    }

    /// The cipher that ESSIV uses: its key is a digest, so the digest decides about its size.
    fn for_essiv(hash: HashAlg) -> Result<Self> {
        let bytes = hash.digest_len();
        Self::ALL.into_iter().find(|alg| alg.key_len() == bytes).ok_or(CryptoError::EssivKeySize { bytes })
    }
}

/// How the blocks of a sector depend on each other. QEMU: `QCryptoCipherMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherMode {
    /// Not at all.
    Ecb,
    /// Each on the one before.
    Cbc,
    /// On their position only, with a second key.
    Xts,
    /// They are not encrypted, but combined with an encrypted counter.
    Ctr,
}

impl CipherMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ecb, Self::Cbc, Self::Xts, Self::Ctr];

    /// QEMU's name, and the one in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ecb => "ecb",
            Self::Cbc => "cbc",
            Self::Xts => "xts",
            Self::Ctr => "ctr",
        }
    }

    /// The value of the option `cipher-mode`.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn from_option(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| CryptoError::OptionValue { option: "cipher-mode", value: name.to_owned() })
    }

    /// The mode that a header names.
    ///
    /// # Errors
    /// There is none here.
    pub fn from_header(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| CryptoError::ModeNotSupported { name: name.to_owned() })
    }

    /// Length of the key of `alg` in this mode, in bytes.
    fn key_len(self, alg: CipherAlg) -> usize {
        if self == Self::Xts { alg.key_len() * 2 } else { alg.key_len() }
    }
}

/// All that a sector cipher is, but for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSpec {
    /// The block cipher.
    pub alg: CipherAlg,
    /// Its mode.
    pub mode: CipherMode,
    /// Where initialization vectors come from.
    pub ivgen: IvGenAlg,
    /// The hash for ESSIV; the others ignore it.
    pub ivgen_hash: Option<HashAlg>,
}

impl CipherSpec {
    /// Qcow2's old encryption: AES with 128 bits, CBC, sector numbers. QEMU: crypto/block-qcow.c
    pub const LEGACY_AES: Self =
        Self { alg: CipherAlg::Aes128, mode: CipherMode::Cbc, ivgen: IvGenAlg::Plain64, ivgen_hash: None };

    /// Length of the key in bytes.
    #[must_use]
    pub fn key_len(&self) -> usize {
        self.mode.key_len(self.alg)
    }

    /// Checks that the parts go together.
    ///
    /// # Errors
    /// ESSIV has no hash, or one whose digests are no keys.
    pub fn check(&self) -> Result<()> {
        if self.ivgen != IvGenAlg::Essiv {
            return Ok(());
        }
        CipherAlg::for_essiv(self.ivgen_hash.ok_or(CryptoError::LuksIvHashMissing)?).map(drop)
    }
}

/// Decrypts whole blocks with AES-256-CBC: what one secret does with another.
pub(crate) fn cbc_decrypt_with_iv(key: &[u8; 32], iv: [u8; 16], data: &mut [u8]) {
    if let Some(aes) = Aes::new(key) {
        modes::cbc_decrypt(&aes, iv.into(), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for alg in CipherAlg::ALL {
            assert_eq!(CipherAlg::from_option(alg.name()), Ok(alg));
            for mode in CipherMode::ALL {
                let spec = CipherSpec { alg, mode, ivgen: IvGenAlg::Plain64, ivgen_hash: None };
                let key_bytes = u32::try_from(spec.key_len()).expect("small");
                assert_eq!(CipherAlg::from_header("aes", mode, key_bytes), Ok(alg));
            }
        }
        let text = |name| CipherAlg::from_option(name).expect_err(name).to_string();
        assert_eq!(text("des"), "Algorithm 'des' not supported");
        assert_eq!(text("foo"), "Parameter 'cipher-alg' does not accept value 'foo'");
        let text = CipherAlg::from_header("aes", CipherMode::Xts, 20).expect_err("odd").to_string();
        assert_eq!(text, "Algorithm 'aes' with key size 10 bytes not supported");
        assert!(CipherAlg::from_header("aes", CipherMode::Xts, 33).is_err(), "half a byte of key");
    }

    #[test]
    fn essiv_wants_a_hash_that_makes_keys() {
        let spec = |hash| CipherSpec { ivgen: IvGenAlg::Essiv, ivgen_hash: hash, ..CipherSpec::LEGACY_AES };
        assert_eq!(spec(Some(HashAlg::Sha256)).check(), Ok(()));
        assert_eq!(spec(None).check(), Err(CryptoError::LuksIvHashMissing));
        let text = spec(Some(HashAlg::Sha1)).check().expect_err("no such key").to_string();
        assert_eq!(text, "No AES cipher with key size 20 available");
    }
}
