//! `cargo xtask tsan`, `asan` and `miri`: the concurrency tests and a conversion under tools that watch each access.
//!
//! | file | holds |
//! |---|---|
//! | `toolchain` | which compiler can do it, and how to get one |
//! | `control` | programs with a defect, which the tool has to report: else its silence would prove nothing |
//! | `reports` | what the tool has written |
//! | `convert` | the conversions that are run |
//! | `miri` | the interpreter, which is another matter |

mod control;
mod convert;
mod miri;
mod reports;
mod toolchain;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, root, run_shown, say};
use reports::Reports;
use toolchain::Toolchain;

pub(crate) use miri::run as miri;

const USAGE: &str = "\
usage: cargo xtask tsan|asan|miri [--install] [--debian] [TEXT]...

Runs the unit tests of qemu-util and qemu-block whose names contain one of TEXT (all without one); then, with tsan
and asan and without TEXT, conversions with a qemu-img that is built likewise, and with asan also the end-to-end
tests with bad and damaged images. Any report is an error.

  --install  get a compiler that can do it, if there is none
  --debian   Debian's compiler, also if rustup has one that would do
";

/// Lets the ready-made standard library be linked.
const MIXED_STD: &str = " -Cunsafe-allow-abi-mismatch=sanitizer";

/// What the command line says.
struct Options {
    may_install: bool,
    wants_debian: bool,
    filters: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> io::Result<Self> {
        let mut options = Self { may_install: false, wants_debian: false, filters: Vec::new() };
        for arg in args {
            match arg.as_str() {
                "--install" => options.may_install = true,
                "--debian" => options.wants_debian = true,
                text if !text.starts_with('-') => options.filters.push(text.to_owned()),
                _ => return Err(io::Error::other(format!("unknown argument: {arg}\n{USAGE}"))),
            }
        }
        Ok(options)
    }
}

/// A sanitizer of the compiler.
struct Sanitizer {
    /// What `-Zsanitizer` calls it.
    name: &'static str,
    /// The variable that its runtime reads.
    variable: &'static str,
    /// Whether the standard library has to be compiled with it too.
    needs_own_std: bool,
    /// What the runtime is told, beside where to report.
    options: &'static [&'static str],
    /// End-to-end tests that are run with its `qemu-img`.
    end_to_end: &'static [&'static str],
}

/// Data races.
///
/// It sees the order that atomic accesses make, and none that fences make: `-Zsanitizer=thread` has no model of them.
/// Suppressions, should one be needed, are in `tsan-suppressions.txt`, each with its reason.
const THREAD: Sanitizer = Sanitizer {
    name: "thread",
    variable: "TSAN_OPTIONS",
    // The order that the standard library makes between threads has to be seen; without it there are false reports.
    needs_own_std: true,
    options: &["halt_on_error=0"],
    end_to_end: &[],
};

/// Memory that is not the program's, or not any more; leaks where `convert` asks for them.
const ADDRESS: Sanitizer = Sanitizer {
    name: "address",
    variable: "ASAN_OPTIONS",
    // An access that is not looked at cannot be reported wrongly, and generic code is compiled here in any case.
    needs_own_std: false,
    // libdeflate includes one template several times, and with it a constant of a function: as many constants of the
    // same name, which C allows and the check for violations of C++'s one-definition rule does not.
    options: &["detect_stack_use_after_return=1", "strict_init_order=1", "detect_odr_violation=0"],
    end_to_end: &["bad_input::", "damage::"],
};

/// Data races, by ThreadSanitizer.
///
/// # Errors
/// If there is no compiler for it, if a test fails, and if anything is reported.
pub(crate) fn tsan(args: &[String]) -> io::Result<()> {
    THREAD.run(&Options::parse(args)?)
}

/// Bad accesses, by AddressSanitizer.
///
/// # Errors
/// As [`tsan`].
pub(crate) fn asan(args: &[String]) -> io::Result<()> {
    ADDRESS.run(&Options::parse(args)?)
}

