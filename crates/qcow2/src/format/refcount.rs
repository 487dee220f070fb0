//! Entries of the refcount table, and the counts in a refcount block.

use crate::error::{EntryFlaw, FormatError};
use crate::units::{Geometry, HostOffset};

/// Bits 9 to 63: the offset of the refcount block.
const OFFSET_MASK: u64 = !0x1ff;

/// An entry of the refcount table as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReftableEntry(u64);

impl ReftableEntry {
    /// No refcount block: all its counts are zero.
    pub const UNALLOCATED: Self = Self(0);

    /// The entry that names the refcount block at `offset`, the start of a cluster.
    #[must_use]
    pub fn block(offset: HostOffset) -> Self {
        debug_assert_eq!(offset.get() & !OFFSET_MASK, 0, "refcount blocks start at clusters");
        Self(offset.get() & OFFSET_MASK)
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
        self.0 & !OFFSET_MASK != 0
    }

    /// The offset of the refcount block, if there is one.
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

/// How counts are stored in a refcount block: 1 to 64 bits each.
///
/// Counts of a byte or more are big-endian; smaller ones fill each byte from its least significant bit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefcountWidth {
    order: u32,
    max: u64,
}

impl RefcountWidth {
    /// The width of an image's counts.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self { order: geometry.refcount_order(), max: geometry.refcount_max() }
    }

    /// The largest count.
    #[inline]
    #[must_use]
    pub fn max(self) -> u64 {
        self.max
    }

    /// The `index`-th count in `block`; none past its end.
    #[inline]
    #[must_use]
    pub fn get(self, block: &[u8], index: usize) -> Option<u64> {
        if self.order < 3 {
            let place = self.bits_at(index);
            return Some(u64::from(*block.get(place.byte)? >> place.shift) & self.max);
        }
        let field = block.get(self.field(index)?)?;
        Some(field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Stores `value` as the `index`-th count in `block`.
    ///
    /// # Errors
    /// When `index` is past the end of the block or `value` is wider than the counts are; nothing is changed then.
    #[inline]
    pub fn set(self, block: &mut [u8], index: usize, value: u64) -> Result<(), FormatError> {
        let refused = FormatError::RefcountRange { index, value };
        if value > self.max {
            return Err(refused);
        }
        if self.order < 3 {
            let place = self.bits_at(index);
            let Some(byte) = block.get_mut(place.byte) else { return Err(refused) };
            let [.., low] = value.to_be_bytes();
            let [.., mask] = self.max.to_be_bytes();
            *byte = *byte & !(mask << place.shift) | low << place.shift;
            return Ok(());
        }
        let field = self.field(index).and_then(|range| block.get_mut(range));
        let Some(field) = field else { return Err(refused) };
        for (to, from) in field.iter_mut().rev().zip(value.to_le_bytes()) {
            *to = from;
        }
        Ok(())
    }

    /// Bytes of the `index`-th count, for widths of whole bytes.
    #[inline]
    fn field(self, index: usize) -> Option<std::ops::Range<usize>> {
        let len = 1usize.checked_shl(self.order.saturating_sub(3))?;
        let start = index.checked_mul(len)?;
        Some(start..start.checked_add(len)?)
    }

    /// Byte and bit of the `index`-th count, for widths below a byte.
    #[inline]
    fn bits_at(self, index: usize) -> SubBytePlace {
        let per_byte_bits = 3u32.saturating_sub(self.order);
        let within = index & 1usize.wrapping_shl(per_byte_bits).wrapping_sub(1);
        SubBytePlace {
            byte: index.wrapping_shr(per_byte_bits),
            // At most seven: `within` counts fields of 2^order bits in one byte.
            shift: u32::try_from(within).unwrap_or(0).wrapping_shl(self.order) & 7,
        }
    }
}

struct SubBytePlace {
    byte: usize,
    shift: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn width(order: u32) -> RefcountWidth {
        RefcountWidth::new(Geometry::new(9, order).expect("valid"))
    }

    #[test]
    fn sub_byte_counts_start_at_the_low_bits() {
        let mut block = [0; 512];
        width(0).set(&mut block, 0, 1).expect("fits");
        width(0).set(&mut block, 9, 1).expect("fits");
        assert_eq!(block[..2], [1, 2]);
        let mut block = [0; 512];
        width(2).set(&mut block, 1, 0xa).expect("fits");
        assert_eq!(block[0], 0xa0);
    }

    #[test]
    fn wide_counts_are_big_endian() {
        let mut block = [0; 512];
        width(4).set(&mut block, 1, 0x1234).expect("fits");
        assert_eq!(block[..4], [0, 0, 0x12, 0x34]);
        assert_eq!(width(4).get(&block, 1), Some(0x1234));
        assert_eq!(width(6).get(&block, 0), Some(0x1234_0000_0000));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut block = [0; 512];
        assert!(width(1).set(&mut block, 0, 4).is_err());
        assert!(width(6).set(&mut block, 64, 0).is_err());
        assert_eq!(width(6).get(&block, 64), None);
        assert_eq!(width(0).get(&block, 4096), None);
        assert_eq!(width(6).get(&block, usize::MAX), None);
        assert_eq!(block, [0; 512]);
    }

    proptest! {
        #[test]
        fn counts_do_not_disturb_their_neighbours(
            order in 0u32..=6, index in 0usize..64, value: u64, fill in any::<u8>(),
        ) {
            let width = width(order);
            let mut block = [fill; 512];
            let before: Vec<_> = (0..64).map(|at| width.get(&block, at)).collect();
            let value = value & width.max();
            width.set(&mut block, index, value).expect("fits");
            for (at, before) in before.into_iter().enumerate() {
                prop_assert_eq!(width.get(&block, at), if at == index { Some(value) } else { before });
            }
        }
    }
}
