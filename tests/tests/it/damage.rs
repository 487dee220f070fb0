//! An image that lost a part, or whose tables lie, is an error and never zeros.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use test_support::files::first_difference;
use test_support::programs::ours;
use test_support::run::Run;

use crate::fixture::{l2_table, patch, read_u64, scratch_with_small_images};

const CLUSTER: u64 = 64 << 10;

/// Converts a damaged image to raw: an error without a target, or exactly the data that it had before.
#[track_caller]
fn is_an_error_or_whole(dir: &Path, image: &str, what: &str) -> bool {
    let convert = ours().invoke(dir).words(&format!("convert -f qcow2 -O raw {image} target"));
    let run = convert.limit(Duration::from_secs(30)).run();
    if run.code() == Some(0) {
        let same = first_difference(&dir.join("raw.img"), &dir.join("target")).expect("both can be read");
        assert_eq!(same, None, "{what}: accepted, but the data is not what it was: {run}");
        fs::remove_file(dir.join("target")).expect("the target can be removed");
        return false;
    }
    assert!(!dir.join("target").exists(), "{what}: the target is there: {run}");
    run.fails(1);
    true
}

#[test]
fn a_qcow2_image_cut_anywhere_is_an_error_and_never_zeros() {
    for image in ["plain.qcow2", "zlib.qcow2", "zstd.qcow2", "c512.qcow2", "v2.qcow2"] {
        let dir = scratch_with_small_images();
        let path = dir.path().join(image);
        let whole = fs::metadata(&path).expect("the image is there").len();
        let mut refused = 0;
        let cuts: Vec<u64> = (1..40).map(|n| whole * n / 40 / 512 * 512).chain([0, 72, 104, whole - 1]).collect();
        let original = fs::read(&path).expect("the image can be read");
        for cut in &cuts {
            let keep = usize::try_from(*cut).expect("a small image");
            fs::write(&path, &original[..keep]).expect("the image can be cut");
            refused += usize::from(is_an_error_or_whole(dir.path(), image, &format!("{image} cut at {cut}")));
        }
        // Only the end of a last cluster can be missed without a loss, and clusters that hold nothing.
        assert!(refused * 10 >= cuts.len() * 8, "{image}: only {refused} of {} cuts were noticed", cuts.len());
    }
}

#[test]
fn a_backing_file_cut_in_half_is_an_error() {
    let dir = scratch_with_small_images();
    let base = dir.path().join("plain.qcow2");
    let len = fs::metadata(&base).expect("the image is there").len();
    File::options().write(true).open(&base).expect("opens").set_len(len / 2).expect("the image can be cut");
    ours().run(dir.path(), "convert -O raw over2.qcow2 target").fails(1);
    assert!(!dir.path().join("target").exists());
}

/// Puts `value` at `offset(image)` in a copy of `plain.qcow2` and converts it.
#[track_caller]
fn with_field(offset: impl Fn(&Path) -> u64, value: &[u8], what: &str) -> Run {
    let dir = scratch_with_small_images();
    let image = dir.path().join("plain.qcow2");
    patch(&image, offset(&image), value);
    let line = "convert -f qcow2 -O raw plain.qcow2 target";
    let run = ours().invoke(dir.path()).words(line).limit(Duration::from_secs(30)).run().fails(1);
    assert!(!dir.path().join("target").exists(), "{what}: {run}");
    run
}

#[test]
fn tables_that_point_outside_the_file_are_an_error() {
    let far = (1_u64 << 44).to_be_bytes();
    let used = 1_u64 << 63;
    with_field(|_| 40, &far, "L1 table outside");
    with_field(|image| read_u64(image, 40), &(used | 1 << 44).to_be_bytes(), "L2 table outside");
    with_field(l2_table, &(used | 1 << 44).to_be_bytes(), "data outside");
    with_field(|_| 40, &u64::MAX.to_be_bytes(), "L1 offset overflows");
    with_field(l2_table, &(used | 0x00ff_ffff_ffff_0000).to_be_bytes(), "data at the end of the numbers");
    // A compressed cluster in the last sector that the descriptor can name.
    with_field(l2_table, &(1_u64 << 62 | 0x3fff_ffff_ffff_ffff).to_be_bytes(), "compressed data outside");
}

