//! Bits that flip, and files that are cut: an error, or the right data, or what a flipped pointer names; never a panic.

use qemu_block::mem::MemDisk;
use qemu_block::node::Node;
use qemu_block::types::{CheckFixes, OpenFlags};

use crate::hostile::image::{
    BITMAP_DATA, BITMAP_TABLE, BITMAPS, COMPRESSED, Image, L1, L2, REFBLOCK, REFTABLE, SNAPSHOT_L1, SNAPSHOT_L2,
    SNAPSHOTS,
};
use crate::mem::{MemBench, fill};
use crate::support::block_on;

/// Clusters of 512 bytes, so that the metadata is a few thousand bytes.
const CLUSTER: usize = 512;
/// Guest clusters that are compared.
const CLUSTERS: u64 = 64;
/// Bits of one cluster of metadata that are flipped.
const FLIPS: u64 = 400;

fn sample() -> Vec<u8> {
    let mut image = Image::with_geometry(9, 4);
    image.add_everything();
    image.disk().to_vec()
}

/// What each guest cluster reads as; none for an error.
fn clusters(node: &Node) -> Vec<Option<Vec<u8>>> {
    let n = (node.len() / CLUSTER as u64).min(CLUSTERS);
    (0..n).map(|i| block_on(node.read_bytes(i * CLUSTER as u64, CLUSTER)).ok().map(|bytes| bytes.to_vec())).collect()
}

/// Opens, checks, reads and writes an image; returns what it reads as if it can be opened.
fn use_image(bytes: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let bench = MemBench::new();
    bench.insert("a", MemDisk::from_bytes(bytes));
    if let Ok(node) = bench.open("a", OpenFlags::CHECK) {
        drop(block_on(node.check(CheckFixes::Nothing)));
        block_on(node.close()).expect("closed");
    }
    let node = bench.open("a", OpenFlags::empty()).ok()?;
    drop(block_on(node.info()));
    let read = clusters(&node);
    block_on(node.close()).expect("closed");
    if let Ok(node) = bench.open("a", OpenFlags::WRITE) {
        for offset in [0, 1024, 1536, 2048] {
            if offset + 512 <= node.len() {
                drop(block_on(fill(&node, offset, 512, 0x5a)));
            }
        }
        drop(block_on(node.flush()));
        drop(block_on(node.close()));
    }
    Some(read)
}

/// A different number each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Flips bits of a cluster, one at a time.
fn flip(cluster: u64, mut judge: impl FnMut(&str, &[u8], Option<Vec<Option<Vec<u8>>>>)) {
    let seed = 0x5eed ^ cluster;
    let mut random = Random(seed);
    let good = sample();
    for _ in 0..FLIPS {
        let (byte, bit) = (random.below(CLUSTER as u64), random.below(8));
        let mut bytes = good.clone();
        bytes[usize::try_from(cluster * CLUSTER as u64 + byte).expect("small")] ^= 1 << bit;
        let read = use_image(&bytes);
        judge(&format!("seed {seed:#x}: cluster {cluster}, byte {byte}, bit {bit}"), &bytes, read);
    }
}

#[test]
fn flipped_bits_of_the_header_are_survived() {
    flip(0, |_, _, _| {});
}

#[test]
fn flipped_bits_that_say_nothing_about_the_disk_change_nothing() {
    let right = use_image(&sample()).expect("it is fine");
    for cluster in [REFTABLE, REFBLOCK, SNAPSHOTS, SNAPSHOT_L1, SNAPSHOT_L2, BITMAPS, BITMAP_TABLE, BITMAP_DATA] {
        flip(cluster, |flipped, _, read| {
            let Some(read) = read else { return };
            for (i, (read, right)) in read.iter().zip(&right).enumerate() {
                assert!(read.is_none() || read == right, "{flipped}: guest cluster {i}");
            }
        });
    }
}

#[test]
fn flipped_bits_of_pointers_lead_to_clusters() {
    let right = use_image(&sample()).expect("it is fine");
    for cluster in [L1, L2] {
        flip(cluster, |flipped, bytes, read| {
            for (i, read) in read.expect("the header is fine").iter().enumerate() {
                let Some(read) = read else { continue };
                // Any cluster of the file, zeros, or what the only compressed cluster holds.
                let legal = read.iter().all(|byte| *byte == 0)
                    || right.contains(&Some(read.clone()))
                    || bytes.chunks(CLUSTER).any(|there| there == read);
                assert!(legal, "{flipped}: guest cluster {i} reads as {:x?}", &read[..16]);
            }
        });
    }
}

#[test]
fn a_cut_at_any_sector_is_reported_by_a_check_and_by_reading() {
    let mut image = Image::plain();
    // The last thing in the file is compressed data, of less than a sector.
    let end = image.at(COMPRESSED) + 512;
    image.set_len(end);
    let whole = image.disk().to_vec();
    assert!(is_reported(&whole) == (false, false), "the whole file is fine");
    for len in (0..end).step_by(512) {
        let reported = is_reported(&whole[..usize::try_from(len).expect("small")]);
        assert_eq!(reported, (true, true), "cut to {len} bytes: by a check, by reading");
    }
}

#[test]
fn a_cut_of_what_only_snapshots_and_bitmaps_use_is_reported_by_a_check() {
    let image = Image::full();
    let whole = image.disk().to_vec();
    assert!(!is_reported(&whole).0, "the whole file is fine");
    for len in (0..=image.at(BITMAP_DATA)).step_by(512) {
        let (checked, _) = is_reported(&whole[..usize::try_from(len).expect("small")]);
        assert!(checked, "cut to {len} bytes");
    }
}

/// Whether a check finds damage, and whether reading everything fails.
fn is_reported(bytes: &[u8]) -> (bool, bool) {
    let bench = MemBench::new();
    bench.insert("a", MemDisk::from_bytes(bytes));
    let checked = bench.open("a", OpenFlags::CHECK).and_then(|node| block_on(node.check(CheckFixes::Nothing)));
    let checked = checked.map_or(true, |report| report.corruptions + report.check_errors > 0);
    let read = bench.open("a", OpenFlags::empty()).and_then(|node| {
        let len = usize::try_from(node.len()).expect("small");
        block_on(node.read_bytes(0, len))
    });
    (checked, read.is_err())
}
