//! What happens around the program: locks of other processes, signals, closed pipes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::programs::{ours, qemu_io, reference};

use crate::fixture::{cloud_images, scratch, scratch_with_small_images};

/// A `qemu-io` that has an image open for writing.
pub(crate) struct Holder(Child);

/// Opens `image` for writing with the reference's `qemu-io`, and returns once it is open.
pub(crate) fn hold_open(dir: &Path, image: &str) -> Holder {
    let mut child = qemu_io().invoke(dir).words(&format!("-f qcow2 {image}")).start();
    let stdin = child.stdin.as_mut().expect("standard input is a pipe");
    writeln!(stdin, "length").expect("qemu-io reads commands");
    let stdout = child.stdout.as_mut().expect("standard output is a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("qemu-io answers");
    assert!(!line.is_empty(), "qemu-io could not open {image}");
    Holder(child)
}

impl Holder {
    /// Closes the image.
    pub(crate) fn release(mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().expect("qemu-io can be waited for");
        assert!(status.success(), "qemu-io: {status}");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Already gone after `release`; otherwise the test has failed and nobody waits for the answer.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_target_that_the_reference_has_open_is_refused_and_untouched() {
    let dir = scratch_with_small_images();
    let image = dir.path().join("plain.qcow2");
    let before = fs::read(&image).expect("the image can be read");
    let writer = hold_open(dir.path(), "plain.qcow2");
    ours().run(dir.path(), "convert -O qcow2 raw.img plain.qcow2").fails(1).saying("lock");
    ours().run(dir.path(), "convert -n -O qcow2 raw.img plain.qcow2").fails(1).saying("lock");
    ours().run(dir.path(), "create -f qcow2 plain.qcow2 1M").fails(1).saying("lock");
    writer.release();
    assert!(before == fs::read(&image).expect("the image can be read"), "the image was changed");
}

#[test]
fn the_reference_is_refused_while_we_write() {
    let dir = scratch();
    let source = cloud_images().join("cloud.raw");
    let convert = ours().invoke(dir.path()).words("convert -p -c -m 1 -O qcow2").arg(&source).arg("target");
    let mut child = convert.start();
    wait_for_progress(&mut child, 3);
    let intruder = reference().run(dir.path(), "info target");
    kill_with(&child, Signal::SIGINT);
    child.wait().expect("the program can be waited for");
    intruder.fails(1).saying("Failed to get shared \"write\" lock");
}

#[test]
fn an_interrupt_stops_cleanly_and_leaves_no_target() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for options in ["-O raw", "-c -O qcow2", "-c -W -m 16 -O qcow2"] {
            let dir = scratch();
            let source = cloud_images().join("cloud-zlib.qcow2");
            let convert = ours().invoke(dir.path()).words("convert -p").words(options).arg(&source).arg("target");
            let mut child = convert.start();
            wait_for_progress(&mut child, 2);
            kill_with(&child, signal);
            let status = child.wait().expect("the program can be waited for");
            // A fast machine may have finished before the signal came; then the target must be whole.
            if status.success() {
                let format = if options.ends_with("raw") { "raw" } else { "qcow2" };
                crate::cloud::is_same_image(dir.path(), &source, format, "target");
            } else {
                assert!(!dir.path().join("target").exists(), "{signal} {options}: {status}, but the target is there");
            }
        }
    }
}

#[test]
fn a_second_interrupt_ends_at_once_and_leaves_no_target() {
    let dir = scratch();
    let source = cloud_images().join("cloud.raw");
    let mut child = ours().invoke(dir.path()).words("convert -p -c -m 1 -O qcow2").arg(&source).arg("target").start();
    wait_for_progress(&mut child, 2);
    kill_with(&child, Signal::SIGINT);
    kill_with(&child, Signal::SIGTERM);
    let status = child.wait().expect("the program can be waited for");
    assert!(!status.success() && !dir.path().join("target").exists(), "{status}");
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    let dir = scratch();
    let source = cloud_images().join("cloud.raw");
    let convert = ours().invoke(dir.path()).after("trap '' INT TERM HUP").words("convert -p -c -m 1 -O qcow2");
    let mut child = convert.arg(&source).arg("target").start();
    wait_for_progress(&mut child, 2);
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| kill_with(&child, signal));
    // What is left to show must be read, or the pipe fills up.
    std::io::copy(child.stdout.as_mut().expect("a pipe"), &mut std::io::sink()).expect("standard output can be read");
    let status = child.wait().expect("the program can be waited for");
    assert!(status.success(), "{status}");
    crate::cloud::is_same_image(dir.path(), &source, "qcow2", "target");
}

#[test]
fn sigusr1_asks_for_the_progress() {
    let dir = scratch();
    let source = cloud_images().join("cloud.raw");
    let mut child = ours().invoke(dir.path()).words("convert -c -m 1 -O qcow2").arg(&source).arg("target").start();
    // Before the target appears the signal may not be caught yet, and would end the program.
    while !dir.path().join("target").exists() {
        assert!(child.try_wait().expect("the program can be asked for").is_none(), "it ended without a target");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_with(&child, Signal::SIGUSR1);
    let output = child.wait_with_output().expect("the program can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(said.starts_with("    (") && said.ends_with("/100%)\n") && said.lines().count() == 1, "{said:?}");
}

fn kill_with(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id fits"));
    kill(pid, signal).expect("our child can be signalled");
}

/// Waits until the child has shown its progress `times` times, so that it is surely at work.
fn wait_for_progress(child: &mut Child, times: usize) {
    let mut stdout = BufReader::new(child.stdout.as_mut().expect("standard output is a pipe"));
    let mut shown = Vec::new();
    for _ in 0..times {
        stdout.read_until(b'\r', &mut shown).expect("standard output can be read");
    }
}

#[test]
fn a_full_standard_output_is_no_panic() {
    let dir = scratch_with_small_images();
    for line in ["info plain.qcow2", "info --output=json plain.qcow2", "check plain.qcow2", "--help", "convert --help"]
    {
        let full = File::options().write(true).open("/dev/full").expect("there is /dev/full");
        let run = ours().invoke(dir.path()).words(line).stdout(full).run();
        assert!(!run.stderr.contains("panicked") && run.signal().is_none(), "{run}");
    }
}

#[test]
fn a_closed_standard_output_is_no_panic() {
    let dir = scratch_with_small_images();
    for line in ["info --backing-chain plain.qcow2", "convert -p -O raw plain.qcow2 target", "--help"] {
        // The reading end is closed before the program starts.
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        drop(reader);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let run = ours().invoke(dir.path()).words(line).stdout(file).limit(Duration::from_secs(60)).run();
        assert!(!run.stderr.contains("panicked"), "{run}");
    }
    let binary = std::path::absolute(ours().path()).expect("the binary has a path");
    let pipeline = format!("'{}' info plain.qcow2 | head -n 1", binary.display());
    let output = Command::new("sh").args(["-c", &pipeline]).current_dir(dir.path()).output().expect("sh runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "image: plain.qcow2\n");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
