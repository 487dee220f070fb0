//! What one iteration does, all of it following from the seed.

use std::fmt;

/// Cache modes of the target. Those that wait for the disk at each write would only slow the loop down.
const CACHE_MODES: [&str; 3] = ["writeback", "unsafe", "none"];

/// Parallel requests.
const PARALLEL: [u32; 6] = [1, 2, 3, 4, 8, 16];

/// A generator with good low bits whose seeds may be close to one another.
#[derive(Debug)]
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `n`, which is small.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }
}

/// One iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) iteration: u32,
    /// What the program's own pauses follow from.
    pub(super) seed: u64,
    pub(super) parallel: u32,
    pub(super) out_of_order: bool,
    pub(super) cache: &'static str,
    /// The processors that the program may use; empty for all.
    pub(super) cpus: Vec<usize>,
    /// Threads that do nothing but take processor time from the program.
    pub(super) spinners: usize,
}

impl Plan {
    /// The plan of an iteration. `direct` says that the file system knows `O_DIRECT`.
    pub(super) fn new(seed: u64, iteration: u32, processors: &[usize], direct: bool) -> Self {
        let mut random = Generator(seed ^ (u64::from(iteration) << 32));
        let seed = random.next() >> 16;
        let cache = CACHE_MODES[random.below(if direct { 3 } else { 2 })];
        let parallel = PARALLEL[random.below(PARALLEL.len())];
        let out_of_order = random.below(2) == 1;
        let wanted = random.below(3);
        let mut cpus: Vec<usize> = Vec::new();
        while cpus.len() < wanted.min(processors.len()) {
            let cpu = processors[random.below(processors.len())];
            if !cpus.contains(&cpu) {
                cpus.push(cpu);
            }
        }
        cpus.sort_unstable();
        let spinners = random.below(3);
        Self { iteration, seed, parallel, out_of_order, cache, cpus, spinners }
    }

    /// A plan without anything out of the ordinary: what the others are measured by.
    pub(super) fn calm() -> Self {
        let (parallel, cache) = (8, CACHE_MODES[0]);
        Self { iteration: 0, seed: 0, parallel, out_of_order: false, cache, cpus: Vec::new(), spinners: 0 }
    }

    /// The arguments of the conversion.
    pub(super) fn arguments(&self, source: &str, target: &str) -> Vec<String> {
        let parallel = self.parallel.to_string();
        let order = if self.out_of_order { &["-W"][..] } else { &[] };
        let words = ["convert", "-f", "qcow2", "-O", "qcow2", "-m", &parallel, "-t", self.cache];
        words.iter().chain(order).chain(&[source, target]).map(|word| (*word).to_owned()).collect()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iteration, seed, parallel, out_of_order, cache, cpus, spinners } = self;
        write!(f, "iteration {iteration}, its seed {seed}: -m {parallel} -t {cache}")?;
        f.write_str(if *out_of_order { " -W" } else { "" })?;
        if !cpus.is_empty() {
            write!(f, ", on processors {cpus:?}")?;
        }
        if *spinners > 0 { write!(f, ", beside {spinners} spinning threads") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_plans_and_all_kinds_occur() {
        let plans: Vec<Plan> = (0..200).map(|i| Plan::new(1, i, &[0, 3], true)).collect();
        assert_eq!(plans[17], Plan::new(1, 17, &[0, 3], true));
        assert_ne!(plans[17].seed, Plan::new(2, 17, &[0, 3], true).seed);
        for len in 0..3 {
            assert!(plans.iter().any(|plan| plan.cpus.len() == len && plan.spinners == len));
        }
        assert!(CACHE_MODES.iter().all(|mode| plans.iter().any(|plan| plan.cache == *mode)));
        assert!(plans.iter().all(|plan| plan.cpus.iter().all(|cpu| [0, 3].contains(cpu))));
        assert!((0..50).all(|i| Plan::new(1, i, &[0], false).cache != "none"));
    }
}
