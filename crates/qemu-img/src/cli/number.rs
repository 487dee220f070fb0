//! Numbers on the command line: sizes with suffixes, in a range, with the reference's complaints.

use std::ops::RangeInclusive;

use qemu_util::units::{SizeError, parse_size};

use crate::failure::Failure;

/// The largest size or offset of an image: what fits a signed 64-bit number.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

/// The largest value of options that are counts: what fits a signed 32-bit number.
pub(crate) const COUNT_MAX: u64 = i32::MAX as u64;

/// Parses `text` as the `what` ("queue depth"), a plain number, and checks the range.
///
/// The number may be hexadecimal or octal, as in C, and has no suffix; a negative one counts back from 2^64.
///
/// # Errors
/// As [`parse_number`].
///
/// QEMU: `cvtnum_full` (qemu-img.c), `qemu_strtou64` (util/cutils.c)
pub(crate) fn parse_count(what: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, Failure> {
    let value = parse_c_number(text).ok_or_else(|| Failure::new(format!("Invalid {what} specified: '{text}'.")))?;
    value.filter(|value| range.contains(value)).ok_or_else(|| out_of_range(what, &range))
}

/// What C's `strtoull` makes of the whole of a text: none if it is no number, and none within if it is too large.
fn parse_c_number(text: &str) -> Option<Option<u64>> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (is_negative, number) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = number.strip_prefix("0x").or_else(|| number.strip_prefix("0X"));
    let (digits, base) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if number.starts_with('0') => (number, 8),
        None => (number, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return None;
    }
    let value = u64::from_str_radix(digits, base).ok();
    Some(if is_negative { value.map(u64::wrapping_neg) } else { value })
}

fn out_of_range(what: &str, range: &RangeInclusive<u64>) -> Failure {
    Failure::new(format!("Invalid {what} specified. Must be between {} and {}.", range.start(), range.end()))
}

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
        Ok(_) | Err(SizeError::OutOfRange) => Err(out_of_range(what, &range)),
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

    #[test]
    fn counts_are_numbers_as_in_c() {
        let parse = |text: &str| parse_count("count", text, 0..=SIZE_MAX).map_err(Failure::into_text);
        for (text, value) in [("010", 8), ("0x10", 16), (" +5", 5), ("0", 0), ("-0", 0), ("-18446744073709551615", 1)] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for text in ["", "5 ", "1k", "1b", "0x", "1e3", "1.0", "0b1", "08", "+-1", "x"] {
            assert_eq!(parse(text), Err(format!("qemu-img: Invalid count specified: '{text}'.")));
        }
        for text in ["-1", "18446744073709551616", "9223372036854775808", "-0x8000000000000000"] {
            let complaint = "qemu-img: Invalid count specified. Must be between 0 and 9223372036854775807.";
            assert_eq!(parse(text), Err(complaint.to_owned()), "{text}");
        }
    }
}
