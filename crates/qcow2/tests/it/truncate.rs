//! Changes of the disk's size: against the reference, and on disks in memory.

use qemu_block::error::ErrorKind;
use qemu_block::manage::NewSnapshot;
use qemu_block::mem::MemDisk;
use qemu_block::types::{OpenFlags, PreallocMode, StatusFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle};

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;

/// What the reference reads from the image `a`.
fn reference_content(bench: &MemBench) -> Vec<u8> {
    let files = Bench::new();
    let (image, raw) = (files.path("image"), files.path("raw"));
    std::fs::write(&image, bench.disk().to_vec()).expect("written");
    let (code, text) = oracle(&["convert", "-f", "qcow2", "-O", "raw", &image, &raw]);
    assert_eq!(code, 0, "{text}");
    std::fs::read(raw).expect("read")
}

#[test]
fn a_disk_that_shrinks_and_grows_again_has_zeros_at_its_end() {
    for options in ["cluster_size=64k", "cluster_size=512", "cluster_size=4k,refcount_bits=1", "compat=0.10"] {
        // The new ends are inside a cluster, at the start of one, and at that of an L2 table's part.
        for len in [512, 64 * K, 64 * K + 512, 512 * K, M - 512] {
            let bench = MemBench::with_image(options, M);
            let node = bench.writable();
            block_on(async {
                fill(&node, 0, 512 << 10, 1).await.expect("written");
                let run = node.compress(512 * K, IoBuf::copy_of(&[2; 512 << 10]).into()).await.expect("compressed");
                node.write_compressed(run).await.expect("written");
                node.truncate(len, PreallocMode::Off).await.expect("shrunk");
            });
            assert_eq!(node.len(), len);
            block_on(node.close()).expect("closed");
            bench.assert_clean();
            let all = reference_content(&bench);
            assert_eq!(all.len() as u64, len);
            assert!(
                all.iter().take(512 << 10).all(|byte| *byte == 1) && all.iter().skip(512 << 10).all(|byte| *byte == 2)
            );
            let node = bench.writable();
            block_on(node.truncate(M, PreallocMode::Off)).expect("grown");
            let kept = usize::try_from(len).expect("small");
            assert!(is_filled(&node, len, (1 << 20) - kept, 0), "{options}, {len}");
            block_on(node.close()).expect("closed");
            bench.assert_clean();
            let all = reference_content(&bench);
            assert!(all[kept..].iter().all(|byte| *byte == 0), "{options}, {len}: as the reference reads it");
        }
    }
}

#[test]
fn the_file_ends_where_the_last_cluster_in_use_does() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 1 << 20, 1).await.expect("written");
        fill(&node, 32 * M, 8 << 20, 2).await.expect("written");
        node.flush().await.expect("flushed");
        let before = bench.disk().len();
        node.truncate(16 * M, PreallocMode::Off).await.expect("shrunk");
        assert!(bench.disk().len() + 7 * M < before, "{} of {before}", bench.disk().len());
        fill(&node, 8 * M, 1 << 20, 3).await.expect("written where the file ended");
        node.close().await.expect("closed");
    });
    bench.assert_clean();
    let all = reference_content(&bench);
    assert!(all[..1 << 20].iter().all(|byte| *byte == 1) && all[8 << 20..9 << 20].iter().all(|byte| *byte == 3));
}

