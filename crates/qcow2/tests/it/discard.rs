//! Discards that keep clusters reserved (`discard-no-unref`).

use qemu_block::manage::NewSnapshot;
use qemu_block::types::{OpenFlags, StatusFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{MemBench, fill, is_filled};
use crate::support::block_on;

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const FLAGS: OpenFlags = OpenFlags::WRITE.union(OpenFlags::UNMAP);

#[test]
fn clusters_stay_reserved_and_what_they_held_is_given_back_below() {
    for options in ["cluster_size=64k", "cluster_size=4k", "extended_l2=on"] {
        let bench = MemBench::with_image(options, M);
        let node = bench.open_with("a", FLAGS, "discard-no-unref=on").expect("opened");
        block_on(async {
            fill(&node, 0, 1 << 20, 1).await.expect("written");
            node.flush().await.expect("flushed");
        });
        let before = block_on(node.block_status(256 * K, 64 * K)).expect("known").host_offset;
        let allocated = bench.disk().allocated_bytes();
        block_on(async {
            node.discard(256 * K, 256 * K).await.expect("discarded");
            node.write_zeroes(640 * K, 64 * K, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
        });
        assert!(bench.disk().allocated_bytes() + 300 * K <= allocated, "{options}: the disk below has holes");
        for at in [256 * K, 640 * K] {
            let status = block_on(node.block_status(at, 64 * K)).expect("known");
            assert!(status.flags.contains(StatusFlags::ZERO) && status.host_offset.is_some(), "{options}: {status:?}");
        }
        assert!(is_filled(&node, 256 * K, 256 << 10, 0) && is_filled(&node, 512 * K, 128 << 10, 1));
        block_on(fill(&node, 256 * K + 512, 4096, 2)).expect("written");
        let after = block_on(node.block_status(256 * K, 4 * K)).expect("known").host_offset;
        assert!(options == "extended_l2=on" || before == after, "{options}: in the cluster that was kept");
        assert!(is_filled(&node, 256 * K + 512, 4096, 2) && is_filled(&node, 264 * K, 120 << 10, 0));
        block_on(node.close()).expect("closed");
        bench.assert_clean();
    }
}

#[test]
fn clusters_that_are_not_ours_alone_are_not_kept() {
    let bench = MemBench::with_image("cluster_size=4k", M);
    let node = bench.open_with("a", FLAGS, "discard-no-unref=on").expect("opened");
    let which = qemu_block::manage::SnapshotSelector::Any("s".to_owned());
    block_on(async {
        fill(&node, 0, 512 << 10, 1).await.expect("written");
        let run = node.compress(512 * K, IoBuf::copy_of(&[2; 64 << 10]).into()).await.expect("compressed");
        node.write_compressed(run).await.expect("written");
        let snapshots = node.snapshots().expect("qcow2 has snapshots");
        snapshots.create(NewSnapshot { name: "s".to_owned(), ..NewSnapshot::default() }).await.expect("created");
        node.discard(0, M).await.expect("discarded");
        node.flush().await.expect("flushed");
        snapshots.apply(&which).await.expect("applied");
    });
    assert!(is_filled(&node, 0, 512 << 10, 1) && is_filled(&node, 512 * K, 64 << 10, 2));
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn version_2_cannot_say_that_a_cluster_is_reserved() {
    let bench = MemBench::with_image("compat=0.10", M);
    let error = bench.open_with("a", FLAGS, "discard-no-unref=on").expect_err("refused");
    assert!(error.chain().ends_with("discard-no-unref is only supported since qcow2 version 3"), "{}", error.chain());
}
