//! Which `qemu-img` is tested, and the reference tools that judge it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::run::{Invocation, Run};

/// Names the binary to test; without it the workspace's own is built and used.
pub const UNDER_TEST: &str = "QEMU_IMG_UNDER_TEST";

/// Names the folder of the reference tools; without it they are looked up in `PATH`.
pub const REFERENCE_DIR: &str = "QEMU_REFERENCE_DIR";

/// The environment variable that says how much address space a command may have that reads a damaged image, in KiB or
/// `unlimited`: sanitizers reserve terabytes.
pub const ADDRESS_SPACE: &str = "QEMU_IMG_ADDRESS_SPACE_KIB";

/// A program that tests run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// The program at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An invocation in `dir`, to be completed with arguments. See [`Invocation`] for what it starts with.
    pub fn invoke(&self, dir: &Path) -> Invocation {
        Invocation::new(&self.path, dir)
    }

    /// Runs it in `dir` with the arguments of `line`, which is split by [`words::split`](crate::words::split).
    ///
    /// # Panics
    /// If it cannot be started or does not end in time.
    pub fn run(&self, dir: &Path, line: &str) -> Run {
        self.invoke(dir).words(line).run()
    }
}

/// The `qemu-img` that is tested.
///
/// # Panics
/// If it has to be built and that fails.
pub fn ours() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::at(env::var_os(UNDER_TEST).map_or_else(build, PathBuf::from)))
}

/// The `qemu-io` that is tested: the neighbour of [`ours`].
///
/// # Panics
/// As [`ours`].
pub fn our_qemu_io() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::at(ours().path().with_file_name("qemu-io")))
}

/// Builds the workspace's own binaries with the profile of the tests. Cargo does not do it by itself: they belong to
/// another package than the tests.
fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(cargo).args(["build", "--quiet", "--package", "qemu-img"]).current_dir(manifest).status();
    assert!(status.is_ok_and(|status| status.success()), "cargo build --package qemu-img failed");
    let test = env::current_exe().expect("the path of this test program is known");
    // A test program is <target>/<profile>/deps/<name>; a doc-test's folder is elsewhere, but none comes here.
    let profile = test.parent().and_then(Path::parent).expect("a test program lies two folders deep");
    profile.join("qemu-img")
}

/// The reference `qemu-img`.
pub fn reference() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| find("qemu-img"))
}

/// The reference `qemu-io`.
pub fn qemu_io() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| find("qemu-io"))
}

fn find(name: &str) -> Program {
    Program::at(env::var_os(REFERENCE_DIR).map_or_else(|| PathBuf::from(name), |dir| Path::new(&dir).join(name)))
}

/// Whether the reference is of the version whose texts we reproduce; data is compared with any version.
///
/// # Panics
/// If the reference is missing or does not tell its version.
pub fn reference_speaks_our_version() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| reference_version().starts_with("10.0."))
}

/// The version of the reference: `10.0.2`.
///
/// # Panics
/// If the reference is missing or does not tell its version.
pub fn reference_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let run = reference().run(Path::new("/"), "--version");
        let version = run.stdout.strip_prefix("qemu-img version ").and_then(|rest| rest.split([' ', '\n']).next());
        version.unwrap_or_else(|| panic!("the reference tells no version: {run}")).to_owned()
    })
}
