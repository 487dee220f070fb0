//! `-` as source or target of `convert`: what comes out of a pipe is an image that the reference has nothing to say
//! against, and what goes in arrives.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use test_support::files::first_difference;
use test_support::programs::{ours, reference};

use crate::cloud::is_same_image;
use crate::fixture::{SMALL_BYTES, cloud_images, scratch, scratch_with_small_images};

/// Runs a line of a shell in which `qemu-img` is ours, and demands success without a word on standard error.
fn shell(dir: &Path, line: &str) {
    let run = in_shell(dir, &format!("set -o pipefail; {line}"));
    assert!(run.status.success() && run.stderr.is_empty(), "{line}: {run:?}");
}

fn in_shell(dir: &Path, line: &str) -> std::process::Output {
    let binary = std::path::absolute(ours().path()).expect("the binary has a path");
    let script = format!("qemu-img() {{ '{}' \"$@\"; }}; {line}", binary.display());
    Command::new("bash").args(["-c", &script]).current_dir(dir).output().expect("bash runs")
}

fn equals_source(dir: &TempDir, source: &str, format: &str, target: &str) {
    is_same_image(dir.path(), &dir.path().join(source), format, target);
}

#[test]
fn a_qcow2_image_comes_out_of_a_pipe() {
    let dir = scratch_with_small_images();
    for source in ["raw.img", "plain.qcow2", "zlib.qcow2", "c512.qcow2", "c2m.qcow2", "prealloc.qcow2", "empty.qcow2"] {
        shell(dir.path(), &format!("qemu-img convert -O qcow2 {source} - | cat > target"));
        equals_source(&dir, source, "qcow2", "target");
    }
}

#[test]
fn a_chain_becomes_one_image_or_an_overlay_again() {
    let dir = scratch_with_small_images();
    for source in ["over2.qcow2", "over-raw.qcow2", "over-long.qcow2"] {
        shell(dir.path(), &format!("qemu-img convert -O qcow2 {source} - | cat > target"));
        equals_source(&dir, source, "qcow2", "target");
    }
    for options in ["", "-o compat=0.10", "-o extended_l2=on"] {
        let line = format!("qemu-img convert {options} -O qcow2 -B plain.qcow2 -F qcow2 over.qcow2 - | cat > target");
        shell(dir.path(), &line);
        equals_source(&dir, "over.qcow2", "qcow2", "target");
        let info = reference().run(dir.path(), "info target").ok();
        assert!(info.stdout.contains("backing file: plain.qcow2"), "{info}");
    }
}

#[test]
fn the_options_of_the_format_are_kept() {
    let dir = scratch_with_small_images();
    for options in [
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=64",
        "cluster_size=2M,refcount_bits=1",
        "extended_l2=on,lazy_refcounts=on",
        "compression_type=zstd",
    ] {
        shell(dir.path(), &format!("qemu-img convert -O qcow2 -o {options} plain.qcow2 - | cat > target"));
        equals_source(&dir, "plain.qcow2", "qcow2", "target");
        reference().run(dir.path(), &format!("convert -O qcow2 -o {options} plain.qcow2 theirs")).ok();
        let specific = |file: &str| {
            let info = reference().run(dir.path(), &format!("info --output=json {file}")).ok();
            let info: serde_json::Value = serde_json::from_str(&info.stdout).expect("JSON");
            (info["format-specific"].clone(), info["cluster-size"].clone())
        };
        assert_eq!(specific("target"), specific("theirs"), "{options}");
    }
}

#[test]
fn large_images_go_through_pipes() {
    let dir = scratch();
    for source in ["cloud.raw", "cloud-zlib.qcow2", "overlay.qcow2"] {
        let source = cloud_images().join(source);
        let path = source.display();
        shell(dir.path(), &format!("qemu-img convert -m 16 -O qcow2 {path} - | cat > target"));
        is_same_image(dir.path(), &source, "qcow2", "target");
        shell(dir.path(), &format!("qemu-img convert -O raw {path} - | qemu-img convert -c -O qcow2 - back"));
        is_same_image(dir.path(), &source, "qcow2", "back");
    }
}

