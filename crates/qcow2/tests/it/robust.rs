//! Damaged images, failing disks, and requests that are given up.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use qemu_block::error::{ErrorKind, Result};
use qemu_block::mem::{MemDisk, MemOp, When};
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode, ZeroFlags};

use crate::mem::{MemBench, fill, is_filled};
use crate::support::block_on;

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
/// Offset of the L1 table in a fresh image with 64 KiB clusters.
const L1: u64 = 3 << 16;
/// Offset of the refcount table in a fresh image with 64 KiB clusters.
const REFTABLE: u64 = 1 << 16;
const COPIED: u64 = 1 << 63;

/// Polls a future once, and drops it.
fn give_up(future: impl Future) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending(), "held");
}

#[test]
fn a_backing_file_that_is_named_but_not_open_stays_hidden() {
    for options in ["", "compat=0.10"] {
        let bench = MemBench::new();
        bench.create("base", "", M);
        let base = bench.open("base", OpenFlags::WRITE).expect("writable");
        block_on(fill(&base, 0, 1 << 20, 7)).expect("written");
        block_on(base.close()).expect("closed");
        let more = if options.is_empty() { String::new() } else { format!(",{options}") };
        bench.create("a", &format!("backing_file=mem:base,backing_fmt=qcow2{more}"), M);
        let node = bench.open("a", OpenFlags::WRITE | OpenFlags::NO_BACKING | OpenFlags::UNMAP).expect("writable");
        block_on(fill(&node, 64 * K, 64 << 10, 1)).expect("written");
        block_on(node.write_zeroes(0, 128 * K, ZeroFlags::MAY_UNMAP)).expect("zeroed");
        block_on(fill(&node, 128 * K, 64 << 10, 1)).expect("written");
        block_on(node.discard(128 * K, 64 * K)).expect("discarded");
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        let node = bench.open("a", OpenFlags::empty()).expect("readable");
        assert!(is_filled(&node, 0, 128 << 10, 0), "zeros hide the backing file");
        assert!(!is_filled(&node, 128 * K, 64 << 10, 7), "a discard does not bring it back");
        assert!(is_filled(&node, 192 * K, 64 << 10, 7));
    }
}

#[test]
fn the_cluster_of_a_copied_table_can_become_anything() {
    let bench = MemBench::with_image("", 2048 * M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.close()).expect("closed");
    // As if a snapshot that shared the table had been deleted.
    bench.patch(L1, bench.number_at(L1) & !COPIED);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 4096, 2).await.expect("written into a copy");
        node.flush().await.expect("the old table is free");
        for i in 1..4 {
            fill(&node, i * 512 * M, 4096, 3).await.expect("the old cluster is a table or data now");
        }
        node.close().await.expect("closed");
    });
    assert_eq!(bench.check().corruptions, 0);
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 4096, 2) && is_filled(&node, 1536 * M, 4096, 3));
}

#[test]
fn a_corrupt_image_is_not_closed_without_an_error() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 16, 1)).expect("written");
    block_on(node.close()).expect("closed");
    let table = bench.number_at(L1) & !COPIED;
    // The data of the first cluster is said to be the refcount table.
    bench.patch(table, REFTABLE | COPIED);
    let node = bench.writable();
    block_on(async {
        fill(&node, 128 * K, 1 << 16, 1).await.expect("still fine");
        assert_eq!(fill(&node, 0, 512, 1).await.expect_err("metadata").kind(), ErrorKind::Corrupt);
        assert_eq!(node.flush().await.expect_err("unwritten metadata").kind(), ErrorKind::Corrupt);
        assert_eq!(node.close().await.expect_err("unwritten metadata").kind(), ErrorKind::Corrupt);
    });
}

#[test]
fn tables_longer_than_a_refcount_block_counts_are_possible() {
    let bench = MemBench::with_image("cluster_size=512,refcount_bits=64", 64 * K);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 64 << 10, 1).await.expect("written");
        node.truncate(1024 * M, PreallocMode::Off).await.expect("512 clusters of L1 table, 64 counts in a block");
        fill(&node, 1023 * M, 1 << 20, 2).await.expect("written");
        node.truncate(1536 * M, PreallocMode::Off).await.expect("once more");
        node.close().await.expect("closed");
    });
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 64 << 10, 1) && is_filled(&node, 1023 * M, 1 << 20, 2));
    assert!(is_filled(&node, 1024 * M, 1 << 20, 0));
}

