//! Secrets by name, as `--object secret,id=…` defines them.
//!
//! QEMU: crypto/secret.c, crypto/secret_common.c

use std::collections::HashMap;

use crate::base64;
use crate::bytes::SecretBytes;
use crate::cipher::cbc_decrypt_with_iv;
use crate::error::{CryptoError, Result};

/// How the data of a secret is written down. QEMU: `QCryptoSecretFormat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretFormat {
    /// As it is.
    #[default]
    Raw,
    /// As base64.
    Base64,
}

impl SecretFormat {
    /// The value of the property `format`.
    ///
    /// # Errors
    /// There is no such format.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "raw" => Ok(Self::Raw),
            "base64" => Ok(Self::Base64),
            _ => Err(CryptoError::OptionValue { option: "format", value: name.to_owned() }),
        }
    }
}

/// A secret as somebody described it. QEMU: `SecretProperties`.
#[derive(Clone, Debug, Default)]
pub struct SecretProperties {
    /// Its data.
    pub data: Option<SecretBytes>,
    /// The name of a file with its data.
    pub file: Option<String>,
    /// How the data is written down.
    pub format: SecretFormat,
    /// The secret that decrypts this one.
    pub keyid: Option<String>,
    /// With `keyid`: the initialization vector in base64.
    pub iv: Option<String>,
}

/// All secrets of a program.
#[derive(Clone, Debug, Default)]
pub struct SecretStore {
    secrets: HashMap<String, SecretBytes>,
}

