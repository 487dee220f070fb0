//! `copy-on-read`: what is read does not need the backing file any more.

use qemu_block::types::OpenFlags;

use super::support::{Bench, block_on, close, read, write};

#[test]
fn what_is_read_is_kept() {
    let bench = Bench::new();
    let base: Vec<u8> = (0..1 << 20).map(|at: u32| u8::try_from(at / 512 % 250 + 1).expect("small")).collect();
    std::fs::write(bench.path("base"), &base).expect("writable");
    bench.run("create -q -f qcow2 -b base -F raw top.qcow2 1050000");
    let node = bench.open_rw("driver=copy-on-read,file.driver=qcow2,file.file.filename=@top.qcow2");
    write(&node, 66_000, &[0xff; 100]);
    let mut disk = base.clone();
    disk[66_000..66_100].fill(0xff);
    disk.resize(1_050_112, 0);
    assert!(read(&node, 60_000, 10_000) == disk[60_000..70_000]);
    assert!(read(&node, 500_000, 1) == disk[500_000..500_001]);
    assert!(read(&node, 1_048_000, 2112) == disk[1_048_000..1_050_112]);
    // Whole clusters are kept, and no others.
    for (offset, kept) in [(0, true), (65_536, true), (131_072, false), (458_752, true), (524_288, false)] {
        let status = block_on(node.block_status(offset, 65_536)).expect("known");
        assert_eq!((status.len, status.is_allocated()), (65_536, kept), "{offset}");
    }
    assert!(read(&node, 0, 1_050_112) == disk);
    close(&node);
    bench.run("check top.qcow2");
    std::fs::write(bench.path("base"), vec![0; 1 << 20]).expect("writable");
    bench.run("convert -O raw top.qcow2 out");
    assert!(std::fs::read(bench.path("out")).expect("readable") == disk);
}

#[test]
fn it_needs_an_image_to_keep_things_in() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [0; 512]).expect("writable");
    let error = bench.open("driver=copy-on-read,file.filename=@a", OpenFlags::empty()).expect_err("refused");
    assert_eq!(error.chain(), "Block node is read-only");
    let error = bench.open("driver=copy-on-read,bottom=x,file.filename=@a", OpenFlags::WRITE).expect_err("refused");
    assert_eq!(error.chain(), "Bottom node 'x' not found");
}
