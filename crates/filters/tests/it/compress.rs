//! `compress`: what is written through it is compressed, whatever the requests look like.

use qemu_block::types::OpenFlags;

use super::support::{Bench, close, read, write};

#[test]
fn every_write_becomes_compressed_clusters() {
    let bench = Bench::new();
    bench.run("create -q -f qcow2 a.qcow2 1000000");
    let node = bench.open_rw("driver=compress,file.driver=qcow2,file.file.filename=@a.qcow2");
    let mut disk = vec![0; 1_000_448];
    for (offset, len) in [(0, 65536), (70_000, 100), (200_000, 300_000), (1_000_000, 448)] {
        let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at / 100 % 200 + 1).expect("small")).collect();
        let start: usize = offset;
        write(&node, u64::try_from(offset).expect("small"), &bytes);
        disk[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    assert!(read(&node, 0, 1_000_448) == disk);
    close(&node);
    let map = bench.run("map --output=json a.qcow2");
    assert!(map.contains("\"compressed\": true") && !map.contains("\"offset\""), "{map}");
    bench.run("check a.qcow2");
    bench.run("convert -O raw a.qcow2 a.raw");
    assert!(std::fs::read(bench.path("a.raw")).expect("readable") == disk);
}

#[test]
fn only_formats_that_can_compress_will_do() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), [0; 512]).expect("writable");
    for (options, format) in [("file.filename=@a", "file"), ("file.driver=raw,file.file.filename=@a", "raw")] {
        let error = bench.open(&format!("driver=compress,{options}"), OpenFlags::empty()).expect_err("refused");
        assert_eq!(error.chain(), format!("Compression is not supported for underlying format: {format}"));
    }
}
