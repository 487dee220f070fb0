//! Many tasks on one image at once: pinned interleavings, and thousands of random ones.

use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use qemu_block::manage::{NewSnapshot, SnapshotSelector};
use qemu_block::mem::MemOp;
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{MemBench, fill, is_filled};
use crate::schedule::{self, History, Others, SECTOR, Task, content};
use crate::support::{Random, block_on};

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const CLUSTER: usize = 64 << 10;

/// Lets a future go on as far as it can; tells whether it is done.
fn go_on<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// An image with one L2 table and 64 KiB clusters, in which the cluster of each of `written` (guest offsets) holds ones.
fn image(written: &[u64]) -> (MemBench, Arc<Node>) {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
    for offset in written {
        block_on(fill(&node, *offset, CLUSTER, 1)).expect("written");
    }
    block_on(node.flush()).expect("flushed");
    (bench, node)
}

/// Where the next cluster will be.
fn next_cluster(bench: &MemBench) -> u64 {
    bench.disk().len().next_multiple_of(64 * K)
}

#[test]
fn allocating_writes_in_one_table_overlap_in_time() {
    let (bench, node) = image(&[0]);
    let start = next_cluster(&bench);
    let hold = bench.disk().control().hold(MemOp::Write, start..start + 64 * K);
    let mut first = pin!(fill(&node, 64 * K, CLUSTER, 2));
    assert!(go_on(first.as_mut()).is_none());
    assert_eq!(hold.waiting(), 1, "the data of the first one is on its way");
    // No lock is held meanwhile, so others in the same table begin and end.
    block_on(fill(&node, 128 * K, CLUSTER, 3)).expect("a neighbour");
    block_on(fill(&node, 32 * M, 512, 4)).expect("one that is padded");
    block_on(node.write_zeroes(0, 64 * K, ZeroFlags::MAY_UNMAP)).expect("zeros");
    block_on(node.flush()).expect("a flush");
    assert!(is_filled(&node, 128 * K, CLUSTER, 3) && is_filled(&node, 0, CLUSTER, 0));
    assert!(go_on(first.as_mut()).is_none());
    drop(hold);
    block_on(first).expect("the first one ends last");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&node, 64 * K, CLUSTER, 2) && is_filled(&node, 128 * K, CLUSTER, 3));
    assert!(is_filled(&node, 32 * M, 512, 4) && is_filled(&node, 32 * M + 512, CLUSTER - 512, 0));
}

#[test]
fn a_mapping_shows_once_its_data_is_there() {
    let (bench, node) = image(&[0]);
    let start = next_cluster(&bench);
    let hold = bench.disk().control().hold(MemOp::Write, start..start + 64 * K);
    let mut write = pin!(fill(&node, 64 * K, CLUSTER, 2));
    assert!(go_on(write.as_mut()).is_none());
    // A power cut now shows what was there before, though the counts may be on the disk.
    block_on(node.flush()).expect("flushed");
    let cut = MemBench::new();
    cut.insert("a", qemu_block::mem::MemDisk::from_bytes(&bench.disk().to_vec()));
    let before = cut.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&before, 64 * K, CLUSTER, 0));
    assert_eq!(cut.check().corruptions, 0);
    // A reader of these clusters waits for the write, and one of others does not.
    let mut read = pin!(node.read_bytes(64 * K, 512));
    assert!(go_on(read.as_mut()).is_none());
    assert!(is_filled(&node, 0, CLUSTER, 1));
    drop(hold);
    block_on(write).expect("written");
    assert!(block_on(read).expect("read").iter().all(|byte| *byte == 2));
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn writes_to_one_new_cluster_get_one_cluster() {
    let (bench, node) = image(&[0]);
    let start = next_cluster(&bench);
    let hold = bench.disk().control().hold(MemOp::Write, start..start + 64 * K);
    let mut first = pin!(fill(&node, 64 * K, 1024, 2));
    let mut second = pin!(fill(&node, 64 * K + 512, 1024, 3));
    let mut across = pin!(fill(&node, 60 * K, 128 << 10, 4));
    assert!(go_on(first.as_mut()).is_none());
    assert!(go_on(second.as_mut()).is_none() && go_on(across.as_mut()).is_none());
    assert_eq!(hold.waiting(), 1, "the others wait, as the cluster is being filled");
    drop(hold);
    let (first, second, across) = block_on(futures_util::future::join3(first, second, across));
    first.and(second).and(across).expect("written");
    assert!(is_filled(&node, 60 * K, 128 << 10, 4), "they ran in their order");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    assert_eq!(bench.check().allocated_clusters, 3, "three clusters are touched");
}

