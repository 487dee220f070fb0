//! The copy over memory disks: order, failures, and what ends up where.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use proptest::prelude::*;
use qemu_block::backend::BlockBackend;
use qemu_block::mem::{LogEntry, MemDisk, MemOp, When};
use qemu_block::types::OpenFlags;
use qemu_util::buf::BufPool;
use qemu_util::primitive::Mutex;

use super::copy::{CopyRules, FailedStep, Failure, Finished, Origin, Watch, copy};
use super::piece::Writer;
use super::plan::{Cursor, Piece, PlanRules, Work, ZeroRule, count_data};
use super::sink::Sink;
use super::source::Sources;
use super::sparse::ZeroDetection;
use crate::cli::common::ImageArg;
use crate::session::Session;

/// Length of a piece in these tests, in bytes.
const PIECE: u64 = 64 << 10;

#[derive(Default)]
struct Watched {
    copied: Mutex<u64>,
    /// Bytes that asked whether they may be written.
    announced: Mutex<u64>,
    /// Interrupts when this many bytes were copied.
    interrupt_at: Option<u64>,
}

impl Watch for Watched {
    fn copied(&self, bytes: u64) {
        *self.copied.lock() += bytes;
    }

    fn interrupted(&self) -> bool {
        self.interrupt_at.is_some_and(|at| *self.copied.lock() >= at)
    }

    fn may_write(&self, bytes: u64) -> BoxFuture<'_, ()> {
        *self.announced.lock() += bytes;
        ready(()).boxed()
    }
}

/// Polls until nothing more happens by itself.
fn settle<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Poll::Ready(output);
        }
    }
    Poll::Pending
}

fn complete<F: Future>(future: F) -> F::Output {
    match settle(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("hangs"),
    }
}

fn rules(tasks: usize, in_order: bool) -> CopyRules {
    let zeros = ZeroRule::Skip;
    CopyRules {
        plan: PlanRules { data_max: PIECE, cluster: None, zeros, read_inherited: false, target_backing_len: None },
        writer: Writer { detection: ZeroDetection::new(4096, 1), compressed_cluster: None, zeros },
        tasks,
        in_order,
        copy_range: false,
    }
}

/// A disk without holes and without zeros.
fn full_disk(pieces: u64) -> MemDisk {
    let disk = MemDisk::new(pieces * PIECE);
    for piece in 0..pieces {
        let byte = u8::try_from(piece % 250 + 1).expect("small");
        disk.write_at(piece * PIECE, &vec![byte; usize::try_from(PIECE).expect("small")]);
    }
    disk
}

fn sources(disks: &[&MemDisk]) -> Sources {
    let nodes = disks.iter().map(|disk| disk.node(OpenFlags::empty())).collect();
    Sources::new(nodes, false, BufPool::new(), None).expect("small enough")
}

fn backend(disk: &MemDisk) -> BlockBackend {
    BlockBackend::new(disk.node(OpenFlags::WRITE))
}

fn run(source: &MemDisk, target: &MemDisk, rules: CopyRules) -> Result<Finished, Failure> {
    let watched = Watched::default();
    complete(copy(
        Origin::Images(&sources(&[source])),
        Sink::Image(&backend(target)),
        rules,
        &BufPool::new(),
        None,
        &watched,
    ))
}

fn write_offsets(target: &MemDisk) -> Vec<u64> {
    let offset = |entry: LogEntry| match entry {
        LogEntry::Write { offset, .. } => Some(offset),
        _ => None,
    };
    target.take_log().into_iter().filter_map(offset).collect()
}

