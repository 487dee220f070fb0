//! Internal snapshots: in both directions against the reference, under random requests, power cuts and failing disks.

use std::collections::BTreeMap;

use qemu_block::error::{ErrorKind, Result};
use qemu_block::manage::{NewSnapshot, SnapshotSelector};
use qemu_block::mem::{LogEntry, MemDisk, MemOp, When};
use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, PreallocMode, SnapshotInfo, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::mem::{MemBench, fill, is_filled};
use crate::support::{Bench, block_on, oracle, qemu_io};

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const SIZE: u64 = 256 << 10;

fn named(name: &str) -> NewSnapshot {
    NewSnapshot { name: name.to_owned(), date_seconds: 1_700_000_000, ..NewSnapshot::default() }
}

fn any(name: &str) -> SnapshotSelector {
    SnapshotSelector::Any(name.to_owned())
}

async fn create(node: &Node, name: &str) -> Result<SnapshotInfo> {
    node.snapshots().expect("qcow2 has snapshots").create(named(name)).await
}

async fn apply(node: &Node, name: &str) -> Result<()> {
    node.snapshots().expect("qcow2 has snapshots").apply(&any(name)).await
}

async fn delete(node: &Node, name: &str) -> Result<()> {
    node.snapshots().expect("qcow2 has snapshots").delete(&any(name)).await
}

fn list(node: &Node) -> Vec<(String, String)> {
    let snapshots = block_on(node.snapshots().expect("qcow2 has snapshots").list()).expect("listed");
    snapshots.into_iter().map(|snapshot| (snapshot.id, snapshot.name)).collect()
}

/// What our driver reads from a snapshot of the image `a`, or from its present state.
fn content(bench: &MemBench, snapshot: Option<&str>) -> Vec<u8> {
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    if let Some(name) = snapshot {
        block_on(node.snapshots().expect("qcow2 has snapshots").load(&any(name))).expect("loaded");
    }
    let bytes = block_on(node.read_bytes(0, usize::try_from(node.len()).expect("small"))).expect("read");
    block_on(node.close()).expect("closed");
    bytes.to_vec()
}

/// What the reference reads from a snapshot of the image `a`, or from its present state.
fn reference_content(bench: &MemBench, snapshot: Option<&str>) -> Vec<u8> {
    let files = Bench::new();
    let (image, raw) = (files.path("image"), files.path("raw"));
    std::fs::write(&image, bench.disk().to_vec()).expect("written");
    let mut args = vec!["convert", "-f", "qcow2", "-O", "raw"];
    args.extend(snapshot.iter().flat_map(|name| ["-l", *name]));
    args.extend([image.as_str(), raw.as_str()]);
    let (code, text) = oracle(&args);
    assert_eq!(code, 0, "{text}");
    std::fs::read(raw).expect("read")
}

/// Changes the image `a` in every way that a guest can.
fn change_everything(bench: &MemBench, seed: u8) {
    let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
    block_on(async {
        fill(&node, 0, 1000, seed).await.expect("written");
        fill(&node, 100 * K, 70 << 10, seed + 1).await.expect("written");
        let data = IoBuf::copy_of(&vec![seed + 2; 128 << 10]);
        let run = node.compress(256 * K, data.into()).await.expect("compressed");
        node.write_compressed(run).await.expect("written");
        node.write_zeroes(448 * K, 64 * K, ZeroFlags::empty()).await.expect("zeroed");
        node.write_zeroes(512 * K, 128 * K, ZeroFlags::MAY_UNMAP).await.expect("zeroed");
        node.discard(704 * K, 128 * K).await.expect("discarded");
        node.flush().await.expect("flushed");
        fill(&node, 704 * K, 300, seed + 3).await.expect("written");
        fill(&node, 960 * K, 64 << 10, seed + 4).await.expect("written");
        node.close().await.expect("closed");
    });
}

#[test]
fn snapshots_of_the_reference_survive_our_writes() {
    for options in
        ["cluster_size=64k", "cluster_size=4k,refcount_bits=64", "cluster_size=512", "compat=0.10", "extended_l2=on"]
    {
        let bench = MemBench::from_reference(&[
            &["create", "-q", "-f", "qcow2", "-o", options, "IMAGE", "1M"],
            &["io", "write -P 1 0 1M", "write -z -u 64k 64k"],
            &["snapshot", "-c", "s1", "IMAGE"],
            &["io", "write -P 2 200k 300k"],
            &["snapshot", "-c", "s2", "IMAGE"],
            &["io", "write -P 3 300k 10k"],
        ]);
        let before = [reference_content(&bench, Some("s1")), reference_content(&bench, Some("s2"))];
        change_everything(&bench, 10);
        bench.assert_clean();
        for (name, before) in ["s1", "s2"].into_iter().zip(&before) {
            assert!(reference_content(&bench, Some(name)) == *before, "{options}: {name}, as the reference reads it");
            assert!(content(&bench, Some(name)) == *before, "{options}: {name}, as we read it");
        }
        assert!(content(&bench, None) == reference_content(&bench, None));
    }
}

