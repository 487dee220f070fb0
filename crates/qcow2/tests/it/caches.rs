//! The sizes of the caches: what is refused, in the reference's words, and what works.

use qemu_block::types::OpenFlags;

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle};

#[test]
fn sizes_are_refused_as_the_reference_does() {
    let bench = Bench::new();
    bench.create("image", "", "1G").expect("created");
    let cases = [
        "cache-size=1M,l2-cache-size=512k,refcount-cache-size=512k",
        "cache-size=1M,l2-cache-size=2M",
        "cache-size=1M,refcount-cache-size=2M",
        "l2-cache-entry-size=256",
        "l2-cache-entry-size=128k",
        "l2-cache-entry-size=3000",
        "refcount-cache-size=1E",
        "l2-cache-size=16E",
        "l2-cache-size=7E,l2-cache-entry-size=512",
        "cache-size=0",
        "l2-cache-size=x",
    ];
    for options in cases {
        let image = format!("driver=qcow2,file.filename={},{options}", bench.path("image"));
        let (code, theirs) = oracle(&["info", "--image-opts", &image]);
        match bench.open_with("image", OpenFlags::empty(), options) {
            Ok(node) => {
                assert_eq!(code, 0, "{options}: {theirs}");
                block_on(node.close()).expect("closed");
            }
            Err(ours) => assert!(code == 1 && theirs.contains(&ours), "{options}: {ours}, and the reference: {theirs}"),
        }
    }
}

#[test]
fn two_slices_are_enough_for_a_whole_disk() {
    let bench = MemBench::with_image("cluster_size=512,refcount_bits=64", 4 << 20);
    let smallest = "l2-cache-size=0,refcount-cache-size=0,l2-cache-entry-size=512";
    let node = bench.open_with("a", OpenFlags::WRITE | OpenFlags::UNMAP, smallest).expect("writable");
    block_on(async {
        fill(&node, 0, 4 << 20, 1).await.expect("written");
        node.discard(1 << 20, 1 << 20).await.expect("discarded");
        fill(&node, 2 << 20, 1 << 20, 2).await.expect("written again");
        node.close().await.expect("closed");
    });
    bench.assert_clean();
    let node = bench.open_with("a", OpenFlags::empty(), smallest).expect("readable");
    for (i, byte) in [(0, 1), (1, 0), (2, 2), (3, 1)] {
        assert!(is_filled(&node, i << 20, 1 << 20, byte));
    }
}
