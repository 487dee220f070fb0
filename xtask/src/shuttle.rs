//! `cargo xtask shuttle`: the locks for tasks in many random schedules, with many tasks and cancellation.

use std::io;

use crate::process::{cargo, run_shown, say};
use crate::test::has_nextest;

/// The build is unlike any other: it has a folder of its own.
const TARGET_DIR: &str = "target/shuttle";

/// The options, and the variables by which the tests learn of them.
const VARIABLES: [(&str, &str); 3] = [
    ("--seed", "QEMU_SHUTTLE_SEED"),
    ("--iterations", "QEMU_SHUTTLE_ITERATIONS"),
    ("--schedule", "QEMU_SHUTTLE_SCHEDULE"),
];

const USAGE: &str = "\
usage: cargo xtask shuttle [--seed S] [--iterations N] [--schedule TEXT]

Runs the tests of the locks in random schedules. These are sequentially consistent: they test the logic, on a scale that
loom cannot reach; the orderings are loom's business.

  --seed S         where the generator of the schedules begins; each test prints it
  --iterations N   schedules for each test
  --schedule TEXT  repeats the one schedule that a failing test has printed";

/// Runs the tests.
///
/// # Errors
/// If a test fails, or an option is not known.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        say(USAGE);
        return Ok(());
    }
    let mut command = if has_nextest() {
        cargo(&["nextest", "run", "--cargo-profile", "loom", "-p", "qemu-util", "--lib", "-E", "test(shuttle_tests)"])
    } else {
        cargo(&["test", "--profile", "loom", "-p", "qemu-util", "--lib", "shuttle_tests"])
    };
    for pair in args.chunks(2) {
        let known = VARIABLES.iter().find(|(option, _)| *option == pair[0]);
        let (Some((_, variable)), [_, value]) = (known, pair) else {
            return Err(io::Error::other(format!("unknown option, or one without its value: {}\n{USAGE}", pair[0])));
        };
        command.env(variable, value);
    }
    run_shown(command.env("RUSTFLAGS", "--cfg qemu_shuttle").env("CARGO_TARGET_DIR", TARGET_DIR))
}