#[test]
fn copy_on_write_of_one_cluster_happens_once() {
    let bench = MemBench::new();
    bench.create("base", "", M);
    let base = bench.open("base", OpenFlags::WRITE).expect("writable");
    block_on(fill(&base, 0, 1 << 20, 7)).expect("written");
    block_on(base.close()).expect("closed");
    bench.create("a", "backing_file=mem:base,backing_fmt=qcow2", M);
    let node = bench.writable();
    // All of them copy from the backing file, whose reads are held.
    let hold = bench.named_disk("base").control().hold(MemOp::Read, 0..u64::MAX);
    let mut writes: Vec<_> = (0..8u8).map(|i| Box::pin(fill(&node, u64::from(i) * 8 * K + 512, 512, 10 + i))).collect();
    for write in &mut writes {
        assert!(go_on(write.as_mut()).is_none());
    }
    drop(hold);
    for write in writes {
        block_on(write).expect("written");
    }
    block_on(node.close()).expect("closed");
    assert_eq!(bench.check().allocated_clusters, 1);
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    for i in 0..8u8 {
        let at = u64::from(i) * 8 * K;
        assert!(is_filled(&node, at, 512, 7) && is_filled(&node, at + 512, 512, 10 + i));
        assert!(is_filled(&node, at + 1024, 7 << 10, 7));
    }
}

#[test]
fn a_discarded_cluster_is_not_reused_under_a_write() {
    let (bench, node) = image(&[0, 64 * K]);
    let hold = bench.disk().control().hold(MemOp::Write, 0..u64::MAX);
    // Both write where they are; the cluster of the first one is discarded meanwhile.
    let mut write = pin!(fill(&node, 0, 512, 2));
    assert!(go_on(write.as_mut()).is_none());
    assert_eq!(hold.waiting(), 1);
    let mut discard = pin!(node.discard(0, 64 * K));
    assert!(go_on(discard.as_mut()).is_none(), "it waits for the write");
    drop(hold);
    block_on(write).expect("written");
    block_on(discard).expect("discarded");
    assert!(is_filled(&node, 0, CLUSTER, 0));
    // Not before the flush is the cluster given to others.
    let len = bench.disk().len();
    block_on(fill(&node, 8 * M, CLUSTER, 3)).expect("written");
    assert!(bench.disk().len() > len);
    block_on(node.flush()).expect("flushed");
    let len = bench.disk().len();
    block_on(fill(&node, 9 * M, CLUSTER, 4)).expect("written");
    assert_eq!(bench.disk().len(), len, "now it is");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

#[test]
fn what_a_flush_overtakes_is_not_freed_by_it() {
    let (bench, node) = image(&[0, 64 * K]);
    let hold = bench.disk().control().hold(MemOp::Flush, 0..u64::MAX);
    let mut flush = pin!(node.flush());
    assert!(go_on(flush.as_mut()).is_none());
    // Dropped while the flush is under way, which may or may not cover it.
    block_on(node.discard(64 * K, 64 * K)).expect("discarded");
    drop(hold);
    block_on(flush).expect("flushed");
    let len = bench.disk().len();
    block_on(fill(&node, 8 * M, CLUSTER, 3)).expect("written");
    assert!(bench.disk().len() > len, "the cluster waits for the next flush");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}

/// An image for random schedules.
struct Setting {
    create: &'static str,
    open: &'static str,
    cluster: u64,
    size: u64,
    with_backing: bool,
    /// Requests that are among the random ones.
    extras: &'static [Extra],
}

/// Requests that not every image can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    Compress,
    Snapshot,
}

const SETTINGS: [Setting; 7] = [
    // 64 entries in a table, of which two fit into the cache.
    Setting {
        create: "cluster_size=512,refcount_bits=64",
        open: "l2-cache-size=0,refcount-cache-size=0,l2-cache-entry-size=512",
        cluster: 512,
        size: M,
        with_backing: false,
        extras: &[Extra::Snapshot],
    },
    Setting {
        create: "cluster_size=1k",
        open: "cache-size=2k,l2-cache-entry-size=512",
        cluster: 1024,
        size: 4 * M,
        with_backing: true,
        extras: &[],
    },
    Setting {
        create: "cluster_size=4k,refcount_bits=1",
        open: "",
        cluster: 4096,
        size: M,
        with_backing: true,
        extras: &[],
    },
    Setting {
        create: "cluster_size=4k",
        open: "l2-cache-size=0",
        cluster: 4096,
        size: 2 * M,
        with_backing: false,
        extras: &[Extra::Compress, Extra::Snapshot],
    },
    Setting {
        create: "cluster_size=16k,extended_l2=on",
        open: "l2-cache-size=1k,l2-cache-entry-size=512",
        cluster: 16 << 10,
        size: 16 * M,
        with_backing: true,
        extras: &[Extra::Snapshot],
    },
    Setting {
        create: "cluster_size=64k,extended_l2=on",
        open: "l2-cache-entry-size=512,cache-size=4k",
        cluster: CLUSTER as u64,
        size: 32 * M,
        with_backing: false,
        extras: &[],
    },
    Setting {
        create: "cluster_size=16k,extended_l2=on,compression_type=zstd",
        open: "l2-cache-size=1k,l2-cache-entry-size=512",
        cluster: 16 << 10,
        size: 16 * M,
        with_backing: true,
        extras: &[Extra::Compress],
    },
];

