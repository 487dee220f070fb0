//! Mutations that know what an image is made of: numbers of eight bytes, most of which are places in the file.
//!
//! Random bytes are hardly ever the place of another structure. So nearly half of all mutations make a number the alias
//! of one: the start of some cluster, a little beside it, or with a flag.

/// In a hundred mutations, those that make an alias.
const ALIASES_PERCENT: u64 = 45;

/// What is added to a place.
const DELTAS: [i64; 9] = [0, 0, 0, 1, -1, 512, -512, 4096, -4096];

/// What is set in it.
const FLAGS: [u64; 8] = [0, 0, 1 << 63, 1 << 63, 1 << 62, 1, 1 << 63 | 1, 1 << 61];

/// Changes the first `len` bytes of `data`, which has room for more; returns how many there are then.
pub fn mutate(data: &mut [u8], len: usize, seed: u32, other: impl FnOnce(&mut [u8], usize) -> usize) -> usize {
    let mut random = Random(u64::from(seed) << 1 | 1);
    if len < 112 || random.below(100) >= ALIASES_PERCENT {
        return other(data, len);
    }
    for _ in 0..=random.below(4) {
        make_alias(&mut data[..len], &mut random);
    }
    len
}

/// Overwrites one number by a place.
fn make_alias(data: &mut [u8], random: &mut Random) {
    let words = (data.len() / 8) as u64;
    // The header is small and matters most.
    let word = if random.below(4) == 0 { random.below(14) } else { random.below(words) };
    let cluster_bits = u64::from(data[23]).clamp(9, 21);
    let clusters = (data.len() as u64 >> cluster_bits) + 2;
    let place = match random.below(4) {
        0 => random.below(words) * 8,
        1 => existing(data, random.below(words)),
        _ => random.below(clusters) << cluster_bits,
    };
    let place = place.wrapping_add_signed(DELTAS[index(random.below(9))]) | FLAGS[index(random.below(8))];
    let at = index(word) * 8;
    if let Some(number) = data.get_mut(at..at + 8) {
        if random.below(5) == 0 {
            // Counts and lengths have four bytes.
            number[4..].copy_from_slice(&place.to_be_bytes()[4..]);
        } else {
            number.copy_from_slice(&place.to_be_bytes());
        }
    }
}

/// A number that is there already.
fn existing(data: &[u8], word: u64) -> u64 {
    let at = index(word) * 8;
    data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("small")
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end.max(1)
    }
}
