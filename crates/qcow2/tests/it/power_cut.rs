//! What is left of an image when the power goes: leaks at worst, and everything that was flushed.

use std::collections::BTreeMap;

use qemu_block::error::Result;
use qemu_block::mem::{LogEntry, MemDisk};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{MemBench, fill, is_filled};
use crate::support::block_on;

const SIZE: u64 = 256 << 10;
const SECTOR: u64 = 512;

/// A small generator, so that failures can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What each sector may hold: what was flushed last, and everything written since.
#[derive(Clone)]
struct Model {
    allowed: Vec<Vec<u8>>,
}

impl Model {
    fn write(&mut self, offset: u64, len: u64, byte: u8) {
        for sector in offset / SECTOR..(offset + len) / SECTOR {
            self.allowed[usize::try_from(sector).expect("small")].push(byte);
        }
    }

    fn flush(&mut self) {
        self.allowed.iter_mut().for_each(|bytes| drop(bytes.drain(..bytes.len() - 1)));
    }
}

/// One random request.
async fn step(node: &Node, random: &mut Random, model: &mut Model, byte: u8, cluster: u64) -> Result<()> {
    let n_clusters = SIZE / cluster;
    let start = random.below(n_clusters) * cluster;
    let len = (1 + random.below(4)).min((SIZE - start) / cluster) * cluster;
    match random.below(8) {
        0..3 => {
            let offset = start + random.below(cluster / SECTOR) * SECTOR;
            let len = (1 + random.below(3 * cluster / SECTOR)).min((SIZE - offset) / SECTOR) * SECTOR;
            model.write(offset, len, byte);
            fill(node, offset, usize::try_from(len).expect("small"), byte).await
        }
        3 | 4 => {
            model.write(start, len, byte);
            let data = IoBuf::copy_of(&vec![byte; usize::try_from(len).expect("small")]);
            let run = node.compress(start, data.into()).await?;
            node.write_compressed(run).await
        }
        5 => {
            model.write(start, len, 0);
            node.write_zeroes(
                start,
                len,
                if byte.is_multiple_of(2) { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() },
            )
            .await
        }
        6 => {
            model.write(start, len, 0);
            node.discard(start, len).await
        }
        _ => node.flush().await,
    }
}

/// A disk after a power cut: all before the last flush in `log`, and of what follows the entries that `keep` wants.
pub(crate) fn cut(base: &[u8], log: &[LogEntry], mut keep: impl FnMut() -> bool) -> MemDisk {
    let flushed = log.iter().rposition(|entry| *entry == LogEntry::Flush).unwrap_or(0);
    let start = LogEntry::Write { offset: 0, data: base.to_vec() };
    let late = log[flushed..].iter().filter(|_| keep());
    MemDisk::replay(0, std::iter::once(&start).chain(&log[..flushed]).chain(late))
}

fn assert_survives(disk: MemDisk, model: &Model, what: &str) {
    let bench = MemBench::new();
    bench.insert("a", disk);
    let report = bench.check();
    assert_eq!((report.corruptions, report.check_errors), (0, 0), "{what}: {report:?}");
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let bytes = block_on(node.read_bytes(0, usize::try_from(SIZE).expect("small"))).expect(what);
    for (i, (sector, allowed)) in bytes.chunks(512).zip(&model.allowed).enumerate() {
        let found = sector[0];
        assert!(sector.iter().all(|byte| *byte == found), "{what}: sector {i} is torn");
        assert!(allowed.contains(&found), "{what}: sector {i} holds {found}, not one of {allowed:?}");
    }
}

fn run(options: &str, cluster: u64, seed: u64) {
    let bench = MemBench::with_image(options, SIZE);
    let base = bench.disk().to_vec();
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
    bench.disk().start_log();
    let mut random = Random(seed);
    let mut model = Model { allowed: vec![vec![0]; usize::try_from(SIZE / SECTOR).expect("small")] };
    let mut log: Vec<LogEntry> = Vec::new();
    // The models by how long the log was when they began to hold.
    let mut models = BTreeMap::from([(0, model.clone())]);
    for byte in 1..60u8 {
        let before = model.clone();
        let is_flush = {
            block_on(step(&node, &mut random, &mut model, byte, cluster)).expect("done");
            before.allowed == model.allowed
        };
        // While a request runs its data may or may not be there.
        models.insert(log.len(), model.clone());
        log.extend(bench.disk().take_log());
        if is_flush {
            model.flush();
            models.insert(log.len(), model.clone());
        }
    }
    for len in 0..=log.len() {
        let (_, model) = models.range(..=len).next_back().expect("one from the start");
        let what = format!("{options} seed {seed}, {len} of {}", log.len());
        assert_survives(cut(&base, &log[..len], || true), model, &what);
        // The disk may also have reordered what was not flushed.
        assert_survives(cut(&base, &log[..len], || random.below(2) == 0), model, &format!("{what}, some lost"));
    }
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn leaks_at_worst_and_flushed_data_stays() {
    for (options, cluster) in [
        ("cluster_size=512,refcount_bits=64", 512),
        ("cluster_size=4k", 4096),
        ("cluster_size=16k", 16 << 10),
        ("cluster_size=16k,extended_l2=on", 16 << 10),
    ] {
        for seed in [1, 77, 4242] {
            run(options, cluster, seed);
        }
    }
}

#[test]
fn a_disk_that_grows_never_shows_more_of_its_backing_file() {
    let bench = MemBench::new();
    bench.create("base", "cluster_size=4k", 64 << 10);
    let base = bench.open("base", OpenFlags::WRITE).expect("writable");
    block_on(fill(&base, 0, 64 << 10, 7)).expect("written");
    block_on(base.close()).expect("closed");
    // The old end is at the start of a cluster, or inside one.
    let cases = [("cluster_size=512,compat=0.10", 4096), ("cluster_size=512", 4096), ("cluster_size=4k", 4608)];
    for (options, old) in cases {
        bench.create("a", &format!("{options},backing_file=mem:base,backing_fmt=qcow2"), old);
        let old_len = usize::try_from(old).expect("small");
        let start = bench.disk().to_vec();
        let node = bench.writable();
        bench.disk().start_log();
        block_on(node.truncate(128 << 10, PreallocMode::Off)).expect("grown");
        let log = bench.disk().take_log();
        block_on(node.close()).expect("closed");
        for len in 0..=log.len() {
            bench.insert("a", cut(&start, &log[..len], || true));
            let node = bench.open("a", OpenFlags::empty()).expect("readable");
            assert!(is_filled(&node, 0, old_len, 7));
            let new = usize::try_from(node.len()).expect("small") - old_len;
            assert!(is_filled(&node, old, new, 0), "{options}: {len} of {}", log.len());
            assert!(len < log.len() || new > 0, "it has grown");
            assert_eq!(bench.check().corruptions, 0);
        }
    }
}
