//! `cargo xtask demo`: the main job on a sample that it makes itself, for a person to watch.

use std::io;
use std::path::Path;
use std::process::Command;

use test_support::{files, sample};

use crate::process::{build_qemu_img, run_shown, say};

/// Virtual size of the sample, in MiB; three eighths of it are data.
const SAMPLE_MIB: u64 = 512;

/// Builds the release binary, converts a sample to compressed qcow2 and back, and compares.
///
/// # Errors
/// If a step fails, or if what came back is not what went in.
pub(crate) fn run() -> io::Result<()> {
    let binary = build_qemu_img("release")?;
    let dir = tempfile::Builder::new().prefix("qemu-img-demo").tempdir()?;
    let dir = dir.path();
    say(&format!("Making a sparse raw disk of {SAMPLE_MIB} MiB: text, noise, written zeros and holes."));
    sample::write_raw(&dir.join("disk.raw"), SAMPLE_MIB)?;
    for line in [
        "info disk.raw",
        "convert -p -c -O qcow2 disk.raw disk.qcow2",
        "info disk.qcow2",
        "check disk.qcow2",
        "convert -p -O raw disk.qcow2 back.raw",
    ] {
        say("");
        run_shown(&mut qemu_img(&binary, dir, line))?;
    }
    say("");
    compare(dir)?;
    say(&format!("The binary is {}", binary.display()));
    Ok(())
}

fn qemu_img(binary: &Path, dir: &Path, line: &str) -> Command {
    let mut command = Command::new(binary);
    command.args(test_support::words::split(line)).current_dir(dir);
    command
}

fn compare(dir: &Path) -> io::Result<()> {
    let [disk, packed, back] = ["disk.raw", "disk.qcow2", "back.raw"].map(|name| dir.join(name));
    if let Some(offset) = files::first_difference(&disk, &back)? {
        return Err(io::Error::other(format!("the disk came back changed at offset {offset}")));
    }
    let [before, after] = [files::allocated_bytes(&disk)?, files::allocated_bytes(&packed)?].map(|bytes| bytes >> 20);
    say(&format!("The disk came back byte for byte; on the way it took {after} MiB instead of {before} MiB."));
    Ok(())
}
