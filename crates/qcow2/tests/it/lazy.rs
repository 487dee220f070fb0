//! Lazy refcounts, the dirty bit that announces them, and the corrupt bit.

use qemu_block::error::ErrorKind;
use qemu_block::mem::{MemDisk, MemOp, When};
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode};

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle, qemu_io};

const M: u64 = 1 << 20;
const DIRTY: u64 = 1;
const CORRUPT: u64 = 2;
/// Where the header has the incompatible features.
const FEATURES: u64 = 72;
/// The refcount block, the L1 table and the first L2 table of a fresh image with 64 KiB clusters.
const REFBLOCK: u64 = 2 << 16;
const L1: u64 = 3 << 16;
const COPIED: u64 = 1 << 63;

fn features(bench: &MemBench) -> u64 {
    bench.number_at(FEATURES)
}

/// What is on the disk now, as a bench of its own: that of after a power cut, if nothing is under way.
fn after_a_power_cut(bench: &MemBench) -> MemBench {
    let cut = MemBench::new();
    cut.insert("a", MemDisk::from_bytes(&bench.disk().to_vec()));
    cut
}

#[test]
fn refcounts_wait_and_the_dirty_bit_says_so() {
    let bench = MemBench::with_image("lazy_refcounts=on", 64 * M);
    let node = bench.writable();
    assert_eq!(features(&bench), 0, "nothing was written yet");
    block_on(fill(&node, 0, 1 << 20, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    assert_eq!(features(&bench), DIRTY);
    assert_eq!(bench.number_at(REFBLOCK + 8), 0, "the data is not counted yet");

    let cut = after_a_power_cut(&bench);
    let node_after = cut.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node_after, 0, 1 << 20, 1), "what was flushed can be read without a repair");
    block_on(node_after.close()).expect("closed");
    assert_eq!(features(&cut), DIRTY);
    let node_after = cut.writable();
    assert_eq!(features(&cut), 0, "repaired before it is written");
    block_on(fill(&node_after, M, 1 << 20, 2)).expect("written");
    assert!(is_filled(&node_after, 0, 1 << 20, 1), "nothing was written over what was not counted");
    block_on(node_after.close()).expect("closed");
    cut.assert_clean();

    block_on(node.close()).expect("closed");
    assert_eq!(features(&bench), 0, "closed cleanly");
    bench.assert_clean();
}

#[test]
fn the_dirty_bit_is_durable_before_the_first_mapping() {
    let bench = MemBench::with_image("lazy_refcounts=on", 64 * M);
    let node = bench.writable();
    let l1_before = bench.number_at(L1);
    assert_eq!(l1_before, 0);
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    // The bit cannot be written: then nothing that relies on it is.
    bench.disk().control().fail(MemOp::Write, When::From(0), libc::EIO);
    block_on(node.flush()).expect_err("the disk fails");
    assert_eq!((features(&bench), bench.number_at(L1)), (0, 0));
}

#[test]
fn lazy_images_survive_everything_that_changes_tables() {
    for options in ["lazy_refcounts=on,cluster_size=512", "lazy_refcounts=on,cluster_size=4k,refcount_bits=1"] {
        let bench = MemBench::with_image(options, 4 * M);
        let node = bench.writable();
        for i in 0..32 {
            block_on(fill(&node, i * 100_000, 50_000, 1 + u8::try_from(i).expect("small"))).expect("written");
            if i % 5 == 0 {
                block_on(node.flush()).expect("flushed");
            }
            if i % 3 == 0 {
                block_on(node.discard(i * 65536, 65536)).expect("discarded");
            }
        }
        block_on(node.truncate(64 * M, PreallocMode::Off)).expect("grown");
        block_on(fill(&node, 40 * M, 1 << 20, 9)).expect("written");
        block_on(node.flush()).expect("flushed");
        let cut = after_a_power_cut(&bench);
        block_on(cut.writable().close()).expect("closed");
        cut.assert_clean();
        block_on(node.close()).expect("closed");
        bench.assert_clean();
    }
}