#[test]
fn our_snapshots_survive_writes_of_the_reference() {
    for options in
        ["cluster_size=64k", "cluster_size=4k,refcount_bits=8", "cluster_size=512", "compat=0.10", "extended_l2=on"]
    {
        let bench = MemBench::with_image(options, M);
        change_everything(&bench, 10);
        let first = content(&bench, None);
        let node = bench.writable();
        let info = block_on(create(&node, "s1")).expect("created");
        assert_eq!((info.id.as_str(), info.name.as_str(), info.vm_state_bytes), ("1", "s1", 0));
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        change_everything(&bench, 20);
        let second = content(&bench, None);
        let node = bench.writable();
        assert_eq!(block_on(create(&node, "s1")).expect("names need not be unique").id, "2");
        block_on(node.close()).expect("closed");
        bench.assert_clean();

        let files = Bench::new();
        let path = files.path("image");
        std::fs::write(&path, bench.disk().to_vec()).expect("written");
        qemu_io(&path, &["write -P 5 0 1M", "discard 128k 256k", "write -c -P 6 128k 64k"]);
        assert_eq!(oracle(&["check", &path]).0, 0);
        bench.insert("a", MemDisk::from_bytes(&std::fs::read(&path).expect("read")));
        assert!(content(&bench, Some("1")) == first && content(&bench, Some("2")) == second, "{options}");
        assert!(reference_content(&bench, Some("1")) == first && reference_content(&bench, Some("2")) == second);
        // And back: the reference applies and deletes what we made.
        for (command, id) in [("-a", "1"), ("-d", "s1")] {
            let (code, text) = oracle(&["snapshot", command, id, &path]);
            assert_eq!(code, 0, "{text}");
            assert_eq!(oracle(&["check", &path]).0, 0);
        }
        bench.insert("a", MemDisk::from_bytes(&std::fs::read(&path).expect("read")));
        assert!(content(&bench, None) == first && content(&bench, Some("2")) == second, "{options}");
    }
}

#[test]
fn we_apply_and_delete_what_the_reference_made() {
    for options in ["cluster_size=64k", "cluster_size=512,refcount_bits=64", "compat=0.10"] {
        let bench = MemBench::from_reference(&[
            &["create", "-q", "-f", "qcow2", "-o", options, "IMAGE", "1M"],
            &["io", "write -c -P 9 0 64k", "write -P 1 64k 960k"],
            &["snapshot", "-c", "s1", "IMAGE"],
            &["io", "write -P 2 200k 300k"],
            &["snapshot", "-c", "s2", "IMAGE"],
            &["io", "write -P 3 0 1M"],
        ]);
        let first = reference_content(&bench, Some("s1"));
        let node = bench.writable();
        block_on(apply(&node, "s1")).expect("applied");
        let now = block_on(node.read_bytes(0, 1 << 20)).expect("read");
        assert!(now[..] == first[..]);
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        assert!(reference_content(&bench, None) == first);
        let node = bench.writable();
        assert_eq!(list(&node), [("1".to_owned(), "s1".to_owned()), ("2".to_owned(), "s2".to_owned())]);
        block_on(async {
            delete(&node, "1").await.expect("deleted");
            assert_eq!(delete(&node, "s1").await.expect_err("gone").kind(), ErrorKind::NotFound);
            fill(&node, 0, 512 << 10, 7).await.expect("written in place");
            delete(&node, "2").await.expect("deleted");
            node.close().await.expect("closed");
        });
        bench.assert_clean();
        assert!(reference_content(&bench, None)[512 << 10..] == first[512 << 10..], "{options}");
    }
}

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

