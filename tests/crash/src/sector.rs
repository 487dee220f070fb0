//! What sectors of the guest's disk hold: each says which request wrote it, and where it belongs.

use crate::rng::mixed;

/// Bytes of a sector: what a disk writes wholly or not at all.
pub const SECTOR: u64 = 512;
const SECTOR_LEN: usize = 512;

/// Marks tags whose sectors do not compress.
const NOISE: u32 = 1 << 31;

/// Who wrote a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u32);

impl Tag {
    /// The sector reads as zeros.
    pub const ZERO: Self = Self(0);
    /// The backing file holds it.
    pub const BASE: Self = Self(0x0bac);

    /// The sectors that request number `op` writes; `noise` makes them incompressible.
    #[must_use]
    pub fn of(op: usize, noise: bool) -> Self {
        let number = u32::try_from(op).expect("few requests") + 0x1000;
        Self(if noise { number | NOISE } else { number })
    }

    fn word(self, sector: u64) -> u64 {
        (u64::from(self.0) << 32) | (sector & 0xffff_ffff)
    }
}

/// The bytes of `n` sectors from `first` on that `tag` wrote.
#[must_use]
pub fn bytes_of(tag: Tag, first: u64, n: u64) -> Vec<u8> {
    let len = usize::try_from(n * SECTOR).expect("requests fit into memory");
    let mut bytes = vec![0; len];
    if tag != Tag::ZERO {
        for (sector, bytes) in (first..).zip(bytes.chunks_exact_mut(SECTOR_LEN)) {
            let start = tag.word(sector);
            for (i, word) in (0..).zip(bytes.as_chunks_mut::<8>().0) {
                *word = nth_word(tag, start, i).to_be_bytes();
            }
        }
    }
    bytes
}

fn nth_word(tag: Tag, start: u64, i: u64) -> u64 {
    if i == 0 || tag.0 & NOISE == 0 { start } else { mixed(start.wrapping_add(i)) }
}

/// Who wrote what is read at `sector`.
///
/// # Errors
/// What is wrong with bytes that nobody ever wrote there.
pub fn tag_of(bytes: &[u8], sector: u64) -> Result<Tag, String> {
    let words = bytes.as_chunks::<8>().0;
    let word = |i: usize| words.get(i).map_or(0, |word| u64::from_be_bytes(*word));
    let start = word(0);
    let tag = Tag(u32::try_from(start >> 32).expect("half a word"));
    if tag == Tag::ZERO {
        return if words.iter().all(|word| *word == [0; 8]) { Ok(tag) } else { Err(foreign(sector, start)) };
    }
    let is_whole =
        start == tag.word(sector) && (0..).zip(words).all(|(i, word)| *word == nth_word(tag, start, i).to_be_bytes());
    if is_whole { Ok(tag) } else { Err(foreign(sector, start)) }
}

fn foreign(sector: u64, start: u64) -> String {
    format!("sector {sector} holds what nobody wrote there: it begins with {start:#018x}")
}

/// Whether bytes on a disk look like sectors of a guest's disk.
#[must_use]
pub fn is_guest_data(bytes: &[u8]) -> bool {
    let Some(sector) = bytes.get(..SECTOR_LEN) else { return false };
    let start = sector.as_chunks::<8>().0.first().map_or(0, |word| u64::from_be_bytes(*word));
    start >> 32 != 0 && tag_of(sector, start & 0xffff_ffff).is_ok()
}
