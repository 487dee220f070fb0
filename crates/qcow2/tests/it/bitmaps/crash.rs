//! A bitmap on disk is marked as in use, or right, at every moment: after a power cut and after failing requests.

use qemu_block::error::Result;
use qemu_block::mem::{LogEntry, MemDisk, MemOp, When};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};

use super::tracking::Random;
use super::{K, M, add, marked, names, ops};
use crate::mem::{MemBench, fill};
use crate::support::{block_on, oracle};

/// An image with data and an enabled bitmap that was just cleared, and its disk's bytes.
fn start(options: &str) -> (MemBench, Vec<u8>) {
    let bench = MemBench::with_image(options, 256 * K);
    let node = bench.writable();
    block_on(fill(&node, 0, 100 << 10, 1)).expect("written");
    add(&node, "since", 512);
    add(&node, "other", 4096);
    block_on(ops(&node).set_enabled("other", false)).expect("disabled");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let disk = bench.disk().to_vec();
    (bench, disk)
}

async fn work(node: &Node) -> Result<()> {
    fill(node, 3 * K, 2 << 10, 2).await?;
    node.flush().await?;
    node.write_zeroes(16 * K, 8 * K, ZeroFlags::MAY_UNMAP).await?;
    fill(node, 120 * K, 9 << 10, 3).await?;
    node.discard(40 * K, 8 * K).await?;
    node.flush().await?;
    let new = qemu_block::manage::NewBitmap { name: "new".to_owned(), granularity: Some(512), enabled: true };
    ops(node).add(new).await?;
    fill(node, 200 * K, 1 << 10, 4).await?;
    ops(node).clear("other").await?;
    node.truncate(300 * K, PreallocMode::Off).await?;
    fill(node, 290 * K, 1 << 10, 5).await?;
    node.close().await
}

fn content(disk: Vec<u8>) -> Vec<u8> {
    let bench = MemBench::new();
    bench.insert("a", MemDisk::from_bytes(&disk));
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let len = usize::try_from(node.len()).expect("small");
    let bytes = block_on(node.read_bytes(0, len)).expect("readable").to_vec();
    block_on(node.close()).expect("closed");
    bytes
}

/// Fails if `since` is valid and misses a change; returns whether it is valid.
fn check(disk: MemDisk, before: &[u8], what: &str) -> bool {
    let bench = MemBench::new();
    bench.insert("a", disk);
    let report = bench.check();
    assert_eq!((report.corruptions, report.check_errors), (0, 0), "{what}: {report:?}");
    let now = content(bench.disk().to_vec());
    let all = names(&bench);
    assert!(
        ["since -other", "!since -other", "!since !-other", "since -other new"].contains(&all.as_str()),
        "{what}: {all}"
    );
    if all.starts_with('!') {
        return false;
    }
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let ranges = marked(&node, "since");
    for (i, sector) in (0u64..).zip(now.chunks(512)) {
        let start = usize::try_from(i * 512).expect("small");
        let same = before.get(start..start + 512).map_or(sector.iter().all(|byte| *byte == 0), |old| old == sector);
        let is_marked = ranges.iter().any(|range| range.contains(&(i * 512)));
        assert!(
            same || is_marked,
            "{what}: the change of sector {i} is not recorded in a bitmap that claims to be valid"
        );
    }
    true
}

/// A disk after a power cut: all before the last flush in `log`, and of what follows the entries that `keep` wants.
fn cut(base: &[u8], log: &[LogEntry], mut keep: impl FnMut() -> bool) -> MemDisk {
    let flushed = log.iter().rposition(|entry| *entry == LogEntry::Flush).unwrap_or(0);
    let start = LogEntry::Write { offset: 0, data: base.to_vec() };
    let late = log[flushed..].iter().filter(|_| keep());
    MemDisk::replay(0, std::iter::once(&start).chain(&log[..flushed]).chain(late))
}

/// The same, with the last write cut after so many sectors.
fn torn(base: &[u8], log: &[LogEntry]) -> Vec<MemDisk> {
    let Some((LogEntry::Write { offset, data }, rest)) = log.split_last() else { return Vec::new() };
    let cuts = (512..data.len()).step_by(512).take(16);
    let piece = |len: usize| LogEntry::Write { offset: *offset, data: data[..len].to_vec() };
    cuts.map(|len| [rest, &[piece(len)]].concat()).map(|log| cut(base, &log, || true)).collect()
}

#[test]
fn a_power_cut_leaves_no_bitmap_that_is_valid_and_stale() {
    for options in ["cluster_size=512", "cluster_size=4k,refcount_bits=1", "cluster_size=64k"] {
        let seed = 17;
        let mut random = Random(seed);
        let (bench, base) = start(options);
        let before = content(base.clone());
        let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
        bench.disk().start_log();
        block_on(work(&node)).expect("done");
        let log = bench.disk().take_log();
        let (mut n_valid, mut n_in_use) = (0, 0);
        for len in 0..=log.len() {
            let what = format!("{options} seed {seed}, {len} of {}", log.len());
            let mut disks = vec![cut(&base, &log[..len], || true)];
            disks.extend((0..4).map(|_| cut(&base, &log[..len], || random.below(2) == 0)));
            disks.extend(torn(&base, &log[..len]));
            for disk in disks {
                if check(disk, &before, &what) { n_valid += 1 } else { n_in_use += 1 }
            }
        }
        assert!(n_valid > 2 && n_in_use > 10, "both were seen: {n_valid}, {n_in_use}");
        bench.assert_clean();
        assert_eq!(names(&bench), "since -other new");
    }
}

#[test]
fn no_failure_leaves_a_bitmap_that_is_valid_and_stale() {
    let (_, base) = start("cluster_size=4k");
    let before = content(base.clone());
    let mut n_failed = 0;
    for op in [MemOp::Write, MemOp::Flush, MemOp::Zero, MemOp::Read] {
        for errors in [When::Nth as fn(u64) -> When, When::From] {
            for nth in 1.. {
                let bench = MemBench::new();
                bench.insert("a", MemDisk::from_bytes(&base));
                let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
                bench.disk().control().fail(op, errors(nth), libc::EIO);
                let done = block_on(work(&node));
                // What the work did not reach is tried again, and closed.
                drop(block_on(fill(&node, 64 * K, 1 << 10, 6)));
                drop(block_on(node.close()));
                bench.disk().control().heal();
                if done.is_ok() {
                    assert_eq!(names(&bench), "since -other new", "{op:?} {nth}");
                    break;
                }
                n_failed += 1;
                check(bench.disk(), &before, &format!("{op:?} {nth}"));
            }
        }
    }
    assert!(n_failed > 30, "{n_failed}");
}

#[test]
fn a_program_that_dies_leaves_bitmaps_that_the_reference_distrusts() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "b", 64 * K);
    block_on(node.close()).expect("closed");
    let node = bench.writable();
    block_on(fill(&node, 5 * M, 512, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    drop(node);
    let exported = super::Exported::new(&bench);
    assert!(exported.run("info IMAGE").contains("in-use"));
    let (code, text) = oracle(&["bitmap", "--clear", &exported.path(), "b"]);
    assert_eq!(code, 1);
    assert!(text.contains("Bitmap 'b' is inconsistent and cannot be used"), "{text}");
    exported.run("bitmap --remove IMAGE b");
    exported.run("check -q IMAGE");
}
