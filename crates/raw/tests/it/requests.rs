//! Requests: shifted by the window, padded at the end, watched where the format was a guess.

use qemu_block::backend::BlockBackend;
use qemu_block::error::ErrorKind;
use qemu_block::registry::OpenSpec;
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::support::{Bench, OTHER_MAGIC, run};

fn write_spec(path: &str) -> OpenSpec {
    OpenSpec::file(path).with_flags(OpenFlags::WRITE | OpenFlags::RESIZE)
}

#[test]
fn windows_shift_and_limit() {
    let bench = Bench::new();
    let path = bench.file("r", &[9; 4096]);
    run(async {
        let node = bench.open(&format!("driver=raw,offset=100,size=1k,file.filename={path}")).await.unwrap();
        assert_eq!(node.len(), 1024);
        node.write(0, IoBuf::copy_of(b"begin").into(), WriteFlags::empty()).await.unwrap();
        node.write_zeroes(1000, 24, ZeroFlags::empty()).await.unwrap();
        assert!(node.write(1020, IoBuf::zeroed(5).into(), WriteFlags::empty()).await.is_err());
        assert!(node.read_bytes(1020, 5).await.is_err());
        let error = node.truncate(2048, PreallocMode::Off).await.unwrap_err();
        assert_eq!(error.chain(), "Cannot resize fixed-size raw disks");
        assert_eq!(node.block_status(1, 10).await.unwrap().host_offset, Some(101));
        assert_eq!(node.check(CheckFixes::Nothing).await.unwrap_err().kind(), ErrorKind::Unsupported);
        node.close().await.unwrap();
        let mut expected = vec![9; 4096];
        expected[100..105].copy_from_slice(b"begin");
        expected[1100..1124].fill(0);
        assert!(std::fs::read(&path).unwrap() == expected);
        let node = bench.open(&format!("driver=raw,offset=512,file.filename={path}")).await.unwrap();
        node.truncate(1 << 20, PreallocMode::Off).await.unwrap();
        assert_eq!(node.len(), 1 << 20);
        node.close().await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (1 << 20) + 512);
    });
}

#[test]
fn the_last_sector_is_padded() {
    let bench = Bench::new();
    let path = bench.file("odd", &[7; 1000]);
    run(async {
        let node = bench.context.open(write_spec(&path).with_driver(Some("raw"))).await.unwrap();
        assert_eq!(node.len(), 1024);
        let tail = node.read_bytes(990, 34).await.unwrap();
        assert!(tail[..10] == [7; 10] && tail[10..] == [0; 24]);
        assert!(node.read_bytes(1001, 20).await.unwrap().iter().all(|byte| *byte == 0));
        let data = node.block_status(0, 1024).await.unwrap();
        assert!(data.is_data() && data.len == 1000);
        let padding = node.block_status(1000, 24).await.unwrap();
        assert!(padding.is_zero() && padding.is_allocated() && padding.len == 24);
        assert_eq!(padding.host_offset, Some(1000));
        let backend = BlockBackend::new(node);
        backend.write(512, IoBuf::copy_of(&[1; 512]).into(), WriteFlags::empty()).await.unwrap();
        assert!(backend.write(1024, IoBuf::zeroed(1).into(), WriteFlags::empty()).await.is_err());
        backend.close().await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1024);
    });
}

#[test]
fn a_guessed_raw_image_stays_raw() {
    let bench = Bench::new();
    let path = bench.file("r", &[0; 4096]);
    run(async {
        let node = bench.context.open(write_spec(&path)).await.unwrap();
        assert!(node.is_probed_raw());
        let write = |at: u64, bytes: &[u8]| node.write(at, IoBuf::copy_of(bytes).into(), WriteFlags::empty());
        let mut sector = vec![0; 512];
        sector[..OTHER_MAGIC.len()].copy_from_slice(OTHER_MAGIC);
        let refused = write(0, &sector).await.unwrap_err();
        assert_eq!((refused.kind(), refused.errno()), (ErrorKind::PermissionDenied, 1));
        // In two steps, neither of which holds the whole magic number.
        write(3, &OTHER_MAGIC[3..]).await.unwrap();
        assert!(write(0, &OTHER_MAGIC[..3]).await.is_err());
        write(0, b"harmless").await.unwrap();
        write(512, &sector).await.unwrap();
        node.close().await.unwrap();

        let named = bench.context.open(write_spec(&path).with_driver(Some("raw"))).await.unwrap();
        named.write(0, IoBuf::copy_of(&sector).into(), WriteFlags::empty()).await.unwrap();
        named.close().await.unwrap();
    });
}
