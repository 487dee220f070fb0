//! Base64 as secrets use it.

use zeroize::Zeroize;

use crate::bytes::SecretBytes;
use crate::error::{CryptoError, Result};

/// Decodes `text`. Line ends are skipped, and padding as well, wherever it is; bits that make no whole byte are dropped.
///
/// # Errors
/// Anything else is among the characters.
pub(crate) fn decode(text: &[u8]) -> Result<SecretBytes> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut bits: u32 = 0;
    let mut n_bits = 0_u32;
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' | b'\n' => continue,
            _ => {
                out.zeroize();
                return Err(CryptoError::Base64);
            }
        };
        bits = (bits << 6) | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            let [.., whole] = (bits >> n_bits).to_be_bytes();
            out.push(whole);
            bits &= (1 << n_bits) - 1;
        }
    }
    Ok(SecretBytes::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYmFy\n", "foobar"), ("Zm8", "fo")]
        {
            assert_eq!(decode(text.as_bytes()).expect(text).as_ref(), bytes.as_bytes());
        }
        assert_eq!(decode(b"/+8=").expect("valid").as_ref(), [0xff, 0xef]);
    }

    #[test]
    fn other_characters_are_refused() {
        for text in ["x_y", "a b", "A!", "ä"] {
            assert_eq!(decode(text.as_bytes()), Err(CryptoError::Base64), "{text}");
        }
    }
}
