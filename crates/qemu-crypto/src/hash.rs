//! Hash algorithms by name.

use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::error::{CryptoError, Result};

/// A hash algorithm. QEMU: `QCryptoHashAlgo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashAlg {
    /// SHA-1, 160 bits.
    Sha1,
    /// SHA-2, 224 bits.
    Sha224,
    /// SHA-2, 256 bits.
    Sha256,
    /// SHA-2, 384 bits.
    Sha384,
    /// SHA-2, 512 bits.
    Sha512,
}

/// Names that QEMU knows and that stand for nothing here.
const OTHER_NAMES: [&str; 3] = ["md5", "ripemd160", "sm3"];

impl HashAlg {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// QEMU's name, and the one in headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The value of the option `option`.
    ///
    /// # Errors
    /// There is no such hash, or none here.
    pub fn from_option(option: &'static str, name: &str) -> Result<Self> {
        if let Some(hash) = Self::ALL.into_iter().find(|hash| hash.name() == name) {
            return Ok(hash);
        }
        if OTHER_NAMES.contains(&name) {
            return Err(CryptoError::HashNotSupported { name: name.to_owned() });
        }
        Err(CryptoError::OptionValue { option, value: name.to_owned() })
    }

    /// The hash that a header names.
    ///
    /// # Errors
    /// There is no such hash, or none here.
    pub fn from_header(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|hash| hash.name() == name);
        found.ok_or_else(|| CryptoError::HashNotSupported { name: name.to_owned() })
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of all `parts`, one after the other, at the start of `out`.
    ///
    /// # Panics
    /// When `out` is shorter than the digest.
    pub fn digest(self, parts: &[&[u8]], out: &mut [u8]) {
        match self {
            Self::Sha1 => digest::<Sha1>(parts, out),
            Self::Sha224 => digest::<Sha224>(parts, out),
            Self::Sha256 => digest::<Sha256>(parts, out),
            Self::Sha384 => digest::<Sha384>(parts, out),
            Self::Sha512 => digest::<Sha512>(parts, out),
        }
    }

    /// Derives a key of the length of `out` from a passphrase: PBKDF2 with HMAC.
    pub fn pbkdf2(self, passphrase: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        match self {
            Self::Sha1 => pbkdf2_hmac::<Sha1>(passphrase, salt, iterations, out),
            Self::Sha224 => pbkdf2_hmac::<Sha224>(passphrase, salt, iterations, out),
            Self::Sha256 => pbkdf2_hmac::<Sha256>(passphrase, salt, iterations, out),
            Self::Sha384 => pbkdf2_hmac::<Sha384>(passphrase, salt, iterations, out),
            Self::Sha512 => pbkdf2_hmac::<Sha512>(passphrase, salt, iterations, out),
        }
    }
}

fn digest<D: Digest>(parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    out[..digest.len()].copy_from_slice(&digest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_their_length_and_value() {
        let mut out = [0; 64];
        HashAlg::Sha1.digest(&[b"a", b"bc"], &mut out);
        assert_eq!(out[..4], [0xa9, 0x99, 0x3e, 0x36]);
        HashAlg::Sha256.digest(&[b"abc"], &mut out);
        assert_eq!(out[..4], [0xba, 0x78, 0x16, 0xbf]);
        HashAlg::Sha512.digest(&[b"abc"], &mut out);
        assert_eq!(out[..4], [0xdd, 0xaf, 0x35, 0xa1]);
    }

    #[test]
    fn pbkdf2_is_that_of_rfc_6070() {
        let mut out = [0; 20];
        HashAlg::Sha1.pbkdf2(b"password", b"salt", 2, &mut out);
        assert_eq!(out[..6], [0xea, 0x6c, 0x01, 0x4d, 0xc7, 0x2d]);
    }

    #[test]
    fn names() {
        for hash in HashAlg::ALL {
            assert_eq!(HashAlg::from_option("hash-alg", hash.name()), Ok(hash));
            assert_eq!(HashAlg::from_header(hash.name()), Ok(hash));
        }
        let text = |name| HashAlg::from_option("hash-alg", name).expect_err(name).to_string();
        assert_eq!(text("foo"), "Parameter 'hash-alg' does not accept value 'foo'");
        assert_eq!(text("md5"), "Hash algorithm 'md5' not supported");
    }
}
