//! Taking typed values out of a map of options. QEMU: `qemu_opt_get_*_del` (util/qemu-option.c).

use qemu_util::units::{SizeError, parse_size};

use super::{OptionValue, Options};
use crate::error::{BlockError, ErrorKind, Result};

impl Options {
    /// Removes an option and returns its value.
    pub fn take(&mut self, key: &str) -> Option<OptionValue> {
        self.entries.remove(key)
    }

    /// Removes an option and returns it as text; none when it is missing or null.
    pub fn take_str(&mut self, key: &str) -> Option<String> {
        self.take(key).filter(|value| *value != OptionValue::Null).map(|value| value.to_text())
    }

    /// Removes a truth value: `on`, `off`, or JSON's `true` and `false`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn take_bool(&mut self, key: &str) -> Result<Option<bool>> {
        self.take_str(key).map(|text| parse_bool(key, &text)).transpose()
    }

    /// Removes a size in bytes, in the grammar of [`parse_size`].
    ///
    /// # Errors
    /// `InvalidArgument` when it is none.
    pub fn take_size(&mut self, key: &str) -> Result<Option<u64>> {
        self.take_str(key).map(|text| parse_size_option(key, &text)).transpose()
    }

    /// Removes a plain number: decimal, `0x` hexadecimal or `0` octal. A negative one wraps, as in the reference.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none.
    pub fn take_number(&mut self, key: &str) -> Result<Option<u64>> {
        self.take_str(key).map(|text| parse_number(key, &text)).transpose()
    }

    /// Removes a value that is one of a set of words; `parse` knows them.
    ///
    /// # Errors
    /// `InvalidArgument` when `parse` does not know the word.
    pub fn take_enum<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.take_str(key) else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| invalid(format!("invalid parameter value: {text}")))
    }

    /// Removes all options whose keys begin with `prefix.` and returns them without that prefix.
    #[must_use = "the options are removed"]
    pub fn take_sub(&mut self, prefix: &str) -> Self {
        let prefix = format!("{prefix}.");
        let mut taken = self.entries.split_off(&prefix);
        let rest = taken.keys().find(|key| !key.starts_with(&prefix)).cloned();
        if let Some(rest) = rest {
            self.entries.append(&mut taken.split_off(&rest));
        }
        let strip = |(key, value): (String, OptionValue)| (key[prefix.len()..].to_owned(), value);
        Self { entries: taken.into_iter().map(strip).collect() }
    }
}

fn invalid(message: String) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}

pub(super) fn parse_bool(key: &str, text: &str) -> Result<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(invalid(format!("Parameter '{key}' expects 'on' or 'off'"))),
    }
}

pub(super) fn parse_size_option(key: &str, text: &str) -> Result<u64> {
    parse_size(text).map_err(|error| match error {
        SizeError::OutOfRange => invalid(format!("Value '{text}' is out of range for parameter '{key}'")),
        // The second and third line are a hint in the reference; they reach the user in this order as well.
        SizeError::Invalid => invalid(format!(
            "Parameter '{key}' expects a non-negative number below 2^64\n\
             Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
             and exabytes, respectively."
        )),
    })
}

pub(super) fn parse_number(key: &str, text: &str) -> Result<u64> {
    let unsigned = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match unsigned.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, unsigned.strip_prefix('+').unwrap_or(unsigned)),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (16, hex),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(invalid(format!("Parameter '{key}' expects a number")));
    }
    let value = u64::from_str_radix(digits, radix)
        .map_err(|_| invalid(format!("Value '{text}' is too large for parameter '{key}'")))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}