/// How many places there are that tasks share.
const PLACES: u64 = 6;
/// Clusters that requests around one place may touch.
const PLACE_CLUSTERS: u64 = 8;

/// The guest offset of a place.
fn place(setting: &Setting, index: u64) -> u64 {
    index * (setting.size / PLACES) / setting.cluster * setting.cluster
}

/// What sectors of the backing file hold.
const BASE: u16 = 60_000;

/// A random schedule in progress.
struct Schedule<'a> {
    setting: &'a Setting,
    node: Arc<Node>,
    history: RefCell<History>,
    /// Names of snapshots, and when each was made.
    snapshots: RefCell<Vec<(String, Range<u64>)>>,
    what: String,
}

impl Schedule<'_> {
    /// Requests one after the other, around a few places that all tasks share.
    async fn task(&self, mut random: Random, n_steps: u64) {
        for _ in 0..n_steps {
            self.step(&mut random).await;
        }
    }

    async fn step(&self, random: &mut Random) {
        let cluster = self.setting.cluster;
        // Places in several tables, so that these take turns in the cache.
        let place = place(self.setting, random.below(PLACES));
        let grain = if random.below(2) == 0 { SECTOR } else { cluster };
        let offset = place + random.below(4 * cluster / grain) * grain;
        let len = (1 + random.below(3)) * grain;
        let extra = self.setting.extras.get(random.index(8)).copied();
        match random.below(10) {
            _ if extra == Some(Extra::Snapshot) => self.snapshot(random).await,
            0..4 if extra == Some(Extra::Compress) => {
                self.compress(offset / cluster * cluster, 2 * cluster, random).await;
            }
            0..4 => self.change(offset, len, false, random).await,
            4 => self.change(offset, len, true, random).await,
            5 => {
                let flags = if random.below(2) == 0 { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() };
                let change = self.begin(offset, len, 0);
                self.node.write_zeroes(offset, len, flags).await.expect(&self.what);
                self.history.borrow_mut().end(change);
            }
            6 => {
                let (start, end) = (offset.next_multiple_of(cluster), (offset + len) / cluster * cluster);
                let change = self.begin(start, end.saturating_sub(start), 0);
                self.node.discard(offset, len).await.expect(&self.what);
                self.history.borrow_mut().end(change);
            }
            7 => self.node.flush().await.expect(&self.what),
            _ => self.look(offset, len).await,
        }
    }

    /// Writes a value that nothing else writes.
    async fn change(&self, offset: u64, len: u64, fua: bool, random: &mut Random) {
        let value = u16::try_from(1 + random.below(59_000)).expect("small");
        let change = self.begin(offset, len, value);
        let flags = if fua { WriteFlags::FUA } else { WriteFlags::empty() };
        let data = IoBuf::copy_of(&content(value, len));
        self.node.write(offset, data.into(), flags).await.expect(&self.what);
        self.history.borrow_mut().end(change);
    }

    /// As [`Schedule::change`], compressed.
    async fn compress(&self, offset: u64, len: u64, random: &mut Random) {
        let value = u16::try_from(1 + random.below(59_000)).expect("small");
        let run = self.node.compress(offset, IoBuf::copy_of(&content(value, len)).into()).await.expect(&self.what);
        let change = self.begin(offset, len, value);
        self.node.write_compressed(run).await.expect(&self.what);
        self.history.borrow_mut().end(change);
    }

    /// Makes a snapshot, or deletes one.
    async fn snapshot(&self, random: &mut Random) {
        let snapshots = self.node.snapshots().expect("qcow2 has snapshots");
        let deleted = if random.below(3) == 0 { self.snapshots.borrow_mut().pop() } else { None };
        if let Some((name, _)) = deleted {
            return snapshots.delete(&SnapshotSelector::Any(name)).await.expect(&self.what);
        }
        let start = self.history.borrow_mut().now();
        // The number keeps the names apart.
        let name = format!("at {start}");
        snapshots.create(NewSnapshot { name: name.clone(), ..NewSnapshot::default() }).await.expect(&self.what);
        let end = self.history.borrow_mut().now();
        self.snapshots.borrow_mut().push((name, start..end));
    }

    fn begin(&self, offset: u64, len: u64, value: u16) -> usize {
        self.history.borrow_mut().begin(offset / SECTOR..(offset + len) / SECTOR, value)
    }

    /// Reads, and judges what is there.
    async fn look(&self, offset: u64, len: u64) {
        let start = self.history.borrow_mut().now();
        let n = usize::try_from(len).expect("small");
        let bytes = self.node.read_bytes(offset, n).await.expect(&self.what);
        let mut history = self.history.borrow_mut();
        let end = history.now();
        history.assert_content(offset, &bytes, start..end, &self.what);
    }
}

