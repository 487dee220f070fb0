//! Dirty bitmaps in memory: which parts of a disk were written, at a grain. QEMU: `HBitmap` and `BdrvDirtyBitmap`.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bits in a chunk: 4 KiB of memory.
const CHUNK_BITS: u64 = 1 << 15;
const WORDS: usize = 512;
const WORD_BITS: u64 = 64;
/// Bytes that a chunk takes in the map, about.
const CHUNK_OVERHEAD: u64 = 48;

/// The bits of a part of the disk, of which at least one is, or was, set.
#[derive(Clone, Debug)]
enum Chunk {
    /// All are set: this costs no memory, however large the disk.
    Full,
    Bits(Box<[u64; WORDS]>),
}

impl Chunk {
    fn empty() -> Self {
        Self::Bits(Box::new([0; WORDS]))
    }

    fn word(&self, i: usize) -> u64 {
        match self {
            Self::Full => u64::MAX,
            Self::Bits(words) => words[i],
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Full => false,
            Self::Bits(words) => words.iter().all(|word| *word == 0),
        }
    }

    /// Unsets all bits from `end` on.
    fn cut(&mut self, end: u64) {
        let mut words = match self {
            Self::Full => Box::new([u64::MAX; WORDS]),
            Self::Bits(words) => std::mem::replace(words, Box::new([0; WORDS])),
        };
        for (i, word) in words.iter_mut().enumerate() {
            *word &= low_bits(end.saturating_sub(i as u64 * WORD_BITS));
        }
        *self = Self::Bits(words);
    }
}

/// Whether the bits of a range are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// None of them.
    Empty,
    /// Some of them.
    Mixed,
    /// All of them.
    Full,
}

