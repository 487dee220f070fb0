//! Byte sizes as people write them: binary units, the size parser and the size printer of `qemu-img`.
//!
//! Scripts depend on which sizes are accepted and on the text that comes out, so both follow the reference tool to the
//! byte. The pairs in the tests were taken from `qemu-img` 10.0.
//!
//! ```
//! use qemu_util::units::{GIB, MIB, format_size, parse_size};
//!
//! assert_eq!(parse_size("1.5G"), Ok(GIB + 512 * MIB));
//! assert_eq!(parse_size("0x200"), Ok(512));
//! assert_eq!(format_size(24 * MIB), "24 MiB");
//! ```

/// Bytes in a kibibyte, 2^10.
pub const KIB: u64 = 1 << 10;
/// Bytes in a mebibyte, 2^20.
pub const MIB: u64 = 1 << 20;
/// Bytes in a gibibyte, 2^30.
pub const GIB: u64 = 1 << 30;
/// Bytes in a tebibyte, 2^40.
pub const TIB: u64 = 1 << 40;
/// Bytes in a pebibyte, 2^50.
pub const PIB: u64 = 1 << 50;
/// Bytes in an exbibyte, 2^60.
pub const EIB: u64 = 1 << 60;

/// Why a text is not a size.
///
/// The two cases lead to different messages, and only the caller knows what the size was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text does not follow the grammar of [`parse_size`]; QEMU: `-EINVAL`.
    #[error("not a valid size")]
    Invalid,
    /// The text is a well-formed number, but negative or at least 2^64 bytes; QEMU: `-ERANGE`.
    #[error("size out of range")]
    OutOfRange,
}

/// Parses a size in bytes, with the grammar of `qemu-img`.
///
/// ```text
/// size     = blanks [ "+" ] ( decimal | hex )
/// decimal  = ( digits [ "." [ digits ] ] | "." digits ) [ suffix ]
/// hex      = "0x" hexdigits
/// suffix   = B | K | M | G | T | P | E          (either case, powers of 1024)
/// ```
///
/// A fraction needs a suffix other than `B`, unless it is zero; the result is rounded to the nearest byte. A hexadecimal
/// number takes neither fraction nor suffix (`0x1B` is 27), an exponent is never accepted (`1E` is one exbibyte, `1E3`
/// an error), a leading zero does not mean octal, and nothing may follow, not even a blank.
///
/// ```
/// use qemu_util::units::{SizeError, parse_size};
///
/// assert_eq!(parse_size(" +.5k"), Ok(512));
/// assert_eq!(parse_size("1.5"), Err(SizeError::Invalid));
/// assert_eq!(parse_size("16E"), Err(SizeError::OutOfRange));
/// ```
///
/// # Errors
///
/// [`SizeError::OutOfRange`] when the value is negative (`-0` included) or does not fit 64 bits. [`SizeError::Invalid`]
/// for everything outside the grammar; it wins when a number is out of range *and* followed by something else.
///
/// QEMU: `qemu_strtosz` (util/cutils.c)
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim_start_matches(is_blank);
    let (negative, number) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        // The reference reads the zero, finds the number negative, and then trips over the `x`.
        Some(_) if negative => Err(SizeError::Invalid),
        Some(digits) => parse_hex(digits),
        None => parse_decimal(number, negative),
    }
}

/// Formats a size in bytes as `qemu-img info` prints it: three significant digits and a binary unit.
///
/// The next unit is used from 1000 on, not from 1024, so that the integer part has at most three digits; what rounds up
/// to 1000 comes out as `1e+03`, which the reference prints as well.
///
/// ```
/// use qemu_util::units::format_size;
///
/// assert_eq!(format_size(196 * 1024), "196 KiB");
/// assert_eq!(format_size(1000), "0.977 KiB");
/// ```
///
/// QEMU: `size_to_str` (util/cutils.c)
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let bytes = round_to_double(bytes);
    let mut unit = 0;
    let mut unit_bytes = 1_u128;
    while unit + 1 < UNITS.len() && bytes >= 1000 * unit_bytes {
        unit += 1;
        unit_bytes <<= 10;
    }
    // Three significant digits mean this many parts per unit; below one the leading zero does not count.
    let parts_per_unit = match bytes / unit_bytes {
        0..10 if bytes < unit_bytes => 1000,
        0..10 => 100,
        10..100 => 10,
        _ => 1,
    };
    let parts = divide_half_even(bytes * parts_per_unit, unit_bytes);
    if parts_per_unit == 1 && parts == 1000 {
        return format!("1e+03 {}", UNITS[unit]);
    }
    let (whole, fraction) = (parts / parts_per_unit, parts % parts_per_unit);
    if fraction == 0 {
        return format!("{whole} {}", UNITS[unit]);
    }
    // Adding one part per unit keeps the zeros that follow the point; its own leading `1` is cut off.
    let padded = (parts_per_unit + fraction).to_string();
    format!("{whole}.{} {}", padded[1..].trim_end_matches('0'), UNITS[unit])
}

