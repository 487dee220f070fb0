//! What bitmaps record: a model, and when they are looked at and written.

use std::ops::Range;

use qemu_block::mem::MemOp;
use qemu_block::types::{OpenFlags, PreallocMode, ZeroFlags};

use super::{Exported, K, M, add, list, marked, names, one, ops, stored};
use crate::mem::{MemBench, fill, is_filled};
use crate::support::block_on;

/// A small generator, so that failures can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A bitmap as a list of grains.
#[derive(Clone)]
struct Model {
    name: String,
    granularity: u64,
    enabled: bool,
    grains: Vec<bool>,
}

impl Model {
    fn new(name: String, granularity: u64, size: u64) -> Self {
        let n = usize::try_from(size.div_ceil(granularity)).expect("small");
        Self { name, granularity, enabled: true, grains: vec![false; n] }
    }

    fn mark(&mut self, range: &Range<u64>) {
        for (grain, start) in
            self.grains.iter_mut().zip((0..).step_by(usize::try_from(self.granularity).expect("small")))
        {
            *grain |= range.start < start + self.granularity && start < range.end;
        }
    }

    fn ranges(&self, size: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (i, _) in (0u64..).zip(&self.grains).filter(|(_, marked)| **marked) {
            let range = i * self.granularity..((i + 1) * self.granularity).min(size);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

/// A writable image and the models of its bitmaps.
struct Session {
    bench: MemBench,
    node: std::sync::Arc<qemu_block::node::Node>,
    models: Vec<Model>,
    size: u64,
    n_names: u64,
}

impl Session {
    fn new(options: &str, size: u64) -> Self {
        let bench = MemBench::with_image(options, size);
        let node = bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
        Self { bench, node, models: Vec::new(), size, n_names: 0 }
    }

    fn write(&mut self, random: &mut Random) {
        let kind = random.below(3);
        // Of a discard only whole clusters reach the image, so it is for whole ones of any size.
        let (unit, n_max) = if kind == 2 { (64 * K, 2) } else { (512, 64) };
        let offset = random.below(self.size / unit) * unit;
        let len = ((1 + random.below(n_max)) * unit).min(self.size - offset);
        for model in self.models.iter_mut().filter(|model| model.enabled) {
            model.mark(&(offset..offset + len));
        }
        let n = usize::try_from(len).expect("small");
        block_on(match kind {
            0 => Box::pin(fill(&self.node, offset, n, 7)) as std::pin::Pin<Box<dyn Future<Output = _>>>,
            1 => Box::pin(self.node.write_zeroes(offset, len, ZeroFlags::MAY_UNMAP)),
            _ => Box::pin(self.node.discard(offset, len)),
        })
        .expect("done");
    }

    fn change_bitmap(&mut self, random: &mut Random) {
        let at = usize::try_from(random.below(self.models.len() as u64)).expect("small");
        let from = usize::try_from(random.below(self.models.len() as u64)).expect("small");
        let name = self.models[at].name.clone();
        let bitmaps = ops(&self.node);
        match random.below(4) {
            0 => {
                block_on(bitmaps.clear(&name)).expect("cleared");
                self.models[at].grains.fill(false);
            }
            1 => {
                let enabled = !self.models[at].enabled;
                block_on(bitmaps.set_enabled(&name, enabled)).expect("switched");
                self.models[at].enabled = enabled;
            }
            2 => {
                block_on(bitmaps.remove(&name)).expect("removed");
                self.models.remove(at);
            }
            _ => {
                let source = block_on(bitmaps.content(&self.models[from].name)).expect("there");
                block_on(bitmaps.merge(&name, &source)).expect("merged");
                let ranges = self.models[from].ranges(self.size);
                ranges.iter().for_each(|range| self.models[at].mark(range));
            }
        }
    }

    fn grow(&mut self, random: &mut Random) {
        self.size += (1 + random.below(8)) * 4096;
        block_on(self.node.truncate(self.size, PreallocMode::Off)).expect("grown");
        for model in &mut self.models {
            let n = self.size.div_ceil(model.granularity);
            model.grains.resize(usize::try_from(n).expect("small"), false);
        }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(16) {
            0..8 => self.write(random),
            8 | 9 if self.models.len() < 6 => {
                let granularity = 512 << random.below(8);
                let name = format!("bitmap {}", self.n_names);
                self.n_names += 1;
                add(&self.node, &name, granularity);
                self.models.push(Model::new(name, granularity, self.size));
            }
            10 => self.grow(random),
            11 => self.reopen(),
            12 => block_on(self.node.flush()).expect("flushed"),
            _ if self.models.is_empty() => {}
            _ => self.change_bitmap(random),
        }
    }

    fn reopen(&mut self) {
        block_on(self.node.close()).expect("closed");
        self.node = self.bench.open("a", OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP).expect("writable");
    }

    fn compare(&self, what: &str) {
        let infos = list(&self.node);
        assert_eq!(infos.len(), self.models.len(), "{what}");
        for (info, model) in infos.iter().zip(&self.models) {
            assert_eq!((&info.name, info.enabled, info.inconsistent), (&model.name, model.enabled, false), "{what}");
            assert_eq!(marked(&self.node, &model.name), model.ranges(self.size), "{what}: {}", model.name);
        }
    }
}

#[test]
fn random_work_leaves_what_a_model_says() {
    for (options, seed) in [("cluster_size=512", 3), ("cluster_size=4k,refcount_bits=64", 99), ("", 4711)] {
        let mut random = Random(seed);
        let mut session = Session::new(options, 300 * K);
        for step in 0..250 {
            session.step(&mut random);
            if step % 10 == 0 {
                session.compare(&format!("{options} seed {seed} step {step}"));
            }
        }
        session.reopen();
        session.compare(&format!("{options} seed {seed} at the end"));
        block_on(session.node.close()).expect("closed");
        session.bench.assert_clean();
        let exported = Exported::new(&session.bench);
        for model in &session.models {
            assert_eq!(exported.marked(&model.name), model.ranges(session.size), "{options} seed {seed}");
        }
    }
}

#[test]
fn nothing_is_read_or_written_before_the_disk_changes() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "b", 64 * K);
    block_on(node.close()).expect("closed");
    let before = bench.disk().to_vec();
    let node = bench.writable();
    assert!(is_filled(&node, 0, 4096, 0));
    block_on(node.info()).expect("info");
    block_on(node.flush()).expect("flushed");
    block_on(node.close()).expect("closed");
    assert!(before == bench.disk().to_vec(), "nobody wrote");
}

#[test]
fn bitmaps_that_record_nothing_are_left_alone() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "idle", 64 * K);
    block_on(fill(&node, M, 512, 1)).expect("written");
    block_on(ops(&node).set_enabled("idle", false)).expect("disabled");
    block_on(node.close()).expect("closed");
    let node = bench.writable();
    block_on(fill(&node, 2 * M, 512, 1)).expect("written");
    block_on(node.flush()).expect("flushed");
    // Not closed: as if the program had died.
    drop(node);
    assert_eq!(names(&bench), "-idle", "it is still right");
    assert_eq!(stored(&bench, "idle"), one(M..M + 64 * K));
}

