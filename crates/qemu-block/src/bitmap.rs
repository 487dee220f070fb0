//! Dirty bitmaps in memory: which parts of a disk were written, at a grain. QEMU: `HBitmap` and `BdrvDirtyBitmap`.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bits in a chunk: 4 KiB of memory.
const CHUNK_BITS: u64 = 1 << 15;
const WORDS: usize = 512;

type Chunk = Box<[u64; WORDS]>;

/// A set of grains of a disk; memory follows what is marked, not the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyBitmap {
    granularity_bits: u32,
    size: u64,
    /// Chunks that may have bits, by number.
    chunks: BTreeMap<u64, Chunk>,
}

impl DirtyBitmap {
    /// An empty bitmap for a disk of `size` bytes; each bit stands for `1 << granularity_bits` bytes.
    ///
    /// # Panics
    /// When a bit would stand for 2^63 bytes or more.
    #[must_use]
    pub fn new(size: u64, granularity_bits: u32) -> Self {
        assert!(granularity_bits < 63, "the grain is a number of bytes");
        Self { granularity_bits, size, chunks: BTreeMap::new() }
    }

    /// Bytes that one bit stands for.
    #[must_use]
    pub fn granularity(&self) -> u64 {
        1 << self.granularity_bits
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Number of bits that the disk has.
    #[must_use]
    pub fn n_bits(&self) -> u64 {
        self.size.div_ceil(self.granularity())
    }

    /// Marks every grain that the range touches; what lies past the end of the disk is left out.
    pub fn mark(&mut self, range: Range<u64>) {
        let end = range.end.min(self.size);
        if range.start >= end {
            return;
        }
        let (first, last) = (range.start >> self.granularity_bits, (end - 1) >> self.granularity_bits);
        for number in first / CHUNK_BITS..=last / CHUNK_BITS {
            let start = number * CHUNK_BITS;
            let (from, to) = (first.max(start) - start, last.min(start + CHUNK_BITS - 1) - start);
            let chunk = self.chunks.entry(number).or_insert_with(|| Box::new([0; WORDS]));
            set_bits(chunk, from, to);
        }
    }

    /// Unmarks everything.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Whether nothing is marked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether the grain with the byte at `offset` is marked.
    #[must_use]
    pub fn is_marked(&self, offset: u64) -> bool {
        let bit = offset >> self.granularity_bits;
        self.chunks.get(&(bit / CHUNK_BITS)).is_some_and(|chunk| {
            let within = bit % CHUNK_BITS;
            chunk[index(within / 64)] & (1 << (within % 64)) != 0
        })
    }

    /// The marked bytes in order: ranges that do not touch, the last one cut at the end of the disk.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next_marked(at)?;
            let end = self.next_unmarked(first);
            at = end;
            let end_byte = end.saturating_mul(self.granularity()).min(self.size);
            Some(first << self.granularity_bits..end_byte)
        })
    }

    /// The first marked bit at or after `bit`.
    fn next_marked(&self, bit: u64) -> Option<u64> {
        self.chunks.range(bit / CHUNK_BITS..).find_map(|(number, chunk)| {
            let start = number * CHUNK_BITS;
            let from = bit.saturating_sub(start);
            first_bit(from, |i| chunk[i]).map(|found| start + found)
        })
    }

    /// The first bit at or after `bit` that is not marked.
    fn next_unmarked(&self, bit: u64) -> u64 {
        let mut at = bit;
        while let Some(chunk) = self.chunks.get(&(at / CHUNK_BITS)) {
            let start = at / CHUNK_BITS * CHUNK_BITS;
            if let Some(found) = first_bit(at - start, |i| !chunk[i]) {
                return start + found;
            }
            at = start + CHUNK_BITS;
        }
        at
    }
}

/// The first set bit of a chunk's words at or after `from`.
fn first_bit(from: u64, word: impl Fn(usize) -> u64) -> Option<u64> {
    let first = index(from / 64);
    (first..WORDS).find_map(|i| {
        let masked = if i == first { word(i) & (u64::MAX << (from % 64)) } else { word(i) };
        (masked != 0).then(|| i as u64 * 64 + u64::from(masked.trailing_zeros()))
    })
}

/// Sets the bits from `from` to `to`, both included.
fn set_bits(chunk: &mut Chunk, from: u64, to: u64) {
    for i in index(from / 64)..=index(to / 64) {
        let start = i as u64 * 64;
        let low = from.saturating_sub(start);
        let high = (to - start).min(63);
        chunk[i] |= (u64::MAX << low) & (u64::MAX >> (63 - high));
    }
}

/// The index of a word in a chunk.
fn index(number: u64) -> usize {
    usize::try_from(number).expect("words of a chunk are few")
}

#[cfg(all(test, not(qemu_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(
            bits in 0u32..4,
            size in 1u64..200_000,
            marks in proptest::collection::vec((0u64..220_000, 0u64..70_000), 0..12),
        ) {
            let mut bitmap = DirtyBitmap::new(size, bits);
            let grain = bitmap.granularity();
            let mut model = vec![false; usize::try_from(bitmap.n_bits()).expect("small")];
            for (start, len) in marks {
                bitmap.mark(start..start + len);
                for (i, bit) in (0u64..).zip(model.iter_mut()) {
                    let (from, to) = (i * grain, ((i + 1) * grain).min(size));
                    *bit |= start < to && from < (start + len).min(size) && len > 0;
                }
            }
            let mut shown = vec![false; model.len()];
            let mut before = None;
            for range in bitmap.ranges() {
                prop_assert!(before.is_none_or(|end| end < range.start), "ranges do not touch");
                prop_assert!(range.end <= size);
                (range.start / grain..range.end.div_ceil(grain)).for_each(|i| shown[index(i)] = true);
                before = Some(range.end);
            }
            prop_assert_eq!(&shown, &model);
            for (i, bit) in (0u64..).zip(&model) {
                prop_assert_eq!(bitmap.is_marked(i * grain), *bit);
            }
        }
    }
}