/// A set of grains of a disk; memory follows what is marked, not the size.
#[derive(Clone, Debug)]
pub struct DirtyBitmap {
    granularity_bits: u32,
    size: u64,
    /// Chunks that may have bits, by number. No bit past the end of the disk is set.
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
        self.set_bits(range.start >> self.granularity_bits, (end - 1) >> self.granularity_bits);
    }

    /// Sets the bits from `first` to `last`, both included and on the disk.
    fn set_bits(&mut self, first: u64, last: u64) {
        for number in first / CHUNK_BITS..=last / CHUNK_BITS {
            let start = number * CHUNK_BITS;
            let (from, to) = (first.max(start) - start, last.min(start + CHUNK_BITS - 1) - start);
            if (from, to) == (0, CHUNK_BITS - 1) {
                self.chunks.insert(number, Chunk::Full);
            } else if let Chunk::Bits(words) = self.chunks.entry(number).or_insert_with(Chunk::empty) {
                set_bits(words, from, to);
            }
        }
    }

    /// Marks everything that `source` marks; the grains may differ. Where one of `source` is the coarser, all that it
    /// stands for is marked.
    pub fn merge(&mut self, source: &Self) {
        for range in source.ranges() {
            self.mark(range);
        }
    }

    /// Follows the disk to another size: what is new is not marked.
    pub fn resize(&mut self, size: u64) {
        self.size = size;
        let end = self.n_bits();
        drop(self.chunks.split_off(&end.div_ceil(CHUNK_BITS)));
        if let Some(last) = self.chunks.get_mut(&(end / CHUNK_BITS)) {
            last.cut(end % CHUNK_BITS);
        }
    }

    /// Bytes of memory that the marks take, about.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let chunk = |chunk: &Chunk| match chunk {
            Chunk::Full => CHUNK_OVERHEAD,
            Chunk::Bits(_) => CHUNK_OVERHEAD + CHUNK_BITS / 8,
        };
        self.chunks.values().map(chunk).sum()
    }

    /// Unmarks everything.
    pub fn clear(&mut self) {
        self.chunks.clear();
    }

    /// Whether nothing is marked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.values().all(Chunk::is_empty)
    }

    /// Whether the grain with the byte at `offset` is marked.
    #[must_use]
    pub fn is_marked(&self, offset: u64) -> bool {
        let bit = offset >> self.granularity_bits;
        self.chunks.get(&(bit / CHUNK_BITS)).is_some_and(|chunk| {
            let within = bit % CHUNK_BITS;
            chunk.word(index(within / WORD_BITS)) & (1 << (within % WORD_BITS)) != 0
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

    /// Whether the bits of a range of bit numbers are set.
    #[must_use]
    pub fn fill(&self, bits: Range<u64>) -> Fill {
        match self.next_marked(bits.start) {
            Some(first) if first < bits.end => {}
            _ => return Fill::Empty,
        }
        if self.next_unmarked(bits.start) >= bits.end { Fill::Full } else { Fill::Mixed }
    }

    /// Copies bits out, from number `first` on, the lowest bit of a byte first; bits past the end of the disk are zero.
    ///
    /// # Panics
    /// When `first` is not a multiple of 64, or the buffer's length not one of 8.
    pub fn copy_bits(&self, first: u64, out: &mut [u8]) {
        let (words, rest) = out.as_chunks_mut::<8>();
        assert!(first.is_multiple_of(WORD_BITS) && rest.is_empty(), "whole words");
        let mut number = first / WORD_BITS;
        let mut words = words.iter_mut().peekable();
        while words.peek().is_some() {
            let chunk = self.chunks.get(&(number / WORDS as u64));
            for i in index(number % WORDS as u64)..WORDS {
                let Some(word) = words.next() else { return };
                *word = chunk.map_or(0, |chunk| chunk.word(i)).to_le_bytes();
                number += 1;
            }
        }
    }

    /// Sets the bits that are set in `bits`, as [`DirtyBitmap::copy_bits`] gives them; those past the end of the disk
    /// are left out.
    ///
    /// # Panics
    /// As [`DirtyBitmap::copy_bits`].
    pub fn add_bits(&mut self, first: u64, bits: &[u8]) {
        let (words, rest) = bits.as_chunks::<8>();
        assert!(first.is_multiple_of(WORD_BITS) && rest.is_empty(), "whole words");
        let end = self.n_bits();
        for (number, word) in (first / WORD_BITS..end.div_ceil(WORD_BITS)).zip(words) {
            let word = u64::from_le_bytes(*word) & low_bits(end - number * WORD_BITS);
            if word == 0 {
                continue;
            }
            let chunk = self.chunks.entry(number / WORDS as u64).or_insert_with(Chunk::empty);
            if let Chunk::Bits(words) = chunk {
                words[index(number % WORDS as u64)] |= word;
            }
        }
    }

    /// Sets the bits of a range of bit numbers; those past the end of the disk are left out.
    pub fn fill_bits(&mut self, bits: Range<u64>) {
        let end = bits.end.min(self.n_bits());
        if bits.start < end {
            self.set_bits(bits.start, end - 1);
        }
    }

    /// The first marked bit at or after `bit`.
    fn next_marked(&self, bit: u64) -> Option<u64> {
        self.chunks.range(bit / CHUNK_BITS..).find_map(|(number, chunk)| {
            let start = number * CHUNK_BITS;
            let from = bit.saturating_sub(start);
            first_bit(from, |i| chunk.word(i)).map(|found| start + found)
        })
    }

    /// The first bit at or after `bit` that is not marked.
    fn next_unmarked(&self, bit: u64) -> u64 {
        let mut at = bit;
        while let Some(chunk) = self.chunks.get(&(at / CHUNK_BITS)) {
            let start = at / CHUNK_BITS * CHUNK_BITS;
            let found = match chunk {
                Chunk::Full => None,
                Chunk::Bits(words) => first_bit(at - start, |i| !words[i]),
            };
            if let Some(found) = found {
                return start + found;
            }
            at = start + CHUNK_BITS;
        }
        at
    }
}

/// Bitmaps are equal when they mark the same with the same grain.
impl PartialEq for DirtyBitmap {
    fn eq(&self, other: &Self) -> bool {
        (self.granularity_bits, self.size) == (other.granularity_bits, other.size) && self.ranges().eq(other.ranges())
    }
}

impl Eq for DirtyBitmap {}

/// A word in which only the lowest `count` bits are set.
fn low_bits(count: u64) -> u64 {
    match count {
        0 => 0,
        1..WORD_BITS => u64::MAX >> (WORD_BITS - count),
        _ => u64::MAX,
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
fn set_bits(words: &mut [u64; WORDS], from: u64, to: u64) {
    let (first, last) = (index(from / 64), index(to / 64));
    for (i, word) in words.iter_mut().enumerate().take(last + 1).skip(first) {
        let start = i as u64 * 64;
        let low = from.saturating_sub(start);
        let high = (to - start).min(63);
        *word |= (u64::MAX << low) & (u64::MAX >> (63 - high));
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
    /// A list of one range.
    fn one(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    /// A disk with chunks that are full, and its bits as a plain list.
    fn sample(size: u64, marks: &[Range<u64>]) -> (DirtyBitmap, Vec<bool>) {
        let mut bitmap = DirtyBitmap::new(size, 9);
        marks.iter().for_each(|range| bitmap.mark(range.clone()));
        let bits = (0..bitmap.n_bits()).map(|bit| bitmap.is_marked(bit << 9)).collect();
        (bitmap, bits)
    }

    #[test]
    fn full_chunks_cost_nothing_and_are_the_same() {
        let size = (3 * CHUNK_BITS + 100) << 9;
        let (whole, bits) = sample(size, &one(0..size));
        assert!(bits.iter().all(|bit| *bit));
        let mut pieces = DirtyBitmap::new(size, 9);
        (0..pieces.n_bits()).for_each(|bit| pieces.mark(bit << 9..(bit << 9) + 1));
        assert_eq!(whole, pieces);
        assert_eq!(whole.fill(0..whole.n_bits()), Fill::Full);
        assert!(matches!(whole.chunks.get(&1), Some(Chunk::Full)));
        let huge = 1 << 60;
        let mut marked = DirtyBitmap::new(huge, 31);
        marked.mark(0..huge);
        assert_eq!(marked.ranges().collect::<Vec<_>>(), one(0..huge));
    }

    #[test]
    fn bits_go_out_and_in() {
        let size = (2 * CHUNK_BITS + 77) << 9;
        let (bitmap, bits) =
            sample(size, &[0..1, 5 << 9..77 << 9, CHUNK_BITS << 9..(2 * CHUNK_BITS) << 9, size - 1..size]);
        let mut copy = DirtyBitmap::new(size, 9);
        let mut buffer = [0xff; 512];
        for first in (0..bitmap.n_bits()).step_by(4096) {
            bitmap.copy_bits(first, &mut buffer);
            for (i, bit) in bits.iter().skip(index(first)).take(4096).enumerate() {
                assert_eq!(buffer[i / 8] >> (i % 8) & 1 == 1, *bit);
            }
            // What lies past the end of the disk must not come in.
            if first + 4096 > bitmap.n_bits() {
                buffer[511] = 0xff;
            }
            copy.add_bits(first, &buffer);
        }
        assert_eq!(copy, bitmap);
        copy.resize(2 * size);
        assert_eq!(copy.ranges().last(), Some(size - 512..size), "nothing was hidden past the end");
    }

    #[test]
    fn a_bitmap_follows_its_disk() {
        let size = (2 * CHUNK_BITS + 77) << 9;
        let (mut bitmap, _) = sample(size, &one(0..size));
        bitmap.resize(size + 5000);
        assert_eq!(bitmap.ranges().collect::<Vec<_>>(), one(0..size));
        for smaller in [size - 512, CHUNK_BITS << 9, 1000, 0] {
            bitmap.resize(smaller);
            bitmap.resize(size);
            let kept = smaller.next_multiple_of(512);
            assert_eq!(bitmap.ranges().collect::<Vec<_>>(), if kept == 0 { vec![] } else { one(0..kept) });
        }
        assert!(bitmap.is_empty());
    }

    #[test]
    fn merging_translates_grains() {
        let mut coarse = DirtyBitmap::new(1 << 20, 16);
        let mut fine = DirtyBitmap::new(1 << 20, 12);
        fine.mark(70_000..70_001);
        coarse.merge(&fine);
        assert_eq!(coarse.ranges().collect::<Vec<_>>(), one(65536..131_072));
        fine.merge(&coarse);
        assert_eq!(fine.ranges().collect::<Vec<_>>(), one(65536..131_072));
    }
}
