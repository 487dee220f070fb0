//! The command line.

use std::time::Duration;

/// What shall be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long rounds are begun.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// The first round, to come back to one that failed.
    pub(crate) first_round: u64,
    /// How long an actor may stand still.
    pub(crate) stall: Duration,
}

pub(crate) const USAGE: &str = "\
usage: soak [--minutes N] [--seed S] [--round R] [--stall SECONDS]

  --minutes N      how long; 5 by default, fractions are allowed
  --seed S         what the random work follows from; by default from the clock
  --round R        begin with this round instead of 0, to repeat one that failed
  --stall SECONDS  how long an actor may stand still; 20 by default";

/// Reads the options; `seed` is the default one.
pub(crate) fn parse(words: impl IntoIterator<Item = String>, seed: u64) -> Result<Options, String> {
    let mut options = Options { time: Duration::from_secs(300), seed, first_round: 0, stall: Duration::from_secs(20) };
    let mut words = words.into_iter();
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| USAGE.to_owned())?;
        match name.as_str() {
            "--minutes" => options.time = duration(&value, 60.0)?,
            "--stall" => options.stall = duration(&value, 1.0)?,
            "--seed" => options.seed = number(&value)?,
            "--round" => options.first_round = number(&value)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

fn duration(text: &str, unit_seconds: f64) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(|n| n * unit_seconds).filter(|n| *n > 0.0);
    seconds.and_then(|n| Duration::try_from_secs_f64(n).ok()).ok_or_else(|| format!("'{text}' is no length of time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned), 7)
    }

    #[test]
    fn options_have_defaults_and_are_checked() {
        let all = parsed("--minutes 0.5 --seed 3 --round 9 --stall 2").expect("correct");
        let expected =
            Options { time: Duration::from_secs(30), seed: 3, first_round: 9, stall: Duration::from_secs(2) };
        assert_eq!(all, expected);
        assert_eq!(parsed("").expect("nothing is needed").seed, 7);
        for wrong in ["--minutes", "--minutes 0", "--minutes x", "--seed -1", "--what 1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
