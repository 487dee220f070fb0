//! Data to and from qemu-nbd and nbdkit.

use std::time::Instant;

use futures_util::future::join_all;
use qemu_block::error::ErrorKind;
use qemu_block::options::Options;
use qemu_block::types::{OpenFlags, PreallocMode, WriteFlags, ZeroFlags};

use crate::support::{Bench, Server, block_on, data, failure, pattern};

const SIZE: usize = 4 << 20;

#[test]
fn what_is_written_arrives_in_the_file() {
    let bench = Bench::new();
    let file = bench.path("disk");
    std::fs::write(&file, pattern(1, SIZE)).expect("space");
    let server = Server::qemu(&bench.path("s"), &file, &[]);
    let mut model = pattern(1, SIZE);
    block_on(async {
        let node = bench.open(&server.options()).await.expect("it opens");
        // Many at once, of all sizes, on ranges that do not overlap.
        let writes = (0..64_usize).map(|at| {
            let (offset, len) = (at * 65536 + at * 7, 1 + at * 1000);
            let bytes = pattern(u8::try_from(at).expect("small"), len);
            model[offset..offset + len].copy_from_slice(&bytes);
            let flags = if at % 5 == 0 { WriteFlags::FUA } else { WriteFlags::empty() };
            node.write(u64::try_from(offset).expect("small"), data(&bytes), flags)
        });
        join_all(writes.collect::<Vec<_>>()).await.into_iter().for_each(|result| result.expect("written"));
        node.write_zeroes(100, 100_000, ZeroFlags::empty()).await.expect("zeroed");
        node.write_zeroes(3 << 20, 1 << 20, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
        node.discard(1 << 20, 4096).await.expect("discarded");
        node.flush().await.expect("durable");
        model[100..100_100].fill(0);
        model[3 << 20..].fill(0);
        let reads = (0..64).map(|at| node.read_bytes(at * 65536, 65536));
        for (at, read) in join_all(reads).await.into_iter().enumerate() {
            // What was discarded may hold anything.
            if at != 16 {
                assert!(read.expect("read")[..] == model[at * 65536..][..65536], "block {at}");
            }
        }
        node.close().await.expect("closing cannot fail");
    });
    drop(server);
    let stored = std::fs::read(&file).expect("readable");
    assert!(stored[..1 << 20] == model[..1 << 20] && stored[(1 << 20) + 4096..] == model[(1 << 20) + 4096..]);
}

#[test]
fn replies_come_in_any_order() {
    let bench = Bench::new();
    // Each read takes a while, unless several are under way at the same time.
    let server = Server::nbdkit(&bench.path("k"), &["--filter=delay", "pattern", "1M", "delay-read=100ms"]);
    block_on(async {
        let node = bench.open_with(&server.options(), OpenFlags::empty()).await.expect("it opens");
        let begun = Instant::now();
        let reads = (0..128).map(|at| node.read_bytes(at * 8192, 8192));
        for (at, read) in join_all(reads).await.into_iter().enumerate() {
            let first = u64::from_be_bytes(read.expect("read")[..8].try_into().expect("eight"));
            assert_eq!(first, u64::try_from(at).expect("small") * 8192, "the pattern holds its own offset");
        }
        assert!(begun.elapsed().as_secs_f64() < 12.0, "one after the other it would take 12.8 s");
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn a_server_gets_the_blocks_that_it_wants() {
    let bench = Bench::new();
    let policy = [
        "--filter=blocksize-policy",
        "memory",
        "1M",
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=32768",
        "blocksize-error-policy=error",
    ];
    let server = Server::nbdkit(&bench.path("k"), &policy);
    block_on(async {
        let node = bench.open(&server.options()).await.expect("it opens");
        assert_eq!((node.limits().request_alignment, node.limits().transfer_max), (4096, 32768));
        node.write(100, data(&pattern(3, 100_000)), WriteFlags::empty()).await.expect("padded and split");
        node.write_zeroes(5000, 60_000, ZeroFlags::empty()).await.expect("padded and split");
        let bytes = node.read_bytes(0, 200_000).await.expect("split");
        let mut model = vec![0; 200_000];
        model[100..100_100].copy_from_slice(&pattern(3, 100_000));
        model[5000..65_000].fill(0);
        assert!(bytes[..] == model[..]);
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn what_a_server_cannot_do_is_done_otherwise_or_not_at_all() {
    let bench = Bench::new();
    let server = Server::nbdkit(&bench.path("k"), &["--filter=nozero", "memory", "1M"]);
    block_on(async {
        let node = bench.open(&server.options()).await.expect("it opens");
        let fast = node.write_zeroes(0, 4096, ZeroFlags::NO_FALLBACK).await;
        assert_eq!(failure(fast).kind(), ErrorKind::Unsupported);
        node.write(0, data(&[1; 8192]), WriteFlags::empty()).await.expect("written");
        node.write_zeroes(0, 4096, ZeroFlags::empty()).await.expect("as data");
        assert_eq!(&node.read_bytes(4090, 12).await.expect("read")[..], b"\0\0\0\0\0\0\x01\x01\x01\x01\x01\x01");
        node.truncate(1 << 20, PreallocMode::Off).await.expect("it is so long");
        let error = failure(node.truncate(1 << 21, PreallocMode::Off).await);
        assert_eq!((error.chain().as_str(), error.kind()), ("Cannot resize NBD nodes", ErrorKind::Unsupported));
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn errors_of_the_server_reach_the_request() {
    let bench = Bench::new();
    let words = ["--filter=error", "memory", "1M", "error=ENOSPC", "error-pwrite-rate=100%"];
    let server = Server::nbdkit(&bench.path("k"), &words);
    block_on(async {
        let node = bench.open(&server.options()).await.expect("it opens");
        let error = failure(node.write(0, data(&[1; 512]), WriteFlags::empty()).await);
        assert_eq!((error.kind(), error.chain().as_str()), (ErrorKind::NoSpace, "No space left on device"));
        node.read_bytes(0, 512).await.expect("the connection lives on");
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn an_export_of_an_odd_size_is_read_to_its_end() {
    let bench = Bench::new();
    let file = bench.path("disk");
    std::fs::write(&file, pattern(1, 1000)).expect("space");
    let server = Server::nbdkit(&bench.path("k"), &["file", file.to_str().expect("UTF-8")]);
    block_on(async {
        let node = bench.open(&format!("driver=raw,file.{}", server.options().replace(",", ",file."))).await;
        let node = node.expect("it opens");
        assert_eq!(node.len(), 1024);
        let bytes = node.read_bytes(0, 1024).await.expect("the rest is zeros");
        assert_eq!((&bytes[..1000], &bytes[1000..]), (&pattern(1, 1000)[..], &[0; 24][..]));
        node.close().await.expect("closing cannot fail");
    });
}

#[test]
fn an_image_is_created_where_there_is_room() {
    let bench = Bench::new();
    let file = bench.path("disk");
    std::fs::write(&file, pattern(1, 8192)).expect("space");
    let server = Server::qemu(&bench.path("s"), &file, &[]);
    let name = format!("nbd:unix:{}", server.socket().display());
    let create = |size: u64| {
        let mut options = Options::new();
        options.set("size", size);
        bench.context().create_storage(&name, options)
    };
    block_on(async {
        assert_eq!(failure(create(8193).await).chain(), "Cannot grow NBD nodes");
        create(4096).await.expect("there is room");
    });
    drop(server);
    let stored = std::fs::read(&file).expect("readable");
    assert!(stored[..512] == [0; 512] && stored[512..] == pattern(1, 8192)[512..], "only the first sector is cleared");
}
