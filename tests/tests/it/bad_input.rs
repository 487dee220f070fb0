//! Wrong input gives the reference's exit status, one clear line, and no target that looks finished.
//!
//! The wording is compared with the reference by `twins`; here is what the reference does not do, or not well.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use nix::sys::stat::Mode;
use test_support::programs::{ours, reference, reference_speaks_our_version};
use test_support::run::Run;

use crate::fixture::{patch, read_u64, scratch, scratch_with_small_images};

/// Far more than an error may take, far less than an endless loop takes.
const SOON: Duration = Duration::from_secs(20);

/// Runs `line`, which must fail with status 1 and leave no `target`.
#[track_caller]
fn fails(dir: &Path, line: &str) -> Run {
    let run = ours().invoke(dir).words(line).limit(SOON).run().fails(1);
    assert!(!dir.join("target").exists(), "the target is there: {run}");
    run
}

/// As [`fails`], and in one line that is the reference's, if it speaks our version.
#[track_caller]
fn fails_as_the_reference(dir: &Path, line: &str) {
    let run = fails(dir, line).fails_in_one_line(1);
    if reference_speaks_our_version() {
        let theirs = reference().run(dir, line);
        fs::remove_file(dir.join("target")).ok();
        assert_eq!((run.code(), &run.stderr), (theirs.code(), &theirs.stderr), "{line}");
    }
}

#[test]
fn a_source_that_is_missing_or_a_folder_is_an_error() {
    let dir = scratch_with_small_images();
    fs::create_dir(dir.path().join("folder")).expect("a folder can be made");
    for source in ["missing", "missing.qcow2", "folder", "raw.img/below", "''"] {
        for options in ["-O raw", "-O qcow2", "-f raw -O qcow2", "-f qcow2 -O raw"] {
            fails_as_the_reference(dir.path(), &format!("convert {options} {source} target"));
        }
        fails_as_the_reference(dir.path(), &format!("info {source}"));
        fails_as_the_reference(dir.path(), &format!("check {source}"));
    }
}

#[test]
fn a_source_that_may_not_be_read_is_an_error() {
    let dir = scratch_with_small_images();
    let locked = dir.path().join("plain.qcow2");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("permissions can be changed");
    // Root reads everything, unless it gives up the capabilities to do so.
    let drop =
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
    let run = |line: &str| {
        let program = std::path::absolute(ours().path()).expect("the binary has a path");
        let invocation = test_support::programs::Program::at(program).invoke(dir.path()).words(line);
        let root = nix::unistd::geteuid().is_root();
        if root { invocation.through(&drop).run() } else { invocation.run() }
    };
    for line in ["info plain.qcow2", "convert -O raw plain.qcow2 target", "check plain.qcow2"] {
        run(line).fails_in_one_line(1).saying("Permission denied");
    }
    assert!(!dir.path().join("target").exists());
}

#[test]
fn an_image_of_another_format_is_an_error() {
    let dir = scratch_with_small_images();
    for source in ["raw.img", "text", "zero-length"] {
        fails_as_the_reference(dir.path(), &format!("convert -f qcow2 -O raw {source} target"));
        fails_as_the_reference(dir.path(), &format!("info -f qcow2 {source}"));
        fails_as_the_reference(dir.path(), &format!("check -f qcow2 {source}"));
    }
    for line in
        ["convert -f nonsense -O raw raw.img target", "convert -O nonsense raw.img target", "info -f nonsense raw.img"]
    {
        fails_as_the_reference(dir.path(), line);
    }
}

#[test]
fn a_target_that_is_too_small_is_an_error_and_stays() {
    let dir = scratch_with_small_images();
    for (format, name) in [("raw", "small.raw"), ("qcow2", "small.qcow2")] {
        reference().run(dir.path(), &format!("create -q -f {format} {name} 1M")).ok();
        let line = format!("convert -n -O {format} plain.qcow2 {name}");
        fails_as_the_reference(dir.path(), &line);
        assert!(dir.path().join(name).exists(), "a target that was there before is not ours to remove");
    }
}

#[test]
fn a_target_that_is_the_source_is_refused_and_the_source_untouched() {
    let dir = scratch_with_small_images();
    let image = dir.path().join("plain.qcow2");
    let before = fs::read(&image).expect("the image can be read");
    symlink("plain.qcow2", dir.path().join("symbolic")).expect("a link can be made");
    fs::hard_link(&image, dir.path().join("hard")).expect("a link can be made");
    for target in ["plain.qcow2", "./plain.qcow2", "symbolic", "hard"] {
        for options in ["-O qcow2", "-O raw", "-n -O qcow2", "-c -O qcow2"] {
            fails(dir.path(), &format!("convert {options} plain.qcow2 {target}"));
            assert!(before == fs::read(&image).expect("the source is there"), "{options} {target} changed the source");
        }
    }
}

#[test]
fn a_target_that_is_a_backing_file_of_the_source_is_refused_and_untouched() {
    let dir = scratch_with_small_images();
    let image = dir.path().join("plain.qcow2");
    let before = fs::read(&image).expect("the image can be read");
    for options in ["-O qcow2", "-O raw", "-c -O qcow2"] {
        fails(dir.path(), &format!("convert {options} over2.qcow2 plain.qcow2"));
        assert!(before == fs::read(&image).expect("the backing file is there"), "{options} changed the backing file");
    }
}

