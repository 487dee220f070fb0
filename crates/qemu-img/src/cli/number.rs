//! Numbers on the command line: sizes with suffixes, in a range, with the reference's complaints.

use std::ops::RangeInclusive;

use qemu_util::units::{SizeError, parse_size};

use crate::failure::Failure;

/// The largest size or offset of an image: what fits a signed 64-bit number.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

/// The largest value of options that are counts: what fits a signed 32-bit number.
pub(crate) const COUNT_MAX: u64 = i32::MAX as u64;

/// Parses `text` as the `what` ("image size") and checks the range.
///
/// # Errors
/// `Invalid image size specified: 'x'.`, or `… Must be between 0 and 9.`
///
/// QEMU: `cvtnum_full` (qemu-img.c)
pub(crate) fn parse_number(what: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, Failure> {
    match parse_size(text) {
        Ok(value) if range.contains(&value) => Ok(value),
        Err(SizeError::Invalid) => Err(Failure::new(format!("Invalid {what} specified: '{text}'."))),
        Ok(_) | Err(SizeError::OutOfRange) => {
            let (min, max) = (range.start(), range.end());
            Err(Failure::new(format!("Invalid {what} specified. Must be between {min} and {max}.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, range: RangeInclusive<u64>, expected: Result<u64, &str>) {
        let result = parse_number("queue depth", text, range).map_err(Failure::into_text);
        assert_eq!(result, expected.map_err(|text| format!("qemu-img: {text}")));
    }

    #[test]
    fn values_and_complaints() {
        check("0x10", 0..=255, Ok(16));
        check("1k", 0..=SIZE_MAX, Ok(1024));
        check("x", 1..=COUNT_MAX, Err("Invalid queue depth specified: 'x'."));
        check("1.5", 1..=COUNT_MAX, Err("Invalid queue depth specified: '1.5'."));
        check("0", 1..=COUNT_MAX, Err("Invalid queue depth specified. Must be between 1 and 2147483647."));
        check("-1", 1..=COUNT_MAX, Err("Invalid queue depth specified. Must be between 1 and 2147483647."));
        check("9E", 0..=SIZE_MAX, Err("Invalid queue depth specified. Must be between 0 and 9223372036854775807."));
    }
}