#[test]
fn in_order_writes_wait_for_the_earlier_ones() {
    let (source, target) = (full_disk(8), MemDisk::new(8 * PIECE));
    target.start_log();
    let hold = source.control().hold(MemOp::Read, 0..1);
    let (from, to, watched, buffers) = (sources(&[&source]), backend(&target), Watched::default(), BufPool::new());
    let mut copying = pin!(copy(Origin::Images(&from), Sink::Image(&to), rules(4, true), &buffers, None, &watched));
    assert!(settle(copying.as_mut()).is_pending());
    // Every task has a piece and has read it, but the first one comes first.
    assert_eq!((source.control().count(MemOp::Read), target.control().count(MemOp::Write)), (4, 0));
    drop(hold);
    assert!(matches!(settle(copying.as_mut()), Poll::Ready(Ok(Finished::Completely))));
    assert_eq!(write_offsets(&target), (0..8).map(|piece| piece * PIECE).collect::<Vec<_>>());
    assert_eq!((target.to_vec(), *watched.copied.lock()), (source.to_vec(), 8 * PIECE));
}

#[test]
fn out_of_order_writes_do_not_wait() {
    let (source, target) = (full_disk(8), MemDisk::new(8 * PIECE));
    target.start_log();
    let hold = source.control().hold(MemOp::Read, 0..1);
    let (from, to, watched, buffers) = (sources(&[&source]), backend(&target), Watched::default(), BufPool::new());
    let mut copying = pin!(copy(Origin::Images(&from), Sink::Image(&to), rules(4, false), &buffers, None, &watched));
    assert!(settle(copying.as_mut()).is_pending());
    assert_eq!(target.control().count(MemOp::Write), 7);
    drop(hold);
    assert!(matches!(settle(copying.as_mut()), Poll::Ready(Ok(Finished::Completely))));
    assert_eq!(write_offsets(&target).last(), Some(&0));
    assert_eq!(target.to_vec(), source.to_vec());
}

#[test]
fn the_failure_at_the_lowest_offset_is_reported() {
    for in_order in [true, false] {
        let (source, target) = (full_disk(8), MemDisk::new(8 * PIECE));
        source.control().fail(MemOp::Read, When::From(1), libc_eio());
        source.control().delay(MemOp::Read, 3);
        let failure = run(&source, &target, rules(4, in_order)).expect_err("nothing can be read");
        assert_eq!((failure.offset, failure.step, failure.error.errno()), (0, FailedStep::Read, libc_eio()));
        assert_eq!(target.control().count(MemOp::Write), 0);
    }
}

#[test]
fn a_failed_write_stops_all_tasks() {
    let (source, target) = (full_disk(64), MemDisk::new(64 * PIECE));
    target.control().fail(MemOp::Write, When::Nth(3), libc_eio());
    let failure = run(&source, &target, rules(4, true)).expect_err("the third write fails");
    assert_eq!((failure.offset, failure.step), (2 * PIECE, FailedStep::Write));
    assert_eq!(target.control().count(MemOp::Write), 3);
    assert!(source.control().count(MemOp::Read) <= 8);
}

#[test]
fn a_failed_lookup_is_reported() {
    let (source, target) = (full_disk(4), MemDisk::new(4 * PIECE));
    source.control().fail(MemOp::Status, When::Nth(1), libc_eio());
    let failure = run(&source, &target, rules(2, true)).expect_err("unknown content");
    assert_eq!((failure.offset, failure.step), (0, FailedStep::BlockStatus));
}

#[test]
fn an_interruption_ends_the_copy_early() {
    let (source, target) = (full_disk(64), MemDisk::new(64 * PIECE));
    let watched = Watched { interrupt_at: Some(3 * PIECE), ..Watched::default() };
    let (from, to, buffers) = (sources(&[&source]), backend(&target), BufPool::new());
    let copied = complete(copy(Origin::Images(&from), Sink::Image(&to), rules(2, true), &buffers, None, &watched))
        .expect("no failure");
    assert_eq!(copied, Finished::Interrupted);
    assert!(target.control().count(MemOp::Write) <= 6);
}

#[test]
fn cost_follows_the_data_and_not_the_size() {
    let (source, target) = (MemDisk::new(1 << 60), MemDisk::new(1 << 60));
    source.write_at(1 << 50, &[7; 4096]);
    run(&source, &target, rules(8, true)).expect("copied");
    let control = source.control();
    assert!(control.count(MemOp::Status) < 10, "{} look-ups", control.count(MemOp::Status));
    assert_eq!((control.count(MemOp::Read), target.allocated_bytes()), (1, 4096));
}

