//! The reference tools, as the other side of image locks.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A `qemu-io` that holds an image open until it is dropped.
pub(super) struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    _stdout: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts it and waits until the image is open.
    pub(super) fn start(path: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("qemu-io");
        command.args(arguments).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("qemu-io is installed (qemu-utils)");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        // The answer to a command proves that the image is open.
        writeln!(stdin, "length").expect("it reads commands");
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it answers");
        assert!(line.contains("MiB"), "unexpected answer: {line}");
        Self { child, stdin: Some(stdin), _stdout: stdout }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input makes it leave.
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

/// Opens an image with `qemu-io` and closes it again; what it says if it cannot.
pub(super) fn try_open(path: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("qemu-io");
    command.args(arguments).args(["-c", "length"]).arg(path).stdin(Stdio::null());
    let output = command.output().expect("qemu-io is installed (qemu-utils)");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The bytes of a file that anybody has locked, as ranges in the order of `/proc/locks`' offsets.
pub(super) fn locked_ranges(path: &Path) -> Vec<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(path).expect("it exists").ino();
    let locks = std::fs::read_to_string("/proc/locks").expect("Linux has it");
    let mut ranges: Vec<(u64, u64)> = locks
        .lines()
        .filter(|line| line.contains(&format!(":{inode} ")))
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let end = words.next()?.parse().ok()?;
            Some((words.next()?.parse().ok()?, end))
        })
        .collect();
    ranges.sort_unstable();
    ranges
}

/// Makes an empty qcow2 image with `qemu-img`.
pub(super) fn make_qcow2(path: &Path) {
    let status = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(path).arg("1M").status();
    assert!(status.expect("qemu-img is installed (qemu-utils)").success());
}