#[test]
fn a_terabyte_of_nothing_is_small() {
    let dir = scratch();
    reference().run(dir.path(), "create -q -f qcow2 huge.qcow2 1T").ok();
    shell(dir.path(), "qemu-img convert -O qcow2 huge.qcow2 - | cat > target");
    let len = fs::metadata(dir.path().join("target")).expect("there").len();
    assert!(len <= 5 << 16, "{len} bytes");
    equals_source(&dir, "huge.qcow2", "qcow2", "target");
}

#[test]
fn raw_data_comes_out_of_a_pipe() {
    let dir = scratch_with_small_images();
    reference().run(dir.path(), "convert -O raw over2.qcow2 expected").ok();
    for line in ["convert over2.qcow2 - | cat > target", "convert -O raw over2.qcow2 - > target"] {
        shell(dir.path(), &format!("qemu-img {line}"));
        let difference = first_difference(&dir.path().join("expected"), &dir.path().join("target"));
        assert_eq!(difference.expect("both can be read"), None, "{line}");
    }
}

#[test]
fn raw_data_goes_in() {
    let dir = scratch_with_small_images();
    for options in
        ["-O raw", "-O raw -S 0", "-O qcow2", "-O qcow2 -c", "-O qcow2 -W -m 16", "-O qcow2 -o cluster_size=512"]
    {
        shell(dir.path(), &format!("cat raw.img | qemu-img convert {options} - target"));
        let format = if options.contains("qcow2") { "qcow2" } else { "raw" };
        equals_source(&dir, "raw.img", format, "target");
        let info = reference().run(dir.path(), &format!("info --output=json -f {format} target")).ok();
        let info: serde_json::Value = serde_json::from_str(&info.stdout).expect("JSON");
        assert_eq!(info["virtual-size"], SMALL_BYTES, "{options}");
    }
}

#[test]
fn input_is_never_taken_for_another_format() {
    let dir = scratch_with_small_images();
    shell(dir.path(), "qemu-img convert -O raw - target < plain.qcow2");
    let difference = first_difference(&dir.path().join("plain.qcow2"), &dir.path().join("target"));
    assert_eq!(difference.expect("both can be read"), None);
}

#[test]
fn input_of_any_length_arrives_in_whole_sectors() {
    let dir = scratch();
    for len in [0, 1, 512, 513, 1 << 20, (1 << 20) + 1, (3 << 20) - 1, 5 << 20] {
        let mut content = vec![0xa5; len];
        for (format, options) in [("raw", ""), ("qcow2", ""), ("qcow2", "-c")] {
            let line = format!("convert -O {format} {options} - target");
            let convert = ours().invoke(dir.path()).words(&line);
            convert.input(content.clone()).run().ok();
            reference().run(dir.path(), &format!("convert -f {format} -O raw target back")).ok();
            let back = fs::read(dir.path().join("back")).expect("there");
            let padded = len.next_multiple_of(512);
            content.resize(padded, 0);
            assert!(back == content, "{line} of {len}: {} bytes", back.len());
            content.truncate(len);
        }
    }
}

#[test]
fn input_fills_a_target_that_exists() {
    let dir = scratch_with_small_images();
    ours().run(dir.path(), "create -q -f qcow2 target 1573376").ok();
    shell(dir.path(), "qemu-img convert -n -O qcow2 - target < raw.img");
    equals_source(&dir, "raw.img", "qcow2", "target");
    ours().run(dir.path(), "create -q -f qcow2 short 1M").ok();
    let run = ours().invoke(dir.path()).words("convert -n -O qcow2 - short").input(vec![1; 3 << 20]).run();
    run.fails_in_one_line(1).saying("No space left on device");
}

