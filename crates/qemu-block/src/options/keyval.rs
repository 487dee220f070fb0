//! `a=b,c.d=e`. QEMU: `opts_do_parse`, `is_valid_option_list`, `has_help_option` (util/qemu-option.c).

use super::{OptionValue, Options};
use crate::error::{BlockError, ErrorKind, Result};

/// More options than this in one text are refused: nobody writes so many, and a map of them costs memory.
pub(super) const OPTIONS_MAX: usize = 4096;

impl Options {
    /// Parses `a=b,c.d=e`.
    ///
    /// A comma in a value is written `,,`. The first item may be a bare value if `implied_key` names the key it is
    /// for. Any other item without `=` is a switch: `foo` means `foo=on`, `nofoo` means `foo=off`. Where a key occurs
    /// twice the last value counts. The key `id` is reserved and ignored.
    ///
    /// # Errors
    /// `InvalidArgument` when there are absurdly many items; what the options mean is checked by whoever takes them.
    pub fn parse_keyval(text: &str, implied_key: Option<&str>) -> Result<Self> {
        Ok(Self::parse_keyval_with_switches(text, implied_key)?.0)
    }

    /// As [`Options::parse_keyval`]; also returns the keys that were written as switches, which the reference warns
    /// about where they name options of images.
    ///
    /// # Errors
    /// As [`Options::parse_keyval`].
    pub fn parse_keyval_with_switches(text: &str, implied_key: Option<&str>) -> Result<(Self, Vec<String>)> {
        let (mut options, mut switches) = Self::parse_items(text, implied_key)?;
        options.take("id");
        switches.retain(|key| key != "id");
        Ok((options, switches))
    }

    /// As [`Options::parse_keyval`] for the definition of an object, where `id` is a key like any other.
    ///
    /// # Errors
    /// As [`Options::parse_keyval`].
    pub fn parse_object(text: &str, implied_key: Option<&str>) -> Result<Self> {
        Ok(Self::parse_items(text, implied_key)?.0)
    }

    fn parse_items(text: &str, implied_key: Option<&str>) -> Result<(Self, Vec<String>)> {
        let mut options = Self::new();
        let mut switches = Vec::new();
        let mut rest = text;
        let mut implied_key = implied_key;
        while !rest.is_empty() {
            let item = next_item(&mut rest, implied_key.take());
            if options.entries.len() >= OPTIONS_MAX {
                return Err(BlockError::new(ErrorKind::InvalidArgument, "Too many options"));
            }
            if item.switch {
                switches.push(item.key.clone());
            }
            options.set(item.key, item.value);
        }
        Ok((options, switches))
    }

    /// Writes the options so that [`Options::parse_keyval`] reads the same texts back.
    ///
    /// Types are lost: all values become text, and null becomes nothing. Keys are not escaped, because the grammar has
    /// no way to do it.
    pub fn to_keyval(&self) -> String {
        let item = |(key, value): (&str, &OptionValue)| format!("{key}={}", value.to_text().replace(',', ",,"));
        self.iter().map(item).collect::<Vec<_>>().join(",")
    }
}

struct Item {
    key: String,
    value: String,
    switch: bool,
}

/// Cuts one item, and the comma after it, off the front of `rest`.
fn next_item(rest: &mut &str, implied_key: Option<&str>) -> Item {
    let end = rest.find(['=', ',']).unwrap_or(rest.len());
    let item = if rest[end..].starts_with('=') {
        let key = rest[..end].to_owned();
        *rest = &rest[end + 1..];
        Item { key, value: next_value(rest), switch: false }
    } else if let Some(key) = implied_key {
        Item { key: key.to_owned(), value: next_value(rest), switch: false }
    } else {
        let name = &rest[..end];
        *rest = &rest[end..];
        let (key, value) = name.strip_prefix("no").map_or((name, "on"), |key| (key, "off"));
        Item { key: key.to_owned(), value: value.to_owned(), switch: true }
    };
    *rest = rest.strip_prefix(',').unwrap_or(rest);
    item
}

/// Cuts a value off the front of `rest`, up to a single comma or the end; `,,` becomes a comma.
fn next_value(rest: &mut &str) -> String {
    let mut value = String::new();
    loop {
        let end = rest.find(',').unwrap_or(rest.len());
        value.push_str(&rest[..end]);
        *rest = &rest[end..];
        let Some(after) = rest.strip_prefix(",,") else { return value };
        value.push(',');
        *rest = after;
    }
}

/// Whether an argument of `-o` can be joined with others by commas: no empty item at either end or in between.
pub fn is_valid_option_list(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let value = next_value(&mut rest);
        let dangling = rest == ",";
        if dangling || value.is_empty() || value.starts_with(',') {
            return false;
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    true
}

/// Whether an argument of `-o` asks for help: one of its items is `help` or `?`.
pub fn has_help_option(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        if matches!(next_value(&mut rest).as_str(), "help" | "?") {
            return true;
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    false
}
