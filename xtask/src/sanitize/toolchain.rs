//! The compiler: a nightly of rustup, or Debian's, unpacked privately.
//!
//! A sanitizer is an unstable option, and it needs the source of the standard library, which is compiled with it. Only
//! its own distribution has the runtime that fits: rustup's toolchains hold it, Debian's is that of clang.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Options;
use crate::process::{cargo, find as find_program, root, run_shown, say};

/// What to do without one.
const HOW_TO: &str = "\
there is no compiler with sanitizers and the source of its standard library.
  with rustup:  rustup toolchain install nightly --profile minimal --component rust-src
  with Debian:  cargo xtask tsan --install
                (unpacks rustc-web, rust-web-src and the runtimes of clang under target/, changes nothing else)";

/// Debian's compiler that is new enough for the workspace.
const COMPILER: &str = "rustc-web";

/// A compiler that can build with a sanitizer.
#[derive(Debug)]
pub(super) enum Toolchain {
    /// The toolchain `nightly` of rustup.
    Rustup,
    /// Debian's, unpacked in the folder.
    Debian(PathBuf),
}

impl Toolchain {
    /// The one that is there, or a new one if the options allow that.
    pub(super) fn find_or(options: &Options) -> io::Result<Self> {
        let private = root().join("target/rustc-debian");
        if !options.wants_debian && has_rustup_nightly() {
            return Ok(Self::Rustup);
        }
        if !private.join("bin/rustc").is_file() {
            if !options.may_install {
                return Err(io::Error::other(HOW_TO));
            }
            unpack(&private)?;
        }
        Ok(Self::Debian(private))
    }

    /// A command that compiles.
    pub(super) fn rustc(&self) -> Command {
        match self {
            Self::Rustup => rustup(&["rustc"]),
            Self::Debian(dir) => {
                let mut command = Command::new(dir.join("bin/rustc"));
                command.env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }

    /// A cargo command in the workspace's folder.
    pub(super) fn cargo(&self, args: &[&str]) -> Command {
        match self {
            Self::Rustup => {
                let mut command = rustup(&["cargo"]);
                command.args(args).current_dir(root());
                command
            }
            Self::Debian(dir) => {
                let mut command = cargo(args);
                command.env("RUSTC", dir.join("bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }

    /// What the compiler says of itself: its version, and the platform that it is for.
    pub(super) fn version_and_host(&self) -> io::Result<(String, String)> {
        let output = self.rustc().arg("-vV").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        let version = text.lines().next().zip(host).map(|(version, host)| (version.to_owned(), host.to_owned()));
        version.ok_or_else(|| io::Error::other("rustc -vV says no host"))
    }
}

/// A command of rustup's toolchain `nightly`. What cargo tells its children is about another toolchain.
pub(super) fn rustup(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).args(args);
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "LD_LIBRARY_PATH"] {
        command.env_remove(variable);
    }
    command
}

fn has_rustup_nightly() -> bool {
    let Ok(output) = rustup(&["rustc", "--print", "sysroot"]).output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}

/// What apt knows about a package.
fn show(package: &str) -> io::Result<String> {
    let output = Command::new("apt-cache").args(["show", "--no-all-versions", package]).env("LC_ALL", "C").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.is_empty() {
        return Err(io::Error::other(format!("apt knows no package {package}; run apt-get update first")));
    }
    Ok(text)
}

/// The packages of the compiler, of one version, with the LLVM that it uses and the sanitizers of that one.
fn packages() -> io::Result<Vec<String>> {
    let about = show(COMPILER)?;
    let version = about.lines().find_map(|line| line.strip_prefix("Version: "));
    let library = about.split([' ', ',']).find(|word| word.starts_with("libstd-rust-web-"));
    let (Some(version), Some(library)) = (version, library) else {
        return Err(io::Error::other(format!("{COMPILER} is not as expected:\n{about}")));
    };
    let llvm = show(&format!("{library}={version}"))?;
    let llvm = llvm.split([' ', ',']).find(|word| word.starts_with("libllvm"));
    let llvm = llvm.ok_or_else(|| io::Error::other(format!("{library} does not depend on LLVM")))?;
    let sanitizers = format!("libclang-rt-{}-dev", llvm.trim_start_matches("libllvm"));
    let mut packages = vec![llvm.to_owned(), sanitizers];
    packages.extend([COMPILER, library, "libstd-rust-web-dev", "rust-web-src"].map(|name| format!("{name}={version}")));
    Ok(packages)
}

/// Unpacks the packages in `dir`. About 1 GB. Touches neither dpkg's state nor rustup.
fn unpack(dir: &Path) -> io::Result<()> {
    if find_program("apt-get").is_none() || find_program("dpkg-deb").is_none() {
        return Err(io::Error::other(format!("--install needs Debian's apt-get and dpkg-deb.\n{HOW_TO}")));
    }
    say(&format!("Unpacking Debian's compiler in {}", dir.display()));
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let debs = dir.join("debs");
    fs::create_dir_all(&debs)?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "-o", "APT::Sandbox::User=", "download"]).args(packages()?);
    run_shown(download.current_dir(&debs))?;
    for entry in fs::read_dir(&debs)? {
        run_shown(Command::new("dpkg-deb").arg("-x").arg(entry?.path()).arg(dir))?;
    }
    fs::remove_dir_all(&debs)?;
    link_runtimes(dir)?;
    write_wrapper(dir)
}

/// Puts clang's runtimes where the compiler looks for its own.
fn link_runtimes(dir: &Path) -> io::Result<()> {
    let arch = std::env::consts::ARCH;
    let target = dir.join(format!("usr/lib/rustlib/{arch}-unknown-linux-gnu/lib"));
    for llvm in fs::read_dir(dir.join("usr/lib"))? {
        let clang = llvm?.path().join("lib/clang");
        for version in fs::read_dir(&clang).into_iter().flatten() {
            let runtimes = version?.path().join("lib/linux");
            for name in ["tsan", "asan"] {
                let runtime = runtimes.join(format!("libclang_rt.{name}-{arch}.a"));
                symlink(runtime, target.join(format!("librustc-stable_rt.{name}.a")))?;
            }
        }
    }
    Ok(())
}

/// Writes `bin/rustc`, which runs the unpacked compiler with the libraries that were unpacked with it.
fn write_wrapper(dir: &Path) -> io::Result<()> {
    let (bin, usr) = (dir.join("bin"), dir.join("usr"));
    let libraries = usr.join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}'\"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" exec '{}/bin/rustc' \"$@\"\n",
        libraries.display(),
        usr.display(),
    );
    fs::create_dir_all(&bin)?;
    fs::write(bin.join("rustc"), text)?;
    fs::set_permissions(bin.join("rustc"), fs::Permissions::from_mode(0o755))
}
