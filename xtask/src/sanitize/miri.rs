//! `cargo xtask miri`: the interpreter, which knows the language's rules and weak memory, and is slow.

use std::io;

use super::Options;
use super::toolchain::rustup;
use crate::process::{root, run_shown, say};

/// What to do without it.
const HOW_TO: &str = "\
miri is missing; it is a component of rustup's nightly (Debian has no package):
  rustup toolchain install nightly --profile minimal --component miri,rust-src";

/// The protocols. What is left out makes system calls that miri does not know, or has no concurrency in it.
const FILTERS: [&str; 7] = ["event::", "futex::", "push_list::", "rcu::", "task::", "sync::", "buf::"];

/// Tests that need a second process.
const SKIPPED: [&str; 2] = ["ends_the_process", "aborts"];

/// How many schedules each test is run with.
const SEEDS: &str = "-Zmiri-many-seeds=0..4";

/// Runs the tests of the protocols.
///
/// # Errors
/// If miri is missing, if a test fails, and if miri finds undefined behaviour.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    let options = Options::parse(args)?;
    let install = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"];
    if !is_there() && options.may_install {
        run_shown(std::process::Command::new("rustup").args(install))?;
    }
    if !is_there() {
        return Err(io::Error::other(HOW_TO));
    }
    let mut test = rustup(&["cargo", "miri", "test", "--package", "qemu-util", "--lib", "--"]);
    if options.filters.is_empty() {
        test.args(FILTERS);
    } else {
        test.args(&options.filters);
    }
    SKIPPED.iter().for_each(|name| {
        test.args(["--skip", name]);
    });
    test.current_dir(root()).env("CARGO_TARGET_DIR", root().join("target/miri"));
    // The clock is asked for by waits with a time-out.
    run_shown(test.env("MIRIFLAGS", format!("-Zmiri-disable-isolation {SEEDS}")))?;
    say("Miri has found nothing.");
    Ok(())
}

fn is_there() -> bool {
    rustup(&["cargo", "miri", "--version"]).output().is_ok_and(|output| output.status.success())
}
