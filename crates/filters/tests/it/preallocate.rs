//! `preallocate`: the file is longer than its data while it is open, and not afterwards.

use qemu_block::types::{PreallocMode, ZeroFlags};

use super::support::{Bench, block_on, close, read, write};

const NODE: &str = "driver=preallocate,prealloc-size=4M,prealloc-align=1M,file.filename=@a";

#[test]
fn space_is_allocated_in_advance_and_given_back() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [1; 1000]).expect("writable");
    let node = bench.open_rw(NODE);
    assert_eq!(node.len(), 1024);
    write(&node, 1024, &[2; 512]);
    assert_eq!((node.len(), bench.file_len("a")), (1536, 5 << 20));
    // Within what is there, nothing more is allocated; behind it, more.
    write(&node, 1 << 20, &[3; 512]);
    assert_eq!((node.len(), bench.file_len("a")), ((1 << 20) + 512, 5 << 20));
    block_on(node.write_zeroes(6 << 20, 512, ZeroFlags::empty())).expect("zeros");
    assert_eq!((node.len(), bench.file_len("a")), ((6 << 20) + 512, 11 << 20));
    assert!(read(&node, 1000, 24) == [0; 24] && read(&node, 1024, 512) == [2; 512]);
    close(&node);
    assert_eq!(bench.file_len("a"), (6 << 20) + 512);
    let bytes = std::fs::read(bench.path("a")).expect("readable");
    assert!(bytes[..1000] == [1; 1000] && bytes[1 << 20..(1 << 20) + 512] == [3; 512]);
    assert!(bytes[(1 << 20) + 512..].iter().all(|byte| *byte == 0));
}

#[test]
fn resizing_knows_what_is_there() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [1; 1024]).expect("writable");
    let node = bench.open_rw(NODE);
    write(&node, 1024, &[2; 512]);
    block_on(node.truncate(1 << 20, PreallocMode::Falloc)).expect("it is there already");
    assert_eq!((node.len(), bench.file_len("a")), (1 << 20, 5 << 20));
    block_on(node.truncate(2 << 20, PreallocMode::Off)).expect("longer");
    assert_eq!((node.len(), bench.file_len("a")), (2 << 20, 2 << 20));
    block_on(node.truncate(512, PreallocMode::Off)).expect("shorter");
    close(&node);
    assert_eq!(bench.file_len("a"), 512);
}

#[test]
fn an_image_over_it_is_whole() {
    let bench = Bench::new();
    bench.run("create -q -f qcow2 a 64M");
    let options = "driver=qcow2,file.driver=preallocate,file.prealloc-size=16M,file.file.filename=@a";
    let node = bench.open_rw(options);
    for at in 0..50 {
        write(&node, at * 1_000_000, &[7; 3000]);
    }
    assert!(bench.file_len("a") >= 16 << 20);
    close(&node);
    assert!(bench.file_len("a") < 16 << 20);
    bench.run("check a");
    bench.run("convert -O raw a out");
    let bytes = std::fs::read(bench.path("out")).expect("readable");
    assert!(bytes[..3000] == [7; 3000] && bytes[49_000_000..49_003_000] == [7; 3000]);
}
