//! `--object`: what is defined on the command line, by a name that options refer to. Secrets are all there is.
//!
//! QEMU: `user_creatable_process_cmdline` (qom/object_interfaces.c)

use std::fs::File;
use std::io::Read;

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
        if kind != "secret" {
            return Err(Failure::new(format!("Parameter 'qom-type' does not accept value '{kind}'")));
        }
        let id = take_text(&mut properties, "id")?.ok_or_else(|| Failure::new("Parameter 'id' is missing"))?;
        let secret = secret_properties(&mut properties)?;
        if let Some(name) = properties.keys().next() {
            return Err(Failure::new(format!("Parameter '{name}' is unexpected")));
        }
        check_id(&id)?;
        self.secrets.define(&id, secret, read_file).map_err(|error| Failure::new(error.to_string()))
    }

    /// The secrets among them.
    pub(crate) fn secrets(&self) -> &SecretStore {
        &self.secrets
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
