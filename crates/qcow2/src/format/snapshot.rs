//! Entries of the snapshot table.

use super::bytes;
use crate::error::FormatError;
use crate::limits::SNAPSHOT_EXTRA_BYTES_MAX;
use crate::units::HostOffset;

/// An internal snapshot as the snapshot table describes it. QEMU: `QCowSnapshot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Where its L1 table starts.
    pub l1_offset: HostOffset,
    /// Entries in its L1 table.
    pub l1_entries: u32,
    /// Unique identifier; any bytes.
    pub id: Vec<u8>,
    /// Name given by the user; any bytes.
    pub name: Vec<u8>,
    /// Creation time: seconds since the epoch.
    pub date_seconds: u32,
    /// Creation time: nanoseconds within the second.
    pub date_nanoseconds: u32,
    /// The guest's clock in nanoseconds.
    pub vm_clock_nanoseconds: u64,
    /// Size of the saved machine state in bytes.
    pub vm_state_bytes: u64,
    /// Size of the virtual disk in bytes, if recorded.
    pub disk_size: Option<u64>,
    /// Instruction count, if recorded.
    pub icount: Option<u64>,
    /// Extra data that we do not know, to be kept.
    pub unknown_extra: Vec<u8>,
}

/// Bytes of an entry before its extra data.
const FIXED_BYTES: usize = 40;
/// Bytes of extra data that we know.
const KNOWN_EXTRA_BYTES: usize = 24;
/// The stored instruction count that means "none".
const NO_ICOUNT: u64 = u64::MAX;

impl SnapshotEntry {
    /// Bytes that the longest acceptable entry has, padding included.
    pub const LEN_MAX: usize = 40 + 1024 + 2 * 65535 + 6;

    /// Parses the entry that `table` begins with, which is number `index`; gives its length with padding as well.
    /// None when the entry is longer than `table`, and the caller has to read more of it.
    ///
    /// # Errors
    /// When the entry has more extra data than any program writes.
    pub fn parse(table: &[u8], index: u32) -> Result<Option<(Self, usize)>, FormatError> {
        let Some(extra_len) = bytes::u32_at(table, 36) else { return Ok(None) };
        if extra_len > SNAPSHOT_EXTRA_BYTES_MAX {
            return Err(FormatError::SnapshotExtra { index, length: extra_len });
        }
        Ok(usize::try_from(extra_len).ok().and_then(|extra_len| Self::parse_bounded(table, extra_len)))
    }

    fn parse_bounded(table: &[u8], extra_len: usize) -> Option<(Self, usize)> {
        let id_len = usize::from(bytes::u16_at(table, 12)?);
        let name_len = usize::from(bytes::u16_at(table, 14)?);
        let extra = bytes::part(table, FIXED_BYTES, extra_len)?;
        let id_at = FIXED_BYTES.checked_add(extra_len)?;
        let name_at = id_at.checked_add(id_len)?;
        let name_end = name_at.checked_add(name_len)?;
        if name_end > table.len() {
            return None;
        }
        // The file may end with the last entry's name: not all programs write the padding behind it. Callers add bytes
        // in pieces of whole multiples of eight, so that nothing but the end of the file cuts off padding.
        let entry_len = name_end.checked_next_multiple_of(8)?.min(table.len());
        let vm_state_bytes = match bytes::u64_at(extra, 0) {
            Some(bytes) => bytes,
            None => u64::from(bytes::u32_at(table, 32)?),
        };
        let entry = Self {
            l1_offset: HostOffset::new(bytes::u64_at(table, 0)?),
            l1_entries: bytes::u32_at(table, 8)?,
            id: bytes::part(table, id_at, id_len)?.to_vec(),
            name: bytes::part(table, name_at, name_len)?.to_vec(),
            date_seconds: bytes::u32_at(table, 16)?,
            date_nanoseconds: bytes::u32_at(table, 20)?,
            vm_clock_nanoseconds: bytes::u64_at(table, 24)?,
            vm_state_bytes,
            disk_size: bytes::u64_at(extra, 8),
            icount: bytes::u64_at(extra, 16).filter(|icount| *icount != NO_ICOUNT),
            unknown_extra: extra.get(KNOWN_EXTRA_BYTES..).unwrap_or_default().to_vec(),
        };
        Some((entry, entry_len))
    }

