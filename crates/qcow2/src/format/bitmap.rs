//! The bitmaps extension and the entries of the bitmap directory: as much as it takes to list them and to
//! know their clusters.

use super::bytes;
use crate::error::{EntryFlaw, FormatError};
use crate::limits::{BITMAP_DIRECTORY_BYTES_MAX, BITMAPS_MAX, HOST_OFFSET_END};
use crate::units::{Geometry, HostOffset};

/// The bitmaps extension. QEMU: `Qcow2BitmapHeaderExt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapsExtension {
    /// How many bitmaps there are.
    pub count: u32,
    /// Length of the directory in bytes.
    pub directory_len: u64,
    /// Where the directory starts.
    pub directory_offset: HostOffset,
}

impl BitmapsExtension {
    /// Parses the extension's data.
    ///
    /// # Errors
    /// When a field is out of range.
    pub fn parse(data: &[u8], geometry: Geometry) -> Result<Self, FormatError> {
        let field = |at| bytes::u64_at(data, at);
        let (Some(count), Some(reserved), Some(directory_len), Some(directory_offset)) =
            (bytes::u32_at(data, 0), bytes::u32_at(data, 4), field(8), field(16))
        else {
            return Err(FormatError::BitmapsLength { length: u64::try_from(data.len()).unwrap_or(u64::MAX) });
        };
        let directory_offset = HostOffset::new(directory_offset);
        let checks = [
            (reserved != 0, "Reserved field is not zero", u64::from(reserved)),
            (count == 0, "found bitmaps extension with zero bitmaps", 0),
            (count > BITMAPS_MAX, "image has too many bitmaps", u64::from(count)),
            (directory_len > BITMAP_DIRECTORY_BYTES_MAX, "bitmap directory is too large", directory_len),
            (
                !geometry.is_aligned(directory_offset)
                    || directory_offset.get() < geometry.cluster_size()
                    || directory_offset.get() >= HOST_OFFSET_END,
                "invalid bitmap directory offset",
                directory_offset.get(),
            ),
        ];
        match checks.into_iter().find(|(bad, ..)| *bad) {
            Some((_, flaw, value)) => Err(FormatError::Bitmaps { flaw, value }),
            None => Ok(Self { count, directory_len, directory_offset }),
        }
    }
}

/// Where an entry of the bitmap directory says that its bitmap is. QEMU: `Qcow2BitmapDirEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapDirectoryEntry {
    /// Where the bitmap's table starts.
    pub table_offset: HostOffset,
    /// Entries in the bitmap's table.
    pub table_entries: u32,
    /// The flags as stored.
    pub flags: u32,
    /// log2 of the guest bytes that one bit stands for.
    pub granularity_bits: u8,
    /// The bitmap's name; any bytes.
    pub name: Vec<u8>,
    /// Length of the directory entry in bytes, padding included.
    pub entry_len: usize,
}

/// Bytes of a directory entry before its extra data.
const ENTRY_FIXED_BYTES: usize = 24;

impl BitmapDirectoryEntry {
    /// Parses the entry that `bytes` begins with; none when it is longer than `bytes`.
    #[must_use]
    pub fn parse(entry: &[u8]) -> Option<Self> {
        let table_offset = HostOffset::new(bytes::u64_at(entry, 0)?);
        let table_entries = bytes::u32_at(entry, 8)?;
        let name_len = usize::from(bytes::u16_at(entry, 18)?);
        let extra_len = usize::try_from(bytes::u32_at(entry, 20)?).ok()?;
        let name_at = ENTRY_FIXED_BYTES.checked_add(extra_len)?;
        let entry_len = name_at.checked_add(name_len)?.checked_next_multiple_of(8)?;
        if entry_len > entry.len() {
            return None;
        }
        Some(Self {
            table_offset,
            table_entries,
            flags: bytes::u32_at(entry, 12)?,
            granularity_bits: *entry.get(17)?,
            name: bytes::part(entry, name_at, name_len)?.to_vec(),
            entry_len,
        })
    }
}

/// Bits 9 to 55: the offset of a cluster of bitmap data.
const OFFSET_MASK: u64 = (HOST_OFFSET_END - 1) & !0x1ff;
/// Bit 0, when there is no cluster: the bits are all ones.
const ALL_ONES: u64 = 1 << 0;

/// An entry of a bitmap's table as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapTableEntry(u64);

impl BitmapTableEntry {
    /// The entry that these bytes, read as a big-endian number, are.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The cluster of bitmap data, if there is one; else the bits are all the same.
    ///
    /// # Errors
    /// When reserved bits are set or the offset is not the start of a cluster.
    pub fn decode(self, geometry: Geometry) -> Result<Option<HostOffset>, EntryFlaw> {
        let offset = HostOffset::new(self.0 & OFFSET_MASK);
        let allowed = if offset == HostOffset::ZERO { ALL_ONES } else { OFFSET_MASK };
        if self.0 & !allowed != 0 {
            return Err(EntryFlaw::ReservedBits);
        }
        if !geometry.is_aligned(offset) {
            return Err(EntryFlaw::Unaligned);
        }
        Ok((offset != HostOffset::ZERO).then_some(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_entries_know_their_length() {
        let mut entry = vec![0; 24 + 16];
        entry[6] = 1;
        entry[11] = 3;
        entry[19] = 9;
        let parsed = BitmapDirectoryEntry::parse(&entry).expect("whole");
        assert_eq!((parsed.table_offset.get(), parsed.table_entries, parsed.entry_len), (0x100, 3, 40));
        assert_eq!(BitmapDirectoryEntry::parse(&entry[..39]), None);
        entry[20..24].fill(0xff);
        assert_eq!(BitmapDirectoryEntry::parse(&entry), None);
    }

    #[test]
    fn table_entries() {
        let geometry = Geometry::new(16, 4).expect("valid");
        assert_eq!(BitmapTableEntry::from_raw(1).decode(geometry), Ok(None));
        assert_eq!(BitmapTableEntry::from_raw(0x10000).decode(geometry), Ok(Some(HostOffset::new(0x10000))));
        assert_eq!(BitmapTableEntry::from_raw(0x10001).decode(geometry), Err(EntryFlaw::ReservedBits));
        assert_eq!(BitmapTableEntry::from_raw(0x10200).decode(geometry), Err(EntryFlaw::Unaligned));
    }
}