impl SecretStore {
    /// No secrets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret whose value is known.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn insert(&mut self, id: &str, value: SecretBytes) -> Result<()> {
        if self.secrets.contains_key(id) {
            return Err(CryptoError::SecretDuplicate { id: id.to_owned() });
        }
        self.secrets.insert(id.to_owned(), value);
        Ok(())
    }

    /// Adds a secret as somebody described it. `read_file` gets a file's content, or the system's reason why not.
    ///
    /// # Errors
    /// The properties make no sense together, the data cannot be read or decrypted, or there is a secret of that name.
    pub fn define(
        &mut self,
        id: &str,
        properties: SecretProperties,
        read_file: impl FnOnce(&str) -> std::result::Result<Vec<u8>, String>,
    ) -> Result<()> {
        let data = match (properties.file.as_deref(), properties.data.clone()) {
            (Some(_), Some(_)) => return Err(CryptoError::SecretDataTwice),
            (None, None) => return Err(CryptoError::SecretWithoutData),
            (None, Some(data)) => data,
            (Some(file), None) => read_file(file)
                .map(SecretBytes::new)
                .map_err(|reason| CryptoError::SecretFile { file: file.to_owned(), reason })?,
        };
        let value = self.reveal(&properties, data)?;
        self.insert(id, value)
    }

    /// Decodes and decrypts data.
    fn reveal(&self, properties: &SecretProperties, data: SecretBytes) -> Result<SecretBytes> {
        let decode = |data: SecretBytes| match properties.format {
            SecretFormat::Raw => Ok(data),
            SecretFormat::Base64 => base64::decode(data.as_ref()),
        };
        let Some(keyid) = &properties.keyid else { return decode(data) };
        let key: &[u8; 32] = self.get(keyid)?.try_into().map_err(|_| CryptoError::SecretKeyLen)?;
        let iv = properties.iv.as_deref().ok_or(CryptoError::SecretIvMissing)?;
        let iv = base64::decode(iv.as_bytes())?;
        let len = iv.as_ref().len();
        let iv: [u8; 16] = iv.as_ref().try_into().map_err(|_| CryptoError::SecretIvLen { len })?;
        let mut data = decode(data)?;
        let len = data.as_ref().len();
        if !len.is_multiple_of(16) {
            return Err(CryptoError::SecretDataLen { len });
        }
        cbc_decrypt_with_iv(key, iv, data.as_mut());
        // No data has no padding, either; the reference reads a byte before the buffer.
        let Some(&count) = data.as_ref().last() else { return Ok(data) };
        if count > 16 {
            return Err(CryptoError::SecretPadding { count });
        }
        data.truncate(len - usize::from(count));
        Ok(data)
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn get(&self, id: &str) -> Result<&[u8]> {
        let found = self.secrets.get(id).map(AsRef::as_ref);
        found.ok_or_else(|| CryptoError::SecretUnknown { id: id.to_owned() })
    }

    /// The value of a secret as a passphrase, which is text without NULs.
    ///
    /// # Errors
    /// There is none of that name, or it is something else.
    pub fn passphrase(&self, id: &str) -> Result<SecretBytes> {
        let value = self.get(id)?;
        if std::str::from_utf8(value).is_err() || value.contains(&0) {
            return Err(CryptoError::SecretNotText { id: id.to_owned() });
        }
        Ok(SecretBytes::new(value.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> SecretProperties {
        SecretProperties { data: Some(SecretBytes::new(text.as_bytes().to_vec())), ..SecretProperties::default() }
    }

    fn no_file(_: &str) -> std::result::Result<Vec<u8>, String> {
        Err("No such file or directory".to_owned())
    }

    fn error(store: &mut SecretStore, properties: SecretProperties) -> String {
        store.define("new", properties, no_file).expect_err("refused").to_string()
    }

    #[test]
    fn values() {
        let mut store = SecretStore::new();
        store.define("a", data("pw"), no_file).expect("valid");
        assert_eq!(store.passphrase("a").expect("there").as_ref(), b"pw");
        let base64 = SecretProperties { format: SecretFormat::Base64, ..data("cHc=") };
        store.define("b", base64, no_file).expect("valid");
        assert_eq!(store.get("b"), Ok(&b"pw"[..]));
        let file = SecretProperties { file: Some("f".to_owned()), ..SecretProperties::default() };
        store.define("c", file.clone(), |name| Ok(name.as_bytes().to_vec())).expect("valid");
        assert_eq!(store.get("c"), Ok(&b"f"[..]));
        assert_eq!(error(&mut store, file), "Unable to read f: Failed to open file “f”: No such file or directory");
        assert_eq!(store.get("d").expect_err("unknown").to_string(), "No secret with id 'd'");
        let again = store.define("a", data("x"), no_file).expect_err("there").to_string();
        assert_eq!(again, "attempt to add duplicate property 'a' to object (type 'container')");
    }

    #[test]
    fn properties_that_make_no_sense() {
        let mut store = SecretStore::new();
        assert_eq!(error(&mut store, SecretProperties::default()), "Either 'file' or 'data' must be provided");
        let both = SecretProperties { file: Some("f".to_owned()), ..data("x") };
        assert_eq!(error(&mut store, both), "'file' and 'data' are mutually exclusive");
        assert!(SecretFormat::parse("hex").is_err());
        let not_text = SecretBytes::new(vec![0xff]);
        store.insert("bin", not_text).expect("new");
        let text = store.passphrase("bin").expect_err("not text").to_string();
        assert_eq!(text, "Data from secret bin is not valid UTF-8");
    }

    #[test]
    fn a_secret_is_decrypted_by_another() {
        let mut store = SecretStore::new();
        store.define("m", data("01234567890123456789012345678901"), no_file).expect("valid");
        let with = |keyid: &str, iv: Option<&str>, text: &str| SecretProperties {
            keyid: Some(keyid.to_owned()),
            iv: iv.map(str::to_owned),
            format: SecretFormat::Base64,
            ..data(text)
        };
        let iv = Some("AAAAAAAAAAAAAAAAAAAAAA==");
        // AES-256-CBC of "pw" and 14 bytes of padding, computed with openssl.
        store.define("s", with("m", iv, "iDpThjVt4axcUm+rEoG19g=="), no_file).expect("valid");
        assert_eq!(store.get("s"), Ok(&b"pw"[..]));
        assert_eq!(error(&mut store, with("x", iv, "")), "No secret with id 'x'");
        assert_eq!(error(&mut store, with("m", None, "")), "IV is required to decrypt secret");
        assert_eq!(error(&mut store, with("m", Some("AAAA"), "")), "IV should be 16 bytes in length not 3");
        assert_eq!(error(&mut store, with("m", iv, "AAAA")), "Length 3 must be a multiple of block size 16");
        let padding = "Incorrect number of padding bytes (111) found on decrypted data";
        assert_eq!(error(&mut store, with("m", iv, "AAAAAAAAAAAAAAAAAAAAAA==")), padding);
        store.define("short", data("x"), no_file).expect("valid");
        assert_eq!(error(&mut store, with("short", iv, "")), "Key should be 32 bytes in length");
    }
}
