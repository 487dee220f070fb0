//! `cargo xtask soak`: builds the program `soak` and runs it.

use std::io;

use crate::process::{cargo, run_shown};

/// Runs the program with `options`, which are its own, except `--mutants`: that builds the orderings in that the
/// environment can weaken (`QEMU_UTIL_MUTANT`, `QEMU_UTIL_PRESSURE`).
///
/// # Errors
/// If it cannot be built, or has found something.
pub(crate) fn run(options: &[String]) -> io::Result<()> {
    let (mutants, options): (Vec<_>, Vec<_>) = options.iter().partition(|option| *option == "--mutants");
    let mut command = cargo(&["run", "--package", "soak", "--profile", "soak", "--quiet"]);
    if !mutants.is_empty() {
        command.args(["--features", "mutants"]);
    }
    run_shown(command.arg("--").args(options))
}
