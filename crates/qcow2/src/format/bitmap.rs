//! The bitmaps extension, the entries of the bitmap directory, and those of a bitmap's table.

use super::bytes;
use crate::error::{EntryFlaw, FormatError};
use crate::limits::{
    BITMAP_BYTES_MAX, BITMAP_DIRECTORY_BYTES_MAX, BITMAP_GRANULARITY_BITS, BITMAP_NAME_BYTES_MAX,
    BITMAP_TABLE_ENTRIES_MAX, BITMAPS_MAX, HOST_OFFSET_END,
};
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

    /// The extension's data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        data.extend_from_slice(&self.count.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
        data.extend_from_slice(&self.directory_len.to_be_bytes());
        data.extend_from_slice(&self.directory_offset.get().to_be_bytes());
        data
    }
}

/// Directory entry flag: the bitmap was in use and not stored, so what it says cannot be relied on.
pub const FLAG_IN_USE: u32 = 1 << 0;
/// Directory entry flag: the bitmap tracks writes when the image is opened for writing.
pub const FLAG_AUTO: u32 = 1 << 1;
/// The type of a bitmap that tracks writes; there is no other.
pub const KIND_DIRTY_TRACKING: u8 = 1;

/// Where an entry of the bitmap directory says that its bitmap is. QEMU: `Qcow2BitmapDirEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapDirectoryEntry {
    /// Where the bitmap's table starts.
    pub table_offset: HostOffset,
    /// Entries in the bitmap's table.
    pub table_entries: u32,
    /// The flags as stored.
    pub flags: u32,
    /// The type as stored.
    pub kind: u8,
    /// log2 of the guest bytes that one bit stands for.
    pub granularity_bits: u8,
    /// Length of the data that only other programs understand, in bytes.
    pub extra_len: usize,
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
            kind: *entry.get(16)?,
            granularity_bits: *entry.get(17)?,
            extra_len,
            name: bytes::part(entry, name_at, name_len)?.to_vec(),
            entry_len,
        })
    }

    /// Length of an entry for a bitmap of that name in bytes, padding included.
    #[must_use]
    pub fn len_for(name: &[u8]) -> usize {
        ENTRY_FIXED_BYTES.saturating_add(name.len()).next_multiple_of(8)
    }

    /// The entry as it is stored, without extra data.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut entry = Vec::with_capacity(Self::len_for(&self.name));
        entry.extend_from_slice(&self.table_offset.get().to_be_bytes());
        entry.extend_from_slice(&self.table_entries.to_be_bytes());
        entry.extend_from_slice(&self.flags.to_be_bytes());
        entry.push(self.kind);
        entry.push(self.granularity_bits);
        let name_len = u16::try_from(self.name.len()).unwrap_or(u16::MAX);
        entry.extend_from_slice(&name_len.to_be_bytes());
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(&self.name);
        entry.resize(Self::len_for(&self.name), 0);
        entry
    }

    /// Whether the fields are such that the bitmap can be used, or kept, for a disk of `size` bytes. QEMU:
    /// `check_dir_entry`.
    #[must_use]
    pub fn is_usable(&self, geometry: Geometry, size: u64) -> bool {
        let stored_bytes = u64::from(self.table_entries) << geometry.cluster_bits();
        self.table_entries != 0
            && self.table_offset != HostOffset::ZERO
            && geometry.is_aligned(self.table_offset)
            && self.table_entries <= BITMAP_TABLE_ENTRIES_MAX
            && BITMAP_GRANULARITY_BITS.contains(&self.granularity_bits)
            && self.flags & !(FLAG_IN_USE | FLAG_AUTO) == 0
            && self.name.len() <= BITMAP_NAME_BYTES_MAX
            && self.kind == KIND_DIRTY_TRACKING
            && stored_bytes <= BITMAP_BYTES_MAX
            // One that was in use while the disk was resized may have the wrong length.
            && (self.flags & FLAG_IN_USE != 0 || size.div_ceil(8 << self.granularity_bits) <= stored_bytes)
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

    /// Bits that are all zeros.
    pub const ZEROS: Self = Self(0);
    /// Bits that are all ones.
    pub const ONES: Self = Self(ALL_ONES);

    /// Bits in the cluster at `offset`.
    #[must_use]
    pub const fn data(offset: HostOffset) -> Self {
        Self(offset.get())
    }

    /// The entry as it is stored.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
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
        assert_eq!(parsed.to_bytes(), entry);
        assert_eq!(BitmapDirectoryEntry::parse(&entry[..39]), None);
        entry[20..24].fill(0xff);
        assert_eq!(BitmapDirectoryEntry::parse(&entry), None);
    }

    #[test]
    fn only_what_is_defined_is_usable() {
        let geometry = Geometry::new(16, 4).expect("valid");
        let good = BitmapDirectoryEntry {
            table_offset: HostOffset::new(0x10000),
            table_entries: 1,
            flags: FLAG_AUTO,
            kind: KIND_DIRTY_TRACKING,
            granularity_bits: 16,
            extra_len: 0,
            name: b"b".to_vec(),
            entry_len: 32,
        };
        let covered = 1 << (16 + 3 + 16);
        assert!(good.is_usable(geometry, covered) && !good.is_usable(geometry, covered + 1));
        let spoil = |change: fn(&mut BitmapDirectoryEntry)| {
            let mut entry = good.clone();
            change(&mut entry);
            entry.is_usable(geometry, covered)
        };
        assert!(spoil(|entry| entry.flags |= FLAG_IN_USE));
        assert!(!spoil(|entry| entry.flags |= 4));
        assert!(!spoil(|entry| entry.kind = 2));
        assert!(!spoil(|entry| entry.granularity_bits = 8));
        assert!(!spoil(|entry| entry.granularity_bits = 32));
        assert!(!spoil(|entry| entry.table_entries = 0));
        assert!(!spoil(|entry| entry.table_entries = 8193));
        assert!(!spoil(|entry| entry.table_offset = HostOffset::ZERO));
        assert!(!spoil(|entry| entry.table_offset = HostOffset::new(0x10200)));
        assert!(!spoil(|entry| entry.name = vec![b'x'; 1024]));
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
