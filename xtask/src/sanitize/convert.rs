//! The conversions that are run under a sanitizer.

use std::io;
use std::path::Path;
use std::process::Command;

use test_support::{files, sample, words};

use crate::process::run_shown;

/// Size of the image, in MiB; three eighths of it are data.
const IMAGE_MIB: u64 = 64;

/// Each kind of writer once: plain, compressed, out of order with many requests, and back.
const LINES: [&str; 5] = [
    "convert -O qcow2 disk.raw plain.qcow2",
    "convert -f qcow2 -O qcow2 -c plain.qcow2 packed.qcow2",
    "convert -f qcow2 -O qcow2 -W -m 16 packed.qcow2 again.qcow2",
    "check again.qcow2",
    "convert -f qcow2 -O raw again.qcow2 back.raw",
];

/// Converts an image several times and compares what comes back. `equip` completes each command.
pub(super) fn run(binary: &Path, equip: impl Fn(&mut Command)) -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("qemu-img-sanitize").tempdir()?;
    let [disk, back] = ["disk.raw", "back.raw"].map(|name| dir.path().join(name));
    sample::write_raw(&disk, IMAGE_MIB)?;
    for line in LINES {
        let mut command = Command::new(binary);
        command.args(words::split(line)).current_dir(dir.path());
        equip(&mut command);
        run_shown(&mut command)?;
    }
    match files::first_difference(&disk, &back)? {
        None => Ok(()),
        Some(offset) => Err(io::Error::other(format!("the disk came back changed at offset {offset}"))),
    }
}
