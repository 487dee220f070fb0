//! Random operations on a qcow2 node against an array of bytes; then the reference checks and compares the image.
//!
//! The executor is a plain `block_on`: a node needs nothing but a waker.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};
use qemu_block::aio::Services;
use qemu_block::node::Node;
use qemu_block::registry::{OpenContext, OpenSpec, Registry};
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBytes, IoVec};
use test_support::programs::reference;
use test_support::sample::Noise;

use crate::fixture::scratch;

/// Virtual size of the images in bytes: odd enough to end inside a cluster of any size.
const DISK_BYTES: usize = (3 << 20) + 512;

/// Virtual size of the backing file: shorter than the disk, and it ends inside a cluster as well.
const BACKING_BYTES: usize = (2 << 20) + 1024;

/// The image's name in the test's folder.
const IMAGE: &str = "image.qcow2";

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` to its end on this thread: the least that a node may expect of an executor.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A registry with the drivers that the command registers.
pub(crate) fn context() -> OpenContext {
    OpenContext::new(Arc::new(registry()))
}

/// The registry, for tests that add to it.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new(Services::new());
    registry.register(Arc::new(raw::RawDriver));
    registry.register(Arc::new(qcow2::Qcow2Driver));
    registry
}

/// What a case begins with: options of `create`, and whether there is a backing file.
#[derive(Clone, Debug)]
struct Shape {
    options: &'static str,
    backing: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let options = prop::sample::select(vec![
        "cluster_size=64k",
        "cluster_size=512",
        "cluster_size=4k,refcount_bits=1",
        "cluster_size=4k,refcount_bits=64",
        "cluster_size=2M",
        "cluster_size=512,refcount_bits=8",
        "compat=0.10,cluster_size=4k",
        "compat=0.10",
        "cluster_size=16k,preallocation=metadata",
    ]);
    (options, any::<bool>()).prop_map(|(options, backing)| {
        // The format has no preallocation together with a backing file.
        Shape { options, backing: backing && !options.contains("preallocation") }
    })
}

/// One step. Ranges are bytes; `fill` seeds what is written.
#[derive(Clone, Debug)]
enum Step {
    Write {
        offset: usize,
        len: usize,
        fill: u64,
    },
    Zero {
        offset: usize,
        len: usize,
        unmap: bool,
    },
    Discard {
        offset: usize,
        len: usize,
    },
    /// Writes to neighbouring ranges, all in flight at once.
    Parallel {
        offset: usize,
        len: usize,
        count: usize,
        fill: u64,
    },
    Read {
        offset: usize,
        len: usize,
    },
    Flush,
    Reopen,
}

/// A range inside the disk: short ones, long ones, aligned ones and those that are not.
fn range() -> impl Strategy<Value = (usize, usize)> {
    let len = prop_oneof![1_usize..2000, 1_usize..200_000, (1_usize..40).prop_map(|n| n * 4096)];
    let offset = prop_oneof![0..DISK_BYTES, (0..DISK_BYTES / 4096).prop_map(|n| n * 4096)];
    (offset, len).prop_map(|(offset, len)| (offset, len.min(DISK_BYTES - offset)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (range(), any::<u64>()).prop_map(|((offset, len), fill)| Step::Write { offset, len, fill }),
        2 => (range(), any::<bool>()).prop_map(|((offset, len), unmap)| Step::Zero { offset, len, unmap }),
        2 => range().prop_map(|(offset, len)| Step::Discard { offset, len }),
        3 => (range(), 2_usize..9, any::<u64>()).prop_map(|((offset, len), count, fill)| {
            Step::Parallel { offset, len: (len / count).max(1).min(DISK_BYTES - offset), count, fill }
        }),
        2 => range().prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

/// An open image and what it must hold. A byte that was discarded may be anything until it is written again.
struct Pair {
    context: OpenContext,
    path: String,
    node: Arc<Node>,
    disk: Vec<u8>,
    known: Vec<bool>,
}

impl Pair {
    fn open(dir: &Path, disk: Vec<u8>) -> Self {
        let context = context();
        let path = dir.join(IMAGE).to_string_lossy().into_owned();
        let node = open(&context, &path);
        let known = vec![true; disk.len()];
        Self { context, path, node, disk, known }
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Write { offset, len, fill } => self.write_all(&[(offset, len, fill)]),
            Step::Parallel { offset, len, count, fill } => {
                let starts = (0..count).map(|n| (offset + n * len, n));
                let inside = starts.filter(|(start, _)| start + len <= DISK_BYTES);
                self.write_all(&inside.map(|(start, n)| (start, len, fill ^ n as u64)).collect::<Vec<_>>());
            }
            Step::Zero { offset, len, unmap } => {
                let flags = if unmap { ZeroFlags::MAY_UNMAP } else { ZeroFlags::default() };
                block_on(self.node.write_zeroes(offset as u64, len as u64, flags)).expect("zeroes are written");
                self.disk[offset..offset + len].fill(0);
                self.known[offset..offset + len].fill(true);
            }
            Step::Discard { offset, len } => {
                block_on(self.node.discard(offset as u64, len as u64)).expect("a range is discarded");
                self.known[offset..offset + len].fill(false);
            }
            Step::Read { offset, len } => self.compare(offset, len)?,
            Step::Flush => block_on(self.node.flush()).expect("a flush succeeds"),
            Step::Reopen => {
                block_on(self.node.close()).expect("a close succeeds");
                self.node = open(&self.context, &self.path);
            }
        }
        Ok(())
    }

    /// Writes all ranges at the same time; they do not overlap.
    fn write_all(&mut self, ranges: &[(usize, usize, u64)]) {
        let mut writes = Vec::new();
        for &(offset, len, fill) in ranges {
            let data = bytes(len, fill);
            self.disk[offset..offset + len].copy_from_slice(&data);
            self.known[offset..offset + len].fill(true);
            let data = IoVec::from(IoBytes::copy_of(&data));
            writes.push(self.node.write(offset as u64, data, WriteFlags::default()));
        }
        block_on(futures_util::future::try_join_all(writes)).expect("writes succeed");
    }

    fn compare(&self, offset: usize, len: usize) -> Result<(), TestCaseError> {
        let read = block_on(self.node.read_bytes(offset as u64, len)).expect("a read succeeds");
        let pairs = read.iter().zip(&self.disk[offset..]).zip(&self.known[offset..]);
        let wrong = pairs.into_iter().position(|((read, disk), known)| *known && read != disk);
        prop_assert_eq!(wrong.map(|at| offset + at), None, "the first wrong byte");
        Ok(())
    }

    /// Closes the image; what was discarded becomes what it reads as.
    fn finish(mut self) -> Result<Vec<u8>, TestCaseError> {
        self.compare(0, DISK_BYTES)?;
        let read = block_on(self.node.read_bytes(0, DISK_BYTES)).expect("a read succeeds");
        self.disk.copy_from_slice(&read);
        block_on(self.node.close()).expect("a close succeeds");
        Ok(self.disk)
    }
}

fn open(context: &OpenContext, path: &str) -> Arc<Node> {
    let flags = OpenFlags::WRITE | OpenFlags::UNMAP;
    let spec = OpenSpec::file(path).with_driver(Some("qcow2")).with_flags(flags);
    block_on(context.open(spec)).expect("the image opens")
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    // The generator never leaves zero.
    let mut noise = Noise(seed | 1);
    (0..len.div_ceil(8)).flat_map(|_| noise.next_word().to_be_bytes()).take(len).collect()
}

/// Makes the image with the reference; returns what it holds.
fn create(dir: &Path, shape: &Shape) -> Vec<u8> {
    let mut disk = vec![0; DISK_BYTES];
    let mut backing = "";
    if shape.backing {
        let data = bytes(BACKING_BYTES, 99);
        disk[..BACKING_BYTES].copy_from_slice(&data);
        fs::write(dir.join("base.raw"), &data).expect("the base is written");
        reference().run(dir, "convert -f raw -O qcow2 -c base.raw base.qcow2").ok();
        backing = "-b base.qcow2 -F qcow2";
    }
    let options = shape.options;
    reference().run(dir, &format!("create -q -f qcow2 {backing} -o {options} {IMAGE} {DISK_BYTES}")).ok();
    disk
}

fn agrees_with_the_array(shape: &Shape, steps: &[Step]) -> Result<(), TestCaseError> {
    let dir = scratch();
    let mut pair = Pair::open(dir.path(), create(dir.path(), shape));
    for step in steps {
        pair.apply(step)?;
    }
    let disk = pair.finish()?;
    fs::write(dir.path().join("model.raw"), disk).expect("the model is written");
    let check = reference().run(dir.path(), &format!("check -f qcow2 {IMAGE}"));
    prop_assert_eq!(check.code(), Some(0), "{}", check);
    let compare = reference().run(dir.path(), &format!("compare -f qcow2 -F raw {IMAGE} model.raw"));
    prop_assert_eq!(compare.code(), Some(0), "{}", compare);
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, max_shrink_iters: 400, ..Config::default() })]

    #[test]
    fn random_operations_agree_with_an_array_of_bytes(
        shape in shape(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        agrees_with_the_array(&shape, &steps)?;
    }
}
