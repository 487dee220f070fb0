//! `cargo xtask crash`: builds the program `crash` and runs it.

use std::io;

use crate::process::{cargo, run_shown, say};

const USAGE: &str = "\
usage: cargo xtask crash [--minutes N] [--shape NAME] [--seed S] [--actions N]

Random sessions of work on qcow2 images; every state that a power cut could leave of each is judged.

  --minutes N    how long; 2 by default, fractions are allowed
  --shape NAME   only this kind of image; all by default
  --seed S       the first seed; by default from the clock. With a shape, just that one session
  --actions N    requests in a session; 24 by default";

/// Runs the program with `options`, which are its own.
///
/// # Errors
/// If it cannot be built, or has found something.
pub(crate) fn run(options: &[String]) -> io::Result<()> {
    if options.iter().any(|option| option == "--help" || option == "-h") {
        say(USAGE);
        return Ok(());
    }
    run_shown(cargo(&["run", "--package", "crash", "--profile", "soak", "--quiet", "--"]).args(options))
}
