//! Whatever request to the storage fails, the error is told and the image that is left is consistent.
//!
//! The storage is a disk in memory. A fixed script of writes runs once to count the requests; then again with one of
//! them and all after it failing, for each of them or for evenly spaced ones if there are many. What is left must pass the reference's `check`: leaks are allowed, damage is not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use qemu_block::error::Result;
use qemu_block::mem::{MemDisk, MemDriver, MemOp, When};
use qemu_block::node::Node;
use qemu_block::registry::{OpenContext, OpenSpec};
use qemu_block::types::{OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::{IoBytes, IoVec};
use test_support::programs::reference;

use crate::fixture::{scratch, small_images};
use crate::model::{block_on, registry};

/// ENOSPC on every Linux architecture that the workspace is built for.
const ENOSPC: i32 = 28;

/// EIO, likewise.
const EIO: i32 = 5;

/// About how many requests of one kind fail in turn, for one image.
const POINTS_MAX: u64 = 64;

/// A memory disk with the bytes of `image`.
fn disk_of(image: &str) -> MemDisk {
    let bytes = fs::read(small_images().join(image)).expect("the image can be read");
    let disk = MemDisk::growable(bytes.len() as u64);
    disk.write_at(0, &bytes);
    disk
}

/// Opens the qcow2 image that `disk` holds.
async fn open(disk: &MemDisk) -> Result<Arc<Node>> {
    let driver = MemDriver::new();
    driver.insert("disk", disk.clone());
    let mut registry = registry();
    registry.register(Arc::new(driver));
    let spec = OpenSpec::file("mem:disk").with_driver(Some("qcow2")).with_flags(OpenFlags::WRITE | OpenFlags::UNMAP);
    OpenContext::new(Arc::new(registry)).open(spec).await
}

/// Overwrites, allocates, zeroes, discards and reuses; returns the first error, the close's included.
async fn script(disk: &MemDisk) -> Result<()> {
    let node = open(disk).await?;
    let changed = changes(&node).await;
    let closed = node.close().await;
    changed.and(closed)
}

async fn changes(node: &Node) -> Result<()> {
    let data = |byte: u8, len: usize| IoVec::from(IoBytes::copy_of(&vec![byte; len]));
    for n in 0..6_u8 {
        let offset = u64::from(n) * 200_000;
        node.write(offset, data(n + 1, 30_000), WriteFlags::default()).await?;
        node.write_zeroes(offset + 10_000, 70_000, ZeroFlags::MAY_UNMAP).await?;
        node.flush().await?;
        node.discard(offset, 131_072).await?;
        node.write(offset + 65_536, data(n + 101, 66_000), WriteFlags::default()).await?;
    }
    node.flush().await
}

/// Demands that the reference finds nothing worse than leaks in what `disk` holds.
fn is_sound(dir: &Path, disk: &MemDisk, what: &str) {
    fs::write(dir.join("left.qcow2"), disk.to_vec()).expect("the disk is written");
    let check = reference().run(dir, "check -f qcow2 left.qcow2");
    assert!(matches!(check.code(), Some(0 | 3)), "{what}: {check}");
}

/// Runs the script with each request of kind `op` failing in turn.
fn fails_soundly(image: &str, op: MemOp, errno: i32) {
    let dir = scratch();
    let disk = disk_of(image);
    block_on(script(&disk)).expect("the script succeeds when nothing fails");
    is_sound(dir.path(), &disk, "without a failure");
    let count = disk.control().count(op);
    // Small clusters make many requests; every so many of them is tried then.
    let step = usize::try_from(count / POINTS_MAX).expect("a short script") + 1;
    for n in (1..=count).step_by(step) {
        let disk = disk_of(image);
        disk.control().fail(op, When::From(n), errno);
        let result = block_on(script(&disk));
        let what = format!("{image}: {op:?} {n} of {count}");
        // A discard and the storage's own zeroing are offers: there is another way, or no need.
        let must_tell = matches!(op, MemOp::Write | MemOp::Flush | MemOp::Read);
        assert!(result.is_err() || !must_tell, "{what}: nobody was told");
        is_sound(dir.path(), &disk, &what);
    }
}

#[test]
fn a_failing_write_leaves_a_sound_image() {
    for image in ["plain.qcow2", "c512.qcow2", "r1.qcow2", "zlib.qcow2"] {
        fails_soundly(image, MemOp::Write, ENOSPC);
    }
}

#[test]
fn a_failing_flush_leaves_a_sound_image_and_is_told() {
    for image in ["plain.qcow2", "r64.qcow2", "zlib.qcow2"] {
        fails_soundly(image, MemOp::Flush, EIO);
    }
}

#[test]
fn a_failing_read_leaves_a_sound_image() {
    for image in ["plain.qcow2", "zstd.qcow2"] {
        fails_soundly(image, MemOp::Read, EIO);
    }
}

#[test]
fn failing_discards_and_zeroes_leave_a_sound_image() {
    for op in [MemOp::Discard, MemOp::Zero, MemOp::Truncate] {
        fails_soundly("plain.qcow2", op, EIO);
    }
}