#[test]
fn a_fifo_is_refused_at_once() {
    let dir = scratch_with_small_images();
    nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo can be made");
    for line in [
        "info fifo",
        "info -f raw fifo",
        "check -f qcow2 fifo",
        "convert -O raw fifo target",
        "convert -f raw -O qcow2 fifo target",
        "convert -O raw plain.qcow2 fifo",
        "convert -n -O raw plain.qcow2 fifo",
    ] {
        fails(dir.path(), line).fails_in_one_line(1);
    }
    reference().run(dir.path(), "create -q -u -f qcow2 -b fifo -F raw over-fifo.qcow2 1M").ok();
    fails(dir.path(), "convert -O raw over-fifo.qcow2 target").saying("fifo");
}

#[test]
fn a_device_without_an_end_is_never_read_to_its_end() {
    let dir = scratch();
    for device in ["/dev/zero", "/dev/null", "/dev/urandom"] {
        for format in ["raw", "qcow2"] {
            let convert = ours().invoke(dir.path()).words(&format!("convert -f raw -O {format} {device} target"));
            let run = convert.limit(SOON).run();
            assert!(matches!(run.code(), Some(0 | 1)), "{run}");
        }
    }
    let line = "convert -f raw -O raw /dev/stdin target";
    ours().invoke(dir.path()).words(line).input("some input").run().fails_in_one_line(1);
}

#[test]
fn a_backing_chain_that_loops_is_an_error() {
    let dir = scratch();
    for (name, backing) in [("self", "./self"), ("a", "b"), ("b", "a"), ("c", "./d"), ("d", "e"), ("e", "././c")] {
        reference().run(dir.path(), &format!("create -q -u -f qcow2 -b {backing} -F qcow2 {name} 1M")).ok();
    }
    symlink("self", dir.path().join("alias")).expect("a link can be made");
    for name in ["self", "a", "c", "alias"] {
        fails(dir.path(), &format!("convert -O raw {name} target"));
        fails(dir.path(), &format!("info --backing-chain {name}"));
    }
    // Without the chain there is nothing wrong with the image.
    ours().run(dir.path(), "info self").ok();
}

#[test]
fn a_backing_chain_that_is_too_deep_is_an_error() {
    let dir = scratch();
    reference().run(dir.path(), "create -q -f qcow2 n0 1M").ok();
    for n in 1..=250 {
        reference().run(dir.path(), &format!("create -q -u -f qcow2 -b n{} -F qcow2 n{n} 1M", n - 1)).ok();
    }
    ours().run(dir.path(), "convert -O raw n20 fine").ok();
    fails(dir.path(), "convert -O raw n250 target");
}

#[test]
fn a_backing_file_that_is_missing_is_an_error_where_it_is_needed() {
    let dir = scratch_with_small_images();
    ours().run(dir.path(), "info orphan.qcow2").ok();
    fails_as_the_reference(dir.path(), "convert -O raw orphan.qcow2 target");
    fails_as_the_reference(dir.path(), "info --backing-chain orphan.qcow2");
}

#[test]
fn features_that_are_not_read_are_refused_by_name() {
    let dir = scratch_with_small_images();
    // Bit 40 of the incompatible features means nothing yet.
    let image = dir.path().join("plain.qcow2");
    let features = read_u64(&image, 72) | 1 << 40;
    patch(&image, 72, &features.to_be_bytes());
    fails_as_the_reference(dir.path(), "convert -O raw plain.qcow2 target");
}

#[test]
fn an_image_that_names_a_protocol_opens_nothing() {
    let dir = scratch_with_small_images();
    for name in ["json:{\"driver\":\"null-co\"}", "nbd://127.0.0.1:9/x", "null-co://"] {
        let create = reference().invoke(dir.path()).words("create -q -u -f qcow2 -F raw -b").arg(name);
        create.words("hostile.qcow2 1M").run();
        // `info` reads the header only, whatever the name is.
        let info = ours().run(dir.path(), "info hostile.qcow2");
        assert!(info.signal().is_none() && !info.stderr.contains("panicked"), "{info}");
    }
}

#[test]
fn names_inside_images_do_not_reach_the_terminal_as_they_are() {
    let dir = scratch_with_small_images();
    for (format, name) in
        [("raw", "no\nqemu-img: all is well\u{1b}[2J"), ("qcow2", "\r\u{9b}31m"), ("nbd", "nbd\u{7}://x")]
    {
        let create = reference().invoke(dir.path()).words("create -q -u -f qcow2 -F").arg(format).arg("-b").arg(name);
        create.words("hostile.qcow2 1M").run();
        for line in ["convert -O raw hostile.qcow2 target", "info hostile.qcow2", "check hostile.qcow2"] {
            let run = ours().run(dir.path(), line);
            let dangerous = |text: &str| text.contains(|c: char| c.is_control() && c != '\n');
            assert!(!dangerous(&run.stdout) && !dangerous(&run.stderr), "{run}");
            assert!(run.stderr.lines().count() <= 1, "a name begins a line: {run}");
        }
    }
}
