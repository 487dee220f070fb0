//! A target that cannot be written is an error and leaves nothing that looks finished.

use std::path::Path;
use std::time::Duration;

use test_support::programs::ours;
use test_support::run::Run;

use crate::fixture::{cloud_images, scratch, scratch_with_small_images};

/// Targets of conversions, as options.
const TARGETS: [&str; 6] =
    ["-O raw", "-O qcow2", "-c -O qcow2", "-W -m 16 -O qcow2", "-O raw -S 0", "-O qcow2 -o preallocation=full"];

/// Runs `convert` in a mount namespace of its own in which `dir` is a file system of `kib` KiB, then lists the folder.
fn convert_on_small_disk(dir: &Path, kib: u32, options: &str, source: &Path) -> Run {
    let mount = format!("mount -t tmpfs -o size={kib}k tmpfs '{}' && cd '{}' || exit 99", dir.display(), dir.display());
    // Not `exec`: the folder is listed after the program ended, while its file system still exists.
    let script = format!("{mount}\n\"$@\"\ncode=$?\nls >&2\nexit $code");
    let namespace = if nix::unistd::geteuid().is_root() { ["unshare", "-m"] } else { ["unshare", "-rm"] };
    let wrapper = [namespace[0], namespace[1], "sh", "-c", &script, "sh"];
    let program = std::path::absolute(ours().path()).expect("the binary has a path");
    let convert = test_support::programs::Program::at(program).invoke(dir).through(&wrapper);
    convert.words("convert").words(options).arg(source).arg("target").limit(Duration::from_secs(120)).run()
}

#[test]
fn a_full_file_system_is_an_error_and_leaves_no_target() {
    let source = cloud_images().join("cloud.qcow2");
    for options in TARGETS {
        let dir = scratch();
        let run = convert_on_small_disk(dir.path(), 4096, options, &source).fails(1).saying("No space left on device");
        assert!(!run.stderr.lines().any(|line| line == "target"), "the target is still there: {run}");
    }
}

#[test]
fn the_last_kibibytes_of_a_file_system_decide_between_success_and_error() {
    let small = scratch_with_small_images();
    let source = small.path().join("plain.qcow2");
    let mut seen = [false; 2];
    for kib in (256..1600).step_by(64) {
        for options in ["-O qcow2", "-c -O qcow2", "-O raw"] {
            let dir = scratch();
            let run = convert_on_small_disk(dir.path(), kib, options, &source);
            let kept = run.stderr.lines().any(|line| line == "target");
            let succeeded = run.code() == Some(0);
            assert_eq!(kept, succeeded, "{kib} KiB: {run}");
            seen[usize::from(succeeded)] = true;
        }
    }
    assert_eq!(seen, [true; 2], "the sizes should reach from too small to large enough");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_leaves_no_target() {
    let source = cloud_images().join("cloud.qcow2");
    for options in TARGETS {
        let dir = scratch();
        // In units of 512 bytes. Without the trap the signal of the limit would end the program.
        let convert = ours().invoke(dir.path()).after("trap '' XFSZ; ulimit -f 2048").words("convert").words(options);
        convert.arg(&source).arg("target").run().fails(1);
        assert!(!dir.path().join("target").exists(), "{options}: the target is still there");
    }
}

#[test]
fn a_device_that_is_always_full_is_an_error_and_stays() {
    let dir = scratch_with_small_images();
    for options in ["-O raw", "-n -O raw"] {
        ours().run(dir.path(), &format!("convert {options} plain.qcow2 /dev/full")).fails_in_one_line(1);
        assert!(Path::new("/dev/full").exists());
    }
}