#[test]
fn an_l2_table_that_two_entries_name_is_corruption() {
    let bench = MemBench::with_image("", 1024 * M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.close()).expect("closed");
    bench.patch(L1 + 8, bench.number_at(L1));
    let node = bench.writable();
    for _ in 0..2 {
        assert_eq!(block_on(node.read_bytes(0, 512)).expect_err("one table twice").kind(), ErrorKind::Corrupt);
    }
    assert_eq!(block_on(fill(&node, 0, 512, 1)).expect_err("one table twice").kind(), ErrorKind::Corrupt);
}

#[test]
fn refcount_blocks_are_named_once_and_are_nothing_else() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.close()).expect("closed");
    let good = bench.disk().to_vec();
    for second in [bench.number_at(REFTABLE), bench.number_at(L1) & !COPIED, L1] {
        bench.insert("a", MemDisk::from_bytes(&good));
        bench.patch(REFTABLE + 8, second);
        let node = bench.writable();
        assert_eq!(block_on(fill(&node, 512 * K, 512, 1)).expect_err("doubly used").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn metadata_of_snapshots_is_not_allocated_over() {
    let setup: &[&[&str]] = &[
        &["create", "-q", "-f", "qcow2", "IMAGE", "64M"],
        &["io", "write -P 1 0 64k"],
        &["snapshot", "-c", "s1", "IMAGE"],
        &["io", "write -P 2 0 64k"],
    ];
    let good = MemBench::from_reference(setup);
    let snapshot_table = good.number_at(64);
    let inactive_l1 = good.number_at(snapshot_table);
    let refblock = good.number_at(good.number_at(48));
    for victim in [snapshot_table, inactive_l1] {
        let bench = MemBench::new();
        bench.insert("a", MemDisk::from_bytes(&good.disk().to_vec()));
        bench.disk().write_at(refblock + (victim >> 16) * 2, &[0, 0]);
        let node = bench.writable();
        let error = block_on(fill(&node, M, 1 << 16, 3)).expect_err("the cluster counts as free");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn images_with_snapshots_of_the_reference_are_fine() {
    let setup: &[&[&str]] = &[
        &["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k,refcount_bits=8", "IMAGE", "64M"],
        &["io", "write -P 1 0 3M", "write -c -P 2 8M 64k"],
        &["snapshot", "-c", "s1", "IMAGE"],
        &["io", "write -P 3 1M 1M"],
        &["snapshot", "-c", "s2", "IMAGE"],
        &["resize", "-q", "IMAGE", "128M"],
        &["io", "write -P 4 2M 4M", "discard 0 64k"],
        &["snapshot", "-a", "s1", "IMAGE"],
        &["io", "write -P 5 0 64k"],
        &["snapshot", "-d", "s2", "IMAGE"],
        &["snapshot", "-c", "s3", "IMAGE"],
    ];
    let bench = MemBench::from_reference(setup);
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
    block_on(async {
        fill(&node, 32 * K, 64 << 10, 6).await.expect("written to copies of shared clusters");
        node.flush().await.expect("flushed");
        node.discard(0, M).await.expect("discarded");
        fill(&node, 16 * M, 4 << 20, 7).await.expect("written");
        node.truncate(256 * M, PreallocMode::Off).await.expect("grown");
        node.close().await.expect("closed");
    });
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, 1 << 20, 0) && is_filled(&node, M, 2 << 20, 1));
    assert!(is_filled(&node, 8 * M, 64 << 10, 2) && is_filled(&node, 16 * M, 4 << 20, 7));
}

#[test]
fn growing_that_is_given_up_poisons_the_image() {
    let bench = MemBench::with_image("cluster_size=512", 32 * K);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    // The only flush before the header is written is the one after the new L1 table.
    let hold = bench.disk().control().hold(MemOp::Flush, 0..u64::MAX);
    give_up(node.truncate(M, PreallocMode::Off));
    drop(hold);
    assert_eq!(block_on(fill(&node, 0, 512, 2)).expect_err("poisoned").kind(), ErrorKind::Cancelled);
    assert!(block_on(node.close()).is_err());
    assert_eq!(bench.check().corruptions, 0);
}

#[test]
fn a_refcount_block_that_is_given_up_poisons_the_image() {
    // One block counts 32 MiB.
    let bench = MemBench::with_image("cluster_size=16k,refcount_bits=64", 64 * M);
    let node = bench.writable();
    block_on(fill(&node, 0, 31 << 20, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    let hold = bench.disk().control().hold(MemOp::Read, 32 * M..u64::MAX);
    give_up(fill(&node, 40 * M, 2 << 20, 2));
    drop(hold);
    assert_eq!(block_on(fill(&node, 0, 512, 2)).expect_err("poisoned").kind(), ErrorKind::Cancelled);
    assert!(block_on(node.close()).is_err());
    assert_eq!(bench.check().corruptions, 0);
}

#[test]
fn a_request_for_data_that_is_given_up_keeps_its_clusters() {
    let bench = MemBench::with_image("", M);
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
    block_on(fill(&node, 0, 1 << 16, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    let hold = bench.disk().control().hold(MemOp::Write, 0..u64::MAX);
    give_up(fill(&node, 0, 512, 2));
    drop(hold);
    block_on(async {
        node.write_zeroes(0, 64 * K, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
        node.flush().await.expect("flushed");
        let len = bench.disk().len();
        fill(&node, 0, 1 << 16, 3).await.expect("written elsewhere");
        assert!(bench.disk().len() > len, "the I/O may still hit the old cluster");
        node.close().await.expect("closed");
    });
    assert_eq!(bench.check().corruptions, 0);
}

/// Requests during which the L1 table and the refcount table move, and clusters are freed.
async fn grow_everything(node: &Node) -> Result<()> {
    fill(node, 0, 64 << 10, 1).await?;
    node.truncate(64 * M, PreallocMode::Off).await?;
    fill(node, 32 * M, 256 << 10, 9).await?;
    node.flush().await?;
    node.write_zeroes(0, 32 * K, ZeroFlags::MAY_UNMAP).await?;
    node.flush().await
}

#[test]
fn every_single_failure_leaves_an_image_without_corruption() {
    // Small clusters and wide counts: the refcount table is full at 2 MiB, and this comes close.
    let full = MemBench::with_image("cluster_size=512,refcount_bits=64", 4 * M);
    let node = full.writable();
    block_on(fill(&node, M, 1900 << 10, 3)).expect("written");
    block_on(node.close()).expect("closed");
    let reftable = full.number_at(48);
    let mut n_poisoned = 0;
    for op in [MemOp::Write, MemOp::Flush, MemOp::Zero, MemOp::Read] {
        for nth in 1.. {
            let bench = MemBench::new();
            bench.insert("a", MemDisk::from_bytes(&full.disk().to_vec()));
            let node = bench.writable();
            bench.disk().control().fail(op, When::Nth(nth), libc::EIO);
            let first = block_on(grow_everything(&node));
            bench.disk().control().heal();
            let again = block_on(grow_everything(&node));
            let closed = block_on(node.close());
            let report = bench.check();
            assert_eq!((report.corruptions, report.check_errors), (0, 0), "{op:?} {nth}: {report:?}");
            if again.is_ok() {
                closed.expect("nothing is wrong any more");
                let node = bench.open("a", OpenFlags::empty()).expect("readable");
                assert!(is_filled(&node, 32 * K, 32 << 10, 1) && is_filled(&node, 32 * M, 256 << 10, 9));
                assert!(is_filled(&node, 0, 32 << 10, 0) && is_filled(&node, M, 1900 << 10, 3));
                assert_ne!(bench.number_at(48), reftable, "the refcount table has moved");
            } else {
                assert!(closed.is_err(), "{op:?} {nth}: a poisoned image is not closed without an error");
                n_poisoned += 1;
            }
            if first.is_ok() {
                break;
            }
        }
    }
    assert!(n_poisoned >= 6, "the header is written and flushed three times: {n_poisoned}");
}

#[test]
fn a_metadata_write_that_is_given_up_poisons_the_image() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    let hold = bench.disk().control().hold(MemOp::Write, 0..u64::MAX);
    give_up(node.flush());
    drop(hold);
    block_on(async {
        for error in [fill(&node, 0, 512, 2).await, node.flush().await, node.close().await] {
            assert_eq!(error.expect_err("poisoned").kind(), ErrorKind::Cancelled);
        }
    });
}

#[test]
fn a_flush_that_is_given_up_after_the_writes_does_no_harm() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 20, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    block_on(node.write_zeroes(0, 512 * K, ZeroFlags::MAY_UNMAP)).expect("zeroed");
    // The first flush of the disk is a barrier, the second one makes everything durable.
    let hold = bench.disk().control().hold(MemOp::Flush, 0..u64::MAX);
    give_up(node.flush());
    drop(hold);
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn others_go_on_while_a_flush_waits_for_the_disk() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 4096, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    let hold = bench.disk().control().hold(MemOp::Flush, 0..u64::MAX);
    let mut flush = pin!(node.flush());
    let mut context = Context::from_waker(Waker::noop());
    assert!(flush.as_mut().poll(&mut context).is_pending());
    assert!(is_filled(&node, 0, 4096, 1), "the lock is free");
    block_on(fill(&node, 512 * K, 4096, 2)).expect("an allocating write does not wait either");
    drop(hold);
    assert!(matches!(flush.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[test]
fn a_device_that_cannot_grow_is_full_at_its_end() {
    let grown = MemBench::with_image("cluster_size=4k,refcount_bits=64", M);
    let bench = MemBench::new();
    let device = MemDisk::new(600 << 10);
    device.write_at(0, &grown.disk().to_vec());
    bench.insert("a", device);
    let node = bench.writable();
    let mut written = 0;
    let error = loop {
        match block_on(fill(&node, written, 4096, 5)) {
            Ok(()) => written += 4096,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.errno()), (ErrorKind::NoSpace, libc::ENOSPC));
    assert!(written > 560 << 10, "all of it was used");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 0, usize::try_from(written).expect("small"), 5));
}

#[test]
fn many_runs_are_discarded_and_zeroed() {
    let bench = MemBench::with_image("cluster_size=512", 2 * M);
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
    block_on(async {
        for i in (0..4096).step_by(2) {
            fill(&node, i * 512, 512, 1).await.expect("written");
        }
        node.flush().await.expect("flushed");
        let before = bench.disk().allocated_bytes();
        node.discard(0, M).await.expect("discarded");
        node.write_zeroes(M, M, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
        node.flush().await.expect("flushed");
        assert!(bench.disk().control().count(MemOp::Discard) > 0, "freed clusters are discarded below");
        assert!(bench.disk().allocated_bytes() < before);
        let len = bench.disk().len();
        fill(&node, 0, 900 << 10, 2).await.expect("written");
        assert_eq!(bench.disk().len(), len, "freed clusters are used again");
    });
    assert!(is_filled(&node, M, 1 << 20, 0));
    let report = block_on(node.check(CheckFixes::Nothing)).expect("checked");
    assert_eq!((report.corruptions, report.leaks), (0, 0), "a check sees a settled image");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn reserved_clusters_past_the_end_of_the_file_are_not_written() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 1 << 20, 1).await.expect("written");
        node.write_zeroes(512 * K, 512 * K, ZeroFlags::empty()).await.expect("zeroed, and still reserved");
        node.close().await.expect("closed");
    });
    let mut bytes = bench.disk().to_vec();
    bytes.truncate(bytes.len() - (128 << 10));
    bench.insert("a", MemDisk::from_bytes(&bytes));
    let node = bench.writable();
    let error = block_on(fill(&node, 1023 * K, 512, 2)).expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::Truncated);
}

#[test]
fn an_image_that_is_written_is_no_source_for_the_kernel() {
    let bench = MemBench::with_image("", M);
    let node = bench.writable();
    block_on(fill(&node, 0, 1 << 16, 1)).expect("written");
    let error = block_on(node.copy_source(0, 4096)).expect_err("the cluster may be freed");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
