//! Realistic images, to every target: the reference says identical, finds no error, and makes nothing smaller.

use std::fs;
use std::path::Path;

use test_support::files::allocated_bytes;
use test_support::programs::{ours, reference};

use crate::fixture::{cloud_images, scratch, shared};

/// Our output may occupy this much more than the reference's for the same options.
const SIZE_RATIO_MAX: f64 = 1.02;

/// Options of a conversion and the format that they make.
const RAW: (&str, &str) = ("raw", "-O raw");
const QCOW2: (&str, &str) = ("qcow2", "-O qcow2");
const ZLIB: (&str, &str) = ("qcow2", "-O qcow2 -c -o compression_type=zlib");
const ZSTD: (&str, &str) = ("qcow2", "-O qcow2 -c -o compression_type=zstd");

fn converts(image: &str, (format, options): (&str, &str)) {
    let (images, dir) = (cloud_images(), scratch());
    let source = images.join(image);
    ours().invoke(dir.path()).words("convert").words(options).arg(&source).arg("target").run().ok();
    is_same_image(dir.path(), &source, format, "target");
    let size = allocated_bytes(&dir.path().join("target")).expect("the target can be measured") as f64;
    let theirs = reference_size(image, options);
    assert!(size <= theirs * SIZE_RATIO_MAX, "{image} {options}: {size} bytes, the reference needs {theirs}");
}

/// Demands that `target` holds what `source` holds and has consistent metadata, in the eyes of the reference.
pub(crate) fn is_same_image(dir: &Path, source: &Path, format: &str, target: &str) {
    let source_format = if source.extension().is_some_and(|suffix| suffix == "qcow2") { "qcow2" } else { "raw" };
    let compare = reference().invoke(dir).words(&format!("compare -f {source_format} -F {format}"));
    let compare = compare.arg(source).arg(target).run();
    assert_eq!(compare.code(), Some(0), "{compare}");
    if format == "qcow2" {
        reference().run(dir, &format!("check -f qcow2 {target}")).ok();
    }
}

/// What the reference's own output occupies; remembered, because it takes its time.
fn reference_size(image: &str, options: &str) -> f64 {
    let key: String = format!("size {image} {options}").chars().filter(|c| c.is_alphanumeric()).collect();
    let images = cloud_images();
    let dir = shared(&key, |dir| {
        let convert = reference().invoke(dir).words("convert").words(options);
        convert.arg(images.join(image)).arg("target").run().ok();
        let bytes = allocated_bytes(&dir.join("target")).expect("the target can be measured");
        fs::write(dir.join("size"), bytes.to_string()).expect("the size can be kept");
        fs::remove_file(dir.join("target")).expect("the target can be removed");
    });
    let size = fs::read_to_string(dir.join("size")).expect("the size was kept");
    size.parse().expect("the size is a number")
}

macro_rules! conversions {
    ($($image:literal: $($name:ident => $target:expr),+;)+) => {
        $($(
            #[test]
            fn $name() {
                converts($image, $target);
            }
        )+)+
    };
}

conversions! {
    "cloud.raw":
        raw_to_raw_is_the_same => RAW,
        raw_to_qcow2_is_the_same => QCOW2,
        raw_to_zlib_is_the_same_and_no_larger => ZLIB,
        raw_to_zstd_is_the_same_and_no_larger => ZSTD;
    "cloud.qcow2":
        qcow2_to_raw_is_the_same => RAW,
        qcow2_to_qcow2_is_the_same => QCOW2,
        qcow2_to_zlib_is_the_same_and_no_larger => ZLIB,
        qcow2_to_zstd_is_the_same_and_no_larger => ZSTD;
    "cloud-zlib.qcow2":
        zlib_to_raw_is_the_same => RAW,
        zlib_to_qcow2_is_the_same => QCOW2,
        zlib_to_zlib_is_the_same_and_no_larger => ZLIB,
        zlib_to_zstd_is_the_same_and_no_larger => ZSTD;
    "cloud-zstd.qcow2":
        zstd_to_raw_is_the_same => RAW,
        zstd_to_qcow2_is_the_same => QCOW2,
        zstd_to_zlib_is_the_same_and_no_larger => ZLIB,
        zstd_to_zstd_is_the_same_and_no_larger => ZSTD;
    "overlay.qcow2":
        a_chain_to_raw_is_the_same => RAW,
        a_chain_to_qcow2_is_the_same => QCOW2,
        a_chain_to_zlib_is_the_same_and_no_larger => ZLIB,
        a_chain_to_zstd_is_the_same_and_no_larger => ZSTD;
}
