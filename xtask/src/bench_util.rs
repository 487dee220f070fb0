//! `cargo xtask bench-util`: the primitives of qemu-util beside those of other crates.

use std::io;

use crate::process::{cargo, root, run_shown, say};

/// What is measured unless something else is asked for: about a minute.
const DEFAULTS: [&str; 4] = ["--sample-ms", "10", "--rounds", "60"];

const USAGE: &str = "\
usage: cargo xtask bench-util [--rounds N] [--sample-ms N] [--json FILE] [--list] [CASE…]

Measures the primitives of qemu-util and of other crates in turns, and prints medians and ratios of the same rounds.

  --rounds N       how often each contender has its turn (60)
  --sample-ms N    how long a turn is, in milliseconds (10)
  --json FILE      where the numbers go (target/bench-util.json)
  --list           name the cases
  CASE             only the cases whose names contain this";

/// Runs the benchmark `compare` of qemu-util; prints its table, and leaves the numbers in a file.
///
/// `options` go to the benchmark: `--sample-ms N`, `--rounds N`, `--json FILE`, `--list`, and parts of names of cases.
///
/// # Errors
/// If it cannot be built, or does not know an option.
pub(crate) fn run(options: &[String]) -> io::Result<()> {
    if options.iter().any(|option| option == "--help" || option == "-h") {
        say(USAGE);
        return Ok(());
    }
    let json = root().join("target/bench-util.json");
    let mut bench = cargo(&["bench", "--quiet", "--package", "qemu-util", "--bench", "compare", "--"]);
    // Later options win, so that those of the caller come last.
    bench.args(DEFAULTS).arg("--json").arg(&json).args(options);
    run_shown(&mut bench)?;
    say("The numbers are in target/bench-util.json, unless --json names another file.");
    Ok(())
}
