//! Bytes that nobody else may see: wiped when dropped, not shown by `Debug`.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::{CryptoError, Result};

/// A key, a passphrase, or what one can be made from.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes bytes over; the caller has no other copy, hopefully.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// `len` zero bytes, to be filled.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self::new(vec![0; len])
    }

    /// `len` bytes that nobody can guess.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random(len: usize) -> Result<Self> {
        let mut bytes = Self::zeroed(len);
        fill_random(bytes.as_mut())?;
        Ok(bytes)
    }

    /// Forgets the bytes from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for SecretBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// Fills `bytes` with random ones.
///
/// # Errors
/// The system has no randomness to give.
pub fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| CryptoError::Random { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", SecretBytes::new(b"pw".to_vec())), "SecretBytes(…)");
    }

    #[test]
    fn random_bytes_differ() {
        let some = SecretBytes::random(32).expect("randomness");
        assert_ne!(some, SecretBytes::random(32).expect("randomness"));
        assert_ne!(some, SecretBytes::zeroed(32));
    }
}
