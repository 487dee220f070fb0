//! Header extensions: typed sections between the header and the backing file name.

use super::bytes;
use crate::error::FormatError;
use crate::limits::{BACKING_FORMAT_BYTES_MAX, EXTENSIONS_MAX};

/// End of the extension area.
pub const MAGIC_END: u32 = 0;
/// Name of the backing file's format.
pub const MAGIC_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Names of feature bits.
pub const MAGIC_FEATURE_NAMES: u32 = 0x6803_f857;
/// Where the bitmap directory is.
pub const MAGIC_BITMAPS: u32 = 0x2385_2875;
/// Where the encryption header is.
pub const MAGIC_ENCRYPTION: u32 = 0x0537_be77;
/// Name of the external data file.
pub const MAGIC_DATA_FILE: u32 = 0x4441_5441;

/// Bytes of data in the bitmaps extension.
pub(super) const BITMAPS_BYTES: u32 = 24;
/// Bytes of data in the encryption extension.
pub(super) const ENCRYPTION_BYTES: u32 = 16;
/// Bytes of type and length in front of an extension's data.
const PREFIX_BYTES: usize = 8;

/// One header extension: its type and its data, without padding.
///
/// All types are kept like this, so that those nobody here knows survive byte for byte (some programs store things in
/// extensions of their own). QEMU: `Qcow2UnknownHeaderExtension` for those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The type.
    pub magic: u32,
    /// The data.
    pub data: Vec<u8>,
}

impl Extension {
    /// An extension that names the backing file's format.
    #[must_use]
    pub fn backing_format(name: &str) -> Self {
        Self { magic: MAGIC_BACKING_FORMAT, data: name.as_bytes().to_vec() }
    }

    /// An extension that names the external data file.
    #[must_use]
    pub fn data_file(name: &str) -> Self {
        Self { magic: MAGIC_DATA_FILE, data: name.as_bytes().to_vec() }
    }

    /// An extension with the names of all feature bits that we know.
    #[must_use]
    pub fn feature_names() -> Self {
        Self { magic: MAGIC_FEATURE_NAMES, data: super::features::feature_name_table() }
    }
}

/// Parses the extension area: `area` starts after the header and ends where the backing file name or the first cluster
/// does. A missing end mark is accepted when the area is full.
///
/// # Errors
/// When an extension does not fit, or has a length that its type cannot have.
pub(super) fn parse(area: &[u8]) -> Result<Vec<Extension>, FormatError> {
    let mut extensions = Vec::new();
    let mut at = 0usize;
    while let (Some(magic), Some(length)) = (bytes::u32_at(area, at), bytes::u32_at(area, at.saturating_add(4))) {
        if magic == MAGIC_END {
            break;
        }
        let start = at.saturating_add(PREFIX_BYTES);
        let len = usize::try_from(length).unwrap_or(usize::MAX);
        let data = bytes::part(area, start, len).ok_or(FormatError::ExtensionTooLarge { magic, length })?;
        check_length(magic, length)?;
        if extensions.len() >= EXTENSIONS_MAX {
            return Err(FormatError::ExtensionCount);
        }
        extensions.push(Extension { magic, data: data.to_vec() });
        at = start.saturating_add(len.checked_next_multiple_of(8).unwrap_or(usize::MAX));
    }
    Ok(extensions)
}

fn check_length(magic: u32, length: u32) -> Result<(), FormatError> {
    match magic {
        MAGIC_BACKING_FORMAT if length > BACKING_FORMAT_BYTES_MAX => Err(FormatError::BackingFormatTooLong { length }),
        MAGIC_ENCRYPTION if length != ENCRYPTION_BYTES => Err(FormatError::EncryptionLength { length }),
        MAGIC_BITMAPS if length != BITMAPS_BYTES => Err(FormatError::BitmapsLength { length: u64::from(length) }),
        _ => Ok(()),
    }
}

/// The data of the last extension of a type: where one is repeated, the reference uses the last.
pub(super) fn find(extensions: &[Extension], magic: u32) -> Option<&[u8]> {
    extensions.iter().rev().find(|extension| extension.magic == magic).map(|extension| extension.data.as_slice())
}

/// Appends the extensions and the end mark, each padded to a multiple of eight bytes.
pub(super) fn serialize(extensions: &[Extension], out: &mut Vec<u8>) -> Result<(), FormatError> {
    for extension in extensions {
        let Ok(length) = u32::try_from(extension.data.len()) else {
            return Err(FormatError::ExtensionTooLarge { magic: extension.magic, length: u32::MAX });
        };
        out.extend_from_slice(&extension.magic.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&extension.data);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serialized(extensions: &[Extension]) -> Vec<u8> {
        let mut out = Vec::new();
        serialize(extensions, &mut out).expect("small");
        out
    }

    #[test]
    fn unknown_extensions_survive() {
        let extensions = vec![
            Extension { magic: 0x7661_7465, data: vec![1, 2, 3] },
            Extension::backing_format("raw"),
            Extension { magic: 5, data: Vec::new() },
        ];
        assert_eq!(parse(&serialized(&extensions)), Ok(extensions));
    }

    #[test]
    fn extensions_stay_inside_their_area() {
        let mut area = serialized(&[Extension { magic: 7, data: vec![0; 16] }]);
        area.truncate(20);
        assert_eq!(parse(&area), Err(FormatError::ExtensionTooLarge { magic: 7, length: 16 }));
        assert_eq!(parse(&area[..7]), Ok(Vec::new()));
        let long = Extension { magic: MAGIC_BACKING_FORMAT, data: vec![b'x'; 16] };
        assert_eq!(parse(&serialized(&[long])), Err(FormatError::BackingFormatTooLong { length: 16 }));
    }
}