#[test]
fn offsets_that_are_not_aligned_are_an_error() {
    let used = 1_u64 << 63;
    with_field(|_| 40, &(3 * CLUSTER + 8).to_be_bytes(), "L1 table not aligned");
    with_field(|image| read_u64(image, 40), &(used | (4 * CLUSTER + 512)).to_be_bytes(), "L2 table not aligned");
    with_field(l2_table, &(used | (5 * CLUSTER + 512)).to_be_bytes(), "data not aligned");
}

#[test]
fn header_fields_that_cannot_be_are_an_error() {
    for (offset, value, what) in [
        (4, 4_u32, "version 4"),
        (4, 1, "version 1"),
        (20, 8, "clusters of 256 bytes"),
        (20, 22, "clusters of 4 MiB"),
        (20, u32::MAX, "clusters of 2^4294967295 bytes"),
        (32, 9, "encryption 9"),
        (36, u32::MAX, "an L1 table of 32 GiB"),
        (36, 0, "an L1 table that is too short"),
        (56, u32::MAX, "a refcount table of 256 TiB"),
        (60, u32::MAX, "four billion snapshots"),
        (96, 7, "refcounts of 128 bits"),
        (100, 70, "a header that ends inside its fields"),
        (100, 1 << 20, "a header longer than a cluster"),
    ] {
        with_field(move |_| offset, &value.to_be_bytes(), what);
    }
    with_field(|_| 24, &u64::MAX.to_be_bytes(), "a disk of 16 EiB");
    with_field(|_| 48, &7_u64.to_be_bytes(), "a refcount table that is not aligned");
    with_field(|_| 8, &(1_u64 << 40).to_be_bytes(), "a backing name outside the first cluster");
}

#[test]
fn compressed_data_that_is_garbage_is_an_error() {
    for image in ["zlib.qcow2", "zstd.qcow2"] {
        let dir = scratch_with_small_images();
        let path = dir.path().join(image);
        let entry = read_u64(&path, l2_table(&path));
        assert_eq!(entry >> 62, 1, "the first cluster of {image} is compressed");
        let host = entry & ((1 << 54) - 1);
        patch(&path, host, &[0xff; 600]);
        ours().run(dir.path(), &format!("convert -O raw {image} target")).fails(1);
        assert!(!dir.path().join("target").exists());
    }
}

#[test]
fn damage_that_check_finds_has_the_reference_exit_status() {
    let dir = scratch_with_small_images();
    for (image, code) in
        [("plain.qcow2", 0), ("leak.qcow2", 3), ("outside.qcow2", 2), ("overlap.qcow2", 2), ("raw.img", 63)]
    {
        for format in ["human", "json"] {
            let run = ours().run(dir.path(), &format!("check --output={format} {image}"));
            assert_eq!(run.code(), Some(code), "{run}");
        }
    }
}

#[test]
fn flipped_bits_of_metadata_never_panic_or_hang() {
    let dir = scratch_with_small_images();
    let path = dir.path().join("plain.qcow2");
    let original = fs::read(&path).expect("the image can be read");
    let (l1, l2) = (read_u64(&path, 40), l2_table(&path));
    let reftable = read_u64(&path, 48);
    let refblock = read_u64(&path, reftable);
    let mut noise = test_support::sample::Noise(7);
    let address_space = std::env::var(test_support::programs::ADDRESS_SPACE).unwrap_or_else(|_| "2097152".to_owned());
    let limit_memory = format!("ulimit -v {address_space}");
    for place in [0, 8, 16, 24, 32, 40, 48, 56, 96, 104, 112, l1, reftable, refblock, l2, l2 + 8, l2 + 64, l2 + 128] {
        for _ in 0..3 {
            let bit = noise.next_word() % 64;
            let mut bytes = original.clone();
            let byte = usize::try_from(place + bit / 8).expect("a small image");
            bytes[byte] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("the image can be written");
            for line in ["info plain.qcow2", "check plain.qcow2", "convert -f qcow2 -O qcow2 plain.qcow2 target"] {
                let invocation = ours().invoke(dir.path()).after(&limit_memory).words(line);
                let run = invocation.limit(Duration::from_secs(60)).run();
                assert!(run.signal().is_none() && !run.stderr.contains("panicked"), "bit {bit} of {place}: {run}");
                assert!(run.stderr.len() < 64 << 10, "bit {bit} of {place}: {} bytes of messages", run.stderr.len());
            }
            fs::remove_file(dir.path().join("target")).ok();
        }
    }
}
