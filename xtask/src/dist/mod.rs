//! `cargo xtask dist`: what users install, in `target/dist`.
//!
//! - `qemu-img-VERSION-ARCH-linux.tar.gz`: programs that use the system's C library, the manual page, completions;
//! - `qemu-img-VERSION-ARCH-linux-static.tar.gz`: the same with programs that need no library at all, for any
//!   distribution, containers and initial RAM disks;
//! - `qemu-img-rust_VERSION_ARCH.deb`: the first for Debian; see [`deb`] for how it lives beside QEMU's own package.

mod archive;
mod deb;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::{build_programs, cargo, root, run, run_shown, say};

/// What is released.
#[derive(Debug)]
struct Release {
    version: &'static str,
    /// The machine's name as Rust and the kernel have it.
    arch: &'static str,
    /// Where the finished files go.
    dir: PathBuf,
}

/// Builds everything.
///
/// # Errors
/// If a step fails, or a static program turns out to need a library.
pub(crate) fn run_task() -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let release = Release { version, arch: std::env::consts::ARCH, dir: root().join("target/dist") };
    fs::create_dir_all(&release.dir)?;
    let manual = release.dir.join("manual");
    write_manual(&manual)?;
    let dynamic = build_programs("release", &[], &[])?;
    let name = format!("qemu-img-{version}-{}-linux", release.arch);
    archive::make(&release.dir, &name, &dynamic, &manual)?;
    let fixed = build_static(release.arch)?;
    fixed.iter().try_for_each(|program| check_static(program))?;
    archive::make(&release.dir, &format!("{name}-static"), &fixed, &manual)?;
    deb::make(&release, &dynamic, &manual)?;
    try_out(&release, &format!("{name}-static"))
}

/// Writes the manual page and the completions into `dir`.
///
/// # Errors
/// If they cannot be built or written.
pub(crate) fn write_manual(dir: &Path) -> io::Result<()> {
    run(cargo(&["run", "--quiet", "--package", "manual", "--"]).arg(dir))
}

/// Builds the programs without any shared library: with musl where that target is installed, else with the system's C
/// library linked in.
fn build_static(arch: &str) -> io::Result<Vec<PathBuf>> {
    let musl = format!("{arch}-unknown-linux-musl");
    let target = if has_target(&musl)? { musl } else { format!("{arch}-unknown-linux-gnu") };
    say(&format!("The static programs are built for {target}."));
    let flags = (OsString::from("RUSTFLAGS"), OsString::from("-C target-feature=+crt-static"));
    build_programs("release", &["--target".to_owned(), target], &[flags])
}

/// Whether the standard library for `target` is installed.
fn has_target(target: &str) -> io::Result<bool> {
    let output = std::process::Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
    let dir = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(dir.trim()).is_dir())
}

/// Demands that an ELF file names no interpreter, which is what starts programs that need libraries.
fn check_static(program: &Path) -> io::Result<()> {
    /// The type of the program header that names the interpreter.
    const PT_INTERP: u32 = 3;
    let bytes = fs::read(program)?;
    let number = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    let short = |at: usize| bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
    let (Some(headers), Some(size), Some(count)) = (number(32), short(54), short(56)) else {
        return Err(io::Error::other(format!("{} is no program", program.display())));
    };
    let headers = usize::try_from(headers).map_err(io::Error::other)?;
    let starts = (0..usize::from(count)).map(|index| headers + index * usize::from(size));
    let kind = |at: usize| bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    if starts.filter_map(kind).any(|kind| kind == PT_INTERP) {
        return Err(io::Error::other(format!("{} needs shared libraries", program.display())));
    }
    Ok(())
}

/// Unpacks the static archive and has the program in it convert an image.
fn try_out(release: &Release, name: &str) -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let packed = release.dir.join(format!("{name}.tar.gz"));
    run(std::process::Command::new("tar").arg("-xzf").arg(packed).current_dir(dir.path()))?;
    fs::write(dir.path().join("disk.raw"), vec![7; 1 << 20])?;
    let program = dir.path().join(name).join("bin/qemu-img");
    for line in ["convert -O qcow2 disk.raw disk.qcow2", "check disk.qcow2"] {
        run_shown(std::process::Command::new(&program).args(line.split(' ')).current_dir(dir.path()))?;
    }
    for entry in fs::read_dir(&release.dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            say(&format!("{} ({} KiB)", entry.path().display(), entry.metadata()?.len() >> 10));
        }
    }
    Ok(())
}
