//! Tests of the in-memory protocol.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use qemu_util::buf::{IoBuf, IoVec};

use super::*;
use crate::aio::test_support::block_on;
use crate::error::ErrorKind;
use crate::types::{PreallocMode, WriteFlags, ZeroFlags};

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn data(bytes: &[u8]) -> IoVec {
    IoBuf::copy_of(bytes).into()
}

#[test]
fn an_exabyte_costs_what_is_written() {
    let disk = MemDisk::new(1 << 60);
    let node = disk.node(OpenFlags::WRITE);
    block_on(node.write((1 << 59) - 3, data(b"abcdef"), WriteFlags::empty())).expect("inside");
    assert_eq!(&block_on(node.read_bytes((1 << 59) - 4, 8)).expect("inside")[..], b"\0abcdef\0");
    assert_eq!(disk.allocated_bytes(), 8192);
    let hole = block_on(node.block_status(0, 1 << 60)).expect("inside");
    assert!(hole.is_zero() && hole.len == (1 << 59) - 4096);
    let written = block_on(node.block_status(hole.len, 1 << 40)).expect("inside");
    assert!(written.is_data() && written.len == 8192);
    block_on(node.write_zeroes(0, 1 << 60, ZeroFlags::empty())).expect("cheap");
    assert_eq!(disk.allocated_bytes(), 0);
}

#[test]
fn growable_disks_grow_and_others_do_not() {
    let fixed = MemDisk::new(10).node(OpenFlags::WRITE | OpenFlags::RESIZE);
    assert!(block_on(fixed.write(5, data(&[1; 10]), WriteFlags::empty())).is_err());
    assert!(block_on(fixed.truncate(20, PreallocMode::Off)).is_err());
    let disk = MemDisk::from_bytes(b"0123456789");
    let node = disk.node(OpenFlags::WRITE | OpenFlags::RESIZE);
    block_on(node.write(5, data(b"abcdefgh"), WriteFlags::empty())).expect("it grows");
    assert_eq!(disk.to_vec(), b"01234abcdefgh");
    block_on(node.truncate(3, PreallocMode::Off)).expect("it shrinks");
    block_on(node.truncate(6, PreallocMode::Off)).expect("it grows");
    assert_eq!(disk.to_vec(), b"012\0\0\0");
}

#[test]
fn chosen_requests_fail() {
    let disk = MemDisk::growable(100);
    let node = disk.node(OpenFlags::WRITE);
    let write = || block_on(node.write(0, data(b"x"), WriteFlags::empty()));
    disk.control().fail(MemOp::Write, When::Nth(2), libc::ENOSPC);
    write().expect("the first");
    let error = write().expect_err("the second");
    assert_eq!((error.errno(), error.kind()), (libc::ENOSPC, ErrorKind::NoSpace));
    write().expect("the third");
    disk.control().fail(MemOp::Write, When::From(1), libc::EIO);
    assert_eq!(write().expect_err("all").errno(), libc::EIO);
    assert_eq!(write().expect_err("all").errno(), libc::EIO);
    disk.control().heal();
    write().expect("healed");
    assert_eq!((disk.control().count(MemOp::Write), disk.control().count(MemOp::Read)), (6, 0));
}

#[test]
fn held_requests_wait_and_others_pass() {
    let disk = MemDisk::growable(100);
    let node = disk.node(OpenFlags::WRITE);
    let hold = disk.control().hold(MemOp::Write, 10..20);
    let mut held = pin!(node.write(15, data(b"late"), WriteFlags::empty()));
    let mut arrived = Box::pin(hold.arrived(1));
    assert!(poll(arrived.as_mut()).is_pending());
    assert!(poll(held.as_mut()).is_pending());
    assert!(poll(arrived.as_mut()).is_ready());
    drop(arrived);
    assert_eq!(hold.waiting(), 1);
    block_on(node.write(30, data(b"soon"), WriteFlags::empty())).expect("not held");
    let mut before = [1; 4];
    disk.read_at(15, &mut before);
    assert_eq!(before, [0; 4]);
    drop(hold);
    assert!(matches!(poll(held.as_mut()), Poll::Ready(Ok(()))));
    disk.read_at(15, &mut before);
    assert_eq!(&before, b"late");
}

#[test]
fn a_dropped_request_is_not_waited_for() {
    let disk = MemDisk::growable(100);
    let node = disk.node(OpenFlags::WRITE);
    let hold = disk.control().hold(MemOp::Write, 0..100);
    let mut held = Box::pin(node.write(0, data(b"never"), WriteFlags::empty()));
    assert!(poll(held.as_mut()).is_pending());
    drop(held);
    assert_eq!(hold.waiting(), 0);
    drop(hold);
    assert_eq!(disk.to_vec(), [0; 100]);
}

#[test]
fn delays_let_others_overtake() {
    let disk = MemDisk::growable(100);
    let node = disk.node(OpenFlags::WRITE);
    disk.control().delay(MemOp::Write, 2);
    let mut write = pin!(node.write(0, data(b"x"), WriteFlags::empty()));
    assert!(poll(write.as_mut()).is_pending());
    assert!(poll(write.as_mut()).is_pending());
    assert_eq!(disk.to_vec()[0], 0);
    assert!(poll(write.as_mut()).is_ready());
}

