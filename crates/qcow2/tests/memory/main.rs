//! How much memory images need: this program's allocator counts. Its tests run one after the other, in one.

use std::alloc::System;

use cap::Cap;
use qemu_block::mem::{MemDisk, MemOp};
use qemu_block::types::{CheckFixes, OpenFlags};

#[expect(dead_code, reason = "only the collection is needed here")]
#[path = "../it/hostile/mod.rs"]
mod hostile;
#[expect(dead_code, reason = "shared with the other tests")]
#[path = "../it/mem.rs"]
mod mem;
#[expect(dead_code, reason = "shared with the other tests")]
#[path = "../it/support.rs"]
mod support;

use hostile::image::{Image, header};
use mem::MemBench;
use support::block_on;

/// Refuses more than its limit, which ends the process.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that everything that is done with one image may take together, the bytes of its disk included.
const MEMORY_MAX: usize = 64 << 20;

/// Does `work`, and ends the process if it needs too much.
#[expect(clippy::print_stderr, reason = "a process that is ended by its allocator can say nothing any more")]
fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    // The last line before the end of the process says where it happened.
    eprintln!("{what}");
    let limit = ALLOCATOR.allocated() + MEMORY_MAX;
    ALLOCATOR.set_limit(limit).expect("more than is in use");
    let output = work();
    ALLOCATOR.set_limit(usize::MAX).expect("more than is in use");
    output
}

#[test]
fn no_image_takes_much_memory() {
    for (structure, cases) in hostile::structures() {
        for case in &cases {
            bounded(&format!("{structure}: {}", case.name), || hostile::observe::observe(case));
        }
    }
    bounded("a fragmented table", || scan_fragmented(&fragmented()));
}

/// Clusters that the fragmented disk has: 1 TiB of 2 MiB clusters.
const CLUSTERS: u64 = 1 << 19;

/// A disk every second cluster of which is mapped, to places that never follow one another.
fn fragmented() -> MemDisk {
    let mut image = Image::with_geometry(21, 4);
    image.put64(header::SIZE, CLUSTERS << 21);
    image.put32(header::L1_ENTRIES, 2);
    let tables = 1 << 30;
    for table in 0..2 {
        image.put64(image.l1(table), tables + image.at(table));
    }
    let disk = image.disk();
    // The file is a hole but for the tables, so it need not be stored.
    let place = |i: u64| (1 << 40) + (((i * 7919) % CLUSTERS) << 21);
    let entries: Vec<u8> =
        (0..CLUSTERS).flat_map(|i| if i % 2 == 0 { place(i).to_be_bytes() } else { [0; 8] }).collect();
    disk.write_at(tables, &entries);
    disk.write_at((1 << 40) + (CLUSTERS << 21), &[0]);
    disk
}

/// Walks over the whole map, and checks the image.
fn scan_fragmented(disk: &MemDisk) {
    let table_bytes = CLUSTERS * 8;
    let bench = MemBench::new();
    bench.insert("a", disk.clone());
    let node = bench.open("a", OpenFlags::empty()).expect("opened");
    let (mut at, mut n) = (0, 0);
    while at < node.len() {
        at += block_on(node.block_status(at, node.len() - at)).expect("a status").len;
        n += 1;
    }
    assert_eq!(n, CLUSTERS, "each cluster is an extent");
    block_on(node.close()).expect("closed");
    let read = disk.control().bytes(MemOp::Read);
    assert!(read <= table_bytes + (8 << 20), "{read} bytes read");
    let node = bench.open("a", OpenFlags::CHECK).expect("opened");
    let report = block_on(node.check(CheckFixes::Nothing)).expect("checked");
    assert_eq!(report.allocated_clusters, CLUSTERS / 2);
    assert!(report.messages.len() < 1500, "{} messages", report.messages.len());
    let read = disk.control().bytes(MemOp::Read) - read;
    assert!(read <= 3 * table_bytes + (16 << 20), "{read} bytes read");
}
