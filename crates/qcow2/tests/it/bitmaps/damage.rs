//! Directories and tables that make no sense, and bitmaps of programs that know more than this one.

use qemu_block::error::ErrorKind;
use qemu_block::mem::MemDisk;
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode};

use super::{K, M, add, marked, names, one, ops};
use crate::mem::{MemBench, fill};
use crate::support::block_on;

/// Where a header keeps the autoclear features.
const AUTOCLEAR: u64 = 88;

/// An image with two enabled bitmaps, and the offset of its bitmap directory.
fn image() -> (MemBench, u64) {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "one", 64 * K);
    add(&node, "two", 64 * K);
    block_on(fill(&node, M, 512, 1)).expect("written");
    block_on(node.close()).expect("closed");
    let directory = find_extension(&bench) + 24;
    let directory = bench.number_at(directory);
    (bench, directory)
}

/// The offset of the bitmaps extension.
fn find_extension(bench: &MemBench) -> u64 {
    let disk = bench.disk().to_vec();
    let at = disk[..4096].windows(8).position(|bytes| bytes == [0x23, 0x85, 0x28, 0x75, 0, 0, 0, 24]);
    at.expect("there") as u64
}

#[test]
fn a_directory_that_makes_no_sense_is_given_up_at_the_first_write() {
    // The directory's entries are 32 bytes long: offset, table entries and flags, type to name length and extra data.
    let cases: &[(u64, u64, &str)] = &[
        (8, 1 << 32 | 4, "Bitmap 'one' doesn't satisfy the constraints"),
        (16, 2 << 56 | 16 << 48 | 3 << 32, "Bitmap 'one' doesn't satisfy the constraints"),
        (16, 1 << 56 | 16 << 48 | 3 << 32 | 8, "Bitmap extra data is not supported"),
        (16, 1 << 56 | 16 << 48 | 1000 << 32, "Broken bitmap directory"),
        (0, 0x200, "Bitmap 'one' doesn't satisfy the constraints"),
        (56, u64::from_be_bytes(*b"one\0\0\0\0\0"), "Bitmap already exists: one"),
    ];
    for (at, value, text) in cases {
        let (bench, directory) = image();
        bench.patch(directory + at, *value);
        let node = bench.writable();
        for result in [block_on(ops(&node).remove("one")), block_on(ops(&node).list()).map(drop)] {
            assert_eq!(result.expect_err(text).chain(), *text);
        }
        assert_eq!(bench.number_at(AUTOCLEAR), 1, "a refused wish changes nothing");
        block_on(fill(&node, 2 * M, 512, 1)).expect("the disk can be used");
        assert_eq!(bench.number_at(AUTOCLEAR), 0, "{text}: nobody will rely on what was not kept up to date");
        block_on(node.close()).expect("closed");
        assert_eq!(bench.check().corruptions, 0);
        assert_eq!(names(&bench), "");
        let node = bench.writable();
        add(&node, "fresh", 64 * K);
        block_on(node.close()).expect("closed");
        assert_eq!(names(&bench), "fresh");
    }
}

#[test]
fn a_bitmap_that_makes_no_sense_is_distrusted_and_the_others_live_on() {
    let (good, directory) = image();
    let table = good.number_at(directory);
    let data = good.number_at(table);
    let entries: [(u64, u64); 4] = [(table, 3), (table, 0x200), (table, 1 << 40), (table, data | 1 << 60)];
    for (at, value) in entries {
        let bench = MemBench::new();
        bench.insert("a", MemDisk::from_bytes(&good.disk().to_vec()));
        bench.patch(at, value);
        let node = bench.writable();
        assert!(block_on(ops(&node).content("one")).is_err());
        block_on(fill(&node, 2 * M, 512, 1)).expect("the disk can be used");
        assert_eq!(names(&bench), "!one !two", "both are marked while one is tracked");
        let error = block_on(ops(&node).clear("one")).expect_err("inconsistent").chain();
        let expected = "Bitmap 'one' is inconsistent and cannot be used\n\
                        Try block-dirty-bitmap-remove to delete this bitmap from disk";
        assert_eq!(error, expected);
        assert_eq!(block_on(node.truncate(128 * M, PreallocMode::Off)).expect_err("refused").chain(), expected);
        assert_eq!(marked(&node, "two"), [M..M + 64 * K, 2 * M..2 * M + 64 * K]);
        block_on(node.close()).expect("closed");
        assert_eq!(names(&bench), "!one two");
        let node = bench.writable();
        block_on(ops(&node).remove("one")).expect("removed");
        block_on(node.truncate(128 * M, PreallocMode::Off)).expect("resized");
        block_on(node.close()).expect("closed");
        assert_eq!(names(&bench), "two");
        assert_eq!(bench.check().corruptions, 0);
    }
}

#[test]
fn a_directory_that_lies_over_other_metadata_is_not_marked() {
    let (bench, directory) = image();
    let l1 = bench.number_at(40);
    let mut copy = vec![0; 64];
    bench.disk().read_at(directory, &mut copy);
    bench.disk().write_at(l1 + 64, &copy);
    // The L1 table of 64 MiB has one entry; the cluster after it begins with the copy.
    let extension = find_extension(&bench);
    let table_end = bench.number_at(36) >> 32;
    assert!(table_end * 8 <= 64);
    bench.patch(extension + 24, l1);
    let node = bench.writable();
    assert!(block_on(fill(&node, 3 * M, 512, 1)).is_err() || bench.number_at(AUTOCLEAR) == 0);
    drop(node);
    let node = bench.open("a", OpenFlags::CHECK).expect("checkable");
    assert!(block_on(node.check(CheckFixes::Nothing)).is_ok());
}

#[test]
fn a_read_only_image_is_only_read() {
    let (bench, _) = image();
    let before = bench.disk().to_vec();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert_eq!(marked(&node, "one"), one(M..M + 64 * K));
    for result in [
        block_on(ops(&node).remove("one")),
        block_on(ops(&node).clear("one")),
        block_on(ops(&node).set_enabled("one", false)),
    ] {
        assert_eq!(result.expect_err("read-only").kind(), ErrorKind::PermissionDenied);
    }
    block_on(node.close()).expect("closed");
    assert!(block_on(ops(&node).list()).is_err(), "closed");
    assert!(before == bench.disk().to_vec());
}

#[test]
fn bitmaps_that_are_out_of_date_stay_so() {
    let (bench, _) = image();
    // As another program leaves it that knows nothing of bitmaps.
    bench.patch(AUTOCLEAR, 0);
    assert_eq!(names(&bench), "");
    let node = bench.writable();
    block_on(fill(&node, 3 * M, 512, 1)).expect("written");
    block_on(node.close()).expect("closed");
    assert_eq!((names(&bench), bench.number_at(AUTOCLEAR)), (String::new(), 0));
    let node = bench.writable();
    add(&node, "new", 64 * K);
    block_on(node.close()).expect("closed");
    assert_eq!(names(&bench), "new", "the old ones do not come back");
}
