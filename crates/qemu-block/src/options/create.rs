//! The schema of creation options. QEMU: `QemuOptsList`, `qemu_opts_print_help` (util/qemu-option.c).

use super::take::{parse_bool, parse_number, parse_size_option};
use super::{OptionValue, Options};
use crate::error::{BlockError, ErrorKind, Result};

/// One option that `create -o` accepts. QEMU: `QemuOptDesc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateOption {
    /// Its name.
    pub name: &'static str,
    /// One line about it.
    pub help: &'static str,
    /// What its values look like.
    pub kind: OptionKind,
    /// The value when none is given.
    pub default: Option<&'static str>,
}

/// What the values of an option look like. QEMU: `QemuOptType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// `on` or `off`.
    Bool,
    /// Bytes, with an optional binary suffix.
    Size,
    /// A plain number.
    Number,
    /// Anything.
    Text,
}

impl OptionKind {
    /// The name of the type in help texts.
    fn help(self) -> &'static str {
        match self {
            Self::Bool => "bool (on/off)",
            Self::Size => "size",
            Self::Number => "num",
            Self::Text => "str",
        }
    }

    /// Checks a value and brings it into its canonical form: bytes and numbers in decimal, truth values typed.
    fn normalise(self, key: &str, text: &str) -> Result<OptionValue> {
        Ok(match self {
            Self::Bool => parse_bool(key, text)?.into(),
            Self::Size => parse_size_option(key, text)?.into(),
            Self::Number => parse_number(key, text)?.into(),
            Self::Text => text.into(),
        })
    }
}

/// Checks names and values of `-o` against a schema, normalises the values, and fills in the defaults.
///
/// # Errors
/// `InvalidArgument`, with the reference's text, for a name that is not in the schema and for a malformed value.
pub fn check_create_options(schema: &[CreateOption], options: &Options) -> Result<Options> {
    let mut checked = Options::new();
    for (key, value) in options.iter() {
        let Some(option) = schema.iter().find(|option| option.name == key) else {
            return Err(BlockError::new(ErrorKind::InvalidArgument, format!("Invalid parameter '{key}'")));
        };
        if *value != OptionValue::Null {
            checked.set(key, option.kind.normalise(key, &value.to_text())?);
        }
    }
    for option in schema {
        if let (Some(default), false) = (option.default, checked.contains(option.name)) {
            checked.set(option.name, option.kind.normalise(option.name, default)?);
        }
    }
    Ok(checked)
}

/// The lines of `-o help`, sorted by name, without a caption.
pub fn create_options_help(schema: &[CreateOption]) -> Vec<String> {
    let line = |option: &CreateOption| {
        let head = format!("  {}=<{}>", option.name, option.kind.help());
        if option.help.is_empty() { head } else { format!("{head:<24} - {}", option.help) }
    };
    let mut lines: Vec<_> = schema.iter().map(line).collect();
    lines.sort();
    lines
}