fn make_image(bench: &MemBench, setting: &Setting) {
    let mut options = setting.create.to_owned();
    if setting.with_backing {
        bench.create("base", "", setting.size);
        let base = bench.open("base", OpenFlags::WRITE).expect("writable");
        block_on(base.write(0, IoBuf::copy_of(&content(BASE, setting.size)).into(), WriteFlags::empty()))
            .expect("written");
        block_on(base.close()).expect("closed");
        options.push_str(",backing_file=mem:base,backing_fmt=qcow2");
    }
    bench.create("a", &options, setting.size);
}

fn run_schedules(setting: &Setting, seeds: Range<u64>) {
    let bench = MemBench::new();
    make_image(&bench, setting);
    let fresh = bench.disk().to_vec();
    for seed in seeds {
        bench.insert("a", qemu_block::mem::MemDisk::from_bytes(&fresh));
        let what = format!("{}, seed {seed}", setting.create);
        let mut random = Random::new(seed);
        let flags = OpenFlags::WRITE | OpenFlags::UNMAP;
        let node = bench.open_with("a", flags, setting.open).expect("writable");
        let first = if setting.with_backing { BASE } else { 0 };
        let history = RefCell::new(History::new(setting.size / SECTOR, first));
        let schedule = Schedule { setting, node, history, snapshots: RefCell::default(), what: what.clone() };
        let control = bench.disk().control().clone();
        let n_tasks = 2 + random.below(7);
        let n_steps = 2 + random.below(6);
        let tasks: Vec<Task<'_>> = (0..n_tasks)
            .map(|task| Box::pin(schedule.task(Random::new(seed * 100 + task), n_steps)) as Task<'_>)
            .collect();
        let ops = [MemOp::Read, MemOp::Write, MemOp::Zero, MemOp::Discard, MemOp::Flush];
        let others = if setting.extras.contains(&Extra::Compress) { Others::Some } else { Others::None };
        schedule::run(tasks, &mut random, others, &what, |random| {
            let turns = u32::try_from(random.below(6)).expect("small");
            control.delay(ops[random.index(ops.len())], turns);
        });
        ops.into_iter().for_each(|op| control.delay(op, 0));
        block_on(schedule.node.close()).expect(&what);
        let report = bench.check();
        assert_eq!((report.corruptions, report.leaks, report.check_errors), (0, 0, 0), "{what}: {report:?}");
        let mut history = schedule.history.borrow_mut();
        let (start, end) = (history.now(), history.now());
        judge(&bench, setting, &history, None, start..end, &what);
        for (name, made) in schedule.snapshots.borrow().iter() {
            judge(&bench, setting, &history, Some(name), made.clone(), &what);
        }
        if seed % 100 == 0 {
            bench.assert_clean();
        }
    }
}

/// Judges the image, or a snapshot of it, as it was at some time.
fn judge(
    bench: &MemBench,
    setting: &Setting,
    history: &History,
    snapshot: Option<&String>,
    when: Range<u64>,
    what: &str,
) {
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    if let Some(name) = snapshot {
        let snapshots = node.snapshots().expect("qcow2 has snapshots");
        block_on(snapshots.load(&SnapshotSelector::Any(name.clone()))).expect(what);
    }
    for place in (0..PLACES).map(|index| place(setting, index)) {
        let len = usize::try_from(PLACE_CLUSTERS * setting.cluster).expect("small");
        let bytes = block_on(node.read_bytes(place, len)).expect(what);
        history.assert_content(place, &bytes, when.clone(), what);
    }
}

#[test]
fn thousands_of_schedules_end_well() {
    for setting in &SETTINGS {
        run_schedules(setting, 0..400);
    }
}