#[test]
fn digests_are_made_on_the_way() {
    let dir = scratch_with_small_images();
    let content = fs::read(dir.path().join("raw.img")).expect("there");
    let expected = format!("blake3: {}\n", blake3::hash(&content).to_hex());
    let through = "qemu-img convert --checksum=blake3 - - < raw.img 2> digest | cmp - raw.img";
    shell(dir.path(), through);
    assert_eq!(fs::read_to_string(dir.path().join("digest")).expect("there"), expected);
    shell(dir.path(), "qemu-img convert --checksum=blake3 -O qcow2 - target < raw.img > digest");
    assert_eq!(fs::read_to_string(dir.path().join("digest")).expect("there"), expected);
    shell(dir.path(), "qemu-img convert --checksum=blake3 -O qcow2 over-raw.qcow2 - 2> digest | cat > target");
    assert_eq!(fs::read_to_string(dir.path().join("digest")).expect("there"), expected);
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let dir = scratch();
    let source = cloud_images().join("cloud.raw");
    for format in ["raw", "qcow2"] {
        let line = format!(
            "qemu-img convert -O {format} {} - | head -c 70000 > target; exit ${{PIPESTATUS[0]}}",
            source.display()
        );
        let run = in_shell(dir.path(), &line);
        assert_eq!((run.status.code(), String::from_utf8_lossy(&run.stderr).as_ref()), (Some(1), ""));
    }
}

#[test]
fn a_failure_is_told_although_data_went_out() {
    let dir = scratch_with_small_images();
    let run = in_shell(dir.path(), "qemu-img convert -O raw outside.qcow2 - > target");
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).starts_with("qemu-img: error while reading"), "{run:?}");
    let full = File::options().write(true).open("/dev/full").expect("there is /dev/full");
    let run = ours().invoke(dir.path()).words("convert -O qcow2 plain.qcow2 -").stdout(full).run();
    run.fails_in_one_line(1).saying("error while writing at byte 0: No space left on device");
}

#[test]
fn what_streams_cannot_do_is_refused() {
    let dir = scratch_with_small_images();
    let names = || fs::read_dir(dir.path()).expect("the folder can be read").count();
    let before = names();
    for (line, text) in [
        ("-O qcow2 - -", "read twice"),
        ("-O qcow2 -c plain.qcow2 -", "cannot be compressed"),
        ("-O luks plain.qcow2 -", "Only raw and qcow2"),
        ("-O qcow2 -n plain.qcow2 -", "-n has no meaning"),
        ("-O qcow2 -W plain.qcow2 -", "out of order"),
        ("-O qcow2 -o preallocation=full plain.qcow2 -", "preallocation cannot be written to a stream"),
        ("-O qcow2 -o data_file=d plain.qcow2 -", "data file cannot be written to a stream"),
        ("-O qcow2 --bitmaps plain.qcow2 -", "Bitmaps cannot"),
        ("-f qcow2 - target", "only be read as raw"),
        ("plain.qcow2 - target", "cannot be joined"),
        ("-l before - target", "has no snapshots"),
        ("--bitmaps -O qcow2 - target", "has no bitmaps"),
        ("-O qcow2 -B plain.qcow2 -F qcow2 - target", "cannot have a backing file"),
        ("-O qcow2 -o preallocation=full - target", "source of known size"),
        ("-C - target", "Copy offloading needs files"),
    ] {
        let run = ours().run(dir.path(), &format!("convert {line}"));
        assert_eq!(run.stdout, "", "{run}");
        run.fails(1).saying(text);
    }
    assert_eq!(names(), before);
}

#[test]
fn a_file_may_still_be_called_minus() {
    let dir = scratch_with_small_images();
    ours().run(dir.path(), "convert -O qcow2 plain.qcow2 ./-").ok();
    equals_source(&dir, "plain.qcow2", "qcow2", "./-");
    ours().run(dir.path(), "convert -O raw ./- target").ok();
    equals_source(&dir, "plain.qcow2", "raw", "target");
}
