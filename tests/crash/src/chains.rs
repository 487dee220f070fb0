//! An image over a backing file, and what both show, for commands that work on chains.
//!
//! The backing file is shorter than the image. What the guest sees comes from data, zeros and parts of clusters of the
//! image, from the backing file, and from behind its end.

use std::fs;
use std::ops::Range;

use qemu_block::node::ChildRole;
use qemu_block::types::{CheckFixes, OpenFlags, WriteFlags, ZeroFlags};
use qemu_util::buf::IoBuf;
use test_support::programs::reference;

use crate::bench::{BASE, Bench, IMAGE};
use crate::commands::DISK_BYTES;
use crate::executor::block_on;
use crate::look::look;
use crate::sector::{SECTOR, Tag, bytes_of, tag_of};

/// Another backing file, which shows something else.
pub const OTHER: &str = "other";
/// A copy of the backing file.
pub const TWIN: &str = "twin";

/// Bytes of the backing file's disk.
const BASE_BYTES: u64 = 80 << 10;
/// One in so many different images is checked by the reference.
const REFERENCE: u64 = 40;

/// Sectors, and who writes them.
type Run = (u64, u64, Tag);

/// Makes an image of that size with that content; sectors of [`Tag::ZERO`] are written as zeros.
fn make(bench: &Bench, name: &str, options: &str, size: u64, runs: &[Run]) {
    bench.make("qcow2", name, options, size);
    write(bench, name, runs);
}

fn write(bench: &Bench, name: &str, runs: &[Run]) {
    let written = block_on(async {
        let node = bench.open("qcow2", name, OpenFlags::WRITE).await?;
        for (at, n, tag) in runs {
            if *tag == Tag::ZERO {
                node.write_zeroes(at * SECTOR, n * SECTOR, ZeroFlags::empty()).await?;
            } else {
                let data = IoBuf::copy_of(&bytes_of(*tag, *at, *n));
                node.write(at * SECTOR, data.into(), WriteFlags::empty()).await?;
            }
        }
        node.close().await
    });
    written.unwrap_or_else(|error| panic!("{name} is written: {}", error.chain()));
}

/// Writes to the image what it has already.
pub fn write_image_again(bench: &Bench) {
    write(bench, IMAGE, &image_runs()[..1]);
}

/// What [`write_image_again`] writes to: clusters of 4 KiB, by the bytes in them.
#[must_use]
pub fn written_ranges() -> Vec<Range<u64>> {
    let (at, n, _) = image_runs()[0];
    std::iter::once(at * SECTOR / 4096 * 4096..((at + n) * SECTOR).next_multiple_of(4096)).collect()
}

fn base_runs() -> [Run; 2] {
    [(0, 96, Tag::of(3, false)), (128, 32, Tag::of(3, true))]
}

fn image_runs() -> [Run; 3] {
    [(16, 12, Tag::of(5, false)), (48, 8, Tag::ZERO), (104, 8, Tag::of(6, true))]
}

/// Makes the image, its backing file, a copy of that, and another one.
pub fn make_chain(bench: &Bench) {
    for name in [BASE, TWIN] {
        make(bench, name, "cluster_size=4k", BASE_BYTES, &base_runs());
    }
    let other = [(0, 32, Tag::of(3, false)), (32, 48, Tag::of(4, false)), (160, 32, Tag::of(4, true))];
    make(bench, OTHER, "cluster_size=4k", DISK_BYTES, &other);
    make(bench, IMAGE, "cluster_size=4k,backing_file=mem:base,backing_fmt=qcow2", DISK_BYTES, &image_runs());
}

/// As [`make_chain`], with clusters of the image that are larger than those of the backing files.
pub fn make_coarse_chain(bench: &Bench) {
    make_chain(bench);
    make(bench, IMAGE, "cluster_size=16k,backing_file=mem:base,backing_fmt=qcow2", DISK_BYTES, &image_runs());
}

/// As [`make_chain`], with an image of version 2, whose clusters cannot say that they are zeros.
pub fn make_old_chain(bench: &Bench) {
    make_chain(bench);
    let options = "cluster_size=4k,compat=0.10,backing_file=mem:base,backing_fmt=qcow2";
    make(bench, IMAGE, options, DISK_BYTES, &image_runs());
}

/// As [`make_chain`], with an image whose counts may be late.
pub fn make_lazy_chain(bench: &Bench) {
    make_chain(bench);
    let options = "cluster_size=4k,lazy_refcounts=on,backing_file=mem:base,backing_fmt=qcow2";
    make(bench, IMAGE, options, DISK_BYTES, &image_runs());
}

/// As [`make_chain`], with an image whose clusters have parts.
pub fn make_parted_chain(bench: &Bench) {
    make_chain(bench);
    let options = "cluster_size=16k,extended_l2=on,backing_file=mem:base,backing_fmt=qcow2";
    make(bench, IMAGE, options, DISK_BYTES, &image_runs());
}

/// As [`make_chain`], with an image between the two.
pub fn make_long_chain(bench: &Bench) {
    make_chain(bench);
    let middle = [(64, 8, Tag::of(7, false)), (144, 4, Tag::ZERO)];
    make(bench, "middle", "cluster_size=4k,backing_file=mem:base,backing_fmt=qcow2", BASE_BYTES, &middle);
    make(bench, IMAGE, "cluster_size=4k,backing_file=mem:middle,backing_fmt=qcow2", DISK_BYTES, &image_runs());
}

