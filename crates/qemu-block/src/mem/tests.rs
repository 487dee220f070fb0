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
