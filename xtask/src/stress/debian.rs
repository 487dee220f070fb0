//! A cross toolchain from Debian's packages, unpacked below one folder: neither dpkg nor rustup knows of it.
//!
//! apt does the thinking, with package lists and a cache of its own that also know arm64's packages. It downloads what a
//! cross compiler, the emulator and a debugger need and the machine does not have; what the machine has is used.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::toolchain::Toolchain;
use crate::process::run_shown;

/// Packages of the machine's own architecture; apt adds what they depend on.
const PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-dev", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user"];

/// The debugger is useful, but nothing fails without it.
const DEBUGGER: &str = "gdb-multiarch";

/// arm64's standard library for that compiler. Only its files are wanted, nothing that it depends on.
const STD: &str = "libstd-rust-web-dev:arm64";

/// Written when everything else is there.
const STAMP: &str = "complete";

/// Of the packages with emulators for all processors, the one that is needed.
const EMULATOR: &str = "./usr/bin/qemu-aarch64";

const GET: [&str; 5] = ["--quiet", "--yes", "--no-install-recommends", "--reinstall", "--download-only"];

/// What [`unpack`] runs, for people.
pub(super) fn commands(dir: &Path) -> String {
    let dir = dir.display();
    let packages = PACKAGES.join(" ");
    let get = GET.join(" ");
    format!(
        "  export APT_CONFIG={dir}/apt/apt.conf    # with lists and a cache below {dir}/apt, and arm64 added\n  \
         apt-get update\n  \
         apt-get install {get} {packages} {DEBUGGER}\n  \
         apt-get download {STD}\n  \
         dpkg-deb -x PACKAGE {dir}    # for each of them\n"
    )
}

pub(super) fn is_complete(dir: &Path) -> bool {
    dir.join(STAMP).is_file()
}

/// Downloads and unpacks everything.
///
/// # Errors
/// If a step fails.
pub(super) fn unpack(dir: &Path) -> io::Result<()> {
    let archives = prepare_apt(dir)?;
    run_shown(&mut apt_get(dir, &["update", "--quiet", "--quiet"]))?;
    run_shown(apt_get(dir, &["install"]).args(GET).args(PACKAGES))?;
    // Without it there are no backtraces in the reports.
    run_shown(apt_get(dir, &["install"]).args(GET).arg(DEBUGGER)).ok();
    run_shown(apt_get(dir, &["download", "--quiet", "--quiet", STD]).current_dir(&archives))?;
    for entry in fs::read_dir(&archives)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            unpack_one(&package, dir)?;
            fs::remove_file(&package)?;
        }
    }
    write_wrappers(dir)?;
    fs::write(dir.join(STAMP), "")
}

/// Gives apt a configuration of its own; returns the folder that it downloads to.
fn prepare_apt(dir: &Path) -> io::Result<PathBuf> {
    let apt = dir.join("apt");
    let archives = apt.join("cache").join("archives");
    fs::create_dir_all(apt.join("lists").join("partial"))?;
    fs::create_dir_all(archives.join("partial"))?;
    fs::create_dir_all(dir.join("bin"))?;
    let architecture = Command::new("dpkg").arg("--print-architecture").stderr(Stdio::inherit()).output()?;
    let architecture = String::from_utf8_lossy(&architecture.stdout).trim_end().to_owned();
    let settings = [
        format!("Dir::State::lists \"{}\";", apt.join("lists").display()),
        format!("Dir::Cache \"{}\";", apt.join("cache").display()),
        format!("#clear APT::Architectures;\nAPT::Architectures {{ \"{architecture}\"; \"arm64\"; }};"),
        // Descriptions and icons are more than half of what an update downloads.
        "Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";".to_owned(),
        // Much is downloaded, also by machines whose checks nobody repeats by hand.
        "Acquire::Retries \"5\";".to_owned(),
        // Nothing is installed, and users other than root have no right to the lock.
        "Debug::NoLocking \"true\";".to_owned(),
    ];
    fs::write(apt.join("apt.conf"), settings.join("\n") + "\n")?;
    Ok(archives)
}

fn apt_get(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("APT_CONFIG", dir.join("apt").join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn unpack_one(package: &Path, dir: &Path) -> io::Result<()> {
    let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut contents = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--directory"]).arg(dir);
    if name.starts_with("qemu-user") {
        tar.arg(EMULATOR);
    }
    let stdin = contents.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let unpacked = tar.stdin(stdin).status()?;
    contents.wait()?;
    if unpacked.success() { Ok(()) } else { Err(io::Error::other(format!("{name} cannot be unpacked"))) }
}

/// The programs' libraries are not where the dynamic linker looks, so each program gets a script that says where.
fn write_wrappers(dir: &Path) -> io::Result<()> {
    let root = dir.display();
    let sysroot = format!("--sysroot={root}");
    for (program, option) in [
        ("rustc", ""),
        ("rustdoc", ""),
        ("aarch64-linux-gnu-gcc", sysroot.as_str()),
        ("aarch64-linux-gnu-ar", ""),
        ("aarch64-linux-gnu-objdump", ""),
        ("qemu-aarch64", ""),
        (DEBUGGER, ""),
    ] {
        if !dir.join("usr/bin").join(program).exists() {
            continue;
        }
        let libraries = format!("{root}/usr/lib/x86_64-linux-gnu:{root}/usr/lib/aarch64-linux-gnu");
        let path = "${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}";
        let script = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={libraries}{path}\nexport LD_LIBRARY_PATH\nexec {root}/usr/bin/{program} {option} \"$@\"\n"
        );
        let file = dir.join("bin").join(program);
        fs::write(&file, script)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What was unpacked in `dir`.
///
/// # Errors
/// If something is missing.
pub(super) fn toolchain(dir: &Path) -> io::Result<Toolchain> {
    let program = |name: &str| {
        let file = dir.join("bin").join(name);
        let missing = || io::Error::other(format!("{} is missing: remove {}", file.display(), dir.display()));
        if file.is_file() { Ok(file.clone()) } else { Err(missing()) }
    };
    Ok(Toolchain {
        rustc: Some(program("rustc")?),
        gcc: program("aarch64-linux-gnu-gcc")?,
        ar: Some(program("aarch64-linux-gnu-ar")?),
        emulator: program("qemu-aarch64")?,
        sysroot: dir.join("usr").join("aarch64-linux-gnu"),
        objdump: program("aarch64-linux-gnu-objdump")?,
        gdb: program(DEBUGGER).ok(),
        gdb_data: gdb_data(dir),
    })
}

/// The debugger looks for its own files next to itself; they are wherever the package `gdb` is, which it needs.
fn gdb_data(dir: &Path) -> Option<PathBuf> {
    let places = [dir.join("usr/share/gdb"), PathBuf::from("/usr/share/gdb")];
    places.into_iter().find(|place| place.join("python").is_dir())
}