#[test]
fn what_snapshots_hold_past_the_new_end_stays() {
    let bench = MemBench::from_reference(&[
        &["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "IMAGE", "8M"],
        &["io", "write -P 1 0 8M"],
        &["snapshot", "-c", "s", "IMAGE"],
        &["io", "write -P 2 0 1M"],
    ]);
    let node = bench.writable();
    block_on(async {
        node.truncate(M + 512, PreallocMode::Off).await.expect("shrunk");
        node.truncate(3 * M, PreallocMode::Off).await.expect("grown");
        fill(&node, 2 * M, 1 << 20, 3).await.expect("written");
        node.close().await.expect("closed");
    });
    bench.assert_clean();
    let node = bench.writable();
    let which = qemu_block::manage::SnapshotSelector::Any("s".to_owned());
    block_on(node.snapshots().expect("qcow2 has snapshots").apply(&which)).expect("applied");
    assert_eq!(node.len(), 8 * M);
    assert!(is_filled(&node, 0, 8 << 20, 1));
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn version_2_disks_with_snapshots_keep_their_size() {
    let bench = MemBench::with_image("compat=0.10", M);
    let node = bench.writable();
    let snapshots = node.snapshots().expect("qcow2 has snapshots");
    block_on(snapshots.create(NewSnapshot { name: "s".to_owned(), ..NewSnapshot::default() })).expect("created");
    for len in [512 * K, 2 * M] {
        let error = block_on(node.truncate(len, PreallocMode::Off)).expect_err("not possible");
        assert_eq!(error.message(), "Can't resize a v2 image which has snapshots");
    }
    block_on(node.close()).expect("closed");
}

#[test]
fn sizes_that_the_tables_cannot_hold_are_refused() {
    let bench = MemBench::with_image("cluster_size=512", M);
    let node = bench.writable();
    let error = block_on(node.truncate(1 << 40, PreallocMode::Off)).expect_err("too large");
    assert_eq!(error.chain(), "Failed to grow the L1 table: File too large");
    let error = block_on(node.truncate(512 * K, PreallocMode::Metadata)).expect_err("nothing to allocate");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    block_on(node.truncate(128 << 30, PreallocMode::Off)).expect("the largest size for this cluster size");
    block_on(fill(&node, (128 << 30) - 512, 512, 1)).expect("written");
    block_on(node.truncate(M, PreallocMode::Off)).expect("shrunk");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn new_space_can_be_preallocated() {
    for options in ["", "cluster_size=4k,refcount_bits=64", "cluster_size=512", "compat=0.10"] {
        let bench = MemBench::with_image(options, M + 512);
        let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
        block_on(async {
            fill(&node, 0, 1 << 20, 1).await.expect("written");
            fill(&node, M, 512, 1).await.expect("written");
            // Clusters in the middle of the file become free, with data in them.
            node.discard(256 * K, 512 * K).await.expect("discarded");
            node.flush().await.expect("flushed");
            node.truncate(5 * M + 1024, PreallocMode::Metadata).await.expect("grown");
        });
        let mut at = M + 64 * K;
        while at < 5 * M + 1024 {
            let status = block_on(node.block_status(at, 5 * M + 1024 - at)).expect("known");
            assert!(status.flags.contains(StatusFlags::DATA | StatusFlags::ALLOCATED), "{options}: {at}");
            at += status.len;
        }
        assert!(is_filled(&node, M + 512, (4 << 20) + 512, 0), "{options}");
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        let all = reference_content(&bench);
        assert!(all[(1 << 20) + 512..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn preallocated_space_hides_a_longer_backing_file() {
    let bench = MemBench::new();
    bench.create("base", "", 4 * M);
    let base = bench.open("base", OpenFlags::WRITE).expect("writable");
    block_on(fill(&base, 0, 4 << 20, 7)).expect("written");
    block_on(base.close()).expect("closed");
    bench.create("a", "backing_file=mem:base,backing_fmt=qcow2", M + 512);
    let node = bench.writable();
    block_on(node.truncate(3 * M, PreallocMode::Metadata)).expect("grown");
    assert!(is_filled(&node, 0, (1 << 20) + 512, 7));
    assert!(is_filled(&node, M + 512, (2 << 20) - 512, 0));
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn images_that_the_reference_resized_are_fine() {
    for command in [&["resize", "-q", "--shrink", "IMAGE", "1500k"][..], &["resize", "-q", "IMAGE", "3G"]] {
        let bench = MemBench::from_reference(&[
            &["create", "-q", "-f", "qcow2", "IMAGE", "4M"],
            &["io", "write -P 1 0 4M"],
            command,
        ]);
        let node = bench.writable();
        block_on(node.truncate(2 * M, PreallocMode::Off)).expect("resized");
        block_on(node.truncate(5 * M, PreallocMode::Metadata)).expect("resized");
        assert!(is_filled(&node, 0, 1500 << 10, 1));
        block_on(node.close()).expect("closed");
        bench.assert_clean();
    }
}

#[test]
fn a_disk_grows_over_the_state_of_a_machine() {
    // The reference stores the state of machines behind the disk; here data stands for it.
    let bench = MemBench::with_image("cluster_size=512", M);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 1 << 20, 1).await.expect("written");
        node.close().await.expect("closed");
    });
    // The header says that the disk is shorter than its tables know.
    let mut size = [0; 8];
    size.copy_from_slice(&(256 * K).to_be_bytes());
    let disk: MemDisk = bench.disk();
    disk.write_at(24, &size);
    let node = bench.writable();
    block_on(node.truncate(M, PreallocMode::Off)).expect("grown");
    assert!(is_filled(&node, 0, 256 << 10, 1) && is_filled(&node, 256 * K, 768 << 10, 0));
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}