/// What the disk and its snapshots hold.
#[derive(Clone, Default)]
struct Model {
    disk: Vec<u8>,
    snapshots: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Model {
    fn put(&mut self, offset: u64, len: u64, byte: u8) {
        let at = usize::try_from(offset).expect("small");
        self.disk[at..at + usize::try_from(len).expect("small")].fill(byte);
    }

    /// A snapshot at random.
    fn pick(&self, random: &mut Random) -> Option<u64> {
        let n = self.snapshots.len() as u64;
        (n > 0).then(|| *self.snapshots.keys().nth(usize::try_from(random.below(n)).expect("few")).expect("there"))
    }
}

/// One random request, in whole clusters.
async fn step(node: &Node, random: &mut Random, model: &mut Model, byte: u8, cluster: u64) -> Result<()> {
    let n_clusters = model.disk.len() as u64 / cluster;
    let start = random.below(n_clusters) * cluster;
    let len = (1 + random.below(6)).min(n_clusters - start / cluster) * cluster;
    match random.below(16) {
        0..5 => {
            model.put(start, len, byte);
            fill(node, start, usize::try_from(len).expect("small"), byte).await
        }
        5 | 6 => {
            model.put(start, len, byte);
            let data = IoBuf::copy_of(&vec![byte; usize::try_from(len).expect("small")]);
            let run = node.compress(start, data.into()).await?;
            node.write_compressed(run).await
        }
        7 => {
            model.put(start, len, 0);
            let unmap = if byte.is_multiple_of(2) { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() };
            node.write_zeroes(start, len, unmap).await
        }
        8 => {
            model.put(start, len, 0);
            node.discard(start, len).await
        }
        9..12 if model.snapshots.len() < 5 => {
            model.next = model.snapshots.keys().max().unwrap_or(&0) + 1;
            model.snapshots.insert(model.next, model.disk.clone());
            let info = create(node, &format!("name {}", model.next)).await?;
            assert_eq!(info.id, model.next.to_string());
            Ok(())
        }
        12 | 13 => {
            let Some(id) = model.pick(random) else { return Ok(()) };
            model.disk.clone_from(&model.snapshots[&id]);
            apply(node, &id.to_string()).await
        }
        14 => {
            let Some(id) = model.pick(random) else { return Ok(()) };
            model.snapshots.remove(&id);
            delete(node, &id.to_string()).await
        }
        _ => node.flush().await,
    }
}

#[test]
fn random_requests_and_snapshots_agree_with_a_model() {
    let cases = [
        ("cluster_size=512,refcount_bits=64", 512),
        ("cluster_size=512,refcount_bits=8", 512),
        ("cluster_size=4k", 4096),
        ("cluster_size=16k,refcount_bits=8", 16 << 10),
        ("compat=0.10,cluster_size=1k", 1024),
        ("extended_l2=on,cluster_size=16k", 16 << 10),
    ];
    for (options, cluster) in cases {
        for seed in [3, 1234, 987_654_321] {
            let bench = MemBench::with_image(options, SIZE);
            let mut random = Random(seed);
            let mut model = Model { disk: vec![0; usize::try_from(SIZE).expect("small")], ..Model::default() };
            let mut node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
            for round in 0..160_u8 {
                let what = format!("{options}, seed {seed}, round {round}");
                block_on(step(&node, &mut random, &mut model, round % 250 + 1, cluster)).expect(&what);
                if random.below(20) == 0 {
                    block_on(node.close()).expect("closed");
                    let report = bench.check();
                    assert_eq!(
                        (report.corruptions, report.leaks, report.check_errors),
                        (0, 0, 0),
                        "{what}: {report:?}"
                    );
                    node = bench.open("a", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
                }
                let now = block_on(node.read_bytes(0, model.disk.len())).expect("read");
                assert!(now[..] == model.disk[..], "{what}");
            }
            block_on(node.close()).expect("closed");
            bench.assert_clean();
            assert!(reference_content(&bench, None) == model.disk);
            for (id, disk) in &model.snapshots {
                assert!(reference_content(&bench, Some(&id.to_string())) == *disk, "{options}, seed {seed}: {id}");
                assert!(content(&bench, Some(&id.to_string())) == *disk, "{options}, seed {seed}: {id}");
            }
        }
    }
}

#[test]
fn counts_that_are_too_narrow_refuse_a_snapshot_and_nothing_changes() {
    for (bits, possible) in [(1, 0), (2, 2), (4, 14)] {
        let bench = MemBench::with_image(&format!("refcount_bits={bits},cluster_size=4k"), M);
        let node = bench.writable();
        block_on(fill(&node, 0, 300 << 10, 1)).expect("written");
        for i in 0..possible {
            block_on(create(&node, &i.to_string())).expect("there is room in the count");
        }
        block_on(node.flush()).expect("flushed");
        let error = block_on(create(&node, "one too many")).expect_err("no room in the count");
        assert_eq!((error.errno(), list(&node).len()), (libc::EINVAL, possible));
        block_on(fill(&node, 4096, 4096, 2)).expect("still writable");
        block_on(node.close()).expect("closed");
        bench.assert_clean();
        let node = bench.writable();
        for i in 0..possible {
            block_on(apply(&node, &i.to_string())).expect("what is given up makes room for what comes back");
        }
        assert!(is_filled(&node, 0, 300 << 10, if possible == 0 { 2 } else { 1 }) || possible == 0);
        block_on(node.close()).expect("closed");
        bench.assert_clean();
    }
}

#[test]
fn snapshots_keep_the_size_of_the_disk() {
    let bench = MemBench::with_image("cluster_size=4k", M);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 1 << 20, 1).await.expect("written");
        create(&node, "small").await.expect("created");
        node.truncate(40 * M, PreallocMode::Off).await.expect("grown");
        fill(&node, 39 * M, 1 << 20, 2).await.expect("written");
        create(&node, "large").await.expect("created");
        apply(&node, "small").await.expect("applied");
        assert_eq!(node.len(), M);
        fill(&node, 0, 4096, 3).await.expect("written");
        apply(&node, "large").await.expect("applied");
        assert_eq!(node.len(), 40 * M);
    });
    assert!(is_filled(&node, 39 * M, 1 << 20, 2) && is_filled(&node, 0, 1 << 20, 1));
    block_on(apply(&node, "small")).expect("applied");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
    assert_eq!(reference_content(&bench, None), vec![1; 1 << 20]);
}

