//! Random numbers that follow from the seed, the round and the actor alone.

use std::hint::spin_loop;

/// A splitmix64 generator.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The generator of one actor in one round.
    pub(crate) fn of(seed: u64, round: u64, actor: u64) -> Self {
        let mut rng = Self(seed);
        for number in [round, actor] {
            rng.0 = rng.next() ^ number;
        }
        rng
    }

    /// A generator of its own for a part of the work, so that how much it uses changes nothing for what comes after.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number less than `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A position in something of this length, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % len as u64).expect("less than a usize")
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Passes a random time of less than `n` turns of an empty loop, so that others meet us at any point.
    pub(crate) fn dawdle(&mut self, n: u64) {
        (0..self.below(n.max(1))).for_each(|_| spin_loop());
    }
}
