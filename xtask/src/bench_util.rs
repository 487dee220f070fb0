//! `cargo xtask bench-util`: the primitives of qemu-util beside those of other crates.

use std::io;

use crate::process::{cargo, root, run_shown, say};

/// What is measured unless something else is asked for: about a minute.
const DEFAULTS: [&str; 4] = ["--sample-ms", "10", "--rounds", "60"];

/// Runs the benchmark `compare` of qemu-util; prints its table, and leaves the numbers in a file.
///
/// `options` go to the benchmark: `--sample-ms N`, `--rounds N`, `--json FILE`, `--list`, and parts of names of cases.
///
/// # Errors
/// If it cannot be built, or does not know an option.
pub(crate) fn run(options: &[String]) -> io::Result<()> {
    let json = root().join("target/bench-util.json");
    let mut bench = cargo(&["bench", "--quiet", "--package", "qemu-util", "--bench", "compare", "--"]);
    // Later options win, so that those of the caller come last.
    bench.args(DEFAULTS).arg("--json").arg(&json).args(options);
    run_shown(&mut bench)?;
    say("The numbers are in target/bench-util.json, unless --json names another file.");
    Ok(())
}
