//! Entries of L1 tables.

use crate::error::EntryFlaw;
use crate::limits::HOST_OFFSET_END;
use crate::units::{Geometry, HostOffset};

/// Bits 9 to 55: the offset of the L2 table.
const OFFSET_MASK: u64 = (HOST_OFFSET_END - 1) & !0x1ff;
/// Bit 63: the refcount of the L2 table is exactly one.
const COPIED: u64 = 1 << 63;

/// An entry of an L1 table as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L1Entry(u64);

impl L1Entry {
    /// No L2 table.
    pub const UNALLOCATED: Self = Self(0);

    /// The entry that names the L2 table at `offset`; `copied` says that its refcount is exactly one.
    ///
    /// `offset` is the start of a cluster below 2^56.
    #[must_use]
    pub fn table(offset: HostOffset, copied: bool) -> Self {
        debug_assert_eq!(offset.get() & !OFFSET_MASK, 0, "L2 tables start at clusters");
        Self(offset.get() & OFFSET_MASK | if copied { COPIED } else { 0 })
    }

    /// The entry that these bytes, read as a big-endian number, are.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number to store, big-endian.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether the refcount of the L2 table is exactly one; only accurate in the active L1 table.
    #[inline]
    #[must_use]
    pub const fn is_copied(self) -> bool {
        self.0 & COPIED != 0
    }

    /// The same entry saying that the refcount of the L2 table is, or is not, exactly one.
    #[inline]
    #[must_use]
    pub const fn with_copied(self, copied: bool) -> Self {
        Self(if copied { self.0 | COPIED } else { self.0 & !COPIED })
    }

    /// The offset bits, whatever else is set.
    #[inline]
    #[must_use]
    pub const fn offset_bits(self) -> HostOffset {
        HostOffset::new(self.0 & OFFSET_MASK)
    }

    /// Whether reserved bits are set.
    #[inline]
    #[must_use]
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & !(OFFSET_MASK | COPIED) != 0
    }

    /// The offset of the L2 table, if there is one.
    ///
    /// # Errors
    /// When reserved bits are set or the offset is not the start of a cluster.
    #[inline]
    pub fn decode(self, geometry: Geometry) -> Result<Option<HostOffset>, EntryFlaw> {
        if self.has_reserved_bits() {
            return Err(EntryFlaw::ReservedBits);
        }
        let offset = self.offset_bits();
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
    fn entries_decode_to_what_was_encoded() {
        let geometry = Geometry::new(16, 4).expect("valid");
        let offset = HostOffset::new(0x00ff_0000_0001_0000);
        let entry = L1Entry::table(offset, true);
        assert_eq!(entry.raw(), 0x80ff_0000_0001_0000);
        assert_eq!(entry.decode(geometry), Ok(Some(offset)));
        assert!(entry.is_copied());
        assert_eq!(L1Entry::UNALLOCATED.decode(geometry), Ok(None));
    }

    #[test]
    fn bad_entries_are_refused() {
        let geometry = Geometry::new(16, 4).expect("valid");
        assert_eq!(L1Entry::from_raw(0x1_0001).decode(geometry), Err(EntryFlaw::ReservedBits));
        assert_eq!(L1Entry::from_raw(1 << 56).decode(geometry), Err(EntryFlaw::ReservedBits));
        assert_eq!(L1Entry::from_raw(0x1_0200).decode(geometry), Err(EntryFlaw::Unaligned));
    }
}
