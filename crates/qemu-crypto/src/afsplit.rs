//! The anti-forensic splitter: a key spread over so much disk that erasing any part of it destroys the key.
//!
//! All stripes but the last are random. The last is the key combined with everything that came before, so all are
//! needed. QEMU: crypto/afsplit.c

use crate::bytes::{SecretBytes, fill_random};
use crate::error::Result;
use crate::hash::HashAlg;

/// Longest digest of any hash, in bytes.
const DIGEST_BYTES_MAX: usize = 64;

/// Spreads `key` over `stripes` stripes of its own length.
///
/// # Errors
/// The system has no randomness to give.
///
/// # Panics
/// When there are no stripes, or no key.
pub fn split(hash: HashAlg, key: &[u8], stripes: usize) -> Result<SecretBytes> {
    assert!(stripes > 0 && !key.is_empty(), "a key and a place for it");
    let mut out = SecretBytes::zeroed(key.len() * stripes);
    let (random, last) = out.as_mut().split_at_mut(key.len() * (stripes - 1));
    fill_random(random)?;
    let folded = fold(hash, random, key.len());
    for (last, (key, folded)) in last.iter_mut().zip(key.iter().zip(folded.as_ref())) {
        *last = key ^ folded;
    }
    Ok(out)
}

/// Puts a key of `key_len` bytes together again. Bytes that make no whole stripe are ignored.
///
/// # Panics
/// When there is not even one stripe.
#[must_use]
pub fn merge(hash: HashAlg, split: &[u8], key_len: usize) -> SecretBytes {
    let stripes = split.len() / key_len;
    let (before, last) = split[..stripes * key_len].split_at(key_len * (stripes - 1));
    let mut key = fold(hash, before, key_len);
    for (key, last) in key.as_mut().iter_mut().zip(last) {
        *key ^= last;
    }
    key
}

/// Combines stripes into one: each is added, and the sum diffused.
fn fold(hash: HashAlg, stripes: &[u8], key_len: usize) -> SecretBytes {
    let mut sum = SecretBytes::zeroed(key_len);
    for stripe in stripes.chunks_exact(key_len) {
        for (sum, byte) in sum.as_mut().iter_mut().zip(stripe) {
            *sum ^= byte;
        }
        diffuse(hash, sum.as_mut());
    }
    sum
}

/// Replaces each piece of a digest's length by the digest of its number and itself.
fn diffuse(hash: HashAlg, block: &mut [u8]) {
    let mut digest = zeroize::Zeroizing::new([0; DIGEST_BYTES_MAX]);
    for (index, piece) in (0_u32..).zip(block.chunks_mut(hash.digest_len())) {
        hash.digest(&[&index.to_be_bytes(), piece], &mut *digest);
        let len = piece.len();
        piece.copy_from_slice(&digest[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_split_is_merged() {
        for hash in HashAlg::ALL {
            for key_len in [16, 24, 32, 48, 64] {
                let key = SecretBytes::random(key_len).expect("randomness");
                let split = split(hash, key.as_ref(), 37).expect("randomness");
                assert_eq!(split.as_ref().len(), 37 * key_len);
                assert_eq!(merge(hash, split.as_ref(), key_len), key, "{hash:?} {key_len}");
            }
        }
    }

    #[test]
    fn every_bit_is_needed() {
        let mut split = split(HashAlg::Sha256, &[9; 32], 10).expect("randomness");
        split.as_mut()[17] ^= 1;
        assert_ne!(merge(HashAlg::Sha256, split.as_ref(), 32).as_ref(), [9; 32]);
    }
}