/// What C's `isspace` accepts in the C locale.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn parse_hex(digits: &str) -> Result<u64, SizeError> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SizeError::Invalid);
    }
    // Only digits are left, so that overflow is the only possible error.
    u64::from_str_radix(digits, 16).map_err(|_| SizeError::OutOfRange)
}

fn parse_decimal(number: &str, negative: bool) -> Result<u64, SizeError> {
    let (whole_digits, rest) = split_digits(number);
    let (fraction_digits, suffix) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole_digits.is_empty() && fraction_digits.is_empty() {
        return Err(SizeError::Invalid);
    }
    if negative {
        return out_of_range_if_last(if whole_digits.is_empty() { suffix } else { rest });
    }
    let whole = match whole_digits {
        "" => 0,
        // Only digits: overflow is the only possible error.
        digits => match digits.parse::<u64>() {
            Ok(whole) => whole,
            Err(_) => return out_of_range_if_last(rest),
        },
    };
    let (carry, fraction) = parse_fraction(fraction_digits);
    let Some(whole) = whole.checked_add(carry) else {
        return out_of_range_if_last(suffix);
    };
    let multiplier = suffix_multiplier(suffix).ok_or(SizeError::Invalid)?;
    if multiplier == 1 && fraction != 0 {
        return Err(SizeError::Invalid);
    }
    // At most 2^124 each: neither product overflows, nor does their sum.
    let whole_bytes = u128::from(whole) * u128::from(multiplier);
    let fraction_bytes = (u128::from(fraction) * u128::from(multiplier) + (1 << 63)) >> 64;
    u64::try_from(whole_bytes + fraction_bytes).map_err(|_| SizeError::OutOfRange)
}

/// The error for a number whose value is already known not to fit, `rest` being what follows it.
fn out_of_range_if_last(rest: &str) -> Result<u64, SizeError> {
    Err(if rest.is_empty() { SizeError::OutOfRange } else { SizeError::Invalid })
}

fn split_digits(text: &str) -> (&str, &str) {
    let n_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(n_digits)
}

/// The digits after the point as a carry into the integer part and a multiple of 2^-64.
///
/// The fraction goes through a double, as in the reference: enough nines round up to one, and the last bytes of a large
/// unit depend on it. A fraction too small for 2^-64 counts as 2^-64, so that it is still refused without a unit.
fn parse_fraction(digits: &str) -> (u64, u64) {
    const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
    if digits.bytes().all(|b| b == b'0') {
        return (0, 0);
    }
    let fraction: f64 = format!("0.{digits}").parse().expect("a zero, a point and digits are a number");
    if fraction >= 1.0 {
        return (1, 0);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product is in 0..2^64, and its own fraction is meant to be cut off"
    )]
    let scaled = (fraction * TWO_POW_64) as u64;
    (0, scaled.max(1))
}

fn suffix_multiplier(suffix: &str) -> Option<u64> {
    Some(match suffix {
        "" | "b" | "B" => 1,
        "k" | "K" => KIB,
        "m" | "M" => MIB,
        "g" | "G" => GIB,
        "t" | "T" => TIB,
        "p" | "P" => PIB,
        "e" | "E" => EIB,
        _ => return None,
    })
}

/// `bytes` with the 53 significant bits of a double, since the reference prints a double.
fn round_to_double(bytes: u64) -> u128 {
    let excess_bits = 11_u32.saturating_sub(bytes.leading_zeros());
    divide_half_even(u128::from(bytes), 1 << excess_bits) << excess_bits
}

/// The quotient rounded to the nearest integer, and to the even one when two are equally near, as `printf` does.
fn divide_half_even(dividend: u128, divisor: u128) -> u128 {
    let (quotient, remainder) = (dividend / divisor, dividend % divisor);
    let round_up = 2 * remainder > divisor || (2 * remainder == divisor && quotient % 2 == 1);
    quotient + u128::from(round_up)
}

#[cfg(test)]
mod tests;
