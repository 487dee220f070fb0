//! Nested JSON to dotted keys. QEMU: `parse_json_filename` (block.c), `qdict_flatten` (qobject/block-qdict.c).

use serde_json::Value;

use super::keyval::OPTIONS_MAX;
use super::{OptionValue, Options};
use crate::error::{BlockError, ErrorKind, Result};

impl Options {
    /// Parses the JSON object behind `json:` and flattens it: `{"a": {"b": [1]}}` is `a.b.0=1`.
    ///
    /// # Errors
    /// `InvalidArgument` when the text is no JSON, no object, nested deeper than 127 levels, or huge.
    pub fn parse_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let detail = if error.is_eof() { "premature EOI".to_owned() } else { error.to_string() };
            invalid(&format!("JSON parse error, {detail}")).context("Could not parse the JSON options")
        })?;
        if !value.is_object() {
            return Err(invalid("Invalid JSON object given"));
        }
        let mut options = Self::new();
        options.flatten(String::new(), value)?;
        Ok(options)
    }

    /// Adds `value` under `key`. The parser bounds the nesting, so the recursion is bounded.
    fn flatten(&mut self, key: String, value: Value) -> Result<()> {
        let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        let value = match value {
            Value::Object(members) if !members.is_empty() || key.is_empty() => {
                return members.into_iter().try_for_each(|(name, value)| self.flatten(join(&name), value));
            }
            Value::Array(items) if !items.is_empty() => {
                let mut items = items.into_iter().enumerate();
                return items.try_for_each(|(index, value)| self.flatten(join(&index.to_string()), value));
            }
            Value::Object(_) | Value::Array(_) => return Err(invalid(&format!("Parameter '{key}' must not be empty"))),
            Value::Null => OptionValue::Null,
            Value::Bool(value) => OptionValue::Bool(value),
            Value::String(text) => OptionValue::Text(text),
            Value::Number(number) => {
                number.as_i64().map_or_else(|| OptionValue::Text(number.to_string()), OptionValue::Int)
            }
        };
        if self.entries.len() >= OPTIONS_MAX {
            return Err(invalid("Too many options"));
        }
        self.set(key, value);
        Ok(())
    }
}

fn invalid(message: &str) -> BlockError {
    BlockError::new(ErrorKind::InvalidArgument, message)
}
