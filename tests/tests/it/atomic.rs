//! `convert --atomic`: whoever looks at the target sees what was there before, or all of the new image.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::programs::ours;

use crate::cloud::is_same_image;
use crate::fixture::{cloud_images, scratch, scratch_with_small_images};
use crate::process::hold_open;

/// The names in a folder that a conversion made up.
fn leftovers(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("the folder can be read");
    let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".part")).collect()
}

#[test]
fn a_target_is_made_or_replaced() {
    let dir = scratch_with_small_images();
    fs::write(dir.path().join("existing"), b"something else").expect("written");
    fs::set_permissions(dir.path().join("existing"), fs::Permissions::from_mode(0o640)).expect("changed");
    let inode = fs::metadata(dir.path().join("existing")).expect("there").ino();
    for (options, format, target) in [
        ("", "raw", "new.raw"),
        ("-O qcow2 -c", "qcow2", "new.qcow2"),
        ("-O qcow2 -B plain.qcow2 -F qcow2", "qcow2", "existing"),
    ] {
        ours().run(dir.path(), &format!("convert --atomic {options} over.qcow2 {target}")).ok();
        is_same_image(dir.path(), &dir.path().join("over.qcow2"), format, target);
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }
    let now = fs::metadata(dir.path().join("existing")).expect("there");
    assert_eq!((now.permissions().mode() & 0o777, now.ino() == inode), (0o640, false));
}

#[test]
fn links_are_followed_and_stay() {
    let dir = scratch_with_small_images();
    fs::create_dir(dir.path().join("sub")).expect("made");
    fs::write(dir.path().join("sub/real"), b"something else").expect("written");
    symlink("sub/real", dir.path().join("link")).expect("linked");
    ours().run(dir.path(), "convert --atomic -O qcow2 plain.qcow2 link").ok();
    assert!(fs::symlink_metadata(dir.path().join("link")).expect("there").is_symlink());
    is_same_image(dir.path(), &dir.path().join("plain.qcow2"), "qcow2", "sub/real");
}

#[test]
fn a_failure_leaves_what_was_there() {
    let dir = scratch_with_small_images();
    fs::write(dir.path().join("existing"), b"something else").expect("written");
    for (options, source) in
        [("", "outside.qcow2"), ("-O qcow2 -c", "outside.qcow2"), ("-O qcow2 -o cluster_size=3", "plain.qcow2")]
    {
        for target in ["existing", "new"] {
            ours().run(dir.path(), &format!("convert --atomic {options} {source} {target}")).fails(1);
        }
        assert_eq!(fs::read(dir.path().join("existing")).expect("there"), b"something else");
        assert!(!dir.path().join("new").exists());
        assert_eq!(leftovers(dir.path()), [""; 0], "{options}");
    }
}

#[test]
fn what_cannot_be_replaced_is_refused() {
    let dir = scratch_with_small_images();
    symlink("nowhere", dir.path().join("dangling")).expect("linked");
    let refused = |line: &str, text: &str| {
        ours().run(dir.path(), &format!("convert --atomic {line}")).fails(1).saying(text);
        assert_eq!(leftovers(dir.path()), [""; 0], "{line}");
    };
    refused("-n plain.qcow2 raw.img", "cannot be used with -n");
    refused("plain.qcow2 /dev/null", "'/dev/null' is not a regular file");
    refused("plain.qcow2 .", "'.' is not a regular file");
    refused("plain.qcow2 dangling", "is a link that leads nowhere");
    refused("plain.qcow2 missing/target", "No such file or directory");
    refused("-O qcow2 -o data_file=d plain.qcow2 target", "external data file");
    refused("plain.qcow2 -", "no meaning for standard output");
    refused("-O qcow2 plain.qcow2 plain.qcow2", "Failed to get \"write\" lock");
}

#[test]
fn a_target_in_use_is_not_taken_away() {
    let dir = scratch_with_small_images();
    let before = fs::read(dir.path().join("v2.qcow2")).expect("there");
    let holder = hold_open(dir.path(), "v2.qcow2");
    ours().run(dir.path(), "convert --atomic -O qcow2 plain.qcow2 v2.qcow2").fails(1).saying("lock");
    holder.release();
    assert!(before == fs::read(dir.path().join("v2.qcow2")).expect("there"));
    assert_eq!(leftovers(dir.path()), [""; 0]);
}

#[test]
fn a_signal_leaves_what_was_there() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = scratch();
        fs::write(dir.path().join("target"), b"something else").expect("written");
        let convert = ours().invoke(dir.path()).words("convert --atomic -p -c -m 1 -O qcow2");
        let mut child = convert.arg(cloud_images().join("cloud.raw")).arg("target").start();
        let mut stdout = BufReader::new(child.stdout.as_mut().expect("standard output is a pipe"));
        for _ in 0..2 {
            stdout.read_until(b'\r', &mut Vec::new()).expect("standard output can be read");
        }
        kill(Pid::from_raw(i32::try_from(child.id()).expect("fits")), signal).expect("our child can be signalled");
        let status = child.wait().expect("the program can be waited for");
        assert!(!status.success(), "{status}");
        assert_eq!(fs::read(dir.path().join("target")).expect("there"), b"something else");
        assert_eq!(leftovers(dir.path()), [""; 0]);
    }
}
