//! Long backing chains: opening one takes no more stack than opening a short one.

use std::sync::Arc;

use qemu_block::mem::MemDisk;
use qemu_block::node::{ChildRole, Node};
use qemu_block::types::OpenFlags;

use crate::mem::{MemBench, fill};
use crate::support::block_on;

/// Images in the longest chain that is opened.
const IMAGES: u32 = 200;
/// Stack of the thread that opens and closes it, in bytes.
const OPENING: usize = 1 << 20;
/// Stack of the thread that reads through it, which is what threads get by default, in bytes.
const READING: usize = 2 << 20;
const MIB: u64 = 1 << 20;

/// A chain of images, each over the next one: `0` is the top, and the last one has data.
fn chain() -> MemBench {
    let bench = MemBench::new();
    let last = IMAGES - 1;
    bench.create(&last.to_string(), "cluster_size=4k", MIB);
    let base = bench.open(&last.to_string(), OpenFlags::WRITE).expect("writable");
    block_on(fill(&base, 0, 1 << 20, 0x77)).expect("written");
    block_on(base.close()).expect("closed");
    bench.create("template", "cluster_size=4k", MIB);
    let template = bench.named_disk("template").to_vec();
    for i in 0..last {
        let disk = MemDisk::from_bytes(&template);
        let name = format!("mem:{}", i + 1);
        // The name is put behind the extensions, at the end of the first cluster.
        disk.write_at(8, &2048_u64.to_be_bytes());
        disk.write_at(16, &u32::try_from(name.len()).expect("short").to_be_bytes());
        disk.write_at(2048, name.as_bytes());
        bench.insert(&i.to_string(), disk);
    }
    bench
}

/// How many images there are from `top` down.
fn depth(top: &Arc<Node>) -> u32 {
    let below = std::iter::successors(Some(Arc::clone(top)), |node| node.child(ChildRole::Backing));
    u32::try_from(below.count()).expect("few")
}

/// Does `work` on a thread of its own; an overflow of its stack ends the process.
fn with_stack(bytes: usize, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(bytes).spawn(work);
    thread.expect("a thread").join().expect("no panic");
}

#[test]
fn a_chain_of_two_hundred_images_is_opened_in_a_small_stack() {
    let bench = chain();
    with_stack(OPENING, move || {
        for flags in [OpenFlags::empty(), OpenFlags::WRITE] {
            let node = bench.open("0", flags).expect("the whole chain");
            assert_eq!(depth(&node), IMAGES);
            block_on(node.close()).expect("closed");
        }
    });
}

#[test]
fn a_chain_of_two_hundred_images_is_used_in_an_ordinary_stack() {
    let bench = chain();
    with_stack(READING, move || {
        let node = bench.open("0", OpenFlags::WRITE).expect("the whole chain");
        let bytes = block_on(node.read_bytes(5000, 10_000)).expect("read through all of them");
        assert!(bytes.iter().all(|byte| *byte == 0x77));
        block_on(fill(&node, 100, 50, 0x78)).expect("copied from the last one");
        let bytes = block_on(node.read_bytes(0, 4096)).expect("read");
        assert_eq!((bytes[99], bytes[100], bytes[149], bytes[150]), (0x77, 0x78, 0x78, 0x77));
        block_on(node.close()).expect("closed");
    });
}

#[test]
fn one_image_more_is_refused_with_its_reason() {
    let bench = chain();
    let first = bench.named_disk("0").to_vec();
    for (name, below) in [("over", "mem:0"), ("top", "mem:over")] {
        let disk = MemDisk::from_bytes(&first);
        disk.write_at(16, &u32::try_from(below.len()).expect("short").to_be_bytes());
        disk.write_at(2048, below.as_bytes());
        bench.insert(name, disk);
    }
    with_stack(OPENING, move || {
        let error = bench.open("top", OpenFlags::empty()).expect_err("too long");
        assert!(error.chain().ends_with("Backing chain is longer than 200 images"), "{}", error.chain());
    });
}
