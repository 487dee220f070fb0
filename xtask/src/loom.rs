//! `cargo xtask loom`: the model checker over the code that ships, and over every mutant of it.

use std::io;

use crate::process::{cargo, run_shown, say};
use crate::test::has_nextest;

/// The crates that have models.
const PACKAGES: [&str; 4] = ["--package", "qemu-util", "--package", "qemu-block"];

/// The models' build is unlike any other: it has a folder of its own.
const TARGET_DIR: &str = "target/loom";

/// Makes the models larger: `model` in the tests reads it.
const FULL: &str = "QEMU_LOOM_FULL";

const USAGE: &str = "\
usage: cargo xtask loom [--full] [NAME…]

Runs the models whose names contain one of NAME, or all. Each model runs in a process of its own.

  --full  without bounds on preemptions, or with larger ones: takes hours";

/// Runs the models.
///
/// # Errors
/// If a model fails, or passes with a mutant that it ought to find.
pub(crate) fn run(args: &[String]) -> io::Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        say(USAGE);
        return Ok(());
    }
    let (options, names): (Vec<_>, Vec<_>) = args.iter().map(String::as_str).partition(|arg| arg.starts_with('-'));
    if let Some(unknown) = options.iter().find(|option| **option != "--full") {
        return Err(io::Error::other(format!("unknown option: {unknown}\n{USAGE}")));
    }
    let mut command = if has_nextest() {
        let mut command = cargo(&["nextest", "run", "--cargo-profile", "loom", "--no-fail-fast", "--lib"]);
        command.args(PACKAGES).args(["-E", &filter(&names)]);
        command
    } else {
        // Models that pass do not disturb one another; one that deadlocks may take the process with it.
        let mut command = cargo(&["test", "--profile", "loom", "--no-fail-fast", "--lib"]);
        command.args(PACKAGES).arg("--").args(if names.is_empty() { &["loom_tests"] } else { names.as_slice() });
        command
    };
    if !options.is_empty() {
        command.env(FULL, "1");
    }
    run_shown(command.env("RUSTFLAGS", "--cfg qemu_loom").env("CARGO_TARGET_DIR", TARGET_DIR))
}

/// What nextest shall run.
fn filter(names: &[&str]) -> String {
    let all = "test(loom_tests)";
    if names.is_empty() {
        return all.to_owned();
    }
    let named: Vec<_> = names.iter().map(|name| format!("test({name})")).collect();
    format!("{all} and ({})", named.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn names_narrow_the_choice() {
        assert_eq!(filter(&[]), "test(loom_tests)");
        assert_eq!(filter(&["rcu", "event"]), "test(loom_tests) and (test(rcu) or test(event))");
    }
}
