//! How many iterations of the key derivation take a given time on this machine.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::error::{CryptoError, Result};
use crate::hash::HashAlg;

/// A sample has to take this long before its rate counts.
const SAMPLE_TIME: Duration = Duration::from_millis(10);

/// How many samples are taken.
const SAMPLES: u32 = 3;

/// Longest derived key, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// Iterations of PBKDF2 per second for keys of `key_len` bytes.
///
/// The best of a few short samples: one during which the thread was not running would make the passphrase easier to
/// guess. QEMU: `qcrypto_pbkdf2_count_iters` (crypto/pbkdf.c), which measures once and longer.
#[must_use]
pub fn iterations_per_second(hash: HashAlg, key_len: usize) -> u64 {
    let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
    let key = &mut key[..key_len.min(KEY_BYTES_MAX)];
    let mut iterations = 1 << 10;
    let mut best = 0;
    let mut samples = 0;
    while samples < SAMPLES {
        let start = Instant::now();
        hash.pbkdf2(b"passphrase", &[0; 32], iterations, key);
        let taken = start.elapsed();
        if taken < SAMPLE_TIME && iterations < u32::MAX / 2 {
            iterations *= 2;
            continue;
        }
        samples += 1;
        let nanoseconds = taken.as_nanos().max(1);
        let rate = u128::from(iterations) * 1_000_000_000 / nanoseconds;
        best = best.max(u64::try_from(rate).unwrap_or(u64::MAX));
    }
    best
}

/// The iterations that take `milliseconds` at a rate of `per_second`, divided by `share`.
///
/// # Errors
/// More than fit the header.
pub(crate) fn scale(per_second: u64, milliseconds: u64, share: u64, least: u32) -> Result<u32> {
    let product = per_second.checked_mul(milliseconds);
    let iterations = product.ok_or(CryptoError::IterationsScale { iterations: per_second })? / 1000 / share;
    let iterations = u32::try_from(iterations).map_err(|_| CryptoError::IterationsTooMany { iterations })?;
    Ok(iterations.max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive() {
        assert!(iterations_per_second(HashAlg::Sha256, 32) > 0);
    }

    #[test]
    fn scaling() {
        assert_eq!(scale(1_000_000, 2000, 8, 1000), Ok(250_000));
        assert_eq!(scale(1_000_000, 0, 1, 1000), Ok(1000));
        let text = |result: Result<u32>| result.expect_err("too many").to_string();
        assert_eq!(
            text(scale(u64::MAX / 2, 1000, 1, 1)),
            format!("PBKDF iterations {} too large to scale: Numerical result out of range", u64::MAX / 2)
        );
        assert_eq!(
            text(scale(1 << 40, 1000, 1, 1)),
            format!("PBKDF iterations {} larger than 4294967295: Numerical result out of range", 1_u64 << 40)
        );
    }
}
