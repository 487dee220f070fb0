//! Options of opens and creates: a flat map of dotted keys, as QEMU's flattened `QDict` and as its `QemuOpts`.
//!
//! | text | parser |
//! |---|---|
//! | `driver=qcow2,file.filename=a,,b` | [`Options::parse_keyval`] |
//! | `json:{"driver":"qcow2","file":{…}}`, the part after `json:` | [`Options::parse_json`] |
//! | values of `-o` | [`check_create_options`], against the schema of the formats involved |
//!
//! A driver takes the options it knows out of its map ([`Options::take_bool`] and the like); what is left when it is
//! done is unknown, which is how misspelt options are found.

mod create;
mod json;
mod keyval;
mod take;
#[cfg(all(test, not(qemu_loom)))]
mod tests;

use std::collections::BTreeMap;

pub use create::{CreateOption, OptionKind, check_create_options, create_options_help};
pub use keyval::{has_help_option, is_valid_option_list};

/// The value of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// A text, as everything that was written as `key=value`.
    Text(String),
    /// A truth value from JSON.
    Bool(bool),
    /// A number from JSON.
    Int(i64),
    /// JSON's `null`: "explicitly nothing", as in `"backing": null`.
    Null,
}

impl OptionValue {
    /// The value as it would be written after `key=`; nothing for [`OptionValue::Null`].
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bool(true) => "on".to_owned(),
            Self::Bool(false) => "off".to_owned(),
            Self::Int(number) => number.to_string(),
            Self::Null => String::new(),
        }
    }
}

impl From<&str> for OptionValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for OptionValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for OptionValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for OptionValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// Sizes beyond the range of [`OptionValue::Int`] are kept as text.
impl From<u64> for OptionValue {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or_else(|_| Self::Text(value.to_string()), Self::Int)
    }
}

/// A flat map of dotted keys to values.
///
/// ```
/// use qemu_block::options::Options;
///
/// let mut options = Options::parse_keyval("driver=qcow2,file.filename=a,,b", None)?;
/// let mut file = options.take_sub("file");
/// assert_eq!(file.take_str("filename").as_deref(), Some("a,b"));
/// assert_eq!(options.keys().collect::<Vec<_>>(), ["driver"]);
/// # Ok::<(), qemu_block::error::BlockError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    entries: BTreeMap<String, OptionValue>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, replacing an earlier value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<OptionValue>) {
        self.entries.insert(key.into(), value.into());
    }

    /// The value of an option.
    pub fn get(&self, key: &str) -> Option<&OptionValue> {
        self.entries.get(key)
    }

    /// The value of an option as text; none when it is missing or null.
    pub fn get_str(&self, key: &str) -> Option<String> {
        self.get(key).filter(|value| **value != OptionValue::Null).map(OptionValue::to_text)
    }

    /// Whether an option is set, be it to null.
    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether an option below `prefix` is set: one whose key begins with `prefix.`.
    pub fn contains_sub(&self, prefix: &str) -> bool {
        let prefix = format!("{prefix}.");
        self.entries.range(prefix.clone()..).next().is_some_and(|(key, _)| key.starts_with(&prefix))
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Adds the options of `other`; where both set a key, `other` wins.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }
}
