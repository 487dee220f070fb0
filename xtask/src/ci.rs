//! `cargo xtask ci`: everything that a change must pass.

use std::io;

use crate::process::{cargo, run_shown, say};
use crate::{loom, shuttle, stress, test, tidy};

/// Runs all checks, the quick ones first, and stops at the first that fails.
///
/// # Errors
/// If a check fails.
pub(crate) fn run() -> io::Result<()> {
    run_shown(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run_shown(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    run_shown(cargo(&["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    test::run()?;
    loom::run(&[])?;
    shuttle::run(&[])?;
    stress::ci()?;
    say("All checks passed.");
    Ok(())
}
