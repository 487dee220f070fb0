//! The cross toolchain: a compiler with arm64's standard library, a linker, the emulator, objdump, and a debugger.
//!
//! What is installed on the machine is used when it is complete; else a private one below `target`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian;
use crate::process::{find, root, say};

/// What cargo calls the target.
pub(super) const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// Replaces cargo's compiler; none if that one has the standard library.
    pub(super) rustc: Option<PathBuf>,
    pub(super) gcc: PathBuf,
    /// Only those who have an arm64 compiler of their own need it.
    pub(super) ar: Option<PathBuf>,
    pub(super) emulator: PathBuf,
    /// The folder with arm64's `lib`.
    pub(super) sysroot: PathBuf,
    pub(super) objdump: PathBuf,
    /// A debugger that knows arm64.
    pub(super) gdb: Option<PathBuf>,
    /// The debugger's own files, if they are not where it looks for them.
    pub(super) gdb_data: Option<PathBuf>,
}

/// What to say when there is none.
fn advice(dir: &Path) -> String {
    format!(
        "there is no toolchain for {TARGET}.\n\n\
         With rustup, install it:\n\n  \
         rustup target add {TARGET}\n  \
         apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user gdb-multiarch\n\n\
         On Debian without rustup, have it unpacked below {dir}; nothing is installed:\n\n  \
         cargo xtask stress-aarch64 --install\n\n\
         which runs\n\n{}",
        debian::commands(dir),
        dir = dir.display(),
    )
}

impl Toolchain {
    /// The toolchain: of the machine, or the one in `dir`, which is unpacked there if it is missing and `install` is set.
    ///
    /// # Errors
    /// If there is none; the message says how to get one.
    pub(super) fn get(dir: Option<&Path>, install: bool) -> io::Result<Self> {
        let private = dir.map_or_else(|| root().join("target").join("aarch64-toolchain"), Path::to_owned);
        if dir.is_none()
            && let Some(toolchain) = Self::of_the_machine()
        {
            return Ok(toolchain);
        }
        if !debian::is_complete(&private) {
            if !install {
                return Err(io::Error::other(advice(&private)));
            }
            say(&format!("Unpacking Debian's cross toolchain in {}", private.display()));
            debian::unpack(&private)?;
        }
        debian::toolchain(&private)
    }

    /// rustup's target with Debian's, or another distribution's, packages.
    fn of_the_machine() -> Option<Self> {
        let libdir = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
        let libdir = PathBuf::from(String::from_utf8(libdir.stdout).ok()?.trim_end());
        let has_std = fs::read_dir(libdir).ok()?.flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("libstd-")
        });
        let sysroot = PathBuf::from("/usr/aarch64-linux-gnu");
        Some(Self {
            rustc: None,
            gcc: find("aarch64-linux-gnu-gcc").filter(|_| has_std && sysroot.is_dir())?,
            ar: None,
            emulator: find("qemu-aarch64").or_else(|| find("qemu-aarch64-static"))?,
            sysroot,
            objdump: find("aarch64-linux-gnu-objdump")?,
            gdb: find("gdb-multiarch"),
            gdb_data: None,
        })
    }

    /// What cargo has to know in order to build for the target.
    ///
    /// Without LSE atomics and without the library functions that choose them at run time: what is run and disassembled
    /// has the load-exclusive and store-exclusive pairs in which the historical defect shows.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        let mut variables = vec![
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", text(&self.gcc)),
            ("CC_aarch64_unknown_linux_gnu", text(&self.gcc)),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=-outline-atomics".to_owned()),
        ];
        variables.extend(self.rustc.as_deref().map(|rustc| ("RUSTC", text(rustc))));
        variables.extend(self.ar.as_deref().map(|ar| ("AR_aarch64_unknown_linux_gnu", text(ar))));
        variables
    }

    /// The debugger, about to look at `program`.
    pub(super) fn debugger(&self, program: &Path) -> Option<Command> {
        let mut command = Command::new(self.gdb.as_deref()?);
        command.args(["-nx", "-batch"]);
        if let Some(data) = &self.gdb_data {
            command.arg(format!("--data-directory={}", data.display()));
        }
        command.arg("-iex").arg(format!("set sysroot {}", self.sysroot.display())).arg(program);
        Some(command)
    }
}
