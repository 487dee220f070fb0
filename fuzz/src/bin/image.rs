//! Arbitrary bytes as an image: opened, checked, read, written and closed.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use qcow2_fuzz::{assert_few_requests, block_on, bounded, insert, mutate, open, write_seeds};
use qemu_block::error::{ErrorKind, Result};
use qemu_block::mem::MemDisk;
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, CheckReport, OpenFlags, PreallocMode, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;

fuzz_target!(init: write_seeds(), |data: &[u8]| bounded(|| use_image(data)));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, seed, |data, len| fuzzer_mutate(data, len, max_size))
});

/// Bytes that are read or written at once.
const PART: u64 = 8 << 10;
/// Extents that are asked for.
const EXTENTS_MAX: u32 = 300;
/// Bytes by which a few small writes may make the file longer.
const GROWTH_MAX: u64 = 64 << 20;

fn use_image(data: &[u8]) {
    let disk = MemDisk::from_bytes(data);
    insert(&disk);
    let before = check();
    read_all();
    assert!(disk.to_vec() == data, "reading changes nothing");
    let written = write();
    assert!(disk.len() <= data.len() as u64 + GROWTH_MAX, "{} bytes became {}", data.len(), disk.len());
    let after = check();
    if let (Some(before), Some(after)) = (before, after)
        && before.corruptions + before.check_errors == 0
        && written.is_ok()
    {
        assert_eq!(after.corruptions + after.check_errors, 0, "it was consistent: {:?}", after.messages);
    }
    assert_few_requests(&disk);
}

fn check() -> Option<CheckReport> {
    let node = open(OpenFlags::CHECK).ok()?;
    let report = block_on(node.check(CheckFixes::Nothing)).ok();
    block_on(node.close()).expect("reading leaves nothing to be written");
    report.inspect(|report| assert!(report.messages.len() <= 1500, "{} messages", report.messages.len()))
}

fn read_all() {
    let Ok(node) = open(OpenFlags::empty()) else { return };
    drop(block_on(node.info()));
    let mut at = 0;
    for _ in 0..EXTENTS_MAX {
        if at >= node.len() {
            break;
        }
        let Ok(status) = block_on(node.block_status(at, node.len() - at)) else { break };
        assert!(0 < status.len && status.len <= node.len() - at);
        read(&node, at, status.len);
        at += status.len;
    }
    read(&node, node.len().saturating_sub(PART), PART);
    block_on(node.close()).expect("reading leaves nothing to be written");
}

fn read(node: &Node, offset: u64, len: u64) {
    let len = len.min(PART).min(node.len() - offset);
    drop(block_on(node.read_bytes(offset, usize::try_from(len).expect("small"))));
}

fn write() -> Result<()> {
    let node = open(OpenFlags::WRITE | OpenFlags::RESIZE | OpenFlags::UNMAP)?;
    let written = block_on(write_parts(&node));
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
        // The driver lives on.
        read(&node, 0, PART);
    }
    let closed = block_on(node.close());
    written.and(closed)
}

async fn write_parts(node: &Node) -> Result<()> {
    let size = node.len();
    for offset in [0, size / 3, size / 2, size.saturating_sub(PART)] {
        let len = PART.min(size - offset);
        let data = vec![0x5a; usize::try_from(len).expect("small")];
        node.write(offset, IoBuf::copy_of(&data).into(), WriteFlags::empty()).await?;
    }
    node.write_zeroes(0, size.min(3 * PART), ZeroFlags::MAY_UNMAP).await?;
    node.flush().await?;
    node.discard(size / 2, PART.min(size - size / 2)).await?;
    let run = node.compress(0, IoBuf::copy_of(&vec![7; usize::try_from(size.min(PART)).expect("small")]).into()).await;
    if let Ok(run) = run {
        node.write_compressed(run).await?;
    }
    let larger = size.saturating_add(1 << 20) / 512 * 512;
    if larger > size {
        node.truncate(larger, PreallocMode::Off).await?;
    }
    node.flush().await
}