#[test]
fn the_log_replays_to_the_same_disk() {
    let disk = MemDisk::growable(0);
    let node = disk.node(OpenFlags::WRITE | OpenFlags::RESIZE);
    disk.start_log();
    block_on(async {
        node.write(100, data(b"abc"), WriteFlags::empty()).await?;
        node.flush().await?;
        node.write_zeroes(101, 1, ZeroFlags::empty()).await?;
        node.truncate(200, PreallocMode::Off).await
    })
    .expect("nothing fails");
    let log = disk.take_log();
    let flush = log.iter().position(|entry| *entry == LogEntry::Flush).expect("it was flushed");
    assert_eq!(flush, 1);
    assert_eq!(MemDisk::replay(0, &log).to_vec(), disk.to_vec());
    assert_eq!(&MemDisk::replay(0, &log[..flush]).to_vec()[100..], b"abc");
    assert!(disk.take_log().is_empty());
}

#[test]
fn a_fork_shares_content_until_one_side_changes_it() {
    let disk = MemDisk::from_bytes(&[7; 10_000]);
    let fork = disk.fork();
    assert_eq!((fork.digest(), fork.len()), (disk.digest(), 10_000));
    fork.apply(&LogEntry::Write { offset: 5000, data: vec![8; 3] });
    assert_eq!(&disk.to_vec()[4999..5004], [7; 5]);
    assert_eq!(&fork.to_vec()[4999..5004], [7, 8, 8, 8, 7]);
    assert_ne!(fork.digest(), disk.digest());
    fork.apply(&LogEntry::Write { offset: 5000, data: vec![7; 3] });
    assert_eq!(fork.digest(), disk.digest());
    fork.apply(&LogEntry::Zero { offset: 0, len: 20_000 });
    // Pages of zeros are as good as none.
    let zeros = MemDisk::growable(20_000);
    zeros.write_at(100, &[0; 50]);
    assert_eq!(fork.digest(), zeros.digest());
}

#[test]
fn requests_of_any_kind_fail_and_writes_fail_halfway() {
    let disk = MemDisk::growable(10_000);
    let node = disk.node(OpenFlags::WRITE);
    disk.control().inject(None, When::Nth(2), Fault::Short { bytes: 3, errno: libc::EIO });
    disk.control().inject(None, When::Nth(4), Fault::Short { bytes: 0, errno: libc::EINTR });
    block_on(node.flush()).expect("the first");
    assert_eq!(block_on(node.write(0, data(b"abcdef"), WriteFlags::empty())).expect_err("short").errno(), libc::EIO);
    assert_eq!(&disk.to_vec()[..6], b"abc\0\0\0");
    block_on(node.write_zeroes(1, 1, ZeroFlags::empty())).expect("the third");
    assert_eq!(block_on(node.read_bytes(0, 3)).expect_err("the fourth").errno(), libc::EINTR);
    assert_eq!(disk.control().total(), 4);
    disk.control().fail(MemOp::Close, When::Nth(1), libc::EIO);
    assert_eq!(block_on(node.close()).expect_err("told").errno(), libc::EIO);
}

#[test]
fn a_recorder_knows_what_a_flush_covers() {
    let recorder = Recorder::new();
    let disks = [MemDisk::growable(0), MemDisk::growable(0)];
    disks.iter().enumerate().for_each(|(i, disk)| disk.record(&recorder, i));
    let nodes: Vec<_> = disks.iter().map(|disk| disk.node(OpenFlags::WRITE)).collect();
    let hold = disks[0].control().hold(MemOp::Flush, 0..1);
    let mut flush = pin!(nodes[0].flush());
    assert!(poll(flush.as_mut()).is_pending());
    block_on(nodes[0].write(0, data(b"late"), WriteFlags::empty())).expect("not held");
    recorder.note(5);
    block_on(nodes[1].write(9, data(b"other"), WriteFlags::empty())).expect("not held");
    drop(hold);
    assert!(poll(flush.as_mut()).is_ready());
    let events = recorder.take();
    let [Event::FlushStarted { disk: 0, flush: started }, first, Event::Note(5), second, last] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*first, Event::Changed { disk: 0, change: LogEntry::Write { offset: 0, data: b"late".to_vec() } });
    assert_eq!(*second, Event::Changed { disk: 1, change: LogEntry::Write { offset: 9, data: b"other".to_vec() } });
    assert_eq!(*last, Event::FlushDone { disk: 0, flush: *started });
}

#[test]
fn jumbled_requests_overtake_each_other_as_the_seed_says() {
    let order = |seed| {
        let disk = MemDisk::growable(100);
        disk.control().jumble(seed, 5);
        disk.start_log();
        let node = disk.node(OpenFlags::WRITE);
        let writes = (0..8).map(|i| Box::pin(node.write(i, data(b"x"), WriteFlags::empty())));
        block_on(futures_util::future::join_all(writes)).into_iter().for_each(|done| done.expect("written"));
        disk.take_log()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}
