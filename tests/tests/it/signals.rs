//! Real signals at points that chance decides about: nothing that looks complete is left where nothing was, what was there
//! is consistent, and SIGUSR1 is answered by every command that has a progress.

use std::fs;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use test_support::files::copy_sparse_files;
use test_support::programs::{ours, qemu_io, reference};

use crate::fixture::{cloud_images, scratch, scratch_with_small_images, shared};

/// Moments after the start at which signals arrive, in milliseconds. No test relies on what the command is doing then, or
/// on whether it is still there.
const MOMENTS: [u64; 5] = [3, 10, 30, 80, 200];

fn signal(child: &Child, signal: Signal) {
    // One that has ended is no longer there to be told.
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id fits")), signal).ok();
}

/// Runs a line, sends `which` after `moment` milliseconds, and waits for the end.
fn interrupted(dir: &Path, line: &str, which: Signal, moment: u64) -> ExitStatus {
    let mut child = ours().invoke(dir).words(line).start();
    std::thread::sleep(Duration::from_millis(moment));
    signal(&child, which);
    let output = child.wait().expect("the program can be waited for");
    drop(child);
    output
}

/// A folder with an overlay, its base and another image, all of them full of data, and what the overlay shows.
fn chain() -> TempDir {
    let made = shared("signals", |dir| {
        for line in [
            "create -q -f qcow2 base.qcow2 8M",
            "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
            "create -q -f qcow2 other.qcow2 8M",
        ] {
            reference().run(dir, line).ok();
        }
        for (image, byte) in [("base.qcow2", 1), ("top.qcow2", 2), ("other.qcow2", 3)] {
            let writes = format!("write -q -P {byte} 1M 6M\n");
            qemu_io().invoke(dir).words(&format!("-f qcow2 {image}")).input(writes).run().ok();
        }
        reference().run(dir, "convert -O raw top.qcow2 expected.raw").ok();
    });
    let dir = scratch();
    copy_sparse_files(&made, dir.path()).expect("the images can be copied");
    dir
}

#[test]
fn new_images_are_removed() {
    let source = cloud_images().join("cloud-zlib.qcow2");
    for (line, target) in [
        ("convert -O raw SOURCE target".to_owned(), "target"),
        ("convert -c -O qcow2 SOURCE target".to_owned(), "target"),
        ("dd -f qcow2 -O raw bs=64k if=SOURCE of=target".to_owned(), "target"),
        ("create -q -f raw -o preallocation=full target 128M".to_owned(), "target"),
        ("create -q -f qcow2 -o preallocation=full target 128M".to_owned(), "target"),
    ] {
        let line = line.replace("SOURCE", source.to_str().expect("plain"));
        for (moment, which) in MOMENTS.into_iter().zip([Signal::SIGINT, Signal::SIGTERM].into_iter().cycle()) {
            let dir = scratch();
            let status = interrupted(dir.path(), &line, which, moment);
            let is_there = dir.path().join(target).exists();
            assert_eq!(is_there, status.success(), "{which} after {moment} ms: {status}, {line}");
        }
    }
}

#[test]
fn what_was_there_before_is_consistent_and_shows_the_same() {
    for line in [
        "commit -q -r 16M top.qcow2",
        "commit -q top.qcow2",
        "rebase -b other.qcow2 -F qcow2 top.qcow2",
        "rebase -b '' top.qcow2",
        "amend -o refcount_bits=64 top.qcow2",
        "amend -o compat=0.10 top.qcow2",
    ] {
        for (moment, which) in MOMENTS.into_iter().zip([Signal::SIGTERM, Signal::SIGINT].into_iter().cycle()) {
            let dir = chain();
            let status = interrupted(dir.path(), line, which, moment);
            for image in ["base.qcow2", "top.qcow2", "other.qcow2"] {
                let check = reference().run(dir.path(), &format!("check -f qcow2 {image}"));
                // Leaked clusters are no damage; 3 stands for them.
                assert!(matches!(check.code(), Some(0 | 3)), "{which} after {moment} ms: {status}, {line}: {check}");
            }
            let compare = reference().run(dir.path(), "compare -f qcow2 -F raw top.qcow2 expected.raw");
            assert_eq!(compare.code(), Some(0), "{which} after {moment} ms: {status}, {line}: {compare}");
        }
    }
}

#[test]
fn an_existing_target_is_not_removed() {
    let dir = scratch_with_small_images();
    let source = cloud_images().join("cloud.raw");
    let line = format!("convert -n -c -m 1 -O qcow2 {} there", source.display());
    let size = fs::metadata(&source).expect("there").len();
    reference().run(dir.path(), &format!("create -q -f qcow2 there {size}")).ok();
    let status = interrupted(dir.path(), &line, Signal::SIGINT, 100);
    assert!(dir.path().join("there").exists(), "{status}");
    let check = reference().run(dir.path(), "check -f qcow2 there");
    assert!(matches!(check.code(), Some(0 | 3)), "{check}");
}

#[test]
fn every_command_with_progress_survives_sigusr1() {
    for line in [
        "convert -c -O qcow2 top.qcow2 target",
        "commit -q -r 16M top.qcow2",
        "rebase -b other.qcow2 -F qcow2 top.qcow2",
        "amend -o refcount_bits=64 top.qcow2",
        "compare top.qcow2 expected.raw",
    ] {
        let dir = chain();
        let mut child = ours().invoke(dir.path()).words(line).start();
        // The signal is caught from early on, but not from the first instruction: before that it would end the program.
        let status = format!("/proc/{}/status", child.id());
        let catches = |text: String| {
            let blocked = text.lines().find_map(|line| line.strip_prefix("SigBlk:")).map(str::trim).map(str::to_owned);
            blocked.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask >> 9 & 1 == 1)
        };
        while child.try_wait().expect("asked").is_none() && !fs::read_to_string(&status).is_ok_and(catches) {
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(&child, Signal::SIGUSR1);
        let output = child.wait_with_output().expect("the program can be waited for");
        assert!(output.status.success(), "{line}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.lines().all(|line| line.starts_with("    (") && line.ends_with("/100%)")), "{line}: {said}");
    }
}
