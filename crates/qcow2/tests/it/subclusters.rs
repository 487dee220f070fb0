//! Images with extended L2 entries: what we write the reference reads, and the other way round.

use std::sync::Arc;

use qemu_block::node::Node;
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

use crate::support::{Bench, Random, block_on, oracle, qemu_io};

const K: u64 = 1 << 10;

/// An image, what it should hold, and where its random operations come from.
struct Subject {
    bench: Bench,
    cluster: u64,
    model: Vec<u8>,
    random: Random,
}

/// One operation, on the bytes from `offset` on.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write { byte: u8 },
    Compress { byte: u8 },
    Zero { unmap: bool },
    Discard,
}

impl Subject {
    /// An empty image of 24 clusters, the last one cut off, on a backing file of 13 if wanted.
    fn new(cluster: u64, with_backing: bool, seed: u64) -> Self {
        let bench = Bench::new();
        let size = 24 * cluster - 3 * 512;
        let mut model = vec![0; len(size)];
        if with_backing {
            let base = 13 * cluster - 512;
            bench.create("base", "", &base.to_string()).expect("created");
            qemu_io(&bench.path("base"), &[&format!("write -P 200 0 {base}")]);
            model[..len(base)].fill(200);
        }
        Self { bench, cluster, model, random: Random::new(seed) }
    }

    fn options(&self) -> String {
        let backing = std::path::Path::new(&self.bench.path("base")).exists();
        let link = format!(",backing_file={},backing_fmt=qcow2", self.bench.path("base"));
        format!("extended_l2=on,cluster_size={}{}", self.cluster, if backing { &link } else { "" })
    }

    fn path(&self) -> String {
        self.bench.path("image")
    }

    fn create_ours(&self) {
        self.bench.create("image", &self.options(), &self.model.len().to_string()).expect("created");
    }

    fn create_theirs(&mut self) {
        let size = self.model.len().to_string();
        let (code, text) = oracle(&["create", "-q", "-f", "qcow2", "-o", &self.options(), &self.path(), &size]);
        assert_eq!(code, 0, "{text}");
        // The reference compresses only what was not written before.
        for (index, byte) in [(2, 91), (3, 92), (20, 93)] {
            let (offset, len) = (index * self.cluster, self.cluster);
            qemu_io(&self.path(), &[&format!("write -c -P {byte} {offset} {len}")]);
            self.apply(offset, len, Step::Compress { byte });
        }
    }

    /// A random operation, already applied to the model.
    fn step(&mut self) -> (u64, u64, Step) {
        let size = self.model.len() as u64;
        let grains = [512, 1024, self.cluster / 32, self.cluster / 4, self.cluster];
        let grain = grains[self.random.index(grains.len())];
        let offset = self.random.below(size / grain) * grain;
        let n = 1 + self.random.below(5);
        let len = (n * grain).min(size - offset);
        let byte = u8::try_from(1 + self.random.below(190)).expect("small");
        let step = match self.random.below(8) {
            0..4 => Step::Write { byte },
            4 if offset.is_multiple_of(self.cluster) && len.is_multiple_of(self.cluster) => Step::Compress { byte },
            4 | 5 => Step::Zero { unmap: false },
            6 => Step::Zero { unmap: true },
            _ => Step::Discard,
        };
        self.apply(offset, len, step);
        (offset, len, step)
    }

    fn apply(&mut self, offset: u64, len: u64, step: Step) {
        let size = self.model.len() as u64;
        let range = match step {
            Step::Discard => {
                let end = offset + len;
                let end = if end == size { end } else { end - end % self.cluster };
                offset.next_multiple_of(self.cluster)..end
            }
            _ => offset..offset + len,
        };
        let byte = match step {
            Step::Write { byte } | Step::Compress { byte } => byte,
            Step::Zero { .. } | Step::Discard => 0,
        };
        if range.start < range.end {
            self.model[self::len(range.start)..self::len(range.end)].fill(byte);
        }
    }

    /// Does `n` random operations with our driver.
    fn work_ours(&mut self, n: u64) {
        let flags = OpenFlags::WRITE | OpenFlags::UNMAP;
        let node = self.bench.open("image", flags).expect("writable");
        for _ in 0..n {
            let (offset, len, step) = self.step();
            block_on(do_ours(&node, offset, len, step));
            if self.random.below(4) == 0 {
                self.assert_holds(&node, &format!("after {step:?} at {offset:#x}+{len:#x}"));
            }
        }
        block_on(node.close()).expect("closed");
    }

