//! How guest data is encrypted, and where the encryption header is.

use super::bytes;
use super::extension::{self, ENCRYPTION_BYTES, Extension, MAGIC_ENCRYPTION};
use crate::error::FormatError;
use crate::units::{Geometry, HostOffset};

const METHOD_NONE: u32 = 0;
const METHOD_AES: u32 = 1;
const METHOD_LUKS: u32 = 2;

/// How guest data is encrypted. QEMU: `crypt_method_header` of `BDRVQcow2State` (block/qcow2.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With AES, and the passphrase itself as the key.
    Aes,
    /// As in LUKS, whose header is in clusters of its own.
    Luks(LuksPlace),
}

/// Where the LUKS header and its key slots are. QEMU: `Qcow2CryptoHeaderExtension` (block/qcow2.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LuksPlace {
    /// Where it starts: at a cluster.
    pub offset: HostOffset,
    /// Its length in bytes, which need not be whole clusters.
    pub len: u64,
}

impl Encryption {
    /// QEMU's name of the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes => "aes",
            Self::Luks(_) => "luks",
        }
    }

    /// Parses what the header and its extensions say.
    ///
    /// # Errors
    /// The method is unknown, or the extension is missing, superfluous, or malformed.
    pub(super) fn parse(
        method: u32,
        extensions: &[Extension],
        geometry: Geometry,
    ) -> Result<Option<Self>, FormatError> {
        check_method(method)?;
        match (method, extension::find(extensions, MAGIC_ENCRYPTION)) {
            (METHOD_LUKS, Some(data)) => LuksPlace::parse(data, geometry).map(Self::Luks).map(Some),
            (METHOD_LUKS, None) => Err(FormatError::EncryptionMissing { method }),
            (_, Some(_)) => Err(FormatError::UnexpectedEncryption),
            (METHOD_AES, None) => Ok(Some(Self::Aes)),
            (_, None) => Ok(None),
        }
    }

    /// The method as a header stores it.
    pub(super) fn method(encryption: Option<Self>) -> u32 {
        match encryption {
            None => METHOD_NONE,
            Some(Self::Aes) => METHOD_AES,
            Some(Self::Luks(_)) => METHOD_LUKS,
        }
    }

    /// The extension that belongs to it, if one does.
    #[must_use]
    pub fn extension(self) -> Option<Extension> {
        let Self::Luks(place) = self else { return None };
        let data = [place.offset.get().to_be_bytes(), place.len.to_be_bytes()].concat();
        Some(Extension { magic: MAGIC_ENCRYPTION, data })
    }
}

/// Fails when nobody knows the method.
pub(super) fn check_method(method: u32) -> Result<(), FormatError> {
    match method {
        METHOD_NONE | METHOD_AES | METHOD_LUKS => Ok(()),
        _ => Err(FormatError::EncryptionMethod { method }),
    }
}

impl LuksPlace {
    fn parse(data: &[u8], geometry: Geometry) -> Result<Self, FormatError> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let fields = bytes::u64_at(data, 0).zip(bytes::u64_at(data, 8)).filter(|_| length == ENCRYPTION_BYTES);
        let (offset, len) = fields.ok_or(FormatError::EncryptionLength { length })?;
        if !geometry.is_aligned(HostOffset::new(offset)) {
            return Err(FormatError::EncryptionOffset { offset, cluster_size: geometry.cluster_size() });
        }
        Ok(Self { offset: HostOffset::new(offset), len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: u32, extensions: &[Extension]) -> Result<Option<Encryption>, String> {
        let geometry = Geometry::new(16, 4).expect("valid");
        Encryption::parse(method, extensions, geometry).map_err(|error| error.to_string())
    }

    #[test]
    fn method_and_extension_go_together() {
        let luks = Encryption::Luks(LuksPlace { offset: HostOffset::new(0x40000), len: 0x001f_9000 });
        let extension = luks.extension().expect("LUKS has one");
        assert_eq!(parse(2, std::slice::from_ref(&extension)), Ok(Some(luks)));
        assert_eq!((parse(0, &[]), parse(1, &[])), (Ok(None), Ok(Some(Encryption::Aes))));
        let unexpected = "CRYPTO header extension only expected with LUKS encryption method";
        assert_eq!(parse(0, std::slice::from_ref(&extension)), Err(unexpected.to_owned()));
        assert_eq!(parse(1, &[extension]), Err(unexpected.to_owned()));
        assert_eq!(parse(2, &[]), Err("Missing CRYPTO header for crypt method 2".to_owned()));
        assert_eq!(parse(3, &[]), Err("Unsupported encryption method 3".to_owned()));
    }

    #[test]
    fn malformed_extensions_are_refused() {
        let with = |data: Vec<u8>| parse(2, &[Extension { magic: MAGIC_ENCRYPTION, data }]);
        for length in [0, 8, 15, 17, 24] {
            let text = format!("CRYPTO header extension size {length}, but expected size 16");
            assert_eq!(with(vec![0; length]), Err(text));
        }
        let mut data = vec![0; 16];
        data[6] = 2;
        let text = "Encryption header offset '512' is not a multiple of cluster size '65536'";
        assert_eq!(with(data), Err(text.to_owned()));
    }
}
