//! `--object`: what is defined on the command line, by a name that options refer to: secrets, and groups of nodes that
//! are throttled together.
//!
//! QEMU: `user_creatable_process_cmdline` (qom/object_interfaces.c)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use filters::throttle::Limits;
use qemu_block::error::BlockError;
use qemu_block::options::{OptionValue, Options};
use qemu_crypto::bytes::SecretBytes;
use qemu_crypto::secret::{SecretFormat, SecretProperties, SecretStore};

use crate::failure::Failure;

/// Longer files are no secrets; a device that never ends must not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All objects of a command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    secrets: SecretStore,
    throttle_groups: BTreeMap<String, Limits>,
}

impl Objects {
    /// Adds the value of one more `--object`. A secret may refer to those before it.
    ///
    /// # Errors
    /// With the reference's text, when there is no such type or its properties are wrong.
    pub(crate) fn add(&mut self, definition: &str) -> Result<(), Failure> {
        let parsed = if definition.starts_with('{') {
            Options::parse_json(definition)
        } else {
            Options::parse_object(definition, Some("qom-type"))
        };
        let mut properties = parsed.map_err(|error| Failure::new(error.chain()))?;
        let kind = take_text(&mut properties, "qom-type")?;
        let kind = kind.ok_or_else(|| Failure::new("Parameter 'qom-type' is missing"))?;
        let make = match kind.as_str() {
            "secret" => Self::add_secret,
            "throttle-group" => Self::add_throttle_group,
            _ => return Err(Failure::new(format!("Parameter 'qom-type' does not accept value '{kind}'"))),
        };
        let id = take_text(&mut properties, "id")?.ok_or_else(|| Failure::new("Parameter 'id' is missing"))?;
        if definition.starts_with('{') && kind == "throttle-group" {
            check_integers(&properties)?;
        }
        make(self, &id, properties)
    }

    fn add_secret(&mut self, id: &str, mut properties: Options) -> Result<(), Failure> {
        let secret = secret_properties(&mut properties)?;
        self.check_new(id, &properties)?;
        self.secrets.define(id, secret, read_file).map_err(|error| Failure::new(error.to_string()))
    }

    fn add_throttle_group(&mut self, id: &str, mut properties: Options) -> Result<(), Failure> {
        let limits = throttle_limits(&mut properties)?;
        self.check_new(id, &properties)?;
        limits.check().map_err(Failure::new)?;
        self.throttle_groups.insert(id.to_owned(), limits);
        Ok(())
    }

    /// Fails if properties are left that nobody knows, or if there can be no object of that name.
    fn check_new(&self, id: &str, properties: &Options) -> Result<(), Failure> {
        if let Some(name) = properties.keys().next() {
            return Err(Failure::new(format!("Parameter '{name}' is unexpected")));
        }
        check_id(id)?;
        if self.throttle_groups.contains_key(id) || self.secrets.get(id).is_ok() {
            let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
            return Err(Failure::new(text));
        }
        Ok(())
    }

    /// The secrets among them.
    pub(crate) fn secrets(&self) -> &SecretStore {
        &self.secrets
    }

    /// The limits of the throttle groups among them, by name.
    pub(crate) fn throttle_groups(&self) -> impl Iterator<Item = (&str, Limits)> {
        self.throttle_groups.iter().map(|(name, limits)| (name.as_str(), *limits))
    }
}

/// The limits of a throttle group, in the object `limits` or in the older properties.
fn throttle_limits(properties: &mut Options) -> Result<Limits, Failure> {
    if properties.contains("limits") {
        return Err(Failure::new("Invalid parameter type for 'limits', expected: object"));
    }
    let mut limits = Limits::default();
    for name in Limits::names() {
        let old = format!("x-{name}");
        if let Some(value) = take_integer(properties, &old)? {
            let value = u64::try_from(value).map_err(|_| Failure::new("Property values cannot be negative"))?;
            // The reference forgot a space in its older text.
            let set = limits.set(&name, value);
            set.map_err(|text| Failure::new(format!("x-{}", text.replace("the range", "therange"))))?;
        }
        if let Some(value) = take_integer(properties, &format!("limits.{name}"))? {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            limits.set(&name, value).map_err(Failure::new)?;
        }
    }
    Ok(limits)
}

/// Takes a property whose value is a number.
/// JSON has numbers of its own, so a text is none there.
fn check_integers(properties: &Options) -> Result<(), Failure> {
    let is_limit = |name: &str| name.starts_with("x-") || name.starts_with("limits.");
    let wrong = properties.iter().find(|(name, value)| is_limit(name) && matches!(value, OptionValue::Text(_)));
    match wrong {
        Some((name, _)) => Err(Failure::new(format!("Invalid parameter type for '{name}', expected: integer"))),
        None => Ok(()),
    }
}