#[test]
fn odd_lengths_are_padded_and_laid_end_to_end() {
    let (first, second) = (MemDisk::from_bytes(&[1; 700]), MemDisk::from_bytes(&[2; 3]));
    let target = MemDisk::new(1536);
    let from = sources(&[&first, &second]);
    assert_eq!(from.total(), 1536);
    complete(copy(
        Origin::Images(&from),
        Sink::Image(&backend(&target)),
        rules(2, true),
        &BufPool::new(),
        None,
        &Watched::default(),
    ))
    .expect("copied");
    let mut expected = [vec![1; 700], vec![0; 324], vec![2; 3]].concat();
    expected.resize(1536, 0);
    assert_eq!(target.to_vec(), expected);
}

#[test]
fn a_source_that_shrinks_is_noticed() {
    let source = MemDisk::from_bytes(&[1; 8192]);
    let node = source.node(OpenFlags::WRITE);
    let from = Sources::new(vec![Arc::clone(&node)], false, BufPool::new(), None).expect("small enough");
    from.check_not_shrunk().expect("still whole");
    complete(node.truncate(4096, qemu_block::types::PreallocMode::Off)).expect("truncated");
    from.check_not_shrunk().expect_err("half of it is gone");
    assert!(complete(from.extent(4096, 4096)).is_err());
}

#[test]
fn a_file_that_shrinks_is_noticed_although_its_node_remembers_the_length() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("image");
    std::fs::write(&path, [1; 8192]).expect("written");
    let session = Session::new().expect("a session");
    session.block_on(async {
        let name = path.to_str().expect("plain").to_owned();
        let image = ImageArg { name, format: Some("raw".to_owned()), ..ImageArg::default() };
        let node = session.open_image(&image, OpenFlags::empty()).await.expect("opened");
        let from = Sources::new(vec![node], false, BufPool::new(), None).expect("small enough");
        from.check_not_shrunk().expect("still whole");
        std::fs::write(&path, [1; 4096]).expect("shortened");
        from.check_not_shrunk().expect_err("half of it is gone");
    });
}

#[test]
fn salvaging_loses_only_what_cannot_be_read() {
    let source = MemDisk::from_bytes(&[1; 4096]);
    // The read of the whole, then the second sector of eight.
    source.control().fail(MemOp::Read, When::Nth(1), libc_eio());
    source.control().fail(MemOp::Read, When::Nth(3), libc_eio());
    let lost = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&lost);
    let tell: Box<super::OnUnreadable> = Box::new(move |offset, _| notes.lock().push(offset));
    let from = Sources::new(vec![source.node(OpenFlags::empty())], false, BufPool::new(), Some(tell)).expect("small");
    let read = complete(from.read(0, 4096)).expect("salvaged");
    assert_eq!(*lost.lock(), [512]);
    assert_eq!(read[..], [vec![1; 512], vec![0; 512], vec![1; 3072]].concat());
}

#[test]
fn full_allocation_writes_zeros_as_data() {
    let (source, target) = (MemDisk::new(4 * PIECE), MemDisk::new(4 * PIECE));
    source.write_at(PIECE, &[1; 512]);
    let mut all = rules(2, true);
    all.plan.zeros = ZeroRule::Store;
    all.writer = Writer { detection: None, compressed_cluster: None, zeros: ZeroRule::Store };
    run(&source, &target, all).expect("copied");
    assert_eq!((target.to_vec(), target.allocated_bytes()), (source.to_vec(), 4 * PIECE));
    assert_eq!(target.control().count(MemOp::Zero), 0);
}