#[test]
fn the_option_wins_over_the_image() {
    for (image, option, is_lazy) in [("off", "on", true), ("on", "off", false)] {
        let bench = MemBench::with_image(&format!("lazy_refcounts={image}"), 64 * M);
        let spec = format!("driver=qcow2,file.driver=mem,file.filename=a,lazy-refcounts={option}");
        let node = bench.open_options(&spec, OpenFlags::WRITE).expect("writable");
        block_on(fill(&node, 0, 4096, 1)).expect("written");
        block_on(node.flush()).expect("flushed");
        assert_eq!(features(&bench) == DIRTY, is_lazy);
        block_on(node.close()).expect("closed");
        bench.assert_clean();
    }
    let bench = MemBench::with_image("compat=0.10", M);
    let spec = "driver=qcow2,file.driver=mem,file.filename=a,lazy-refcounts=on";
    let refused = bench.open_options(spec, OpenFlags::empty()).expect_err("version 2");
    assert_eq!(refused.chain(), "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
}

#[test]
fn the_references_dirty_images_are_repaired_when_they_are_written() {
    let bench = Bench::new();
    let path = bench.path("image");
    oracle(&["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", &path, "64M"]);
    // It is stopped before it closes the image.
    let script = "write -P 5 0 1M\nflush\nabort\n";
    let mut child = std::process::Command::new("qemu-io")
        .args(["-f", "qcow2", &path])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("qemu-io runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), script.as_bytes()).expect("written");
    child.wait().expect("it ends");
    assert_eq!(std::fs::read(&path).expect("readable")[79], 1, "dirty");
    let node = bench.open("image", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 1 << 20, 5));
    block_on(node.close()).expect("closed");
    let node = bench.open("image", OpenFlags::WRITE).expect("writable");
    assert!(is_filled(&node, 0, 1 << 20, 5));
    block_on(fill(&node, M, 1 << 20, 6)).expect("written");
    block_on(node.close()).expect("closed");
    let (code, text) = oracle(&["check", "-f", "qcow2", &path]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn our_dirty_images_are_repaired_by_the_reference() {
    let bench = MemBench::with_image("lazy_refcounts=on", 64 * M);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 20, 7)).expect("written");
    block_on(node.flush()).expect("flushed");
    let files = Bench::new();
    let path = files.path("image");
    std::fs::write(&path, bench.disk().to_vec()).expect("written");
    qemu_io(&path, &["read -P 7 0 1M", "write -P 8 1M 1M", "read -P 7 0 1M"]);
    let (code, text) = oracle(&["check", "-f", "qcow2", &path]);
    assert_eq!(code, 0, "{text}");
    block_on(node.close()).expect("closed");
}

#[test]
fn corruption_found_while_writing_marks_the_image() {
    let bench = MemBench::with_image("", 64 * M);
    // The refcounts call the L1 table free.
    bench.patch(REFBLOCK, 0x0001_0001_0001_0000);
    let node = bench.writable();
    let error = block_on(fill(&node, 0, 4096, 1)).expect_err("corrupt");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.chain().contains("Preventing invalid write on metadata (overlaps with active L1 table)"), "{error}");
    assert_eq!(features(&bench), CORRUPT);
    assert_eq!(block_on(fill(&node, M, 4096, 1)).expect_err("refused").kind(), ErrorKind::Corrupt);
    block_on(node.flush()).expect_err("nothing is flushed");
    assert!(is_filled(&node, 0, 4096, 0), "reads go on");
    block_on(node.close()).expect_err("nothing is written back");

    let refused = bench.open("a", OpenFlags::WRITE).expect_err("corrupt");
    assert_eq!(refused.chain(), "qcow2: Image is corrupt; cannot be opened read/write");
    block_on(bench.open("a", OpenFlags::empty()).expect("readable").close()).expect("closed");
    let files = Bench::new();
    let path = files.path("image");
    std::fs::write(&path, bench.disk().to_vec()).expect("written");
    let (_, text) = oracle(&["info", &path]);
    assert!(text.contains("corrupt: true"), "{text}");
    let (code, text) = oracle(&["check", "-r", "all", &path]);
    assert_eq!(code, 0, "{text}");

    let node = bench.open("a", OpenFlags::CHECK | OpenFlags::WRITE).expect("to be repaired");
    let report = block_on(node.check(CheckFixes::All)).expect("repaired");
    assert_eq!(report.corruptions, 0, "{report:?}");
    block_on(node.close()).expect("closed");
    assert_eq!(features(&bench), 0);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn a_mapping_onto_metadata_marks_the_image() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.close()).expect("closed");
    let l2 = bench.number_at(L1) & !COPIED;
    bench.patch(l2, COPIED | L1);
    let node = bench.writable();
    assert_eq!(block_on(fill(&node, 0, 4096, 2)).expect_err("corrupt").kind(), ErrorKind::Corrupt);
    assert_eq!(features(&bench), CORRUPT);
    assert_ne!(bench.number_at(L1), 0x0202_0202_0202_0202, "the table was not overwritten");
    block_on(node.close()).expect_err("corrupt");
}
