//! What operations cost is bounded by what is there, not by what the header says.

use qemu_block::mem::{MemDisk, MemOp};
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode};

use crate::mem::{MemBench, fill};
use crate::support::block_on;

const EIB: u64 = 1 << 60;
const KIB: u64 = 1 << 10;

/// Requests to the disk, and bytes read, since the disk was made.
fn costs(disk: &MemDisk) -> (u64, u64) {
    let ops = [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Discard, MemOp::Flush, MemOp::Truncate, MemOp::Status];
    let requests = ops.into_iter().map(|op| disk.control().count(op)).sum();
    (requests, disk.control().bytes(MemOp::Read))
}

/// Extents of the whole disk.
fn extents(node: &Node) -> u64 {
    let (mut at, mut n) = (0, 0);
    while at < node.len() {
        at += block_on(node.block_status(at, node.len() - at)).expect("a status").len;
        n += 1;
    }
    n
}

/// Runs `work` on the image and fails if it needs more than this.
fn assert_costs(bench: &MemBench, what: &str, requests_max: u64, bytes_max: u64, work: impl FnOnce(&MemBench)) {
    let before = costs(&bench.disk());
    work(bench);
    let after = costs(&bench.disk());
    let (requests, bytes) = (after.0 - before.0, after.1 - before.1);
    assert!(requests <= requests_max, "{what}: {requests} requests");
    assert!(bytes <= bytes_max, "{what}: {bytes} bytes read");
}

#[test]
fn an_empty_exbibyte_costs_next_to_nothing() {
    // One 2 MiB cluster is what reading the header costs.
    let bench = MemBench::with_image("cluster_size=2M", EIB);
    let header = 2 * KIB * KIB + 64 * KIB;
    assert_costs(&bench, "info", 8, header, |bench| {
        let node = bench.open("a", OpenFlags::NO_IO).expect("opened");
        assert_eq!(block_on(node.info()).expect("info").cluster_size, Some(2 << 20));
        block_on(node.close()).expect("closed");
    });
    assert_costs(&bench, "map", 16, header, |bench| {
        let node = bench.open("a", OpenFlags::empty()).expect("opened");
        // Each answer covers what one look at the table can.
        assert!(extents(&node) <= 4);
        block_on(node.close()).expect("closed");
    });
    // A check reads the refcount block as well.
    assert_costs(&bench, "check", 40, header + 5 * KIB * KIB, |bench| {
        let report = bench.check();
        assert_eq!((report.corruptions, report.leaks, report.allocated_clusters), (0, 0, 0));
    });
    assert_costs(&bench, "write", 60, header + 256 * KIB, |bench| {
        let node = bench.writable();
        block_on(fill(&node, EIB - 4096, 4096, 1)).expect("written");
        block_on(node.close()).expect("closed");
    });
    // There is one L2 table now, of 2 MiB, which is read in pieces of 4 KiB.
    assert_costs(&bench, "map with a table", 512 + 16, header + 2 * KIB * KIB + 256 * KIB, |bench| {
        let node = bench.open("a", OpenFlags::empty()).expect("opened");
        assert!(extents(&node) <= 8);
        block_on(node.close()).expect("closed");
    });
}

#[test]
fn growing_to_an_exbibyte_costs_next_to_nothing() {
    let bench = MemBench::with_image("cluster_size=2M", 1 << 30);
    assert_costs(&bench, "grow", 60, 4 * KIB * KIB, |bench| {
        let node = bench.writable();
        block_on(node.truncate(EIB, PreallocMode::Off)).expect("grown");
        block_on(node.close()).expect("closed");
    });
    assert!(bench.disk().allocated_bytes() <= 8 * KIB * KIB, "{}", bench.disk().allocated_bytes());
    assert_eq!(block_on(bench.writable().check(CheckFixes::Nothing)).expect("checked").corruptions, 0);
}
