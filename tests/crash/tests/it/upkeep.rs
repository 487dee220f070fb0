//! Commands that change what an image says about itself: amend, bitmap, and check that repairs.

use std::ops::Range;

use crash::bench::{Bench, IMAGE};
use crash::chains::{make_chain, make_lazy_chain, make_old_chain, shows_chain, write_image_again, written_ranges};
use crash::commands::{Case, make_source, shows_source, shows_source_unchecked};
use crash::executor::block_on;
use qemu_block::mem::MemOp;
use qemu_block::types::OpenFlags;

use crate::chains::cut_after_failures_of;
use crate::commands::{cut, survive};

/// Fields of the header.
const VERSION: u64 = 4;
const L1_TABLE: u64 = 40;
const REFCOUNT_TABLE: u64 = 48;
const COMPATIBLE_FEATURES: u64 = 80;
const REFCOUNT_ORDER: u64 = 96;
const CLUSTER: u64 = 4096;

fn be64(bench: &Bench, at: u64) -> u64 {
    let mut bytes = [0; 8];
    bench.disk(IMAGE).read_at(at, &mut bytes);
    u64::from_be_bytes(bytes)
}

fn be32(bench: &Bench, at: u64) -> u64 {
    be64(bench, at) >> 32
}

fn says(bench: &Bench, what: &str, found: u64, expected: u64) -> Result<(), String> {
    shows_chain(bench)?;
    if found == expected { Ok(()) } else { Err(format!("{what} is {found}")) }
}

fn amending(options: &'static str, is_done: fn(&Bench) -> Result<(), String>) -> Case {
    // What was in use before may stay so when the storage does not take it back.
    let spared = &[(IMAGE, MemOp::Truncate)];
    Case { line: options, prepare: make_chain, disks: &[IMAGE], spared, is_done, is_sound: shows_chain }
}

fn amendments() -> [Case; 6] {
    [
        amending("amend -o compat=0.10 mem:image", |bench| says(bench, "the version", be32(bench, VERSION), 2)),
        Case {
            prepare: make_old_chain,
            ..amending("amend -o compat=1.1 mem:image", |bench| says(bench, "the version", be32(bench, VERSION), 3))
        },
        amending("amend -o refcount_bits=64 mem:image", |bench| {
            says(bench, "the order", be32(bench, REFCOUNT_ORDER), 6)
        }),
        amending("amend -o refcount_bits=1 mem:image", |bench| {
            says(bench, "the order", be32(bench, REFCOUNT_ORDER), 0)
        }),
        amending("amend -o lazy_refcounts=on mem:image", |bench| {
            says(bench, "the feature", be64(bench, COMPATIBLE_FEATURES), 1)
        }),
        Case {
            prepare: make_lazy_chain,
            ..amending("amend -o lazy_refcounts=off mem:image", |bench| {
                says(bench, "the feature", be64(bench, COMPATIBLE_FEATURES), 0)
            })
        },
    ]
}

#[test]
fn amend_tells_that_it_failed() {
    survive(&amendments());
}

/// The backing file is not changed by options.
#[test]
fn amend_does_not_change_the_backing_file() {
    let bench = Bench::new();
    make_chain(&bench);
    assert!(!bench.command("amend -o backing_file=mem:twin,backing_fmt=qcow2 mem:image"), "rebase does that");
    assert_eq!(shows_chain(&bench), Ok(()));
}

#[test]
fn amend_survives_power_cuts() {
    cut(&amendments());
}

#[test]
fn amend_that_failed_survives_power_cuts() {
    cut_after_failures_of(&amendments()[..4]);
}

/// An image that has a leak, a cluster in use whose count says that it is free, and one whose entry does not say that it
/// belongs to the image alone.
fn damaged(bench: &Bench) {
    make_source(bench, IMAGE, "cluster_size=4k");
    let disk = bench.disk(IMAGE);
    let block = be64(bench, be64(bench, REFCOUNT_TABLE));
    let l2_table = be64(bench, be64(bench, L1_TABLE)) & 0x00ff_ffff_ffff_fe00;
    let first_data = be64(bench, l2_table) & 0x00ff_ffff_ffff_fe00;
    let behind = disk.len().div_ceil(CLUSTER);
    disk.write_at(behind * CLUSTER, &[0x55; 4096]);
    disk.write_at(block + 2 * behind, &[0, 1]);
    disk.write_at(block + 2 * (first_data / CLUSTER), &[0, 0]);
    let third = be64(bench, l2_table + 16) & !(1 << 63);
    disk.write_at(l2_table + 16, &third.to_be_bytes());
}

/// An image that does not know where its counts are.
fn without_counts(bench: &Bench) {
    make_source(bench, IMAGE, "cluster_size=4k");
    let table = be64(bench, REFCOUNT_TABLE);
    bench.disk(IMAGE).write_at(table, &[0; 8]);
}

/// Whether the image shows what it did, and can be repaired still, or again.
fn can_be_repaired(bench: &Bench) -> Result<(), String> {
    shows_source_unchecked(bench)?;
    if !bench.command("check -q -r all mem:image") {
        return Err("it cannot be repaired any more".to_owned());
    }
    is_repaired(bench)
}

