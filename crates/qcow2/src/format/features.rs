//! Feature words of the header, and the table that names their bits.

use std::fmt::Write as _;

use bitflags::bitflags;

use crate::error::FormatError;

bitflags! {
    /// Features without which an image cannot be used. QEMU: `QCOW2_INCOMPAT_*` (block/qcow2.h).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Incompatible: u64 {
        /// Refcounts may be wrong: the image was not closed.
        const DIRTY = 1 << 0;
        /// Metadata is damaged: nothing may be written.
        const CORRUPT = 1 << 1;
        /// Guest data is in another file.
        const DATA_FILE = 1 << 2;
        /// The compression type is not zlib.
        const COMPRESSION = 1 << 3;
        /// L2 entries describe subclusters.
        const EXTENDED_L2 = 1 << 4;
        const _ = !0;
    }

    /// Features that may be ignored. QEMU: `QCOW2_COMPAT_*` (block/qcow2.h).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Compatible: u64 {
        /// Refcounts may be written late.
        const LAZY_REFCOUNTS = 1 << 0;
        const _ = !0;
    }

    /// Features that a writer which does not know them must clear. QEMU: `QCOW2_AUTOCLEAR_*` (block/qcow2.h).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Autoclear: u64 {
        /// The persistent bitmaps are consistent.
        const BITMAPS = 1 << 0;
        /// The data file can be read as a raw image.
        const DATA_FILE_RAW = 1 << 1;
        const _ = !0;
    }
}

impl Incompatible {
    /// Everything that the format defines; images with other bits are refused.
    pub const KNOWN: Self =
        Self::DIRTY.union(Self::CORRUPT).union(Self::DATA_FILE).union(Self::COMPRESSION).union(Self::EXTENDED_L2);
}

impl Autoclear {
    /// Everything that this driver keeps consistent when it writes; it clears the rest first.
    pub const MAINTAINED: Self = Self::BITMAPS.union(Self::DATA_FILE_RAW);
}

/// Which feature word a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// [`Incompatible`].
    Incompatible,
    /// [`Compatible`].
    Compatible,
    /// [`Autoclear`].
    Autoclear,
}

impl FeatureKind {
    fn code(self) -> u8 {
        match self {
            Self::Incompatible => 0,
            Self::Compatible => 1,
            Self::Autoclear => 2,
        }
    }
}

/// Length of an entry of the feature name table in bytes.
pub const FEATURE_ENTRY_BYTES: usize = 48;

/// The names that a program of today writes, in the order in which the reference writes them, so that one of
/// yesterday can say what it misses.
const NAMES: [(FeatureKind, u8, &str); 8] = [
    (FeatureKind::Incompatible, 0, "dirty bit"),
    (FeatureKind::Incompatible, 1, "corrupt bit"),
    (FeatureKind::Incompatible, 2, "external data file"),
    (FeatureKind::Incompatible, 3, "compression type"),
    (FeatureKind::Incompatible, 4, "extended L2 entries"),
    (FeatureKind::Compatible, 0, "lazy refcounts"),
    (FeatureKind::Autoclear, 0, "bitmaps"),
    (FeatureKind::Autoclear, 1, "raw external data"),
];

/// The data of a feature name table with all names that we know.
pub fn feature_name_table() -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, bit, name) in NAMES {
        let mut entry = vec![kind.code(), bit];
        entry.extend_from_slice(name.as_bytes());
        entry.resize(FEATURE_ENTRY_BYTES, 0);
        table.append(&mut entry);
    }
    table
}

/// Names in an error at most. Each bit can have one of 46 bytes.
const NAMES_SHOWN_MAX: u32 = 8;

/// The error for incompatible bits that we do not know, by the names that `table`, the data of the image's feature
/// name table, has for them.
pub(super) fn unknown_features(unknown: Incompatible, table: &[u8]) -> FormatError {
    let mut left = unknown.bits();
    let mut names = String::new();
    for entry in table.chunks_exact(FEATURE_ENTRY_BYTES) {
        let [kind, bit, name @ ..] = entry else { continue };
        let mask = 1u64.checked_shl(u32::from(*bit)).unwrap_or(0);
        if *kind == FeatureKind::Incompatible.code() && left & mask != 0 {
            if (unknown.bits() ^ left).count_ones() == NAMES_SHOWN_MAX {
                break;
            }
            push_name(&mut names, name);
            left &= !mask;
        }
    }
    if left != 0 {
        separate(&mut names);
        // Writing to a string cannot fail.
        let _ = write!(names, "Unknown incompatible feature: {left:x}");
    }
    FormatError::Features { names }
}

fn separate(names: &mut String) {
    if !names.is_empty() {
        names.push_str(", ");
    }
}

/// Adds a name from the image, with everything that could disturb a terminal escaped.
fn push_name(names: &mut String, name: &[u8]) {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    separate(names);
    for character in String::from_utf8_lossy(name).chars() {
        if character.is_control() {
            names.extend(character.escape_default());
        } else {
            names.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_named_from_the_table() {
        let mut table = feature_name_table();
        let mut entry = vec![0, 9];
        entry.extend_from_slice(b"time\x1btravel");
        entry.resize(FEATURE_ENTRY_BYTES, 0);
        table.extend_from_slice(&entry);
        let unknown = Incompatible::from_bits_retain(1 << 9 | 1 << 60);
        assert_eq!(
            unknown_features(unknown, &table).to_string(),
            "Unsupported qcow2 feature(s): time\\u{1b}travel, Unknown incompatible feature: 1000000000000000"
        );
    }
}
