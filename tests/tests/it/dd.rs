//! What `dd` has beyond the reference: pipes, `-n`, `-l`, `isize=` and `osize=`, as Proxmox uses them.

use std::fs;
use std::path::Path;

use test_support::programs::{ours, reference};
use test_support::run::Run;

use crate::fixture::{SMALL_BYTES, scratch_with_small_images};

const MIB: u64 = 1 << 20;

/// Whether both images show the same disk, the shorter one followed by zeros.
fn same(dir: &Path, a: &str, b: &str) -> bool {
    reference().run(dir, &format!("compare {a} {b}")).code() == Some(0)
}

fn len(dir: &Path, name: &str) -> u64 {
    fs::metadata(dir.join(name)).expect("the file is there").len()
}

/// Runs `line` with its standard output in a file of that name.
fn into_file(dir: &Path, line: &str, name: &str) -> Run {
    let file = fs::File::create(dir.join(name)).expect("a file can be made");
    ours().invoke(dir).words(line).stdout(file).run()
}

#[test]
fn an_image_is_written_to_a_pipe() {
    let dir = scratch_with_small_images();
    for source in ["plain.qcow2", "raw.img", "over2.qcow2"] {
        let run = into_file(dir.path(), &format!("dd -O raw bs=64k if={source}"), "out");
        assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""), "{source}");
        assert!(same(dir.path(), &format!("{source} -F raw"), "out"), "{source}");
        assert_eq!(len(dir.path(), "out"), SMALL_BYTES);
    }
    let run = into_file(dir.path(), "dd bs=512 skip=1 count=3 if=raw.img", "out");
    assert_eq!((run.code(), len(dir.path(), "out")), (Some(0), 1024));
}

#[test]
fn an_image_is_read_from_a_pipe() {
    let dir = scratch_with_small_images();
    let raw = fs::read(dir.path().join("raw.img")).expect("readable");
    let pipe = |line: &str| ours().invoke(dir.path()).words(line).input(raw.clone()).run();
    // The size must be known, and the input be as long as promised.
    let run = pipe("dd -f raw -O qcow2 bs=64k of=copy");
    assert_eq!(
        (run.code(), run.stderr.trim_end()),
        (Some(1), "qemu-img: Output size must be known when reading from stdin")
    );
    assert!(!dir.path().join("copy").exists());
    let run = pipe("dd -f raw -O qcow2 bs=64k osize=3M of=copy");
    assert_eq!((run.code(), run.stderr.trim_end()), (Some(1), "qemu-img: Input ended unexpectedly"));
    assert!(!dir.path().join("copy").exists(), "half an image does not stay");
    for (line, size) in [
        (format!("dd -f raw -O qcow2 bs=64k isize={SMALL_BYTES} osize=3M of=copy"), 3 * MIB),
        ("dd -f raw -O qcow2 bs=64k isize=0 osize=3M of=copy".to_owned(), 3 * MIB),
        (format!("dd -f raw -O qcow2 bs=64k isize={SMALL_BYTES} of=copy"), SMALL_BYTES),
        ("dd -f raw -O qcow2 count=3073 of=copy".to_owned(), SMALL_BYTES),
    ] {
        pipe(&line).ok();
        assert!(same(dir.path(), "raw.img", "copy"), "{line}");
        let info = reference().run(dir.path(), "info --output=json copy").ok();
        assert!(
            info.stdout.contains(&format!("\"virtual-size\": {size},\n    \"filename\"")),
            "{line}: {}",
            info.stdout
        );
    }
    // Without a format nothing is read, whatever it looks like.
    let run = pipe("dd of=copy osize=3M");
    assert_eq!((run.code(), run.stderr.trim_end()), (Some(1), "qemu-img: Must specify both input and output files"));
}

#[test]
fn a_pipe_leads_to_a_pipe() {
    let dir = scratch_with_small_images();
    let raw = fs::read(dir.path().join("raw.img")).expect("readable");
    for (line, range) in [
        ("dd -f raw bs=1M", 0..raw.len()),
        ("dd -f raw bs=1k skip=2 count=5", 2048..5120),
        ("dd -f raw isize=0 osize=700", 0..700),
    ] {
        let file = fs::File::create(dir.path().join("out")).expect("a file can be made");
        let run = ours().invoke(dir.path()).words(line).input(raw.clone()).stdout(file).run();
        assert_eq!((run.code(), run.stderr.as_str()), (Some(0), ""), "{line}");
        assert!(fs::read(dir.path().join("out")).expect("readable") == raw[range], "{line}");
    }
}

#[test]
fn an_output_that_exists_is_filled() {
    let dir = scratch_with_small_images();
    reference().run(dir.path(), "create -q -f qcow2 -o cluster_size=4k there 4M").ok();
    ours().run(dir.path(), "dd -n -f qcow2 -O qcow2 bs=1M osize=4M if=plain.qcow2 of=there").ok();
    assert!(same(dir.path(), "there", "raw.img"));
    let info = reference().run(dir.path(), "info there").ok();
    assert!(info.stdout.contains("cluster_size: 4096"), "it was not created anew: {}", info.stdout);
    reference().run(dir.path(), "create -q -f qcow2 small 1M").ok();
    let run = ours().run(dir.path(), "dd --no-create -O qcow2 if=plain.qcow2 of=small");
    assert_eq!((run.code(), run.stderr.trim_end()), (Some(1), "qemu-img: output file is smaller than input file"));
    assert_eq!(ours().run(dir.path(), "dd -n if=plain.qcow2 of=missing").code(), Some(1));
    assert!(!dir.path().join("missing").exists());
}

#[test]
fn a_snapshot_is_read() {
    let dir = scratch_with_small_images();
    for option in ["-l before", "-l snapshot.name=before", "--snapshot 1"] {
        ours().run(dir.path(), &format!("dd {option} -O qcow2 if=snap.qcow2 of=copy")).ok();
        assert!(same(dir.path(), "copy", "raw.img") && !same(dir.path(), "copy", "snap.qcow2"), "{option}");
    }
    let run = ours().run(dir.path(), "dd -l nonesuch if=snap.qcow2 of=copy");
    assert!(run.code() == Some(1) && run.stderr.contains("Failed to load snapshot: "), "{}", run.stderr);
}

/// The reference empties the file first and then copies what is left.
#[test]
fn an_image_is_not_copied_onto_itself() {
    let dir = scratch_with_small_images();
    let before = fs::read(dir.path().join("raw.img")).expect("readable");
    fs::hard_link(dir.path().join("raw.img"), dir.path().join("other")).expect("linked");
    for output in ["raw.img", "other", "file:raw.img"] {
        let run = ours().run(dir.path(), &format!("dd -f raw if=raw.img of={output}"));
        assert!(run.code() == Some(1) && run.stderr.contains("Failed to get \"write\" lock"), "{}", run.stderr);
    }
    assert!(fs::read(dir.path().join("raw.img")).expect("readable") == before);
}

#[test]
fn an_output_that_nobody_reads_is_a_failure() {
    let dir = scratch_with_small_images();
    let full = fs::File::options().write(true).open("/dev/full").expect("a system has it");
    let run = ours().invoke(dir.path()).words("dd if=raw.img").stdout(full).run();
    assert_eq!(
        (run.code(), run.stderr.trim_end()),
        (Some(1), "qemu-img: error while writing to output image file: No space left on device")
    );
}