fn is_repaired(bench: &Bench) -> Result<(), String> {
    if !bench.command("check -q mem:image") {
        return Err("it is not clean".to_owned());
    }
    shows_source(bench)
}

/// An image with a bitmap that has something, one that has not, and what [`make_chain`] made.
fn with_bitmaps(bench: &Bench) {
    make_chain(bench);
    assert!(bench.command("bitmap --add -g 4k mem:image one"), "a bitmap is added");
    write_image_again(bench);
    assert!(bench.command("bitmap --add -g 4k mem:image two"), "a bitmap is added");
}

/// The bitmaps with the ranges that they mark; none of a bitmap that says itself that it cannot be relied on.
type Bitmaps = Vec<(String, bool, Option<Vec<Range<u64>>>)>;

fn bitmaps(bench: &Bench) -> Result<Bitmaps, String> {
    let found = block_on(async {
        let node = bench.open("qcow2", IMAGE, OpenFlags::empty()).await?;
        let mut found = Vec::new();
        if let Some(bitmaps) = node.bitmaps() {
            for info in bitmaps.list().await? {
                let content = if info.inconsistent { None } else { Some(bitmaps.content(&info.name).await?) };
                let ranges = content.map(|content| content.ranges().collect());
                found.push((info.name, info.enabled, ranges));
            }
        }
        node.close().await.map(|()| found)
    });
    found.map_err(|error| error.chain())
}

/// Whether the bitmaps that can be relied on mark what they did, or what they shall.
fn bitmaps_are_sound(bench: &Bench) -> Result<(), String> {
    shows_chain(bench)?;
    for (name, _, ranges) in bitmaps(bench)? {
        let Some(ranges) = ranges else { continue };
        let may_be_written = name == "one" && ranges == written_ranges();
        let may_be_merged = matches!(name.as_str(), "two" | "three") && ranges == written_ranges();
        if !(may_be_written || may_be_merged || name != "one" && ranges.is_empty()) {
            return Err(format!("bitmap '{name}' marks {ranges:?}"));
        }
    }
    Ok(())
}

fn has_bitmaps(bench: &Bench, expected: &[(&str, bool, bool)]) -> Result<(), String> {
    shows_chain(bench)?;
    let content = |is_marked: bool| Some(if is_marked { written_ranges() } else { Vec::new() });
    let expected: Bitmaps =
        expected.iter().map(|(name, enabled, marked)| ((*name).to_owned(), *enabled, content(*marked))).collect();
    let found = bitmaps(bench)?;
    if found == expected { Ok(()) } else { Err(format!("its bitmaps are {found:?}")) }
}

fn marking(line: &'static str, is_done: fn(&Bench) -> Result<(), String>) -> Case {
    // What could not be read once may be read again, or not matter; the result is judged all the same.
    let spared = &[(IMAGE, MemOp::Truncate), (IMAGE, MemOp::Read)];
    Case { line, prepare: with_bitmaps, disks: &[IMAGE], spared, is_done, is_sound: bitmaps_are_sound }
}

fn markings() -> [Case; 6] {
    [
        marking("bitmap --add -g 4k mem:image three", |bench| {
            has_bitmaps(bench, &[("one", true, true), ("two", true, false), ("three", true, false)])
        }),
        marking("bitmap --disable mem:image one", |bench| {
            has_bitmaps(bench, &[("one", false, true), ("two", true, false)])
        }),
        marking("bitmap --disable --enable mem:image one", |bench| {
            has_bitmaps(bench, &[("one", true, true), ("two", true, false)])
        }),
        marking("bitmap --merge one mem:image two", |bench| {
            has_bitmaps(bench, &[("one", true, true), ("two", true, true)])
        }),
        marking("bitmap --remove mem:image one", |bench| has_bitmaps(bench, &[("two", true, false)])),
        marking("bitmap --add --disable --merge one mem:image three", |bench| {
            has_bitmaps(bench, &[("one", true, true), ("two", true, false), ("three", false, true)])
        }),
    ]
}

#[test]
fn bitmap_tells_that_it_failed() {
    survive(&markings());
}

#[test]
fn bitmap_survives_power_cuts() {
    cut(&markings());
}

#[test]
fn bitmap_that_failed_survives_power_cuts() {
    cut_after_failures_of(&markings());
}

fn repairing(prepare: fn(&Bench)) -> Case {
    let line = "check -q -r all mem:image";
    // What could not be read once may be read again, or replaced; the result is judged all the same.
    let spared = &[(IMAGE, MemOp::Truncate), (IMAGE, MemOp::Read)];
    Case { line, prepare, disks: &[IMAGE], spared, is_done: is_repaired, is_sound: can_be_repaired }
}

#[test]
fn repairs_tell_that_they_failed() {
    survive(&[repairing(damaged), repairing(without_counts)]);
}

#[test]
fn repairs_survive_power_cuts() {
    cut(&[repairing(damaged), repairing(without_counts)]);
}

#[test]
fn repairs_that_failed_survive_power_cuts() {
    cut_after_failures_of(&[repairing(damaged), repairing(without_counts)]);
}
