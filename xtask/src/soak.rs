//! `cargo xtask soak`: builds the program `soak` and runs it.

use std::io;

use crate::process::{cargo, run_shown, say};

const USAGE: &str = "\
usage: cargo xtask soak [--minutes N] [--seed S] [--round R] [--stall SECONDS] [--mutants]

  --minutes N      how long; 5 by default, fractions are allowed
  --seed S         what the random work follows from; by default from the clock
  --round R        begin with this round instead of 0, to repeat one that failed
  --stall SECONDS  how long an actor may stand still; 20 by default
  --mutants        with the orderings in that QEMU_UTIL_MUTANT and QEMU_UTIL_PRESSURE can weaken";

/// Runs the program with `options`, which are its own, except `--mutants`: that builds the orderings in that the
/// environment can weaken (`QEMU_UTIL_MUTANT`, `QEMU_UTIL_PRESSURE`).
///
/// # Errors
/// If it cannot be built, or has found something.
pub(crate) fn run(options: &[String]) -> io::Result<()> {
    if options.iter().any(|option| option == "--help" || option == "-h") {
        say(USAGE);
        return Ok(());
    }
    let (mutants, options): (Vec<_>, Vec<_>) = options.iter().partition(|option| *option == "--mutants");
    let mut command = cargo(&["run", "--package", "soak", "--profile", "soak", "--quiet"]);
    if !mutants.is_empty() {
        command.args(["--features", "mutants"]);
    }
    run_shown(command.arg("--").args(options))
}