#[test]
fn marks_are_durable_before_the_first_change() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "b", 64 * K);
    block_on(fill(&node, 0, 64 << 10, 1)).expect("written");
    block_on(node.close()).expect("closed");
    let node = bench.writable();
    let hold = bench.disk().control().hold(MemOp::Flush, 0..u64::MAX);
    let mut write = std::pin::pin!(fill(&node, 0, 512, 2));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(write.as_mut().poll(&mut context).is_pending(), "the write waits until the mark is durable");
    assert_eq!(names(&bench), "!b", "the mark is written");
    let reader = bench.open("a", OpenFlags::empty()).expect("readable");
    assert!(is_filled(&reader, 0, 512, 1), "and nothing else");
    drop(hold);
    block_on(write).expect("written");
    block_on(node.close()).expect("closed");
    assert_eq!(names(&bench), "b");
}

#[test]
fn a_change_that_is_complete_after_a_bitmap_was_cleared_is_in_it() {
    let bench = MemBench::with_image("", 64 * M);
    let node = bench.writable();
    add(&node, "b", 64 * K);
    block_on(fill(&node, 0, 64 << 10, 1)).expect("written");
    let hold = bench.disk().control().hold(MemOp::Write, 0..u64::MAX);
    let mut write = std::pin::pin!(fill(&node, 0, 512, 2));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(write.as_mut().poll(&mut context).is_pending());
    block_on(ops(&node).clear("b")).expect("cleared");
    add(&node, "late", 512);
    drop(hold);
    block_on(write).expect("written");
    assert_eq!(marked(&node, "b"), one(0..64 * K));
    assert_eq!(marked(&node, "late"), one(0..512));
    block_on(node.close()).expect("closed");
}
