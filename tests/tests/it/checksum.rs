//! `convert --checksum`: the digest is that of the whole raw content, as other programs compute it, however the copy is
//! made. And `--compression-level`, which changes the size and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_support::programs::{ours, reference};

use crate::cloud::is_same_image;
use crate::fixture::{cloud_images, scratch, scratch_with_small_images};

/// What `sha256sum`, and the library behind `b3sum`, say of the raw content of an image.
fn expected(dir: &Path, source: &str) -> [(&'static str, String); 2] {
    reference().run(dir, &format!("convert -O raw {source} content.raw")).ok();
    let output = Command::new("sha256sum").arg("content.raw").current_dir(dir).output().expect("sha256sum runs");
    let sha256 = String::from_utf8_lossy(&output.stdout).split(' ').next().expect("a digest").to_owned();
    let content = fs::read(dir.join("content.raw")).expect("the content can be read");
    [("sha256", sha256), ("blake3", blake3::hash(&content).to_hex().to_string())]
}

fn prints_the_digest(source: &str, options: &str) {
    let dir = scratch_with_small_images();
    for (algorithm, digest) in expected(dir.path(), source) {
        let run = ours().run(dir.path(), &format!("convert --checksum={algorithm} {options} {source} target")).ok();
        assert_eq!(run.stdout, format!("{algorithm}: {digest}\n"), "{run}");
    }
}

#[test]
fn the_digest_is_that_of_the_raw_content() {
    prints_the_digest("raw.img", "-O raw");
    prints_the_digest("plain.qcow2", "-O raw -S 0");
    prints_the_digest("ext-l2.qcow2", "-O qcow2");
    prints_the_digest("empty.qcow2", "-O qcow2");
    prints_the_digest("text", "-O raw");
    prints_the_digest("zero-length", "-O raw");
}

#[test]
fn the_order_of_the_copy_does_not_matter() {
    prints_the_digest("zlib.qcow2", "-O qcow2 -W -m 16");
    prints_the_digest("zstd.qcow2", "-c -O qcow2 -m 1");
    prints_the_digest("c512.qcow2", "-c -W -O qcow2");
}

#[test]
fn what_the_target_inherits_counts_as_well() {
    prints_the_digest("over2.qcow2", "-O qcow2 -B plain.qcow2 -F qcow2");
    prints_the_digest("over-long.qcow2", "-O qcow2 -c -B plain.qcow2 -F qcow2");
    prints_the_digest("over-raw.qcow2", "-O raw");
}

#[test]
fn large_images_have_large_zeros() {
    let (images, dir) = (cloud_images(), scratch());
    for image in ["cloud-zlib.qcow2", "overlay.qcow2"] {
        let source = images.join(image);
        for (algorithm, digest) in expected(dir.path(), source.to_str().expect("plain")) {
            let convert = ours().invoke(dir.path()).words(&format!("convert -W -O qcow2 --checksum {algorithm}"));
            let run = convert.arg(&source).arg("target").run().ok();
            assert_eq!(run.stdout, format!("{algorithm}: {digest}\n"), "{run}");
            is_same_image(dir.path(), &source, "qcow2", "target");
        }
    }
}

#[test]
fn programs_get_json_and_progress_stays_on_its_own_line() {
    let dir = scratch_with_small_images();
    let [(_, digest), _] = expected(dir.path(), "plain.qcow2");
    let line = "convert --output=json --checksum=sha256 plain.qcow2 target";
    let json: serde_json::Value = serde_json::from_str(&ours().run(dir.path(), line).ok().stdout).expect("JSON");
    assert_eq!(json["checksum"]["algorithm"], "sha256");
    assert_eq!(json["checksum"]["digest"], digest.as_str());
    assert_eq!(json["virtual-size"], crate::fixture::SMALL_BYTES);
    let run = ours().run(dir.path(), "convert -p --checksum=sha256 plain.qcow2 target").ok();
    assert!(run.stdout.ends_with(&format!("(100.00/100%)\r\nsha256: {digest}\n")), "{run}");
}

#[test]
fn wrong_uses_are_refused() {
    let dir = scratch_with_small_images();
    let refused = |line: &str, text: &str| {
        ours().run(dir.path(), &format!("convert {line} plain.qcow2 target")).fails(1).saying(text);
        assert!(!dir.path().join("target").exists(), "{line}");
    };
    refused("--checksum=md5", "'sha256' or 'blake3' not 'md5'");
    refused("--checksum=sha256 -C", "Cannot use copy offloading with --checksum");
    refused("--compression-level 5", "requires use of -c");
    refused("-c -O qcow2 --compression-level 0", "Must be between 1 and 22");
    refused("-c -O qcow2 --compression-level 23", "Must be between 1 and 22");
    refused("-c -O qcow2 --compression-level 13", "between 1 and 12 for compression type zlib");
}

#[test]
fn nothing_is_printed_when_nobody_asked() {
    let dir = scratch_with_small_images();
    assert_eq!(ours().run(dir.path(), "convert -O qcow2 plain.qcow2 target").ok().stdout, "");
}

#[test]
fn levels_change_the_size_and_not_the_content() {
    let (images, dir) = (cloud_images(), scratch());
    let source = images.join("cloud.raw");
    let size = |options: &str| {
        let convert = ours().invoke(dir.path()).words("convert -O qcow2 -c").words(options).arg(&source).arg("target");
        convert.run().ok();
        is_same_image(dir.path(), &source, "qcow2", "target");
        fs::metadata(dir.path().join("target")).expect("the target is there").len()
    };
    let zlib = (size("--compression-level=1"), size("--compression-level=9"));
    assert!(zlib.0 > zlib.1, "{zlib:?}");
    let zstd = "-o compression_type=zstd --compression-level";
    let zstd = (size(&format!("{zstd} 1")), size(&format!("{zstd} 13")));
    assert!(zstd.0 > zstd.1, "{zstd:?}");
}

#[test]
fn an_existing_target_is_opened_with_the_level() {
    let dir = scratch_with_small_images();
    ours().run(dir.path(), "create -q -f qcow2 -o compression_type=zstd target 1573376").ok();
    ours().run(dir.path(), "convert -n -c --compression-level 22 -O qcow2 raw.img target").ok();
    is_same_image(dir.path(), &dir.path().join("raw.img"), "qcow2", "target");
    ours().run(dir.path(), "create -q -f qcow2 target 1573376").ok();
    let run = ours().run(dir.path(), "convert -n -c --compression-level 22 -O qcow2 raw.img target");
    run.fails(1).saying("compression-level must be between 1 and 12 for compression type zlib");
}
