//! A valid image under arbitrary operations, compared with a plain vector of bytes.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use qcow2_fuzz::{assert_few_requests, block_on, bounded, create, disk, open};
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

fuzz_target!(|session: Session| bounded(|| run(&session)));

/// Size of the disk at first, and what it grows by, in bytes.
const DISK_BYTES: u64 = 96 << 10;
/// Operations that are done at most.
const STEPS_MAX: usize = 60;
/// Times that the disk grows at most.
const GROWTHS_MAX: usize = 4;

#[derive(Arbitrary, Debug)]
struct Session {
    cluster_bits: u8,
    refcount_order: u8,
    version_2: bool,
    zstd: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Write { at: u32, len: u16, byte: u8 },
    Zero { at: u32, len: u32, unmap: bool },
    Discard { at: u32, len: u32 },
    Compress { cluster: u8, n_clusters: u8, byte: u8 },
    Read { at: u32, len: u16 },
    Flush,
    Grow { sectors: u8 },
    Check,
    Reopen,
}

/// The image beside what it should hold.
struct Twins {
    node: Arc<Node>,
    model: Vec<u8>,
    cluster_size: u64,
    n_growths: usize,
}

fn run(session: &Session) {
    let cluster_bits = 9 + u32::from(session.cluster_bits % 5);
    let compat = if session.version_2 { "0.10" } else { "1.1" };
    let refcount_bits = if session.version_2 { 16 } else { 1 << (session.refcount_order % 7) };
    let compression = if session.zstd && !session.version_2 { ",compression_type=zstd" } else { "" };
    let cluster_size = 1 << cluster_bits;
    create(
        &format!("cluster_size={cluster_size},compat={compat},refcount_bits={refcount_bits}{compression}"),
        DISK_BYTES,
    );
    let model = vec![0; usize::try_from(DISK_BYTES).expect("small")];
    let mut twins = Twins { node: writable(), model, cluster_size, n_growths: 0 };
    for step in session.steps.iter().take(STEPS_MAX) {
        twins.step(step);
    }
    twins.compare(0, twins.node.len());
    twins.reopen();
    twins.compare(0, twins.node.len());
    block_on(twins.node.close()).expect("closed");
    let node = open(OpenFlags::CHECK).expect("checkable");
    assert_clean(&node);
    block_on(node.close()).expect("closed");
    assert_few_requests(&disk());
}

fn writable() -> Arc<Node> {
    open(OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable")
}

fn assert_clean(node: &Node) {
    let report = block_on(node.check(CheckFixes::Nothing)).expect("checked");
    assert_eq!((report.corruptions, report.leaks, report.check_errors), (0, 0, 0), "{:?}", report.messages);
}

impl Twins {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { at, len, byte } => {
                let (at, len) = self.range(at, u32::from(len));
                let data = vec![byte; usize::try_from(len).expect("small")];
                block_on(self.node.write(at, IoBuf::copy_of(&data).into(), WriteFlags::empty())).expect("written");
                self.fill(at, at + len, byte);
            }
            Step::Zero { at, len, unmap } => {
                let (at, len) = self.range(at, len);
                let flags = if unmap { ZeroFlags::MAY_UNMAP } else { ZeroFlags::empty() };
                block_on(self.node.write_zeroes(at, len, flags)).expect("zeroed");
                self.fill(at, at + len, 0);
            }
            Step::Discard { at, len } => self.discard(at, len),
            Step::Compress { cluster, n_clusters, byte } => self.compress(cluster, n_clusters, byte),
            Step::Read { at, len } => {
                let (at, len) = self.range(at, u32::from(len));
                self.compare(at, at + len);
            }
            Step::Flush => block_on(self.node.flush()).expect("flushed"),
            Step::Grow { sectors } => self.grow(u64::from(sectors) * 512),
            Step::Check => assert_clean(&self.node),
            Step::Reopen => self.reopen(),
        }
    }

    /// A range inside the disk.
    fn range(&self, at: u32, len: u32) -> (u64, u64) {
        let size = self.node.len();
        let at = u64::from(at) % size;
        (at, u64::from(len) % (size - at + 1))
    }

    fn fill(&mut self, start: u64, end: u64, byte: u8) {
        let range = usize::try_from(start).expect("small")..usize::try_from(end).expect("small");
        self.model[range].fill(byte);
    }

    /// Whole clusters read as zeros afterwards; the rest stays.
    fn discard(&mut self, at: u32, len: u32) {
        let (at, len) = self.range(at, len);
        block_on(self.node.discard(at, len)).expect("discarded");
        let end = at + len;
        let start = at.next_multiple_of(self.cluster_size);
        let end = if end == self.node.len() { end } else { end / self.cluster_size * self.cluster_size };
        if start < end {
            self.fill(start, end, 0);
        }
    }

    fn compress(&mut self, cluster: u8, n_clusters: u8, byte: u8) {
        let start = u64::from(cluster) * self.cluster_size % self.node.len() / self.cluster_size * self.cluster_size;
        let len = (u64::from(n_clusters % 8) + 1) * self.cluster_size;
        let len = len.min(self.node.len() - start);
        let data: Vec<u8> = (0..len).map(|i| if i % 64 < 32 { byte } else { (i / 64).to_be_bytes()[7] }).collect();
        let run = block_on(self.node.compress(start, IoBuf::copy_of(&data).into())).expect("compressed");
        block_on(self.node.write_compressed(run)).expect("written");
        let at = usize::try_from(start).expect("small");
        self.model[at..at + data.len()].copy_from_slice(&data);
    }

    fn grow(&mut self, by: u64) {
        if self.n_growths == GROWTHS_MAX {
            return;
        }
        self.n_growths += 1;
        let size = (self.node.len() + by) / 512 * 512;
        block_on(self.node.truncate(size, PreallocMode::Off)).expect("grown");
        self.model.resize(usize::try_from(size).expect("small"), 0);
    }

    fn reopen(&mut self) {
        block_on(self.node.close()).expect("closed");
        self.node = writable();
    }

    fn compare(&self, start: u64, end: u64) {
        let len = usize::try_from(end - start).expect("small");
        let bytes = block_on(self.node.read_bytes(start, len)).expect("readable");
        let at = usize::try_from(start).expect("small");
        let differs = bytes.iter().zip(&self.model[at..at + len]).position(|(ours, model)| ours != model);
        assert_eq!(differs.map(|i| start + i as u64), None, "where they differ first");
    }
}