#[test]
fn every_byte_of_data_asks_the_limit_first() {
    for in_order in [true, false] {
        let (source, target) = (MemDisk::new(8 * PIECE), MemDisk::new(8 * PIECE));
        source.write_at(PIECE, &[1; 512]);
        source.write_at(5 * PIECE, &[1; 2 * 65536]);
        let watched = Watched::default();
        let rules = rules(4, in_order);
        let (from, to) = (sources(&[&source]), backend(&target));
        complete(copy(Origin::Images(&from), Sink::Image(&to), rules, &BufPool::new(), None, &watched))
            .expect("copied");
        let (announced, copied) = (*watched.announced.lock(), *watched.copied.lock());
        assert!(512 + 2 * PIECE <= announced && announced <= copied, "{announced} of {copied}");
    }
}

#[test]
fn zeros_are_requested_where_the_target_may_hold_something() {
    let (source, target) = (MemDisk::new(4 * PIECE), full_disk(4));
    source.write_at(PIECE, &[1; 512]);
    let mut request = rules(2, true);
    request.plan.zeros = ZeroRule::Request;
    request.writer.zeros = ZeroRule::Request;
    run(&source, &target, request).expect("copied");
    assert_eq!(target.to_vec(), source.to_vec());
}

fn pieces(source: &MemDisk, rules: PlanRules) -> Vec<Piece> {
    let (mut cursor, from) = (Cursor::new(rules), sources(&[source]));
    let mut pieces = Vec::new();
    while let Some(piece) = complete(cursor.next(&from)).expect("known") {
        pieces.push(piece);
    }
    pieces
}

#[test]
fn compressed_data_comes_in_whole_clusters() {
    let source = MemDisk::new(3 * PIECE + 4096);
    source.write_at(PIECE + 8192, &[1; 4096]);
    let plan = PlanRules {
        data_max: PIECE,
        cluster: Some(16 << 10),
        zeros: ZeroRule::Skip,
        read_inherited: false,
        target_backing_len: None,
    };
    let expected = Piece { ticket: 0, offset: PIECE, len: 16 << 10, work: Work::Copy };
    assert_eq!(pieces(&source, plan), [expected]);
    assert_eq!(complete(count_data(plan, &sources(&[&source]))).expect("known"), 16 << 10);
}

#[test]
fn zeros_behind_the_backing_file_need_no_request() {
    let source = MemDisk::new(4 * PIECE);
    let plan = PlanRules {
        data_max: PIECE,
        cluster: None,
        zeros: ZeroRule::Request,
        read_inherited: false,
        target_backing_len: Some(PIECE + 512),
    };
    let expected = Piece { ticket: 0, offset: 0, len: PIECE + 512, work: Work::Zero };
    assert_eq!(pieces(&source, plan), [expected]);
}

/// `EIO`, without a dependency for one number.
fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the source holds and however it is copied, the target reads the same, and pieces follow one another.
    #[test]
    fn the_target_equals_the_source(
        writes in prop::collection::vec((0_u64..1 << 20, 1_usize..100_000, 0_u8..3), 0..12),
        sparse_size in prop::sample::select(vec![0_u64, 512, 4096, 12 << 10, 1 << 20]),
        tasks in 1_usize..9,
        in_order: bool,
        dirty_target: bool,
    ) {
        let (source, target) = (MemDisk::new((1 << 20) + 100_352), MemDisk::new((1 << 20) + 100_352));
        for (offset, len, byte) in writes {
            source.write_at(offset, &vec![byte; len]);
        }
        if dirty_target {
            target.write_at(0, &vec![0xaa; usize::try_from(target.len()).expect("small")]);
        }
        let zeros = match (sparse_size, dirty_target) {
            (0, _) => ZeroRule::Store,
            (_, true) => ZeroRule::Request,
            (_, false) => ZeroRule::Skip,
        };
        let mut rules = rules(tasks, in_order);
        rules.plan.zeros = zeros;
        rules.writer = Writer { detection: ZeroDetection::new(sparse_size, 512), compressed_cluster: None, zeros };
        run(&source, &target, rules).expect("copied");
        prop_assert_eq!(target.to_vec(), source.to_vec());
        let mut end = 0;
        for (ticket, piece) in (0..).zip(pieces(&source, rules.plan)) {
            prop_assert!(piece.ticket == ticket && piece.offset >= end && piece.len > 0);
            end = piece.offset + piece.len;
        }
    }
}
