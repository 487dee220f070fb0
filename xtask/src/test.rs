//! `cargo xtask test`: installs what the tests need, then runs all of them.

use std::io;
use std::process::Command;

use crate::process::{build_qemu_img, cargo, find, run_shown, say};

/// Programs that the tests run, and the Debian packages that hold them.
const NEEDS: [(&str, &str); 8] = [
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("nbdkit", "nbdkit"),
    ("mke2fs", "e2fsprogs"),
    ("setpriv", "util-linux"),
    ("prlimit", "util-linux"),
    ("mount", "mount"),
];

/// Runs every test of the workspace, those of the event loop also as a release build, then the doc-tests, which nextest
/// does not know.
///
/// # Errors
/// If something is missing that cannot be installed, or if a test fails.
pub(crate) fn run() -> io::Result<()> {
    install_what_is_missing()?;
    let binary = build_qemu_img("dev")?;
    let under_test = |mut command: Command| {
        // An override by the person who runs the tests is kept: it is how the tests themselves are tested.
        if std::env::var_os(test_support::programs::UNDER_TEST).is_none() {
            command.env(test_support::programs::UNDER_TEST, &binary);
        }
        command
    };
    if has_nextest() {
        run_shown(&mut under_test(cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])))?;
    } else {
        say("cargo-nextest is not installed: using cargo test, which prints one count per crate.");
        let targets = ["--lib", "--bins", "--tests", "--examples"];
        run_shown(under_test(cargo(&["test", "--workspace", "--no-fail-fast"])).args(targets))?;
    }
    // Outside its home thread a context panics in one build and refuses in the other; and ten million wake-ups take
    // their time without optimisation.
    run_shown(&mut cargo(&["test", "--release", "--package", "qemu-util", "--test", "it"]))?;
    run_shown(&mut under_test(cargo(&["test", "--workspace", "--doc"])))
}

/// Whether nextest is there; without it `cargo test` does.
pub(crate) fn has_nextest() -> bool {
    let output = cargo(&["nextest", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn install_what_is_missing() -> io::Result<()> {
    let mut packages: Vec<&str> =
        NEEDS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !nix::unistd::geteuid().is_root() || find("apt-get").is_none() {
        return Err(io::Error::other(format!("install these Debian packages first: apt-get install {list}")));
    }
    say(&format!("Installing {list}"));
    run_shown(&mut apt_get(&["update", "-q"]))?;
    run_shown(apt_get(&["install", "-q", "-y", "--no-install-recommends"]).args(packages))
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    command
}
