//! Measuring the contenders of a group in turns.

use std::time::Duration;

use crate::cases::{Group, Role, Run};
use crate::options::Options;

/// No sample has more iterations, however fast they seem to be.
const ITERATIONS_MAX: u64 = 1 << 30;

/// What was measured for a group.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) contenders: Vec<Times>,
}

/// The times of a contender.
pub(crate) struct Times {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// Nanoseconds for one iteration, in each round.
    rounds: Vec<f64>,
}

impl Times {
    pub(crate) fn median(&self) -> f64 {
        median(self.rounds.clone())
    }

    /// The median of the quotients of the two times of the same round.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// The median of the differences of the two times of the same round, in nanoseconds.
    pub(crate) fn nanoseconds_over(&self, other: &Self) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(ours, theirs)| ours - theirs).collect())
    }
}

impl Measured {
    /// The contender that the crate would like to be judged by.
    pub(crate) fn ours(&self) -> Option<&Times> {
        self.contenders.iter().find(|times| times.role == Role::Ours)
    }

    pub(crate) fn best_rival(&self) -> Option<&Times> {
        let rivals = self.contenders.iter().filter(|times| times.role == Role::Rival);
        rivals.min_by(|a, b| a.median().total_cmp(&b.median()))
    }

    pub(crate) fn floor(&self) -> Option<&Times> {
        self.contenders.iter().find(|times| times.role == Role::Floor)
    }
}

/// Measures everybody in each of the rounds.
pub(crate) fn run(group: Group, options: &Options) -> Measured {
    let mut runs = Vec::new();
    let mut contenders = Vec::new();
    for mut contender in group.contenders {
        let iterations = calibrate(&mut contender.run, options.sample);
        runs.push((contender.run, iterations));
        contenders.push(Times { name: contender.name, role: contender.role, rounds: Vec::new() });
    }
    let n_contenders = runs.len();
    for round in 0..options.rounds {
        for turn in 0..n_contenders {
            let index = (round + turn) % n_contenders;
            let (run, iterations) = &mut runs[index];
            let elapsed = run(*iterations);
            contenders[index].rounds.push(nanoseconds(elapsed) / *iterations as f64);
        }
    }
    Measured { name: group.name, what: group.what, contenders }
}

/// How many iterations take about as long as a sample shall.
fn calibrate(run: &mut Run, sample: Duration) -> u64 {
    let mut iterations = 1_u64;
    loop {
        let elapsed = run(iterations);
        if elapsed * 2 >= sample || iterations >= ITERATIONS_MAX {
            let wanted = iterations as f64 * nanoseconds(sample) / nanoseconds(elapsed).max(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and bounded below")]
            let wanted = wanted as u64;
            return wanted.clamp(1, ITERATIONS_MAX);
        }
        iterations *= 2;
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