/// An image with two snapshots and changes after each, and what they hold.
fn sample(options: &str) -> (MemBench, [Vec<u8>; 3]) {
    let bench = MemBench::with_image(options, 64 * K);
    let node = bench.writable();
    block_on(async {
        fill(&node, 0, 48 << 10, 1).await.expect("written");
        create(&node, "one").await.expect("created");
        fill(&node, 4 * K, 20 << 10, 2).await.expect("written");
        let run = node.compress(32 * K, IoBuf::copy_of(&[3; 8 << 10]).into()).await.expect("compressed");
        node.write_compressed(run).await.expect("written");
        create(&node, "two").await.expect("created");
        fill(&node, 16 * K, 30 << 10, 4).await.expect("written");
        node.close().await.expect("closed");
    });
    let contents = [content(&bench, Some("one")), content(&bench, Some("two")), content(&bench, None)];
    (bench, contents)
}

/// Each change: its name, the change, the names of the snapshots and the content of the disk afterwards.
type Change = (&'static str, fn(&Node) -> Result<()>, &'static [&'static str], usize);

const CHANGES: &[Change] = &[
    ("create", |node| block_on(create(node, "three")).map(drop), &["one", "two", "three"], 2),
    ("apply", |node| block_on(apply(node, "one")), &["one", "two"], 0),
    ("delete the first", |node| block_on(delete(node, "one")), &["two"], 2),
    ("delete the last", |node| block_on(delete(node, "two")), &["one"], 2),
    ("shrink", |node| block_on(node.truncate(20 * K, PreallocMode::Off)), &["one", "two"], 2),
];

/// Fails unless the image is without corruption, and what it was before a change, or what it is after it.
fn assert_before_or_after(bench: &MemBench, contents: &[Vec<u8>; 3], change: &Change, what: &str) -> bool {
    let report = bench.check();
    assert_eq!((report.corruptions, report.check_errors), (0, 0), "{what}: {report:?}");
    let node = bench.open("a", OpenFlags::empty()).expect("readable");
    let names: Vec<String> = list(&node).into_iter().map(|(_, name)| name).collect();
    let disk = content(bench, None);
    let (_, _, names_after, disk_after) = change;
    let expected = &contents[*disk_after];
    let done =
        names == *names_after && disk[..] == expected[..disk.len()] && (change.0 != "shrink" || disk.len() < 64 << 10);
    assert!(done || (names == ["one", "two"] && disk == contents[2]), "{what}: {names:?}");
    for (name, expected) in names.iter().zip(contents) {
        let expected = if names[0] == "two" { &contents[1] } else { expected };
        assert!(
            content(bench, Some(name))[..disk.len().min(expected.len())] == expected[..disk.len().min(expected.len())],
            "{what}: {name}"
        );
    }
    done
}

/// A disk after a power cut: all before the last flush in `log`, and of what follows the entries that `keep` wants.
fn cut(base: &[u8], log: &[LogEntry], mut keep: impl FnMut() -> bool) -> MemDisk {
    let flushed = log.iter().rposition(|entry| *entry == LogEntry::Flush).unwrap_or(0);
    let start = LogEntry::Write { offset: 0, data: base.to_vec() };
    let late = log[flushed..].iter().filter(|_| keep());
    MemDisk::replay(0, std::iter::once(&start).chain(&log[..flushed]).chain(late))
}

#[test]
fn a_power_cut_leaves_the_old_snapshots_or_the_new_ones() {
    for options in ["cluster_size=4k", "cluster_size=512,refcount_bits=64", "compat=0.10,cluster_size=1k"] {
        for change in CHANGES.iter().filter(|change| change.0 != "shrink" || !options.starts_with("compat")) {
            let (bench, contents) = sample(options);
            let base = bench.disk().to_vec();
            let node = bench.writable();
            bench.disk().start_log();
            change.1(&node).expect("done");
            let n_durable = bench.disk().take_log();
            block_on(node.close()).expect("closed");
            let log: Vec<LogEntry> = n_durable.iter().cloned().chain(bench.disk().take_log()).collect();
            let mut random = Random(4711);
            for len in 0..=log.len() {
                for attempt in 0..4 {
                    let crashed = MemBench::new();
                    let keep_all = attempt == 0;
                    crashed.insert("a", cut(&base, &log[..len], || keep_all || random.below(2) == 0));
                    let what = format!("{options}: {}, {len} of {}, attempt {attempt}", change.0, log.len());
                    let done = assert_before_or_after(&crashed, &contents, change, &what);
                    assert!(done || len < n_durable.len(), "{what}: durable when it completes");
                }
            }
            bench.assert_clean();
        }
    }
}

#[test]
fn a_change_that_fails_leaves_everything_as_it_was() {
    for change in CHANGES {
        for op in [MemOp::Read, MemOp::Write, MemOp::Flush, MemOp::Zero] {
            for nth in 1..400 {
                let (bench, contents) = sample("cluster_size=4k");
                let node = bench.writable();
                bench.disk().control().fail(op, When::Nth(nth), libc::EIO);
                let failed = change.1(&node).is_err();
                bench.disk().control().heal();
                let what = format!("{} with {op:?} {nth} failing", change.0);
                // After a failure at the header nobody knows what it says, and closing says so.
                let closed = block_on(node.close());
                assert!(failed || closed.is_ok(), "{what}");
                let done = assert_before_or_after(&bench, &contents, change, &what);
                assert!(done || failed, "{what}");
                if !failed {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_change_that_is_given_up_does_no_harm() {
    for change in CHANGES.iter().filter(|change| change.0 != "shrink") {
        for nth in 1..80 {
            let (bench, contents) = sample("cluster_size=4k");
            let node = bench.writable();
            bench.disk().control().delay(MemOp::Write, 1);
            let selector = any(if change.0 == "delete the last" { "two" } else { "one" });
            let snapshots = node.snapshots().expect("qcow2 has snapshots");
            let mut future = match change.0 {
                "create" => {
                    let create = snapshots.create(named("three"));
                    Box::pin(async move { create.await.map(drop) })
                }
                "apply" => snapshots.apply(&selector),
                _ => snapshots.delete(&selector),
            };
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let finished = (0..nth).any(|_| future.as_mut().poll(&mut context).is_ready());
            drop(future);
            bench.disk().control().delay(MemOp::Write, 0);
            let closed = block_on(node.close());
            assert_eq!(closed.is_ok(), finished, "{}: {nth}", change.0);
            assert_before_or_after(&bench, &contents, change, &format!("{} given up after {nth}", change.0));
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_snapshot_table_of_the_reference_may_end_the_file() {
    let bench = MemBench::from_reference(&[
        &["create", "-q", "-f", "qcow2", "-o", "compat=0.10", "IMAGE", "1M"],
        &["snapshot", "-c", "first", "IMAGE"],
        &["snapshot", "-c", "second", "IMAGE"],
    ]);
    let at = bench.number_at(64);
    assert!(bench.disk().len() < at + 160, "the last entry is not padded");
    let node = bench.writable();
    assert_eq!(list(&node).len(), 2);
    block_on(delete(&node, "first")).expect("deleted");
    block_on(node.close()).expect("closed");
    bench.assert_clean();
}
