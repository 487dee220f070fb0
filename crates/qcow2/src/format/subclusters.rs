//! The subclusters of a cluster: 32 parts of it, each of which has data, reads as zeros, or is not described here.

use std::ops::Range;

/// Subclusters in a cluster. Specification.
pub const SUBCLUSTERS: u32 = 32;

/// What a subcluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subcluster {
    /// The backing file decides, or it is zeros.
    Unallocated,
    /// It reads as zeros.
    Zero,
    /// Its data is in the host cluster.
    Data,
}

/// The second half of an extended L2 entry: bit `x` says that subcluster `x` has data, bit `32 + x` that it reads as
/// zeros. At most one of the two is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subclusters(u64);

impl Subclusters {
    /// None of them is described here.
    pub const NONE: Self = Self(0);
    /// All of them have data.
    pub const ALL_DATA: Self = Self(0xffff_ffff);
    /// All of them read as zeros.
    pub const ALL_ZERO: Self = Self(0xffff_ffff << SUBCLUSTERS);

    /// The bitmap that these bytes, read as a big-endian number, are.
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

    /// Bit `x` is set when subcluster `x` has data.
    #[inline]
    #[must_use]
    pub const fn data(self) -> u64 {
        self.0 & Self::ALL_DATA.0
    }

    /// Bit `x` is set when subcluster `x` reads as zeros.
    #[inline]
    #[must_use]
    pub const fn zero(self) -> u64 {
        self.0 >> SUBCLUSTERS
    }

    /// Whether no subcluster is said to be two things at once.
    #[inline]
    #[must_use]
    pub const fn is_consistent(self) -> bool {
        self.data() & self.zero() == 0
    }

    /// What subcluster `index` is.
    #[inline]
    #[must_use]
    pub fn get(self, index: u32) -> Subcluster {
        let is_set = |bits: u64| bits.checked_shr(index).is_some_and(|bits| bits & 1 != 0);
        match (is_set(self.data()), is_set(self.zero())) {
            (true, _) => Subcluster::Data,
            (false, true) => Subcluster::Zero,
            (false, false) => Subcluster::Unallocated,
        }
    }

    /// The same with all subclusters of `range` being `kind`.
    #[must_use]
    pub fn with(self, range: Range<u32>, kind: Subcluster) -> Self {
        let mask = mask(&range);
        let (data, zero) = (self.data() & !mask, self.zero() & !mask);
        let (data, zero) = match kind {
            Subcluster::Unallocated => (data, zero),
            Subcluster::Zero => (data, zero | mask),
            Subcluster::Data => (data | mask, zero),
        };
        Self(zero << SUBCLUSTERS | data)
    }

    /// Whether all subclusters of `range` have data.
    #[must_use]
    pub fn has_data_in(self, range: &Range<u32>) -> bool {
        let mask = mask(range);
        self.data() & mask == mask
    }

    /// The subclusters from the first to the last one that has data; empty when none has.
    #[must_use]
    pub fn data_hull(self) -> Range<u32> {
        let data = self.data();
        if data == 0 { 0..0 } else { data.trailing_zeros()..u64::BITS.saturating_sub(data.leading_zeros()) }
    }

    /// The runs of subclusters of one kind, in order: all of them together are the cluster.
    pub fn runs(self) -> impl Iterator<Item = (Range<u32>, Subcluster)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= SUBCLUSTERS {
                return None;
            }
            let (start, kind) = (at, self.get(at));
            while at < SUBCLUSTERS && self.get(at) == kind {
                at = at.saturating_add(1);
            }
            Some((start..at, kind))
        })
    }
}

/// The bits of a range of subclusters.
fn mask(range: &Range<u32>) -> u64 {
    let below = |end: u32| 1u64.checked_shl(end.min(SUBCLUSTERS)).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
    below(range.end) & !below(range.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_replace_one_another() {
        let some = Subclusters::ALL_ZERO.with(3..5, Subcluster::Data).with(31..32, Subcluster::Unallocated);
        assert_eq!(some.raw(), 0x7fff_ffe7_0000_0018);
        assert_eq!(
            some.runs().collect::<Vec<_>>(),
            [
                (0..3, Subcluster::Zero),
                (3..5, Subcluster::Data),
                (5..31, Subcluster::Zero),
                (31..32, Subcluster::Unallocated)
            ]
        );
        assert_eq!(some.with(0..32, Subcluster::Data), Subclusters::ALL_DATA);
        assert_eq!((some.data_hull(), Subclusters::NONE.data_hull()), (3..5, 0..0));
        assert_eq!(Subclusters::ALL_DATA.data_hull(), 0..32);
        assert!(some.has_data_in(&(3..5)) && !some.has_data_in(&(2..5)));
        assert!(!Subclusters::from_raw(1 << 32 | 1).is_consistent());
    }

    proptest! {
        #[test]
        fn runs_cover_the_cluster(raw: u64) {
            let bitmap = Subclusters::from_raw(raw);
            let mut rebuilt = Subclusters::NONE;
            let mut at = 0;
            for (range, kind) in bitmap.runs() {
                prop_assert_eq!(range.start, at);
                at = range.end;
                rebuilt = rebuilt.with(range, kind);
            }
            prop_assert_eq!(at, SUBCLUSTERS);
            prop_assert_eq!(rebuilt.data(), bitmap.data());
            prop_assert_eq!(rebuilt.zero(), bitmap.zero() & !bitmap.data());
        }
    }
}