fn tags_of(layers: &[&[Run]]) -> Vec<Tag> {
    let covers = |sector: u64, (at, n, _): &Run| (*at..at + n).contains(&sector);
    let tag = |sector| {
        let run = layers.iter().flat_map(|runs| runs.iter()).find(|run| covers(sector, run));
        run.map_or(Tag::ZERO, |(_, _, tag)| *tag)
    };
    (0..DISK_BYTES / SECTOR).map(tag).collect()
}

/// Whether the image shows what [`make_chain`] made, without corruption.
///
/// # Errors
/// What is wrong.
pub fn shows_chain(bench: &Bench) -> Result<(), String> {
    shows(bench, &tags_of(&[&image_runs(), &base_runs()]))
}

/// As [`shows_chain`], for [`make_long_chain`].
///
/// # Errors
/// What is wrong.
pub fn shows_long_chain(bench: &Bench) -> Result<(), String> {
    let middle = [(64, 8, Tag::of(7, false)), (144, 4, Tag::ZERO)];
    shows(bench, &tags_of(&[&image_runs(), &middle, &base_runs()]))
}

fn shows(bench: &Bench, expected: &[Tag]) -> Result<(), String> {
    let sight = block_on(look(bench, DISK_BYTES))?;
    compare("it", &sight.tags, expected)?;
    reference_agrees(bench, IMAGE)
}

fn compare(what: &str, found: &[Tag], expected: &[Tag]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("{what} has {} sectors", found.len()));
    }
    let differs = (0..).zip(found.iter().zip(expected)).find(|(_, (found, expected))| found != expected);
    let complaint = differs
        .map(|(sector, (found, wanted))| format!("{what} shows {found:?} instead of {wanted:?} at sector {sector}"));
    complaint.map_or(Ok(()), Err)
}

/// Whether the reference finds no corruption either; it is not asked about every image.
///
/// # Errors
/// What it finds.
pub fn reference_agrees(bench: &Bench, name: &str) -> Result<(), String> {
    let disk = bench.disk(name);
    if !disk.digest().is_multiple_of(REFERENCE) {
        return Ok(());
    }
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::write(dir.path().join(IMAGE), disk.to_vec()).map_err(|error| error.to_string())?;
    let file = format!(r#"{{"driver":"file","filename":"{IMAGE}"}}"#);
    let line = format!(r#"check json:{{"driver":"qcow2","file":{file},"backing":null}}"#);
    let run = reference().run(dir.path(), &line);
    match run.code() {
        Some(0 | 3) => Ok(()),
        _ => Err(format!("the reference says: {run}")),
    }
}

/// The file name of the image's backing file.
///
/// # Errors
/// If the image cannot be opened.
pub fn backing(bench: &Bench) -> Result<Option<String>, String> {
    let name = block_on(async {
        let node = bench.open("qcow2", IMAGE, OpenFlags::empty()).await?;
        let name = node.child(ChildRole::Backing).map(|backing| backing.filename().to_owned());
        node.close().await.map(|()| name)
    });
    name.map_err(|error| error.chain())
}

/// Whether the image has data or zeros of its own.
///
/// # Errors
/// If the image cannot be read.
pub fn has_own_data(bench: &Bench) -> Result<bool, String> {
    let found = block_on(async {
        let node = bench.open("qcow2", IMAGE, OpenFlags::empty()).await?;
        let (mut at, mut found) = (0, false);
        while at < DISK_BYTES {
            let status = node.block_status(at, DISK_BYTES - at).await?;
            found |= status.is_allocated();
            at += status.len.max(SECTOR);
        }
        node.close().await.map(|()| found)
    });
    found.map_err(|error| error.chain())
}

/// Whether the backing file is without corruption.
///
/// # Errors
/// What is wrong.
pub fn base_is_sound(bench: &Bench) -> Result<(), String> {
    look_at_base(bench)?;
    reference_agrees(bench, BASE)
}

/// Whether the backing file, alone, shows what the chain does.
///
/// # Errors
/// What is wrong.
pub fn base_shows_chain(bench: &Bench) -> Result<(), String> {
    let tags = look_at_base(bench)?;
    let expected = tags_of(&[&image_runs(), &base_runs()]);
    compare("the backing file", &tags, &expected)
}

fn look_at_base(bench: &Bench) -> Result<Vec<Tag>, String> {
    let looked = block_on(async {
        let node = bench.open("qcow2", BASE, OpenFlags::empty()).await?;
        let report = node.check(CheckFixes::Nothing).await?;
        let bytes = node.read_bytes(0, usize::try_from(node.len()).expect("small")).await?;
        node.close().await.map(|()| (report, bytes))
    });
    let (report, bytes) = looked.map_err(|error| format!("the backing file: {}", error.chain()))?;
    if report.corruptions != 0 || report.check_errors != 0 {
        return Err(format!("the backing file: {report:?}"));
    }
    let sectors = bytes.chunks(usize::try_from(SECTOR).expect("small"));
    (0..).zip(sectors).map(|(sector, bytes)| tag_of(bytes, sector)).collect()
}
