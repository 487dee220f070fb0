//! Numbers in commands: sizes with suffixes, pattern bytes, plain integers.
//!
//! QEMU: `cvtnum`, `print_cvtnum_err`, `parse_pattern` (qemu-io-cmds.c)

use qemu_util::units::{SizeError, parse_size};

/// The longest request in bytes. QEMU: `BDRV_REQUEST_MAX_BYTES`.
pub(super) const REQUEST_BYTES_MAX: u64 = 2_147_483_136;

/// The unit in which the parts of an image that is no disk are counted.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A size or an offset.
///
/// # Errors
/// What to print.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(value) if i64::try_from(value).is_ok() => Ok(value),
        Ok(_) | Err(SizeError::OutOfRange) => Err(format!("Parsing error: argument too large -- {text}")),
        Err(SizeError::Invalid) => Err(invalid_size(text)),
    }
}

/// The complaint about a text that is no size.
pub(super) fn invalid_size(text: &str) -> String {
    format!("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}")
}

/// The value of `-P`: decimal, octal (`010`) or hexadecimal (`0x10`).
///
/// # Errors
/// What to print.
pub(super) fn pattern(text: &str) -> Result<u8, String> {
    let byte = integer(text).and_then(|value| u8::try_from(value).ok());
    byte.ok_or_else(|| format!("{text} is not a valid pattern byte"))
}

/// What C's `strtol` makes of the whole text with base 0; an empty one is zero, as there.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_their_complaints() {
        assert_eq!(size("64k"), Ok(65536));
        assert_eq!(size("0x10"), Ok(16));
        assert_eq!(size("-1"), Err("Parsing error: argument too large -- -1".to_owned()));
        assert_eq!(size("8E"), Err("Parsing error: argument too large -- 8E".to_owned()));
        assert_eq!(size("1x"), Err(invalid_size("1x")));
    }

    #[test]
    fn integers_are_c_integers() {
        for (text, value) in [("255", 255), ("0xff", 255), ("010", 8), ("0", 0), ("+7", 7), ("-3", -3), ("", 0)] {
            assert_eq!(integer(text), Some(value), "{text:?}");
        }
        for text in ["x", "1x", "0x", "08", "- 1", "--1", "99999999999999999999"] {
            assert_eq!(integer(text), None, "{text:?}");
        }
        assert_eq!(pattern("256"), Err("256 is not a valid pattern byte".to_owned()));
    }
}