fn take_integer(properties: &mut Options, name: &str) -> Result<Option<i64>, Failure> {
    match properties.take(name) {
        None => Ok(None),
        Some(OptionValue::Int(value)) => Ok(Some(value)),
        Some(OptionValue::Text(text)) => {
            let value = text.parse().map_err(|_| Failure::new(format!("Parameter '{name}' expects integer")))?;
            Ok(Some(value))
        }
        Some(_) => Err(Failure::new(format!("Invalid parameter type for '{name}', expected: integer"))),
    }
}

fn secret_properties(properties: &mut Options) -> Result<SecretProperties, Failure> {
    let format = take_text(properties, "format")?.map(|name| SecretFormat::parse(&name)).transpose();
    Ok(SecretProperties {
        data: take_text(properties, "data")?.map(|text| SecretBytes::new(text.into_bytes())),
        file: take_text(properties, "file")?,
        format: format.map_err(|error| Failure::new(error.to_string()))?.unwrap_or_default(),
        keyid: take_text(properties, "keyid")?,
        iv: take_text(properties, "iv")?,
    })
}

/// Takes a property whose value is a text, also in JSON.
fn take_text(properties: &mut Options, name: &str) -> Result<Option<String>, Failure> {
    match properties.take(name) {
        None => Ok(None),
        Some(OptionValue::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Failure::new(format!("Invalid parameter type for '{name}', expected: string"))),
    }
}

/// QEMU: `id_wellformed` (util/id.c)
fn check_id(id: &str) -> Result<(), Failure> {
    let starts_well = id.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts_well && id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) {
        return Ok(());
    }
    Err(Failure::new(
        "Parameter 'id' expects an identifier\n\
         Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    ))
}

/// The content of a file, or the system's reason why there is none.
fn read_file(name: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(name).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(BlockError::from(error).errno_text()),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(format!("The file has more than {FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(definition: &str) -> String {
        let mut objects = Objects::default();
        objects.add("secret,id=short,data=x").expect("valid");
        objects.add(definition).expect_err(definition).into_text()
    }

    #[test]
    fn secrets_are_defined_in_every_form() {
        let mut objects = Objects::default();
        objects.add("secret,id=a,data=p,,w").expect("a comma in it");
        objects.add("qom-type=secret,id=b,format=base64,data=cHc=").expect("base64");
        objects.add(r#"{"qom-type":"secret","id":"c.-_1","data":"pw"}"#).expect("JSON");
        let secrets = objects.secrets();
        assert_eq!(secrets.get("a"), Ok(&b"p,w"[..]));
        assert_eq!(secrets.get("b"), Ok(&b"pw"[..]));
        assert_eq!(secrets.get("c.-_1"), Ok(&b"pw"[..]));
    }

    #[test]
    fn refused_definitions_have_the_reference_s_words() {
        let identifier = "Parameter 'id' expects an identifier\n\
                          Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.";
        for (definition, text) in [
            ("", "Parameter 'qom-type' is missing"),
            ("id=s,data=x", "Parameter 'qom-type' is missing"),
            ("secrt,id=s,data=x", "Parameter 'qom-type' does not accept value 'secrt'"),
            ("secret", "Parameter 'id' is missing"),
            ("secret,data=x", "Parameter 'id' is missing"),
            ("secret,id=9s,data=x", identifier),
            ("secret,id=s", "Either 'file' or 'data' must be provided"),
            ("secret,id=s,data=x,file=y", "'file' and 'data' are mutually exclusive"),
            ("secret,id=s,data=x,foo=bar", "Parameter 'foo' is unexpected"),
            ("secret,id=s,data=x,format=foo", "Parameter 'format' does not accept value 'foo'"),
            ("secret,id=s,data=x,keyid=m", "No secret with id 'm'"),
            ("secret,id=s,data=x,keyid=short", "Key should be 32 bytes in length"),
            ("secret,id=short,data=x", "attempt to add duplicate property 'short' to object (type 'container')"),
            (
                "secret,id=s,file=/nonexistent",
                "Unable to read /nonexistent: Failed to open file “/nonexistent”: No such file or directory",
            ),
            (r#"{"qom-type":"secret","id":"s","data":1}"#, "Invalid parameter type for 'data', expected: string"),
        ] {
            assert_eq!(refusal(definition), format!("qemu-img: {text}"), "{definition}");
        }
    }
}