impl Sanitizer {
    fn run(&self, options: &Options) -> io::Result<()> {
        let start = Instant::now();
        let toolchain = Toolchain::find_or(options)?;
        let (version, host) = toolchain.version_and_host()?;
        say(&format!("-Zsanitizer={} with {version}", self.name));
        let reports = Reports::new(&self.folder().join("reports"))?;
        control::check(self, &toolchain, &reports)?;
        let tests = self.unit_tests(&toolchain, &host, &reports, &options.filters);
        reports.check()?;
        tests?;
        if options.filters.is_empty() {
            let binary = self.build_qemu_img(&toolchain, &host)?;
            let converted = convert::run(&binary, |command| self.equip(command, &reports, true));
            reports.check()?;
            converted?;
            let tested = self.end_to_end_tests(&binary, &reports);
            reports.check()?;
            tested?;
        }
        say(&format!("Nothing was reported, in {} s.", start.elapsed().as_secs()));
        Ok(())
    }

    /// A target directory of its own: everything is compiled anew, the standard library too.
    fn folder(&self) -> PathBuf {
        root().join("target/sanitize").join(self.name)
    }

    /// Tells the runtime in `command` what to look for and where to report.
    fn equip(&self, command: &mut Command, reports: &Reports, leaks: bool) {
        let mut options: Vec<_> = self.options.iter().map(|option| (*option).to_owned()).collect();
        // Neither a status of `qemu-img` nor one of the test harness.
        options.push("exitcode=66".to_owned());
        // Without llvm-symbolizer, the binutils will do.
        options.push("allow_addr2line=1".to_owned());
        options.push(format!("log_path={}", reports.prefix().display()));
        if self.name == "thread" {
            let suppressions = root().join("xtask/src/sanitize/tsan-suppressions.txt");
            options.push(format!("suppressions={}", suppressions.display()));
        } else {
            options.push(format!("detect_leaks={}", u8::from(leaks)));
        }
        command.env(self.variable, options.join(":"));
    }

    /// A cargo command that compiles with the sanitizer.
    fn cargo(&self, toolchain: &Toolchain, host: &str, args: &[&str]) -> Command {
        let mut command = toolchain.cargo(args);
        command.args(["--target", host]);
        let mut flags = format!("-Zsanitizer={}", self.name);
        if self.needs_own_std {
            command.arg("-Zbuild-std");
        } else {
            flags.push_str(MIXED_STD);
        }
        command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", self.folder());
        command
    }

    fn unit_tests(&self, toolchain: &Toolchain, host: &str, reports: &Reports, filters: &[String]) -> io::Result<()> {
        let mut test = self.cargo(toolchain, host, &["test", "--no-fail-fast"]);
        test.args(["--package", "qemu-util", "--package", "qemu-block", "--lib"]);
        test.args(["--", "--format=terse"]).args(filters);
        // Some of the tests leak on purpose.
        self.equip(&mut test, reports, false);
        run_shown(&mut test)
    }

    fn build_qemu_img(&self, toolchain: &Toolchain, host: &str) -> io::Result<PathBuf> {
        run_shown(&mut self.cargo(toolchain, host, &["build", "--package", "qemu-img"]))?;
        Ok(self.folder().join(host).join("debug/qemu-img"))
    }

    /// The tests are ordinary programs; the binary that they run is the one to watch.
    fn end_to_end_tests(&self, binary: &Path, reports: &Reports) -> io::Result<()> {
        if self.end_to_end.is_empty() {
            return Ok(());
        }
        // The frames of a sanitized program are several times as large; a chain of 200 images has many.
        let cargo = cargo(&["test", "--package", "test-support", "--test", "it", "--", "--format=terse"]);
        let mut test = Command::new("prlimit");
        test.arg("--stack=67108864").arg(cargo.get_program()).args(cargo.get_args()).current_dir(root());
        test.args(self.end_to_end).env(test_support::programs::UNDER_TEST, OsString::from(binary));
        test.env(test_support::programs::ADDRESS_SPACE, "unlimited");
        // A command that fails exits at once, and what it holds is the kernel's to take back.
        self.equip(&mut test, reports, false);
        run_shown(&mut test)
    }
}