    /// Does `n` random operations with the reference.
    fn work_theirs(&mut self, n: u64) {
        let commands: Vec<String> = (0..n)
            .map(|_| {
                let (offset, len, step) = self.step();
                match step {
                    Step::Write { byte } | Step::Compress { byte } => format!("write -P {byte} {offset} {len}"),
                    Step::Zero { unmap: false } => format!("write -z {offset} {len}"),
                    Step::Zero { unmap: true } => format!("write -z -u {offset} {len}"),
                    Step::Discard => format!("discard {offset} {len}"),
                }
            })
            .collect();
        qemu_io(&self.path(), &commands.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn assert_holds(&self, node: &Node, what: &str) {
        let bytes = block_on(node.read_bytes(0, self.model.len())).expect(what);
        let differs = bytes.iter().zip(&self.model).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("{what}: byte {at:#x} is {}, not {}", bytes[at], self.model[at]);
        }
    }

    /// Both programs find the model's bytes, and no fault.
    fn assert_good(&self, what: &str) {
        let node = self.bench.open("image", OpenFlags::empty()).expect("readable");
        self.assert_holds(&node, what);
        block_on(node.close()).expect("closed");
        let (code, text) = oracle(&["check", "-f", "qcow2", &self.path()]);
        assert_eq!(code, 0, "{what}: {text}");
        let faults = ["corruptions", "leaks", "check-errors"];
        assert!(self.bench.check("image").iter().all(|(name, _)| !faults.contains(&name.as_str())), "{what}");
        let raw = self.bench.path("model");
        std::fs::write(&raw, &self.model).expect("written");
        let (code, text) = oracle(&["compare", "-f", "raw", "-F", "qcow2", &raw, &self.path()]);
        assert_eq!(code, 0, "{what}: {text}");
    }
}

async fn do_ours(node: &Arc<Node>, offset: u64, n: u64, step: Step) {
    let data = |byte| IoBuf::copy_of(&vec![byte; len(n)]);
    let done = match step {
        Step::Write { byte } => node.write(offset, data(byte).into(), WriteFlags::empty()).await,
        Step::Compress { byte } => {
            let run = node.compress(offset, data(byte).into()).await.expect("compressed");
            node.write_compressed(run).await
        }
        Step::Zero { unmap: true } => node.write_zeroes(offset, n, ZeroFlags::MAY_UNMAP).await,
        Step::Zero { unmap: false } => node.write_zeroes(offset, n, ZeroFlags::empty()).await,
        Step::Discard => node.discard(offset, n).await,
    };
    done.unwrap_or_else(|error| panic!("{step:?} at {offset:#x}+{n:#x}: {error}"));
}

fn len(value: u64) -> usize {
    usize::try_from(value).expect("small")
}

const SUBJECTS: [(u64, bool); 4] = [(16 * K, false), (16 * K, true), (64 * K, true), (256 * K, false)];

#[test]
fn our_images_are_good_to_the_reference() {
    for (seed, (cluster, with_backing)) in (1..).zip(SUBJECTS) {
        let what = format!("clusters of {cluster}, backing {with_backing}, seed {seed}");
        let mut subject = Subject::new(cluster, with_backing, seed);
        subject.create_ours();
        subject.work_ours(80);
        subject.assert_good(&what);
        subject.work_theirs(40);
        subject.assert_good(&what);
        subject.work_ours(40);
        subject.assert_good(&what);
    }
}

#[test]
fn their_images_are_good_to_us() {
    for (seed, (cluster, with_backing)) in (101..).zip(SUBJECTS) {
        let what = format!("clusters of {cluster}, backing {with_backing}, seed {seed}");
        let mut subject = Subject::new(cluster, with_backing, seed);
        subject.create_theirs();
        subject.work_theirs(60);
        subject.assert_good(&what);
        subject.work_ours(80);
        subject.assert_good(&what);
    }
}

#[test]
fn a_snapshot_keeps_its_subclusters() {
    for (seed, (cluster, with_backing)) in (201..).zip(SUBJECTS) {
        let what = format!("clusters of {cluster}, backing {with_backing}, seed {seed}");
        let mut subject = Subject::new(cluster, with_backing, seed);
        subject.create_ours();
        subject.work_ours(30);
        let then = subject.model.clone();
        oracle(&["snapshot", "-c", "then", &subject.path()]);
        subject.work_ours(60);
        subject.assert_good(&what);
        let (code, text) = oracle(&["snapshot", "-a", "then", &subject.path()]);
        assert_eq!(code, 0, "{what}: {text}");
        subject.model = then;
        subject.assert_good(&format!("{what}, back again"));
    }
}

fn number(bytes: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(bytes[len(at)..len(at) + 8].try_into().expect("eight"))
}

/// Where the first L2 table is.
fn table(bytes: &[u8]) -> u64 {
    number(bytes, number(bytes, 40)) & 0x00ff_ffff_ffff_fe00
}

#[test]
fn only_the_subclusters_that_a_write_touches_are_copied() {
    let mut subject = Subject::new(64 * K, true, 1);
    subject.create_ours();
    let node = subject.bench.open("image", OpenFlags::WRITE | OpenFlags::UNMAP).expect("writable");
    let steps = [
        (3 * K, K, Step::Write { byte: 1 }),
        (8 * K, 4 * K, Step::Zero { unmap: false }),
        (64 * K + 2 * K, 40 * K, Step::Write { byte: 2 }),
        (128 * K, 64 * K, Step::Write { byte: 3 }),
        (130 * K, 2 * K, Step::Zero { unmap: true }),
        (192 * K, 64 * K, Step::Write { byte: 4 }),
        (192 * K, 64 * K, Step::Discard),
        (256 * K, 64 * K, Step::Zero { unmap: false }),
        (258 * K + 512, 512, Step::Write { byte: 5 }),
        (384 * K, 64 * K, Step::Compress { byte: 6 }),
    ];
    for (offset, len, step) in steps {
        block_on(do_ours(&node, offset, len, step));
        subject.apply(offset, len, step);
    }
    block_on(node.close()).expect("closed");
    subject.assert_good("single steps");
    let bytes = std::fs::read(subject.path()).expect("readable");
    let bitmaps: Vec<u64> = (0..7).map(|index| number(&bytes, table(&bytes) + 16 * index + 8)).collect();
    assert_eq!(
        bitmaps,
        [
            0x0000_0030_0000_0002,
            0x0000_0000_001f_fffe,
            0x0000_0002_ffff_fffd,
            0xffff_ffff_0000_0000,
            0xffff_fffd_0000_0002,
            0,
            0
        ],
        "as the reference leaves them"
    );
}

#[test]
fn damaged_bitmaps_are_counted_as_the_reference_does() {
    // Entry 0 maps data, entry 1 nothing, entry 2 a compressed cluster.
    let patches: [(u64, u64); 4] = [
        (0, 1 << 32 | 0xffff_ffff), // data and zeros at once
        (0, 0),                     // no data after all, which is no damage
        (1, 1 << 7),                // data that is nowhere
        (2, 1),                     // a compressed cluster has no subclusters
    ];
    for (index, bitmap) in patches {
        let bench = Bench::new();
        bench.create("image", "extended_l2=on", "1M").expect("created");
        let path = bench.path("image");
        qemu_io(&path, &["write -P 1 0 64k", "write -c -P 2 128k 64k"]);
        let mut bytes = std::fs::read(&path).expect("readable");
        let at = len(table(&bytes) + 16 * index + 8);
        bytes[at..at + 8].copy_from_slice(&bitmap.to_be_bytes());
        std::fs::write(&path, bytes).expect("writable");
        crate::check::compare(&bench, "image");
        let node = bench.open("image", OpenFlags::empty()).expect("readable");
        let found = block_on(node.read_bytes(index * 64 * K, 512));
        // Reading the compressed cluster is possible; the reference does it, too.
        assert_eq!(found.is_ok(), index == 2 || bitmap == 0, "entry {index}, bitmap {bitmap:#x}");
    }
}

#[test]
fn block_status_is_the_references() {
    for (seed, (cluster, with_backing)) in (301..).zip(SUBJECTS) {
        let mut subject = Subject::new(cluster, with_backing, seed);
        subject.create_theirs();
        subject.work_theirs(40);
        let (_, theirs) = oracle(&["map", "--output=json", "-f", "qcow2", &subject.path()]);
        let node = subject.bench.open("image", OpenFlags::empty()).expect("readable");
        let size = subject.model.len() as u64;
        let mut at = 0;
        let mut ours: Vec<(u64, u64, bool, bool, Option<u64>)> = Vec::new();
        while at < size {
            let status = block_on(node.block_status(at, size - at)).expect("known");
            assert!(status.len > 0 && at + status.len <= size);
            ours.push((at, status.len, status.is_allocated(), status.is_zero(), status.host_offset));
            at += status.len;
        }
        // Every extent of ours lies in one of theirs, with the same facts.
        for (start, n, allocated, zero, host) in ours {
            let line = theirs.lines().find(|line| field(line, "start") <= start && start < end_of(line));
            let line = line.expect("the map covers the disk");
            assert!(start + n <= end_of(line), "{start:#x}+{n:#x} in {line}");
            let depth_0 = field(line, "depth") == 0 && line.contains("\"present\": true");
            assert_eq!(allocated, depth_0, "{start:#x}: {line}");
            if allocated {
                assert_eq!(zero, line.contains("\"zero\": true"), "{start:#x}: {line}");
                let offset = line.contains("\"offset\"").then(|| field(line, "offset") + start - field(line, "start"));
                assert_eq!(host, offset, "{start:#x}: {line}");
            }
        }
        block_on(node.close()).expect("closed");
    }
}

fn end_of(line: &str) -> u64 {
    field(line, "start") + field(line, "length")
}

fn field(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("\"{name}\": ")).expect(name);
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().expect(name)
}