    /// Appends the entry to a table, padded. All the extra data that we know is written.
    ///
    /// # Errors
    /// When the identifier, the name or the extra data is too long.
    pub fn serialize(&self, index: u32, table: &mut Vec<u8>) -> Result<(), FormatError> {
        let extra_len = KNOWN_EXTRA_BYTES.saturating_add(self.unknown_extra.len());
        let extra_len = u32::try_from(extra_len).unwrap_or(u32::MAX);
        let (Ok(id_len), Ok(name_len), true) =
            (u16::try_from(self.id.len()), u16::try_from(self.name.len()), extra_len <= SNAPSHOT_EXTRA_BYTES_MAX)
        else {
            return Err(FormatError::SnapshotExtra { index, length: extra_len });
        };
        table.extend_from_slice(&self.l1_offset.get().to_be_bytes());
        table.extend_from_slice(&self.l1_entries.to_be_bytes());
        table.extend_from_slice(&id_len.to_be_bytes());
        table.extend_from_slice(&name_len.to_be_bytes());
        table.extend_from_slice(&self.date_seconds.to_be_bytes());
        table.extend_from_slice(&self.date_nanoseconds.to_be_bytes());
        table.extend_from_slice(&self.vm_clock_nanoseconds.to_be_bytes());
        // Readers of this field alone see "no state" rather than a size cut to 32 bits.
        let vm_state_short = u32::try_from(self.vm_state_bytes).unwrap_or(0);
        table.extend_from_slice(&vm_state_short.to_be_bytes());
        table.extend_from_slice(&extra_len.to_be_bytes());
        table.extend_from_slice(&self.vm_state_bytes.to_be_bytes());
        table.extend_from_slice(&self.disk_size.unwrap_or(0).to_be_bytes());
        table.extend_from_slice(&self.icount.unwrap_or(NO_ICOUNT).to_be_bytes());
        table.extend_from_slice(&self.unknown_extra);
        table.extend_from_slice(&self.id);
        table.extend_from_slice(&self.name);
        table.resize(table.len().next_multiple_of(8), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in proptest::collection::vec(any::<u8>(), 0..20),
            name in proptest::collection::vec(any::<u8>(), 0..70),
            unknown_extra in proptest::collection::vec(any::<u8>(), 0..30),
            vm_state_bytes: u64,
            icount in proptest::option::of(0u64..100),
        ) {
            let entry = SnapshotEntry {
                l1_offset: HostOffset::new(0x70000),
                l1_entries: 2,
                id,
                name,
                date_seconds: 5,
                date_nanoseconds: 6,
                vm_clock_nanoseconds: 7,
                vm_state_bytes,
                disk_size: Some(1 << 30),
                icount,
                unknown_extra,
            };
            let mut table = Vec::new();
            entry.serialize(0, &mut table).expect("short");
            let unpadded = table.len() - (8 - (entry.id.len() + entry.name.len() + entry.unknown_extra.len()) % 8) % 8;
            prop_assert_eq!(SnapshotEntry::parse(&table[..unpadded - 1], 0), Ok(None));
            let end_of_file = SnapshotEntry::parse(&table[..unpadded], 0);
            prop_assert_eq!(end_of_file, Ok(Some((entry.clone(), unpadded))));
            prop_assert_eq!(SnapshotEntry::parse(&table, 0), Ok(Some((entry, table.len()))));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(SnapshotEntry::parse(&bytes, 0));
        }
    }

    #[test]
    fn old_entries_have_no_extra_data() {
        let mut table = vec![0; 40];
        table[35] = 9;
        let (entry, len) = SnapshotEntry::parse(&table, 0).expect("fine").expect("whole");
        assert_eq!((entry.vm_state_bytes, entry.disk_size, len), (9, None, 40));
    }
}
